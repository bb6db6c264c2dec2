/*
 * The logical tensors of a manifest: its runs sorted by name. What is stored of a tensor, copies
 * left out, must be all of it, each element once.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/checkpoint/contents.h"

static int by_name(const void *a, const void *b) {
    const par__stored *x = *(par__stored *const *)a, *y = *(par__stored *const *)b;
    int order = strcmp(x->run.kind, y->run.kind);
    if (order == 0) order = strcmp(x->run.name, y->run.name);
    if (order == 0) order = (x->run.ndim > 0) - (y->run.ndim > 0);
    if (order == 0) order = (x->file > y->file) - (x->file < y->file);
    return order ? order : (x > y) - (x < y);
}

static bool same_tensor(const par__stored *a, const par__stored *b) {
    return strcmp(a->run.kind, b->run.kind) == 0 && strcmp(a->run.name, b->run.name) == 0 &&
           (a->run.ndim > 0) == (b->run.ndim > 0) && (a->run.ndim > 0 || a->file == b->file);
}

typedef struct {
    int64_t row, column;
} corner;

static int by_place(const void *a, const void *b) {
    const corner *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

/*
 * Rectangles whose areas add up to that of [rows, columns] cover each of its elements once, if of
 * all their corners only the whole one's four remain after equal ones have left in pairs: how many
 * rectangles an element is in is then odd for each of them, thus at least one, and one on average.
 * corners [4 n]: room.
 */
static bool covers_once(const par__rect *rects, int n, int64_t rows, int64_t columns,
                        corner *corners) {
    const corner whole[] = {{0, 0}, {0, columns}, {rows, 0}, {rows, columns}};
    int left = 0;
    for (int i = 0; i < 4 * n; i++) {
        const par__rect *r = &rects[i / 4];
        corners[i] = (corner){r->row + (i & 1 ? r->rows : 0), r->column + (i & 2 ? r->columns : 0)};
    }
    qsort(corners, 4 * (size_t)n, sizeof *corners, by_place);
    for (int i = 0; i < 4 * n; i++)
        if (left > 0 && by_place(&corners[left - 1], &corners[i]) == 0)
            left--;
        else
            corners[left++] = corners[i];
    return left == 4 && memcmp(corners, whole, sizeof whole) == 0;
}

/* `runs` [n] of one tensor. */
static par_status check_whole(const char *path, par__stored *const *runs, int n) {
    const par_checkpoint_run *r = &runs[0]->run;
    int64_t sum = 0;
    int count = 0;
    bool fits = true;
    par__rect *rects = malloc((size_t)n * PAR__RECTS * (sizeof *rects + 4 * sizeof(corner)));
    if (!rects) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %d rectangles", path, n);
    for (int i = 0; i < n; i++) {
        if (runs[i]->run.replica > 0) continue;
        fits = fits && par__add64(sum, par__run_count(&runs[i]->run), &sum);
        count += par__run_rects(&runs[i]->run, rects + count);
    }
    bool once = fits && sum == r->global[0] * r->global[1] &&
                covers_once(rects, count, r->global[0], r->global[1],
                            (corner *)(void *)(rects + (size_t)n * PAR__RECTS));
    free(rects);
    if (once) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: %s/%s: the ranks hold %lld elements of [%lld, %lld]; legal: each of them once",
             path, r->kind, r->name, (long long)sum, (long long)r->global[0],
             (long long)r->global[1]);
}

/* Tensor number i from its runs. */
static par_status add_tensor(par_checkpoint *c, const char *path, par__stored *const *runs, int n) {
    const par_checkpoint_run *r = &runs[0]->run;
    for (int i = 0; i < n; i++) {
        const par_checkpoint_run *other = &runs[i]->run;
        if (other->dtype != r->dtype || other->global[0] != r->global[0] ||
            other->global[1] != r->global[1])
            PAR_FAIL(PAR_ERR_FORMAT, "%s: %s/%s: ranks %d and %d differ in type or shape", path,
                     r->kind, r->name, runs[0]->file, runs[i]->file);
        runs[i]->tensor = c->n_tensors;
    }
    c->tensors[c->n_tensors++] = (par_checkpoint_tensor){.kind = r->kind,
                                                         .name = r->name,
                                                         .dtype = r->dtype,
                                                         .ndim = r->ndim,
                                                         .global = {r->global[0], r->global[1]},
                                                         .rank = r->ndim ? -1 : runs[0]->file};
    if (r->ndim > 0) return check_whole(path, runs, n);
    if (n == 1) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: %s/%s: rank %d has it %d times", path, r->kind, r->name,
             runs[0]->file, n);
}

par_status par__contents_tensors(par_checkpoint *c, const char *path) {
    size_t n = (size_t)c->n_stored;
    par__stored **order = malloc((n + 1) * sizeof *order);
    par_status st = PAR_OK;
    c->tensors = calloc(n + 1, sizeof *c->tensors);
    if (!order || !c->tensors) {
        free(order);
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu tensors", path, n);
    }
    for (size_t i = 0; i < n; i++) order[i] = &c->stored[i];
    qsort(order, n, sizeof *order, by_name);
    for (int i = 0, k = 0; st == PAR_OK && i < c->n_stored; i = k) {
        while (k < c->n_stored && same_tensor(order[i], order[k])) k++;
        st = add_tensor(c, path, order + i, k - i);
    }
    free(order);
    return st;
}

int par__contents_find(const par_checkpoint *c, const char *kind, const char *name, int rank) {
    int low = 0, high = c->n_tensors;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(c->tensors[middle].kind, kind);
        if (order == 0) order = strcmp(c->tensors[middle].name, name);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    int found = -1;
    for (int i = low; i < c->n_tensors; i++) {
        const par_checkpoint_tensor *t = &c->tensors[i];
        if (strcmp(t->kind, kind) != 0 || strcmp(t->name, name) != 0) break;
        if (found < 0 || t->rank == rank) found = i;
    }
    return found;
}

size_t par__contents_memory(const par_checkpoint *c) {
    return sizeof *c + c->max_text + (size_t)c->max_stored * sizeof *c->stored +
           (size_t)(c->n_stored + 1) * sizeof *c->tensors + (size_t)c->n_files * sizeof *c->files +
           (size_t)(c->n_pairs + 1) * sizeof *c->pairs;
}

par_status par__contents_shard(const par_checkpoint *c, int file, par__shard *out) {
    const par__file *f = &c->files[file];
    par__shard shard = {.n = f->n, .nbytes = f->nbytes};
    shard.spans = malloc(((size_t)f->n + 1) * sizeof *shard.spans);
    if (!shard.spans) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d spans", f->n);
    for (int i = 0; i < f->n; i++) {
        const par__stored *s = &c->stored[f->first + i];
        shard.spans[i] = s->span;
        shard.spans[i].kind = s->run.kind;
        shard.spans[i].name = s->run.name;
    }
    memcpy(shard.frame, f->frame, PAR__HASH);
    *out = shard;
    return PAR_OK;
}
