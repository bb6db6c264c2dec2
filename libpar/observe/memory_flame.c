/*
 * The file on memory as a flame graph that hangs from its root: ranks, kinds, layers, tensors, each
 * as wide as its bytes. Ranks with equal ledgers are drawn once. Frames that nobody could see are
 * left out; those that stay say their name and bytes under the pointer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "memory_report.h"
#include "svg.h"

enum {
    LEFT = 20,
    WIDE = PAR__SVG_WIDTH - 2 * LEFT,
    TOP = 44,
    TALL = 22,
    DEPTH = 5,
    PER_CHARACTER = 7
};
static const double VISIBLE = 0.4; /* pixels */

/* A kind has one hue; layers and tensors are fainter. */
static const char style[] =
    ".frame{stroke-width:.6;stroke:#fff}.small{font-size:11px}.all{fill:#8a8f94}\n"
    ".weights{fill:#1f6fb4}.gradients{fill:#c2571a}.optimizer{fill:#2d8a4e}"
    ".activations{fill:#b0303c}.scratch{fill:#7a51a8}.communication{fill:#8a6d3b}"
    ".data{fill:#00838f}\n"
    "@media (prefers-color-scheme:dark){.frame{stroke:#14171a}}\n";

typedef struct {
    const par_memory_book *book;
    const par_memory_detail *detail;
    char tensor[128];
} leaf;

typedef struct {
    par__svg svg;
    double unit; /* pixels per byte */
} drawing;

static int by_path(const void *a, const void *b) {
    const leaf *x = a, *y = b;
    const par_memory_line *lx = &x->book->lines[x->detail->line],
                          *ly = &y->book->lines[y->detail->line];
    int d = x->book < y->book ? -1 : x->book > y->book;
    if (d == 0) d = strcmp(lx->kind, ly->kind);
    if (d == 0) d = strcmp(x->detail->layer, y->detail->layer);
    return d ? d : strcmp(x->tensor, y->tensor);
}

/* The name of a leaf's frame at a depth, from 1: rank, kind, layer, tensor. */
static void frame_name(const leaf *f, int depth, char text[128]) {
    switch (depth) {
    case 1:
        if (f->book->n_ranks == 1)
            snprintf(text, 128, "rank %d", f->book->first_rank);
        else
            snprintf(text, 128, "rank %d and %d like it", f->book->first_rank,
                     f->book->n_ranks - 1);
        break;
    case 2: snprintf(text, 128, "%s", f->book->lines[f->detail->line].kind); break;
    case 3: snprintf(text, 128, "%s", *f->detail->layer ? f->detail->layer : f->tensor); break;
    default: snprintf(text, 128, "%s", f->tensor);
    }
}

static bool same_frame(const leaf *a, const leaf *b, int depth) {
    char x[128], y[128];
    for (int d = 1; d <= depth; d++) {
        frame_name(a, d, x);
        frame_name(b, d, y);
        if (strcmp(x, y) != 0) return false;
    }
    return true;
}

static void draw_frame(drawing *d, const char *class, const char *name, int depth, double begin,
                       double nbytes, double of) {
    static const double opacity[DEPTH] = {0.25, 0.25, 0.5, 0.36, 0.24};
    double x = LEFT + begin * d->unit, width = nbytes * d->unit;
    int y = TOP + depth * TALL, n = (int)strlen(name);
    int64_t fits = par__whole(width - 6) / PER_CHARACTER;
    char size[32];
    if (width < VISIBLE) return;
    par__svg_put(&d->svg,
                 "<g><rect class=\"frame %s\" fill-opacity=\"%.2f\" x=\"%.2f\" y=\"%d\" "
                 "width=\"%.2f\" height=\"%d\"/><title>",
                 class, opacity[depth], x, y, width, TALL - 1);
    par__svg_put_escaped(&d->svg, name);
    par__svg_put(&d->svg, ": %s, %.1f %%</title>", par__memory_bytes(nbytes, size),
                 100 * nbytes / of);
    if (fits >= 3 && (n <= fits || fits >= 6)) {
        par__svg_put(&d->svg, "<text class=\"text small\" x=\"%.2f\" y=\"%d\">", x + 3, y + 15);
        par__svg_put_cut(&d->svg, name, fits < 120 ? (int)fits : 120);
        par__svg_put(&d->svg, "</text>");
    }
    par__svg_put(&d->svg, "</g>\n");
}

/* Leaves that have the same frame at a depth lie side by side. */
static void draw_depth(drawing *d, const leaf *leaves, int n, int depth, double total) {
    double begin = 0;
    char name[128], kind[128];
    for (int i = 0, k; i < n; i = k) {
        double nbytes = 0;
        for (k = i; k < n && same_frame(&leaves[i], &leaves[k], depth); k++)
            nbytes += (double)leaves[k].detail->nbytes;
        frame_name(&leaves[i], depth, name);
        frame_name(&leaves[i], 2, kind);
        bool hangs = depth < 4 || *leaves[i].detail->layer; /* a tensor of no layer is one frame */
        if (hangs) draw_frame(d, depth == 1 ? "all" : kind, name, depth, begin, nbytes, total);
        begin += nbytes;
    }
}

static leaf *collect(const par_memory_report *r, int *n, double *total) {
    int most = 0;
    for (int b = 0; b < r->n_books; b++) most += r->books[b].n_details;
    leaf *leaves = calloc((size_t)most + 1, sizeof *leaves);
    *n = 0;
    *total = 0;
    for (int b = 0; leaves && b < r->n_books; b++)
        for (int i = 0; i < r->books[b].n_details; i++) {
            leaf *f = &leaves[*n];
            *f = (leaf){.book = &r->books[b], .detail = &r->books[b].details[i]};
            par__memory_tensor(f->book, f->detail, f->tensor);
            if (f->detail->nbytes == 0) continue;
            *total += (double)f->detail->nbytes;
            ++*n;
        }
    if (leaves) qsort(leaves, (size_t)*n, sizeof *leaves, by_path);
    return leaves;
}

par_status par_memory_report_write_svg(const par_memory_report *r, const char *path) {
    drawing d;
    int n;
    double total;
    char title[96], root[64], size[32];
    PAR_REQUIRE(r && path);
    leaf *leaves = collect(r, &n, &total);
    if (!leaves) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a picture of %d ranks", r->n_ranks);
    d.unit = total > 0 ? WIDE / total : 0;
    snprintf(title, sizeof title, "memory of %d rank%s: rank, purpose, layer, tensor", r->n_ranks,
             r->n_ranks == 1 ? "" : "s");
    snprintf(root, sizeof root, "%d ledger%s, %s", r->n_books, r->n_books == 1 ? "" : "s",
             par__memory_bytes(total, size));
    par_status st = par__svg_begin(&d.svg, path, TOP + DEPTH * TALL + 20, title, style);
    if (st == PAR_OK) {
        draw_frame(&d, "all", root, 0, 0, total, total);
        for (int depth = 1; depth < DEPTH; depth++) draw_depth(&d, leaves, n, depth, total);
        st = par__svg_end(&d.svg);
    }
    free(leaves);
    return st;
}
