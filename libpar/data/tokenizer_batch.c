/*
 * Documents on all threads: texts are copied into a batch, cut into tasks, encoded side by side
 * with one encoder per thread, and given away in their order. So the ids depend on the texts alone.
 *
 * A long document is cut where every pattern that has a scanner begins a new piece: between an
 * ASCII letter and a space. Where something else may look across (other stages, normalizers, added
 * tokens that take spaces or end so), a document is one task; if it is longer than a batch it is
 * encoded as it lies, on one thread.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/threads.h"
#include "libpar/data/tokenizer.h"

enum { TASK = 1 << 17, BATCH = 1 << 22, MAX_TASKS = 4096 }; /* bytes, bytes per thread */

typedef struct {
    size_t begin, n;  /* in the batch's text */
    bool first, last; /* of a document */
    par_status status;
    par__grown ids; /* int32_t; its memory is kept */
} task;

struct par__batch {
    const par_tokenizer *t;
    par__document_sink sink;
    int threads;
    par__encoder **encoders; /* [threads] */
    bool may_cut;
    par__grown text;
    task *tasks; /* [MAX_TASKS] */
    int n;
};

static bool is_cut(const uint8_t *text, size_t at) {
    uint8_t c = text[at - 1];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter && text[at] == ' ';
}

/* No token takes spaces behind it, looks at its neighbours, or has a cut in it. */
static bool leaves_cuts(const par__added *added) {
    for (int32_t i = 0; i < added->n; i++) {
        const par__added_token *token = &added->list[i];
        if (token->right || token->single) return false;
        for (size_t at = 1; at < token->n; at++)
            if (is_cut((const uint8_t *)token->text, at)) return false;
    }
    return true;
}

static bool may_cut(const par_tokenizer *t) {
    const par__splitter *s = &t->splitter;
    bool good = t->model == PAR__MODEL_BYTES && s->n > 0;
    for (int i = 0; i < t->normalizers.n; i++)
        good &= t->normalizers.list[i].kind == PAR__NORMALIZE_UNICODE;
    for (int i = 0; i < s->n; i++)
        good &= i + 1 == s->n
                    ? s->list[i].kind == PAR__STAGE_SCAN
                    : s->list[i].kind == PAR__STAGE_CLASS && s->list[i].classes == PAR__NUMBER;
    return good && leaves_cuts(&t->added) && leaves_cuts(&t->normalized_added);
}

par_status par__batch_open(par_tokenizer *t, const par__document_sink *sink, par__batch **out) {
    par__batch *b = calloc(1, sizeof *b);
    if (!b) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to encode documents");
    *b = (par__batch){.t = t, .sink = *sink, .threads = par_threads(), .may_cut = may_cut(t)};
    b->encoders = calloc((size_t)b->threads, sizeof(par__encoder *));
    b->tasks = calloc(MAX_TASKS, sizeof *b->tasks);
    par_status st = b->encoders && b->tasks
                        ? PAR_OK
                        : par_error_set(PAR_ERR_MEMORY, "no host memory to encode documents");
    for (int i = 0; st == PAR_OK && i < b->threads; i++)
        st = par__encoder_create(t, &b->encoders[i]);
    par__threads_hold();
    if (st == PAR_OK)
        *out = b;
    else
        par__batch_close(&b);
    return st;
}

void par__batch_close(par__batch **batch) {
    par__batch *b = *batch;
    if (!b) return;
    par__threads_release();
    for (int i = 0; b->encoders && i < b->threads; i++) par__encoder_destroy(&b->encoders[i]);
    for (int i = 0; b->tasks && i < MAX_TASKS; i++) free(b->tasks[i].ids.data);
    free(b->encoders);
    free(b->tasks);
    free(b->text.data);
    free(b);
    *batch = NULL;
}

static par_status keep_ids(void *user, const int32_t *ids, size_t n) {
    return par__grown_append(user, ids, n * sizeof *ids);
}

static par_status encode_task(const par__batch *b, int encoder, task *k) {
    k->ids.n = 0;
    return par__encoder_run(b->encoders[encoder], b->text.data + k->begin, k->n, keep_ids, &k->ids);
}

static void encode_range(const void *user, int slot, int64_t begin, int64_t end) {
    const par__batch *b = user;
    for (int64_t i = begin; i < end; i++) b->tasks[i].status = encode_task(b, slot, &b->tasks[i]);
}

static par_status put_front(const par__batch *b) {
    const par__frame *f = &b->t->frame;
    return f->n_begin > 0 ? b->sink.ids(b->sink.user, f->begin, (size_t)f->n_begin) : PAR_OK;
}

static par_status put_end(const par__batch *b) {
    const par__frame *f = &b->t->frame;
    if (f->n_end > 0) PAR_TRY(b->sink.ids(b->sink.user, f->end, (size_t)f->n_end));
    return b->sink.end(b->sink.user);
}

par_status par__batch_flush(par__batch *b) {
    int n = b->n;
    par__threads_run(n, b->threads, encode_range, b);
    b->n = 0;
    for (int i = 0; i < n; i++) {
        task *k = &b->tasks[i];
        /* messages are their thread's: here again, it fails where it can be heard */
        if (k->status != PAR_OK) PAR_TRY(encode_task(b, 0, k));
        if (k->first) PAR_TRY(put_front(b));
        PAR_TRY(b->sink.ids(b->sink.user, (const int32_t *)(const void *)k->ids.data,
                            k->ids.n / sizeof(int32_t)));
        if (k->last) PAR_TRY(put_end(b));
    }
    b->text.n = 0;
    return PAR_OK;
}

par_status par__batch_add(par__batch *b, const uint8_t *text, size_t n) {
    if (b->t->model == PAR__MODEL_TABLE || (!b->may_cut && n > BATCH)) { /* it is not copied */
        PAR_TRY(par__batch_flush(b));
        PAR_TRY(put_front(b));
        PAR_TRY(par__encoder_run(b->encoders[0], text, n, b->sink.ids, b->sink.user));
        return put_end(b);
    }
    for (size_t at = 0, end; at == 0 || at < n; at = end) {
        end = b->may_cut && n - at > TASK ? at + TASK : n;
        while (end < n && !is_cut(text, end)) end++;
        bool full = b->n == MAX_TASKS || b->text.n >= (size_t)b->threads * BATCH;
        if (full) PAR_TRY(par__batch_flush(b));
        task *k = &b->tasks[b->n];
        *k = (task){
            .begin = b->text.n, .n = end - at, .first = at == 0, .last = end == n, .ids = k->ids};
        PAR_TRY(par__grown_append(&b->text, text + at, end - at));
        b->n++;
        if (n == 0) break;
    }
    return PAR_OK;
}
