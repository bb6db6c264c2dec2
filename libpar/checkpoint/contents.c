/*
 * What a manifest says, as structs that take less memory than its text: runs file by file, and the
 * logical tensors that they are parts of. The text is parsed line by line, so that no more than one
 * shard's part lies in memory as JSON. Its digest says that nobody changed it by accident; all
 * numbers are checked all the same.
 *
 * Version 1 had one digest per run, stored copies too, and described the run by three texts.
 */
#define _GNU_SOURCE
#include "libpar/checkpoint/contents.h"
#include "libpar/base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char shards_line[] = ",\n\"shards\": [\n";

static par_status bad(const char *path, const char *what) {
    PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: %s", path, what);
}

static bool dtype_of(const char *name, par_dtype *out) {
    for (int i = 0; i < PAR_DTYPE_COUNT; i++)
        if (strcmp(name, par_dtype_name((par_dtype)i)) == 0) {
            *out = (par_dtype)i;
            return true;
        }
    return false;
}

/* [ndim] numbers; what is beyond them becomes `rest`. */
static bool numbers(json_t *list, int ndim, int64_t rest, int64_t out[2]) {
    if (json_array_size(list) != (size_t)ndim) return false;
    out[1] = rest;
    for (int i = 0; i < ndim; i++) {
        json_t *number = json_array_get(list, (size_t)i);
        if (!json_is_integer(number)) return false;
        out[i] = json_integer_value(number);
    }
    return true;
}

/* Version 1 (`old`) has two numbers always, and zeros for a blob. */
static bool slice_of(json_t *slice, bool old, par_checkpoint_run *r) {
    json_t *global, *offset, *extent, *local;
    json_int_t first;
    if (!slice) return true;
    if (json_unpack(slice, "{s:o,s:o,s:o,s:o,s:I}", "global", &global, "offset", &offset, "extent",
                    &extent, "local", &local, "first", &first) != 0)
        return false;
    int ndim = (int)json_array_size(global);
    if (ndim < 1 || ndim > 2 || !numbers(global, ndim, 1, r->global) ||
        !numbers(offset, ndim, 0, r->offset) || !numbers(extent, ndim, 1, r->extent) ||
        !numbers(local, ndim, 1, r->local))
        return false;
    r->ndim = ndim;
    if (old) r->ndim = r->global[0] == 0 ? 0 : r->global[1] == 1 && r->local[1] == 1 ? 1 : 2;
    r->first = first;
    return true;
}

static par_status keep_hashes(par_checkpoint *c, const char *path, json_t *list, json_t *one,
                              par__span *p) {
    int64_t n = par__blocks(p);
    if (one ? n != 1 : json_array_size(list) != (size_t)n)
        return bad(path, "a run with another number of digests than blocks");
    for (int64_t k = 0; k < n; k++) {
        json_t *entry = one ? one : json_array_get(list, (size_t)k);
        if (json_string_length(entry) != PAR__HASH - 1) return bad(path, "a digest is damaged");
        const char *hash = par__contents_text(c, json_string_value(entry), PAR__HASH - 1);
        if (!hash) return bad(path, "more text than it has");
        if (k == 0) p->hashes = (char *)(uintptr_t)hash;
    }
    return PAR_OK;
}

