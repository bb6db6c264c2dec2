/* The pipeline executor: slots, messages between stages, and the walk over a schedule. See executor.h. */
#include "executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"
#include "timer.h"

/* Phases of the timer. A walk is the round of its number. */
enum { WALK, FORWARD, BACKWARD };

typedef struct {
    void **x;      /* [n_modules + 1] data of inputs and output; inner ones shared under full recompute */
    void **stash;  /* [n_modules] */
    void *targets; /* last part only */
    par_work recv, send;
} slot;

typedef struct {
    void *data;
    par_work work;
    int16_t chunk, micro; /* what it holds; micro -1: nothing */
} message;

struct par__executor {
    par__executor_params params;
    int n_slots[PAR__MAX_CHUNKS], n_grad_slots[PAR__MAX_CHUNKS];
    slot *slots[PAR__MAX_CHUNKS];
    message *grads[PAR__MAX_CHUNKS]; /* received dy */
    message outgoing[2];             /* sent dx, used in turn */
    int next_outgoing;
    void *between[2]; /* dy and dx between modules */
    void *scratch;
    int n_backward[PAR__MAX_CHUNKS]; /* in this walk */
    const void *last_stash;
    float *losses, *host_losses; /* [max_micro][2] of the last module, on the device and on the host; NULL
                                    but on the last stage */
    int max_micro, n_losses;     /* of any schedule; of the last walk */
    par_status load_status;
    par__walk walk;
    par__timer *timer;           /* NULL while measuring */
    par__walk_result results[2]; /* of walk k in k mod 2: the host's figures, and the number */
    par__walk_result *result;    /* of this walk */
};

static par_comm *pipe(const par__executor *e) {
    return e->params.mesh->axis[PAR_PP];
}
static int stage(const par__executor *e) {
    return e->params.mesh->coordinate[PAR_PP];
}
static int n_stages(const par__executor *e) {
    return e->params.mesh->layout.size[PAR_PP];
}
static bool is_first(const par__executor *e, int chunk) {
    return stage(e) == 0 && chunk == 0;
}
static bool is_last(const par__executor *e, int chunk) {
    return stage(e) == n_stages(e) - 1 && chunk == e->params.n_chunks - 1;
}

static par_tensor output_of(const par__chunk *chunk) {
    return chunk->x[chunk->n_modules];
}

static size_t targets_nbytes(const par__executor *e) {
    return par_tensor_nbytes(&e->params.model->targets) * (size_t)e->params.micro_batch;
}

/* Inner tensors and stashes of one micro-batch of a chunk, into `s`. */
static par_status take_inner(par__executor *e, par_memory *memory, int c, const char *what, slot *s) {
    const par__chunk *chunk = &e->params.chunks[c];
    for (int i = 1; i < chunk->n_modules; i++)
        PAR_TRY(
            par_memory_take(memory, PAR_MEM_ACTIVATIONS, what, par_tensor_nbytes(&chunk->x[i]), &s->x[i]));
    for (int i = 0; i < chunk->n_modules; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, what, chunk->stash_nbytes[i], &s->stash[i]));
    return PAR_OK;
}

static par_status slot_init(par__executor *e, par_memory *memory, int c, slot *s) {
    const par__chunk *chunk = &e->params.chunks[c];
    int k = chunk->n_modules;
    s->x = calloc((size_t)k + 1, sizeof *s->x);
    s->stash = calloc((size_t)k, sizeof *s->stash);
    if (!s->x || !s->stash) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a slot of %d modules", k);
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", par_tensor_nbytes(&chunk->x[0]), &s->x[0]));
    if (is_last(e, c))
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", targets_nbytes(e), &s->targets));
    else
        PAR_TRY(
            par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", par_tensor_nbytes(&chunk->x[k]), &s->x[k]));
    if (e->params.recompute == PAR_RECOMPUTE_FULL) return PAR_OK;
    return take_inner(e, memory, c, "slots", s);
}

/* Full recompute: one area for all slots of all chunks, as large as the largest chunk needs. */
static size_t inner_nbytes(const par__chunk *chunk) {
    size_t nbytes = 0;
    for (int i = 1; i < chunk->n_modules; i++) nbytes += (par_tensor_nbytes(&chunk->x[i]) + 255) / 256 * 256;
    for (int i = 0; i < chunk->n_modules; i++) nbytes += (chunk->stash_nbytes[i] + 255) / 256 * 256;
    return nbytes;
}

static void point_into(char *shared, const par__chunk *chunk, slot *s) {
    for (int i = 1; i < chunk->n_modules; i++) {
        s->x[i] = shared;
        shared += (par_tensor_nbytes(&chunk->x[i]) + 255) / 256 * 256;
    }
    for (int i = 0; i < chunk->n_modules; i++) {
        s->stash[i] = shared;
        shared += (chunk->stash_nbytes[i] + 255) / 256 * 256;
    }
}

static par_status share_inner(par__executor *e, par_memory *memory) {
    size_t nbytes = 0;
    void *shared = NULL;
    for (int c = 0; c < e->params.n_chunks; c++) {
        size_t n = inner_nbytes(&e->params.chunks[c]);
        if (n > nbytes) nbytes = n;
    }
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "recomputed activations", nbytes, &shared));
    if (!shared) return PAR_OK;
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_slots[c]; i++) point_into(shared, &e->params.chunks[c], &e->slots[c][i]);
    return PAR_OK;
}

