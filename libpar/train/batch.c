/*
 * Micro-batches on their way to the device: host buffers in a ring, each with an event behind the
 * copy that reads it. With buffers for the micro-batches of all steps that may be begun the host
 * never waits for one, as it has read the vote of the step before; above MAX_BATCHES a buffer is
 * filled again once its copy is done, which keeps the host at most that many micro-batches ahead.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

enum { MAX_BATCHES = 32 };

static size_t x_nbytes(const par_trainer *t) {
    return (size_t)t->params.micro_batch * par_tensor_nbytes(&t->params.model->x);
}
static size_t targets_nbytes(const par_trainer *t) {
    return (size_t)t->params.micro_batch * par_tensor_nbytes(&t->params.model->targets);
}

par_status par__batch_take(par_trainer *t) {
    int steps = t->n_micro < MAX_BATCHES ? t->n_micro * PAR_STEPS_BEGUN : MAX_BATCHES;
    int n = t->backend->on_host ? 1 : steps < MAX_BATCHES ? steps : MAX_BATCHES;
    t->batches = calloc((size_t)n, sizeof *t->batches);
    if (!t->batches) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d batches", n);
    t->n_batches = n;
    for (int i = 0; i < n; i++) {
        par__batch *b = &t->batches[i];
        PAR_TRY(par_memory_take(t->memory, PAR_MEM_DATA, "batches", x_nbytes(t), &b->x));
        PAR_TRY(
            par_memory_take(t->memory, PAR_MEM_DATA, "batches", targets_nbytes(t), &b->targets));
        if (!par_memory_measuring(t->memory)) PAR_TRY(t->backend->event_create(&b->copied));
    }
    return PAR_OK;
}

void par__batch_free(par_trainer *t) {
    for (int i = 0; i < t->n_batches; i++)
        if (t->batches[i].copied) t->backend->event_destroy(t->batches[i].copied);
    free(t->batches);
}

/* The next buffer, when no copy reads it any more. */
static par_status next_batch(par_trainer *t, par__batch **out) {
    bool done = false;
    *out = &t->batches[t->next_batch];
    t->next_batch = (t->next_batch + 1) % t->n_batches;
    for (;;) {
        PAR_TRY(t->backend->query((*out)->copied, &done));
        if (done) return PAR_OK;
        PAR_TRY(par_transport_progress(t->transport));
    }
}

static par_status fill(par_trainer *t, int micro, par__batch *b) {
    if (t->given_x) {
        memcpy(b->x, t->given_x, x_nbytes(t));
        memcpy(b->targets, t->given_targets, targets_nbytes(t));
        return PAR_OK;
    }
    int64_t first = t->first_sample + micro * t->params.micro_batch;
    par_status st =
        t->source->read(t->source->user, first, t->params.micro_batch, b->x, b->targets);
    if (st == PAR_OK) return PAR_OK;
    /* peers wait for a micro-batch of the right size: give them zeros, report in the vote */
    memset(b->x, 0, x_nbytes(t));
    memset(b->targets, 0, targets_nbytes(t));
    return st;
}

par_status par__batch_load(void *user, int micro, void *x, void *targets) {
    par_trainer *t = user;
    par__batch *b = NULL;
    PAR_TRY(next_batch(t, &b));
    par_status st = fill(t, micro, b);
    if (x) PAR_TRY(t->backend->copy(t->stream, x, b->x, x_nbytes(t)));
    if (targets) PAR_TRY(t->backend->copy(t->stream, targets, b->targets, targets_nbytes(t)));
    PAR_TRY(t->backend->record(t->stream, b->copied));
    return st;
}
