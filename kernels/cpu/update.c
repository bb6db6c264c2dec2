/*
 * The optimizer's work over flat ranges: par_update, par_norm2 and par_cast in par/kernels.h.
 * Everything here is bound by memory. norm2 sums squares in double, in pieces of PIECE elements
 * whose partials are added in order.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { PIECE = 16384, PIECES = 256 };

/* From here on an update's operands, 22 to 30 bytes per element, outgrow caches: its weights are
 * stored past them, which saves reading the lines first. */
#define STREAMED (INT64_C(1) << 20)

typedef struct {
    float b1, rest1, b2, rest2, decay, step, inverse_sqrt, eps, grad_scale;
    bool streamed;
} adamw_constants;

CPU_INLINE vec vec_root(vec x) {
#if defined __AVX512F__
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif defined __AVX2__
    return (vec)_mm256_sqrt_ps((__m256)x);
#elif defined __SSE2__
    return (vec)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* The master weights in fp32, and rounded once to the weights of type t where there are some. */
CPU_INLINE void store_weights(par_dtype t, const par_update *a, bool streamed, int64_t at,
                              int64_t count, pair w) {
    pair_store(a->master, PAR_F32, at, count, w);
    if (!a->weights) return;
    if (t == PAR_F32) {
        pair_store(a->weights, t, at, count, w);
        return;
    }
    vec_words words = pair_pack(t, w);
    uint16_t *to = (uint16_t *)a->weights + at;
    if (streamed && count == PAIR)
        words_stream(to, words);
    else
        memcpy(to, &words, (size_t)count * sizeof *to);
}

/* PIECE is a multiple of PAIR: if the first weight is aligned, so is each pair. */
static bool is_streamed(const par_update *a) {
    return a->n >= STREAMED && a->dtype != PAR_F32 &&
           (uintptr_t)a->weights % (PAIR * sizeof(uint16_t)) == 0;
}

CPU_INLINE void adamw_step(par_dtype t, const par_update *a, const adamw_constants *c, int64_t at,
                           int64_t i, int64_t count) {
    pair w = pair_load(a->master, PAR_F32, at + i, count),
         g = pair_load(a->grad, PAR_F32, at + i, count);
    pair m = pair_load(a->m, PAR_F32, at + i, count), v = pair_load(a->v, PAR_F32, at + i, count);
    for (int k = 0; k < 2; k++) {
        g.v[k] *= c->grad_scale;
        m.v[k] = c->b1 * m.v[k] + c->rest1 * g.v[k];
        v.v[k] = c->b2 * v.v[k] + c->rest2 * g.v[k] * g.v[k];
        w.v[k] = w.v[k] - c->decay * w.v[k] -
                 c->step * m.v[k] / (vec_root(v.v[k]) * c->inverse_sqrt + c->eps);
    }
    pair_store(a->m, PAR_F32, at + i, count, m);
    pair_store(a->v, PAR_F32, at + i, count, v);
    store_weights(t, a, c->streamed, at + i, count, w);
}

CPU_INLINE void adamw_piece(par_dtype t, const par_update *a, const adamw_constants *c, int64_t at,
                            int64_t n) {
    CPU_PAIRS(n, adamw_step, t, a, c, at);
}

typedef struct {
    float momentum, lr, grad_scale, decay;
    bool first; /* m is not read */
    bool streamed;
} sgd_constants;

CPU_INLINE void sgd_step(par_dtype t, const par_update *a, const sgd_constants *c, int64_t at,
                         int64_t i, int64_t count) {
    pair w = pair_load(a->master, PAR_F32, at + i, count),
         g = pair_load(a->grad, PAR_F32, at + i, count);
    pair m = c->first ? (pair){0} : pair_load(a->m, PAR_F32, at + i, count);
    for (int k = 0; k < 2; k++) {
        m.v[k] = c->momentum * m.v[k] + (g.v[k] * c->grad_scale + c->decay * w.v[k]);
        w.v[k] -= c->lr * m.v[k];
    }
    pair_store(a->m, PAR_F32, at + i, count, m);
    store_weights(t, a, c->streamed, at + i, count, w);
}

CPU_INLINE void sgd_piece(par_dtype t, const par_update *a, const sgd_constants *c, int64_t at,
                          int64_t n) {
    CPU_PAIRS(n, sgd_step, t, a, c, at);
}

static void adamw_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_update *a = call->args;
    const par_step *step = a->step;
    const adamw_constants c = {.b1 = (float)a->b1,
                               .rest1 = (float)(1 - a->b1),
                               .b2 = (float)a->b2,
                               .rest2 = (float)(1 - a->b2),
                               .decay = (float)((double)step->lr * a->decay),
                               .step = (float)(step->lr / step->correction1),
                               .inverse_sqrt = (float)(1 / sqrt(step->correction2)),
                               .eps = a->eps,
                               .grad_scale = step->grad_scale,
                               .streamed = is_streamed(a)};
    for (int64_t at = begin * PIECE; at < cpu_min(end * PIECE, a->n); at += PIECE) {
        CPU_BY_TYPE(a->dtype, adamw_piece, a, &c, at, cpu_min(PIECE, a->n - at));
        stream_end();
        cpu_progress(call->stream, slot);
    }
}