static par_status take_slots(par__executor *e, par_memory *memory, int c) {
    e->slots[c] = calloc((size_t)e->n_slots[c], sizeof *e->slots[c]);
    e->grads[c] = calloc((size_t)e->n_grad_slots[c] + 1, sizeof *e->grads[c]);
    if (!e->slots[c] || !e->grads[c]) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d slots", e->n_slots[c]);
    for (int i = 0; i < e->n_slots[c]; i++) PAR_TRY(slot_init(e, memory, c, &e->slots[c][i]));
    par_tensor y = output_of(&e->params.chunks[c]);
    for (int i = 0; i < e->n_grad_slots[c]; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "received gradients", par_tensor_nbytes(&y),
                                &e->grads[c][i].data));
    return PAR_OK;
}

static par_status take_gradients(par__executor *e, par_memory *memory) {
    size_t inner = 0, outgoing = 0;
    for (int c = 0; c < e->params.n_chunks; c++) {
        const par__chunk *chunk = &e->params.chunks[c];
        for (int i = 1; i < chunk->n_modules; i++)
            if (par_tensor_nbytes(&chunk->x[i]) > inner) inner = par_tensor_nbytes(&chunk->x[i]);
        if (!is_first(e, c) && par_tensor_nbytes(&chunk->x[0]) > outgoing)
            outgoing = par_tensor_nbytes(&chunk->x[0]);
    }
    for (int i = 0; i < 2; i++) {
        PAR_TRY(
            par_memory_take(memory, PAR_MEM_ACTIVATIONS, "gradients between modules", inner, &e->between[i]));
        PAR_TRY(
            par_memory_take(memory, PAR_MEM_ACTIVATIONS, "sent gradients", outgoing, &e->outgoing[i].data));
    }
    return PAR_OK;
}

/* The losses of a walk stay on the device until all are there. */
static par_status take_losses(par__executor *e, par_memory *memory) {
    void *losses = NULL, *host = NULL;
    for (int s = 0; s < e->params.n_schedules; s++)
        if (e->params.schedules[s]->m > e->max_micro) e->max_micro = e->params.schedules[s]->m;
    if (!is_last(e, e->params.n_chunks - 1)) return PAR_OK;
    size_t nbytes = 2 * sizeof(float) * (size_t)e->max_micro;
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "losses", nbytes, &losses));
    PAR_TRY(par_memory_take(memory, PAR_MEM_DATA, "losses", nbytes, &host));
    e->losses = losses;
    e->host_losses = host;
    return PAR_OK;
}

static par_status create_timer(par__executor *e) {
    int most = 0;
    for (int s = 0; s < e->params.n_schedules; s++) {
        const par_schedule *schedule = e->params.schedules[s];
        int n = 1; /* the walk */
        for (int i = 0; i < schedule->n; i++)
            n += schedule->actions[i].act == PAR_FORWARD || schedule->actions[i].act == PAR_BACKWARD;
        if (n > most) most = n;
    }
    return par__timer_create(e->params.backend, most, &e->timer);
}

