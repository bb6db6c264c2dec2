/*
 * The file on memory as it is read: ledgers whose details add up, what is left of a line being its
 * padding; ranks with their samples; differences and growth. See par/memory_report.h.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "memory_report.h"

static void copy(char *out, size_t nbytes, const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    snprintf(out, nbytes, "%s", text ? text : "");
}

/* No process has so many bytes, and sums of two such sizes are numbers. */
static const size_t most = (size_t)1 << 60;

static size_t sum(size_t a, size_t b) {
    return a + b < most ? a + b : most;
}

/* Numbers below 0 and what is not a number are 0, and those above `most` are that. */
static size_t size_from(const json_t *number) {
    json_int_t n = json_integer_value(number);
    return n > 0 ? sum((size_t)n, 0) : 0;
}

static size_t size_of(const json_t *o, const char *key) {
    return size_from(json_object_get(o, key));
}

/* The same, and at most INT_MAX. */
static int int_of(const json_t *o, const char *key) {
    size_t n = size_of(o, key);
    return n < INT_MAX ? (int)n : INT_MAX;
}

static void read_parts(par_memory_book *book, int line, const json_t *details) {
    size_t told = 0, nbytes = book->lines[line].nbytes;
    for (size_t i = 0; i < json_array_size(details); i++) {
        const json_t *o = json_array_get(details, i);
        par_memory_detail *p = &book->details[book->n_details++];
        p->line = line;
        p->nbytes = size_of(o, "nbytes");
        copy(p->layer, sizeof p->layer, o, "layer");
        copy(p->tensor, sizeof p->tensor, o, "tensor");
        told = sum(told, p->nbytes);
    }
    if (told >= nbytes) return;
    par_memory_detail *rest = &book->details[book->n_details++];
    *rest = (par_memory_detail){.line = line, .nbytes = nbytes - told};
    if (json_array_size(details)) strcpy(rest->tensor, "padding");
}

static par_status read_book(par_memory_book *book, const json_t *lines) {
    int n = (int)json_array_size(lines);
    size_t n_details = 0;
    for (size_t i = 0; i < (size_t)n; i++)
        n_details += json_array_size(json_object_get(json_array_get(lines, i), "parts")) + 1;
    book->lines = calloc((size_t)n + 1, sizeof *book->lines);
    book->details = calloc(n_details + 1, sizeof *book->details);
    if (!book->lines || !book->details)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a ledger of %d lines", n);
    for (int i = 0; i < n; i++) {
        const json_t *o = json_array_get(lines, (size_t)i);
        par_memory_line *line = &book->lines[i];
        book->n_lines = i + 1;
        copy(line->kind, sizeof line->kind, o, "kind");
        copy(line->what, sizeof line->what, o, "what");
        line->nbytes = size_of(o, "nbytes");
        line->planned = size_of(o, "planned");
        book->nbytes = sum(book->nbytes, line->nbytes);
        bool host = strcmp(line->kind, par_memory_kind_name(PAR_MEM_COMM)) == 0 ||
                    strcmp(line->kind, par_memory_kind_name(PAR_MEM_DATA)) == 0;
        if (!host) book->on_device = sum(book->on_device, line->nbytes);
        read_parts(book, i, json_object_get(o, "parts"));
    }
    return PAR_OK;
}

static size_t at(const json_t *samples, const char *key, size_t i) {
    return size_from(json_array_get(json_object_get(samples, key), i));
}

static par_status read_rank(par_memory_report *report, par_memory_rank *rank, const json_t *o,
                            const char *path) {
    const json_t *samples = json_object_get(o, "samples");
    size_t n = json_array_size(json_object_get(samples, "step"));
    rank->rank = int_of(o, "rank");
    rank->pid = (int64_t)size_of(o, "pid");
    rank->book = int_of(o, "ledger");
    copy(rank->host, sizeof rank->host, o, "host");
    rank->has_device = json_is_true(json_object_get(o, "device"));
    rank->proportional = size_of(o, "proportional");
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++)
        rank->coordinate[axis] = int_of(o, par_axis_name((par_axis)axis));
    if (rank->book >= report->n_books)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: rank %d has ledger %d; there are %d", path, rank->rank,
                 rank->book, report->n_books);
    par_memory_book *book = &report->books[rank->book];
    if (book->n_ranks++ == 0) book->first_rank = rank->rank;
    rank->samples = calloc(n + 1, sizeof *rank->samples);
    if (!rank->samples) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu samples", n);
    rank->n_samples = (int64_t)n;
    for (size_t i = 0; i < n; i++)
        rank->samples[i] = (par_memory_reading){
            .step = (int64_t)at(samples, "step", i),
            .seconds = json_number_value(json_array_get(json_object_get(samples, "seconds"), i)),
            .resident = at(samples, "resident", i),
            .anonymous = at(samples, "anonymous", i),
            .device = at(samples, "device", i)};
    return PAR_OK;
}

