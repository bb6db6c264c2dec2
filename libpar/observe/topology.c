/* The components of a machine as a list, and ranks on them, see topology.h. */
#include "topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *par_component_kind_name(par_component_kind kind) {
    static const char *const names[PAR_COMPONENT_COUNT] = {"host", "package", "numa", "cache",
                                                           "core", "gpu",     "nic"};
    return (int)kind >= 0 && kind < PAR_COMPONENT_COUNT ? names[kind] : "unknown component";
}

par_status par__topology_create(int n, int n_ranks, par_topology **out) {
    par_topology *t = calloc(1, sizeof *t);
    if (t) t->components = calloc((size_t)n + 1, sizeof *t->components);
    if (t) t->ranks = calloc((size_t)n_ranks + 1, sizeof *t->ranks);
    if (!t || !t->components || !t->ranks) {
        par_topology_destroy(&t);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a machine of %d components and %d ranks", n,
                 n_ranks);
    }
    t->n = n;
    t->n_ranks = n_ranks;
    *out = t;
    return PAR_OK;
}

void par_topology_destroy(par_topology **handle) {
    if (!handle || !*handle) return;
    free((*handle)->components);
    free((*handle)->ranks);
    free(*handle);
    *handle = NULL;
}

int par__topology_host(const par_topology *t, int component) {
    while (t->components[component].parent >= 0) component = t->components[component].parent;
    return component;
}

par_status par__topology_add(par_topology *t, par_component component, int parent, int *out) {
    par_component *components = realloc(t->components, ((size_t)t->n + 1) * sizeof *components);
    if (!components)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a machine of %d components", t->n + 1);
    t->components = components;
    component.parent = parent;
    component.index = 0;
    for (int i = parent >= 0 ? par__topology_host(t, parent) : 0; i < t->n; i++)
        component.index +=
            components[i].kind == component.kind && components[i].level == component.level;
    components[t->n] = component;
    if (out) *out = t->n;
    t->n++;
    return PAR_OK;
}

int par__topology_child(const par_topology *t, int parent, int after) {
    int i = (after > parent ? after : parent) + 1;
    for (; i < t->n && t->components[i].parent >= parent; i++) /* all below a component follow it */
        if (t->components[i].parent == parent) return i;
    return -1;
}

int par__topology_count(const par_topology *t, int component, par_component_kind kind) {
    int n = t->components[component].kind == kind;
    for (int i = -1; (i = par__topology_child(t, component, i)) >= 0;)
        n += par__topology_count(t, i, kind);
    return n;
}

bool par__topology_same(const par_topology *t, int a, int b) {
    const par_component *x = &t->components[a], *y = &t->components[b];
    int i = -1, k = -1;
    bool same = x->kind == y->kind && x->level == y->level && x->threads == y->threads &&
                x->nvlinks == y->nvlinks && x->to_switch == y->to_switch &&
                memcmp(x->to_gpu, y->to_gpu, sizeof x->to_gpu) == 0 && x->nbytes == y->nbytes &&
                x->pcie_bytes_s == y->pcie_bytes_s && x->wire_bytes_s == y->wire_bytes_s &&
                strcmp(x->id, y->id) == 0;
    if (!same || (x->kind != PAR_COMPONENT_HOST && strcmp(x->name, y->name) != 0)) return false;
    do {
        i = par__topology_child(t, a, i);
        k = par__topology_child(t, b, k);
        if ((i < 0) != (k < 0) || (i >= 0 && !par__topology_same(t, i, k))) return false;
    } while (i >= 0);
    return true;
}

static int next_host(const par_topology *t, int host) {
    return par__topology_child(t, -1, host);
}

int par__topology_next_kind(const par_topology *t, int host) {
    for (;;) {
        bool is_new = true;
        host = next_host(t, host);
        if (host < 0) return -1;
        for (int i = -1; is_new && (i = next_host(t, i)) >= 0 && i < host;)
            is_new = !par__topology_same(t, i, host);
        if (is_new) return host;
    }
}