static void count_slots(par__executor *e) {
    for (int s = 0; s < e->params.n_schedules; s++)
        for (int c = 0; c < e->params.n_chunks; c++) {
            const par_schedule *schedule = e->params.schedules[s];
            if (schedule->n_slots[c] > e->n_slots[c]) e->n_slots[c] = schedule->n_slots[c];
            if (schedule->n_grad_slots[c] > e->n_grad_slots[c])
                e->n_grad_slots[c] = schedule->n_grad_slots[c];
        }
}

par_status par__executor_create(const par__executor_params *params, par_memory *memory, par__executor **out) {
    par_status st = PAR_OK;
    par__executor *e = calloc(1, sizeof *e);
    if (!e) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the executor");
    e->params = *params;
    count_slots(e);
    for (int c = 0; c < params->n_chunks; c++) PAR_TRY_GOTO(take_slots(e, memory, c), out_executor);
    if (params->recompute == PAR_RECOMPUTE_FULL) PAR_TRY_GOTO(share_inner(e, memory), out_executor);
    PAR_TRY_GOTO(take_gradients(e, memory), out_executor);
    PAR_TRY_GOTO(take_losses(e, memory), out_executor);
    PAR_TRY_GOTO(par_memory_take(memory, PAR_MEM_SCRATCH, "modules", params->scratch_nbytes, &e->scratch),
                 out_executor);
    if (!par_memory_measuring(memory)) PAR_TRY_GOTO(create_timer(e), out_executor);
    *out = e;
    return PAR_OK;
out_executor:
    par__executor_destroy(&e);
    return st;
}

void par__executor_destroy(par__executor **handle) {
    par__executor *e = *handle;
    if (!e) return;
    par__timer_destroy(&e->timer);
    for (int c = 0; c < e->params.n_chunks; c++) {
        for (int i = 0; e->slots[c] && i < e->n_slots[c]; i++) {
            free(e->slots[c][i].x);
            free(e->slots[c][i].stash);
        }
        free(e->slots[c]);
        free(e->grads[c]);
    }
    free(e);
    *handle = NULL;
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
    out->total = seconds[WALK];
    out->forward = seconds[FORWARD];
    out->backward = seconds[BACKWARD];
    out->wait = e->params.backend->elapsed ? out->total - out->forward - out->backward : host->wait;
    return PAR_OK;
}

/* Wait for a message and count the host's time. The work of a NULL comm is done. */
static par_status finish(par__executor *e, par_work *work) {
    double begin = par__seconds();
    PAR_TRY(par_work_wait(*work, e->params.stream));
    *work = (par_work){0};
    e->result->wait += par__seconds() - begin;
    return PAR_OK;
}

static par_call call_of(par__executor *e, const slot *s, const par_action *a) {
    return (par_call){.stream = e->params.stream,
                      .scratch = e->scratch,
                      .targets = s->targets,
                      .sample_base = e->walk.sample_base,
                      .first_sample = e->walk.first_sample + a->micro * e->walk.sample_stride,
                      .micro = a->micro,
                      .training = e->walk.training,
                      .loss_seed = e->walk.loss_seed};
}

static void load(par__executor *e, const par_action *a, slot *s) {
    bool first = is_first(e, a->chunk), last = is_last(e, a->chunk);
    double begin = par__seconds();
    if (!first && !last) return;
    par_status st = e->params.hooks.load(e->params.hooks.user, a->micro, first ? s->x[0] : NULL, s->targets);
    if (st != PAR_OK && e->load_status == PAR_OK) e->load_status = st;
    e->result->load += par__seconds() - begin;
}

/* A profiler's range around a module: "module 3 backward". */
static void range_begin(const par__executor *e, const par_module *module, const char *what) {
    char name[48];
    if (!e->params.backend->range_begin) return;
    snprintf(name, sizeof name, "module %d %s", module->layer, what);
    par_range_begin(e->params.backend, name);
}

/* All modules of a chunk in order. */
static par_status run_forward(par__executor *e, const par_action *a, slot *s) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_call call = call_of(e, s, a);
    for (int i = 0; i < chunk->n_modules; i++) {
        par_tensor x = chunk->x[i], y = chunk->x[i + 1];
        x.data = s->x[i];
        y.data = is_last(e, a->chunk) && i == chunk->n_modules - 1 ? e->losses + 2 * a->micro : s->x[i + 1];
        call.stash = s->stash[i];
        range_begin(e, chunk->modules[i], "forward");
        par_status st = chunk->modules[i]->ops->forward(chunk->modules[i], &call, &x, &y);
        par_range_end(e->params.backend);
        PAR_TRY(st);
    }
    return PAR_OK;
}

