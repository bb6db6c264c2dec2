/*
 * The loss curve as an SVG. Ticks are multiples of 1, 2 or 5 times a power of ten; a curve of more
 * points than the page has pixels is drawn as means of equal runs of them.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "par/observe.h"
#include "svg.h"

enum {
    WIDTH = PAR__SVG_WIDTH,
    HEIGHT = 450,
    LEFT = 70,
    RIGHT = 24,
    TOP = 56,
    BOTTOM = 52,
    MAX_DRAWN = 700
};

typedef struct {
    int64_t n, max;
    int64_t *steps;
    double *losses;
} series;

struct par_curve {
    char title[160];
    series s[2]; /* training, validation */
};

/* Where values lie on the page; steps of the ticks. */
typedef struct {
    double x0, x1, dx, y0, y1, dy;
    int left, decimals; /* room for the widest label of y; its digits behind the point */
} axes;

static par_status series_create(series *s, int64_t max) {
    s->max = max;
    s->steps = calloc((size_t)max + 1, sizeof *s->steps);
    s->losses = calloc((size_t)max + 1, sizeof *s->losses);
    if (!s->steps || !s->losses)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %" PRId64 " losses", max);
    return PAR_OK;
}

par_status par_curve_create(const char *title, int64_t n_train, int64_t n_validation,
                            par_curve **out) {
    PAR_REQUIRE(title && out && n_train >= 0 && n_validation >= 0);
    par_curve *c = calloc(1, sizeof *c);
    if (!c) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a curve");
    snprintf(c->title, sizeof c->title, "%s", title);
    par_status st = series_create(&c->s[0], n_train);
    if (st == PAR_OK) st = series_create(&c->s[1], n_validation);
    if (st == PAR_OK)
        *out = c;
    else
        par_curve_destroy(&c);
    return st;
}

void par_curve_destroy(par_curve **handle) {
    if (!handle || !*handle) return;
    for (int i = 0; i < 2; i++) {
        free((*handle)->s[i].steps);
        free((*handle)->s[i].losses);
    }
    free(*handle);
    *handle = NULL;
}

void par_curve_add(par_curve *c, bool validation, int64_t step, double loss) {
    series *s = &c->s[validation];
    if (s->n == s->max || !(fabs(loss) <= 1e100)) return;
    s->steps[s->n] = step;
    s->losses[s->n++] = loss;
}

/* The smallest of 1, 2, 5 times a power of ten that gives at most n ticks. */
static double tick(double range, int n) {
    double unit = pow(10, floor(log10(range / n)));
    const double factors[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (range / (factors[i] * unit) <= n) return factors[i] * unit;
    return 20 * unit;
}

/* Both series inside, ends on ticks; a flat curve gets room around it. */
static axes fit(const par_curve *c) {
    axes a = {.x1 = 1, .y0 = INFINITY, .y1 = -INFINITY};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < c->s[k].n; i++) {
            a.x1 = fmax(a.x1, (double)c->s[k].steps[i]);
            a.y0 = fmin(a.y0, c->s[k].losses[i]);
            a.y1 = fmax(a.y1, c->s[k].losses[i]);
        }
    if (a.y0 > a.y1) a.y0 = a.y1 = 0;
    if (a.y1 - a.y0 < 1e-6 * fmax(1, fabs(a.y1))) {
        double room = fmax(0.5, 0.1 * fabs(a.y1));
        a.y0 -= room;
        a.y1 += room;
    }
    a.dx = fmax(1, tick(a.x1, 9));
    a.dy = tick(a.y1 - a.y0, 8);
    a.y0 = floor(a.y0 / a.dy + 1e-9) * a.dy;
    a.y1 = ceil(a.y1 / a.dy - 1e-9) * a.dy;
    a.decimals = a.dy < 1 ? (int)fmin(9, ceil(-log10(a.dy) - 1e-9)) : 0;
    /* Digits are about 8 wide; the axis's name and a gap take the rest. */
    int low = snprintf(NULL, 0, "%.*f", a.decimals, a.y0);
    int high = snprintf(NULL, 0, "%.*f", a.decimals, a.y1);
    int left = 40 + 8 * (low > high ? low : high);
    a.left = left > LEFT ? left : LEFT;
    return a;
}

static double at_x(const axes *a, double x) {
    return a->left + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - a->left - RIGHT);
}

