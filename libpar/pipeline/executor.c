/* The pipeline executor's walk over a schedule. See executor.h. */
#include "executor_slots.h"

#include <stdio.h>

#include "libpar/base/clock.h"
#include "libpar/base/record.h"
#include "libpar/base/timeline.h"
#include "libpar/model/registry.h"

static par_comm *pipe(const par__executor *e) {
    return e->params.mesh->axis[PAR_PP];
}
const void *par__executor_last_stash(const par__executor *e) {
    return e->last_stash;
}

par_status par__executor_times(const par__executor *e, int64_t walk, par__walk_result *out) {
    double seconds[PAR__TIMER_PHASES];
    PAR_TRY(par__timer_read(e->timer, walk, seconds));
    const par__walk_result *host = &e->results[walk & 1];
    out->walk = walk;
    out->load = host->load;
    out->total = seconds[PAR__TIME_WALK];
    out->forward = seconds[PAR__TIME_FORWARD];
    out->backward = seconds[PAR__TIME_BACKWARD];
    out->wait = e->params.backend->elapsed ? out->total - out->forward - out->backward : host->wait;
    return PAR_OK;
}

/* Phases by name. */
typedef struct {
    void (*visit)(void *user, const char *phase, double begin_s, double end_s);
    void *user;
} named_visit;

static void visit_named(void *user, int phase, double begin_s, double end_s) {
    static const char *const names[PAR__TIMER_PHASES] = {[PAR__TIME_WALK] = "walk",
                                                         [PAR__TIME_FORWARD] = "forward",
                                                         [PAR__TIME_BACKWARD] = "backward"};
    const named_visit *v = user;
    v->visit(v->user, names[phase], begin_s, end_s);
}

par_status par__executor_spans(const par__executor *e, int64_t walk, par_event *origin,
                               void (*visit)(void *user, const char *phase, double begin_s,
                                             double end_s),
                               void *user) {
    named_visit v = {visit, user};
    return par__timer_spans(e->timer, walk, origin, visit_named, &v);
}

/* Wait for a message and count the host's time. The work of a NULL comm is done. */
static par_status finish(par__executor *e, par_work *work) {
    double begin = par__seconds();
    PAR_TRY(par_work_wait(*work, e->params.stream));
    *work = (par_work){0};
    e->result->wait += par__seconds() - begin;
    return PAR_OK;
}

static par_call call_of(par__executor *e, const par__slot *s, const par_action *a) {
    return (par_call){.stream = e->params.stream,
                      .scratch = e->scratch,
                      .targets = s->targets,
                      .documents = s->documents,
                      .sample_base = e->walk.sample_base,
                      .first_sample = e->walk.first_sample + a->micro * e->walk.sample_stride,
                      .micro = a->micro,
                      .training = e->walk.training,
                      .loss_seed = e->walk.loss_seed,
                      .loss = par__is_last(e, a->chunk) ? e->losses + 2 * a->micro : NULL};
}

static par_status load(par__executor *e, const par_action *a, par__slot *s) {
    bool first = par__is_first(e, a->chunk), last = par__is_last(e, a->chunk);
    double begin = par__seconds();
    if (!first && !last && !s->documents) return PAR_OK;
    PAR_TRY(e->params.hooks.load(e->params.hooks.feed, a->micro, first ? s->x[0] : NULL, s->targets,
                                 s->documents));
    e->result->load += par__seconds() - begin;
    return PAR_OK;
}

/* For a report of a hang; layer -1: before or behind the modules. */
static void tell(const par__executor *e, const par_action *a, int layer) {
    if (e->params.recorder)
        par__flight_at(par__recorder_flight(e->params.recorder), a->act, a->chunk, a->micro, layer);
}

/* A span of the timeline that ends here; layer -1: an action. */
static void note(const par__executor *e, const par_action *a, const char *name, int layer,
                 int number, int64_t begin_ns) {
    par__timeline_add(e->params.stream->timeline,
                      (par__event){.begin_ns = begin_ns,
                                   .name = name,
                                   .number = number,
                                   .peer = -1,
                                   .kind = layer < 0 ? PAR__EVENT_ACTION : PAR__EVENT_MODULE,
                                   .layer = (int16_t)layer,
                                   .chunk = (int16_t)a->chunk,
                                   .micro = (int16_t)a->micro});
}