/* All losses of the walk in one copy, which the caller's wait for the stream ends. A training step's are
 * read on the device. */
static par_status copy_losses(par__executor *e, int m) {
    if (!e->losses) return PAR_OK;
    e->n_losses = m;
    if (e->walk.training) return PAR_OK;
    return e->params.backend->copy(e->params.stream, e->host_losses, e->losses,
                                   2 * sizeof(float) * (size_t)m);
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

static par_status do_forward(par__executor *e, const par_action *a) {
    slot *s = &e->slots[a->chunk][a->slot];
    PAR_TRY(finish(e, &s->recv));
    PAR_TRY(finish(e, &s->send));
    load(e, a, s);
    PAR_TRY(par__timer_begin(e->timer, FORWARD, e->params.stream));
    PAR_TRY(run_forward(e, a, s));
    if (is_last(e, a->chunk)) e->last_stash = s->stash[e->params.chunks[a->chunk].n_modules - 1];
    return par__timer_end(e->timer, FORWARD, e->params.stream);
}

/* One module's backward; the caller chose dy and dx, NULL where there is none. */
static par_status module_backward(par__executor *e, const par_action *a, slot *s, int i, void *dy_data,
                                  void *dx_data) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_module *module = chunk->modules[i];
    par_tensor x = chunk->x[i], dx = chunk->x[i], dy = chunk->x[i + 1];
    par_call call = call_of(e, s, a);
    const par_tensor *dy_or_none = dy_data ? &dy : NULL;
    x.data = s->x[i];
    dx.data = dx_data;
    dy.data = dy_data;
    call.stash = s->stash[i];
    range_begin(e, module, "backward");
    par_status st = module->ops->backward(module, &call, &x, dy_or_none, dx_data ? &dx : NULL);
    if (st == PAR_OK && module->ops->weight) st = module->ops->weight(module, &call, &x, dy_or_none);
    par_range_end(e->params.backend);
    return st;
}

/* The received gradient of a micro-batch, waited for. */
static par_status received(par__executor *e, const par_action *a, void **dy) {
    for (int i = 0; i < e->n_grad_slots[a->chunk]; i++) {
        message *m = &e->grads[a->chunk][i];
        if (m->micro != a->micro) continue;
        PAR_TRY(finish(e, &m->work));
        m->micro = -1;
        *dy = m->data;
        return PAR_OK;
    }
    PAR_FAIL(PAR_ERR_INTERNAL, "no gradient was received for chunk %d, micro-batch %d", a->chunk, a->micro);
}

static par_status do_backward(par__executor *e, const par_action *a, int m) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    slot *s = &e->slots[a->chunk][a->slot];
    message *out = &e->outgoing[e->next_outgoing];
    bool final = ++e->n_backward[a->chunk] == m;
    void *dy = NULL;
    if (!is_last(e, a->chunk)) PAR_TRY(received(e, a, &dy));
    PAR_TRY(finish(e, &out->work));
    PAR_TRY(par__timer_begin(e->timer, BACKWARD, e->params.stream));
    if (e->params.recompute == PAR_RECOMPUTE_FULL) PAR_TRY(run_forward(e, a, s));
    for (int i = chunk->n_modules - 1; i >= 0; i--) {
        void *dx = i > 0 ? e->between[i & 1] : is_first(e, a->chunk) ? NULL : out->data;
        PAR_TRY(module_backward(e, a, s, i, dy, dx));
        if (final) PAR_TRY(e->params.hooks.module_done(e->params.hooks.user, a->chunk, i));
        dy = dx;
    }
    PAR_TRY(par__timer_end(e->timer, BACKWARD, e->params.stream));
    if (is_first(e, a->chunk)) return PAR_OK;
    out->chunk = a->chunk;
    out->micro = a->micro;
    e->next_outgoing ^= 1;
    return PAR_OK;
}

