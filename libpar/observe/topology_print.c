/* The machine as a tree of lines. Equal ones beside each other are one line, "4 × core", with what
 * is in one of them below it. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "topology.h"

enum { TEXT = 160, LINE = 256 };

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t nbytes,
                                                         const char *format, ...) {
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, nbytes - used, format, args);
    va_end(args);
}

void par__component_text(const par_component *p, bool many, char text[TEXT]) {
    static const char *const names[PAR_COMPONENT_COUNT] = {
        "host", "package", "NUMA node", "cache", "core", "GPU", "network adapter"};
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    *text = 0;
    if (p->kind == PAR_COMPONENT_CACHE) append(text, TEXT, "L%d ", p->level);
    append(text, TEXT, "%s", names[p->kind]);
    if (!many) append(text, TEXT, " %d", p->index);
    if (p->nbytes && (p->kind == PAR_COMPONENT_CACHE || p->kind == PAR_COMPONENT_NUMA)) {
        int u = 0; /* "64 GiB", "1.5 MiB", "32 KiB" */
        double size = (double)p->nbytes;
        for (; size >= 1024 && u < 4; u++) size /= 1024;
        bool fraction = size < 10 && fabs(size - round(size)) > 0.05;
        append(text, TEXT, ": %.*f %s", fraction ? 1 : 0, size, units[u]);
    }
    if (p->kind == PAR_COMPONENT_CORE && p->threads > 1)
        append(text, TEXT, ": %d threads", p->threads);
    if (p->kind == PAR_COMPONENT_PACKAGE && *p->name) append(text, TEXT, ": %.63s", p->name);
    if (p->kind != PAR_COMPONENT_GPU && p->kind != PAR_COMPONENT_NIC) return;
    append(text, TEXT, ": %.63s, %.15s", p->name, p->id);
    if (p->nbytes) append(text, TEXT, ", %.0f GiB", (double)p->nbytes / (1 << 30));
    if (p->wire_bytes_s > 0) append(text, TEXT, ", %.4g Gbit/s", p->wire_bytes_s * 8e-9);
    if (p->pcie_bytes_s > 0) append(text, TEXT, ", PCIe %.3g GB/s", p->pcie_bytes_s * 1e-9);
    if (!p->nvlinks) return;
    append(text, TEXT, ", %d NVLinks", p->nvlinks);
    const char *before = ":";
    if (p->to_switch) append(text, TEXT, ": %d to a switch", p->to_switch), before = ",";
    for (int k = 0; k < PAR_COMPONENT_PEERS; k++) {
        if (!p->to_gpu[k]) continue;
        append(text, TEXT, "%s %d to GPU %d", before, p->to_gpu[k], k);
        before = ",";
    }
}

typedef struct {
    const par_topology *t;
    void (*print)(void *user, const char *line);
    void *user;
} printing;

static void print_below(const printing *p, int parent, bool in_many, int depth) {
    for (int i = -1, next; (i = par__topology_child(p->t, parent, i)) >= 0;) {
        char line[LINE] = "", text[TEXT];
        int n = 1;
        while ((next = par__topology_child(p->t, parent, i)) >= 0 &&
               par__topology_same(p->t, i, next))
            n++, i = next;
        par__component_text(&p->t->components[i], n > 1 || in_many, text);
        append(line, LINE, "%*s", 2 * depth, "");
        if (n > 1) append(line, LINE, "%d × ", n);
        append(line, LINE, "%s", text);
        p->print(p->user, line);
        print_below(p, i, n > 1 || in_many, depth + 1);
    }
}

static bool is_on(const par_topology *t, int rank, int component) {
    return t->ranks[rank].host == component || t->ranks[rank].numa == component;
}

/* "0 to 3, 8": the ranks on a host or a memory node; cut where they do not fit. */
void par__topology_ranks(const par_topology *t, int component, char text[TEXT]) {
    *text = 0;
    for (int r = 0, last; r < t->n_ranks; r = last + 1) {
        last = r;
        if (!is_on(t, r, component)) continue;
        while (last + 1 < t->n_ranks && is_on(t, last + 1, component)) last++;
        if (*text) append(text, TEXT, ", ");
        if (strlen(text) + 32 > TEXT) {
            append(text, TEXT, "...");
            return;
        }
        append(text, TEXT, last > r ? "%d to %d" : "%d", r, last);
    }
}

static void print_ranks(const printing *p, int host) {
    char line[LINE] = "", text[TEXT];
    par__topology_ranks(p->t, host, text);
    append(line, LINE, "%s: ranks %s", p->t->components[host].name, text);
    p->print(p->user, line);
    for (int i = host + 1; i < p->t->n && p->t->components[i].parent >= host; i++) {
        if (p->t->components[i].kind != PAR_COMPONENT_NUMA) continue;
        par__topology_ranks(p->t, i, text);
        *line = 0;
        append(line, LINE, "  in NUMA node %d: ranks %s", p->t->components[i].index, text);
        if (*text) p->print(p->user, line);
    }
}

par_status par_topology_print(const par_topology *t, void (*print)(void *user, const char *line),
                              void *user) {
    PAR_REQUIRE(t && print);
    const printing p = {t, print, user};
    char hosts[LINE];
    for (int h = -1; (h = par__topology_next_kind(t, h)) >= 0;) {
        par__topology_hosts(t, h, hosts, sizeof hosts);
        print(user, hosts);
        print_below(&p, h, false, 1);
    }
    for (int h = -1; t->n_ranks > 1 && (h = par__topology_child(t, -1, h)) >= 0;)
        print_ranks(&p, h);
    return PAR_OK;
}
