/* Rows of a table and the sum of their gradients against ref, and by definition. Bounds:
 * bench.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype;
    int64_t m, n, rows, begin;
    bool positions, accumulate;
    float beta;
} embedding_variant;

static void build_embedding(bench *b, const void *variant) {
    const embedding_variant *v = variant;
    par_embedding a = {.dtype = v->dtype, .m = v->m, .n = v->n, .rows = v->rows, .begin = v->begin};
    a.first_row = 3;
    a.T = v->begin + v->rows + 2;
    a.accumulate = v->accumulate;
    a.beta = v->beta;
    /* ids on both sides of the range */
    if (!v->positions) a.ids = bench_ids(b, v->m, 0, v->begin + v->rows + 3);
    a.table = bench_in(b, v->dtype, v->rows, v->n, v->n, 1);
    a.y = bench_inout(b, "y", v->dtype, v->m, v->n, v->n, v->accumulate ? 1 : (double)NAN,
                      v->accumulate ? 2 * BENCH_U : BENCH_EXACT);
    bench_embedding(b, &a);
    a.dy = bench_in(b, v->dtype, v->m, v->n, v->n, 1);
    a.dtable = bench_inout(b, "dtable", PAR_F32, v->rows, v->n, v->n,
                           v->beta == 0 ? (double)NAN : 1, bench_sum(v->m + 1, 1));
    bench_embedding_backward(b, &a);
}

static void test_embedding(void) {
    static const int64_t sizes[] = {1, 7, 8, 9, 131};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 5 * 3; i++) {
        embedding_variant v = {
            .dtype = dtypes[i % 3], .m = sizes[i / 3 % 5], .n = sizes[i / 15], .rows = 1 + i % 11};
        v.begin = i % 4 * 5;
        v.positions = i & 1;
        v.accumulate = i & 2;
        v.beta = i & 4 ? 1 : 0;
        bench_compare(build_embedding, &v, "embedding %s m %lld n %lld rows %lld begin %lld",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.rows,
                      (long long)v.begin);
    }
    /* many tokens an id, and more ids than two digits of 8 bits */
    for (int i = 0; i < 3 * 2; i++) {
        embedding_variant v = {.dtype = dtypes[i % 3], .m = 4500, .n = 16, .rows = 300, .begin = 7};
        if (i >= 3) v.m = 300, v.rows = 66000;
        bench_compare(build_embedding, &v, "embedding %s m %lld rows %lld", par_dtype_name(v.dtype),
                      (long long)v.m, (long long)v.rows);
    }
}

/* A table split in three, the parts added: each row once; its backward counts each id. */
static void test_oracle(void) {
    enum { M = 9, N = 3, TABLE = 10 };
    static const int32_t ids[M] = {0, 9, 4, 4, 3, 7, 4, 0, 6};
    static const int64_t begin[] = {0, 4, 7}, rows[] = {4, 3, 3};
    float table[TABLE * N], y[M * N] = {0}, dy[M * N], dtable[TABLE * N];
    if (!bench_ready()) return;
    for (int i = 0; i < TABLE * N; i++) table[i] = (float)(i + 1);
    for (int i = 0; i < M * N; i++) dy[i] = 1;
    for (int r = 0; r < 3; r++) {
        par_embedding a = {
            .m = M, .n = N, .rows = rows[r], .begin = begin[r], .ids = ids, .y = y, .dy = dy};
        a.table = table + begin[r] * N;
        a.dtable = dtable + begin[r] * N;
        a.accumulate = true;
        bench_embedding(bench_alone(), &a);
        bench_embedding_backward(bench_alone(), &a);
    }
    for (int i = 0; i < M * N; i++)
        CHECK(y[i] == (float)(ids[i / N] * N + i % N + 1), "row %d of the split table is %g", i / N,
              (double)y[i]);
    for (int i = 0; i < TABLE; i++) {
        int count = 0;
        for (int j = 0; j < M; j++) count += ids[j] == i;
        CHECK(dtable[i * N] == (float)count, "id %d was counted %g times, not %d", i,
              (double)dtable[i * N], count);
    }
}

/* Runs of one id up to and beyond the lengths at which a backend cuts them, their tokens apart from
 * each other. Gradients are whole numbers, whose sums are exact in any order. */
static void check_runs(const int *counts, int n_rows, int64_t n, int64_t begin) {
    enum { MOST = 1200, MOST_N = 9, MOST_ROWS = 12 };
    static int32_t ids[MOST];
    static float dy[MOST * MOST_N], dtable[MOST_ROWS * MOST_N], expected[MOST_ROWS * MOST_N];
    int left[MOST_ROWS], m = 0;
    for (int r = 0; r < n_rows; r++) left[r] = counts[r];
    for (bool more = true; more;) {
        more = false;
        for (int r = 0; r < n_rows; r++)
            if (left[r] > 0) left[r]--, ids[m++] = r, more = true;
    }
    for (int64_t i = 0; i < n_rows * n; i++) dtable[i] = expected[i] = (float)(i % 7);
    for (int64_t i = 0; i < m * n; i++) {
        dy[i] = (float)(i * 37 % 101 - 50);
        expected[ids[i / n] * n + i % n] += dy[i];
    }
    par_embedding a = {.m = m, .n = n, .rows = n_rows - begin, .begin = begin, .ids = ids};
    a.dy = dy;
    a.dtable = dtable + begin * n;
    a.beta = 1;
    bench_embedding_backward(bench_alone(), &a);
    for (int64_t i = begin * n; i < n_rows * n; i++)
        CHECK(dtable[i] == expected[i], "%d tokens of id %lld: dtable[,%lld] is %g, not %g",
              counts[i / n], (long long)(i / n), (long long)(i % n), (double)dtable[i],
              (double)expected[i]);
}

static void test_runs(void) {
    static const int alone[][1] = {{63}, {64}, {65}, {127}, {128}, {129}, {1200}};
    static const int mixed[] = {1, 64, 65, 129, 0, 200, 63, 128, 66, 130, 2, 256};
    if (!bench_ready()) return;
    for (int i = 0; i < HARNESS_COUNT(alone); i++) check_runs(alone[i], 1, 8, 0);
    for (int64_t n = 8; n <= 9; n++)
        for (int64_t begin = 0; begin <= 3; begin += 3)
            check_runs(mixed, HARNESS_COUNT(mixed), n, begin);
}

const harness_case embedding_cases[] = {
    {.name = "embedding", .run = test_embedding},
    {.name = "oracle_embedding", .run = test_oracle},
    {.name = "embedding_runs", .run = test_runs},
};
const int n_embedding_cases = HARNESS_COUNT(embedding_cases);
