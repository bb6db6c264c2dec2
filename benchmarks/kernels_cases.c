/*
 * The benchmark's cases: what every operation gets at a model's shapes. Data is a pattern of 131071
 * elements, repeated, so that memory of gigabytes is filled by copies on the device.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATTERN = 131071 };

/* The weights of a block and the head, and which product of a weight. */
enum { QKV, OUT, UP, DOWN, LOGITS };
enum { FORWARD, FORWARD_FP32, UP_GELU, DX, DX_GELU, DW };

double bench_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_check(par_status st, const char *what) {
    if (st == PAR_OK) return;
    fprintf(stderr, "kernels: %s: %s\n", what, par_error());
    exit(1);
}

void *bench_host_memory(size_t nbytes) {
    void *x = malloc(nbytes);
    if (x) return x;
    fprintf(stderr, "kernels: no memory for %zu bytes\n", nbytes);
    exit(1);
}

static char *take(bench_set *set, size_t nbytes) {
    void *data = NULL;
    int i = set->n_blocks;
    if (i == BENCH_MAX_BLOCKS) abort();
    if (nbytes == 0) nbytes = 1;
    bench_check(set->place->backend->memory.alloc(nbytes, &data), "memory");
    set->blocks[i].data = data;
    set->blocks[i].nbytes = nbytes;
    set->n_blocks++;
    set->nbytes += nbytes;
    return data;
}

/* The block gets `pattern`, again and again. */
static void fill(const par_backend *backend, char *block, size_t nbytes, const void *pattern,
                 size_t period) {
    size_t done = nbytes < period ? nbytes : period;
    bench_check(backend->copy(NULL, block, pattern, done), "copy");
    while (done < nbytes) {
        size_t more = nbytes - done < done ? nbytes - done : done;
        bench_check(backend->copy(NULL, block + done, block, more), "copy");
        done += more;
    }
    bench_check(backend->sync(NULL), "copy");
}

static void *take_pattern(bench_set *set, par_dtype dtype, int64_t n, float magnitude,
                          bool positive) {
    const par_backend *ref = NULL;
    size_t size = par_dtype_nbytes(dtype);
    float *x = bench_host_memory(PATTERN * sizeof *x);
    void *rounded = bench_host_memory(PATTERN * size);
    for (int64_t i = 0; i < PATTERN; i++) {
        x[i] = magnitude * ((float)(i * 2654435761u % 65536) / 32768.0f - 1.0f);
        if (positive) x[i] *= x[i];
    }
    const par_cast cast = {
        .dtype_x = PAR_F32, .dtype_y = dtype, .n = PATTERN, .scale = 1, .x = x, .y = rounded};
    bench_check(par_backend_get("ref", &ref), "ref");
    bench_check(par_cast_run(ref, NULL, &cast, NULL), "ref");
    char *block = take(set, (size_t)n * size);
    fill(set->place->backend, block, (size_t)n * size, rounded, PATTERN * size);
    free(x), free(rounded);
    return block;
}

/* [n] of the case's type; fp32. */
static void *typed(bench_set *set, int64_t n, float magnitude) {
    return take_pattern(set, set->place->dtype, n, magnitude, false);
}

static float *floats(bench_set *set, int64_t n) {
    return take_pattern(set, PAR_F32, n, 1, false);
}

static const int32_t *token_ids(bench_set *set) {
    const bench_setup *p = set->place;
    int32_t *ids = bench_host_memory((size_t)p->m * sizeof *ids);
    for (int64_t i = 0; i < p->m; i++) ids[i] = (int32_t)(i * 7919 % p->config->vocab);
    char *block = take(set, (size_t)p->m * sizeof *ids);
    fill(p->backend, block, (size_t)p->m * sizeof *ids, ids, (size_t)p->m * sizeof *ids);
    free(ids);
    return (const void *)block;
}

/* A small struct where the backend's kernels read it. */
static const void *copied(bench_set *set, const void *value, size_t nbytes) {
    char *block = take(set, nbytes);
    fill(set->place->backend, block, nbytes, value, nbytes);
    return block;
}

static float *constant(bench_set *set, int64_t n, float value) {
    char *block = take(set, (size_t)n * sizeof value);
    fill(set->place->backend, block, (size_t)n * sizeof value, &value, sizeof value);
    return (void *)block;
}

