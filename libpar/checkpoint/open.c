/* Reading a checkpoint without MPI: see the second part of par/checkpoint.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

static par_status open_one(const char *path, par_checkpoint **out) {
    char *text = NULL;
    size_t nbytes;
    PAR_TRY(par__manifest_read(path, &text, &nbytes));
    par_status st = par__contents_parse(path, text, nbytes, out);
    free(text);
    return st;
}

/* Newest first; of a step the one that was set aside comes last. */
static par_status open_newest(const char *directory, const int64_t *steps, int n,
                              par_problems *notes, par_checkpoint **out) {
    char path[PAR__PATH], name[PAR__NAME];
    for (int i = 0; i < 2 * n; i++) {
        par__step_name(steps[i / 2], name);
        PAR_TRY(i % 2 ? par__aside_path(directory, steps[i / 2], path)
                      : par__path(path, directory, name));
        bool there;
        PAR_TRY(par__directory_exists(path, &there));
        if (!there) continue;
        par_status st = open_one(path, out);
        if (st != PAR_ERR_FORMAT) return st;
        par_problem(notes, "passed over: %s", par_error());
    }
    if (n == 0)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: no checkpoint in it; legal: a directory of checkpoints, or one of them",
                 directory);
    PAR_FAIL(PAR_ERR_FORMAT, "%s: no checkpoint in it verifies\n%s", directory, notes->text);
}

par_status par_checkpoint_open(const char *directory, par_problems *notes, par_checkpoint **out) {
    char path[PAR__PATH];
    int64_t *steps = NULL;
    int n = 0;
    PAR_REQUIRE(directory && *directory && out);
    PAR_TRY(par__path(path, directory, "manifest.json"));
    bool single;
    PAR_TRY(par__file_exists(path, &single));
    if (single) return open_one(directory, out);
    PAR_TRY(par__list(directory, &steps, &n));
    par_problems *own = notes ? NULL : calloc(1, sizeof *own);
    par_status st = notes || own ? open_newest(directory, steps, n, notes ? notes : own, out)
                                 : par_error_set(PAR_ERR_MEMORY, "no host memory for notes");
    free(own);
    free(steps);
    return st;
}

const par_checkpoint_result *par_checkpoint_info(const par_checkpoint *c) {
    return c ? &c->info : NULL;
}

const par_checkpoint_tensor *par_checkpoint_tensors(const par_checkpoint *c, int *n) {
    *n = c ? c->n_tensors : 0;
    return c ? c->tensors : NULL;
}

const par_checkpoint_tensor *par_checkpoint_find(const par_checkpoint *c, const char *kind,
                                                 const char *name) {
    int i = c && kind && name ? par__contents_find(c, kind, name, -1) : -1;
    return i < 0 ? NULL : &c->tensors[i];
}

par_status par_checkpoint_read(const par_checkpoint *c, const par_checkpoint_tensor *t,
                               const int64_t offset[2], const int64_t extent[2], par_dtype dtype,
                               void *dst) {
    PAR_REQUIRE(c && t >= c->tensors && t < c->tensors + c->n_tensors && offset && extent && dst);
    for (int d = 0; d < 2; d++)
        if (offset[d] < 0 || extent[d] < 1 || offset[d] > t->global[d] ||
            extent[d] > t->global[d] - offset[d])
            PAR_FAIL(PAR_ERR_ARG,
                     "%s/%s: %lld from %lld on along dimension %d; legal: within [0, %lld)",
                     t->kind, t->name, (long long)extent[d], (long long)offset[d], d,
                     (long long)t->global[d]);
    if (!par_dtype_nbytes(dtype) || !par__converts(t->dtype, dtype))
        PAR_FAIL(PAR_ERR_OPTION, "%s/%s: is %s; it does not convert to %s", t->kind, t->name,
                 par_dtype_name(t->dtype), par_dtype_name(dtype));
    const par_checkpoint_run run = {.kind = t->kind,
                                    .name = t->name,
                                    .dtype = dtype,
                                    .n = extent[0] * extent[1],
                                    .data = dst,
                                    .ndim = 2,
                                    .global = {t->global[0], t->global[1]},
                                    .offset = {offset[0], offset[1]},
                                    .extent = {extent[0], extent[1]},
                                    .local = {extent[0], extent[1]}};
    par__reader reader;
    PAR_TRY(par__reader_open(c, &reader));
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < c->n_stored; i++)
        if (c->stored[i].tensor == t - c->tensors && c->stored[i].run.replica == 0)
            st = par__reader_take(&reader, &c->stored[i], &run, true);
    par__reader_close(&reader);
    return st;
}

/* `contents` too: what it says is what the manifest says. */
static par_status verify_index(const par_checkpoint *c, bool contents) {
    char path[PAR__PATH], *data = NULL, hash[PAR__HASH];
    size_t nbytes;
    if (c->index.nbytes == 0) return PAR_OK;
    PAR_TRY(par__path(path, c->info.path, "index.h5"));
    bool there;
    PAR_TRY(par__file_exists(path, &there));
    if (!there) PAR_FAIL(PAR_ERR_FORMAT, "%s: is missing", path);
    PAR_TRY(par__read_file(path, PAR__MANIFEST_MAX, &data, &nbytes));
    par__hash(data, nbytes, hash);
    par_status st = PAR_OK;
    if (strcmp(hash, c->index.hash) != 0)
        st = par_error_set(PAR_ERR_FORMAT, "%s: its digest is %s; the manifest says %s", path, hash,
                           c->index.hash);
    else if (contents)
        st = par__index_compare(path, data, nbytes, c);
    free(data);
    return st;
}

par_status par__index_verify_digest(const par_checkpoint *c) {
    return verify_index(c, false);
}

/* A plain file of so many bytes. */
static par_status check_size(const char *path, int64_t nbytes) {
    struct stat info;
    bool there;
    PAR_TRY(par__look(path, true, &info, &there));
    if (!there) PAR_FAIL(PAR_ERR_FORMAT, "%s: is missing", path);
    if (!S_ISREG(info.st_mode)) PAR_FAIL(PAR_ERR_FORMAT, "%s: is not a plain file", path);
    if (info.st_size == nbytes) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: has %lld bytes; the manifest says %lld", path,
             (long long)info.st_size, (long long)nbytes);
}

par_status par_checkpoint_sizes(const par_checkpoint *c) {
    char path[PAR__PATH], name[PAR__NAME];
    PAR_REQUIRE(c);
    for (int rank = 0; rank < c->n_files; rank++) {
        par__shard_name(rank, name);
        PAR_TRY(par__path(path, c->info.path, name));
        PAR_TRY(check_size(path, c->files[rank].nbytes));
    }
    if (c->index.nbytes == 0) return PAR_OK;
    PAR_TRY(par__path(path, c->info.path, "index.h5"));
    return check_size(path, c->index.nbytes);
}

par_status par_checkpoint_verify(const par_checkpoint *c, int rank) {
    PAR_REQUIRE(c && rank >= 0 && rank <= c->n_files);
    return par__verify_part(c, rank, NULL);
}

par_status par__verify_part(const par_checkpoint *c, int rank, par__pulse *pulse) {
    char path[PAR__PATH], name[PAR__NAME];
    par__shard shard;
    if (rank == c->n_files) return verify_index(c, true);
    par__shard_name(rank, name);
    PAR_TRY(par__path(path, c->info.path, name));
    PAR_TRY(par__contents_shard(c, rank, &shard));
    par_status st = par__shard_verify(path, &shard, pulse);
    par__shard_free(&shard);
    return st;
}