static double at_y(const axes *a, double y) {
    return HEIGHT - BOTTOM - (y - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static const char style[] =
    ".train{stroke:#1f6fb4;fill:none;stroke-width:1.5}.val{stroke:#c8501e;fill:none;stroke-width:2}"
    "\n"
    ".dot{fill:#c8501e}\n"
    "@media "
    "(prefers-color-scheme:dark){.train{stroke:#6fb7f0}.val{stroke:#ff9d66}.dot{fill:#ff9d66}}\n";

static void draw_axes(par__svg *p, const axes *a) {
    int n_y = (int)lround((a->y1 - a->y0) / a->dy), n_x = (int)floor(a->x1 / a->dx + 1e-9);
    /* Thousands and millions, which ticks are multiples of, by a letter. */
    double unit = a->dx >= 1e6 ? 1e6 : a->dx >= 1e3 ? 1e3 : 1;
    const char *letter = unit == 1 ? "" : unit == 1e3 ? "k" : "M";
    for (int i = 0; i <= n_y; i++) {
        double y = at_y(a, a->y0 + i * a->dy), value = a->y0 + i * a->dy;
        par__svg_put(p, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                     a->left, WIDTH - RIGHT, y, y);
        par__svg_put(p,
                     "<text class=\"text\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">%.*f</text>\n",
                     a->left - 8, y + 4.5, a->decimals, fabs(value) < a->dy / 2 ? 0.0 : value);
    }
    for (int i = 0; i <= n_x; i++) {
        double step = i * a->dx, x = at_x(a, step);
        par__svg_put(p, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x,
                     x, TOP, HEIGHT - BOTTOM);
        par__svg_put(
            p, "<text class=\"text\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">%.0f%s</text>\n", x,
            HEIGHT - BOTTOM + 20, step / unit, step == 0 ? "" : letter);
    }
    par__svg_put(p, "<text class=\"text\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">step</text>\n",
                 (a->left + WIDTH - RIGHT) / 2, HEIGHT - 12);
    par__svg_put(p,
                 "<text class=\"text\" text-anchor=\"middle\" transform=\"translate(20 %d) "
                 "rotate(-90)\">loss, nats per "
                 "target</text>\n",
                 (TOP + HEIGHT - BOTTOM) / 2);
}

/* Point i of n drawn: the mean of its run of values. */
static void mean_of(const series *s, int64_t i, int64_t n, double *x, double *y) {
    int64_t begin = i * s->n / n, end = (i + 1) * s->n / n;
    *x = *y = 0;
    for (int64_t k = begin; k < end; k++) {
        *x += (double)s->steps[k] / (double)(end - begin);
        *y += s->losses[k] / (double)(end - begin);
    }
}

static void draw_series(par__svg *p, const axes *a, const series *s, bool validation) {
    int64_t n = s->n < MAX_DRAWN ? s->n : MAX_DRAWN;
    double x, y;
    par__svg_put(p, "<polyline class=\"%s\" points=\"", validation ? "val" : "train");
    for (int64_t i = 0; i < n; i++) {
        mean_of(s, i, n, &x, &y);
        par__svg_put(p, "%s%.1f,%.1f", i ? " " : "", at_x(a, x), at_y(a, y));
    }
    par__svg_put(p, "\"/>\n");
    for (int64_t i = 0; i < n && (validation || n == 1); i++) {
        mean_of(s, i, n, &x, &y);
        par__svg_put(p, "<circle class=\"%s\" r=\"3\" cx=\"%.1f\" cy=\"%.1f\"/>\n",
                     validation ? "dot" : "train", at_x(a, x), at_y(a, y));
    }
}

static void draw_legend(par__svg *p, const par_curve *c) {
    static const char *const names[] = {"training", "validation"}, *const classes[] = {"train",
                                                                                       "val"};
    int x = LEFT;
    for (int k = 0; k < 2; k++) {
        const series *s = &c->s[k];
        if (s->n == 0) continue;
        par__svg_put(p, "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"42\" y2=\"42\"/>\n",
                     classes[k], x, x + 22);
        par__svg_put(p, "<text class=\"text\" x=\"%d\" y=\"46\">%s, last %.4g</text>\n", x + 28,
                     names[k], s->losses[s->n - 1]);
        x += 215;
    }
}

par_status par_curve_write(const par_curve *c, const char *path) {
    PAR_REQUIRE(c && path);
    par__svg p;
    axes a = fit(c);
    PAR_TRY(par__svg_begin(&p, path, HEIGHT, c->title, style));
    draw_axes(&p, &a);
    for (int k = 0; k < 2; k++) draw_series(&p, &a, &c->s[k], k == 1);
    draw_legend(&p, c);
    return par__svg_end(&p);
}
