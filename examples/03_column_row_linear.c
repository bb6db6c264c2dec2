/*
 * Lesson 3: column- and row-parallel linear layers, which tensor parallelism is made of.
 *
 *     mpirun -n 4 build/examples/03_column_row_linear
 *
 * y = relu(x W1ᵀ) W2ᵀ with W1 cut by rows and W2 by columns: every rank multiplies its share, and
 * one all-reduce completes y. The result is compared with the whole matrices on every rank: the
 * same numbers up to the order of additions.
 */
#include <math.h>
#include <stdio.h>

#include "lesson.h"

enum { B = 4, C = 16, F = 48 };

/* Weights are functions of their global index: a rank draws its rows and columns without the
 * others. */
static float weight(int stream, int row, int column) {
    return (float)par_random_normal(1, (uint64_t)stream, (uint64_t)(row * 1000 + column)) / 4;
}

/* y [B,C] from the hidden units [first, first + n): all of them on one rank, a share under tensor
 * parallelism. */
static void partial_mlp(const float *x, int first, int n, float *y) {
    for (int i = 0; i < B * C; i++) y[i] = 0;
    for (int b = 0; b < B; b++)
        for (int f = first; f < first + n; f++) {
            float h = 0;
            for (int c = 0; c < C; c++)
                h += x[b * C + c] * weight(1, f, c); /* column-parallel: a row of W1 */
            if (h <= 0) continue;
            for (int c = 0; c < C; c++)
                y[b * C + c] += h * weight(2, c, f); /* row-parallel: a column of W2 */
        }
}

static par_status tp_comm(par_transport *transport, par_memory *memory, par_comm **out) {
    const par_comm_params params = {.axis = "tp", .max_nbytes = B * C * sizeof(float)};
    return par_comm_create(transport, &params, memory, out);
}

static par_status compare(par_comm *tp) {
    int p = par_comm_size(tp), r = par_comm_rank(tp), first = F * r / p, last = F * (r + 1) / p;
    float x[B * C], y[B * C], whole[B * C];
    double largest = 0;
    for (int i = 0; i < B * C; i++) x[i] = (float)par_random_normal(1, 0, (uint64_t)i);
    partial_mlp(x, first, last - first, y);
    PAR_TRY(par_comm_all_reduce(tp, y, y, B * C, PAR_F32, (par_tag){"activations", 0, -1, -1}, NULL,
                                NULL));
    partial_mlp(x, 0, F, whole);
    for (int i = 0; i < B * C; i++) largest = fmax(largest, fabs((double)y[i] - whole[i]));
    printf(
        "rank %d holds hidden units %d..%d; y[0] = %.6f, largest difference from one rank %.1e\n",
        r, first, last - 1, (double)y[0], largest);
    return PAR_OK;
}

static par_status run(par_transport *transport, int argc, char **argv) {
    const par_backend *backend;
    par_memory *plan = NULL, *memory = NULL;
    par_comm *tp = NULL;
    par_status st;
    PAR_TRY(par_backend_get("ref", &backend));
    PAR_TRY(par_memory_create_measuring(&plan)); /* first measure, then take */
    PAR_TRY_GOTO(tp_comm(transport, plan, &tp), out_plan);
    par_comm_destroy(&tp);
    PAR_TRY_GOTO(par_memory_create(&backend->memory, &backend->host_memory, plan, &memory),
                 out_plan);
    PAR_TRY_GOTO(tp_comm(transport, memory, &tp), out_memory);
    st = compare(tp);
    par_comm_destroy(&tp);
out_memory:
    par_memory_destroy(&memory);
out_plan:
    par_memory_destroy(&plan);
    return st;
}

int main(int argc, char **argv) {
    return lesson_main(argc, argv, run);
}
