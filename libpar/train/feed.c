/*
 * Micro-batches on their way to the device: host buffers in a ring, each with an event behind the
 * copy that reads it. With buffers for the micro-batches of all steps that may be begun the host
 * never waits for one, as it has read the vote of the step before; above MAX_BATCHES a buffer is
 * filled again once its copy is done, which keeps the host at most that many micro-batches ahead.
 * A step that is captured in a graph copies from buffers of its own.
 *
 * Every sample that any kernel sees comes through here. So ids are compared with the vocabulary
 * here, on the host's copy: a kernel cannot tell an id that another rank holds from one that nobody
 * holds.
 */
#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"

enum { MAX_BATCHES = 32 };

par_status par__feed_take(par__feed *f, const par__context *on, bool graphs) {
    int steps = on->n_micro < MAX_BATCHES || graphs ? on->n_micro * PAR_STEPS_BEGUN : MAX_BATCHES;
    int n = on->backend->on_host ? 1 : steps < MAX_BATCHES || graphs ? steps : MAX_BATCHES;
    const par_trainer_params *p = &on->params;
    f->on = on;
    f->x_nbytes = (size_t)p->micro_batch * par_tensor_nbytes(&p->model->x);
    f->targets_nbytes = (size_t)p->micro_batch * par_tensor_nbytes(&p->model->targets);
    if (p->documents_apart)
        f->documents_nbytes =
            (size_t)(p->micro_batch * par_tensor_n(&p->model->x)) * sizeof(int32_t);
    f->batches = calloc((size_t)n, sizeof *f->batches);
    if (!f->batches) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d batches", n);
    f->n_batches = n;
    for (int i = 0; i < n; i++) {
        par__batch *b = &f->batches[i];
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "batches", f->x_nbytes, &b->x));
        PAR_TRY(
            par_memory_take(on->memory, PAR_MEM_DATA, "batches", f->targets_nbytes, &b->targets));
        if (f->documents_nbytes)
            PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "batches", f->documents_nbytes,
                                    &b->documents));
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
    f->end = INT64_MAX;
    f->filled = NULL;
}

void par__feed_end(par__feed *f, int64_t end) {
    f->end = end;
}

/* Ids [n, per_sample] are in [low, n_ids). */
static par_status check_ids(const par__feed *f, const char *what, const int32_t *ids, int64_t first,
                            int64_t n, int64_t per_sample, int32_t low) {
    int64_t n_ids = f->on->params.model->n_ids, i = 0;
    while (i < n * per_sample && ids[i] >= low && ids[i] < n_ids) i++;
    if (i == n * per_sample) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT,
             "sample %lld: %s %lld is id %d; legal: 0 to %lld, the model's vocabulary",
             (long long)(first + i / per_sample), what, (long long)(i % per_sample), ids[i],
             (long long)n_ids - 1);
}

/* The samples that are there, then padding. */
static par_status read_samples(par__feed *f, int64_t first, const par__batch *b) {
    const par_model *model = f->on->params.model;
    int64_t size = f->on->params.micro_batch, left = f->end > first ? f->end - first : 0;
    int64_t n = left < size ? left : size;
    if (n > 0) PAR_TRY(f->source->read(f->source->user, first, n, b->x, b->targets));
    size_t x = f->x_nbytes / (size_t)size * (size_t)n,
           targets = f->targets_nbytes / (size_t)size * (size_t)n;
    memset((char *)b->x + x, 0, f->x_nbytes - x);
    memset((char *)b->targets + targets, 0xff, f->targets_nbytes - targets); /* -1: ignored */
    if (model->n_ids == 0) return PAR_OK;
    PAR_TRY(check_ids(f, "token", b->x, first, n, par_tensor_n(&model->x), 0));
    return check_ids(f, "target", b->targets, first, n, par_tensor_n(&model->targets), INT32_MIN);
}

/* Where the documents of a batch begin: each behind the last token of the one before, and the first
 * of a sample with the sample, whose tokens before are another sample's. */
static void find_documents(const par__feed *f, const par__batch *b) {
    const par_trainer_params *p = &f->on->params;
    int64_t T = par_tensor_n(&p->model->x);
    for (int64_t i = 0; f->documents_nbytes && i < p->micro_batch; i++) {
        const int32_t *ids = (const int32_t *)b->x + i * T;
        int32_t *documents = (int32_t *)b->documents + i * T, first = 0;
        for (int64_t t = 0; t < T; t++) {
            if (t > 0 && ids[t - 1] == p->document_end) first = (int32_t)t;
            documents[t] = first;
        }
    }
}

/* Zeros where the source fails: the right size, for peers that wait. */
static void read_batch(par__feed *f, int micro, const par__batch *b) {
    par__flight *flight = par__recorder_flight(par_transport_recorder(f->on->transport));
    int phase = flight->phase;
    par_timeline *timeline = par__timeline_of(f->on);
    int64_t begin = par__timeline_now(timeline);
    par__enter(f->on, PAR__PHASE_DATA);
    par_status st = read_samples(f, f->first + micro * f->on->params.micro_batch, b);
    par__enter(f->on, phase);
    par__timeline_phase(timeline, "data", begin, micro);
    if (st != PAR_OK) {
        memset(b->x, 0, f->x_nbytes);
        memset(b->targets, 0, f->targets_nbytes);
    }
    find_documents(f, b);
    if (st == PAR_OK || f->failed != PAR_OK) return;
    f->failed = st;
    snprintf(f->why, sizeof f->why, "%s", par_error());
}

par_status par__feed_take_failure(par__feed *f) {
    par_status st = f->failed;
    f->failed = PAR_OK;
    return st == PAR_OK ? PAR_OK : par_error_set(st, "%s", f->why);
}

static par_status copy_batch(par__feed *f, const par__batch *b, void *x, void *targets,
                             void *documents) {
    const par_backend *backend = f->on->backend;
    par_stream *stream = f->on->stream;
    if (x) PAR_TRY(backend->copy(stream, x, b->x, f->x_nbytes));
    if (targets) PAR_TRY(backend->copy(stream, targets, b->targets, f->targets_nbytes));
    if (documents) PAR_TRY(backend->copy(stream, documents, b->documents, f->documents_nbytes));
    return PAR_OK;
}

/* Where documents are not apart, only the first and the last stage have something to load. */
par_status par__feed_fill(par__feed *f, const par_source *source, int64_t first, int captured,
                          double *load) {
    const par__context *on = f->on;
    bool loads = f->documents_nbytes || on->mesh->coordinate[PAR_PP] == 0 || par__is_last_stage(on);
    double begin = par__seconds();
    par__feed_begin(f, source, first);
    f->filled = f->batches + captured * on->n_micro;
    for (int i = 0; loads && i < on->n_micro; i++) {
        PAR_TRY(par__await(f->on, f->filled[i].copied));
        read_batch(f, i, &f->filled[i]);
    }
    *load = par__seconds() - begin;
    return PAR_OK;
}

par_status par__feed_load(void *user, int micro, void *x, void *targets, void *documents) {
    par__feed *f = user;
    if (f->filled) return copy_batch(f, &f->filled[micro], x, targets, documents);
    const par__batch *b = &f->batches[f->next];
    f->next = (f->next + 1) % f->n_batches;
    PAR_TRY(par__await(f->on, b->copied));
    read_batch(f, micro, b);
    PAR_TRY(copy_batch(f, b, x, targets, documents));
    return f->on->backend->event_record(f->on->stream, b->copied);
}
