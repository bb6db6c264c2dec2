/*
 * Lines over steps, tokens or time. A chart's plot is an SVG that stretches with the page, and its
 * labels are text beside it, so that they stay readable in any width. Of more points than a page
 * has pixels, each column keeps its least and its largest: peaks stay. A chart is drawn with a
 * linear and a logarithmic scale, between which the page switches without a script; a script shows
 * the values under the pointer.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { SIDE = 1000 /* of the plot, both ways */, COLUMNS = 500, MAX_TICKS = 12, MAX_MARKS = 200 };

/* Where values lie. */
typedef struct {
    double low, high;
    bool log;
    int n_ticks, decimals; /* decimals: of plain numbers; -1: %g */
    double ticks[MAX_TICKS];
} axis;

typedef struct {
    double *x, *y;
    int n;
} points;

static double place(const axis *a, double value) {
    if (a->log) return log(value / a->low) / log(a->high / a->low);
    return (value - a->low) / (a->high - a->low);
}

/* The smallest of 1, 2, 5 times a power of ten that gives at most n ticks. */
static double tick_step(double range, int n) {
    static const double factors[] = {1, 2, 5, 10};
    double unit = pow(10, floor(log10(range / n)));
    for (int i = 0; i < 4; i++)
        if (range / (factors[i] * unit) <= n) return factors[i] * unit;
    return 20 * unit;
}

static void linear_ticks(axis *a, int n) {
    double step = tick_step(a->high - a->low, n);
    a->n_ticks = 0;
    a->decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (a->decimals > 6 || a->high >= 1e6) a->decimals = -1;
    for (double t = ceil(a->low / step - 1e-9) * step;
         t <= a->high + 1e-9 * step && a->n_ticks < MAX_TICKS; t += step)
        a->ticks[a->n_ticks++] = fabs(t) < 1e-9 * step ? 0 : t;
}

/* Powers of ten, or 1, 2, 5 or 1 to 9 times those: what gives three ticks. */
static void log_ticks(axis *a) {
    static const char *const mantissas[] = {"1", "125", "123456789"};
    for (int k = 0; k < 3; k++) {
        int decades = (int)ceil(log10(a->high / a->low)), every = 1 + decades / 8;
        a->n_ticks = 0;
        a->decimals = -1;
        for (int e = (int)floor(log10(a->low)); e <= log10(a->high); e += every)
            for (const char *m = mantissas[k]; *m; m++) {
                double t = (*m - '0') * pow(10, e);
                if (t >= a->low * (1 - 1e-9) && t <= a->high * (1 + 1e-9) && a->n_ticks < MAX_TICKS)
                    a->ticks[a->n_ticks++] = t;
            }
        if (a->n_ticks >= 3) return;
    }
    linear_ticks(a, 5);
}

/* What has a place in a plot: its ranges have a size, and what lies between has digits. */
static bool fits(double x, double y) {
    return fabs(x) <= 1e18 && fabs(y) <= 1e100;
}

/* The range of all values. */
static bool find_range(const report_chart *c, bool of_x, axis *a) {
    a->low = INFINITY;
    a->high = -INFINITY;
    for (int k = 0; k < c->n_series; k++) {
        const chart_series *s = &c->series[k];
        for (int64_t i = 0; i < s->n; i++) {
            double value = of_x ? s->x[i] : s->y[i];
            if (!fits(s->x[i], s->y[i])) continue;
            a->low = fmin(a->low, value);
            a->high = fmax(a->high, value);
        }
    }
    return a->low <= a->high;
}

/* A flat line gets room around it, and noise of a percent does not fill the plot. */
static void fit_y(const report_chart *c, axis *a) {
    double size = fmax(fabs(a->high), fabs(a->low));
    double least = fmax(c->y_text == report_plain ? 1e-6 * size : 0.02 * size, 1e-30);
    if (c->from_zero && a->low > 0) a->low = 0;
    if (a->high - a->low < least) {
        double middle = (a->high + a->low) / 2;
        a->high = middle + fmax(least, 0.05 * size);
        a->low = middle - fmax(least, 0.05 * size);
        if (middle >= 0 && a->low < 0) a->low = 0;
        if (size == 0) a->high = 1;
    }
    double step = tick_step(a->high - a->low, 5);
    a->low = floor(a->low / step + 1e-9) * step;
    a->high = ceil(a->high / step - 1e-9) * step;
    linear_ticks(a, 6);
}

static int column_of(const axis *x, double value) {
    return (int)(fmin(fmax(place(x, value), 0), 1) * COLUMNS);
}

