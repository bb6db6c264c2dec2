/*
 * Collectives for 1, 2, 3, 4 and 7 ranks: every operation, type and shape against sums that each
 * rank makes itself from all ranks' inputs, which are functions of (rank, index). Small integers
 * are exact in every type, so == is the test; random fp32 must have the bits of the serial sum in
 * rank order. Every case runs with messages of 7 bytes, of 64 bytes and of the default size.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels/half.h"
#include "world.h"

enum { MAX_N = 1031, GUARD = 64, POISON = 0x5a };

static const par_tag tag = {"test", 1, 2, 3};
static const int64_t sizes[] = {0, 1, 2, 7, MAX_N};
static const int64_t pieces[] = {7, 64, 0};

static void put(par_dtype type, void *data, int64_t i, double x) {
    switch (type) {
    case PAR_F32: ((float *)data)[i] = (float)x; break;
    case PAR_BF16: ((uint16_t *)data)[i] = par__f32_to_bf16((float)x); break;
    case PAR_F16: ((uint16_t *)data)[i] = par__f32_to_f16((float)x); break;
    case PAR_I32: ((int32_t *)data)[i] = (int32_t)x; break;
    case PAR_I64: ((int64_t *)data)[i] = (int64_t)x * 4294967296; break;
    default: ((uint8_t *)data)[i] = (uint8_t)x; break;
    }
}

static double get(par_dtype type, const void *data, int64_t i) {
    switch (type) {
    case PAR_F32: return ((const float *)data)[i];
    case PAR_BF16: return par__bf16_to_f32(((const uint16_t *)data)[i]);
    case PAR_F16: return par__f16_to_f32(((const uint16_t *)data)[i]);
    case PAR_I32: return ((const int32_t *)data)[i];
    case PAR_I64: return (double)(((const int64_t *)data)[i] / 4294967296);
    default: return ((const uint8_t *)data)[i];
    }
}

/* At most 7 · 18 = 126 in sum, exact in bf16's 8 bits, and below 256 in uint8. */
static double value(int rank, int64_t i) {
    return (double)((rank * 31 + i * 7) % 19);
}

static double total(int p, int64_t i) {
    double sum = 0;
    for (int k = 0; k < p; k++) sum += value(k, i);
    return sum;
}

/* n elements with a guard behind them. */
static char *vector(par_dtype type, int64_t n) {
    size_t nbytes = (size_t)n * par_dtype_nbytes(type) + GUARD;
    char *data = malloc(nbytes);
    memset(data, POISON, nbytes);
    return data;
}

static void check_guard(par_dtype type, const char *data, int64_t n) {
    for (int i = 0; i < GUARD; i++)
        CHECK(data[(size_t)n * par_dtype_nbytes(type) + (size_t)i] == POISON,
              "guard byte %d was written", i);
}

static void check_all_reduce(world *w, par_dtype type, int64_t n, bool in_place) {
    char *src = vector(type, n), *dst = in_place ? src : vector(type, n);
    for (int64_t i = 0; i < n; i++) put(type, src, i, value(w->r, i));
    CHECK_OK(par_comm_all_reduce(w->comm, src, dst, n, type, tag, NULL, NULL));
    for (int64_t i = 0; i < n; i++)
        CHECK(get(type, dst, i) == total(w->p, i), "%s n %lld in place %d: [%lld] is %g, not %g",
              par_dtype_name(type), (long long)n, in_place, (long long)i, get(type, dst, i),
              total(w->p, i));
    check_guard(type, dst, n);
    if (!in_place) {
        for (int64_t i = 0; i < n; i++)
            CHECK(get(type, src, i) == value(w->r, i), "the source was changed");
        free(dst);
    }
    free(src);
}

