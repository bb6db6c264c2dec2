/*
 * fp32 that travels as bf16, for 1, 2, 3, 4 and 7 ranks, with messages of 7 bytes, of 64 bytes and
 * of the default size: results must have the bits of sums that each rank makes itself, in rank
 * order, of values that it rounds itself, from the definition. And half the bytes must be sent.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "par/record.h"
#include "world.h"

static const par_tag tag = {"test", -1, -1, -1};
static const int64_t pieces[] = {7, 64, 0};

/* Of many magnitudes, every eleventh half way between two numbers of bf16. */
static float value(int rank, int64_t i) {
    if (i % 11 == 0) return (float)(257 + 2 * ((i + rank) % 64)) / 256;
    return ldexpf(harness_noise((uint64_t)rank, (uint64_t)i), (int)((i + rank) % 9) - 4);
}

/* To 8 bits, ties to even; no subnormals here. One rank alone sends nothing. */
static float rounded(int p, float x) {
    int exponent;
    double mantissa = frexp(x, &exponent);
    return p == 1 ? x : (float)ldexp(rint(ldexp(mantissa, 8)), exponent - 8);
}

static float sum(int p, int64_t i) {
    float total = rounded(p, value(0, i));
    for (int k = 1; k < p; k++) total += rounded(p, value(k, i));
    return total;
}

static float *vector(int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    CHECK(x, "no memory for %lld elements", (long long)n);
    x[n] = 12345;
    return x;
}

static void check_same(const char *what, const float *x, int64_t i, float expected) {
    CHECK(memcmp(x, &expected, sizeof expected) == 0, "%s [%lld]: %.9g, not %.9g", what,
          (long long)i, (double)*x, (double)expected);
}

static void scatter(world *w, int64_t n, bool in_place) {
    float *src = vector(n * w->p), *dst = in_place ? src + w->r * n : vector(n);
    for (int64_t i = 0; i < n * w->p; i++) src[i] = value(w->r, i);
    CHECK_OK(par_comm_reduce_scatter_as(w->comm, src, dst, n, PAR_BF16, tag, NULL, NULL));
    for (int64_t i = 0; i < n; i++) check_same("sum", &dst[i], i, sum(w->p, w->r * n + i));
    for (int64_t i = 0; i < n * w->p; i++)
        if (!in_place || i < w->r * n || i >= (w->r + 1) * n)
            check_same("the source", &src[i], i, value(w->r, i));
    CHECK(src[n * w->p] == 12345 && (in_place || dst[n] == 12345), "a guard was written");
    free(src);
    if (!in_place) free(dst);
}

static void gather(world *w, int64_t n, bool in_place) {
    float *dst = vector(n * w->p), *src = in_place ? dst + w->r * n : vector(n);
    for (int64_t i = 0; i < n; i++) src[i] = value(w->r, i);
    CHECK_OK(par_comm_all_gather_as(w->comm, src, dst, n, PAR_BF16, tag, NULL, NULL));
    for (int r = 0; r < w->p; r++)
        for (int64_t i = 0; i < n; i++)
            check_same("gathered", &dst[r * n + i], r * n + i, rounded(w->p, value(r, i)));
    CHECK(dst[n * w->p] == 12345, "a guard was written");
    free(dst);
    if (!in_place) free(src);
}

/* What this rank sent so far, by the operation's row. */
static int64_t sent(const world *w, const char *op) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(w->transport), &rows);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].op, op) == 0 && strcmp(rows[i].purpose, tag.purpose) == 0)
            return rows[i].sent_nbytes;
    return 0;
}

static void bits(par_transport *t) {
    static const int64_t sizes[] = {0, 1, 7, 1031, 9001};
    world w = {0};
    for (int c = 0; c < 3; c++) {
        int64_t n_all = 0;
        if (!world_open(&w, par_transport_size(t), pieces[c], c == 0)) return;
        for (int s = 0; s < (c == 0 ? 4 : 5) && !harness_failed(); s++)
            for (int in_place = 0; in_place < 2; in_place++) {
                scatter(&w, sizes[s], in_place);
                gather(&w, sizes[s], in_place);
                n_all += sizes[s];
            }
        CHECK(sent(&w, "reduce_scatter") == 2 * n_all * (w.p - 1) &&
                  sent(&w, "all_gather") == 2 * n_all * (w.p - 1),
              "%lld and %lld bytes for %lld elements to %d ranks",
              (long long)sent(&w, "reduce_scatter"), (long long)sent(&w, "all_gather"),
              (long long)n_all, w.p - 1);
        world_close(&w);
    }
}

/* As buckets are reduced: each sum is gathered behind its reduction, all of them are under way. */
static void under_way(par_transport *t) {
    enum { N = 4099, BUCKETS = 5 };
    world w = {0};
    par_work works[BUCKETS];
    float *x[BUCKETS];
    if (!world_open(&w, par_transport_size(t), 512, false)) return;
    for (int b = 0; b < BUCKETS; b++) {
        par_work scattered;
        x[b] = vector(N * w.p);
        for (int64_t i = 0; i < N * w.p; i++) x[b][i] = value(w.r, i + b);
        float *own = x[b] + w.r * N;
        CHECK_OK(par_comm_reduce_scatter_as(w.comm, x[b], own, N, PAR_BF16, tag, NULL, &scattered));
        CHECK_OK(par_comm_all_gather_as(w.comm, own, x[b], N, PAR_BF16, tag, NULL, &works[b]));
    }
    for (int b = 0; b < BUCKETS; b++) {
        CHECK_OK(par_work_wait(works[b], NULL));
        for (int64_t i = 0; i < N * w.p; i++)
            check_same("bucket", &x[b][i], i, rounded(w.p, sum(w.p, i + b)));
        free(x[b]);
    }
    world_close(&w);
}

static void refused(par_transport *t) {
    float x[4] = {0};
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    CHECK_FAILS(par_comm_reduce_scatter_as(w.comm, x, x, 1, PAR_F16, tag, NULL, NULL), PAR_ERR_ARG,
                "fp32 cannot travel as fp16; legal: fp32, bf16");
    CHECK_OK(par_comm_reduce_scatter_as(w.comm, x, x + w.r, 1, PAR_F32, tag, NULL, NULL));
    CHECK(sent(&w, "reduce_scatter") == 4 * (w.p - 1), "fp32 sent %lld bytes",
          (long long)sent(&w, "reduce_scatter"));
    world_close(&w);
}

/* One rank sends fp32, the others bf16: all are told. */
static void different(par_transport *t) {
    float x[2] = {0};
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    CHECK_FAILS(
        par_comm_reduce_scatter_as(w.comm, x, x, 1, w.r == 0 ? PAR_F32 : PAR_BF16, tag, NULL, NULL),
        PAR_ERR_ARG, "sent as bf16");
    world_close(&w);
}

#define FOR_RANKS(X) X(1) X(2) X(3) X(4) X(7)
#define CASES(p)                                                                                   \
    {"bits_" #p, .ranks = p, .run_mpi = bits}, {"under_way_" #p, .ranks = p, .run_mpi = under_way},
static const harness_case cases[] = {FOR_RANKS(CASES){"refused", .ranks = 2, .run_mpi = refused},
                                     {"different", .ranks = 2, .run_mpi = different}};

int main(int argc, char **argv) {
    return harness_main_mpi("rounded", cases, HARNESS_COUNT(cases), argc, argv);
}