static void *at(const bench_set *set, void *x, int64_t n) {
    return (char *)x + (size_t)n * par_dtype_nbytes(set->place->dtype);
}

/* As the model's head pads it. */
static int64_t padded_vocabulary(const par_transformer_config *c) {
    return (c->vocab + 63) / 64 * 64;
}

/* The weight [n,k] of a product. */
static void weight_shape(const par_transformer_config *c, int product, int64_t *n, int64_t *k) {
    int64_t D = c->head_size;
    *n = product == QKV      ? (c->heads + 2 * c->kv_heads) * D
         : product == UP     ? (c->swiglu ? 2 : 1) * c->mlp
         : product == LOGITS ? padded_vocabulary(c)
                             : c->channels;
    *k = product == OUT ? c->heads * D : product == DOWN ? c->mlp : c->channels;
}

static void build_gemm(const bench_case *c, bench_set *set) {
    const bench_setup *p = set->place;
    int64_t m = p->m, n, k;
    weight_shape(p->config, c->what, &n, &k);
    bool forward = c->how == FORWARD || c->how == FORWARD_FP32 || c->how == UP_GELU;
    par_gemm g = {.dtype = p->dtype, .dtype_c = p->dtype};
    if (c->how == DW) {
        g.dtype_c = PAR_F32, g.beta = 1,
        g.ta = true; /* gradients of parameters are fp32, and accumulate */
        g.m = n, g.n = k, g.k = m;
        g.a = typed(set, m * n, 1), g.lda = n, g.b = typed(set, m * k, 1), g.ldb = k;
        g.c = floats(set, n * k);
    } else {
        g.m = m, g.n = forward ? n : k, g.k = forward ? k : n, g.tb = forward;
        g.a = typed(set, m * g.k, 1), g.lda = g.k, g.b = typed(set, n * k, 0.02f), g.ldb = k;
        if (c->how == FORWARD_FP32) g.dtype_c = PAR_F32; /* as decoding makes its logits */
        g.c = take_pattern(set, g.dtype_c, m * g.n, 1, false);
    }
    g.ldc = g.n;
    if (forward && c->what != LOGITS && p->config->bias) g.bias = typed(set, n, 0.02f);
    if (c->how == UP_GELU || c->how == DX_GELU) g.aux = typed(set, m * g.n, 1);
    g.epilogue = c->how == UP_GELU   ? PAR_EPILOGUE_GELU
                 : c->how == DX_GELU ? PAR_EPILOGUE_GELU_BACKWARD
                                     : PAR_EPILOGUE_NONE;
    set->args.gemm = g;
}

/* `what`: with dropout. q, k and v lie side by side, as the projection writes them. */
static void build_attention(const bench_case *c, bench_set *set) {
    const bench_setup *p = set->place;
    int64_t H = p->config->heads, K = p->config->kv_heads, D = p->config->head_size;
    int64_t ld = (H + 2 * K) * D;
    par_attention a = {.dtype = p->dtype,
                       .B = p->B,
                       .T = p->T,
                       .H = H,
                       .K = K,
                       .D = D,
                       .scale = 0.125f,
                       .ldo = H * D};
    void *x = typed(set, p->m * ld, 1);
    a.q = x, a.k = at(set, x, H * D), a.v = at(set, x, (H + K) * D), a.ldq = a.ldk = a.ldv = ld;
    a.o = typed(set, p->m * H * D, 1), a.lse = take_pattern(set, PAR_F32, p->m * H, 4, true);
    if (c->op == PAR_OP_ATTENTION_BACKWARD) {
        void *dx = typed(set, p->m * ld, 1);
        a.d_o = typed(set, p->m * H * D, 1), a.ldd_o = H * D;
        a.dq = dx, a.dk = at(set, dx, H * D), a.dv = at(set, dx, (H + K) * D);
        a.lddq = a.lddk = a.lddv = ld;
    }
    if (c->what) a.dropout = (par_dropout){.p = 0.1f, .seed = 1, .site = 1};
    set->args.attention = a;
}