/* At most two points per column of the plot: the least and the largest, as they come. */
static bool reduce(const chart_series *s, const axis *x, points *out) {
    int64_t most = 2 * COLUMNS + 2;
    bool all = s->n <= most;
    out->n = 0;
    out->x = malloc((size_t)(all ? s->n + 1 : 2 * most) * sizeof *out->x);
    out->y = malloc((size_t)(all ? s->n + 1 : 2 * most) * sizeof *out->y);
    if (!out->x || !out->y) return false;
    for (int64_t begin = 0, end; begin < s->n; begin = end) {
        int column = column_of(x, s->x[begin]);
        int64_t least = begin, largest = begin;
        for (end = begin + 1; end < s->n && !all && column_of(x, s->x[end]) == column; end++) {
            if (!isfinite(s->y[end])) continue;
            if (!(s->y[end] >= s->y[least])) least = end;
            if (!(s->y[end] <= s->y[largest])) largest = end;
        }
        int64_t first = least < largest ? least : largest, last = least < largest ? largest : least;
        if (out->n + 2 > (all ? s->n + 1 : 2 * most)) break;
        out->x[out->n] = s->x[first];
        out->y[out->n++] = s->y[first];
        if (last == first) continue;
        out->x[out->n] = s->x[last];
        out->y[out->n++] = s->y[last];
    }
    return true;
}

static void put_tick(report_page *p, const report_chart *c, const axis *a, double value,
                     bool of_x) {
    char text[REPORT_TEXT];
    report_text *as_text = of_x ? c->x_text : c->y_text;
    if (as_text != report_plain)
        as_text(value, text);
    else if (a->decimals >= 0)
        snprintf(text, sizeof text, "%.*f", a->decimals, value);
    else
        snprintf(text, sizeof text, "%.4g", value);
    report_put_text(p, text);
}

static void put_labels(report_page *p, const report_chart *c, const axis *x, const axis *y) {
    for (int i = 0; i < y->n_ticks; i++) {
        report_put(p, "<span class=\"y\" style=\"top:%.2f%%\">", 100 * (1 - place(y, y->ticks[i])));
        put_tick(p, c, y, y->ticks[i], false);
        report_put(p, "</span>");
    }
    for (int i = 0; i < x->n_ticks; i++) {
        report_put(p, "<span class=\"x%s\" style=\"left:%.2f%%\">", i % 2 ? " odd" : "",
                   100 * place(x, x->ticks[i]));
        put_tick(p, c, x, x->ticks[i], true);
        report_put(p, "</span>");
    }
    report_put(p, "<span class=\"of-x\">%s</span>\n", c->x_name);
}

static bool drawn(const axis *y, const points *of, int i) {
    return fits(of->x[i], of->y[i]) && (!y->log || of->y[i] > 0);
}

/* A point that stands alone, as dots do, is a line of no length with a round end. */
static void put_line(report_page *p, const chart_series *s, const points *of, const axis *x,
                     const axis *y) {
    bool pen_down = false, dots = s->flags & CHART_DOTS;
    report_put(p, "<path class=\"line c%d\" d=\"", s->color);
    for (int i = 0; i < of->n; i++) {
        bool draw = drawn(y, of, i);
        if (draw)
            report_put(p, "%c%.1f %.1f", pen_down ? 'L' : 'M', SIDE * place(x, of->x[i]),
                       SIDE * (1 - place(y, of->y[i])));
        if (draw && !pen_down) report_put(p, "h0");
        pen_down = draw;
    }
    report_put(p, "\"/>\n");
    if (!dots) return;
    report_put(p, "<path class=\"dots c%d\" d=\"", s->color);
    for (int i = 0; i < of->n; i++)
        if (drawn(y, of, i))
            report_put(p, "M%.1f %.1fh0", SIDE * place(x, of->x[i]),
                       SIDE * (1 - place(y, of->y[i])));
    report_put(p, "\"/>\n");
}

