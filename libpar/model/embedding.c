/*
 * Token embedding, split over tp by vocabulary, plus learned positions, plus dropout, as the
 * model's first module. A rank looks up what it has and zeros elsewhere; the sum over tp is exact,
 * since one term alone is not zero. The table's rows are ceil(V / tp), rounded up to a multiple of
 * 8, on every rank, zero padded behind V.
 */
#include <stdlib.h>

#include "layers.h"

typedef struct {
    par_module module;
    const par_transformer_config *config;
    par__module_place place;
    par_param *token, *position; /* position NULL with rotary embedding */
    par__module_place decode_place, prompt_place;
} embedding;

static float dropout_of(const par_transformer_config *config) {
    float own = config->embedding_dropout;
    return own == 0 ? config->dropout : own < 0 ? 0 : own;
}

double par__init_std(const par_transformer_config *config) {
    return config->init_std > 0 ? config->init_std : 0.02;
}

par_status par__token_table(const par__module_place *place, par_build *build,
                            const par_transformer_config *config, bool second, par_param **out) {
    par__share rows =
        par__split_padded(NULL, config->vocab, PAR__VOCAB_MULTIPLE, place->p, place->r);
    bool two = config->tied && build->mesh->layout.size[PAR_PP] > 1;
    par_param_spec spec = {.name = "embedding.token.weight",
                           .ndim = 2,
                           .decay = true,
                           .global = {config->vocab, config->channels},
                           .offset = {rows.offset, 0},
                           .extent = {rows.extent, config->channels},
                           .local = {rows.local, config->channels},
                           .replica = two && second ? 1 : 0,
                           .n_replicas = two ? 2 : 1,
                           .sum = two ? build->mesh->tied : NULL,
                           .tied = two,
                           .init = PAR_INIT_NORMAL,
                           .init_value = par__init_std(config)};
    return par_build_param(build, &spec, false, out);
}

static par_embedding token_args(const embedding *e, const par__module_place *place,
                                const void *ids) {
    return (par_embedding){.dtype = place->dtype,
                           .m = place->N,
                           .n = place->C,
                           .rows = e->token->local[0],
                           .begin = e->token->local[0] * place->r,
                           .ids = ids,
                           .T = place->T,
                           .table = e->token->weight};
}

static par_embedding position_args(const embedding *e) {
    const par__module_place *place = &e->place;
    return (par_embedding){.dtype = place->dtype,
                           .m = place->rows,
                           .n = place->C,
                           .rows = e->position->local[0],
                           .first_row = place->first_row,
                           .T = place->T,
                           .table = e->position->weight,
                           .accumulate = true};
}

static par_status embedding_build(par_module *module, par_build *build) {
    embedding *e = (embedding *)module;
    const par_transformer_config *config = e->config;
    par__module_place *place = &e->place;
    par__module_place_init(place, module, build, config);
    PAR_TRY(par__token_table(place, build, config, false, &e->token));
    if (!config->rope)
        PAR_TRY(par__replicated(place, build, "embedding.position.weight", 2, config->positions,
                                config->channels, PAR_INIT_NORMAL, par__init_std(config),
                                &e->position));
    par_embedding token = token_args(e, place, NULL);
    par_residual residual = {.dtype = place->dtype, .m = place->rows, .n = place->C, .T = place->T};
    PAR_TRY(par__embedding_prepare(place, build, &token));
    PAR_TRY(par__embedding_backward_prepare(place, build, &token));
    PAR_TRY(par__residual_prepare(place, build, &residual));
    if (e->position) {
        par_embedding position = position_args(e);
        PAR_TRY(par__embedding_prepare(place, build, &position));
        PAR_TRY(par__embedding_backward_prepare(place, build, &position));
    }
    build->y = par_tensor_make(NULL, build->dtype, 2, place->rows, place->C, 1, 1);
    build->stash_nbytes = 0;
    par__module_place_finish(place, build);
    return PAR_OK;
}

/* Own rows of the sum over tp into y. */
static par_status look_up(const embedding *e, const par_call *call, const par_tensor *x, void *y) {
    const par__module_place *place = &e->place;
    par_embedding args = token_args(e, place, x->data);
    args.y = place->sequence_parallel ? par__full(place, call, 0) : y;
    PAR_TRY(par__embedding_run(place, call, &args));
    if (!place->sequence_parallel)
        return par__reduce_rows(place, call, "activations forward", y, NULL);
    return par_comm_reduce_scatter(place->tp, args.y, y, place->rows * place->C, place->dtype,
                                   par__tag(place, call, "activations forward"), call->stream,
                                   NULL);
}

static par_status embedding_forward(par_module *module, const par_call *call, const par_tensor *x,
                                    par_tensor *y) {
    embedding *e = (embedding *)module;
    const par__module_place *place = &e->place;
    const void *kept = NULL;
    PAR_TRY(look_up(e, call, x, y->data));
    if (e->position) {
        par_embedding args = position_args(e);
        args.y = y->data;
        PAR_TRY(par__embedding_run(place, call, &args));
    }
    return par__dropout(place, call, par__dropout_of(place, call, dropout_of(e->config), 0),
                        y->data, y->data, &kept);
}

