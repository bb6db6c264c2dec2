/*
 * The manifest: JSON, written last, its own digest in the last line. It is verified as bytes before
 * it is parsed: the last line must be the one that follows from everything before it, so no byte
 * can change.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

static const char format_name[] = "libpar checkpoint 1";

enum { TAIL = 64 };

/* The last line, which follows from the text before it. */
static void tail_of(const char *text, size_t nbytes, char out[TAIL]) {
    char hash[PAR__HASH];
    par__hash(text, nbytes, hash);
    snprintf(out, TAIL, ",\n\"hash\": \"%s\"\n}\n", hash);
}

static json_t *slice_of(const par_checkpoint_run *r) {
    return json_pack("{s:[II],s:[II],s:[II],s:[II],s:I,s:i}", "global", (json_int_t)r->global[0],
                     (json_int_t)r->global[1], "offset", (json_int_t)r->offset[0],
                     (json_int_t)r->offset[1], "extent", (json_int_t)r->extent[0],
                     (json_int_t)r->extent[1], "local", (json_int_t)r->local[0],
                     (json_int_t)r->local[1], "first", (json_int_t)r->first, "replica", r->replica);
}

static json_t *run_entry(const par_checkpoint_run *r, const par__span *p) {
    return json_pack("{s:s,s:s,s:s,s:I,s:o,s:I,s:s}", "kind", r->kind, "name", r->name, "dtype",
                     par_dtype_name(r->dtype), "n", (json_int_t)r->n, "slice", slice_of(r), "at",
                     (json_int_t)p->offset, "hash", p->hash);
}

par_status par__manifest_shard(const par__shard *shard, const par_checkpoint_run *runs, int rank,
                               char **out) {
    char name[PAR__NAME];
    par__shard_name(rank, name);
    json_t *list = json_array();
    bool good = list != NULL;
    for (int i = 0; good && i < shard->n; i++)
        good = json_array_append_new(list, run_entry(&runs[i], &shard->spans[i])) == 0;
    json_t *root = json_pack("{s:s,s:I,s:s,s:o}", "file", name, "nbytes", (json_int_t)shard->nbytes,
                             "frame", shard->frame, "runs", list);
    char *text = good && root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its part of the manifest", name);
    *out = text;
    return PAR_OK;
}

static json_t *head_of(const par_checkpoint_params *p, int n_ranks) {
    return json_pack("{s:s,s:I,s:I,s:I,s:f,s:i,s:s,s:s,s:s}", "format", format_name, "step",
                     (json_int_t)p->step, "consumed", (json_int_t)p->consumed, "updates",
                     (json_int_t)p->updates, "loss", p->loss, "ranks", n_ranks, "model",
                     p->about.model, "layout", p->about.layout, "options", p->about.options);
}