static par_status do_send(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_tag tag = {a->grad ? "pipeline backward" : "pipeline forward", -1, a->chunk, a->micro};
    if (!a->grad) {
        slot *s = &e->slots[a->chunk][a->slot];
        par_tensor y = output_of(chunk);
        return par_comm_send(pipe(e), s->x[chunk->n_modules], par_tensor_n(&y), y.dtype, a->peer, tag,
                             e->params.stream, &s->send);
    }
    for (int i = 0; i < 2; i++) {
        message *m = &e->outgoing[i];
        if (m->chunk != a->chunk || m->micro != a->micro) continue;
        return par_comm_send(pipe(e), m->data, par_tensor_n(&chunk->x[0]), chunk->x[0].dtype, a->peer, tag,
                             e->params.stream, &m->work);
    }
    PAR_FAIL(PAR_ERR_INTERNAL, "no gradient of chunk %d, micro-batch %d is there to send", a->chunk,
             a->micro);
}

static par_status do_recv(par__executor *e, const par_action *a) {
    const par__chunk *chunk = &e->params.chunks[a->chunk];
    par_tag tag = {a->grad ? "pipeline backward" : "pipeline forward", -1, a->chunk, a->micro};
    if (a->grad) {
        message *m = &e->grads[a->chunk][a->slot];
        par_tensor y = output_of(chunk);
        m->micro = a->micro;
        return par_comm_recv(pipe(e), m->data, par_tensor_n(&y), y.dtype, a->peer, tag, e->params.stream,
                             &m->work);
    }
    slot *s = &e->slots[a->chunk][a->slot];
    return par_comm_recv(pipe(e), s->x[0], par_tensor_n(&chunk->x[0]), chunk->x[0].dtype, a->peer, tag,
                         e->params.stream, &s->recv);
}

static par_status act(par__executor *e, const par_action *a, int m) {
    const par__executor_hooks *hooks = &e->params.hooks;
    switch (a->act) {
    case PAR_FORWARD: return do_forward(e, a);
    case PAR_BACKWARD: return do_backward(e, a, m);
    case PAR_SEND: return do_send(e, a);
    case PAR_RECV: return do_recv(e, a);
    case PAR_REDUCE: return hooks->reduce(hooks->user, a->bucket);
    case PAR_GATHER: return hooks->gather(hooks->user, a->bucket);
    default: PAR_FAIL(PAR_ERR_INTERNAL, "the executor knows no action %d", a->act);
    }
}

static par_status do_action(par__executor *e, const par_action *a, int m) {
    static const char *const names[] = {
        [PAR_FORWARD] = "forward", [PAR_BACKWARD] = "backward", [PAR_WEIGHT] = "weight", [PAR_SEND] = "send",
        [PAR_RECV] = "receive",    [PAR_REDUCE] = "reduce",     [PAR_GATHER] = "gather"};
    par_range_begin(e->params.backend, a->act <= PAR_GATHER ? names[a->act] : "unknown");
    par_status st = act(e, a, m);
    par_range_end(e->params.backend);
    return st;
}

/* Sends that nobody has waited for yet. */
static par_status drain(par__executor *e) {
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_slots[c]; i++) PAR_TRY(finish(e, &e->slots[c][i].send));
    for (int i = 0; i < 2; i++) PAR_TRY(finish(e, &e->outgoing[i].work));
    return PAR_OK;
}

static par_status begin_walk(par__executor *e, const par__walk *walk) {
    int64_t number = par__timer_round(e->timer);
    e->walk = *walk;
    e->result = &e->results[number & 1];
    *e->result = (par__walk_result){.walk = number};
    e->load_status = PAR_OK;
    e->n_losses = 0;
    memset(e->n_backward, 0, sizeof e->n_backward);
    for (int i = 0; i < 2; i++) e->outgoing[i].micro = -1;
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_grad_slots[c]; i++) e->grads[c][i].micro = -1;
    return par__timer_begin(e->timer, WALK, e->params.stream);
}

par_status par__executor_walk(par__executor *e, const par_schedule *schedule, const par__walk *walk,
                              par__walk_result *out) {
    PAR_TRY(begin_walk(e, walk));
    for (int i = 0; i < schedule->n; i++) {
        PAR_TRY(do_action(e, &schedule->actions[i], schedule->m));
        e->params.stream->progress(e->params.stream->user);
    }
    PAR_TRY(drain(e));
    PAR_TRY(copy_losses(e, schedule->m));
    PAR_TRY(par__timer_end(e->timer, WALK, e->params.stream));
    *out = *e->result;
    return e->load_status;
}
