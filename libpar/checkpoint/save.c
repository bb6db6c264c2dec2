/*
 * Saving: see the order in par/checkpoint.h. Every step ends in an agreement, so that all ranks go
 * on or all stop. What fails before the checkpoint has its name leaves a temporary directory, which
 * rank 0 removes; what fails later is taken back first, and an older checkpoint of the same step
 * gets its name back. From when it has been read back the checkpoint is saved: what fails then is a
 * note.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/save.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};

static par_status write_shard(par__saving *s) {
    char name[PAR__NAME], path[PAR__PATH];
    par__shard_name(par_comm_rank(s->world), name);
    PAR_TRY(par__path(path, s->temporary, name));
    return par__shard_write(path, s->runs, s->n_runs, &s->shard);
}

/* Rank 0 gets every rank's part of the manifest; parts [p]. */
static par_status exchange(par__saving *s, char *mine, int64_t *sizes, char **parts) {
    int64_t size = (int64_t)strlen(mine) + 1;
    par_status bad = PAR_OK;
    PAR_TRY(par_comm_all_gather(s->world, &size, sizes, 1, PAR_I64, tag, NULL, NULL));
    if (s->first) parts[0] = mine;
    for (int r = 1; s->first && r < par_comm_size(s->world); r++) {
        parts[r] = malloc((size_t)sizes[r]);
        if (!parts[r])
            bad = par_error_set(PAR_ERR_MEMORY, "no host memory for rank %d's part of the manifest",
                                r);
    }
    PAR_TRY(par_comm_agree(s->world, bad));
    if (!s->first) return par_comm_send(s->world, mine, size, PAR_U8, 0, tag, NULL, NULL);
    for (int r = 1; r < par_comm_size(s->world); r++) {
        PAR_TRY(par_comm_recv(s->world, parts[r], sizes[r], PAR_U8, r, tag, NULL, NULL));
        parts[r][sizes[r] - 1] = 0;
    }
    return PAR_OK;
}

/* What libhdf5 has written. */
static par_status sync_file(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return par__write_error(path, "opened");
    par_status st = fsync(fd) == 0 ? PAR_OK : par__write_error(path, "synced");
    return par__close(fd, path, st);
}

/* index.h5, of what all ranks have. */
static par_status write_index(const par__saving *s, char *const *parts, par__index *out) {
    char path[PAR__PATH];
    par_checkpoint *contents = NULL;
    char *image = NULL;
    size_t nbytes = 0;
    PAR_TRY(par__path(path, s->temporary, "index.h5"));
    PAR_TRY(par__contents_of(s->params->directory, parts, par_comm_size(s->world), &contents));
    par_status st = par__index_layout(path, contents);
    par_checkpoint_close(&contents);
    PAR_TRY(st);
    PAR_TRY(sync_file(path));
    PAR_TRY(par__read_file(path, PAR__MANIFEST_MAX, &image, &nbytes));
    par__hash(image, nbytes, out->hash);
    out->nbytes = (int64_t)nbytes;
    free(image);
    return PAR_OK;
}

static par_status write_manifest(const par__saving *s, char *const *parts) {
    char path[PAR__PATH], *text = NULL;
    par__index index = {0};
    PAR_TRY(write_index(s, parts, &index));
    PAR_TRY(par__path(path, s->temporary, "manifest.json"));
    PAR_TRY(par__manifest_make(s->params, &index, par_comm_size(s->world), parts, &text));
    par_status st = par__write_file(path, text, strlen(text));
    free(text);
    return st;
}