static void build_decode(const bench_case *c, bench_set *set) {
    (void)c;
    const bench_setup *p = set->place;
    int64_t H = p->config->heads, K = p->config->kv_heads, D = p->config->head_size;
    par_attention_decode a = {.dtype = p->dtype,
                              .B = p->B,
                              .H = H,
                              .K = K,
                              .D = D,
                              .capacity = p->T,
                              .n = p->T,
                              .scale = 0.125f};
    a.q = typed(set, p->B * H * D, 1), a.ldq = H * D, a.o = typed(set, p->B * H * D, 1),
    a.ldo = H * D;
    a.k = typed(set, p->m * K * D, 1), a.v = typed(set, p->m * K * D, 1);
    set->args.attention_decode = a;
}

/* The first layer of the MLP, a token per sequence. Any bytes are weights. */
static void build_gemm_int8(const bench_case *c, bench_set *set) {
    (void)c;
    const bench_setup *p = set->place;
    int64_t n = p->config->mlp, k = p->config->channels;
    set->args.gemm_int8 = (par_gemm_int8){.dtype = p->dtype,
                                          .dtype_c = p->dtype,
                                          .m = p->B,
                                          .n = n,
                                          .k = k,
                                          .a = typed(set, p->B * k, 1),
                                          .lda = k,
                                          .q = typed(set, n * k, 1),
                                          .scales = floats(set, n * par_int8_groups(k)),
                                          .c = typed(set, p->B * n, 1),
                                          .ldc = n};
}

static void build_quantize(const bench_case *c, bench_set *set) {
    (void)c;
    int64_t n = set->place->config->mlp, k = set->place->config->channels;
    set->args.quantize = (par_quantize){.dtype = set->place->dtype,
                                        .m = n,
                                        .n = k,
                                        .x = typed(set, n * k, 1),
                                        .ldx = k,
                                        .q = typed(set, n * k, 1),
                                        .scales = floats(set, n * par_int8_groups(k))};
}

static void build_column_sum(const bench_case *c, bench_set *set) {
    (void)c;
    int64_t m = set->place->m, n = set->place->config->mlp;
    set->args.column_sum = (par_column_sum){.dtype = set->place->dtype,
                                            .m = m,
                                            .n = n,
                                            .x = typed(set, m * n, 1),
                                            .ldx = n,
                                            .y = floats(set, n),
                                            .beta = 1};
}

static void build_norm(const bench_case *c, bench_set *set) {
    bool layer = c->op == PAR_OP_LAYERNORM || c->op == PAR_OP_LAYERNORM_BACKWARD;
    int64_t m = set->place->m, n = set->place->config->channels;
    par_norm a = {.dtype = set->place->dtype, .m = m, .n = n, .eps = 1e-5f};
    a.x = typed(set, m * n, 1), a.w = typed(set, n, 1);
    a.rstd = take_pattern(set, PAR_F32, m, 1, true);
    if (layer) a.mean = floats(set, m);
    if (c->op == PAR_OP_LAYERNORM) a.b = typed(set, n, 1);
    if (c->op == PAR_OP_LAYERNORM || c->op == PAR_OP_RMSNORM)
        a.y = typed(set, m * n, 1);
    else {
        a.dy = typed(set, m * n, 1), a.dx = typed(set, m * n, 1), a.dw = floats(set, n), a.beta = 1;
        if (layer) a.db = floats(set, n);
    }
    if (c->what && a.dy)
        a.add = typed(set, m * n, 1);
    else if (c->what) { /* the addition before it */
        set->sum = (par_residual){
            .dtype = a.dtype, .m = m, .n = n, .T = set->place->T, .y = (void *)(uintptr_t)a.x};
        set->sum.x = typed(set, m * n, 1), set->sum.residual = typed(set, m * n, 1);
        set->sum.bias = typed(set, n, 1);
        a.residual = &set->sum;
    }
    set->args.layernorm = a;
}

/* In place, run after run: angles of one length, so that x neither grows nor becomes subnormal. */
static void build_rope(const bench_case *c, bench_set *set) {
    (void)c;
    const bench_setup *p = set->place;
    int64_t D = p->config->head_size, n = p->config->heads * D;
    set->args.rope = (par_rope){.dtype = p->dtype,
                                .m = p->m,
                                .heads = p->config->heads,
                                .head_size = D,
                                .T = p->T,
                                .x = typed(set, p->m * n, 1),
                                .ldx = n,
                                .cos = constant(set, p->T * D / 2, 0.6f),
                                .sin = constant(set, p->T * D / 2, 0.8f)};
}

