/*
 * Making an executor: slots for as many micro-batches as its schedules have under way, the messages
 * between stages, losses. With full recompute all slots share one stash.
 */
#include "executor_slots.h"

#include <stdlib.h>

static size_t targets_nbytes(const par__executor *e) {
    return par_tensor_nbytes(&e->params.model->targets) * (size_t)e->params.micro_batch;
}

static size_t documents_nbytes(const par__executor *e) {
    return e->params.apart ? (size_t)(par_tensor_n(&e->params.model->x) * e->params.micro_batch) *
                                 sizeof(int32_t)
                           : 0;
}

static par_status slot_init(par__executor *e, par_memory *memory, int c, par__slot *s) {
    const par__chunk *chunk = &e->params.chunks[c];
    int k = chunk->n_modules;
    s->x = calloc((size_t)k + 1, sizeof *s->x);
    s->stash = calloc((size_t)k, sizeof *s->stash);
    if (!s->x || !s->stash) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a slot of %d modules", k);
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", par_tensor_nbytes(&chunk->x[0]),
                            &s->x[0]));
    if (e->params.apart)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", documents_nbytes(e),
                                &s->documents));
    if (par__is_last(e, c))
        PAR_TRY(
            par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", targets_nbytes(e), &s->targets));
    else
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots",
                                par_tensor_nbytes(&chunk->x[k]), &s->x[k]));
    if (e->params.recompute == PAR_RECOMPUTE_FULL) return PAR_OK;
    for (int i = 1; i < k; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots",
                                par_tensor_nbytes(&chunk->x[i]), &s->x[i]));
    for (int i = 0; i < k; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", chunk->stash_nbytes[i],
                                &s->stash[i]));
    return PAR_OK;
}

static void point_into(char *shared, const par__chunk *chunk, par__slot *s) {
    for (int i = 1; i < chunk->n_modules; i++) {
        s->x[i] = shared;
        shared += (par_tensor_nbytes(&chunk->x[i]) + 255) / 256 * 256;
    }
    for (int i = 0; i < chunk->n_modules; i++) {
        s->stash[i] = shared;
        shared += (chunk->stash_nbytes[i] + 255) / 256 * 256;
    }
}

/* For the ledger: what of `n` slots, or of the shared area, is for which module's input and
 * stash. */
static par_status tell_inner(par_memory *memory, const par__chunk *chunk, const char *what,
                             size_t n) {
    for (int i = 0; chunk->told && i < chunk->n_modules; i++) {
        const par__module_memory *m = &chunk->told[i];
        size_t rest = chunk->stash_nbytes[i];
        if (i > 0)
            PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, what, m->layer, "input",
                                    n * par_tensor_nbytes(&chunk->x[i])));
        for (int k = 0; k < m->n_kept; k++) {
            size_t nbytes = m->kept[k].nbytes < rest ? m->kept[k].nbytes : rest;
            PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, what, m->layer, m->kept[k].name,
                                    n * nbytes));
            rest -= nbytes;
        }
        PAR_TRY(
            par_memory_tell(memory, PAR_MEM_ACTIVATIONS, what, m->layer, "other stash", n * rest));
    }
    return PAR_OK;
}

static par_status tell_slots(const par__executor *e, par_memory *memory, int c) {
    const par__chunk *chunk = &e->params.chunks[c];
    size_t n = (size_t)e->n_slots[c];
    if (!chunk->told) return PAR_OK;
    const char *first = chunk->told[0].layer, *last = chunk->told[chunk->n_modules - 1].layer;
    par_tensor y = par__output_of(chunk);
    PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "slots", first, "input",
                            n * par_tensor_nbytes(&chunk->x[0])));
    if (e->params.apart)
        PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "slots", first, "documents",
                                n * documents_nbytes(e)));
    if (par__is_last(e, c))
        PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "slots", last, "targets",
                                n * targets_nbytes(e)));
    else
        PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "slots", last, "output",
                                n * par_tensor_nbytes(&y)));
    if (e->n_grad_slots[c])
        PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "received gradients", last,
                                "gradient of the output",
                                (size_t)e->n_grad_slots[c] * par_tensor_nbytes(&y)));
    return e->params.recompute == PAR_RECOMPUTE_FULL ? PAR_OK
                                                     : tell_inner(memory, chunk, "slots", n);
}

