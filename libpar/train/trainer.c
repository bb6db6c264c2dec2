/* The trainer's life: plan, create, destroy, and what others may look at. */
#include "trainer.h"

#include <stdio.h>
#include <string.h>

#include "collectives/internal.h"
#include "libpar/base/record.h"
#include "libpar/base/threads.h"
#include "par/transformer.h"

static par_status checked(const par_trainer_params *params, int world_size) {
    par_problems problems = {0};
    PAR_REQUIRE(params && params->model);
    par_trainer_check(params, world_size, &problems);
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

/* The transport is like the one that will be: staging depends on its pieces and its link. */
par_status par__planned_begin(const par_trainer_params *params,
                              const par_transport_params *transport_params, int world_size,
                              int rank, par__planned *p) {
    *p = (par__planned){0};
    PAR_REQUIRE(rank >= 0 && rank < world_size);
    PAR_TRY(checked(params, world_size));
    PAR_TRY(par_transport_create_measuring(transport_params, world_size, rank, &p->transport));
    PAR_TRY(par_memory_create_measuring(&p->memory));
    return par__trainer_build(p->transport, params, p->memory, &p->trainer);
}

void par__planned_end(par__planned *p) {
    par__trainer_free(&p->trainer);
    par_memory_destroy(&p->memory);
    par_transport_destroy(&p->transport);
}

static par_status plan(const par_trainer_params *params,
                       const par_transport_params *transport_params, int world_size, int rank,
                       par_memory **out) {
    par__planned p;
    PAR_REQUIRE(out);
    par_status st = par__planned_begin(params, transport_params, world_size, rank, &p);
    if (st == PAR_OK) *out = p.memory, p.memory = NULL;
    par__planned_end(&p);
    return st;
}

par_status par_trainer_plan(const par_trainer_params *params,
                            const par_transport_params *transport_params, int world_size, int rank,
                            par_memory **out) {
    par__threads_plan(world_size);
    par_status st = plan(params, transport_params, world_size, rank, out);
    par__threads_plan(0);
    return st;
}

/* The memory becomes the trainer's. Links between devices are made here, by all of a group's ranks
 * together: what fails on this rank alone leaves the others waiting there, before they come to an
 * agreement. */
static par_status build(par_transport *transport, const par_trainer_params *params,
                        par_memory **memory, par_trainer **out) {
    const par_backend *backend = NULL;
    par_status st = par__trainer_build(transport, params, *memory, out);
    if (st == PAR_OK) *memory = NULL;
    bool alone = st == PAR_ERR_MEMORY || st == PAR_ERR_DEVICE || st == PAR_ERR_INTERNAL;
    if (!alone) return st;
    char why[PAR_ERROR_NBYTES];
    snprintf(why, sizeof why, "%s", par_error());
    bool links = par__trainer_backend(params, &backend) == PAR_OK && !backend->on_host;
    return links ? par_transport_abort(transport, st, why) : par_error_set(st, "%s", why);
}

par_status par_trainer_create(par_transport *transport, const par_trainer_params *params,
                              par_trainer **out) {
    const par_backend *backend = NULL;
    par_comm *world = NULL;
    par_memory *planned = NULL, *memory = NULL;
    par_trainer *t = NULL;
    PAR_REQUIRE(transport && out);
    par__flight *flight = par__recorder_flight(par_transport_recorder(transport));
    flight->phase = PAR__PHASE_CREATE;
    /* for the agreement before the trainer has a communicator; without it there is none */
    par_status st = par_comm_create(transport, &(par_comm_params){.axis = "create"}, NULL, &world);
    if (st != PAR_OK) return par_transport_abort(transport, st, par_error());
    st = par__params_equal(world, params);
    if (st == PAR_OK) st = checked(params, transport->size);
    if (st != PAR_OK) {
        par_comm_destroy(&world);
        flight->phase = PAR__PHASE_OUTSIDE;
        return st;
    }
    /* what may fail on one rank alone, before anything is collective */
    st = par__trainer_backend(params, &backend);
    if (st == PAR_OK)
        st = plan(params, &transport->params, transport->size, transport->rank, &planned);
    if (st == PAR_OK)
        st = par_memory_create(&backend->memory, &backend->host_memory, planned, &memory);
    par_memory_destroy(&planned);
    st = par_comm_agree(world, st);
    if (st == PAR_OK) st = par_comm_agree(world, build(transport, params, &memory, &t));
    if (st == PAR_OK) st = par_comm_agree(world, par__check_coverage(&t->on, t->flat.registry));
    if (st == PAR_OK && !params->undrawn) st = par_comm_agree(world, par__trainer_draw(t));
    par_comm_destroy(&world);
    flight->phase = PAR__PHASE_OUTSIDE;
    if (st == PAR_OK)
        *out = t;
    else
        par_trainer_destroy(&t);
    par_memory_destroy(&memory);
    return st;
}

void par_trainer_destroy(par_trainer **handle) {
    if (!handle || !*handle) return;
    par_memory *memory = (*handle)->on.memory;
    par_checkpoint_result unused;
    if ((*handle)->saving) (void)par_checkpoint_save_end(&(*handle)->saving, &unused);
    (void)par__buckets_wait(&(*handle)->buckets);
    par__trainer_free(handle);
    par_memory_destroy(&memory);
}

par_status par_trainer_settle(par_trainer *t) {
    PAR_REQUIRE(t);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__fatal(&t->on, par__buckets_settle(&t->buckets)));
    PAR_TRY(par__fatal(&t->on, par__sync(&t->on)));
    return par_transport_progress(t->on.transport); /* it tells the times of what has ended */
}