static par_status parse_run(par_checkpoint *c, const char *path, json_t *entry, int64_t block,
                            par__stored *s) {
    const char *kind, *name, *dtype;
    json_int_t n, at, replica = 0;
    json_t *slice = NULL, *hashes = NULL, *hash = NULL;
    par_checkpoint_run *r = &s->run;
    if (json_unpack(entry, "{s:s,s:s,s:s,s:I,s:I,s?o,s?o,s?o}", "kind", &kind, "name", &name,
                    "dtype", &dtype, "n", &n, "at", &at, "slice", &slice, "hashes", &hashes, "hash",
                    &hash) != 0 ||
        !dtype_of(dtype, &r->dtype) || !slice_of(slice, block == 0, r))
        return bad(path, "a run without kind, name, dtype, n, at, or with another slice");
    if (slice && json_unpack(slice, "{s?I}", "replica", &replica) != 0)
        return bad(path, "a copy without a number");
    r->n = n;
    r->replica = replica < 0 || replica > INT32_MAX ? -1 : (int)replica;
    r->kind = par__contents_text(c, kind, strlen(kind));
    r->name = par__contents_text(c, name, strlen(name));
    if (!r->kind || !r->name) return bad(path, "more text than it has");
    if (par__run_check(r) != PAR_OK)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: %s", path, par_error());
    *r = par__run_plain(r);
    s->span.offset = at;
    s->span.nbytes = n * (int64_t)par_dtype_nbytes(r->dtype);
    s->span.block = block ? block : s->span.nbytes;
    if (block > PAR__BLOCK_MAX) return bad(path, "blocks above 1 GiB");
    int64_t most = s->span.nbytes < s->span.block ? s->span.nbytes : s->span.block;
    if (most > c->block) c->block = most;
    return keep_hashes(c, path, hashes, hash, &s->span);
}

static par_status add_shard(par_checkpoint *c, const char *path, int rank, json_t *entry) {
    json_t *list;
    const char *file, *frame;
    char name[PAR__NAME];
    json_int_t nbytes, block = 0;
    par__file *f = &c->files[rank];
    par__shard_name(rank, name);
    if (json_unpack(entry, "{s:s,s:I,s:s,s?I,s:o}", "file", &file, "nbytes", &nbytes, "frame",
                    &frame, "block", &block, "runs", &list) != 0 ||
        strcmp(file, name) != 0 || nbytes < 0 || block < 0 || block % 8 != 0 ||
        strlen(frame) != PAR__HASH - 1 || !json_is_array(list))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: the entry of %s is missing or damaged", path, name);
    f->nbytes = nbytes;
    memcpy(f->frame, frame, PAR__HASH);
    f->first = c->n_stored;
    f->n = (int)json_array_size(list);
    if (!par__add64(c->info.nbytes, nbytes, &c->info.nbytes))
        return bad(path, "more bytes than a file system has");
    if (c->max_stored - c->n_stored < f->n) {
        size_t max = ((size_t)c->n_stored + (size_t)f->n) * 3 / 2 + 16;
        par__stored *more = max > INT32_MAX ? NULL : realloc(c->stored, max * sizeof *more);
        if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %zu runs", max);
        c->stored = more;
        c->max_stored = (int)max;
    }
    for (int i = 0; i < f->n; i++) {
        par__stored *s = &c->stored[c->n_stored];
        *s = (par__stored){.file = rank};
        PAR_TRY(parse_run(c, path, json_array_get(list, (size_t)i), block, s));
        c->n_stored++;
    }
    return PAR_OK;
}

/* One shard's line. */
static par_status parse_shard(par_checkpoint *c, const char *path, int rank, const char *line,
                              size_t nbytes) {
    json_error_t error;
    json_t *entry = json_loadb(line, nbytes, JSON_REJECT_DUPLICATES, &error);
    if (!entry)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: the shard of rank %d: %s", path, rank, error.text);
    par_status st = add_shard(c, path, rank, entry);
    json_decref(entry);
    return st;
}

/* And jansson is watched, until finish. */
static par_status create(const char *path, size_t nbytes, par_checkpoint **out) {
    par_checkpoint *c = calloc(1, sizeof *c);
    if (c) c->text = malloc(nbytes + 1);
    if (!c || !c->text) {
        free(c);
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a manifest of %zu bytes", path, nbytes);
    }
    c->max_text = nbytes + 1;
    par__json_begin();
    *out = c;
    return PAR_OK;
}

void par_checkpoint_close(par_checkpoint **checkpoint) {
    if (!checkpoint || !*checkpoint) return;
    par_checkpoint *c = *checkpoint;
    free(c->pairs);
    free(c->tensors);
    free(c->stored);
    free(c->files);
    free(c->text);
    free(c);
    *checkpoint = NULL;
}

