/*
 * What a save leaves out: copies, and runs of padding alone. A tensor of which every rank has just
 * these would be missing without a word. So each rank names them behind its part of the manifest,
 * and rank 0 looks whether they are stored, in their type and shape.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/checkpoint/checkpoint.h"

enum { TEXT = 640 }; /* kind and name have 255 characters at most */

/* What is told of a run; returns its length, with the zero behind it. */
static size_t text_of(const par_checkpoint_run *run, char out[TEXT]) {
    par_checkpoint_run r = par__run_plain(run);
    int n = snprintf(out, TEXT, "%d %d %lld %lld %s/%s", (int)r.dtype, r.ndim,
                     (long long)r.global[0], (long long)r.global[1], r.kind, r.name);
    return (size_t)n + 1;
}

par_status par__copies_add(const par_checkpoint_run *runs, int n, char **part, size_t *nbytes) {
    char text[TEXT];
    size_t used = strlen(*part) + 1;
    *nbytes = used + 1;
    for (int i = 0; i < n; i++) *nbytes += text_of(&runs[i], text);
    char *more = realloc(*part, *nbytes);
    if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the names of %d copies", n);
    *part = more;
    for (int i = 0; i < n; i++) {
        size_t length = text_of(&runs[i], text);
        memcpy(more + used, text, length);
        used += length;
    }
    more[used] = 0;
    return PAR_OK;
}

static par_status check_one(const char *directory, const par_checkpoint *c, int rank,
                            const char *text) {
    int dtype, ndim, at = 0;
    long long global[2];
    char kind[256];
    if (sscanf(text, "%d %d %lld %lld %n", &dtype, &ndim, &global[0], &global[1], &at) != 4)
        PAR_FAIL(PAR_ERR_INTERNAL, "rank %d: a copy without a shape: %s", rank, text);
    const char *name = strchr(text + at, '/') + 1;
    snprintf(kind, sizeof kind, "%.*s", (int)(name - 1 - text - at), text + at);
    int found = par__contents_find(c, kind, name, ndim > 0 ? -1 : rank);
    const par_checkpoint_tensor *t = found < 0 ? NULL : &c->tensors[found];
    if (!t)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: %s/%s: would not be saved: what rank %d and all others have of it are "
                 "copies, or padding; legal: each element once with replica 0",
                 directory, kind, name, rank);
    if (t->dtype == (par_dtype)dtype && (t->ndim > 0) == (ndim > 0) &&
        (ndim == 0 || (t->global[0] == global[0] && t->global[1] == global[1])))
        return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG,
             "%s: %s/%s: rank %d has a copy of %s[%lld, %lld] in %s; what is stored is %s[%lld, "
             "%lld] in %s",
             directory, kind, name, rank, ndim ? "" : "a blob ", global[0], global[1],
             par_dtype_name((par_dtype)dtype), t->ndim ? "" : "a blob ", (long long)t->global[0],
             (long long)t->global[1], par_dtype_name(t->dtype));
}

par_status par__copies_check(const char *directory, const par_checkpoint *contents,
                             char *const *parts, int n_ranks) {
    for (int r = 0; r < n_ranks; r++)
        for (const char *text = parts[r] + strlen(parts[r]) + 1; *text; text += strlen(text) + 1)
            PAR_TRY(check_one(directory, contents, r, text));
    return PAR_OK;
}
