/* Tables of a communication matrix: see matrix_table.h. What is not known is a dash. */
#include "matrix_table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void par__printf(const par__printer *out, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    out->print(out->user, text);
}

void par__table_lines(const par_matrix *m, const par__printer *out) {
    static const par_matrix_quantity columns[] = {PAR_MATRIX_NBYTES, PAR_MATRIX_PREDICTED,
                                                  PAR_MATRIX_LOGICAL, PAR_MATRIX_MESSAGES,
                                                  PAR_MATRIX_WAIT};
    enum { N = sizeof columns / sizeof *columns };
    par__printf(out, "%-8s %-22s %14s %14s %14s %12s %12s", "axis", "purpose", "counted",
                "predicted", "logical", "messages", "waited");
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        char text[N][32];
        for (int k = 0; k < N; k++) {
            par_matrix_quantity q = columns[k];
            double total = par__line_total(line, q);
            if (!m->known[q] || (q == PAR_MATRIX_PREDICTED && !par_matrix_is_predicted(line)))
                snprintf(text[k], sizeof text[k], "-");
            else if (q == PAR_MATRIX_MESSAGES)
                snprintf(text[k], sizeof text[k], total < 1e10 ? "%.0f" : "%.4g", total);
            else
                par__quantity_text(q, total, text[k]);
        }
        par__printf(out, "%-8s %-22s %14s %14s %14s %12s %12s", line->axis, line->purpose, text[0],
                    text[1], text[2], text[3], text[4]);
    }
}

double par__hosts_total(const par_matrix *m, const char *axis, par_matrix_quantity quantity,
                        bool between) {
    double sum = 0;
    for (int i = 0; m->host && i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        if (axis && strcmp(axis, line->axis) != 0) continue;
        for (int64_t k = 0; k < line->n; k++)
            if (between == (m->host[line->cells[k].from] != m->host[line->cells[k].to]))
                sum += par_matrix_value(&line->cells[k], quantity);
    }
    return sum;
}

void par__table_hosts(const par_matrix *m, const par__printer *out) {
    /* What is known of: the algorithm's traffic, or what was asked for. */
    par_matrix_quantity q = m->known[PAR_MATRIX_NBYTES] ? PAR_MATRIX_NBYTES : PAR_MATRIX_LOGICAL;
    char within[32], between[32];
    if (!m->host) return;
    for (int i = -1; i < (m->n_hosts > 1 ? m->n : 0); i++) {
        const char *axis = i < 0 ? NULL : m->lines[i].axis;
        bool seen = false;
        for (int k = 0; k < i; k++) seen = seen || strcmp(m->lines[k].axis, axis) == 0;
        if (seen) continue;
        par__quantity_text(q, par__hosts_total(m, axis, q, false), within);
        par__quantity_text(q, par__hosts_total(m, axis, q, true), between);
        par__printf(out, "%s: %s within hosts, %s between %d host%s", axis ? axis : "all axes",
                    within, between, m->n_hosts, m->n_hosts == 1 ? "" : "s");
    }
}

/* A receive is posted long before its peer sends, and a barrier has no bytes. */
static void bandwidth(const par_traffic_op *o, double nbytes, char text[32]) {
    if (o->seconds > 0 && nbytes > 0 && strcmp(o->op, "recv") != 0)
        snprintf(text, 32, "%.3f", nbytes / o->seconds * 1e-9);
    else
        snprintf(text, 32, "-");
}

void par__table_ops(const par_matrix *m, const par__printer *out) {
    char size[32], each[32], waited[32], algbw[32], busbw[32];
    if (m->n_ops == 0) return;
    par__printf(out, "%-8s %-22s %-14s %5s %10s %11s %11s %9s %9s %10s", "axis", "purpose",
                "operation", "ranks", "times", "logical", "mean", "algbw", "busbw", "waited");
    for (int i = 0; i < m->n_ops; i++) {
        const par_traffic_op *o = &m->ops[i];
        if (o->n_ops == 0) continue;
        par__size_text((double)o->logical_nbytes, size);
        par__size_text((double)o->logical_nbytes / (double)o->n_ops, each);
        par__seconds_text(o->wait_s, waited);
        bandwidth(o, (double)o->logical_nbytes, algbw);
        bandwidth(o, o->bus_nbytes, busbw);
        par__printf(out, "%-8s %-22s %-14s %5d %10" PRId64 " %11s %11s %9s %9s %10s", o->axis,
                    o->purpose, o->op, o->n_ranks, o->n_ops, size, each, algbw, busbw, waited);
    }
    par__printf(out,
                "sums over ranks; algbw and busbw in GB/s of a rank, from an operation's start "
                "to its end");
}

/* Axis, purpose and phase, all layers together. */
typedef struct {
    int n;                                                 /* layers */
    double nbytes, wait_s, least, most, longest_s, others; /* others: bytes of no layer */
    int slowest;                                           /* layer of the longest wait */
} phase_sum;

static bool same_phase(const par_traffic_layer *a, const par_traffic_layer *b) {
    return strcmp(a->axis, b->axis) == 0 && strcmp(a->purpose, b->purpose) == 0 &&
           strcmp(a->phase, b->phase) == 0;
}

static phase_sum sum_phase(const par_matrix *m, const par_traffic_layer *of) {
    phase_sum s = {.slowest = -1};
    for (int i = 0; i < m->n_layers; i++) {
        const par_traffic_layer *l = &m->layers[i];
        double nbytes = (double)l->nbytes;
        if (!same_phase(l, of)) continue;
        s.nbytes += nbytes;
        s.wait_s += l->wait_s;
        if (l->layer < 0) s.others += nbytes;
        if (l->layer < 0) continue;
        if (s.n == 0 || nbytes < s.least) s.least = nbytes;
        if (nbytes > s.most) s.most = nbytes;
        if (l->wait_s > s.longest_s) s.longest_s = l->wait_s, s.slowest = l->layer;
        s.n++;
    }
    return s;
}

void par__table_layers(const par_matrix *m, const par__printer *out) {
    if (m->n_layers == 0) return;
    par__printf(out, "%-8s %-22s %-12s %12s %10s %7s %12s %12s %8s", "axis", "purpose", "phase",
                "counted", "waited", "layers", "least", "most", "longest");
    for (int i = 0; i < m->n_layers; i++) {
        const par_traffic_layer *l = &m->layers[i];
        char nbytes[32], waited[32], least[32] = "-", most[32] = "-", slowest[32] = "-";
        bool seen = false;
        for (int k = 0; k < i; k++) seen = seen || same_phase(&m->layers[k], l);
        if (seen) continue;
        phase_sum s = sum_phase(m, l);
        par__size_text(s.nbytes, nbytes);
        par__seconds_text(s.wait_s, waited);
        if (s.n) par__size_text(s.least, least);
        if (s.n) par__size_text(s.most, most);
        if (s.slowest >= 0) snprintf(slowest, sizeof slowest, "%d", s.slowest);
        par__printf(out, "%-8s %-22s %-12s %12s %10s %7d %12s %12s %8s", l->axis, l->purpose,
                    *l->phase ? l->phase : "-", nbytes, waited, s.n, least, most, slowest);
    }
    par__printf(out, "least and most: bytes of a layer; longest: the layer that was waited for "
                     "longest");
}