static int64_t now(const par__executor *e) {
    return par__timeline_now(e->params.stream->timeline);
}

/* A profiler's range around a module: "module 3 backward". */
static void range_begin(const par__executor *e, const par_module *module, const char *what) {
    char name[48];
    if (!e->params.backend->range_begin) return;
    snprintf(name, sizeof name, "module %d %s", module->layer, what);
    par_range_begin(e->params.backend, name);
}

/* Number in the chunk of a module's first sublayer. */
static int first_sublayer(const par__chunk *chunk, int module) {
    int n = 0;
    for (int i = 0; i < module; i++) n += par__sublayers(chunk->modules[i]);
    return n;
}

/* Sublayers [first, end) of a chunk in order. */
static par_status run_forward(par__executor *e, const par_action *a, par__slot *s, int first,
                              int end) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_call call = call_of(e, s, a);
    int next = 0; /* sublayer of the module behind i */
    for (int i = 0; i < chunk->n_modules && next < end; i++) {
        par_module *module = chunk->modules[i];
        par_tensor x = chunk->x[i], y = chunk->x[i + 1];
        int begins = next;
        next += par__sublayers(module);
        if (next <= first) continue;
        x.data = s->x[i];
        y.data = call.loss && i == chunk->n_modules - 1 ? call.loss : s->x[i + 1];
        call.stash = s->stash[i];
        tell(e, a, module->layer);
        range_begin(e, module, "forward");
        int64_t begin = now(e);
        par_status st = PAR_OK;
        for (int k = first > begins ? first : begins; st == PAR_OK && k < next && k < end; k++) {
            call.sublayer = (int16_t)(k - begins);
            st = module->ops->forward(module, &call, &x, &y);
        }
        note(e, a, a->act == PAR_BACKWARD ? "recompute" : "forward", module->layer, i, begin);
        par_range_end(e->params.backend);
        PAR_TRY(st);
    }
    return PAR_OK;
}

const float *par__executor_losses(const par__executor *e, int64_t *n) {
    *n = e->n_losses;
    return e->losses;
}

void par__executor_add_losses(const par__executor *e, par__walk_result *result) {
    for (int i = 0; i < e->n_losses; i++) {
        result->loss_sum += e->host_losses[2 * i];
        result->n_targets += e->host_losses[2 * i + 1];
    }
}

/* From the sublayer where the forward stands up to, without, a->sublayer; 0: to the end. The time
 * of one that is cut is that of its parts: between them it waits for weights. */
static par_status do_forward(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par__slot *s = &e->slots[a->chunk][a->slot];
    int n = first_sublayer(chunk, chunk->n_modules), end = a->sublayer > 0 ? a->sublayer : n;
    if (e->next_forward == 0) {
        PAR_TRY(finish(e, &s->recv));
        PAR_TRY(finish(e, &s->send));
        PAR_TRY(load(e, a, s));
    }
    PAR_TRY(par__timer_begin(e->timer, PAR__TIME_FORWARD, e->params.stream));
    PAR_TRY(run_forward(e, a, s, e->next_forward, end));
    PAR_TRY(par__timer_end(e->timer, PAR__TIME_FORWARD, e->params.stream));
    e->next_forward = end < n ? end : 0;
    if (end == n && par__is_last(e, a->chunk)) e->last_stash = s->stash[chunk->n_modules - 1];
    return PAR_OK;
}

/* The backward of module i through its sublayers [last, first]; the caller chose dy and dx, NULL
 * where there is none. */
static par_status module_backward(par__executor *e, const par_action *a, par__slot *s, int i,
                                  int last, int first, void *dy_data, void *dx_data) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_module *module = chunk->modules[i];
    par_tensor x = chunk->x[i], dx = chunk->x[i], dy = chunk->x[i + 1];
    par_call call = call_of(e, s, a);
    x.data = s->x[i];
    dx.data = dx_data;
    dy.data = dy_data;
    call.stash = s->stash[i];
    tell(e, a, module->layer);
    range_begin(e, module, "backward");
    int64_t begin = now(e);
    par_status st = PAR_OK;
    for (int k = last; st == PAR_OK && k >= first; k--) {
        call.sublayer = (int16_t)k;
        st = module->ops->backward(module, &call, &x, dy_data ? &dy : NULL, dx_data ? &dx : NULL);
    }
    note(e, a, "backward", module->layer, i, begin);
    par_range_end(e->params.backend);
    return st;
}