static void check_reduce_scatter(world *w, par_dtype type, int64_t n, bool in_place) {
    char *src = vector(type, n * w->p), *own = src + w->r * n * (int64_t)par_dtype_nbytes(type);
    char *dst = in_place ? own : vector(type, n);
    for (int64_t i = 0; i < n * w->p; i++) put(type, src, i, value(w->r, i));
    CHECK_OK(par_comm_reduce_scatter(w->comm, src, dst, n, type, tag, NULL, NULL));
    for (int64_t i = 0; i < n; i++)
        CHECK(get(type, dst, i) == total(w->p, w->r * n + i),
              "%s n %lld in place %d: [%lld] is %g, not %g", par_dtype_name(type), (long long)n,
              in_place, (long long)i, get(type, dst, i), total(w->p, w->r * n + i));
    for (int64_t i = 0; i < n * w->p; i++)
        if (!in_place || i < w->r * n || i >= (w->r + 1) * n)
            CHECK(get(type, src, i) == value(w->r, i), "the source was changed at %lld",
                  (long long)i);
    check_guard(type, src, n * w->p);
    if (!in_place) {
        check_guard(type, dst, n);
        free(dst);
    }
    free(src);
}

static void check_all_gather(world *w, par_dtype type, int64_t n, bool in_place) {
    char *dst = vector(type, n * w->p), *own = dst + w->r * n * (int64_t)par_dtype_nbytes(type);
    char *src = in_place ? own : vector(type, n);
    for (int64_t i = 0; i < n; i++) put(type, src, i, value(w->r, i));
    CHECK_OK(par_comm_all_gather(w->comm, src, dst, n, type, tag, NULL, NULL));
    for (int64_t i = 0; i < n * w->p; i++)
        CHECK(get(type, dst, i) == value((int)(i / n), i % n),
              "%s n %lld in place %d: [%lld] is %g", par_dtype_name(type), (long long)n, in_place,
              (long long)i, get(type, dst, i));
    check_guard(type, dst, n * w->p);
    if (!in_place) free(src);
    free(dst);
}

static void check_broadcast(world *w, par_dtype type, int64_t n, int root) {
    char *data = vector(type, n);
    for (int64_t i = 0; i < n; i++) put(type, data, i, w->r == root ? value(root, i) : 0);
    CHECK_OK(par_comm_broadcast(w->comm, data, n, type, root, tag, NULL, NULL));
    for (int64_t i = 0; i < n; i++)
        CHECK(get(type, data, i) == value(root, i), "root %d [%lld]", root, (long long)i);
    check_guard(type, data, n);
    free(data);
}

/* Around a ring, through oneself where the world has one rank. */
static void check_send(world *w, par_dtype type, int64_t n) {
    int to = (w->r + 1) % w->p, from = (w->r + w->p - 1) % w->p;
    char *src = vector(type, n), *dst = vector(type, n);
    par_work works[2];
    for (int64_t i = 0; i < n; i++) put(type, src, i, value(w->r, i));
    CHECK_OK(par_comm_send(w->comm, src, n, type, to, tag, NULL, &works[0]));
    CHECK_OK(par_comm_recv(w->comm, dst, n, type, from, tag, NULL, &works[1]));
    CHECK_OK(par_work_wait(works[1], NULL));
    CHECK_OK(par_work_wait(works[0], NULL));
    CHECK(par_work_done(works[0]), "a work that was waited for is not done");
    for (int64_t i = 0; i < n; i++)
        CHECK(get(type, dst, i) == value(from, i), "[%lld] from %d", (long long)i, from);
    check_guard(type, dst, n);
    free(src);
    free(dst);
}

static void check_type(world *w, par_dtype type, int64_t n) {
    for (int in_place = 0; in_place < 2; in_place++) {
        if (type != PAR_U8) check_all_reduce(w, type, n, in_place);
        if (type != PAR_U8) check_reduce_scatter(w, type, n, in_place);
        check_all_gather(w, type, n, in_place);
    }
    for (int root = 0; root < w->p; root++) check_broadcast(w, type, n, root);
    check_send(w, type, n);
}

static void every_operation(par_transport *t) {
    world w = {0};
    for (int c = 0; c < 3; c++) {
        if (!world_open(&w, par_transport_size(t), pieces[c], c == 0)) return;
        for (int s = 0; s < 5 && !harness_failed(); s++)
            for (int type = 0; type < PAR_DTYPE_COUNT; type++)
                check_type(&w, (par_dtype)type, sizes[s]);
        CHECK_OK(par_comm_barrier(w.comm, tag));
        world_close(&w);
    }
}

