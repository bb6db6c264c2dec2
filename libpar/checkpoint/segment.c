/*
 * The geometry of runs. A run is a range of a local rectangle that is stored row by row, so its
 * logical elements are at most three rectangles of the tensor: the end of a row, whole rows, and
 * the beginning of a row.
 */
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/base/utf8.h"
#include "libpar/checkpoint/checkpoint.h"

static bool good_name(const char *name) {
    return name && *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strlen(name) < 256 &&
           par__is_plain(name) && !strchr(name, '\n') && !strchr(name, '\t');
}

static bool fits(const par_checkpoint_run *r) {
    int64_t n;
    for (int d = 0; d < 2; d++)
        if (r->global[d] < 1 || r->offset[d] < 0 || r->extent[d] < 0 ||
            r->offset[d] > r->global[d] || r->extent[d] > r->global[d] - r->offset[d] ||
            r->local[d] < r->extent[d] || r->local[d] < 1)
            return false;
    if (r->ndim == 1 && (r->global[1] != 1 || r->offset[1] != 0 || r->local[1] != 1)) return false;
    return par__mul64(r->global[0], r->global[1], &n) && par__mul64(r->local[0], r->local[1], &n) &&
           r->first >= 0 && r->first <= n && r->n <= n - r->first;
}

par_status par__run_check(const par_checkpoint_run *run) {
    PAR_REQUIRE(run && run->kind && run->name);
    if (!good_name(run->kind) || !good_name(run->name))
        PAR_FAIL(PAR_ERR_ARG,
                 "%s/%s: kind and name of a run have no slash; legal: 1 to 255 bytes of UTF-8 "
                 "without control characters",
                 run->kind, run->name);
    if (!par_dtype_nbytes(run->dtype) || run->n < 1 || run->n > INT64_MAX / 16)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s/%s: %lld elements of %s; legal: at least 1, of a type that there is",
                 run->kind, run->name, (long long)run->n, par_dtype_name(run->dtype));
    if (run->ndim < 0 || run->ndim > 2 || run->replica < 0)
        PAR_FAIL(PAR_ERR_ARG, "%s/%s: ndim %d, replica %d; legal: ndim 0 to 2, replica from 0 on",
                 run->kind, run->name, run->ndim, run->replica);
    par_checkpoint_run r = par__run_plain(run);
    if (!fits(&r))
        PAR_FAIL(PAR_ERR_ARG,
                 "%s/%s: [%lld, %lld] at [%lld, %lld] of [%lld, %lld], local [%lld, %lld], "
                 "%lld elements from %lld on: do not fit each other",
                 r.kind, r.name, (long long)r.extent[0], (long long)r.extent[1],
                 (long long)r.offset[0], (long long)r.offset[1], (long long)r.global[0],
                 (long long)r.global[1], (long long)r.local[0], (long long)r.local[1],
                 (long long)r.n, (long long)r.first);
    return PAR_OK;
}

par_checkpoint_run par__run_plain(const par_checkpoint_run *run) {
    par_checkpoint_run r = *run;
    if (r.ndim != 0) return r;
    r.first = 0;
    for (int d = 0; d < 2; d++) {
        r.offset[d] = 0;
        r.global[d] = r.extent[d] = r.local[d] = d == 0 ? r.n : 1;
    }
    return r;
}

/* Rows [row, end) and columns [column, last) of the local rectangle, without its padding. */
static int add_rect(const par_checkpoint_run *r, int64_t row, int64_t end, int64_t column,
                    int64_t last, par__rect *out) {
    if (end > r->extent[0]) end = r->extent[0];
    if (last > r->extent[1]) last = r->extent[1];
    if (row >= end || column >= last) return 0;
    *out = (par__rect){.row = r->offset[0] + row,
                       .column = r->offset[1] + column,
                       .rows = end - row,
                       .columns = last - column,
                       .at = row * r->local[1] + column - r->first,
                       .pitch = r->local[1]};
    return 1;
}

int par__run_rects(const par_checkpoint_run *r, par__rect out[PAR__RECTS]) {
    int64_t width = r->local[1], end = r->first + r->n;
    int64_t row = r->first / width, column = r->first % width, last = end / width;
    if (row == last) return add_rect(r, row, row + 1, column, end % width, out);
    int n = 0;
    if (column > 0) {
        n += add_rect(r, row, row + 1, column, width, out);
        row++;
    }
    n += add_rect(r, row, last, 0, width, out + n);
    return n + add_rect(r, last, last + 1, 0, end % width, out + n);
}

int64_t par__run_count(const par_checkpoint_run *r) {
    par__rect rects[PAR__RECTS];
    int64_t sum = 0;
    int n = par__run_rects(r, rects);
    for (int i = 0; i < n; i++) sum += rects[i].rows * rects[i].columns;
    return sum;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static par_status common(const par__rect *a, const par__rect *b, par__piece_fn *piece, void *user) {
    int64_t row = most(a->row, b->row), end = least(a->row + a->rows, b->row + b->rows);
    int64_t column = most(a->column, b->column);
    int64_t width = least(a->column + a->columns, b->column + b->columns) - column;
    if (row >= end || width <= 0) return PAR_OK;
    int64_t at_a = a->at + (row - a->row) * a->pitch + column - a->column;
    int64_t at_b = b->at + (row - b->row) * b->pitch + column - b->column;
    if (width == a->pitch && width == b->pitch) return piece(user, at_a, at_b, (end - row) * width);
    for (; row < end; row++, at_a += a->pitch, at_b += b->pitch)
        PAR_TRY(piece(user, at_a, at_b, width));
    return PAR_OK;
}

par_status par__run_common(const par_checkpoint_run *a, const par_checkpoint_run *b,
                           par__piece_fn *piece, void *user) {
    par__rect of_a[PAR__RECTS], of_b[PAR__RECTS];
    int n_a = par__run_rects(a, of_a), n_b = par__run_rects(b, of_b);
    for (int i = 0; i < n_a; i++)
        for (int k = 0; k < n_b; k++) PAR_TRY(common(&of_a[i], &of_b[k], piece, user));
    return PAR_OK;
}
