/* The trainer's life: plan, create, destroy, and what others may look at. */
#include "trainer.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/internal.h"
#include "libpar/base/cores.h"
#include "libpar/base/threads.h"

static par_status checked(const par_trainer_params *params, int world_size) {
    par_problems problems = {0};
    PAR_REQUIRE(params && params->model);
    par_trainer_check(params, world_size, &problems);
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

/* On a transport that is like the one that will be: staging depends on its chunks and on its
 * link. */
static par_status plan_on(const par_transport_params *like, const par_trainer_params *params,
                          int world_size, int rank, par_memory **out) {
    par_status st = PAR_OK;
    par_transport *transport = NULL;
    par_memory *memory = NULL;
    par_trainer *trainer = NULL;
    PAR_REQUIRE(out && rank >= 0 && rank < world_size);
    PAR_TRY(checked(params, world_size));
    PAR_TRY(par_transport_create_measuring(like, world_size, rank, &transport));
    PAR_TRY_GOTO(par_memory_create_measuring(&memory), out_transport);
    PAR_TRY_GOTO(par__trainer_build(transport, params, memory, &trainer), out_memory);
    par__trainer_free(&trainer);
    *out = memory;
    memory = NULL;
out_memory:
    par_memory_destroy(&memory);
out_transport:
    par_transport_destroy(&transport);
    return st;
}

par_status par_trainer_plan(const par_trainer_params *params, int world_size, int rank,
                            par_memory **out) {
    int cores = par__cores(); /* as if all ranks were on this node */
    par__threads_plan(world_size > 0 && world_size < cores ? cores / world_size : 1);
    par_status st = plan_on(NULL, params, world_size, rank, out);
    par__threads_plan(0);
    return st;
}

/* A communicator of the whole world, for the agreement before the trainer has one. */
static par_status world_comm(par_transport *transport, par_comm **out) {
    int n = par_transport_size(transport);
    int *ranks = malloc((size_t)n * sizeof *ranks);
    if (!ranks) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d ranks", n);
    for (int i = 0; i < n; i++) ranks[i] = i;
    par_comm_params params = {.axis = "create", .ranks = ranks, .n = n};
    par_status st = par_comm_create(transport, &params, NULL, out);
    free(ranks);
    return st;
}

/* What may fail on one rank alone, before anything is collective: its device, planning,
 * allocating. */
static par_status allocate(par_transport *transport, const par_trainer_params *params,
                           par_memory **out) {
    const par_backend *backend;
    par_memory *plan = NULL;
    PAR_TRY(par__trainer_backend(params, &backend));
    PAR_TRY(plan_on(&transport->params, params, transport->size, transport->rank, &plan));
    par_status st = par_memory_create(&backend->memory, &backend->host_memory, plan, out);
    par_memory_destroy(&plan);
    return st;
}

/* The memory becomes the trainer's. Links between devices are made here, by all of a group's ranks
 * together. */
static par_status build(par_transport *transport, const par_trainer_params *params,
                        par_memory **memory, par_trainer **out) {
    PAR_TRY(par__trainer_build(transport, params, *memory, out));
    *memory = NULL;
    return par__trainer_init_weights(*out);
}

par_status par_trainer_create(par_transport *transport, const par_trainer_params *params,
                              par_trainer **out) {
    par_comm *world = NULL;
    par_memory *memory = NULL;
    par_trainer *trainer = NULL;
    PAR_REQUIRE(transport && out);
    PAR_TRY(checked(params, par_transport_size(transport)));
    PAR_TRY(world_comm(transport, &world));
    par_status st = par_comm_agree(world, allocate(transport, params, &memory));
    if (st == PAR_OK) st = par_comm_agree(world, build(transport, params, &memory, &trainer));
    par_comm_destroy(&world);
    if (st == PAR_OK)
        *out = trainer;
    else
        par_trainer_destroy(&trainer);
    par_memory_destroy(&memory);
    return st;
}

void par_trainer_destroy(par_trainer **handle) {
    if (!handle || !*handle) return;
    par_memory *memory = (*handle)->memory;
    (void)par_trainer_settle(*handle);
    par__trainer_free(handle);
    par_memory_destroy(&memory);
}

par_status par_trainer_settle(par_trainer *t) {
    PAR_REQUIRE(t);
    for (int b = 0; b < t->registry->n_buckets; b++) PAR_TRY(par__bucket_gather(t, b));
    return PAR_OK;
}

const par_mesh *par_trainer_mesh(const par_trainer *t) {
    return t->mesh;
}
const par_memory *par_trainer_memory(const par_trainer *t) {
    return t->memory;
}
const par_backend *par_trainer_backend(const par_trainer *t) {
    return t->backend;
}
int par_trainer_n_params(const par_trainer *t) {
    return t->registry->n_params;
}
par_param *par_trainer_param(const par_trainer *t, int i) {
    return t->registry->params[i];
}
par_schedule *const *par_trainer_schedules(const par_trainer *t) {
    return t->schedules;
}
int par_trainer_n_micro(const par_trainer *t) {
    return t->n_micro;
}
int64_t par_trainer_consumed(const par_trainer *t) {
    return t->consumed;
}
const par_step_times *par_trainer_times(const par_trainer *t) {
    return &t->times;
}

par_module *par_trainer_module(const par_trainer *t, int chunk, int i, int *index) {
    if (chunk < 0 || chunk >= t->n_chunks || i < 0 || i >= t->chunks[chunk].n_modules) return NULL;
    if (index) *index = t->chunks[chunk].first_index + i;
    return t->chunks[chunk].modules[i];
}
