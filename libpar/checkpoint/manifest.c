/*
 * The manifest as text: JSON, written last, its own digest in the last line. It is verified as
 * bytes before it is parsed: the last line must be the one that follows from everything before it,
 * so no byte can change. contents.c knows what it says.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

static const char format_name[] = "libpar checkpoint 2";

enum { TAIL = 64 };

/* The last line, which follows from the text before it. */
static void tail_of(const char *text, size_t nbytes, char out[TAIL]) {
    char hash[PAR__HASH];
    par__hash(text, nbytes, hash);
    snprintf(out, TAIL, ",\n\"hash\": \"%s\"\n}\n", hash);
}

static json_t *numbers(const int64_t *of, int n) {
    return n > 1 ? json_pack("[II]", (json_int_t)of[0], (json_int_t)of[1])
                 : json_pack("[I]", (json_int_t)of[0]);
}

/* It takes the value, also when it fails, as json_pack does not. */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

static json_t *slice_of(const par_checkpoint_run *r) {
    json_t *slice = json_object();
    if (put(slice, "global", numbers(r->global, r->ndim)) &&
        put(slice, "offset", numbers(r->offset, r->ndim)) &&
        put(slice, "extent", numbers(r->extent, r->ndim)) &&
        put(slice, "local", numbers(r->local, r->ndim)) &&
        put(slice, "first", json_integer((json_int_t)r->first)))
        return slice;
    json_decref(slice);
    return NULL;
}

/* Blobs have no slice. */
static json_t *run_entry(const par_checkpoint_run *r, const par__span *p) {
    json_t *entry =
        json_pack("{s:s,s:s,s:s,s:I,s:I}", "kind", r->kind, "name", r->name, "dtype",
                  par_dtype_name(r->dtype), "n", (json_int_t)r->n, "at", (json_int_t)p->offset);
    json_t *hashes = json_array();
    bool good = put(entry, "hashes", hashes);
    for (int64_t k = 0; good && k < par__blocks(p); k++)
        good = json_array_append_new(hashes, json_string(p->hashes + k * PAR__HASH)) == 0;
    if (good && r->ndim > 0) good = put(entry, "slice", slice_of(r));
    if (good) return entry;
    json_decref(entry);
    return NULL;
}

/* A text that jansson made, as one of malloc, or why there is none; name: of what. */
static par_status made(bool memory, const char *name, char *text, char **out) {
    json_free_t release; /* what the host may have given to jansson */
    json_get_alloc_funcs(NULL, &release);
    *out = memory && text ? strdup(text) : NULL;
    memory &= *out || !text;
    if (text) release(text);
    if (*out) return PAR_OK;
    if (!memory) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its text", name);
    PAR_FAIL(PAR_ERR_ARG, "%s: what is said of the checkpoint is not UTF-8", name);
}

par_status par__manifest_shard(const par__shard *shard, const par_checkpoint_run *runs, int rank,
                               char **out) {
    char name[PAR__NAME];
    par__shard_name(rank, name);
    par__json_begin();
    json_t *list = json_array();
    bool good = list != NULL;
    for (int i = 0; good && i < shard->n; i++)
        good = json_array_append_new(list, run_entry(&runs[i], &shard->spans[i])) == 0;
    json_t *root = json_pack("{s:s,s:I,s:s,s:I}", "file", name, "nbytes", (json_int_t)shard->nbytes,
                             "frame", shard->frame, "block", (json_int_t)PAR__BLOCK);
    good = put(root, "runs", list) && good;
    char *text = good ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return made(par__json_end(), name, text, out);
}

static json_t *head_of(const par_checkpoint_params *p, const par__index *index, int n_ranks) {
    static const char *const classes[] = {"noted", "equal", "stated"};
    json_t *head = json_pack("{s:s,s:I,s:I,s:I,s:f,s:i,s:{s:I,s:s}}", "format", format_name, "step",
                             (json_int_t)p->step, "consumed", (json_int_t)p->consumed, "updates",
                             (json_int_t)p->updates, "loss", p->loss, "ranks", n_ranks, "index",
                             "nbytes", (json_int_t)index->nbytes, "hash", index->hash);
    json_t *pairs = json_array();
    bool good = put(head, "pairs", pairs), validated = isfinite(p->validation) && p->validation > 0;
    for (int i = 0; good && i < p->about.n; i++) {
        const par_checkpoint_pair *q = &p->about.pairs[i];
        good = json_array_append_new(
                   pairs, json_pack("[sss]", q->name, q->value, classes[q->class_of])) == 0;
    }
    if (p->owner)
        good = good && put(head, "run", json_string(par_owner_run(p->owner))) &&
               put(head, "parent", json_string(par_owner_parent(p->owner)));
    if (validated) good = good && put(head, "validation", json_real(p->validation));
    if (good) return head;
    json_decref(head);
    return NULL;
}

/* The head without its closing brace, a line per shard, and the digest. */
par_status par__manifest_make(const par_checkpoint_params *params, const par__index *index,
                              int n_ranks, char *const *parts, char **out) {
    char *head = NULL, *text = NULL;
    par__json_begin();
    json_t *root = head_of(params, index, n_ranks);
    if (root) text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    PAR_TRY(made(par__json_end(), "manifest.json", text, &head));
    size_t n = strlen(head) + TAIL + 32;
    for (int i = 0; i < n_ranks; i++) n += strlen(parts[i]) + 2;
    text = malloc(n);
    if (!text) {
        free(head);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a manifest of %zu bytes", n);
    }
    head[strlen(head) - 2] = 0; /* "\n}" */
    size_t used = (size_t)snprintf(text, n, "%s,\n\"shards\": [", head);
    for (int i = 0; i < n_ranks; i++)
        used += (size_t)snprintf(text + used, n - used, "%s\n%s", i ? "," : "", parts[i]);
    used += (size_t)snprintf(text + used, n - used, "]");
    tail_of(text, used, text + used);
    free(head);
    *out = text;
    return PAR_OK;
}

static par_status check_hash(const char *path, const char *text, size_t nbytes) {
    char tail[TAIL];
    tail_of("", 0, tail);
    size_t n = strlen(tail);
    if (nbytes <= n) PAR_FAIL(PAR_ERR_FORMAT, "%s: %zu bytes are not a manifest", path, nbytes);
    tail_of(text, nbytes - n, tail);
    if (memcmp(text + nbytes - n, tail, n) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its digest is not that of its text", path);
    return PAR_OK;
}

par_status par__manifest_read(const char *directory, char **text, size_t *nbytes) {
    char path[PAR__PATH];
    PAR_TRY(par__path(path, directory, "manifest.json"));
    bool there;
    PAR_TRY(par__file_exists(path, &there));
    if (!there) PAR_FAIL(PAR_ERR_FORMAT, "%s: is missing", path);
    PAR_TRY(par__read_file(path, PAR__MANIFEST_MAX, text, nbytes));
    par_status st = check_hash(path, *text, *nbytes);
    if (st == PAR_OK) return PAR_OK;
    free(*text);
    *text = NULL;
    return st;
}
