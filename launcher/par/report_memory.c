/*
 * Where the memory went: RUN/memory.json. Ranks with the same ledger are one row; of the largest
 * one its largest tensors; what other options would take; and what the process took over time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { MAX_PARTS = 25, MAX_DIFFERENCES = 20 };

/* Bytes of a kind in a ledger. */
static double sum(const par_memory_book *book, const char *kind) {
    double bytes = 0;
    for (int i = 0; i < book->n_lines; i++)
        if (strcmp(book->lines[i].kind, kind) == 0) bytes += (double)book->lines[i].nbytes;
    return bytes;
}

/* The kinds that some ledger has bytes of, in the order of its lines. */
static int find_kinds(const par_memory_report *r, const char *kinds[PAR_MEM_COUNT]) {
    int n = 0;
    for (int b = 0; b < r->n_books; b++)
        for (int i = 0; i < r->books[b].n_lines; i++) {
            const char *kind = r->books[b].lines[i].kind;
            bool known = n == PAR_MEM_COUNT || sum(&r->books[b], kind) <= 0;
            for (int k = 0; k < n && !known; k++) known = strcmp(kinds[k], kind) == 0;
            if (!known) kinds[n++] = kind;
        }
    return n;
}

static void put_ledgers(report_page *p, const par_memory_report *r) {
    const char *kinds[PAR_MEM_COUNT], *heads[PAR_MEM_COUNT + 2] = {"ranks", "#all"};
    static char names[PAR_MEM_COUNT][24];
    char text[REPORT_TEXT];
    int n = find_kinds(r, kinds);
    for (int k = 0; k < n; k++) {
        snprintf(names[k], sizeof names[k], "#%s", kinds[k]);
        heads[k + 2] = names[k];
    }
    report_put(p, "<h3>By purpose</h3>\n");
    report_table_begin(p, heads, n + 2);
    for (int b = 0; b < r->n_books; b++) {
        double all = (double)r->books[b].nbytes;
        char who[128] = ""; /* "0, 1, 4 and 5 more": the ranks that have this ledger */
        size_t used = 0;
        int n_ranks = 0;
        for (int i = 0; i < r->n_ranks; i++)
            if (r->ranks[i].book == b && n_ranks++ < 8)
                used += (size_t)snprintf(who + used, sizeof who - used, "%s%d", used ? ", " : "",
                                         r->ranks[i].rank);
        if (n_ranks > 8) snprintf(who + used, sizeof who - used, " and %d more", n_ranks - 8);
        report_row(p);
        report_cell(p, who);
        report_cell_number(p, all, report_bytes(all, text));
        for (int k = 0; k < n; k++) {
            double bytes = sum(&r->books[b], kinds[k]);
            report_cell_number(p, bytes, report_bytes(bytes, text));
        }
    }
    report_table_end(p);
}

static void put_differences(report_page *p, const par_memory_report *r) {
    char used[REPORT_TEXT], planned[REPORT_TEXT];
    int n = 0;
    for (int b = 0; b < r->n_books; b++)
        for (int i = 0; i < r->books[b].n_lines; i++) {
            const par_memory_line *line = &r->books[b].lines[i];
            if (line->nbytes == line->planned || n++ >= MAX_DIFFERENCES) continue;
            report_note(p, "Not as planned: %s, %s took %s and %s were planned.", line->kind,
                        line->what, report_bytes((double)line->nbytes, used),
                        report_bytes((double)line->planned, planned));
        }
    if (n == 0) report_note(p, "Every line of the ledger took what was planned.");
}

static int by_size(const void *a, const void *b) {
    size_t x = (*(const par_memory_detail *const *)a)->nbytes,
           y = (*(const par_memory_detail *const *)b)->nbytes;
    return x > y ? -1 : x < y;
}

