/*
 * Final norm, logits and loss as the model's last module. The vocabulary is split over tp (Shoeybi
 * et al. 2019): a rank has logits [N, V_local] in fp32, and three numbers per row are gathered for
 * the softmax. When training the logits are turned into their gradient at once, in place, so
 * forward and backward need one array. Products run in blocks of rows, which bounds the workspace
 * of the GEMM.
 */
#include <stdlib.h>

#include "layers.h"

enum { BLOCK_ROWS = 1024 };

typedef struct {
    par_module module;
    const par_transformer_config *config;
    par__module_place place;
    par__norm norm;
    par__linear linear;
    int64_t begin, valid; /* vocabulary entries of this rank; linear.out has the padding too */
    size_t logits;        /* stash */
    size_t stats, gathered, lse, cast; /* scratch */
    par__module_place decode_place;
    par__norm decode_norm;
} head;

static int64_t block_rows(const par__module_place *place) {
    return place->N < BLOCK_ROWS ? place->N : BLOCK_ROWS;
}

static par_status build_weight(head *m, par_build *build) {
    par__module_place *place = &m->place;
    const par_transformer_config *config = m->config;
    par__share rows =
        par__split_padded("head", config->vocab, PAR__VOCAB_MULTIPLE, place->p, place->r);
    if (config->tied) {
        m->linear = (par__linear){.n_parts = 1, .in = config->channels, .out = rows.local};
        PAR_TRY(par__token_table(place, build, config, true, &m->linear.weights[0]));
    } else {
        par_param_spec spec = {.name = "head.weight",
                               .ndim = 2,
                               .decay = true,
                               .global = {config->vocab, config->channels},
                               .offset = {rows.offset, 0},
                               .extent = {rows.extent, config->channels},
                               .local = {rows.local, config->channels},
                               .n_replicas = 1,
                               .init = PAR_INIT_NORMAL,
                               .init_value = par__init_std(config)};
        m->linear = (par__linear){.n_parts = 1, .in = config->channels, .out = rows.local};
        PAR_TRY(par_build_param(build, &spec, false, &m->linear.weights[0]));
    }
    m->linear.dtype_y = PAR_F32;
    m->begin = place->r * rows.local;
    m->valid = rows.extent;
    PAR_TRY(par__linear_prepare(&m->linear, place, build, block_rows(place)));
    /* the last block may be shorter */
    int64_t rest = place->N % block_rows(place);
    return rest ? par__linear_prepare(&m->linear, place, build, rest) : PAR_OK;
}

static par_xent xent_args(const head *m) {
    return (par_xent){.dtype = PAR_F32,
                      .m = m->place.N,
                      .n = m->linear.out,
                      .valid = m->valid,
                      .begin = m->begin,
                      .ldx = m->linear.out,
                      .p = m->place.p};
}

static par_cast cast_args(const head *m, int64_t rows) {
    return (par_cast){
        .dtype_x = PAR_F32, .dtype_y = m->place.dtype, .n = rows * m->linear.out, .scale = 1};
}

static par_status prepare(head *m, par_build *build) {
    par__module_place *place = &m->place;
    par_xent xent = xent_args(m);
    par_cast cast = cast_args(m, block_rows(place));
    PAR_TRY(par__xent_stats_prepare(place, build, &xent));
    PAR_TRY(par__xent_loss_prepare(place, build, &xent));
    PAR_TRY(par__xent_backward_prepare(place, build, &xent));
    return place->dtype == PAR_F32 ? PAR_OK : par__cast_prepare(place, build, &cast);
}

static void reserve(head *m, par_build *build) {
    par__module_place *place = &m->place;
    size_t row = (size_t)place->N * sizeof(float), *scratch = &place->scratch_nbytes;
    m->logits = par__reserve(&build->stash_nbytes, row * (size_t)m->linear.out);
    m->stats = par__reserve(scratch, 3 * row);
    m->gathered = place->p > 1 ? par__reserve(scratch, 3 * row * (size_t)place->p) : m->stats;
    m->lse = par__reserve(scratch, row);
    if (place->dtype != PAR_F32)
        m->cast = par__reserve(scratch,
                               par__module_place_nbytes(place, block_rows(place) * m->linear.out));
}

static par_status head_build(par_module *module, par_build *build) {
    head *m = (head *)module;
    par__module_place_init(&m->place, module, build, m->config);
    build->stash_nbytes = 0;
    PAR_TRY(par__norm_build(&m->norm, &m->place, build, m->config, "final.norm"));
    PAR_TRY(build_weight(m, build));
    PAR_TRY(prepare(m, build));
    reserve(m, build);
    build->y = par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1);
    par__module_place_finish(&m->place, build);
    return PAR_OK;
}

static void *stash(const par_call *call, size_t offset) {
    return (char *)call->stash + offset;
}
static void *scratch(const par_call *call, size_t offset) {
    return (char *)call->scratch + offset;
}

static const void *row_of(const par__module_place *place, const void *x, int64_t row) {
    return (const char *)x + par__module_place_nbytes(place, row * place->C);
}

static par_status logits_forward(const head *m, const par_call *call, const void *h) {
    const par__module_place *place = &m->place;
    float *logits = stash(call, m->logits);
    for (int64_t row = 0, n; row < place->N; row += n) {
        n = place->N - row < BLOCK_ROWS ? place->N - row : BLOCK_ROWS;
        PAR_TRY(par__linear_forward(&m->linear, place, call, n, row_of(place, h, row),
                                    logits + row * m->linear.out));
    }
    return PAR_OK;
}

