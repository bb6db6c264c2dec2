/*
 * The one look at every id of a token file, which makes its stamp. It goes over blocks of ids, each
 * hashed by itself, on the threads of the team; the fingerprint is the sum of the blocks' hashes,
 * each mixed with its number, so it depends on the ids and their order alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/threads.h"
#include "libpar/data/tokens.h"

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
    return name ? name : "other";
}

par_status par_tokens_unchanged(const par_tokens *t) {
    par__file_state now;
    PAR_REQUIRE(t);
    if (par__file_state_of(t->path, &now) != PAR_OK) return PAR_OK; /* its name is gone, not it */
    if (now.device != t->state.device || now.inode != t->state.inode) return PAR_OK;
    if (now.nbytes != t->state.nbytes)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: was changed while it was read: it had %" PRId64 " bytes and has %" PRId64,
                 t->path, t->state.nbytes, now.nbytes);
    if (now.time_ns != t->state.time_ns)
        PAR_FAIL(PAR_ERR_IO, "%s: was written to while it was read: its samples may be others",
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

/* ---- what is known of a file ---- */

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
    /* the stamp is of these bytes, as far as size and time can tell */
    bool stamped = t->has_stamp && s.of.time_ns == t->state.time_ns && s.form == t->form &&
                   s.type == t->type && s.n == t->n;
    if (!stamped) {
        look l = look_at_all(t, progress, user);
        PAR_TRY(par__map_check(&t->map, t->path));
        if (t->only_stamped && l.sum != s.fingerprint)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: is not the file that %s.stamp was written for, and nothing else tells "
                     "its form; give it, u16 or u32",
                     t->path, t->path);
        s = new_stamp(t, &l);
        /* A form that was asked for and gives such ids was the wrong one: it is not remembered. */
        bool raw = t->form == PAR_TOKENS_U16 || t->form == PAR_TOKENS_U32;
        bool wrong = raw && t->vocab > 0 && l.max >= t->vocab;
        if (!wrong && par__stamp_write(t->path, &s) != PAR_OK)
            snprintf(note, sizeof note, "%s", par_error());
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
    if (par__map_check(&t->map, path) == PAR_OK) (void)par__stamp_write(path, &s);
    par_tokens_close(&t);
}
