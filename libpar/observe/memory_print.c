/* The file on memory as text, JSON and folded stacks. See par/memory_report.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/base/file.h"
#include "libpar/base/json_text.h"
#include "memory_report.h"

const char *par__memory_bytes(double nbytes, char text[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int i = 0;
    for (; nbytes >= 1024 && i < 5; i++) nbytes /= 1024;
    snprintf(text, 32, "%.*f %s", i ? 2 : 0, nbytes, units[i]);
    return text;
}

void par__memory_tensor(const par_memory_book *book, const par_memory_detail *detail,
                        char text[128]) {
    const par_memory_line *line = &book->lines[detail->line];
    bool same = strcmp(line->what, line->kind) == 0;
    if (!*detail->tensor)
        snprintf(text, 128, "%s", line->what);
    else if (same)
        snprintf(text, 128, "%s", detail->tensor);
    else
        snprintf(text, 128, "%s (%s)", detail->tensor, line->what);
}

typedef struct {
    const par_memory_report *r;
    void (*print)(void *user, const char *line);
    void *user;
} printer;

__attribute__((format(printf, 2, 3))) static void put(const printer *p, const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    p->print(p->user, line);
}

static double of_kind(const par_memory_book *book, int kind) {
    double sum = 0;
    for (int i = 0; i < book->n_lines; i++)
        if (strcmp(book->lines[i].kind, par_memory_kind_name((par_memory_kind)kind)) == 0)
            sum += (double)book->lines[i].nbytes;
    return sum;
}

/* A row per ledger: ranks that have the same are alike. */
static void put_books(const printer *p) {
    char text[32], row[256];
    int n = snprintf(row, sizeof row, "%5s %5s %5s %11s", "rank", "stage", "alike", "ledger");
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        n += snprintf(row + n, sizeof row - (size_t)n, " %13s",
                      par_memory_kind_name((par_memory_kind)kind));
    put(p, "%s", row);
    for (int b = 0; b < p->r->n_books; b++) {
        const par_memory_book *book = &p->r->books[b];
        int stage = 0;
        for (int i = 0; i < p->r->n_ranks; i++)
            if (p->r->ranks[i].rank == book->first_rank) stage = p->r->ranks[i].coordinate[PAR_PP];
        n = snprintf(row, sizeof row, "%5d %5d %5d %11s", book->first_rank, stage, book->n_ranks,
                     par__memory_bytes((double)book->nbytes, text));
        for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
            n += snprintf(row + n, sizeof row - (size_t)n, " %13s",
                          par__memory_bytes(of_kind(book, kind), text));
        put(p, "%s", row);
    }
}

/* Names with their sums, largest first. */
typedef struct {
    char name[128];
    double nbytes;
} entry;

static int by_size(const void *a, const void *b) {
    double x = ((const entry *)a)->nbytes, y = ((const entry *)b)->nbytes;
    return x < y ? 1 : x > y ? -1 : 0;
}

typedef void name_of(const par_memory_book *book, const par_memory_detail *detail, char text[128]);

static void layer_name(const par_memory_book *book, const par_memory_detail *detail,
                       char text[128]) {
    snprintf(text, 128, "%s", *detail->layer ? detail->layer : "of no layer");
}

static void purpose_name(const par_memory_book *book, const par_memory_detail *detail,
                         char text[128]) {
    const par_memory_line *line = &book->lines[detail->line];
    if (strcmp(line->kind, line->what) == 0)
        snprintf(text, 128, "%s", line->kind);
    else
        snprintf(text, 128, "%s: %s", line->kind, line->what);
}

static void put_largest(const printer *p, const par_memory_book *book, const char *title,
                        name_of *name) {
    enum { SHOWN = 8 };
    char text[128], size[32];
    int n = 0;
    entry *list = calloc((size_t)book->n_details + 1, sizeof *list);
    if (!list) return;
    for (int i = 0; i < book->n_details; i++) {
        int k = 0;
        name(book, &book->details[i], text);
        while (k < n && strcmp(list[k].name, text) != 0) k++;
        if (k == n) snprintf(list[n++].name, sizeof list->name, "%s", text);
        list[k].nbytes += (double)book->details[i].nbytes;
    }
    qsort(list, (size_t)n, sizeof *list, by_size);
    put(p, "  by %s:", title);
    for (int i = 0; i < n && i < SHOWN; i++)
        put(p, "    %5.1f %%  %11s  %s", 100 * list[i].nbytes / (double)book->nbytes,
            par__memory_bytes(list[i].nbytes, size), list[i].name);
    if (n > SHOWN) put(p, "    and %d more", n - SHOWN);
    free(list);
}

