/* Times of all ranks, and which rank is slow. See par/health.h. All memory is taken at create. */
#define _GNU_SOURCE
#include "par/health.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/clock.h"

enum { HOST = 64 };
static const par_tag tag = {"health", -1, -1, -1};

/* Sums of one rank: what a round gathers. */
typedef struct {
    double seconds[PAR_HEALTH_TIMES];
    int64_t n;
} sums;

struct par_health {
    par_comm *comm;
    int size, rank, n_stages, rounds_needed;
    double factor;
    sums own;
    sums *all, *total;   /* [size] of this round, of all rounds */
    int *stage;          /* [size] */
    int *rounds, *most;  /* [size] slow in a row; the most ever */
    double *factors;     /* [size] of this round; 0: not slow */
    double *sorted;      /* [size] */
    char (*hosts)[HOST]; /* [size] */
    int64_t n_rounds;
    double cost_s; /* of the rounds, on this rank */
};

const char *par_health_name(par_health_time time) {
    static const char *const names[PAR_HEALTH_TIMES] = {"step", "forward", "backward", "wait",
                                                        "work"};
    return (int)time >= 0 && time < PAR_HEALTH_TIMES ? names[time] : "unknown";
}

static par_status allocate(par_health *h) {
    size_t n = (size_t)h->size;
    h->all = calloc(n, sizeof *h->all);
    h->total = calloc(n, sizeof *h->total);
    h->stage = calloc(n, sizeof *h->stage);
    h->rounds = calloc(n, sizeof *h->rounds);
    h->most = calloc(n, sizeof *h->most);
    h->factors = calloc(n, sizeof *h->factors);
    h->sorted = calloc(n, sizeof *h->sorted);
    h->hosts = calloc(n, sizeof *h->hosts);
    if (!h->all || !h->total || !h->stage || !h->rounds || !h->most || !h->factors || !h->sorted ||
        !h->hosts)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the times of %zu ranks", n);
    return PAR_OK;
}

par_status par_health_create(par_comm *comm, const par_layout *layout, double factor, int rounds,
                             par_health **out) {
    PAR_REQUIRE(comm && layout && out && factor >= 0 && rounds >= 0);
    par_health *h = calloc(1, sizeof *h);
    par_status st = h ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for times");
    PAR_TRY_GOTO(par_comm_agree(comm, st), out_health);
    *h = (par_health){.comm = comm,
                      .size = par_comm_size(comm),
                      .rank = par_comm_rank(comm),
                      .n_stages = layout->size[PAR_PP] > 0 ? layout->size[PAR_PP] : 1,
                      .rounds_needed = rounds ? rounds : 3,
                      .factor = factor > 0 ? factor : 1.5};
    PAR_TRY_GOTO(par_comm_agree(comm, allocate(h)), out_health);
    for (int r = 0; r < h->size; r++) {
        int coordinate[PAR_AXIS_COUNT];
        par_layout_coordinates(layout, r, coordinate);
        h->stage[r] = coordinate[PAR_PP];
    }
    char host[HOST] = "";
    gethostname(host, sizeof host - 1);
    PAR_TRY_GOTO(par_comm_all_gather(comm, host, h->hosts, HOST, PAR_U8, tag, NULL, NULL),
                 out_health);
    *out = h;
    return PAR_OK;
out_health:
    par_health_destroy(&h);
    return st;
}

void par_health_destroy(par_health **handle) {
    par_health *h = handle ? *handle : NULL;
    if (!h) return;
    free(h->all);
    free(h->total);
    free(h->stage);
    free(h->rounds);
    free(h->most);
    free(h->factors);
    free(h->sorted);
    free(h->hosts);
    free(h);
    *handle = NULL;
}

void par_health_add(par_health *h, const double seconds[PAR_HEALTH_TIMES]) {
    for (int i = 0; i < PAR_HEALTH_TIMES; i++) h->own.seconds[i] += seconds[i];
    h->own.n++;
}