static void put_plot(report_page *p, const report_chart *c, const points *of, const axis *x,
                     const axis *y) {
    report_put(p,
               "<div class=\"plot %s\"><svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" "
               "aria-hidden=\"true\">\n",
               y->log ? "log" : "linear", SIDE, SIDE);
    report_put(p, "<path class=\"grid\" d=\"");
    for (int i = 0; i < y->n_ticks; i++)
        report_put(p, "M0 %.1fH%d", SIDE * (1 - place(y, y->ticks[i])), SIDE);
    for (int i = 0; i < x->n_ticks; i++)
        report_put(p, "M%.1f 0V%d", SIDE * place(x, x->ticks[i]), SIDE);
    report_put(p, "\"/>\n");
    for (int i = 0; i < c->n_marks && i < MAX_MARKS; i++) {
        double at = place(x, c->marks[i].step);
        if (!(at >= 0 && at <= 1)) continue;
        report_put(p, "<path class=\"mark\" d=\"M%.1f 0V%d\"><title>", SIDE * at, SIDE);
        report_put_text(p, c->marks[i].what);
        report_put(p, ", step %.0f</title></path>\n", c->marks[i].step);
    }
    for (int k = 0; k < c->n_series; k++) put_line(p, &c->series[k], &of[k], x, y);
    report_put(p, "</svg>");
    put_labels(p, c, x, y);
    report_put(p, "</div>\n");
}

/* What the script shows under the pointer. */
static void put_values(report_page *p, const report_chart *c, const points *of, const axis *x) {
    char text[REPORT_TEXT];
    report_put(p, "<script type=\"application/json\">{\"low\":%.9g,\"high\":%.9g,\"name\":", x->low,
               x->high);
    report_put_json(p, c->x_name);
    report_put(p, ",\"series\":[");
    for (int k = 0; k < c->n_series; k++) {
        report_put(p, "%s{\"name\":", k ? "," : "");
        report_put_json(p, c->series[k].name);
        report_put(p, ",\"color\":%d,\"points\":[", c->series[k].color);
        for (int i = 0; i < of[k].n; i++) {
            report_put(p, "%s[", i ? "," : "");
            report_put_number(p, of[k].x[i]);
            report_put(p, ",");
            report_put_number(p, of[k].y[i]);
            if (c->y_text != report_plain) {
                report_put(p, ",");
                report_put_json(p, c->y_text(of[k].y[i], text));
            }
            report_put(p, "]");
        }
        report_put(p, "]}");
    }
    report_put(p, "]}</script>\n");
}

static void put_head(report_page *p, const report_chart *c, bool has_log) {
    char text[REPORT_TEXT];
    int id = p->n_charts++;
    report_put(p, "<figure class=\"chart%s\">\n", c->wide ? " wide" : "");
    if (has_log)
        report_put(p,
                   "<input type=\"radio\" name=\"scale%d\" id=\"linear%d\" class=\"linear\" "
                   "checked><input type=\"radio\" name=\"scale%d\" id=\"log%d\" class=\"log\">\n",
                   id, id, id, id);
    report_put(p, "<figcaption><b>");
    report_put_text(p, c->title);
    report_put(p, "</b>");
    for (int k = 0; k < c->n_series; k++) {
        const chart_series *s = &c->series[k];
        int64_t n = s->n; /* up to the last number */
        while (n > 0 && !isfinite(s->y[n - 1])) n--;
        report_put(p, "<span class=\"key c%d\">", s->color);
        report_put_text(p, s->name);
        report_put(p, " <i>%s</i></span>", c->y_text(n ? s->y[n - 1] : NAN, text));
    }
    if (has_log)
        report_put(p,
                   "<span class=\"scales\"><label for=\"linear%d\">linear</label>"
                   "<label for=\"log%d\">log</label></span>",
                   id, id);
    report_put(p, "</figcaption>\n");
}

void report_put_chart(report_page *p, const report_chart *c) {
    points of[CHART_MAX_SERIES] = {{0}};
    axis x = {0}, y = {0};
    if (!find_range(c, false, &y) || !find_range(c, true, &x)) return;
    axis log_y = {.low = y.low, .high = y.high, .log = true};
    bool has_log = y.low > 1e-100 && y.high > 1.2 * y.low;
    fit_y(c, &y);
    if (x.low > 0 && x.low < 0.1 * x.high) x.low = 0;
    double least = fmax(1, 1e-9 * fabs(x.low));
    if (x.high - x.low < 1e-9 * least) x.high = x.low + least;
    linear_ticks(&x, 6);
    bool whole = c->n_series <= CHART_MAX_SERIES;
    for (int k = 0; whole && k < c->n_series; k++) whole = reduce(&c->series[k], &x, &of[k]);
    if (whole) {
        put_head(p, c, has_log);
        put_plot(p, c, of, &x, &y);
        if (has_log) {
            log_ticks(&log_y);
            put_plot(p, c, of, &x, &log_y);
        }
        put_values(p, c, of, &x);
        report_put(p, "</figure>\n");
    }
    for (int k = 0; k < CHART_MAX_SERIES; k++) {
        free(of[k].x);
        free(of[k].y);
    }
}