static void put_peak(const printer *p) {
    const par_memory_rank *rank = &p->r->ranks[p->r->largest];
    const par_memory_book *book = &p->r->books[rank->book];
    char size[32], less[32];
    put(p, "largest: rank %d (tp %d, cp %d, dp %d, stage %d; %s), %s from its creation to its end",
        rank->rank, rank->coordinate[PAR_TP], rank->coordinate[PAR_CP], rank->coordinate[PAR_DP],
        rank->coordinate[PAR_PP], rank->host, par__memory_bytes((double)book->nbytes, size));
    put_largest(p, book, "purpose", purpose_name);
    put_largest(p, book, "layer", layer_name);
    put_largest(p, book, "tensor", par__memory_tensor);
    int n = 0;
    for (int i = 0; i < p->r->n_savings; i++) {
        const par_memory_saving *s = &p->r->savings[i];
        if (s->nbytes >= book->nbytes) continue;
        if (n++ == 0) put(p, "  what would make it smaller:");
        put(p, "    %-28s %11s, %s less", s->option, par__memory_bytes((double)s->nbytes, size),
            par__memory_bytes((double)(book->nbytes - s->nbytes), less));
    }
}

/* The most of a rank's samples. */
static par_memory_reading most_of(const par_memory_rank *rank) {
    par_memory_reading most = {0};
    for (int64_t i = 0; i < rank->n_samples; i++) {
        const par_memory_reading *s = &rank->samples[i];
        if (s->resident > most.resident) most.resident = s->resident, most.step = s->step;
        if (s->anonymous > most.anonymous) most.anonymous = s->anonymous;
        if (s->device > most.device) most.device = s->device;
    }
    return most;
}

/* What of the ledger lies in the process. */
static double ledger_here(const par_memory_report *r, const par_memory_rank *rank) {
    const par_memory_book *book = &r->books[rank->book];
    return (double)(rank->has_device ? book->nbytes - book->on_device : book->nbytes);
}

static double outside(double used, double ledger) {
    return used > ledger ? used - ledger : 0;
}

/* The rank that has most outside of the ledger stands for all. */
static void put_outside(const printer *p) {
    const par_memory_rank *worst = NULL;
    double most = -1;
    char a[32], b[32], c[32], d[32];
    for (int i = 0; i < p->r->n_ranks; i++) {
        const par_memory_rank *rank = &p->r->ranks[i];
        double out = outside((double)most_of(rank).anonymous, ledger_here(p->r, rank));
        if (rank->n_samples && out > most) most = out, worst = rank;
    }
    if (!worst) return;
    par_memory_reading peak = most_of(worst);
    put(p,
        "process of rank %d: at most %s resident (step %" PRId64
        "), of it %s anonymous; its ledger has %s there, so at least %s lie outside of it",
        worst->rank, par__memory_bytes((double)peak.resident, a), peak.step,
        par__memory_bytes((double)peak.anonymous, b),
        par__memory_bytes(ledger_here(p->r, worst), c), par__memory_bytes(most, d));
    if (worst->proportional)
        put(p,
            "  with shared pages divided among those that share them it had %s when this was "
            "written",
            par__memory_bytes((double)worst->proportional, a));
    if (peak.device) {
        double ledger = (double)p->r->books[worst->book].on_device;
        put(p,
            "  on its device %s are in use, of it %s the ledger's, so CUDA, NCCL and BLAS, and "
            "other processes, took %s",
            par__memory_bytes((double)peak.device, a), par__memory_bytes(ledger, b),
            par__memory_bytes(outside((double)peak.device, ledger), c));
    }
}

static void put_differences(const printer *p) {
    char a[32], b[32];
    int n = par_memory_report_differences(p->r);
    if (n == 0) put(p, "plan: all ranks took what was planned");
    for (int i = 0; n && i < p->r->n_books; i++)
        for (int k = 0; k < p->r->books[i].n_lines; k++) {
            const par_memory_line *line = &p->r->books[i].lines[k];
            if (line->nbytes == line->planned) continue;
            put(p, "error: rank %d: %s, %s: %s planned, %s taken", p->r->books[i].first_rank,
                line->kind, line->what, par__memory_bytes((double)line->planned, a),
                par__memory_bytes((double)line->nbytes, b));
        }
}