/* The received gradient of a micro-batch, waited for. */
static par_status received(par__executor *e, const par_action *a, void **dy) {
    for (int i = 0; i < e->n_grad_slots[a->chunk]; i++) {
        par__message *m = &e->grads[a->chunk][i];
        if (m->micro != a->micro) continue;
        PAR_TRY(finish(e, &m->work));
        m->micro = -1;
        *dy = m->data;
        return PAR_OK;
    }
    PAR_FAIL(PAR_ERR_INTERNAL, "no gradient was received for chunk %d, micro-batch %d", a->chunk,
             a->micro);
}

/* From the sublayer where the backward stands down to a->sublayer. The time of one that is cut
 * counts as a whole. */
static par_status do_backward(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par__slot *s = &e->slots[a->chunk][a->slot];
    par__message *out = &e->outgoing[e->next_outgoing];
    if (e->next_module < 0) {
        int n = first_sublayer(chunk, chunk->n_modules);
        e->next_dy = NULL;
        e->next_module = chunk->n_modules - 1;
        e->next_sublayer = n - 1;
        if (!par__is_last(e, a->chunk)) PAR_TRY(received(e, a, &e->next_dy));
        PAR_TRY(finish(e, &out->work));
        PAR_TRY(par__timer_begin(e->timer, PAR__TIME_BACKWARD, e->params.stream));
        if (e->params.recompute == PAR_RECOMPUTE_FULL) PAR_TRY(run_forward(e, a, s, 0, n));
    }
    while (e->next_sublayer >= a->sublayer) {
        int i = e->next_module, first = first_sublayer(chunk, i);
        int stop = first > a->sublayer ? first : a->sublayer;
        void *dx = i > 0 ? e->between[i & 1] : par__is_first(e, a->chunk) ? NULL : out->data;
        PAR_TRY(
            module_backward(e, a, s, i, e->next_sublayer - first, stop - first, e->next_dy, dx));
        e->next_sublayer = stop - 1;
        if (stop > first) return PAR_OK;
        e->next_module--;
        e->next_dy = dx;
    }
    if (e->next_module >= 0) return PAR_OK;
    PAR_TRY(par__timer_end(e->timer, PAR__TIME_BACKWARD, e->params.stream));
    if (par__is_first(e, a->chunk)) return PAR_OK;
    out->chunk = a->chunk;
    out->micro = a->micro;
    e->next_outgoing ^= 1;
    return PAR_OK;
}

static par_status do_send(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_tag tag = {a->grad ? "pipeline backward" : "pipeline forward", -1, a->chunk, a->micro};
    if (!a->grad) {
        par__slot *s = &e->slots[a->chunk][a->slot];
        par_tensor y = par__output_of(chunk);
        return par_comm_send(pipe(e), s->x[chunk->n_modules], par_tensor_n(&y), y.dtype, a->peer,
                             tag, e->params.stream, &s->send);
    }
    for (int i = 0; i < 2; i++) {
        par__message *m = &e->outgoing[i];
        if (m->chunk != a->chunk || m->micro != a->micro) continue;
        return par_comm_send(pipe(e), m->data, par_tensor_n(&chunk->x[0]), chunk->x[0].dtype,
                             a->peer, tag, e->params.stream, &m->work);
    }
    PAR_FAIL(PAR_ERR_INTERNAL, "no gradient of chunk %d, micro-batch %d is there to send", a->chunk,
             a->micro);
}

static par_status do_recv(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_tag tag = {a->grad ? "pipeline backward" : "pipeline forward", -1, a->chunk, a->micro};
    if (a->grad) {
        par__message *m = &e->grads[a->chunk][a->slot];
        par_tensor y = par__output_of(chunk);
        m->micro = a->micro;
        return par_comm_recv(pipe(e), m->data, par_tensor_n(&y), y.dtype, a->peer, tag,
                             e->params.stream, &m->work);
    }
    par__slot *s = &e->slots[a->chunk][a->slot];
    return par_comm_recv(pipe(e), s->x[0], par_tensor_n(&chunk->x[0]), chunk->x[0].dtype, a->peer,
                         tag, e->params.stream, &s->recv);
}