static void build_residual(const bench_case *c, bench_set *set) {
    const bench_setup *p = set->place;
    int64_t n = p->config->channels;
    set->args.residual = (par_residual){.dtype = p->dtype,
                                        .m = p->m,
                                        .n = n,
                                        .T = p->T,
                                        .x = typed(set, p->m * n, 1),
                                        .bias = typed(set, n, 1),
                                        .residual = typed(set, p->m * n, 1),
                                        .y = typed(set, p->m * n, 1)};
    if (c->what) set->args.residual.dropout = (par_dropout){.p = 0.1f, .seed = 1};
}

/* `what`: the erf form */
static void build_gelu(const bench_case *c, bench_set *set) {
    int64_t n = set->place->m * set->place->config->mlp;
    par_gelu a = {.dtype = set->place->dtype, .n = n, .erf = c->what != 0, .x = typed(set, n, 1)};
    if (c->op == PAR_OP_GELU)
        a.y = typed(set, n, 1);
    else
        a.dy = typed(set, n, 1), a.dx = typed(set, n, 1);
    set->args.gelu = a;
}

static void build_swiglu(const bench_case *c, bench_set *set) {
    int64_t m = set->place->m, n = set->place->config->mlp;
    par_swiglu a = {.dtype = set->place->dtype, .m = m, .n = n, .x = typed(set, 2 * m * n, 1)};
    if (c->op == PAR_OP_SWIGLU)
        a.y = typed(set, m * n, 1);
    else
        a.dy = typed(set, m * n, 1), a.dx = typed(set, 2 * m * n, 1);
    set->args.swiglu = a;
}

static void build_embedding(const bench_case *c, bench_set *set) {
    const bench_setup *p = set->place;
    int64_t n = p->config->channels, V = p->config->vocab;
    par_embedding a = {
        .dtype = p->dtype, .m = p->m, .n = n, .rows = V, .ids = token_ids(set), .T = p->T};
    if (c->op == PAR_OP_EMBEDDING)
        a.table = typed(set, V * n, 0.02f), a.y = typed(set, p->m * n, 1);
    else
        a.dy = typed(set, p->m * n, 1), a.dtable = floats(set, V * n), a.beta = 1;
    set->args.embedding = a;
}

/* `what`: logits in fp32, as the head has them in fp32 training */
static void build_xent(const bench_case *c, bench_set *set) {
    const bench_setup *p = set->place;
    int64_t n = padded_vocabulary(p->config);
    par_xent a = {.m = p->m, .n = n, .valid = p->config->vocab, .ldx = n, .p = 1};
    a.dtype = c->what ? PAR_F32 : p->dtype;
    const float seed = 1;
    a.seed = copied(set, &seed, sizeof seed), a.targets = token_ids(set),
    a.lse = take_pattern(set, PAR_F32, p->m, 4, true);
    if (c->op != PAR_OP_XENT_LOSS) a.logits = take_pattern(set, a.dtype, p->m * n, 1, false);
    if (c->op != PAR_OP_XENT_BACKWARD) a.stats = take_pattern(set, PAR_F32, 3 * p->m, 1, true);
    if (c->op == PAR_OP_XENT_LOSS) a.sums = floats(set, 2);
    set->args.xent_stats = a;
}

static int64_t n_update(const bench_setup *p) {
    int64_t n = par_transformer_n_params(p->config);
    return n < p->max_update ? n : p->max_update;
}

static void build_update(const bench_case *c, bench_set *set) {
    int64_t n = n_update(set->place);
    par_update a = {.n = n, .dtype = set->place->dtype, .master = floats(set, n)};
    if (a.dtype != PAR_F32) a.weights = typed(set, n, 1);
    a.grad = floats(set, n), a.m = floats(set, n);
    if (c->op == PAR_OP_ADAMW) a.v = take_pattern(set, PAR_F32, n, 1, true);
    const par_step step = {
        .t = 2, .correction1 = 1 - 0.9 * 0.9, .correction2 = 1 - 0.95 * 0.95, .grad_scale = 1};
    a.step = copied(set, &step, sizeof step), a.b1 = 0.9, a.b2 = 0.95, a.eps = 1e-8f,
    a.decay = 0.1f;
    set->args.adamw = a;
}