static par_status manifest(par__saving *s) {
    int p = par_comm_size(s->world);
    char *mine = NULL, **parts = calloc((size_t)p, sizeof *parts);
    int64_t *sizes = calloc((size_t)p, sizeof *sizes);
    par_status st =
        parts && sizes ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d ranks", p);
    if (st == PAR_OK) st = par__manifest_shard(&s->shard, s->runs, par_comm_rank(s->world), &mine);
    st = par_comm_agree(s->world, st);
    if (st == PAR_OK) st = exchange(s, mine, sizes, parts);
    if (st == PAR_OK) st = par_comm_agree(s->world, s->first ? write_manifest(s, parts) : PAR_OK);
    for (int r = 1; parts && r < p; r++) free(parts[r]);
    free(parts);
    free(sizes);
    free(mine);
    return st;
}

/* Rank 0. The files are synced; now their names, then the directory's own. */
static par_status commit(par__saving *s) {
    PAR_TRY(par__sync_directory(s->temporary));
    PAR_TRY(par__owner_check(s->params->directory, s->params->owner));
    if (par__directory_exists(s->final)) {
        if (rename(s->final, s->aside) != 0) return par__write_error(s->final, "set aside");
        s->named = PAR__SET_ASIDE;
    }
    if (rename(s->temporary, s->final) != 0) return par__write_error(s->final, "given its name");
    s->named = s->named == PAR__SET_ASIDE ? PAR__REPLACED : PAR__NAMED;
    return par__sync_directory(s->params->directory);
}

/* Rank 0: the manifest and the index. */
static par_status read_back_manifest(const par__saving *s) {
    char *text = NULL;
    size_t nbytes;
    par_checkpoint *contents = NULL;
    PAR_TRY(par__manifest_read(s->final, &text, &nbytes));
    par_status st = par__contents_parse(s->final, text, nbytes, &contents);
    free(text);
    if (st == PAR_OK) st = par_checkpoint_verify(contents, par_comm_size(s->world));
    par_checkpoint_close(&contents);
    return st;
}

/* Every rank reads back what it wrote. */
static par_status read_back(const par__saving *s) {
    char name[PAR__NAME], path[PAR__PATH];
    par__shard_name(par_comm_rank(s->world), name);
    PAR_TRY(par__path(path, s->final, name));
    PAR_TRY(par__shard_verify(path, &s->shard));
    return s->first ? read_back_manifest(s) : PAR_OK;
}

static par_status write_all(par__saving *s) {
    PAR_TRY(par_comm_agree(s->world, write_shard(s)));
    PAR_TRY(manifest(s));
    PAR_TRY(par_comm_agree(s->world, s->first ? commit(s) : PAR_OK));
    return par_comm_agree(s->world, read_back(s));
}

/* Rank 0: final names mean again what they meant before this save, and the rest goes. */
static par_status withdraw(const par__saving *s, par_status st) {
    char why[PAR__TEXT];
    if (!*s->temporary) return st;
    snprintf(why, sizeof why, "%s", par_error());
    bool is_there = s->named == PAR__NAMED || s->named == PAR__REPLACED;
    if (is_there && rename(s->final, s->temporary) != 0)
        PAR_FAIL(st, "%s\nand %s could not be withdrawn: %s; remove it%s", why, s->final,
                 strerror(errno),
                 s->named == PAR__REPLACED ? ", and an older one of this step is found beside it"
                                           : "");
    if ((s->named == PAR__SET_ASIDE || s->named == PAR__REPLACED) &&
        rename(s->aside, s->final) != 0)
        PAR_FAIL(st, "%s\nand %s could not be given the name %s again: %s; it is found there, too",
                 why, s->aside, s->final, strerror(errno));
    if (s->named != PAR__UNNAMED) par__sync_directory(s->params->directory);
    par__remove_directory(s->temporary);
    PAR_FAIL(
        st, "%s\nthe checkpoint of step %lld (%.1f MiB) was not saved; older ones are as they were",
        why, (long long)s->params->step, (double)s->need / 1048576);
}