static par_status do_action(par__executor *e, const par_action *a) {
    static const char *const names[] = {
        [PAR_FORWARD] = "forward", [PAR_BACKWARD] = "backward", [PAR_SEND] = "send",
        [PAR_RECV] = "receive",    [PAR_REDUCE] = "reduce",     [PAR_GATHER] = "gather"};
    const par__executor_hooks *hooks = &e->params.hooks;
    par_status st = PAR_OK;
    bool cut = a->act == PAR_REDUCE || a->act == PAR_GATHER;
    int number = a->act == PAR_FORWARD ? e->next_forward : cut ? a->bucket : a->sublayer;
    int64_t begin = now(e);
    tell(e, a, -1);
    /* what communication is counted as; the gather of weights and the sum of gradients are where
     * the schedule has them */
    bool back = a->act == PAR_BACKWARD || a->act == PAR_REDUCE || a->grad;
    if (e->params.recorder && e->walk.training)
        par_recorder_phase(e->params.recorder, back ? "backward" : "forward");
    par_range_begin(e->params.backend, a->act <= PAR_GATHER ? names[a->act] : "unknown");
    switch (a->act) {
    case PAR_FORWARD: st = do_forward(e, a); break;
    case PAR_BACKWARD: st = do_backward(e, a); break;
    case PAR_SEND: st = do_send(e, a); break;
    case PAR_RECV: st = do_recv(e, a); break;
    case PAR_REDUCE: st = hooks->reduce(hooks->user, a->bucket); break;
    case PAR_GATHER: st = hooks->gather(hooks->user, a->bucket); break;
    default: st = par_error_set(PAR_ERR_INTERNAL, "the executor knows no action %d", a->act);
    }
    par_range_end(e->params.backend);
    if (a->act <= PAR_GATHER) note(e, a, names[a->act], -1, number, begin);
    return st;
}

static void begin_result(par__executor *e, int64_t number, double load) {
    e->result = &e->results[number & 1];
    *e->result = (par__walk_result){.walk = number, .load = load};
}

void par__executor_repeat(par__executor *e, int captured, double load, par__walk_result *out) {
    begin_result(e, par__timer_repeat(e->timer, captured), load);
    *out = *e->result;
}

void par__executor_forget(par__executor *e) {
    for (int c = 0; c < e->params.n_chunks; c++) {
        for (int i = 0; i < e->n_slots[c]; i++)
            e->slots[c][i].send = e->slots[c][i].recv = (par_work){0};
        for (int i = 0; i < e->n_grad_slots[c]; i++) e->grads[c][i].work = (par_work){0};
    }
    for (int i = 0; i < 2; i++) e->outgoing[i].work = (par_work){0};
}

par_status par__executor_walk(par__executor *e, const par_schedule *schedule, const par__walk *walk,
                              par__walk_result *out) {
    begin_result(e,
                 walk->captured ? par__timer_capture(e->timer, *walk->captured)
                                : par__timer_round(e->timer),
                 0);
    e->walk = *walk;
    e->n_losses = 0;
    e->next_forward = 0;
    e->next_module = -1;
    for (int i = 0; i < 2; i++) e->outgoing[i].micro = -1;
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_grad_slots[c]; i++) e->grads[c][i].micro = -1;
    PAR_TRY(par__timer_begin(e->timer, PAR__TIME_WALK, e->params.stream));
    for (int i = 0; i < schedule->n; i++) {
        PAR_TRY(do_action(e, &schedule->actions[i]));
        e->params.stream->progress(e->params.stream->user);
    }
    /* sends that nobody has waited for yet */
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_slots[c]; i++) PAR_TRY(finish(e, &e->slots[c][i].send));
    for (int i = 0; i < 2; i++) PAR_TRY(finish(e, &e->outgoing[i].work));
    if (e->params.recorder && walk->training) par_recorder_phase(e->params.recorder, "update");
    /* all losses in one copy, which the caller's wait for the stream ends; a training step's are
     * read on the device */
    if (e->losses) e->n_losses = schedule->m;
    if (e->losses && !walk->training)
        PAR_TRY(e->params.backend->copy(e->params.stream, e->host_losses, e->losses,
                                        2 * sizeof(float) * (size_t)schedule->m));
    PAR_TRY(par__timer_end(e->timer, PAR__TIME_WALK, e->params.stream));
    *out = *e->result;
    return PAR_OK;
}