/* *out, or its end. A checkpoint is not damaged where there is no memory to parse its manifest. */
static par_status finish(par_status st, const char *path, par_checkpoint *c, par_checkpoint **out) {
    if (!par__json_end() && (st == PAR_OK || st == PAR_ERR_FORMAT))
        st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory to parse its manifest", path);
    if (st != PAR_OK)
        par_checkpoint_close(&c);
    else
        *out = c;
    return st;
}

static par_status take_files(par_checkpoint *c, const char *path, int n) {
    c->files = calloc((size_t)n, sizeof *c->files);
    if (!c->files) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %d files", path, n);
    c->n_files = c->info.n_ranks = n;
    return PAR_OK;
}

/* *head: where it ends, and the shards begin. */
static par_status parse_head(par_checkpoint *c, const char *path, const char *text, size_t nbytes,
                             size_t *head, size_t *n_ranks) {
    const char *shards = memmem(text, nbytes, shards_line, sizeof shards_line - 1);
    if (!shards) return bad(path, "has no shards");
    *head = (size_t)(shards - text);
    return par__contents_head(c, path, text, *head, n_ranks);
}

par_status par__contents_parse_head(const char *path, const char *text, size_t nbytes,
                                    par_checkpoint **out) {
    par_checkpoint *c = NULL;
    size_t head = 0, n_ranks = 0;
    PAR_TRY(create(path, nbytes, &c));
    return finish(parse_head(c, path, text, nbytes, &head, &n_ranks), path, c, out);
}

/* Shards' lines end with a comma, the last one with "],". */
static par_status parse(par_checkpoint *c, const char *path, const char *text, size_t nbytes) {
    size_t head = 0, n_ranks = 0;
    PAR_TRY(parse_head(c, path, text, nbytes, &head, &n_ranks));
    if (n_ranks > nbytes) return bad(path, "has more ranks than bytes");
    PAR_TRY(take_files(c, path, (int)n_ranks));
    text += head + sizeof shards_line - 1;
    nbytes -= head + sizeof shards_line - 1;
    for (int rank = 0; rank < c->n_files; rank++) {
        bool last = rank == c->n_files - 1;
        const char *end = memchr(text, '\n', nbytes);
        size_t n = end ? (size_t)(end - text) : 0, tail = last ? 2 : 1;
        if (n <= tail || memcmp(end - tail, last ? "]," : ",", tail) != 0)
            return bad(path, "has not a line per rank");
        PAR_TRY(parse_shard(c, path, rank, text, n - tail));
        text += n + 1;
        nbytes -= n + 1;
    }
    return par__contents_tensors(c, path);
}

par_status par__contents_parse(const char *path, const char *text, size_t nbytes,
                               par_checkpoint **out) {
    par_checkpoint *c = NULL;
    PAR_TRY(create(path, nbytes, &c));
    par_status st = parse(c, path, text, nbytes);
    if (st == PAR_OK &&
        (size_t)snprintf(c->info.path, sizeof c->info.path, "%s", path) >= sizeof c->info.path)
        st = par_error_set(PAR_ERR_ARG, "%s: is too long", path);
    return finish(st, path, c, out);
}

par_status par__contents_of(const char *path, char *const *parts, int n_ranks,
                            par_checkpoint **out) {
    par_checkpoint *c = NULL;
    size_t nbytes = 0;
    for (int r = 0; r < n_ranks; r++) nbytes += strlen(parts[r]);
    PAR_TRY(create(path, nbytes, &c));
    par_status st = take_files(c, path, n_ranks);
    for (int r = 0; st == PAR_OK && r < n_ranks; r++)
        st = parse_shard(c, path, r, parts[r], strlen(parts[r]));
    if (st == PAR_OK) st = par__contents_tensors(c, path);
    st = finish(st, path, c, out);
    return st == PAR_ERR_FORMAT ? PAR_ERR_ARG : st;
}
