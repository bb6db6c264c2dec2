/*
 * Final norm, logits and loss as the model's last module. The vocabulary is split over tp (Shoeybi
 * et al. 2019): a rank has logits [N, V_local] in the place's dtype, and three numbers per row are
 * gathered for the softmax. One pass goes over blocks of rows: logits, statistics, loss, and when
 * training the gradient in the logits' place, from which dh and the weight's gradient are made. So
 * no more logits than a block's are ever there, in scratch. A training pass runs in backward alone:
 * forward has nothing to do, and nothing of the pass is kept from one to the other.
 */
#include <stdlib.h>

#include "layers.h"

/* Blocks of more rows are a multiple of what products are tiled by. */
enum { TILE_ROWS = 128 };

typedef struct {
    par_module module;
    const par_transformer_config *config;
    par__module_place place;
    par__norm norm;
    par__linear linear;
    int64_t begin, valid; /* vocabulary entries of this rank; linear.out has the padding too */
    int64_t block;        /* rows of a block; the last one may have fewer */
    bool keep;
    size_t logits, stats, gathered, lse; /* scratch of a block */
    size_t kept;                         /* stash if `keep`: logits of an evaluation [N, V_local] */
    par__module_place decode_place;
    par__norm decode_norm;
    par__linear decode_linear; /* the same weights, fp32 logits */
} head;

/* Rows whose logits fit into nbytes (0: all): equal blocks, as few as they can be. */
static int64_t block_rows(const head *m, size_t nbytes) {
    int64_t N = m->place.N,
            most = (int64_t)(nbytes / par__module_place_nbytes(&m->place, m->linear.out));
    if (nbytes == 0 || most >= N) return N;
    if (most < TILE_ROWS) return most > 1 ? most : 1;
    most = most / TILE_ROWS * TILE_ROWS;
    int64_t n_blocks = (N + most - 1) / most, rows = (N + n_blocks - 1) / n_blocks;
    return (rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
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
    m->linear.dtype_y = place->dtype;
    m->begin = place->r * rows.local;
    m->valid = rows.extent;
    return PAR_OK;
}

static par_xent xent_args(const head *m, int64_t rows) {
    return (par_xent){.dtype = m->place.dtype,
                      .m = rows,
                      .n = m->linear.out,
                      .valid = m->valid,
                      .begin = m->begin,
                      .ldx = m->linear.out,
                      .p = m->place.p};
}

/* Workspaces of a block. */
static par_status prepare(head *m, par_build *build, int64_t rows) {
    par__module_place *place = &m->place;
    par_xent xent = xent_args(m, rows);
    PAR_TRY(par__linear_prepare(&m->linear, place, build, rows));
    PAR_TRY(par__xent_stats_prepare(place, build, &xent));
    PAR_TRY(par__xent_loss_prepare(place, build, &xent));
    return par__xent_backward_prepare(place, build, &xent);
}

static par_status head_build(par_module *module, par_build *build) {
    head *m = (head *)module;
    par__module_place *place = &m->place;
    par__module_place_init(place, module, build, m->config);
    place->selective = true; /* the norm's output is a training pass' own */
    build->stash_nbytes = 0;
    PAR_TRY(par__norm_build(&m->norm, place, build, m->config, "final.norm"));
    PAR_TRY(build_weight(m, build));
    m->block = block_rows(m, build->logits_nbytes);
    m->keep = build->keep_logits;
    PAR_TRY(prepare(m, build, m->block));
    if (place->N % m->block) PAR_TRY(prepare(m, build, place->N % m->block));
    size_t numbers = (size_t)m->block * sizeof(float), *area = &place->scratch_nbytes;
    m->logits = par__reserve(area, par__module_place_nbytes(place, m->block * m->linear.out));
    if (m->keep)
        m->kept =
            par__keep(build, "logits", par__module_place_nbytes(place, place->N * m->linear.out));
    m->stats = par__reserve(area, 3 * numbers);
    m->gathered = place->p > 1 ? par__reserve(area, 3 * numbers * (size_t)place->p) : m->stats;
    m->lse = par__reserve(area, numbers);
    build->y = par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1);
    par__module_place_finish(place, build);
    return PAR_OK;
}

static void *scratch(const par_call *call, size_t offset) {
    return (char *)call->scratch + offset;
}

static const void *row_of(const par__module_place *place, const void *x, int64_t row, int64_t n) {
    return (const char *)x + par__module_place_nbytes(place, row * n);
}

/* Loss of the block's rows from `row` on, added to the ones before; when training the logits'
 * gradient in their place. */
static par_status block_loss(const head *m, const par_call *call, int64_t row, int64_t n,
                             void *logits, float *sums) {
    const par__module_place *place = &m->place;
    par_xent args = xent_args(m, n);
    args.logits = logits;
    args.targets = (const int32_t *)call->targets + row;
    args.stats = scratch(call, m->stats);
    args.lse = scratch(call, m->lse);
    args.sums = sums;
    args.accumulate = row > 0;
    args.seed = call->loss_seed;
    PAR_TRY(par__xent_stats_run(place, call, &args));
    float *gathered = scratch(call, m->gathered);
    if (place->tp)
        PAR_TRY(par_comm_all_gather(place->tp, args.stats, gathered, 3 * n, PAR_F32,
                                    par__tag(place, call, "loss"), call->stream, NULL));
    args.stats = gathered;
    PAR_TRY(par__xent_loss_run(place, call, &args));
    return call->training ? par__xent_backward_run(place, call, &args) : PAR_OK;
}

