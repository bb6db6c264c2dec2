/*
 * One transformer block as a module: x2 = x + attention(norm(x)), y = x2 + mlp(norm(x2)). x2 is
 * made in the pass of the norm that reads it, and stays in the stash. Scratch of the two halves
 * overlaps, since they run one after the other. They are sublayers: MLP's gradients travel under
 * attention's backward, and its weights under attention's forward.
 */
#include <stdlib.h>

#include "layers.h"

enum { ATTENTION, MLP, N_SUBLAYERS };

/* The block on a place for decoding. */
typedef struct {
    par__module_place place;
    par__attention_decode attention;
    par__mlp mlp;
    size_t x2; /* scratch */
} decoder;

typedef struct {
    par_module module;
    const par_transformer_config *config;
    par__module_place place;
    par__attention attention;
    par__mlp mlp;
    size_t x2;        /* stash */
    par_residual sum; /* of one forward, from attention to MLP: x2 is yet to be made */
    decoder token, prompt;
} block;

static par_status block_build(par_module *module, par_build *build) {
    block *b = (block *)module;
    par__module_place *place = &b->place;
    par__module_place_init(place, module, build, b->config);
    build->y = par_tensor_make(NULL, build->dtype, 2, place->rows, place->C, 1, 1);
    build->stash_nbytes = 0;
    b->x2 = par__keep(build, "attention.residual",
                      par__module_place_nbytes(place, place->rows * place->C));
    /* layers also reserve in place->scratch_nbytes itself, so the halves' areas are counted apart
     * and moved behind */
    size_t attention_end = 0, mlp_end = 0;
    build->sublayer = ATTENTION;
    PAR_TRY(par__attention_build(&b->attention, place, build, b->config, module->layer - 1,
                                 &attention_end));
    build->sublayer = MLP;
    PAR_TRY(par__mlp_build(&b->mlp, place, build, b->config, module->layer - 1, &mlp_end));
    size_t begin =
        par__reserve(&place->scratch_nbytes, attention_end > mlp_end ? attention_end : mlp_end);
    b->attention.d_o += begin;
    b->attention.dqkv += begin;
    if (place->selective) b->attention.qk += begin;
    b->mlp.da += begin;
    b->mlp.du += begin;
    PAR_TRY(par__norm_prepare_added(&b->mlp.branch.norm, place, build));
    par__module_place_finish(place, build);
    return PAR_OK;
}

static par_status block_forward(par_module *module, const par_call *call, const par_tensor *x,
                                par_tensor *y) {
    block *b = (block *)module;
    void *x2 = (char *)call->stash + b->x2;
    return call->sublayer == ATTENTION
               ? par__attention_forward(&b->attention, &b->place, call, x->data, x2, &b->sum)
               : par__mlp_forward(&b->mlp, &b->place, call, &b->sum, x2, y->data);
}

static par_status block_backward(par_module *module, const par_call *call, const par_tensor *x,
                                 const par_tensor *dy, par_tensor *dx) {
    block *b = (block *)module;
    const void *x2 = (char *)call->stash + b->x2;
    PAR_REQUIRE(dx && dx->data);
    /* dx holds the gradient of x2 in between */
    return call->sublayer == MLP
               ? par__mlp_backward(&b->mlp, &b->place, call, x2, dy->data, dx->data)
               : par__attention_backward(&b->attention, &b->place, call, x->data, dx->data,
                                         dx->data);
}

/* Its stash is reserved: what is left is of its place. */
static par_status build_decoder(decoder *d, par_build *build) {
    par__module_place *place = &d->place;
    d->x2 = par__reserve(&place->scratch_nbytes,
                         par__module_place_nbytes(place, place->rows * place->C));
    PAR_TRY(par__attention_build_decode(&d->attention, place, build));
    PAR_TRY(par__mlp_build_decode(&d->mlp, place, build));
    PAR_TRY(par__norm_prepare_added(&d->mlp.branch.norm, place, build));
    par__module_place_finish(place, build);
    return PAR_OK;
}

static par_status block_decode_build(par_module *module, par_build *build, int64_t capacity) {
    block *b = (block *)module;
    decoder *d = &b->token;
    PAR_TRY(par__check_capacity(b->config, capacity));
    par__module_place_init_decode(&d->place, &b->place, build->micro_batch, 1);
    build->y = par_tensor_make(NULL, build->dtype, 2, d->place.rows, d->place.C, 1, 1);
    build->stash_nbytes = 0;
    d->mlp = b->mlp;
    PAR_TRY(par__attention_reserve_cache(&d->attention, &b->attention, &d->place, build, capacity));
    PAR_TRY(par__branch_reserve_int8(&d->mlp.branch, &d->place, build));
    b->prompt = *d;
    PAR_TRY(build_decoder(d, build));
    if (build->prompt == 0) return PAR_OK;
    par__module_place_init_decode(&b->prompt.place, &b->place, 1, build->prompt);
    return build_decoder(&b->prompt, build);
}

static par_status block_decode_begin(par_module *module, const par_call *call) {
    const decoder *d = &((const block *)module)->token;
    PAR_TRY(par__branch_quantize(&d->attention.attention.branch, &d->place, call));
    return par__branch_quantize(&d->mlp.branch, &d->place, call);
}

static par_status block_decode(par_module *module, const par_call *call, int64_t position,
                               const par_tensor *x, par_tensor *y) {
    const decoder *d = &((const block *)module)->token;
    void *x2 = (char *)call->scratch + d->x2;
    par_residual sum;
    PAR_TRY(par__attention_run_decode(&d->attention, &d->place, call, position, x->data, x2, &sum));
    return par__mlp_forward(&d->mlp, &d->place, call, &sum, x2, y->data);
}

static par_status block_prompt(par_module *module, const par_call *call, int64_t sequence,
                               const par_tensor *x, par_tensor *y) {
    const decoder *d = &((const block *)module)->prompt;
    void *x2 = (char *)call->scratch + d->x2;
    par_residual sum;
    PAR_TRY(par__attention_run_prompt(&d->attention, &d->place, call, sequence, x->data, x2, &sum));
    return par__mlp_forward(&d->mlp, &d->place, call, &sum, x2, y->data);
}

static void block_destroy(par_module *module) {
    free(module);
}

par_status par__block_create(const par_transformer_config *config, par_module **out) {
    static const par_module_ops ops = {.build = block_build,
                                       .forward = block_forward,
                                       .backward = block_backward,
                                       .destroy = block_destroy,
                                       .n_sublayers = N_SUBLAYERS,
                                       .decode_build = block_decode_build,
                                       .decode_begin = block_decode_begin,
                                       .decode = block_decode,
                                       .prompt = block_prompt};
    block *b = calloc(1, sizeof *b);
    if (!b) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a block");
    b->module.ops = &ops;
    b->config = config;
    *out = &b->module;
    return PAR_OK;
}