par_status par_trainer_copy(const par_trainer *t, void *dst, const void *src, size_t nbytes) {
    PAR_REQUIRE(t && (nbytes == 0 || (dst && src)));
    PAR_TRY(par__no_step_begun(&t->vote));
    return par__host_copy(&t->host, dst, src, nbytes);
}

const par_mesh *par_trainer_mesh(const par_trainer *t) {
    return t->on.mesh;
}
const par_memory *par_trainer_memory(const par_trainer *t) {
    return t->on.memory;
}
const par_backend *par_trainer_backend(const par_trainer *t) {
    return t->on.backend;
}
bool par_trainer_method(const par_trainer *t, int i, par_method *out) {
    static const char *const works[PAR_AXIS_COUNT] = {
        [PAR_TP] = "link tp", [PAR_CP] = "link cp", [PAR_DP] = "link dp", [PAR_PP] = "link pp"};
    if (par_backend_method(t->on.backend, i, out)) return true;
    par_method unused;
    int n = 0;
    while (par_backend_method(t->on.backend, n, &unused)) n++;
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        if (!par_comm_method(t->on.mesh->axis[axis], out)) continue;
        out->work = works[axis];
        if (n++ == i) return true;
    }
    return false;
}
int par_trainer_n_params(const par_trainer *t) {
    return t->flat.registry->n_params;
}
par_param *par_trainer_param(const par_trainer *t, int i) {
    return t->flat.registry->params[i];
}
int par_trainer_n_micro(const par_trainer *t) {
    return t->on.n_micro;
}
int64_t par_trainer_consumed(const par_trainer *t) {
    return t->vote.consumed;
}
const par_step_times *par_trainer_times(const par_trainer *t) {
    return &t->meter.times;
}

const char *par_trainer_no_graph(const par_trainer *t) {
    return par__graphs_on(&t->graphs) ? NULL : t->graphs.off;
}

const par_scaler *par_trainer_scaler(const par_trainer *t) {
    return &t->vote.scaler;
}

par_status par_trainer_set_scaler(par_trainer *t, const par_scaler *scaler) {
    PAR_REQUIRE(t && scaler);
    PAR_TRY(par__no_step_begun(&t->vote));
    return par__vote_set_scaler(&t->vote, scaler);
}

void par_trainer_traffic(const par_trainer *t, par_traffic_run *out) {
    const par_trainer_params *p = &t->on.params;
    const par_registry *registry = t->flat.registry;
    *out = (par_traffic_run){.mesh = t->on.mesh,
                             .B = p->micro_batch,
                             .dtype = p->dtype,
                             .reduce_dtype = p->reduce_dtype,
                             .sequence_parallel = t->on.sequence_parallel,
                             .tp_pieces = p->tp_pieces,
                             .recompute_full = p->recompute == PAR_RECOMPUTE_FULL,
                             .zero = p->zero,
                             .chunks = t->stage.n_chunks,
                             .params = registry->params,
                             .n_params = registry->n_params,
                             .n_flat = registry->n_flat,
                             .evaluations = t->evaluations,
                             .eval_micros = t->eval_micros};
    for (int c = 0; c < t->stage.n_chunks; c++)
        for (int i = 0; i < t->stage.chunks[c].n_modules; i++) {
            int index = t->stage.chunks[c].first_index + i;
            if (index == 0)
                out->embedding = true;
            else if (index == p->model->n_modules - 1) {
                out->head = true;
                out->loss_rows = par_transformer_loss_rows(t->stage.chunks[c].modules[i]);
            } else
                out->n_blocks++;
        }
}
