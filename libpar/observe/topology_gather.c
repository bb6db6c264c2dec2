/* Hosts and places of all ranks: who is on which host by its name, then the components between the
 * lowest ranks of the hosts. */
#include <stdlib.h>
#include <string.h>

#include "topology.h"

static const par_tag tag = {"topology", -1, -1, -1};

/* What each rank says of itself. */
typedef struct {
    char host[64];
    int numa; /* which component of its host; -1: none */
    int n;    /* components of its host */
} whereabouts;

typedef struct {
    par_comm *world, *leaders; /* leaders: the lowest ranks of the hosts; NULL on others */
    whereabouts *all;          /* [size] */
    int *lowest;               /* [size] the lowest rank on the host of each */
    int *list;                 /* [n_hosts] lowest ranks */
    int n_hosts, size, rank;
} gathering;

/* Every leader's components behind each other, those of a host moved to where it stands. */
static par_status gather_parts(gathering *g, const par_topology *own, par_topology *t) {
    int most = 0, at = 0;
    for (int h = 0; h < g->n_hosts; h++)
        if (g->all[g->list[h]].n > most) most = g->all[g->list[h]].n;
    size_t nbytes = (size_t)most * sizeof(par_component);
    char *mine = calloc(1, nbytes), *all = calloc((size_t)g->n_hosts, nbytes);
    par_status st =
        mine && all ? PAR_OK
                    : par_error_set(PAR_ERR_MEMORY, "no host memory for %d machines", g->n_hosts);
    st = par_comm_agree(g->leaders, st);
    if (st == PAR_OK) {
        memcpy(mine, own->components, (size_t)own->n * sizeof *own->components);
        st = par_comm_all_gather(g->leaders, mine, all, (int64_t)nbytes, PAR_U8, tag, NULL, NULL);
    }
    for (int h = 0; st == PAR_OK && h < g->n_hosts; h++) {
        int n = g->all[g->list[h]].n;
        memcpy(t->components + at, all + (size_t)h * nbytes, (size_t)n * sizeof *t->components);
        t->components[at].index = h;
        for (int i = 1; i < n; i++) t->components[at + i].parent += at;
        at += n;
    }
    free(mine);
    free(all);
    return st;
}

static par_status make(gathering *g, par_transport *transport, const par_topology *own,
                       par_topology **out) {
    int n = 0;
    for (int r = 0; r < g->size; r++) { /* hosts in the order of their lowest ranks */
        g->lowest[r] = r;
        for (int h = 0; h < g->n_hosts; h++)
            if (strcmp(g->all[g->list[h]].host, g->all[r].host) == 0) g->lowest[r] = g->list[h];
        if (g->lowest[r] == r) g->list[g->n_hosts++] = r;
    }
    bool leads = g->lowest[g->rank] == g->rank;
    for (int h = 0; h < g->n_hosts; h++) n += g->all[g->list[h]].n;
    const par_comm_params params = {.axis = "hosts", .ranks = g->list, .n = g->n_hosts};
    par_status st = par__topology_create(leads ? n : 0, g->size, out);
    if (st == PAR_OK && leads) st = par_comm_create(transport, &params, NULL, &g->leaders);
    st = par_comm_agree(g->world, st);
    if (st == PAR_OK && leads) st = gather_parts(g, own, *out);
    st = par_comm_agree(g->world, st);
    for (int r = 0; st == PAR_OK && r < g->size; r++) {
        int at = 0;
        for (int h = 0; g->list[h] != g->lowest[r]; h++) at += g->all[g->list[h]].n;
        (*out)->ranks[r].host = at;
        (*out)->ranks[r].numa = g->all[r].numa < 0 ? -1 : at + g->all[r].numa;
    }
    par_comm_destroy(&g->leaders);
    if (st != PAR_OK) par_topology_destroy(out);
    return st;
}

par_status par_topology_gather(par_transport *transport, const par_topology *own,
                               par_topology **out) {
    PAR_REQUIRE(transport && out);
    gathering g = {.size = par_transport_size(transport), .rank = par_transport_rank(transport)};
    const par_comm_params params = {.axis = "world"};
    par_topology *made = NULL;
    whereabouts mine = {.numa = -1};
    if (own) memcpy(mine.host, own->components[0].name, sizeof mine.host);
    if (own) mine.numa = own->ranks[0].numa, mine.n = own->n;
    par_status st = par_comm_create(transport, &params, NULL, &g.world);
    if (st != PAR_OK) return par_transport_abort(transport, st, par_error()); /* peers wait */
    g.all = calloc((size_t)g.size, sizeof *g.all);
    g.lowest = calloc((size_t)g.size, sizeof *g.lowest);
    g.list = calloc((size_t)g.size, sizeof *g.list);
    if (!own) st = par_error_set(PAR_ERR_ARG, "%s", par_error());
    if (!g.all || !g.lowest || !g.list)
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for the places of %d ranks", g.size);
    st = par_comm_agree(g.world, st);
    if (st == PAR_OK)
        st = par_comm_all_gather(g.world, &mine, g.all, sizeof mine, PAR_U8, tag, NULL, NULL);
    if (st == PAR_OK) st = make(&g, transport, own, &made);
    free(g.all);
    free(g.lowest);
    free(g.list);
    par_comm_destroy(&g.world);
    if (st == PAR_OK) *out = made;
    return st;
}