static par_status read_all(par_memory_report *report, const json_t *o, const char *path) {
    const char *form = json_string_value(json_object_get(o, "form"));
    const json_t *books = json_object_get(o, "ledgers"), *ranks = json_object_get(o, "ranks");
    const json_t *savings = json_object_get(o, "largest_rank_with");
    size_t n_books = json_array_size(books), n_ranks = json_array_size(ranks),
           n_savings = json_array_size(savings);
    if (!form || strcmp(form, PAR__MEMORY_FORM) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its form is \"%.40s\"; legal: \"%s\"", path, form ? form : "",
                 PAR__MEMORY_FORM);
    if (n_books == 0 || n_ranks == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: it has %zu ledgers and %zu ranks", path, n_books, n_ranks);
    report->books = calloc(n_books, sizeof *report->books);
    report->ranks = calloc(n_ranks, sizeof *report->ranks);
    if (!report->books || !report->ranks)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the memory of %zu ranks", n_ranks);
    for (size_t i = 0; i < n_books; i++) {
        report->n_books = (int)i + 1;
        PAR_TRY(read_book(&report->books[i], json_array_get(books, i)));
    }
    for (size_t i = 0; i < n_ranks; i++) {
        report->n_ranks = (int)i + 1;
        PAR_TRY(read_rank(report, &report->ranks[i], json_array_get(ranks, i), path));
        const par_memory_rank *largest = &report->ranks[report->largest];
        if (report->books[report->ranks[i].book].nbytes > report->books[largest->book].nbytes)
            report->largest = (int)i;
    }
    report->savings = calloc(n_savings + 1, sizeof *report->savings);
    if (!report->savings) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu options", n_savings);
    report->n_savings = (int)n_savings;
    for (size_t i = 0; i < n_savings; i++) {
        par_memory_saving *s = &report->savings[i];
        copy(s->option, sizeof s->option, json_array_get(savings, i), "option");
        s->nbytes = size_of(json_array_get(savings, i), "nbytes");
    }
    return PAR_OK;
}

par_status par_memory_report_parse(const char *text, const char *name, par_memory_report **out) {
    json_error_t error = {0};
    PAR_REQUIRE(text && name && out);
    json_t *o = json_loads(text, 0, &error);
    if (!o)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d: it is not JSON: %s", name, error.line, error.text);
    par_memory_report *report = calloc(1, sizeof *report);
    par_status st = report ? read_all(report, o, name)
                           : par_error_set(PAR_ERR_MEMORY, "no host memory for a report");
    json_decref(o);
    if (st == PAR_OK)
        *out = report;
    else
        par_memory_report_destroy(&report);
    return st;
}

par_status par_memory_report_read(const char *path, par_memory_report **out) {
    enum { MAX_NBYTES = 1 << 30 };
    char *text = NULL;
    size_t nbytes;
    PAR_REQUIRE(path && out);
    PAR_TRY(par__read_file(path, MAX_NBYTES, &text, &nbytes));
    par_status st = par_memory_report_parse(text, path, out);
    free(text);
    return st;
}

void par_memory_report_destroy(par_memory_report **handle) {
    par_memory_report *r = handle ? *handle : NULL;
    if (!r) return;
    for (int i = 0; i < r->n_books; i++) {
        free(r->books[i].lines);
        free(r->books[i].details);
    }
    for (int i = 0; i < r->n_ranks; i++) free(r->ranks[i].samples);
    free(r->books);
    free(r->ranks);
    free(r->savings);
    free(r);
    *handle = NULL;
}

int par_memory_report_differences(const par_memory_report *r) {
    int n = 0;
    for (int b = 0; b < r->n_books; b++)
        for (int i = 0; i < r->books[b].n_lines; i++)
            n += r->books[b].lines[i].nbytes != r->books[b].lines[i].planned;
    return n;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum { QUARTERS = 4, LEAST_SAMPLES = 16, LEAST_NBYTES = 256 << 10 };

/* Bytes per step; 0: the medians of the quarters do not rise throughout, or not enough. */
static double slope(const par_memory_reading *s, int64_t n, bool device, double *sorted) {
    double median[QUARTERS], middle[QUARTERS];
    for (int q = 0; q < QUARTERS; q++) {
        int64_t begin = q * n / QUARTERS, end = (q + 1) * n / QUARTERS;
        for (int64_t i = begin; i < end; i++)
            sorted[i - begin] = (double)(device ? s[i].device : s[i].anonymous);
        qsort(sorted, (size_t)(end - begin), sizeof *sorted, by_value);
        median[q] = sorted[(end - begin) / 2];
        middle[q] = ((double)s[begin].step + (double)s[end - 1].step) / 2;
        if (q > 0 && median[q] <= median[q - 1]) return 0;
    }
    double rise = median[QUARTERS - 1] - median[0];
    if (rise < LEAST_NBYTES || rise < 1e-3 * median[0]) return 0;
    return rise / (middle[QUARTERS - 1] - middle[0]);
}

/* The ledger itself is taken at create, so what rises from step to step is not of it. */
par_memory_growth par_memory_report_growth(const par_memory_report *r, int rank) {
    par_memory_growth out = {0};
    const par_memory_rank *of = &r->ranks[rank];
    int64_t skipped = of->n_samples / 8, n = of->n_samples - skipped;
    if (of->n_samples < LEAST_SAMPLES) return out;
    const par_memory_reading *s = of->samples + skipped;
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted) return out;
    out.process = slope(s, n, false, sorted);
    out.device = slope(s, n, true, sorted);
    out.first = s[0].step;
    out.last = s[n - 1].step;
    free(sorted);
    return out;
}
