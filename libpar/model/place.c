/*
 * Where a module stands on the mesh, its memory areas, and the communication of rows over tp. The
 * forward sum and the backward gather of a branch (and the other way round) are each other's
 * transpose, so the same two calls serve both.
 */
#include <string.h>

#include "layers.h"

enum { ALIGNMENT = 256 }; /* what GPU libraries ask of a workspace */

size_t par__reserve(size_t *used, size_t nbytes) {
    size_t offset = *used;
    *used = offset + (nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return offset;
}

size_t par__keep(par_build *build, const char *name, size_t nbytes) {
    int i = 0;
    while (i < build->n_kept && strcmp(build->kept[i].name, name) != 0) i++;
    if (i == build->n_kept && i < PAR_MAX_KEPT) {
        build->kept[i] = (par_kept){.nbytes = 0};
        strncpy(build->kept[i].name, name, sizeof build->kept[i].name - 1);
        build->n_kept++;
    }
    if (i < PAR_MAX_KEPT) build->kept[i].nbytes += nbytes;
    return par__reserve(&build->stash_nbytes, nbytes);
}

size_t par__module_place_nbytes(const par__module_place *place, int64_t n) {
    return (size_t)n * par_dtype_nbytes(place->dtype);
}

void par__module_place_init(par__module_place *place, const par_module *module,
                            const par_build *build, const par_transformer_config *config) {
    par_comm *tp = build->mesh->axis[PAR_TP];
    int p = tp ? par_comm_size(tp) : 1;
    *place = (par__module_place){.backend = build->backend,
                                 .tp = p > 1 ? tp : NULL,
                                 .p = p,
                                 .r = p > 1 ? par_comm_rank(tp) : 0,
                                 .sequence_parallel = build->sequence_parallel && p > 1,
                                 .selective = build->recompute == PAR_RECOMPUTE_SELECTIVE,
                                 .apart = build->apart,
                                 .pieces = p > 1 && build->tp_pieces > 1 ? build->tp_pieces : 1,
                                 .dtype = build->dtype,
                                 .B = build->micro_batch,
                                 .T = config->tokens,
                                 .N = build->micro_batch * config->tokens,
                                 .C = config->channels,
                                 .seed = build->seed,
                                 .layer = module->layer,
                                 .chunk = build->chunk};
    place->rows = place->sequence_parallel ? place->N / p : place->N;
    place->first_row = place->sequence_parallel ? place->r * place->rows : 0;
    for (int i = 0; i < 2; i++)
        place->full[i] = par__reserve(&place->scratch_nbytes,
                                      par__module_place_nbytes(place, place->N * place->C));
}

void par__module_place_init_decode(par__module_place *place, const par__module_place *trained,
                                   int64_t B, int64_t T) {
    *place = *trained;
    place->sequence_parallel = false;
    place->selective = true;
    place->pieces = 1;
    place->B = B;
    place->T = T;
    place->N = place->rows = B * T;
    place->first_row = 0;
    place->scratch_nbytes = place->workspace = place->workspace_nbytes = 0;
    for (int i = 0; i < 2; i++)
        place->full[i] = par__reserve(&place->scratch_nbytes,
                                      par__module_place_nbytes(place, place->N * place->C));
}

void par__module_place_finish(par__module_place *place, par_build *build) {
    place->workspace = par__reserve(&place->scratch_nbytes, place->workspace_nbytes);
    if (place->scratch_nbytes < build->scratch_nbytes) return;
    build->scratch_nbytes = place->scratch_nbytes;
    build->workspace_nbytes = place->workspace_nbytes;
}

void *par__full(const par__module_place *place, const par_call *call, int which) {
    return (char *)call->scratch + place->full[which];
}

void *par__own_rows(const par__module_place *place, void *full) {
    return (char *)full + par__module_place_nbytes(place, place->first_row * place->C);
}

par_tag par__tag(const par__module_place *place, const par_call *call, const char *purpose) {
    return (par_tag){
        .purpose = purpose, .layer = place->layer, .chunk = place->chunk, .micro = call->micro};
}

par_status par__gather_rows(const par__module_place *place, const par_call *call,
                            const char *purpose, const void *own, void *full, par_work *work) {
    return par_comm_all_gather(place->tp, own, full, place->rows * place->C, place->dtype,
                               par__tag(place, call, purpose), call->stream, work);
}

par_status par__reduce_rows(const par__module_place *place, const par_call *call,
                            const char *purpose, void *full, par_work *work) {
    par_tag tag = par__tag(place, call, purpose);
    if (!place->tp) return PAR_OK;
    if (!place->sequence_parallel)
        return par_comm_all_reduce(place->tp, full, full, place->N * place->C, place->dtype, tag,
                                   call->stream, work);
    return par_comm_reduce_scatter(place->tp, full, par__own_rows(place, full),
                                   place->rows * place->C, place->dtype, tag, call->stream, work);
}

par_dropout par__dropout_of(const par__module_place *place, const par_call *call, float p,
                            uint32_t site) {
    return (par_dropout){.p = call->training ? p : 0,
                         .seed = place->seed,
                         .sample_base = call->sample_base,
                         .first_sample = call->first_sample,
                         .site = site};
}

par_status par__dropout(const par__module_place *place, const par_call *call, par_dropout dropout,
                        const void *x, void *out, const void **y) {
    par_residual args = {.dtype = place->dtype,
                         .m = place->rows,
                         .n = place->C,
                         .T = place->T,
                         .first_row = place->first_row,
                         .x = x,
                         .y = out,
                         .dropout = dropout};
    *y = dropout.p > 0 ? out : x;
    return dropout.p > 0 ? par__residual_run(place, call, &args) : PAR_OK;
}

par__share par__split(const char *name, int64_t global, int p, int r) {
    return par__split_padded(name, global, 1, p, r);
}

par__share par__split_padded(const char *name, int64_t global, int64_t multiple, int p, int r) {
    int64_t local = ((global + p - 1) / p + multiple - 1) / multiple * multiple;
    int64_t begin = r * local < global ? r * local : global;
    int64_t end = begin + local < global ? begin + local : global;
    return (par__share){.name = name,
                        .global = global,
                        .offset = begin,
                        .extent = end - begin,
                        .local = local,
                        .n_replicas = 1};
}

par_status par__partial(const par__module_place *place, par_build *build, const char *name,
                        int64_t n, double value, par_param **out) {
    par_param_spec spec = {.ndim = 1,
                           .global = {n, 1},
                           .replica = (int16_t)place->r,
                           .n_replicas = (int16_t)place->p,
                           .sum = place->tp,
                           .init = PAR_INIT_CONSTANT,
                           .init_value = value};
    for (size_t i = 0; i + 1 < sizeof spec.name && name[i]; i++) spec.name[i] = name[i];
    return par_build_param(build, &spec, false, out);
}

par_status par__replicated(const par__module_place *place, par_build *build, const char *name,
                           int ndim, int64_t n0, int64_t n1, par_init init, double value,
                           par_param **out) {
    par_param_spec spec = {.ndim = ndim,
                           .decay = ndim == 2,
                           .global = {n0, n1},
                           .extent = {n0, n1},
                           .local = {n0, n1},
                           .replica = (int16_t)place->r,
                           .n_replicas = (int16_t)place->p,
                           .sum = place->sequence_parallel ? place->tp : NULL,
                           .init = init,
                           .init_value = value};
    for (size_t i = 0; i + 1 < sizeof spec.name && name[i]; i++) spec.name[i] = name[i];
    return par_build_param(build, &spec, false, out);
}