static void put_parts(report_page *p, const par_memory_book *book) {
    static const char *const heads[] = {"purpose", "what", "layer", "tensor", "#bytes", "#of all"};
    char text[REPORT_TEXT];
    const par_memory_detail **sorted = malloc(((size_t)book->n_details + 1) * sizeof *sorted);
    int n = sorted ? book->n_details : 0;
    for (int i = 0; i < n; i++) sorted[i] = &book->details[i];
    if (sorted) qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    report_put(p, "<h3>What is large on the largest rank</h3>\n");
    report_table_begin(p, heads, 6);
    for (int i = 0; i < n && i < MAX_PARTS; i++) {
        const par_memory_line *line = &book->lines[sorted[i]->line];
        double bytes = (double)sorted[i]->nbytes, share = bytes / (double)book->nbytes;
        report_row(p);
        report_cell(p, line->kind);
        report_cell(p, line->what);
        report_cell(p, sorted[i]->layer);
        report_cell(p, sorted[i]->tensor);
        report_cell_number(p, bytes, report_bytes(bytes, text));
        report_cell_number(p, share, report_percent(share, text));
    }
    report_table_end(p);
    if (n > MAX_PARTS) report_note(p, "%d smaller ones are left out.", n - MAX_PARTS);
    free(sorted);
}

static void put_savings(report_page *p, const par_memory_report *r, double now) {
    static const char *const heads[] = {"option", "#largest rank", "#of now"};
    char text[REPORT_TEXT];
    if (r->n_savings == 0) return;
    report_put(p, "<h3>What other options would take, each alone</h3>\n");
    report_table_begin(p, heads, 3);
    for (int i = 0; i < r->n_savings; i++) {
        double bytes = (double)r->savings[i].nbytes;
        report_row(p);
        report_cell(p, r->savings[i].option);
        report_cell_number(p, bytes, report_bytes(bytes, text));
        report_cell_number(p, bytes / now, report_percent(bytes / now, text));
    }
    report_table_end(p);
}

/* What one rank's process and device took over the steps. */
static void put_samples(report_page *p, const par_memory_rank *rank) {
    static const char *const names[] = {"resident", "anonymous", "device"};
    size_t n = (size_t)rank->n_samples;
    double *values = malloc((4 * n + 1) * sizeof *values); /* [4, n]: the step first */
    char title[96];
    if (!values || n == 0) {
        free(values);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const par_memory_reading *s = &rank->samples[i];
        values[i] = (double)s->step;
        values[n + i] = (double)s->resident;
        values[2 * n + i] = (double)s->anonymous;
        values[3 * n + i] = (double)s->device;
    }
    chart_series series[3];
    int n_series = rank->samples[n - 1].device ? 3 : 2;
    for (int i = 0; i < n_series; i++)
        series[i] = (chart_series){.name = names[i],
                                   .x = values,
                                   .y = values + (size_t)(i + 1) * n,
                                   .n = rank->n_samples,
                                   .color = i};
    snprintf(title, sizeof title, "Process of rank %d", rank->rank);
    const report_chart chart = {.title = title,
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = report_bytes,
                                .series = series,
                                .n_series = n_series,
                                .from_zero = true,
                                .wide = true};
    report_put_chart(p, &chart);
    free(values);
}

void report_memory(report_page *p, const report_run *run) {
    char path[1200];
    par_memory_report *r = NULL;
    if (!report_file(run, "memory.json", path)) {
        report_missing(p, "There is no ledger of the ranks' memory; it is in the directory of:",
                       "train_llm --run DIR");
        return;
    }
    if (par_memory_report_read(path, &r) != PAR_OK) {
        report_note(p, "memory.json cannot be read: %s", par_error());
        return;
    }
    const par_memory_rank *largest = &r->ranks[r->largest];
    const par_memory_book *book = &r->books[largest->book];
    put_ledgers(p, r);
    put_differences(p, r);
    put_parts(p, book);
    put_savings(p, r, (double)book->nbytes);
    put_samples(p, largest);
    par_memory_report_destroy(&r);
}