static par_status adamw(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = args;
    const cpu_call call = {.args = a, .stream = stream};
    if (!a->step->skip) cpu_loop(cpu_pieces(a->n, PIECE), a->n, adamw_pieces, &call);
    return PAR_OK;
}

static void sgd_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_update *a = call->args;
    const par_step *step = a->step;
    const sgd_constants c = {.momentum = (float)a->b1,
                             .lr = step->lr,
                             .grad_scale = step->grad_scale,
                             .decay = a->decay,
                             .first = step->t == 1,
                             .streamed = is_streamed(a)};
    for (int64_t at = begin * PIECE; at < cpu_min(end * PIECE, a->n); at += PIECE) {
        CPU_BY_TYPE(a->dtype, sgd_piece, a, &c, at, cpu_min(PIECE, a->n - at));
        stream_end();
        cpu_progress(call->stream, slot);
    }
}

static par_status sgd(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = args;
    const cpu_call call = {.args = a, .stream = stream};
    if (!a->step->skip) cpu_loop(cpu_pieces(a->n, PIECE), a->n, sgd_pieces, &call);
    return PAR_OK;
}

/* A float is finite if its exponent is not all ones. */
static double squares(const float *x, int64_t n, double *not_finite) {
    double sum = 0;
    uint32_t bad = 0;
#pragma omp simd reduction(+ : sum, bad)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = par__f32_bits(x[i]), wrong = (bits & 0x7f800000u) == 0x7f800000u;
        double value =
            par__bits_f32(bits & (wrong - 1)); /* all bits of a finite x, none of another */
        sum += value * value;
        bad += wrong;
    }
    *not_finite = bad;
    return sum;
}

/* The next PIECES pieces of x, or what is left of it. */
typedef struct {
    const float *x;
    int64_t left;
    double *sums, *bad;
} norm2_group;

static void norm2_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const norm2_group *g = user;
    for (int64_t piece = begin; piece < end; piece++)
        g->sums[piece] =
            squares(g->x + piece * PIECE, cpu_min(PIECE, g->left - piece * PIECE), &g->bad[piece]);
}

static par_status norm2(par_stream *stream, const void *args, void *workspace) {
    const par_norm2 *a = args;
    (void)workspace;
    for (int64_t i = 0; i < a->n_vectors; i++) {
        const par_norm2_vector *v = &a->vectors[i];
        for (int64_t at = 0; at < v->n; at += (int64_t)PIECE * PIECES) {
            double sums[PIECES], bad[PIECES];
            const norm2_group group = {v->x + at, v->n - at, sums, bad};
            int64_t pieces = cpu_min(PIECES, cpu_pieces(group.left, PIECE));
            cpu_loop(pieces, group.left, norm2_pieces, &group);
            for (int64_t piece = 0; piece < pieces; piece++) {
                v->out[0] += sums[piece];
                v->out[1] += bad[piece];
            }
            par__progress(stream);
        }
    }
    return PAR_OK;
}

CPU_INLINE void cast_step(par_dtype from, par_dtype to, const par_cast *a, int64_t at, int64_t i,
                          int64_t count) {
    vec_store(a->y, to, at + i, count, vec_load(a->x, from, at + i, count) * a->scale);
}

CPU_INLINE void cast_to(par_dtype to, par_dtype from, const par_cast *a, int64_t at, int64_t n) {
    CPU_VECTORS(n, cast_step, from, to, a, at);
}

CPU_INLINE void cast_from(par_dtype from, const par_cast *a, int64_t at, int64_t n) {
    CPU_BY_TYPE(a->dtype_y, cast_to, from, a, at, n);
}

static void cast_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const par_cast *a = user;
    for (int64_t at = begin * PIECE; at < cpu_min(end * PIECE, a->n); at += PIECE)
        CPU_BY_TYPE(a->dtype_x, cast_from, a, at, cpu_min(PIECE, a->n - at));
}

static par_status cast(par_stream *stream, const void *args, void *workspace) {
    const par_cast *a = args;
    cpu_loop(cpu_pieces(a->n, PIECE), a->n, cast_pieces, a);
    return PAR_OK;
}

void par__cpu_update(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_ADAMW] = (par_kernel){CPU_NAME("adamw"), par__ref_no_workspace, adamw};
    k[PAR_OP_SGD] = (par_kernel){CPU_NAME("sgd"), par__ref_no_workspace, sgd};
    k[PAR_OP_NORM2] = (par_kernel){CPU_NAME("norm2"), par__ref_no_workspace, norm2};
    k[PAR_OP_CAST] = (par_kernel){CPU_NAME("cast"), par__ref_no_workspace, cast};
}
