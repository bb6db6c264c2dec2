/* par checkpoint diff: pairs and tensors of two checkpoints. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_tool.h"
#include "par_tool.h"

enum { PIECE = 4 << 20 }; /* bytes of a tensor that are compared at a time, in whole rows */

/* How two tensors of one shape differ. */
typedef struct {
    int64_t n;        /* elements that do */
    double largest;   /* |a - b|; NaN if one of the two alone is a number */
    double sum, of_a; /* squares of a - b, and of a */
} difference;

typedef struct {
    const par_checkpoint *a, *b;
    void *piece_a, *piece_b;
    int64_t equal, different, alone; /* tensors */
} comparison;

static int64_t print_alone(const par_checkpoint *a, const par_checkpoint *b, const char *where) {
    int n;
    int64_t count = 0;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(a, &n);
    for (int i = 0; i < n; i++) {
        if (checkpoint_value(b, pairs[i].name)) continue;
        printf("%s: %s in %s alone\n", pairs[i].name, pairs[i].value, where);
        count++;
    }
    return count;
}

static bool is_float(par_dtype dtype) {
    return dtype == PAR_F32 || dtype == PAR_BF16 || dtype == PAR_F16;
}

static void add_floats(const float *a, const float *b, int64_t n, difference *d) {
    for (int64_t i = 0; i < n; i++) {
        double delta = (double)a[i] - (double)b[i];
        d->of_a += (double)a[i] * (double)a[i];
        if (memcmp(&a[i], &b[i], sizeof *a) == 0) continue;
        d->n++;
        d->sum += delta * delta;
        if (!(fabs(delta) <= d->largest)) d->largest = fabs(delta);
    }
}

/* Tensors of one shape, in whole rows. */
static par_status compare(const comparison *c, const par_checkpoint_tensor *a,
                          const par_checkpoint_tensor *b, difference *d) {
    bool floats = is_float(a->dtype) && is_float(b->dtype);
    par_dtype type_a = floats ? PAR_F32 : a->dtype, type_b = floats ? PAR_F32 : b->dtype;
    size_t size = par_dtype_nbytes(type_a);
    const char *bytes_a = c->piece_a, *bytes_b = c->piece_b;
    int64_t rows = PIECE / ((int64_t)size * a->global[1]);
    if (rows < 1) rows = 1;
    for (int64_t row = 0; row < a->global[0]; row += rows) {
        int64_t m = a->global[0] - row < rows ? a->global[0] - row : rows;
        const int64_t offset[2] = {row, 0}, extent[2] = {m, a->global[1]};
        par_status st = par_checkpoint_read(c->a, a, offset, extent, type_a, c->piece_a);
        if (st == PAR_OK) st = par_checkpoint_read(c->b, b, offset, extent, type_b, c->piece_b);
        if (st != PAR_OK) return st;
        if (floats)
            add_floats(c->piece_a, c->piece_b, m * a->global[1], d);
        else
            for (size_t i = 0; i < (size_t)(m * a->global[1]); i++)
                d->n += memcmp(bytes_a + i * size, bytes_b + i * size, size) != 0;
    }
    return PAR_OK;
}

static par_status compare_pair(comparison *c, const par_checkpoint_tensor *a,
                               const par_checkpoint_tensor *b) {
    char shape_a[64], shape_b[64];
    difference d = {0};
    bool same = a->ndim == b->ndim && a->global[0] == b->global[0] && a->global[1] == b->global[1];
    bool floats = is_float(a->dtype) && is_float(b->dtype);
    bool converts = a->dtype == b->dtype || floats;
    if (!same || !converts) {
        printf("%s/%s: %s %s, and %s %s in B\n", a->kind, a->name, par_dtype_name(a->dtype),
               checkpoint_shape(a, shape_a), par_dtype_name(b->dtype),
               checkpoint_shape(b, shape_b));
        c->different++;
        return PAR_OK;
    }
    par_status st = compare(c, a, b, &d);
    if (st != PAR_OK) return st;
    c->different += d.n > 0;
    c->equal += d.n == 0;
    if (d.n == 0) return PAR_OK;
    printf("%s/%s %s: %lld elements differ", a->kind, a->name, checkpoint_shape(a, shape_a),
           (long long)d.n);
    if (floats)
        printf(", largest difference %.3g, relative %.3g", d.largest,
               d.of_a > 0  ? sqrt(d.sum / d.of_a)
               : d.sum > 0 ? (double)INFINITY
                           : 0);
    if (a->dtype != b->dtype)
        printf(" (%s, and %s in B)", par_dtype_name(a->dtype), par_dtype_name(b->dtype));
    printf("\n");
    return PAR_OK;
}

