/*
 * Micro-batches on their way to the device: host buffers in a ring, each with an event behind the
 * copy that reads it. With buffers for the micro-batches of all steps that may be begun the host
 * never waits for one, as it has read the vote of the step before; above MAX_BATCHES a buffer is
 * filled again once its copy is done, which keeps the host at most that many micro-batches ahead.
 */
#include "feed.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BATCHES = 32 };

par_status par__feed_take(par__feed *f, const par__context *on) {
    int steps = on->n_micro < MAX_BATCHES ? on->n_micro * PAR_STEPS_BEGUN : MAX_BATCHES;
    int n = on->backend->on_host ? 1 : steps < MAX_BATCHES ? steps : MAX_BATCHES;
    const par_trainer_params *p = &on->params;
    f->on = on;
    f->x_nbytes = (size_t)p->micro_batch * par_tensor_nbytes(&p->model->x);
    f->targets_nbytes = (size_t)p->micro_batch * par_tensor_nbytes(&p->model->targets);
    f->batches = calloc((size_t)n, sizeof *f->batches);
    if (!f->batches) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d batches", n);
    f->n_batches = n;
    for (int i = 0; i < n; i++) {
        par__batch *b = &f->batches[i];
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "batches", f->x_nbytes, &b->x));
        PAR_TRY(
            par_memory_take(on->memory, PAR_MEM_DATA, "batches", f->targets_nbytes, &b->targets));
        if (!par_memory_measuring(on->memory)) PAR_TRY(on->backend->event_create(&b->copied));
    }
    return PAR_OK;
}

void par__feed_free(par__feed *f) {
    for (int i = 0; i < f->n_batches; i++)
        if (f->batches[i].copied) f->on->backend->event_destroy(f->batches[i].copied);
    free(f->batches);
}

void par__feed_begin(par__feed *f, const par_source *source, int64_t first) {
    f->source = source;
    f->first = first;
}

/* The next buffer, when no copy reads it any more. */
static par_status next_batch(par__feed *f, par__batch **out) {
    bool done = false;
    *out = &f->batches[f->next];
    f->next = (f->next + 1) % f->n_batches;
    for (;;) {
        PAR_TRY(f->on->backend->query((*out)->copied, &done));
        if (done) return PAR_OK;
        PAR_TRY(par_transport_progress(f->on->transport));
    }
}

par_status par__feed_load(void *user, int micro, void *x, void *targets) {
    par__feed *f = user;
    par__batch *b = NULL;
    const par_backend *backend = f->on->backend;
    par_stream *stream = f->on->stream;
    int64_t n = f->on->params.micro_batch;
    PAR_TRY(next_batch(f, &b));
    par_status st = f->source->read(f->source->user, f->first + micro * n, n, b->x, b->targets);
    if (st != PAR_OK) {
        /* peers wait for a micro-batch of the right size: give them zeros, report in the vote */
        memset(b->x, 0, f->x_nbytes);
        memset(b->targets, 0, f->targets_nbytes);
    }
    if (x) PAR_TRY(backend->copy(stream, x, b->x, f->x_nbytes));
    if (targets) PAR_TRY(backend->copy(stream, targets, b->targets, f->targets_nbytes));
    PAR_TRY(backend->record(stream, b->copied));
    return st;
}