static void put_growth(const printer *p) {
    int n = 0, samples = 0;
    char size[32];
    for (int i = 0; i < p->r->n_ranks; i++) {
        const par_memory_rank *rank = &p->r->ranks[i];
        par_memory_growth g = par_memory_report_growth(p->r, i);
        if (g.last > g.first) samples++;
        if (g.process > 0 && ++n <= 8)
            put(p,
                "growth: rank %d: the process outside of libpar's ledger grows by %s per step "
                "(steps %" PRId64 " to %" PRId64 ")",
                rank->rank, par__memory_bytes(g.process, size), g.first, g.last);
        if (g.device > 0 && ++n <= 8)
            put(p,
                "growth: rank %d: its device outside of libpar's ledger grows by %s per step "
                "(steps %" PRId64 " to %" PRId64 ")",
                rank->rank, par__memory_bytes(g.device, size), g.first, g.last);
    }
    if (n > 8) put(p, "growth: and of %d more", n - 8);
    if (n == 0 && samples)
        put(p, "growth: none from step to step");
    else if (n == 0)
        put(p, "growth: the run is too short to tell");
}

void par_memory_report_print(const par_memory_report *r,
                             void (*print)(void *user, const char *line), void *user) {
    const printer p = {r, print, user};
    put(&p, "memory of %d rank%s, bytes by purpose; ranks with the same ledger in one row",
        r->n_ranks, r->n_ranks == 1 ? "" : "s");
    put_books(&p);
    put_peak(&p);
    put_outside(&p);
    put_differences(&p);
    put_growth(&p);
}

static json_t *rank_findings(const par_memory_report *r, int i) {
    const par_memory_rank *rank = &r->ranks[i];
    const par_memory_book *book = &r->books[rank->book];
    par_memory_reading most = most_of(rank);
    par_memory_growth g = par_memory_report_growth(r, i);
    json_t *o = json_object(), *kinds = json_object();
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        json_object_set_new(kinds, par_memory_kind_name((par_memory_kind)kind),
                            json_integer(par__whole(of_kind(book, kind))));
    json_object_set_new(o, "rank", json_integer(rank->rank));
    json_object_set_new(o, "ledger_nbytes", json_integer((json_int_t)book->nbytes));
    json_object_set_new(o, "kinds", kinds);
    json_object_set_new(o, "resident_most", json_integer((json_int_t)most.resident));
    json_object_set_new(o, "anonymous_most", json_integer((json_int_t)most.anonymous));
    json_object_set_new(o, "device_most", json_integer((json_int_t)most.device));
    json_object_set_new(
        o, "outside_nbytes",
        json_integer(par__whole(outside((double)most.anonymous, ledger_here(r, rank)))));
    json_object_set_new(o, "process_growth_per_step", json_real(g.process));
    json_object_set_new(o, "device_growth_per_step", json_real(g.device));
    return o;
}

char *par_memory_report_json(const par_memory_report *r) {
    json_t *o = json_object(), *ranks = json_array(), *savings = json_object();
    for (int i = 0; i < r->n_ranks; i++) json_array_append_new(ranks, rank_findings(r, i));
    for (int i = 0; i < r->n_savings; i++)
        json_object_set_new(savings, r->savings[i].option,
                            json_integer((json_int_t)r->savings[i].nbytes));
    json_object_set_new(o, "differences", json_integer(par_memory_report_differences(r)));
    json_object_set_new(o, "largest_rank", json_integer(r->ranks[r->largest].rank));
    json_object_set_new(o, "largest_rank_with", savings);
    json_object_set_new(o, "ranks", ranks);
    char *text = par__json_text(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(o);
    return text;
}

/* ';' separates frames. */
static void frame(char *text) {
    for (; *text; text++)
        if (*text == ';' || *text == '\n') *text = ',';
}

par_status par_memory_report_write_folded(const par_memory_report *r, const char *path) {
    par__writer writer;
    PAR_REQUIRE(r && path);
    PAR_TRY(par__writer_open(path, &writer));
    par_status st = PAR_OK;
    for (int k = 0; k < r->n_ranks; k++) {
        const par_memory_book *book = &r->books[r->ranks[k].book];
        for (int i = 0; st == PAR_OK && i < book->n_details; i++) {
            const par_memory_detail *detail = &book->details[i];
            char tensor[128], layer[48], text[320];
            if (detail->nbytes == 0) continue;
            par__memory_tensor(book, detail, tensor);
            memcpy(layer, detail->layer, sizeof layer);
            frame(tensor);
            frame(layer);
            int n = snprintf(text, sizeof text, "rank %d;%s;%s%s%s %zu\n", r->ranks[k].rank,
                             book->lines[detail->line].kind, layer, *layer ? ";" : "", tensor,
                             detail->nbytes);
            st = par__writer_write(&writer, text, (size_t)n);
        }
    }
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}