/* Full recompute: one area for all slots of all chunks, as large as the largest chunk needs. */
static par_status share_inner(par__executor *e, par_memory *memory) {
    size_t nbytes = 0;
    void *shared = NULL;
    const par__chunk *largest = &e->params.chunks[0];
    for (int c = 0; c < e->params.n_chunks; c++) {
        const par__chunk *chunk = &e->params.chunks[c];
        size_t n = 0;
        for (int i = 1; i < chunk->n_modules; i++)
            n += (par_tensor_nbytes(&chunk->x[i]) + 255) / 256 * 256;
        for (int i = 0; i < chunk->n_modules; i++) n += (chunk->stash_nbytes[i] + 255) / 256 * 256;
        if (n > nbytes) largest = chunk, nbytes = n;
    }
    PAR_TRY(tell_inner(memory, largest, "recomputed activations", 1));
    PAR_TRY(
        par_memory_take(memory, PAR_MEM_ACTIVATIONS, "recomputed activations", nbytes, &shared));
    if (!shared) return PAR_OK;
    for (int c = 0; c < e->params.n_chunks; c++)
        for (int i = 0; i < e->n_slots[c]; i++)
            point_into(shared, &e->params.chunks[c], &e->slots[c][i]);
    return PAR_OK;
}

static par_status take_slots(par__executor *e, par_memory *memory, int c) {
    e->slots[c] = calloc((size_t)e->n_slots[c], sizeof *e->slots[c]);
    e->grads[c] = calloc((size_t)e->n_grad_slots[c] + 1, sizeof *e->grads[c]);
    if (!e->slots[c] || !e->grads[c])
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d slots", e->n_slots[c]);
    for (int i = 0; i < e->n_slots[c]; i++) PAR_TRY(slot_init(e, memory, c, &e->slots[c][i]));
    par_tensor y = par__output_of(&e->params.chunks[c]);
    for (int i = 0; i < e->n_grad_slots[c]; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "received gradients",
                                par_tensor_nbytes(&y), &e->grads[c][i].data));
    return tell_slots(e, memory, c);
}

static par_status take_gradients(par__executor *e, par_memory *memory) {
    size_t inner = 0, outgoing = 0;
    for (int c = 0; c < e->params.n_chunks; c++) {
        const par__chunk *chunk = &e->params.chunks[c];
        for (int i = 1; i < chunk->n_modules; i++)
            if (par_tensor_nbytes(&chunk->x[i]) > inner) inner = par_tensor_nbytes(&chunk->x[i]);
        if (!par__is_first(e, c) && par_tensor_nbytes(&chunk->x[0]) > outgoing)
            outgoing = par_tensor_nbytes(&chunk->x[0]);
    }
    for (int i = 0; i < 2; i++) {
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "gradients between modules", inner,
                                &e->between[i]));
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "sent gradients", outgoing,
                                &e->outgoing[i].data));
    }
    return PAR_OK;
}

/* The losses of a walk stay on the device until all are there. */
static par_status take_losses(par__executor *e, par_memory *memory) {
    void *losses = NULL, *host = NULL;
    for (int s = 0; s < e->params.n_schedules; s++)
        if (e->params.schedules[s]->m > e->max_micro) e->max_micro = e->params.schedules[s]->m;
    if (!par__is_last(e, e->params.n_chunks - 1)) return PAR_OK;
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
        for (int i = 0; i < schedule->n; i++) {
            const par_action *a = &schedule->actions[i];
            n += a->act == PAR_FORWARD || (a->act == PAR_BACKWARD && a->sublayer == 0);
        }
        if (n > most) most = n;
    }
    return par__timer_create(e->params.backend, most, &e->timer);
}

par_status par__executor_create(const par__executor_params *params, par_memory *memory,
                                par__executor **out) {
    par_status st = PAR_OK;
    par__executor *e = calloc(1, sizeof *e);
    if (!e) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the executor");
    e->params = *params;
    for (int s = 0; s < params->n_schedules; s++)
        for (int c = 0; c < params->n_chunks; c++) {
            const par_schedule *schedule = params->schedules[s];
            if (schedule->n_slots[c] > e->n_slots[c]) e->n_slots[c] = schedule->n_slots[c];
            if (schedule->n_grad_slots[c] > e->n_grad_slots[c])
                e->n_grad_slots[c] = schedule->n_grad_slots[c];
        }
    for (int c = 0; c < params->n_chunks; c++) PAR_TRY_GOTO(take_slots(e, memory, c), out_executor);
    if (params->recompute == PAR_RECOMPUTE_FULL) PAR_TRY_GOTO(share_inner(e, memory), out_executor);
    PAR_TRY_GOTO(take_gradients(e, memory), out_executor);
    PAR_TRY_GOTO(take_losses(e, memory), out_executor);
    PAR_TRY_GOTO(
        par_memory_take(memory, PAR_MEM_SCRATCH, "modules", params->scratch_nbytes, &e->scratch),
        out_executor);
    const char *layer = params->scratch_layer ? params->scratch_layer : "";
    PAR_TRY_GOTO(par_memory_tell(memory, PAR_MEM_SCRATCH, "modules", layer, "workspace of kernels",
                                 params->workspace_nbytes),
                 out_executor);
    PAR_TRY_GOTO(par_memory_tell(memory, PAR_MEM_SCRATCH, "modules", layer, "between operations",
                                 params->scratch_nbytes - params->workspace_nbytes),
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