/* Sum of the ranks' noise in rank order, in fp32, one element after the other. */
static float serial_sum(int p, int64_t i) {
    float sum = harness_noise(0, (uint64_t)i);
    for (int k = 1; k < p; k++) sum += harness_noise((uint64_t)k, (uint64_t)i);
    return sum;
}

static void fp32_bits(par_transport *t) {
    static const int64_t lengths[] = {3, 100, 1025, 70001};
    world w = {0};
    for (int c = 0; c < 3; c++) {
        if (!world_open(&w, par_transport_size(t), pieces[c], false)) return;
        for (int l = c == 0 ? 0 : 1; l < (c == 0 ? 3 : 4); l++) {
            int64_t n = lengths[l] / w.p * w.p;
            float *x = malloc((size_t)(n + 1) * sizeof *x),
                  *y = malloc((size_t)(n + 1) * sizeof *y);
            float *z = malloc((size_t)(n + 1) * sizeof *z);
            for (int64_t i = 0; i < n; i++) x[i] = harness_noise((uint64_t)w.r, (uint64_t)i);
            CHECK_OK(par_comm_all_reduce(w.comm, x, y, n, PAR_F32, tag, NULL, NULL));
            for (int64_t i = 0; i < n; i++) {
                float sum = serial_sum(w.p, i);
                CHECK(memcmp(&y[i], &sum, sizeof sum) == 0, "n %lld [%lld]: %.9g, serially %.9g",
                      (long long)n, (long long)i, (double)y[i], (double)sum);
            }
            /* all_gather after reduce_scatter is all_reduce, in place */
            CHECK_OK(par_comm_reduce_scatter(w.comm, x, z + w.r * (n / w.p), n / w.p, PAR_F32, tag,
                                             NULL, NULL));
            CHECK_OK(par_comm_all_gather(w.comm, z + w.r * (n / w.p), z, n / w.p, PAR_F32, tag,
                                         NULL, NULL));
            CHECK(memcmp(y, z, (size_t)n * sizeof *y) == 0,
                  "all_gather of reduce_scatter is not all_reduce, n %lld", (long long)n);
            free(x);
            free(y);
            free(z);
        }
        world_close(&w);
    }
}

/*
 * 16-bit sums are fp32 sums rounded once. With |x| < 1 and p <= 7, the fp32 partial sums are below
 * 8 and each of the p - 1 additions errs by at most 2^-22; the rounding to t bits (8 or 11) errs by
 * 2^-t of the result, at least half the smallest subnormal of fp16, 2^-25.
 */
static void half_rounding(par_transport *t) {
    world w = {0};
    enum { N = 4099 };
    uint16_t *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    for (int k = 0; k < 2; k++) {
        par_dtype type = k ? PAR_F16 : PAR_BF16;
        for (int64_t i = 0; i < N; i++) put(type, x, i, harness_noise((uint64_t)w.r, (uint64_t)i));
        CHECK_OK(par_comm_all_reduce(w.comm, x, y, N, type, tag, NULL, NULL));
        for (int64_t i = 0; i < N; i++) {
            double sum = 0;
            for (int j = 0; j < w.p; j++) {
                uint16_t h[1];
                put(type, h, 0, harness_noise((uint64_t)j, (uint64_t)i));
                sum += get(type, h, 0);
            }
            double bound = ldexp(fabs(sum), k ? -11 : -8) + (w.p - 1) * 0x1p-22 + 0x1p-25;
            CHECK(fabs(get(type, y, i) - sum) <= bound, "%s [%lld]: %g, sum %g, bound %g",
                  par_dtype_name(type), (long long)i, get(type, y, i), sum, bound);
        }
    }
    free(x);
    free(y);
    world_close(&w);
}

#define FOR_RANKS(X) X(1) X(2) X(3) X(4) X(7)
#define CASES(p)                                                                                   \
    {"every_operation_" #p, .ranks = p, .run_mpi = every_operation},                               \
        {"fp32_bits_" #p, .ranks = p, .run_mpi = fp32_bits},                                       \
        {"half_rounding_" #p, .ranks = p, .run_mpi = half_rounding},
static const harness_case cases[] = {FOR_RANKS(CASES)};

int main(int argc, char **argv) {
    return harness_main_mpi("collectives", cases, HARNESS_COUNT(cases), argc, argv);
}