static par_status loss(const head *m, const par_call *call, float *sums) {
    const par__module_place *place = &m->place;
    par_xent args = xent_args(m);
    args.logits = stash(call, m->logits);
    args.targets = call->targets;
    args.stats = scratch(call, m->stats);
    args.lse = scratch(call, m->lse);
    args.sums = sums;
    args.seed = call->loss_seed;
    PAR_TRY(par__xent_stats_run(place, call, &args));
    float *gathered = scratch(call, m->gathered);
    if (place->tp)
        PAR_TRY(par_comm_all_gather(place->tp, args.stats, gathered, 3 * place->N, PAR_F32,
                                    par__tag(place, call, "loss"), call->stream, NULL));
    args.stats = gathered;
    PAR_TRY(par__xent_loss_run(place, call, &args));
    return call->training ? par__xent_backward_run(place, call, &args) : PAR_OK;
}

static par_status head_forward(par_module *module, const par_call *call, const par_tensor *x,
                               par_tensor *y) {
    head *m = (head *)module;
    const void *h = NULL;
    PAR_REQUIRE(call->targets);
    PAR_TRY(par__norm_forward(&m->norm, &m->place, call, NULL, x->data, 1, false, &h));
    PAR_TRY(logits_forward(m, call, h));
    return loss(m, call, y->data);
}

/* Weight gradient and dh [N, C] (area 0), a block of rows at a time, with the logits' gradient in
 * the place's dtype. */
static par_status logits_backward(const head *m, const par_call *call, const void *h, void *dh) {
    const par__module_place *place = &m->place;
    const float *dlogits = stash(call, m->logits);
    for (int64_t row = 0, n; row < place->N; row += n) {
        n = place->N - row < BLOCK_ROWS ? place->N - row : BLOCK_ROWS;
        const void *d = dlogits + row * m->linear.out;
        if (place->dtype != PAR_F32) {
            par_cast cast = cast_args(m, n);
            cast.x = d;
            cast.y = scratch(call, m->cast);
            PAR_TRY(par__cast_run(place, call, &cast));
            d = cast.y;
        }
        PAR_TRY(par__linear_backward_weight(&m->linear, place, call, n, row_of(place, h, row), d));
        PAR_TRY(par__linear_backward_input(&m->linear, place, call, n, d,
                                           (void *)row_of(place, dh, row)));
    }
    return PAR_OK;
}

static par_status head_backward(par_module *module, const par_call *call, const par_tensor *x,
                                const par_tensor *dy, par_tensor *dx) {
    head *m = (head *)module;
    const par__module_place *place = &m->place;
    void *dh = par__full(place, call, 0);
    const void *h = NULL;
    PAR_REQUIRE(!dy && dx && dx->data);
    PAR_TRY(par__norm_forward(&m->norm, place, call, NULL, x->data, 1, true, &h));
    PAR_TRY(logits_backward(m, call, h, dh));
    return par__norm_backward(&m->norm, place, call, x->data, dh, NULL, dx->data);
}

static par_status head_decode_build(par_module *module, par_build *build, int64_t capacity) {
    head *m = (head *)module;
    par__module_place *place = &m->decode_place;
    PAR_TRY(par__check_capacity(m->config, capacity));
    par__module_place_init_decode(place, &m->place, build);
    build->stash_nbytes = 0;
    m->decode_norm = m->norm;
    PAR_TRY(par__norm_build_decode(&m->decode_norm, place, build));
    PAR_TRY(par__linear_prepare_forward(&m->linear, place, build, place->N));
    build->y = par_tensor_make(NULL, PAR_F32, 2, place->N, m->linear.out, 1, 1);
    par__module_place_finish(place, build);
    return PAR_OK;
}

static par_status head_decode(par_module *module, const par_call *call, int64_t position,
                              const par_tensor *x, par_tensor *y) {
    const head *m = (const head *)module;
    const par__module_place *place = &m->decode_place;
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&m->decode_norm, place, call, NULL, x->data, 1, false, &h));
    return par__linear_forward(&m->linear, place, call, place->N, h, y->data);
}

static void head_destroy(par_module *module) {
    free(module);
}

static const par_module_ops head_ops = {.build = head_build,
                                        .forward = head_forward,
                                        .backward = head_backward,
                                        .destroy = head_destroy,
                                        .decode_build = head_decode_build,
                                        .decode = head_decode};

par_status par__head_create(const par_transformer_config *config, par_module **out) {
    head *m = calloc(1, sizeof *m);
    if (!m) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the head");
    m->module.ops = &head_ops;
    m->config = config;
    *out = &m->module;
    return PAR_OK;
}

par_status par_transformer_logits(const par_module *module, const void *stash_of_call,
                                  par_tensor *logits, int64_t *begin, int64_t *valid) {
    PAR_REQUIRE(module && module->ops == &head_ops && stash_of_call && logits && begin && valid);
    const head *m = (const head *)module;
    /* a view: readers of it do not write */
    *logits = par_tensor_make((char *)stash_of_call + m->logits, PAR_F32, 2, m->place.N,
                              m->linear.out, 1, 1);
    *begin = m->begin;
    *valid = m->valid;
    return PAR_OK;
}