/* Both lists are sorted by kind, name, rank. */
static int order_of(const par_checkpoint_tensor *a, const par_checkpoint_tensor *b) {
    int order = strcmp(a->kind, b->kind);
    if (order == 0) order = strcmp(a->name, b->name);
    return order ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

static par_status compare_tensors(comparison *c) {
    int n_a, n_b;
    const par_checkpoint_tensor *a = par_checkpoint_tensors(c->a, &n_a);
    const par_checkpoint_tensor *b = par_checkpoint_tensors(c->b, &n_b);
    for (int i = 0, k = 0; i < n_a || k < n_b;) {
        int order = i == n_a ? 1 : k == n_b ? -1 : order_of(&a[i], &b[k]);
        if (order == 0) {
            par_status st = compare_pair(c, &a[i++], &b[k++]);
            if (st != PAR_OK) return st;
            continue;
        }
        const par_checkpoint_tensor *t = order < 0 ? &a[i++] : &b[k++];
        printf("%s/%s: in %s alone", t->kind, t->name, order < 0 ? "A" : "B");
        if (t->rank >= 0) printf(" (of rank %d)", t->rank);
        printf("\n");
        c->alone++;
    }
    return PAR_OK;
}

/* A piece is whole rows: at least one of the longest. */
static size_t piece_nbytes(const par_checkpoint *c) {
    int n;
    size_t most = PIECE;
    const par_checkpoint_tensor *t = par_checkpoint_tensors(c, &n);
    for (int i = 0; i < n; i++)
        if ((size_t)t[i].global[1] * 8 > most) most = (size_t)t[i].global[1] * 8;
    return most;
}

static int compare_all(comparison *c) {
    int n;
    int64_t pairs = 0; /* that differ, or are in one alone */
    const par_checkpoint_pair *of_a = par_checkpoint_pairs(c->a, &n);
    printf("A: %s | step %lld | loss %.6g\nB: %s | step %lld | loss %.6g\n",
           par_checkpoint_info(c->a)->path, (long long)par_checkpoint_info(c->a)->step,
           par_checkpoint_info(c->a)->loss, par_checkpoint_info(c->b)->path,
           (long long)par_checkpoint_info(c->b)->step, par_checkpoint_info(c->b)->loss);
    for (int i = 0; i < n; i++) {
        const char *other = checkpoint_value(c->b, of_a[i].name);
        if (!other || strcmp(other, of_a[i].value) == 0) continue;
        printf("%s: %s, and %s in B\n", of_a[i].name, of_a[i].value, other);
        pairs++;
    }
    pairs += print_alone(c->a, c->b, "A");
    pairs += print_alone(c->b, c->a, "B");
    c->piece_a = malloc(piece_nbytes(c->a));
    c->piece_b = malloc(piece_nbytes(c->a));
    par_status st = c->piece_a && c->piece_b
                        ? compare_tensors(c)
                        : par_error_set(PAR_ERR_MEMORY, "no host memory for a piece of a tensor");
    free(c->piece_a);
    free(c->piece_b);
    if (st != PAR_OK) return checkpoint_not_read("diff", st);
    printf("%lld pair%s differ%s | tensors: %lld equal, %lld different, %lld in one alone\n",
           (long long)pairs, pairs == 1 ? "" : "s", pairs == 1 ? "s" : "", (long long)c->equal,
           (long long)c->different, (long long)c->alone);
    return pairs || c->different || c->alone ? CHECKPOINT_FOUND : EXIT_SUCCESS;
}

int checkpoint_diff(const checkpoint_settings *s) {
    par_checkpoint *a = NULL, *b = NULL;
    int code;
    par_status st = checkpoint_open(s->words[0], &a);
    if (st == PAR_OK) st = checkpoint_open(s->words[1], &b);
    if (st == PAR_OK) {
        comparison c = {.a = a, .b = b};
        code = compare_all(&c);
    } else {
        code = checkpoint_not_read("diff", st);
    }
    par_checkpoint_close(&a);
    par_checkpoint_close(&b);
    return code;
}