/* The pass over all rows of h [N, C]; when training also the weight's gradient and dh [N, C]. */
static par_status pass(const head *m, const par_call *call, const void *h, float *sums, void *dh) {
    const par__module_place *place = &m->place;
    for (int64_t row = 0, n; row < place->N; row += n) {
        n = place->N - row < m->block ? place->N - row : m->block;
        const void *x = row_of(place, h, row, place->C);
        void *logits = scratch(call, m->logits);
        if (!call->training && m->keep)
            logits = (void *)row_of(place, (char *)call->stash + m->kept, row, m->linear.out);
        PAR_TRY(par__linear_forward(&m->linear, place, call, n, x, logits));
        PAR_TRY(block_loss(m, call, row, n, logits, sums));
        if (!call->training) continue;
        PAR_TRY(par__linear_backward_weight(&m->linear, place, call, n, x, logits));
        PAR_TRY(par__linear_backward_input(&m->linear, place, call, n, logits,
                                           (void *)row_of(place, dh, row, place->C)));
    }
    return PAR_OK;
}

static par_status head_forward(par_module *module, const par_call *call, const par_tensor *x,
                               par_tensor *y) {
    head *m = (head *)module;
    const void *h = NULL;
    PAR_REQUIRE(call->targets);
    if (call->training) return PAR_OK;
    PAR_TRY(par__norm_forward(&m->norm, &m->place, call, NULL, x->data, 1, &h));
    return pass(m, call, h, y->data, NULL);
}

static par_status head_backward(par_module *module, const par_call *call, const par_tensor *x,
                                const par_tensor *dy, par_tensor *dx) {
    head *m = (head *)module;
    const par__module_place *place = &m->place;
    void *dh = par__full(place, call, 0);
    const void *h = NULL;
    PAR_REQUIRE(!dy && dx && dx->data && call->targets && call->loss);
    PAR_TRY(par__norm_again(&m->norm, place, call, x->data, 1, &h, NULL));
    PAR_TRY(pass(m, call, h, call->loss, dh));
    PAR_TRY(par__reduce_rows(place, call, "activations backward", dh, NULL));
    return par__norm_backward(&m->norm, place, call, x->data, dh, NULL, dx->data);
}

static par_status head_decode_build(par_module *module, par_build *build, int64_t capacity) {
    head *m = (head *)module;
    par__module_place *place = &m->decode_place;
    PAR_TRY(par__check_capacity(m->config, capacity));
    par__module_place_init_decode(place, &m->place, build->micro_batch, 1);
    build->stash_nbytes = 0;
    m->decode_norm = m->norm;
    PAR_TRY(par__norm_build_decode(&m->decode_norm, place, build));
    m->decode_linear = m->linear;
    m->decode_linear.dtype_y = PAR_F32;
    PAR_TRY(par__linear_reserve_int8(&m->decode_linear, place, build));
    PAR_TRY(par__linear_prepare_forward(&m->decode_linear, place, build, place->N));
    build->y = par_tensor_make(NULL, PAR_F32, 2, place->N, m->linear.out, 1, 1);
    par__module_place_finish(place, build);
    return PAR_OK;
}

static par_status head_decode_begin(par_module *module, const par_call *call) {
    const head *m = (const head *)module;
    return par__linear_quantize(&m->decode_linear, &m->decode_place, call);
}

static par_status head_decode(par_module *module, const par_call *call, int64_t position,
                              const par_tensor *x, par_tensor *y) {
    const head *m = (const head *)module;
    const par__module_place *place = &m->decode_place;
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&m->decode_norm, place, call, NULL, x->data, 1, &h));
    return par__linear_forward(&m->decode_linear, place, call, place->N, h, y->data);
}

static void head_destroy(par_module *module) {
    free(module);
}

static const par_module_ops head_ops = {.build = head_build,
                                        .forward = head_forward,
                                        .backward = head_backward,
                                        .destroy = head_destroy,
                                        .decode_build = head_decode_build,
                                        .decode_begin = head_decode_begin,
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
    if (!m->keep)
        PAR_FAIL(PAR_ERR_ARG, "the head keeps no logits: create the trainer with keep_logits");
    /* a view: readers of it do not write */
    *logits = par_tensor_make((char *)stash_of_call + m->kept, m->place.dtype, 2, m->place.N,
                              m->linear.out, 1, 1);
    *begin = m->begin;
    *valid = m->valid;
    return PAR_OK;
}

int64_t par_transformer_loss_rows(const par_module *module) {
    return module && module->ops == &head_ops ? ((const head *)module)->block : 0;
}
