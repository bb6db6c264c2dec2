/*
 * What is known of a token file beside its bytes: the stamp, and the one look at every id that
 * makes it. The look goes over blocks of ids, each hashed by itself, on the threads of the team;
 * the fingerprint is the sum of the blocks' hashes, each mixed with its number, so it depends on
 * the ids and their order alone.
 */
#define _POSIX_C_SOURCE   200809L
#define _FILE_OFFSET_BITS 64
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/threads.h"
#include "libpar/data/tokens.h"

static const char *const type_names[] = {"u8", "i8", "u16", "i16", "i32", "u32", "i64"};

static const char *form_name(par_tokens_form form, par__token_type type) {
    static const char *const names[][7] = {
        [PAR_TOKENS_MEGATRON] = {"Megatron u8", "Megatron i8", "Megatron u16", "Megatron i16",
                                 "Megatron i32", "Megatron u32", "Megatron i64"},
        [PAR_TOKENS_LLMC] = {[PAR__TOKEN_U16] = "llm.c u16", [PAR__TOKEN_U32] = "llm.c u32"},
        [PAR_TOKENS_LITGPT] = {"LitGPT u8", "LitGPT i8", "LitGPT u16", "LitGPT i16", "LitGPT i32",
                               "LitGPT u32", "LitGPT i64"},
        [PAR_TOKENS_U16] = {[PAR__TOKEN_U16] = "raw u16"},
        [PAR_TOKENS_U32] = {[PAR__TOKEN_U32] = "raw u32"},
    };
    const char *name = names[form][type];
    return name ? name : type_names[type];
}

/* ---- the file's state ---- */

par_status par__file_state_of(const char *path, par__file_state *out) {
    struct stat info;
    if (stat(path, &info) != 0) return par__read_error(path, "opened");
    *out = (par__file_state){(uint64_t)info.st_dev, (uint64_t)info.st_ino, (int64_t)info.st_size,
                             (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec};
    return PAR_OK;
}

par_status par_tokens_unchanged(const par_tokens *t) {
    par__file_state now;
    PAR_REQUIRE(t);
    if (par__file_state_of(t->path, &now) != PAR_OK) return PAR_OK; /* its name is gone, not it */
    if (now.device != t->state.device || now.inode != t->state.inode) return PAR_OK;
    if (now.nbytes != t->state.nbytes)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: was changed while it is read: it had %" PRId64 " bytes and has %" PRId64,
                 t->path, t->state.nbytes, now.nbytes);
    if (now.time_ns != t->state.time_ns)
        PAR_FAIL(PAR_ERR_IO, "%s: was written to while it is read: its samples may be others",
                 t->path);
    return PAR_OK;
}

/* ---- the look at every id ---- */

enum { BLOCK = 1 << 16, LANES = 4, GROUP = 1 << 13 }; /* ids per block, blocks per progress */

typedef struct {
    int64_t max;
    uint64_t sum;
    char apart[48]; /* no two threads on one cache line */
} look;

typedef struct {
    const par_tokens *tokens;
    int64_t first; /* block */
    look *looks;   /* [PAR_MAX_THREADS] */
} look_call;