void par__topology_hosts(const par_topology *t, int host, char *text, size_t nbytes) {
    int n = 0, second = -1, last = host;
    for (int i = host - 1; (i = next_host(t, i)) >= 0;) {
        if (!par__topology_same(t, host, i)) continue;
        if (++n == 2) second = i;
        last = i;
    }
    if (n == 1)
        snprintf(text, nbytes, "%s", t->components[host].name);
    else if (n == 2)
        snprintf(text, nbytes, "%s, %s (2 equal hosts)", t->components[host].name,
                 t->components[second].name);
    else
        snprintf(text, nbytes, "%s, %s to %s (%d equal hosts)", t->components[host].name,
                 t->components[second].name, t->components[last].name, n);
}

/* Another host with the components of the first one. */
static par_status add_host(par_topology *t, int number) {
    int base = t->n, n = base;
    for (int i = 1; i < t->n; i++)
        if (t->components[i].parent < 0 && n == base) n = i;
    for (int i = 0; i < n; i++) {
        par_component component = t->components[i];
        int parent = component.parent < 0 ? -1 : component.parent + base;
        if (i == 0) snprintf(component.name, sizeof component.name, "another-%d", number);
        PAR_TRY(par__topology_add(t, component, parent, NULL));
        t->components[t->n - 1].index = t->components[i].index + (i == 0 ? number : 0);
    }
    return PAR_OK;
}

/* The k-th NUMA node of a host that has cores; -1: there are fewer. */
static int find_numa(const par_topology *t, int host, int k) {
    for (int i = host; i < t->n; i++)
        if (t->components[i].kind == PAR_COMPONENT_NUMA &&
            par__topology_count(t, i, PAR_COMPONENT_CORE) && k-- == 0)
            return i;
    return -1;
}

/* The memory node above the first host's k-th GPU; -1: none. */
static int numa_of_gpu(const par_topology *t, int n, int k) {
    for (int i = 0; i < n; i++) {
        int above = i;
        if (t->components[i].kind != PAR_COMPONENT_GPU || t->components[i].index != k) continue;
        while (above >= 0 && t->components[above].kind != PAR_COMPONENT_NUMA)
            above = t->components[above].parent;
        return above;
    }
    return -1;
}

/* How many of a host's ranks go on each memory node, the last one having what is left; 0: they do
 * not fit. */
static int share_of(const par_topology *t, int here, int together) {
    int nodes = 0, cores = 0, numa;
    for (; (numa = find_numa(t, 0, nodes)) >= 0; nodes++) {
        int has = par__topology_count(t, numa, PAR_COMPONENT_CORE);
        if (nodes == 0 || has < cores) cores = has;
    }
    if (nodes == 0) return 0;
    int whole = here % together == 0 ? here / together : 0; /* groups, if all are whole */
    int share = (whole + nodes - 1) / nodes * together;
    if (share == 0 || share > cores) share = (here + nodes - 1) / nodes;
    return share <= cores ? share : 0;
}

par_status par_topology_assume(par_topology *t, const par_topology_assume_params *params) {
    PAR_REQUIRE(t && params && params->ranks >= 1 && t->n > 0 && next_host(t, 0) < 0);
    int n = t->n, ranks = params->ranks, per_host = params->per_host;
    int gpus = params->on_cores ? 0 : par__topology_count(t, 0, PAR_COMPONENT_GPU);
    if (per_host < 1) per_host = gpus ? gpus : par__topology_count(t, 0, PAR_COMPONENT_CORE);
    if (per_host < 1) per_host = 1;
    int share = share_of(t, ranks < per_host ? ranks : per_host,
                         params->together > 1 ? params->together : 1);
    par_topology_rank *list = realloc(t->ranks, (size_t)ranks * sizeof *list);
    if (!list) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the places of %d ranks", ranks);
    t->ranks = list;
    t->n_ranks = ranks;
    for (int h = 1; h * (int64_t)per_host < ranks; h++) PAR_TRY(add_host(t, h));
    for (int r = 0; r < ranks; r++) {
        int host = r / per_host * n, numa = -1;
        if (r >= per_host) /* as on the first host */
            numa = list[r % per_host].numa;
        else if (gpus >= per_host)
            numa = numa_of_gpu(t, n, params->gpus ? params->gpus[r] : r);
        else if (share > 0)
            numa = find_numa(t, 0, r / share);
        list[r] = (par_topology_rank){.host = host, .numa = numa < 0 ? -1 : host + numa};
    }
    return PAR_OK;
}
