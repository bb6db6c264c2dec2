/*
 * The machine as a page: a block per kind of host; in it its memory nodes, two beside each other,
 * each with its caches, a square per core, and its devices. Devices that belong to no memory node
 * are below.
 */
#include <stdio.h>
#include <string.h>

#include "svg.h"
#include "topology.h"

enum {
    LEFT = 36,
    COLUMN = 370, /* of two in a row, with the space behind it */
    WIDE = 356,   /* of a memory node's box */
    LINE = 17,
    CORE = 13, /* a core's square and the space behind it */
    PER_ROW = 24,
    FITS = 48, /* characters of a line in a box */
    TOP = 44
};

static const char style[] =
    ".cell{fill:#1f6fb4}.dot{fill:#2e7d32}.box{fill:none;stroke:#999}.small{font-size:11px}\n"
    "@media (prefers-color-scheme:dark){.cell{fill:#6fb7f0}.dot{fill:#81c784}}\n";

typedef struct {
    par__svg svg;
    const par_topology *t;
    bool measure; /* only the height is wanted */
    int height;
} drawing;

static void put_line(drawing *d, int x, int y, const char *class, const char *text, int fits) {
    if (d->measure) return;
    par__svg_put(&d->svg, "<text class=\"%s\" x=\"%d\" y=\"%d\">", class, x, y);
    if (par__svg_put_cut(&d->svg, text, fits)) {
        par__svg_put(&d->svg, "<title>");
        par__svg_put_escaped(&d->svg, text);
        par__svg_put(&d->svg, "</title>");
    }
    par__svg_put(&d->svg, "</text>\n");
}

static void put_square(drawing *d, const char *class, int x, int y) {
    if (!d->measure)
        par__svg_put(&d->svg, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n",
                     class, x, y, CORE - 2, CORE - 2);
}

/* Caches below a component, a line per level: "L2 cache: 1 MiB, 8 of them". */
static int draw_caches(drawing *d, int component, int x, int y) {
    for (int level = 3; level >= 1; level--) {
        const par_component *one = NULL;
        char text[160];
        int n = 0;
        for (int i = component + 1; i < d->t->n && d->t->components[i].parent >= component; i++)
            if (d->t->components[i].kind == PAR_COMPONENT_CACHE &&
                d->t->components[i].level == level)
                one = &d->t->components[i], n++;
        if (!one) continue;
        par__component_text(one, true, text);
        if (n > 1) snprintf(text + strlen(text), sizeof text - strlen(text), ", %d of them", n);
        put_line(d, x, y, "text small", text, FITS);
        y += LINE;
    }
    return y;
}

static int draw_devices(drawing *d, int box, int x, int y, int fits) {
    for (int i = box + 1; i < d->t->n && d->t->components[i].parent >= box; i++) {
        const par_component *p = &d->t->components[i];
        char text[160];
        int own = i; /* the box it stands in: the memory node above it, else the host */
        if (p->kind != PAR_COMPONENT_GPU && p->kind != PAR_COMPONENT_NIC) continue;
        while (d->t->components[own].kind != PAR_COMPONENT_NUMA &&
               d->t->components[own].parent >= 0)
            own = d->t->components[own].parent;
        if (own != box) continue;
        par__component_text(p, false, text);
        put_square(d, p->kind == PAR_COMPONENT_GPU ? "dot" : "cell", x, y - CORE + 3);
        put_line(d, x + CORE + 4, y, "text small", text, fits);
        y += LINE;
    }
    return y;
}

/* A memory node's box; returns its height. */
static int draw_numa(drawing *d, int numa, int x, int top) {
    char text[160], title[256] = "", ranks[160];
    int above = d->t->components[numa].parent, y = top + LINE;
    int n_cores = par__topology_count(d->t, numa, PAR_COMPONENT_CORE);
    par__component_text(&d->t->components[numa], false, text);
    if (d->t->components[above].kind == PAR_COMPONENT_PACKAGE)
        snprintf(title, sizeof title, "package %d, ", d->t->components[above].index);
    snprintf(title + strlen(title), sizeof title - strlen(title), "%s", text);
    put_line(d, x + 8, y, "text", title, FITS);
    par__topology_ranks(d->t, numa, ranks);
    if (*ranks) {
        snprintf(title, sizeof title, "ranks %s", ranks);
        put_line(d, x + 8, y += LINE, "text small", title, FITS);
    }
    y = draw_caches(d, numa, x + 8, y + LINE);
    if (n_cores > 0) {
        snprintf(text, sizeof text, "%d core%s", n_cores, n_cores == 1 ? "" : "s");
        put_line(d, x + 8, y, "text small", text, FITS);
        for (int i = 0; i < n_cores; i++)
            put_square(d, "cell", x + 8 + i % PER_ROW * CORE, y + 6 + i / PER_ROW * CORE);
        y += 6 + (n_cores + PER_ROW - 1) / PER_ROW * CORE + LINE;
    }
    y = draw_devices(d, numa, x + 8, y, FITS);
    if (!d->measure)
        par__svg_put(&d->svg,
                     "<rect class=\"box\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", x, top,
                     WIDE, y - top - LINE / 2);
    return y - top;
}

static void draw_hosts(drawing *d) {
    const par_topology *t = d->t;
    int y = TOP + LINE;
    for (int host = -1; (host = par__topology_next_kind(t, host)) >= 0; y += LINE) {
        char text[256];
        int column = 0, tallest = 0;
        par__topology_hosts(t, host, text, sizeof text);
        put_line(d, LEFT, y, "title", text, 84);
        for (int i = host + 1, last = -1; i < t->n && t->components[i].parent >= host; i++) {
            const char *name = t->components[i].name;
            if (t->components[i].kind != PAR_COMPONENT_PACKAGE || !*name) continue;
            if (last < 0 || strcmp(t->components[last].name, name) != 0)
                put_line(d, LEFT, y += LINE, "text small", name, 100);
            last = i;
        }
        y += LINE / 2;
        for (int i = host + 1; i < t->n && t->components[i].parent >= host; i++) {
            if (t->components[i].kind != PAR_COMPONENT_NUMA) continue;
            int tall = draw_numa(d, i, LEFT + column * COLUMN, y);
            if (tall > tallest) tallest = tall;
            if (++column == 2) y += tallest, column = tallest = 0;
        }
        y = draw_devices(d, host, LEFT, y + tallest + LINE, 100);
    }
    d->height = y;
}

par_status par_topology_write_svg(const par_topology *t, const char *path) {
    PAR_REQUIRE(t && path);
    drawing d = {.t = t, .measure = true};
    char title[96];
    int hosts = 0;
    for (int h = -1; (h = par__topology_child(t, -1, h)) >= 0;) hosts++;
    snprintf(title, sizeof title, "%d host%s, %d rank%s", hosts, hosts == 1 ? "" : "s", t->n_ranks,
             t->n_ranks == 1 ? "" : "s");
    draw_hosts(&d);
    PAR_TRY(par__svg_begin(&d.svg, path, d.height, title, style));
    d.measure = false;
    draw_hosts(&d);
    return par__svg_end(&d.svg);
}
