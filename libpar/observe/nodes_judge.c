/* Which nodes are far from the median. See par/nodes.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes.h"

/* A figure that is so many times worse than the median is a fault. Products and memory vary by some
 * per cent between good nodes, messages by much more. */
static const double factors[PAR_NODE_FIGURES] = {1.3, 1.3, 3, 5};

par_status par__node_check_create(int n_ranks, par_node_check **out) {
    size_t n = (size_t)n_ranks;
    par_node_check *c = calloc(1, sizeof *c);
    if (c) c->ranks = calloc(n, sizeof *c->ranks);
    if (c) c->hosts = calloc(n, sizeof *c->hosts);
    *out = c;
    if (!c || !c->ranks || !c->hosts) {
        par_node_check_destroy(out);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a check of %d ranks", n_ranks);
    }
    c->n_ranks = n_ranks;
    return PAR_OK;
}

void par_node_check_destroy(par_node_check **handle) {
    par_node_check *c = handle ? *handle : NULL;
    if (!c) return;
    free(c->ranks);
    free(c->hosts);
    free(c->faults);
    free(c);
    *handle = NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The better one of two in the middle, so that one of two that is bad is found; 0: there are
 * none. */
static double median(par_node_figure figure, double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n ? values[figure == PAR_NODE_LATENCY ? (n - 1) / 2 : n / 2] : 0;
}

/* How many times worse than usual. */
static double worse(par_node_figure figure, double value, double usual) {
    if (value <= 0 || usual <= 0) return 0;
    return figure == PAR_NODE_LATENCY ? value / usual : usual / value;
}

typedef struct {
    par_node_check *check;
    const par_pair_speed *pairs;
    int n_pairs;
    double *values; /* [n_ranks + n_pairs] */
} judging;

static double of_pair(const par_pair_speed *p, par_node_figure figure) {
    return figure == PAR_NODE_LATENCY ? p->latency_s : p->bytes_s;
}

static bool on_one_host(const judging *j, const par_pair_speed *p) {
    return strcmp(j->check->hosts[p->a], j->check->hosts[p->b]) == 0;
}

/* Of the pairs on one host, or on two; rank -1: of all ranks. */
static double usual_pair(judging *j, par_node_figure figure, bool one_host, int rank) {
    int n = 0;
    for (int i = 0; i < j->n_pairs; i++) {
        const par_pair_speed *p = &j->pairs[i];
        if (on_one_host(j, p) == one_host && (rank < 0 || p->a == rank || p->b == rank))
            j->values[n++] = of_pair(p, figure);
    }
    return median(figure, j->values, n);
}

static void add(judging *j, par_node_figure figure, int rank, int peer, double value,
                double usual) {
    j->check->faults[j->check->n_faults++] = (par_node_fault){figure, rank, peer, value, usual};
}

/* More than half of the pairs of a rank, and two at least, are bad. */
static bool rank_is_bad(judging *j, par_node_figure figure, const double usual[2], int rank) {
    int n = 0, bad = 0;
    for (int i = 0; i < j->n_pairs; i++) {
        const par_pair_speed *p = &j->pairs[i];
        if (p->a != rank && p->b != rank) continue;
        n++;
        bad += worse(figure, of_pair(p, figure), usual[on_one_host(j, p)]) > factors[figure];
    }
    return bad > 1 && 2 * bad > n;
}

static void judge_pairs(judging *j, par_node_figure figure) {
    const double usual[2] = {usual_pair(j, figure, false, -1), usual_pair(j, figure, true, -1)};
    for (int r = 0; r < j->check->n_ranks; r++) {
        double *mine = &j->check->ranks[r][figure];
        double apart = usual_pair(j, figure, false, r), near = usual_pair(j, figure, true, r);
        *mine = apart > 0 ? apart : near;
        if (rank_is_bad(j, figure, usual, r))
            add(j, figure, r, -1, *mine, apart > 0 ? usual[0] : usual[1]);
    }
    for (int i = 0; i < j->n_pairs; i++) {
        const par_pair_speed *p = &j->pairs[i];
        double u = usual[on_one_host(j, p)], value = of_pair(p, figure);
        if (worse(figure, value, u) <= factors[figure]) continue;
        if (rank_is_bad(j, figure, usual, p->a) || rank_is_bad(j, figure, usual, p->b)) continue;
        add(j, figure, p->a, p->b, value, u);
    }
}

par_status par__node_check_judge(par_node_check *c, const par_pair_speed *pairs, int n_pairs) {
    size_t n = (size_t)c->n_ranks + (size_t)n_pairs;
    judging j = {.check = c, .pairs = pairs, .n_pairs = n_pairs};
    j.values = calloc(n, sizeof *j.values);
    c->faults = calloc(PAR_NODE_FIGURES * n, sizeof *c->faults);
    c->n_faults = 0;
    if (!j.values || !c->faults) {
        free(j.values);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a check of %d ranks", c->n_ranks);
    }
    judge_pairs(&j, PAR_NODE_MESSAGES);
    judge_pairs(&j, PAR_NODE_LATENCY);
    for (int i = 0; i < PAR_NODE_FIGURES; i++) {
        par_node_figure figure = (par_node_figure)i;
        for (int r = 0; r < c->n_ranks; r++) j.values[r] = c->ranks[r][figure];
        c->median[figure] = median(figure, j.values, c->n_ranks);
        if (figure == PAR_NODE_MESSAGES || figure == PAR_NODE_LATENCY) continue; /* by pairs */
        for (int r = 0; r < c->n_ranks; r++)
            if (worse(figure, c->ranks[r][figure], c->median[figure]) > factors[figure])
                add(&j, figure, r, -1, c->ranks[r][figure], c->median[figure]);
    }
    free(j.values);
    return PAR_OK;
}

static void figure_text(par_node_figure figure, double value, char text[48]) {
    switch (figure) {
    case PAR_NODE_PRODUCTS: snprintf(text, 48, "products %.1f GFLOP/s", 1e-9 * value); break;
    case PAR_NODE_MEMORY: snprintf(text, 48, "memory %.2f GB/s", 1e-9 * value); break;
    case PAR_NODE_MESSAGES: snprintf(text, 48, "messages %.2f GB/s", 1e-9 * value); break;
    default: snprintf(text, 48, "latency %.1f us", 1e6 * value);
    }
}

typedef struct {
    void (*print)(void *user, const char *line);
    void *user;
} printer;

__attribute__((format(printf, 2, 3))) static void put(const printer *p, const char *format, ...) {
    char line[320];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    p->print(p->user, line);
}

void par_node_check_print(const par_node_check *c, void (*print)(void *user, const char *line),
                          void *user) {
    const printer p = {print, user};
    char text[PAR_NODE_FIGURES][48], usual[48];
    for (int i = 0; i < PAR_NODE_FIGURES; i++)
        figure_text((par_node_figure)i, c->median[i], text[i]);
    if (c->median[PAR_NODE_MESSAGES] > 0)
        put(&p, "nodes: medians of %d ranks: %s, %s, %s, %s", c->n_ranks, text[0], text[1], text[2],
            text[3]);
    else
        put(&p, "nodes: one rank: %s, %s", text[0], text[1]);
    for (int i = 0; i < c->n_faults; i++) {
        const par_node_fault *f = &c->faults[i];
        figure_text(f->figure, f->value, text[0]);
        figure_text(f->figure, f->median, usual);
        const char *than = strchr(usual, ' ') + 1;
        if (f->peer < 0)
            put(&p, "warning: nodes: rank %d on %s: %s, where %s is usual: %.1f times worse",
                f->rank, c->hosts[f->rank], text[0], than, worse(f->figure, f->value, f->median));
        else
            put(&p,
                "warning: nodes: ranks %d on %s and %d on %s: %s, where %s is usual: %.1f times "
                "worse",
                f->rank, c->hosts[f->rank], f->peer, c->hosts[f->peer], text[0], than,
                worse(f->figure, f->value, f->median));
    }
    if (c->n_ranks > 1 && c->n_faults == 0) put(&p, "nodes: none is far from them");
}
