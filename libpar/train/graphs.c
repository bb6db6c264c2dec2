/* Steps as graphs of the device: when, captured, launched. See graphs.h. */
#include "graphs.h"

#include <stdio.h>
#include <string.h>

#include "libpar/base/record.h"

/* The host carries the data of such a comm, so its operations are not calls of the device alone. */
static bool staged(const par_comm *comm) {
    return par_comm_size(comm) > 1 && strcmp(par_comm_link(comm), "staged") == 0;
}

static void decide(par__graphs *g, const par_registry *registry) {
    const par__context *on = g->on;
    const par_comm *comm = NULL; /* the first that is staged */
    size_t n = sizeof g->off;
    for (int i = 0; i < PAR_AXIS_COUNT && !comm; i++)
        if (staged(on->mesh->axis[i])) comm = on->mesh->axis[i];
    for (int i = 0; i < registry->n_sums && !comm; i++)
        if (staged(registry->sums[i].sum)) comm = registry->sums[i].sum;
    if (on->params.no_graph)
        snprintf(g->off, n, "it was asked for");
    else if (!on->backend->capture_begin)
        snprintf(g->off, n, "device %s has none", on->backend->name);
    else if (on->params.model->no_graph)
        snprintf(g->off, n, "modules of %s do what a graph cannot repeat", on->params.model->name);
    else if (comm)
        snprintf(g->off, n,
                 "the data of axis %s goes staged through the host; the NCCL link allows it",
                 par_comm_axis(comm));
}

static void drop(void *user) {
    par__graphs *g = user;
    if (g->capturing) (void)g->on->backend->capture_end(g->on->stream, NULL);
    g->capturing = false;
    for (int k = 0; k < PAR_STEPS_BEGUN; k++) {
        if (g->graphs[k]) g->on->backend->graph_destroy(g->graphs[k]);
        g->graphs[k] = NULL;
    }
}

par_status par__graphs_create(par__graphs *g, const par__context *on,
                              const par_registry *registry) {
    g->on = on;
    decide(g, registry);
    if (g->off[0] || par_memory_measuring(on->memory)) return PAR_OK;
    for (int k = 0; k < PAR_STEPS_BEGUN; k++)
        PAR_TRY(par__recorder_like(par_transport_recorder(on->transport), &g->counted[k]));
    g->on_break = (par__on_break){drop, g, NULL};
    par__transport_on_break(on->transport, &g->on_break);
    return PAR_OK;
}

void par__graphs_free(par__graphs *g) {
    if (g->on_break.run) par__transport_off_break(g->on->transport, &g->on_break);
    drop(g);
    for (int k = 0; k < PAR_STEPS_BEGUN; k++) par__recorder_destroy(&g->counted[k]);
}

bool par__graphs_on(const par__graphs *g) {
    return !g->off[0];
}

bool par__graphs_due(par__graphs *g) {
    return par__graphs_on(g) && g->n_plain++ >= PAR_STEPS_BEGUN;
}

/* par_error() says what. */
static void refused(par__graphs *g) {
    snprintf(g->off, sizeof g->off, "a step cannot be captured: %.450s", par_error());
}

par_status par__graphs_begin(par__graphs *g, int k) {
    par_recorder *recorder = par_transport_recorder(g->on->transport);
    par_status st = g->on->backend->capture_begin(g->on->stream);
    g->capturing = st == PAR_OK;
    par__recorder_capture(recorder, st == PAR_OK);
    if (st == PAR_OK)
        par__recorder_add(g->counted[k], recorder, -1);
    else
        refused(g);
    return st;
}

par_status par__graphs_end(par__graphs *g, int k, par_status walked) {
    par_recorder *recorder = par_transport_recorder(g->on->transport);
    par_graph **out = walked == PAR_OK ? &g->graphs[k] : NULL;
    if (!out) refused(g);
    par__recorder_add(g->counted[k], recorder, 1);
    par__recorder_add(recorder, g->counted[k], -1);
    par__recorder_capture(recorder, false);
    if (!g->capturing) return walked; /* dropped meanwhile */
    g->capturing = false;
    par_status st = g->on->backend->capture_end(g->on->stream, out);
    if (out && st != PAR_OK) refused(g);
    return walked == PAR_OK ? st : walked;
}

par_status par__graphs_launch(par__graphs *g, int k) {
    PAR_TRY(g->on->backend->graph_launch(g->graphs[k], g->on->stream));
    par__recorder_add(par_transport_recorder(g->on->transport), g->counted[k], 1);
    return PAR_OK;
}