static par_status embedding_backward(par_module *module, const par_call *call, const par_tensor *x,
                                     const par_tensor *dy, par_tensor *dx) {
    embedding *e = (embedding *)module;
    const par__module_place *place = &e->place;
    void *full = par__full(place, call, 0);
    const void *d = NULL;
    PAR_REQUIRE(!dx);
    PAR_TRY(par__dropout(place, call, par__dropout_of(place, call, dropout_of(e->config), 0),
                         dy->data, par__own_rows(place, full), &d));
    if (e->position) {
        par_embedding args = position_args(e);
        args.dy = d;
        args.dtable = e->position->grad;
        args.beta = par_grad_beta(e->position);
        PAR_TRY(par__embedding_backward_run(place, call, &args));
    }
    par_embedding token = token_args(e, place, x->data);
    if (place->sequence_parallel)
        PAR_TRY(par__gather_rows(place, call, "activations backward", d, full, NULL));
    token.dy = place->sequence_parallel ? full : d;
    token.dtable = e->token->grad;
    token.beta = par_grad_beta(e->token);
    return par__embedding_backward_run(place, call, &token);
}

par_status par__check_capacity(const par_transformer_config *config, int64_t capacity) {
    if (capacity < 1 || capacity > config->tokens)
        PAR_FAIL(PAR_ERR_ARG,
                 "%lld tokens to keep keys and values of; legal: 1 to the model's %lld",
                 (long long)capacity, (long long)config->tokens);
    return PAR_OK;
}

/* The rows of place->T positions as a table of its own, which all sequences read. */
static par_embedding decode_position(const embedding *e, const par__module_place *place,
                                     int64_t position) {
    const char *table = e->position->weight;
    return (par_embedding){
        .dtype = place->dtype,
        .m = place->rows,
        .n = place->C,
        .rows = place->T,
        .T = place->T,
        .table = table ? table + par__module_place_nbytes(place, position * place->C) : NULL,
        .accumulate = true};
}

static par_status build_place(embedding *e, par__module_place *place, par_build *build, int64_t B,
                              int64_t T) {
    par__module_place_init_decode(place, &e->place, B, T);
    par_embedding token = token_args(e, place, NULL);
    PAR_TRY(par__embedding_prepare(place, build, &token));
    if (e->position) {
        par_embedding position = decode_position(e, place, 0);
        PAR_TRY(par__embedding_prepare(place, build, &position));
    }
    par__module_place_finish(place, build);
    return PAR_OK;
}

static par_status embedding_decode_build(par_module *module, par_build *build, int64_t capacity) {
    embedding *e = (embedding *)module;
    PAR_TRY(par__check_capacity(e->config, capacity));
    build->y =
        par_tensor_make(NULL, build->dtype, 2, build->micro_batch, e->config->channels, 1, 1);
    build->stash_nbytes = 0;
    PAR_TRY(build_place(e, &e->decode_place, build, build->micro_batch, 1));
    return build->prompt > 0 ? build_place(e, &e->prompt_place, build, 1, build->prompt) : PAR_OK;
}

/* Tokens from `position` on. */
static par_status run_place(const embedding *e, const par__module_place *place,
                            const par_call *call, int64_t position, const par_tensor *x,
                            par_tensor *y) {
    par_embedding token = token_args(e, place, x->data);
    token.y = y->data;
    PAR_TRY(par__embedding_run(place, call, &token));
    PAR_TRY(par__reduce_rows(place, call, "activations forward", y->data, NULL));
    if (!e->position) return PAR_OK;
    par_embedding args = decode_position(e, place, position);
    args.y = y->data;
    return par__embedding_run(place, call, &args);
}

static par_status embedding_decode(par_module *module, const par_call *call, int64_t position,
                                   const par_tensor *x, par_tensor *y) {
    const embedding *e = (const embedding *)module;
    return run_place(e, &e->decode_place, call, position, x, y);
}

static par_status embedding_prompt(par_module *module, const par_call *call, int64_t sequence,
                                   const par_tensor *x, par_tensor *y) {
    const embedding *e = (const embedding *)module;
    (void)sequence;
    return run_place(e, &e->prompt_place, call, 0, x, y);
}

static void embedding_destroy(par_module *module) {
    free(module);
}

par_status par__embedding_create(const par_transformer_config *config, par_module **out) {
    static const par_module_ops ops = {.build = embedding_build,
                                       .forward = embedding_forward,
                                       .backward = embedding_backward,
                                       .destroy = embedding_destroy,
                                       .decode_build = embedding_decode_build,
                                       .decode = embedding_decode,
                                       .prompt = embedding_prompt};
    embedding *e = calloc(1, sizeof *e);
    if (!e) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the embedding");
    e->module.ops = &ops;
    e->config = config;
    *out = &e->module;
    return PAR_OK;
}