const char *par_health_host(const par_health *h, int rank) {
    return h->hosts[rank];
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double per_step(const sums *s, int time) {
    return s->n ? s->seconds[time] / (double)s->n : 0;
}

/* The lower one of two in the middle: of two ranks the faster one is what the other is compared
 * with. stage -1: all. *n: ranks. */
static double median(const par_health *h, const sums *of, int time, int stage, int *n) {
    *n = 0;
    for (int r = 0; r < h->size; r++)
        if (stage < 0 || h->stage[r] == stage) h->sorted[(*n)++] = per_step(&of[r], time);
    qsort(h->sorted, (size_t)*n, sizeof *h->sorted, by_value);
    return *n ? h->sorted[(*n - 1) / 2] : 0;
}

static par_health_spread spread_of(const par_health *h, const sums *of, int time) {
    int n;
    par_health_spread s = {.median = median(h, of, time, -1, &n)};
    s.min = s.max = per_step(&of[0], time);
    for (int r = 0; r < h->size; r++) {
        double t = per_step(&of[r], time);
        if (t < s.min) s.min = t;
        if (t > s.max) s.max = t, s.slowest = r;
    }
    return s;
}

/* Counts rounds; true: a rank has just been slow for long enough. */
static bool find_slow(par_health *h) {
    bool news = false;
    for (int stage = 0; stage < h->n_stages; stage++) {
        int n;
        double middle = median(h, h->all, PAR_HEALTH_WORK, stage, &n);
        for (int r = 0; r < h->size; r++) {
            if (h->stage[r] != stage) continue;
            double t = per_step(&h->all[r], PAR_HEALTH_WORK);
            bool slow = n > 1 && middle > 0 && t > h->factor * middle;
            h->rounds[r] = slow ? h->rounds[r] + 1 : 0;
            h->factors[r] = slow ? t / middle : 0;
            if (h->rounds[r] > h->most[r]) h->most[r] = h->rounds[r];
            news = news || h->rounds[r] == h->rounds_needed;
        }
    }
    return news;
}

par_status par_health_gather(par_health *h, int64_t step, par_health_round *out) {
    PAR_REQUIRE(h && out);
    double begin = par__seconds();
    PAR_TRY(par_comm_all_gather(h->comm, &h->own, h->all, sizeof h->own, PAR_U8, tag, NULL, NULL));
    h->cost_s += par__seconds() - begin;
    memset(out, 0, sizeof *out);
    out->step = step;
    out->n_steps = h->own.n;
    h->own = (sums){.n = 0};
    h->n_rounds++;
    if (h->rank != 0) return PAR_OK;
    for (int r = 0; r < h->size; r++) {
        for (int i = 0; i < PAR_HEALTH_TIMES; i++) h->total[r].seconds[i] += h->all[r].seconds[i];
        h->total[r].n += h->all[r].n;
    }
    for (int i = 0; i < PAR_HEALTH_TIMES; i++) out->spread[i] = spread_of(h, h->all, i);
    out->news = find_slow(h);
    for (int r = 0; r < h->size; r++) { /* the worst first */
        if (h->rounds[r] < h->rounds_needed) continue;
        int i = out->n_slow++ < PAR_HEALTH_SLOW ? out->n_slow - 1 : PAR_HEALTH_SLOW - 1;
        if (out->n_slow > PAR_HEALTH_SLOW && out->slow[i].factor >= h->factors[r]) continue;
        for (; i > 0 && out->slow[i - 1].factor < h->factors[r]; i--)
            out->slow[i] = out->slow[i - 1];
        out->slow[i] = (par_health_slow){r, h->rounds[r], h->factors[r]};
    }
    return PAR_OK;
}

typedef struct {
    void (*print)(void *user, const char *line);
    void *user;
} printer;

__attribute__((format(printf, 2, 3))) static void put(const printer *p, const char *format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    p->print(p->user, line);
}

void par_health_print(const par_health *h, void (*print)(void *user, const char *line),
                      void *user) {
    const printer p = {print, user};
    int64_t steps = h->total[0].n;
    if (h->n_rounds == 0 || h->rank != 0 || steps == 0) return;
    put(&p, "times of %d ranks per step, over %" PRId64 " steps, ms", h->size, steps);
    put(&p, "  %-9s %10s %8s %10s %10s  %s", "", "max", "max/min", "median", "min", "slowest rank");
    for (int i = 0; i < PAR_HEALTH_TIMES; i++) {
        par_health_spread s = spread_of(h, h->total, i);
        char ratio[32] = "-";
        if (s.min > 0) snprintf(ratio, sizeof ratio, "%.2f", s.max / s.min);
        put(&p, "  %-9s %10.3f %8s %10.3f %10.3f  %d, %s", par_health_name((par_health_time)i),
            1e3 * s.max, ratio, 1e3 * s.median, 1e3 * s.min, s.slowest, h->hosts[s.slowest]);
    }
    for (int r = 0; r < h->size; r++)
        if (h->most[r] >= h->rounds_needed)
            put(&p, "  slow: rank %d on %s, in %d rounds in a row", r, h->hosts[r], h->most[r]);
    double all = per_step(&h->total[0], PAR_HEALTH_STEP) * (double)steps;
    put(&p, "  %" PRId64 " round%s took %.1f ms, %.3f %% of the steps", h->n_rounds,
        h->n_rounds == 1 ? "" : "s", 1e3 * h->cost_s, all > 0 ? 100 * h->cost_s / all : 0);
}
