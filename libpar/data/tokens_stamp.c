/*
 * The stamp beside a token file: what is known of it beside its bytes. tokens_check.c makes it, and
 * believes it.
 */
#define _POSIX_C_SOURCE   200809L
#define _FILE_OFFSET_BITS 64
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/data/tokens.h"

static const char *const type_names[] = {"u8", "i8", "u16", "i16", "i32", "u32", "i64"};

/* ---- the file's state ---- */

par_status par__file_state_of(const char *path, par__file_state *out) {
    struct stat info;
    if (stat(path, &info) != 0) return par__read_error(path, "opened");
    *out = (par__file_state){(uint64_t)info.st_dev, (uint64_t)info.st_ino, (int64_t)info.st_size,
                             (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec};
    return PAR_OK;
}

/* ---- the stamp ---- */

static const char *const form_names[] = {"", "megatron", "llm.c", "litgpt", "u16", "u32"};

static char *stamp_path(const char *path) {
    size_t n = strlen(path);
    char *name = malloc(n + sizeof ".stamp");
    if (!name) return NULL;
    memcpy(name, path, n);
    memcpy(name + n, ".stamp", sizeof ".stamp");
    return name;
}

/* The place of a text in a list; -1: it is not there. */
static int place_of(const char *text, const char *const *list, int n) {
    for (int i = 0; text && i < n; i++)
        if (strcmp(text, list[i]) == 0) return i;
    return -1;
}

static bool parse_stamp(const char *text, par__stamp *out) {
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_int_t bytes = 0, time = 0, n = 0, vocab = 0, documents = -1, max = 0;
    const char *form = NULL, *type = NULL, *hash = NULL;
    bool good =
        root && json_unpack(root, "{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s}", "form", &form, "type",
                            &type, "bytes", &bytes, "time", &time, "tokens", &n, "vocab", &vocab,
                            "documents", &documents, "max", &max, "fingerprint", &hash) == 0;
    int f = place_of(form, form_names, 6), t = place_of(type, type_names, 7);
    char *end = NULL;
    *out = (par__stamp){.of = {.nbytes = bytes, .time_ns = time},
                        .n = n,
                        .vocab = vocab,
                        .n_documents = documents,
                        .max = max};
    if (good) out->fingerprint = strtoull(hash, &end, 16);
    good = good && f > 0 && t >= 0 && *end == 0 && n > 0 && max >= 0 && vocab >= 0;
    out->form = good ? (par_tokens_form)f : PAR_TOKENS_KNOWN;
    out->type = good ? (par__token_type)t : PAR__TOKEN_U16;
    json_decref(root);
    return good;
}

par_status par__stamp_read(const char *path, bool *read, par__stamp *out) {
    char *name = stamp_path(path), *text = NULL;
    size_t n;
    *read = false;
    if (!name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for the name of its stamp", path);
    par_status st = par__file_exists(name, read);
    if (st == PAR_OK && *read) st = par__read_file(name, 4096, &text, &n);
    *read = text && parse_stamp(text, out);
    free(text);
    free(name);
    return st == PAR_ERR_FORMAT ? PAR_OK : st; /* that is none of ours */
}

par_status par__stamp_write(const char *path, const par__stamp *s) {
    char text[512], *name = stamp_path(path);
    par__writer w;
    if (!name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for the name of its stamp", path);
    int n =
        snprintf(text, sizeof text,
                 "{\"form\": \"%s\", \"type\": \"%s\", \"bytes\": %" PRId64 ", \"time\": %" PRId64
                 ", \"tokens\": %" PRId64 ", \"vocab\": %" PRId64 ", \"documents\": %" PRId64
                 ", \"max\": %" PRId64 ", \"fingerprint\": \"%016" PRIx64 "\"}\n",
                 form_names[s->form], type_names[s->type], s->of.nbytes, s->of.time_ns, s->n,
                 s->vocab, s->n_documents, s->max, s->fingerprint);
    par_status st = par__writer_open(name, &w);
    if (st == PAR_OK) {
        st = par__writer_write(&w, text, (size_t)n);
        if (st == PAR_OK)
            st = par__writer_commit(&w);
        else
            par__writer_abort(&w);
    }
    free(name);
    return st;
}
