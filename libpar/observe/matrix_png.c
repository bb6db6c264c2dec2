/*
 * The communication matrix as pixels, by cairo, which is loaded where it is there: no build needs
 * it. Functions and constants are those of its reference manual (stable within libcairo.so.2).
 * Twice as many pixels as the page of SVG has, in its light colours.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "matrix_page.h"
#include "svg.h"

enum { SCALE = 2, RGB24 = 1 /* CAIRO_FORMAT_RGB24 */, SUCCESS = 0, NO_MEMORY = 1, BOLD = 1 };

typedef struct cairo cairo;     /* cairo_t */
typedef struct surface surface; /* cairo_surface_t */

typedef struct {
    double x_bearing, y_bearing, width, height, x_advance, y_advance; /* cairo_text_extents_t */
} extents;

typedef struct {
    void *library;
    surface *(*surface_create)(int format, int width, int height);
    void (*surface_destroy)(surface *);
    int (*write)(surface *, int (*write)(void *, const unsigned char *, unsigned), void *user);
    cairo *(*create)(surface *);
    void (*destroy)(cairo *);
    int (*status)(cairo *);
    void (*scale)(cairo *, double x, double y);
    void (*color)(cairo *, double r, double g, double b, double a);
    void (*width)(cairo *, double);
    void (*rectangle)(cairo *, double x, double y, double width, double height);
    void (*move)(cairo *, double x, double y);
    void (*line)(cairo *, double x, double y);
    void (*fill)(cairo *);
    void (*stroke)(cairo *);
    void (*font)(cairo *, const char *family, int slant, int weight);
    void (*font_size)(cairo *, double);
    void (*measure)(cairo *, const char *text, extents *);
    void (*show)(cairo *, const char *text);
} functions;

typedef struct {
    functions f;
    cairo *to;
} drawing;

static bool load(functions *f) {
    const struct {
        const char *name;
        void *at;
    } list[] = {{"cairo_image_surface_create", &f->surface_create},
                {"cairo_surface_destroy", &f->surface_destroy},
                {"cairo_surface_write_to_png_stream", &f->write},
                {"cairo_create", &f->create},
                {"cairo_destroy", &f->destroy},
                {"cairo_status", &f->status},
                {"cairo_scale", &f->scale},
                {"cairo_set_source_rgba", &f->color},
                {"cairo_set_line_width", &f->width},
                {"cairo_rectangle", &f->rectangle},
                {"cairo_move_to", &f->move},
                {"cairo_line_to", &f->line},
                {"cairo_fill", &f->fill},
                {"cairo_stroke", &f->stroke},
                {"cairo_select_font_face", &f->font},
                {"cairo_set_font_size", &f->font_size},
                {"cairo_text_extents", &f->measure},
                {"cairo_show_text", &f->show}};
    f->library = dlopen("libcairo.so.2", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; f->library && i < sizeof list / sizeof *list; i++) {
        void *found = dlsym(f->library, list[i].name);
        memcpy(list[i].at, &found, sizeof found);
        if (!found) return false;
    }
    return f->library != NULL;
}

static void ink_color(const drawing *d, par__ink ink, double share) {
    static const double colors[PAR__INKS][3] = {[PAR__INK_CELL] = {0.12, 0.44, 0.71},
                                                [PAR__INK_WRONG] = {0.82, 0.13, 0.13},
                                                [PAR__INK_FRAME] = {0.87, 0.87, 0.87},
                                                [PAR__INK_BORDER] = {0.47, 0.47, 0.47}};
    d->f.color(d->to, colors[ink][0], colors[ink][1], colors[ink][2], share);
}

static void rectangle(void *at, par__ink ink, double share, double x, double y, double width,
                      double height, const char *hint) {
    drawing *d = at;
    (void)hint;
    ink_color(d, ink, share);
    d->f.rectangle(d->to, x, y, width, height);
    if (ink == PAR__INK_CELL) {
        d->f.fill(d->to);
    } else {
        d->f.width(d->to, ink == PAR__INK_WRONG ? 2 : 1);
        d->f.stroke(d->to);
    }
}

