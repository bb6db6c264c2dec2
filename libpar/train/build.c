/*
 * Building a trainer: mesh, modules, flat space, schedules, executor, buffers. The same code runs
 * on a measuring memory, for any rank of any world, and on real memory.
 */
#include <stdlib.h>

#include "collectives/internal.h"
#include "trainer.h"

par_status par__trainer_backend(const par_trainer_params *params, const par_backend **out) {
    if (!params->device) return par_backend_get(params->backend ? params->backend : "cpu", out);
    *out = params->device;
    return PAR_OK;
}

static void progress(void *transport) {
    par__engine_between(transport);
}

/* What the parts stand on, then the parts. The stream is missing while measuring. */
static par_status build(par_trainer *t) {
    par__context *on = &t->on;
    par_layout *layout = &on->params.layout;
    PAR_TRY(par__trainer_backend(&on->params, &on->backend));
    if (!par_memory_measuring(on->memory)) {
        PAR_TRY(on->backend->stream_create(&on->stream));
        PAR_TRY(on->backend->event_create(&on->reached));
        on->stream->progress = progress;
        on->stream->user = on->transport;
    }
    on->sequence_parallel = layout->size[PAR_TP] > 1 && !on->params.no_sequence_parallel;
    on->n_micro = (int)(on->params.global_batch / (on->params.micro_batch * layout->size[PAR_DP]));
    PAR_TRY(par_mesh_create(on->transport, layout, on->backend, on->memory, &on->mesh));
    PAR_TRY(par__registry_create(on->params.chunks, par__dp(on), on->mesh->coordinate[PAR_DP],
                                 &t->flat.registry));
    PAR_TRY(par__stage_build(&t->stage, on, t->flat.registry));
    PAR_TRY(par__registry_finish(t->flat.registry, on->params.bucket_n));
    PAR_TRY(par__flat_take(&t->flat, on));
    PAR_TRY(par__buckets_create(&t->buckets, on, &t->flat));
    const par__executor_hooks hooks = {.feed = &t->feed,
                                       .load = par__feed_load,
                                       .user = &t->buckets,
                                       .reduce = par__bucket_reduce,
                                       .gather = par__bucket_gather};
    PAR_TRY(par__stage_connect(&t->stage, t->flat.registry, &hooks));
    PAR_TRY(par__meter_create(&t->meter, on, t->stage.executor));
    PAR_TRY(par__vote_take(&t->vote, on));
    PAR_TRY(par__optimizer_take(&t->optimizer, on, &t->flat));
    PAR_TRY(par__graphs_create(&t->graphs, on, t->flat.registry));
    PAR_TRY(par__feed_take(&t->feed, on, par__graphs_on(&t->graphs)));
    PAR_TRY(par__host_take(&t->host, on));
    return par__trainer_take_copy(t);
}

par_status par__trainer_build(par_transport *transport, const par_trainer_params *params,
                              par_memory *memory, par_trainer **out) {
    par_trainer *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a trainer");
    t->on = (par__context){.params = *params, .transport = transport, .memory = memory};
    par_trainer_defaults(&t->on.params);
    if (params->dtype != PAR_F16) t->on.params.scaler.constant = 1; /* no loss scale */
    par_status st = build(t);
    if (st != PAR_OK) {
        par__trainer_free(&t);
        return st;
    }
    *out = t;
    return PAR_OK;
}

void par__trainer_free(par_trainer **handle) {
    par_trainer *t = *handle;
    if (!t) return;
    par__context *on = &t->on;
    if (on->stream) (void)on->backend->sync(on->stream); /* its work reads and writes what goes */
    par__graphs_free(&t->graphs);
    par__meter_free(&t->meter);
    par__stage_free(&t->stage);
    par__feed_free(&t->feed);
    par__vote_free(&t->vote);
    par__buckets_free(&t->buckets);
    par__flat_free(&t->flat);
    par_mesh_destroy(&on->mesh);
    if (on->reached) on->backend->event_destroy(on->reached);
    if (on->stream) on->backend->stream_destroy(on->stream);
    free(t);
    *handle = NULL;
}