static par_status save(par__saving *s) {
    par_status st = par__save_begin(s);
    if (st == PAR_OK) st = write_all(s);
    if (st != PAR_OK) return s->first ? withdraw(s, st) : st;
    if (s->first) {
        if (s->named == PAR__REPLACED && par__settle_aside(s->params->directory) != PAR_OK)
            par_problem(s->notes, "%s", par_error());
        if (par__write_latest(s->params->directory, s->name) != PAR_OK)
            par_problem(s->notes, "%s", par_error());
        par__prune(s->params, s->notes);
    }
    /* It also holds the other ranks until rank 0 is done. */
    s->total = s->shard.nbytes;
    return par_comm_all_reduce(s->world, &s->total, &s->total, 1, PAR_I64, tag, NULL, NULL);
}

/* All that a save does, with one element of each rank; then it goes. */
static par_status check_only(par__saving *s) {
    float element = (float)par_comm_rank(s->world);
    int64_t rank = par_comm_rank(s->world);
    const par_checkpoint_run run = {.kind = "check",
                                    .name = "check",
                                    .dtype = PAR_F32,
                                    .n = 1,
                                    .data = &element,
                                    .ndim = 1,
                                    .global = {par_comm_size(s->world), 1},
                                    .offset = {rank, 0},
                                    .extent = {1, 1},
                                    .local = {1, 1}};
    char why[PAR__TEXT];
    par_status st = par__save_begin(s);
    s->n_runs = 1;
    s->runs[0] = run; /* there is room for one more than there were */
    if (st == PAR_OK) st = write_all(s);
    snprintf(why, sizeof why, "%s", par_error());
    if (s->first && *s->temporary)
        par__remove_directory(s->named == PAR__UNNAMED ? s->temporary : s->final);
    return st == PAR_OK ? st : par_error_set(st, "%s", why);
}

static par_status check_pairs(const par_checkpoint_about *about) {
    PAR_REQUIRE(about->n >= 0 && (about->pairs || about->n == 0));
    for (int i = 0; i < about->n; i++) {
        const par_checkpoint_pair *p = &about->pairs[i];
        PAR_REQUIRE(p->name && p->value && (unsigned)p->class_of <= PAR_CHECKPOINT_STATED);
    }
    return PAR_OK;
}

static par_status check_params(const par_checkpoint_params *p) {
    const char *missing = par_checkpoint_missing();
    PAR_REQUIRE(p && p->directory && *p->directory);
    PAR_REQUIRE(p->step >= 0 && p->step <= 99999999 && p->keep >= 0 && p->consumed >= 0 &&
                p->updates >= 0 && p->keep_every >= 0 && p->keep_best >= 0);
    PAR_TRY(check_pairs(&p->about));
    if (missing) PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", missing);
    if (!isfinite(p->loss))
        PAR_FAIL(PAR_ERR_NUMERIC, "step %lld: its loss is %g: not saved, older checkpoints stay",
                 (long long)p->step, p->loss);
    return PAR_OK;
}

par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                               const par_checkpoint_run *runs, int n_runs,
                               par_checkpoint_result *out) {
    PAR_REQUIRE(world && out && n_runs >= 0 && (runs || n_runs == 0));
    PAR_TRY(check_params(params));
    *out = (par_checkpoint_result){0};
    par__saving s = {.world = world, .params = params, .notes = &out->notes};
    s.first = par_comm_rank(world) == 0;
    par_status st = par_comm_agree(world, par__save_select(&s, runs, n_runs));
    if (st == PAR_OK) st = params->check_only ? check_only(&s) : save(&s);
    par__shard_free(&s.shard);
    free(s.runs);
    if (st != PAR_OK || params->check_only) return st;
    memcpy(out->path, s.final, sizeof out->path);
    out->step = params->step;
    out->consumed = params->consumed;
    out->updates = params->updates;
    out->loss = params->loss;
    out->n_ranks = par_comm_size(world);
    out->nbytes = s.total;
    return PAR_OK;
}

const char *par_checkpoint_missing(void) {
    return par__hdf5_missing();
}