static void line(void *at, par__ink ink, double width, double x1, double y1, double x2, double y2) {
    drawing *d = at;
    ink_color(d, ink, 1);
    d->f.width(d->to, width);
    d->f.move(d->to, x1, y1);
    d->f.line(d->to, x2, y2);
    d->f.stroke(d->to);
}

static void text(void *at, par__text_kind kind, par__anchor anchor, double x, double y,
                 const char *words) {
    static const double sizes[] = {
        [PAR__TEXT_TITLE] = 15, [PAR__TEXT] = 13, [PAR__TEXT_SMALL] = 11};
    static const double grounds[] = {[PAR__LEFT] = 0, [PAR__MIDDLE] = 0.5, [PAR__RIGHT] = 1};
    drawing *d = at;
    extents e = {0};
    d->f.font(d->to, "sans-serif", 0, kind == PAR__TEXT_TITLE ? BOLD : 0);
    d->f.font_size(d->to, sizes[kind]);
    d->f.measure(d->to, words, &e);
    d->f.color(d->to, 0.13, 0.13, 0.13, 1);
    d->f.move(d->to, x - grounds[anchor] * e.x_advance, y);
    d->f.show(d->to, words);
}

typedef struct {
    par__writer file;
    par_status status; /* of the first piece that could not be written, whose message stays */
} output;

static int write_bytes(void *user, const unsigned char *data, unsigned n) {
    output *to = user;
    if (to->status == PAR_OK) to->status = par__writer_write(&to->file, data, n);
    return to->status == PAR_OK ? SUCCESS : NO_MEMORY;
}

static par_status draw(drawing *d, const par_matrix *m, par_matrix_quantity quantity, int height,
                       surface *pixels) {
    const par__canvas canvas = {rectangle, line, text, d};
    char title[160];
    d->to = d->f.create(pixels);
    d->f.scale(d->to, SCALE, SCALE);
    d->f.color(d->to, 1, 1, 1, 1);
    d->f.rectangle(d->to, 0, 0, PAR__SVG_WIDTH, height);
    d->f.fill(d->to);
    par__page_title(m, quantity, title, sizeof title);
    text(d, PAR__TEXT_TITLE, PAR__LEFT, PAR__SVG_LEFT, 26, title);
    par_status st = par__page_draw(m, quantity, &canvas);
    if (st == PAR_OK && d->f.status(d->to) != SUCCESS)
        st = par_error_set(PAR_ERR_MEMORY, "cairo could not draw the communication matrix");
    d->f.destroy(d->to);
    return st;
}

par_status par_matrix_write_png(const par_matrix *m, par_matrix_quantity quantity,
                                const char *path) {
    drawing d = {0};
    output to = {.status = PAR_OK};
    PAR_REQUIRE(m && path && quantity >= 0 && quantity < PAR_MATRIX_QUANTITIES);
    if (!load(&d.f)) {
        if (d.f.library) dlclose(d.f.library);
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: PNG is drawn by cairo, and there is no libcairo.so.2; on Debian install "
                 "libcairo2, or write SVG",
                 path);
    }
    int height = par__page_height(m);
    surface *pixels = d.f.surface_create(RGB24, SCALE * PAR__SVG_WIDTH, SCALE * height);
    par_status st = draw(&d, m, quantity, height, pixels);
    if (st == PAR_OK) st = par__writer_open(path, &to.file);
    if (st == PAR_OK && d.f.write(pixels, write_bytes, &to) == SUCCESS) {
        st = par__writer_commit(&to.file);
    } else if (st == PAR_OK) {
        st = to.status != PAR_OK
                 ? to.status
                 : par_error_set(PAR_ERR_MEMORY, "%s: cairo could not make it", path);
        par__writer_abort(&to.file);
    }
    d.f.surface_destroy(pixels);
    dlclose(d.f.library);
    return st;
}