/* The head without its closing brace, the parts, and the digest. */
par_status par__manifest_make(const par_checkpoint_params *params, int n_ranks, char *const *parts,
                              char **out) {
    json_t *root = head_of(params, n_ranks);
    const par_owner *owner = params->owner;
    if (root && owner) {
        json_object_set_new(root, "run", json_string(par_owner_run(owner)));
        json_object_set_new(root, "parent", json_string(par_owner_parent(owner)));
    }
    if (root && params->validation > 0)
        json_object_set_new(root, "validation", json_real(params->validation));
    char *head = root ? json_dumps(root, JSON_INDENT(1)) : NULL, *text = NULL;
    json_decref(root);
    if (!head) PAR_FAIL(PAR_ERR_ARG, "model, layout or options of a checkpoint are not UTF-8");
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

par_status par__manifest_parse(const char *path, const char *text, size_t nbytes, json_t **out) {
    json_error_t error;
    const char *format = NULL;
    PAR_TRY(check_hash(path, text, nbytes));
    json_t *root = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    if (json_unpack(root, "{s:s}", "format", &format) != 0 || strcmp(format, format_name) != 0) {
        par_status st = par_error_set(PAR_ERR_FORMAT, "%s: its format is \"%s\"; legal: \"%s\"",
                                      path, format ? format : "", format_name);
        json_decref(root);
        return st;
    }
    *out = root;
    return PAR_OK;
}

par_status par__manifest_read(const char *directory, char **text, size_t *nbytes) {
    char path[PAR__PATH];
    json_t *root = NULL;
    PAR_TRY(par__path(path, directory, "manifest.json"));
    PAR_TRY(par__read_file(path, PAR__MANIFEST_MAX, text, nbytes));
    par_status st = par__manifest_parse(path, *text, *nbytes, &root);
    json_decref(root);
    if (st == PAR_OK) return PAR_OK;
    free(*text);
    *text = NULL;
    return st;
}

static void compare_text(const char *path, const char *what, const char *saved, const char *now,
                         par_problems *problems) {
    if (strcmp(saved, now) != 0)
        par_problem(problems, "%s: its %s is \"%s\"; this run's is \"%s\"", path, what, saved, now);
}

par_status par__manifest_about(json_t *manifest, const char *path,
                               const par_checkpoint_about *about, int n_ranks,
                               par_checkpoint_result *out) {
    const char *model, *layout, *options, *run = "";
    json_int_t step, consumed, updates;
    par_problems problems = {0};
    int ranks;
    json_error_t error;
    if (json_unpack_ex(manifest, &error, 0, "{s:I,s:I,s:I,s:F,s:i,s:s,s:s,s:s,s?s}", "step", &step,
                       "consumed", &consumed, "updates", &updates, "loss", &out->loss, "ranks",
                       &ranks, "model", &model, "layout", &layout, "options", &options, "run",
                       &run) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: %s", path, error.text);
    if (step < 0 || consumed < 0 || updates < 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: a count below zero", path);
    compare_text(path, "model", model, about->model, &problems);
    compare_text(path, "layout", layout, about->layout, &problems);
    if (problems.n == 0 && ranks != n_ranks)
        par_problem(&problems, "%s: is of %d ranks; this run has %d", path, ranks, n_ranks);
    out->step = step;
    out->consumed = consumed;
    out->updates = updates;
    snprintf(out->options, sizeof out->options, "%s", options);
    snprintf(out->run, sizeof out->run, "%s", run);
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

static bool same_slice(const par_checkpoint_run *r, json_t *slice) {
    json_t *mine = slice_of(r);
    bool same = mine && json_equal(mine, slice);
    json_decref(mine);
    return same;
}

static par_status get_run(json_t *entry, const char *path, const par_checkpoint_run *r,
                          par__span *span) {
    const char *kind, *name, *dtype, *hash;
    json_int_t n, at;
    json_t *slice;
    if (json_unpack(entry, "{s:s,s:s,s:s,s:I,s:o,s:I,s:s}", "kind", &kind, "name", &name, "dtype",
                    &dtype, "n", &n, "slice", &slice, "at", &at, "hash", &hash) != 0 ||
        strlen(hash) != PAR__HASH - 1 || at < 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: manifest: a run without kind, name, dtype, n, slice, at or hash", path);
    if (strcmp(kind, r->kind) != 0 || strcmp(name, r->name) != 0 || n != r->n ||
        strcmp(dtype, par_dtype_name(r->dtype)) != 0 || !same_slice(r, slice))
        PAR_FAIL(PAR_ERR_OPTION, "%s: has %s/%s [%lld] %s where this run has %s/%s [%lld] %s", path,
                 kind, name, (long long)n, dtype, r->kind, r->name, (long long)r->n,
                 par_dtype_name(r->dtype));
    span->offset = at;
    span->nbytes = r->n * (int64_t)par_dtype_nbytes(r->dtype);
    memcpy(span->hash, hash, PAR__HASH);
    return PAR_OK;
}

static par_status get_runs(json_t *list, const char *path, const par_checkpoint_run *runs,
                           par__shard *shard) {
    for (int i = 0; i < shard->n; i++)
        PAR_TRY(get_run(json_array_get(list, (size_t)i), path, &runs[i], &shard->spans[i]));
    return PAR_OK;
}

par_status par__manifest_get(json_t *manifest, const char *path, int rank,
                             const par_checkpoint_run *runs, int n, par__shard *out) {
    json_t *entry = json_array_get(json_object_get(manifest, "shards"), (size_t)rank), *list;
    const char *file, *frame;
    char name[PAR__NAME];
    json_int_t nbytes;
    par__shard_name(rank, name);
    if (json_unpack(entry, "{s:s,s:I,s:s,s:o}", "file", &file, "nbytes", &nbytes, "frame", &frame,
                    "runs", &list) != 0 ||
        strcmp(file, name) != 0 || nbytes < 0 || strlen(frame) != PAR__HASH - 1)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: the entry of %s is missing or damaged", path, name);
    if (json_array_size(list) != (size_t)n)
        PAR_FAIL(PAR_ERR_OPTION, "%s: rank %d has %zu arrays; in this run it has %d", path, rank,
                 json_array_size(list), n);
    par__shard shard = {
        .n = n, .nbytes = nbytes, .spans = calloc((size_t)n + 1, sizeof *shard.spans)};
    if (!shard.spans) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %d spans", path, n);
    memcpy(shard.frame, frame, PAR__HASH);
    par_status st = get_runs(list, path, runs, &shard);
    if (st != PAR_OK)
        par__shard_free(&shard);
    else
        *out = shard;
    return st;
}