static void build_norm2(const bench_case *c, bench_set *set) {
    (void)c;
    int64_t n = n_update(set->place);
    void *out = take_pattern(set, PAR_F32, 4, 0, false);
    set->vector = (par_norm2_vector){.n = n, .x = floats(set, n), .out = out};
    set->args.norm2 = (par_norm2){1, &set->vector};
}

/* The norms of a model's parameters, of which a block has 12. */
static void build_ballot(const bench_case *c, bench_set *set) {
    const par_ballot none = {0};
    int64_t n = set->place->config->layers * 12;
    (void)c;
    set->args.ballot = (par_tally){.n_norms = n, .norms = (void *)floats(set, 4 * n)};
    set->args.ballot.ballot = (par_ballot *)(uintptr_t)copied(set, &none, sizeof none);
}

static void build_vote(const bench_case *c, bench_set *set) {
    enum { RANKS = 64 };
    static const par_ballot ballots[RANKS];
    const par_vote_state state = {.scaler.scale = 1};
    (void)c;
    set->args.vote = (par_vote_call){.n = RANKS, .ballots = copied(set, ballots, sizeof ballots)};
    set->args.vote.rules =
        (par_vote_rules){.scaler.constant = 1, .unit = 1, .beta1 = 0.9, .beta2 = 0.95};
    set->args.vote.state = (par_vote_state *)(uintptr_t)copied(set, &state, sizeof state);
}

/* `what`: to fp32. In fp32 it is a copy. */
static void build_cast(const bench_case *c, bench_set *set) {
    int64_t n = n_update(set->place);
    par_cast a = {.dtype_x = PAR_F32, .dtype_y = set->place->dtype, .n = n, .scale = 1};
    if (c->what) a.dtype_x = a.dtype_y, a.dtype_y = PAR_F32;
    a.x = take_pattern(set, a.dtype_x, n, 1, false),
    a.y = take_pattern(set, a.dtype_y, n, 1, false);
    set->args.cast = a;
}