static uint64_t mixed(uint64_t x) {
    x ^= x >> 32;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

/* Each step is a bijection of the lane, so that one id that differs gives another hash. */
static uint64_t block_hash(const int64_t *ids, int64_t n, int64_t *max) {
    uint64_t lane[LANES] = {1, 2, 3, 4}, sum = (uint64_t)n;
    for (int64_t i = 0; i < n; i++) {
        lane[i % LANES] = (lane[i % LANES] ^ (uint64_t)ids[i]) * UINT64_C(0x100000001b3);
        if (ids[i] > *max) *max = ids[i];
    }
    for (int k = 0; k < LANES; k++) sum = mixed(sum ^ lane[k]);
    return sum;
}

static void look_at_blocks(const void *user, int slot, int64_t begin, int64_t end) {
    enum { PART = 1 << 10 };
    const look_call *c = user;
    look *l = &c->looks[slot];
    int64_t ids[PART];
    for (int64_t b = c->first + begin; b < c->first + end; b++) {
        int64_t at = b * BLOCK, stop = at + BLOCK < c->tokens->n ? at + BLOCK : c->tokens->n;
        uint64_t sum = mixed((uint64_t)b + 1);
        for (; at < stop; at += PART) {
            int64_t n = stop - at < PART ? stop - at : PART;
            for (int64_t i = 0; i < n; i++) ids[i] = par__token_at(c->tokens, at + i);
            sum = mixed(sum ^ block_hash(ids, n, &l->max));
        }
        l->sum += sum;
    }
}

static look look_at_all(const par_tokens *t, void (*progress)(void *user, int64_t done, int64_t n),
                        void *user) {
    look looks[PAR_MAX_THREADS] = {{.max = 0}}, all = {.max = 0, .sum = (uint64_t)t->n};
    int64_t n = (t->n + BLOCK - 1) / BLOCK;
    for (int64_t first = 0; first < n; first += GROUP) {
        const look_call call = {t, first, looks};
        par__threads_run(n - first < GROUP ? n - first : GROUP, par_threads(), look_at_blocks,
                         &call);
        int64_t done = (first + GROUP) * BLOCK;
        if (progress) progress(user, done < t->n ? done : t->n, t->n);
    }
    for (int i = 0; i < PAR_MAX_THREADS; i++) {
        if (looks[i].max > all.max) all.max = looks[i].max;
        all.sum += looks[i].sum;
    }
    return all;
}

int64_t par_tokens_max(const par_tokens *t) {
    return look_at_all(t, NULL, NULL).max;
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

bool par__stamp_read(const char *path, par__stamp *out) {
    char *name = stamp_path(path), *text = NULL;
    size_t n;
    bool good = name && par__file_exists(name) && par__read_file(name, 4096, &text, &n) == PAR_OK &&
                parse_stamp(text, out);
    free(text);
    free(name);
    return good;
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

/* The stamp is of these bytes, as far as size and time can tell. */
static bool holds(const par_tokens *t) {
    const par__stamp *s = &t->stamp;
    return t->has_stamp && s->of.time_ns == t->state.time_ns && s->form == t->form &&
           s->type == t->type && s->n == t->n;
}

/* The stamp that the look gives; what only the tokenizer knew is taken over if the ids are the
 * same. */
static par__stamp new_stamp(const par_tokens *t, const look *l) {
    bool same = t->has_stamp && t->stamp.fingerprint == l->sum && t->stamp.n == t->n;
    int64_t documents = same ? t->stamp.n_documents : -1;
    return (par__stamp){.of = t->state,
                        .form = t->form,
                        .type = t->type,
                        .n = t->n,
                        .vocab = same ? t->stamp.vocab : 0,
                        .n_documents = t->n_documents >= 0 ? t->n_documents : documents,
                        .max = l->max,
                        .fingerprint = l->sum};
}

par_status par_tokens_check(const par_tokens *t,
                            void (*progress)(void *user, int64_t done, int64_t n), void *user,
                            par_tokens_facts *out) {
    PAR_REQUIRE(t && out);
    par__stamp s = t->stamp;
    char note[sizeof out->note] = "";
    bool stamped = holds(t);
    if (!stamped) {
        look l = look_at_all(t, progress, user);
        if (t->only_stamped && l.sum != s.fingerprint)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: is not the file that %s.stamp was written for, and nothing else tells "
                     "its form; give it, u16 or u32",
                     t->path, t->path);
        s = new_stamp(t, &l);
        if (par__stamp_write(t->path, &s) != PAR_OK) snprintf(note, sizeof note, "%s", par_error());
    }
    *out = (par_tokens_facts){.vocab = s.vocab,
                              .n_documents = s.n_documents,
                              .max = s.max,
                              .fingerprint = s.fingerprint,
                              .stamped = stamped};
    snprintf(out->form, sizeof out->form, "%s", form_name(t->form, t->type));
    memcpy(out->note, note, sizeof note);
    return PAR_OK;
}

void par__tokens_leave_stamp(const char *path, par_tokens_form form, int64_t vocab,
                             int64_t n_documents) {
    par_tokens *t = NULL;
    if (par_tokens_open_as(path, &(par_tokens_params){.form = form}, &t) != PAR_OK) return;
    look l = look_at_all(t, NULL, NULL);
    t->has_stamp = false;
    par__stamp s = new_stamp(t, &l);
    s.vocab = vocab;
    s.n_documents = n_documents;
    (void)par__stamp_write(path, &s);
    par_tokens_close(&t);
}