const bench_case bench_cases[] = {
    {"gemm qkv", PAR_OP_GEMM, build_gemm, QKV, FORWARD},
    {"gemm dx of qkv", PAR_OP_GEMM, build_gemm, QKV, DX},
    {"gemm dw of qkv", PAR_OP_GEMM, build_gemm, QKV, DW},
    {"gemm out", PAR_OP_GEMM, build_gemm, OUT, FORWARD},
    {"gemm dx of out", PAR_OP_GEMM, build_gemm, OUT, DX},
    {"gemm dw of out", PAR_OP_GEMM, build_gemm, OUT, DW},
    {"gemm mlp up", PAR_OP_GEMM, build_gemm, UP, FORWARD},
    {"gemm mlp up, gelu", PAR_OP_GEMM, build_gemm, UP, UP_GELU},
    {"gemm dx of mlp up", PAR_OP_GEMM, build_gemm, UP, DX},
    {"gemm dw of mlp up", PAR_OP_GEMM, build_gemm, UP, DW},
    {"gemm mlp down", PAR_OP_GEMM, build_gemm, DOWN, FORWARD},
    {"gemm dx of mlp down", PAR_OP_GEMM, build_gemm, DOWN, DX},
    {"gemm dx of mlp down, gelu", PAR_OP_GEMM, build_gemm, DOWN, DX_GELU},
    {"gemm dw of mlp down", PAR_OP_GEMM, build_gemm, DOWN, DW},
    {"gemm logits", PAR_OP_GEMM, build_gemm, LOGITS, FORWARD},
    {"gemm logits, fp32", PAR_OP_GEMM, build_gemm, LOGITS, FORWARD_FP32},
    {"gemm dx of logits", PAR_OP_GEMM, build_gemm, LOGITS, DX},
    {"gemm dw of logits", PAR_OP_GEMM, build_gemm, LOGITS, DW},
    {"attention", PAR_OP_ATTENTION, build_attention, false, 0},
    {"attention backward", PAR_OP_ATTENTION_BACKWARD, build_attention, false, 0},
    {"attention, dropout", PAR_OP_ATTENTION, build_attention, true, 0},
    {"attention backward, dropout", PAR_OP_ATTENTION_BACKWARD, build_attention, true, 0},
    {"attention of one token", PAR_OP_ATTENTION_DECODE, build_decode, 0, 0},
    {"gemm mlp up of one token, int8", PAR_OP_GEMM_INT8, build_gemm_int8, 0, 0},
    {"quantize mlp up", PAR_OP_QUANTIZE, build_quantize, 0, 0},
    {"column_sum [m, mlp]", PAR_OP_COLUMN_SUM, build_column_sum, 0, 0},
    {"layernorm", PAR_OP_LAYERNORM, build_norm, 0, 0},
    {"layernorm, residual", PAR_OP_LAYERNORM, build_norm, true, 0},
    {"layernorm backward", PAR_OP_LAYERNORM_BACKWARD, build_norm, 0, 0},
    {"layernorm backward, residual", PAR_OP_LAYERNORM_BACKWARD, build_norm, true, 0},
    {"rmsnorm", PAR_OP_RMSNORM, build_norm, 0, 0},
    {"rmsnorm, residual", PAR_OP_RMSNORM, build_norm, true, 0},
    {"rmsnorm backward", PAR_OP_RMSNORM_BACKWARD, build_norm, 0, 0},
    {"rmsnorm backward, residual", PAR_OP_RMSNORM_BACKWARD, build_norm, true, 0},
    {"rope", PAR_OP_ROPE, build_rope, 0, 0},
    {"residual", PAR_OP_RESIDUAL, build_residual, false, 0},
    {"residual, dropout", PAR_OP_RESIDUAL, build_residual, true, 0},
    {"gelu tanh", PAR_OP_GELU, build_gelu, false, 0},
    {"gelu tanh backward", PAR_OP_GELU_BACKWARD, build_gelu, false, 0},
    {"gelu erf", PAR_OP_GELU, build_gelu, true, 0},
    {"gelu erf backward", PAR_OP_GELU_BACKWARD, build_gelu, true, 0},
    {"swiglu", PAR_OP_SWIGLU, build_swiglu, 0, 0},
    {"swiglu backward", PAR_OP_SWIGLU_BACKWARD, build_swiglu, 0, 0},
    {"embedding", PAR_OP_EMBEDDING, build_embedding, 0, 0},
    {"embedding backward, beta 1", PAR_OP_EMBEDDING_BACKWARD, build_embedding, 0, 0},
    {"xent stats", PAR_OP_XENT_STATS, build_xent, 0, 0},
    {"xent stats, fp32", PAR_OP_XENT_STATS, build_xent, true, 0},
    {"xent loss", PAR_OP_XENT_LOSS, build_xent, 0, 0},
    {"xent backward", PAR_OP_XENT_BACKWARD, build_xent, 0, 0},
    {"xent backward, fp32", PAR_OP_XENT_BACKWARD, build_xent, true, 0},
    {"adamw", PAR_OP_ADAMW, build_update, 0, 0},
    {"sgd", PAR_OP_SGD, build_update, 0, 0},
    {"norm2", PAR_OP_NORM2, build_norm2, 0, 0},
    {"ballot", PAR_OP_BALLOT, build_ballot, 0, 0},
    {"vote of 64", PAR_OP_VOTE, build_vote, 0, 0},
    {"cast from fp32", PAR_OP_CAST, build_cast, false, 0},
    {"cast to fp32", PAR_OP_CAST, build_cast, true, 0},
    {NULL, PAR_OP_COUNT, NULL, 0, 0},
};

void bench_build(const bench_setup *place, const bench_case *c, bench_set *set) {
    memset(set, 0, sizeof *set);
    set->place = place;
    c->build(c, set);
}

void bench_free(bench_set *set) {
    while (set->n_blocks > 0) {
        set->n_blocks--;
        set->place->backend->memory.release(set->blocks[set->n_blocks].data,
                                            set->blocks[set->n_blocks].nbytes);
    }
}
