/*
 * Which axis of a layout lies inside a host or a memory node, and which should. By what they send:
 * tp sums activations twice per layer and pass, and computes nothing meanwhile; dp sums gradients
 * once per step, behind the backward; pp sends the activations of one boundary per micro-batch.
 */
#include <stdarg.h>
#include <stdio.h>

#include "topology.h"

/* The group of `rank` along an axis: all other coordinates stay. Where they all are. */
static void place_group(const par_topology *t, const par_layout *layout, int rank, par_axis axis,
                        par_axis_placement *out) {
    int c[PAR_AXIS_COUNT], host = t->ranks[rank].host, numa = t->ranks[rank].numa;
    bool one_host = true, one_numa = numa >= 0;
    par_layout_coordinates(layout, rank, c);
    if (c[axis] != 0) return; /* counted by its first rank */
    for (c[axis] = 1; c[axis] < layout->size[axis]; c[axis]++) {
        const par_topology_rank *r = &t->ranks[par_layout_rank(layout, c)];
        one_host &= r->host == host;
        one_numa &= r->numa == numa;
    }
    out->groups++;
    if (one_numa)
        out->within_numa++;
    else if (one_host)
        out->within_host++;
    else
        out->across++;
}

par_status par_topology_axes(const par_topology *t, const par_layout *layout,
                             par_axis_placement out[PAR_AXIS_COUNT]) {
    par_problems problems = {0};
    PAR_REQUIRE(t && layout && out);
    par_layout_check(layout, t->n_ranks, &problems);
    PAR_TRY(par_problems_status(&problems, PAR_ERR_LAYOUT));
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        out[axis] = (par_axis_placement){0};
        for (int r = 0; layout->size[axis] > 1 && r < t->n_ranks; r++)
            place_group(t, layout, r, (par_axis)axis, &out[axis]);
    }
    return PAR_OK;
}

typedef struct {
    const par_topology *t;
    const par_layout *layout;
    par_axis_placement at[PAR_AXIS_COUNT];
    int per_host, per_numa; /* ranks of the first host, of its first memory node that has some */
    void (*print)(void *user, const char *line);
    void *user;
} advising;

__attribute__((format(printf, 2, 3))) static void say(const advising *a, const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    a->print(a->user, line);
}

/* Whether blocks of so many ranks, one after the other, each lie inside a host. */
static bool blocks_fit(const par_topology *t, int block) {
    int in_block = 0;
    for (int r = 1; r < t->n_ranks; r++) {
        in_block = (in_block + 1) % block;
        if (in_block && t->ranks[r].host != t->ranks[r - 1].host) return false;
    }
    return true;
}

static void advise_tp(const advising *a) {
    const par_axis_placement *p = &a->at[PAR_TP];
    int tp = a->layout->size[PAR_TP], divisor = a->per_host < tp ? a->per_host : tp;
    int in_numa = a->per_numa < tp ? a->per_numa : tp;
    if (tp <= 1) return;
    while (divisor > 1 && (tp % divisor || a->per_host % divisor)) divisor--;
    while (in_numa > 1 && (tp % in_numa || a->per_numa % in_numa)) in_numa--;
    if (p->across)
        say(a,
            "tp: sums activations in every layer and waits for them, so it belongs inside a host, "
            "where there are %d ranks: take tp %d and more pp or dp, or start a number of ranks "
            "per host that tp %d divides",
            a->per_host, divisor, tp);
    else if (p->within_host && in_numa == tp)
        say(a,
            "tp: lies inside a host; its groups fit into a memory node: bind ranks in the order of "
            "their numbers (par run does where ranks divide; mpirun --map-by ppr:%d:numa "
            "--bind-to numa)",
            a->per_numa);
    else if (p->within_host && in_numa > 1)
        say(a,
            "tp: lies inside a host, across its memory nodes, which have %d ranks each: "
            "tp %d would stay inside one, if the model fits so",
            a->per_numa, in_numa);
    else
        say(a, "tp: lies inside a %s, where it belongs", p->within_host ? "host" : "memory node");
}

static void advise_others(const advising *a) {
    const par_axis_placement *dp = &a->at[PAR_DP], *pp = &a->at[PAR_PP];
    const int *size = a->layout->size;
    int inside = size[PAR_DP] - 1; /* the largest dp that stays inside: what it loses, pp gets */
    while (inside > 1 && (size[PAR_DP] * size[PAR_PP] % inside ||
                          !blocks_fit(a->t, size[PAR_TP] * size[PAR_CP] * inside)))
        inside--;
    if (dp->groups && dp->across && inside > 1 && size[PAR_PP] > 1)
        say(a,
            "dp: goes across hosts. Its sums run behind the backward, which may hide them; dp %d "
            "with pp %d would stay inside a host and leave the hosts to pp, which sends less, if "
            "the model has so many stages",
            inside, size[PAR_DP] * size[PAR_PP] / inside);
    else if (dp->groups && dp->across)
        say(a, "dp: goes across hosts, once per step and behind the backward, which may hide it");
    else if (dp->groups)
        say(a, "dp: lies inside a host");
    if (pp->groups && pp->across)
        say(a, "pp: goes across hosts, where it belongs: it sends least");
    else if (pp->groups)
        say(a, "pp: lies inside a host; it sends least, and could go across hosts");
}

par_status par_topology_advise(const par_topology *t, const par_layout *layout,
                               void (*print)(void *user, const char *line), void *user) {
    PAR_REQUIRE(t && layout && print);
    par_layout filled = *layout;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (filled.size[i] == 0) filled.size[i] = 1;
    advising a = {.t = t, .layout = &filled, .print = print, .user = user};
    PAR_TRY(par_topology_axes(t, &filled, a.at));
    int host = t->ranks[0].host, nodes = par__topology_count(t, host, PAR_COMPONENT_NUMA);
    for (int r = 0; r < t->n_ranks; r++) a.per_host += t->ranks[r].host == host;
    if (nodes) a.per_numa = a.per_host / nodes;
    say(&a, "axis  ranks  groups  in one NUMA node  in one host  across hosts");
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (a.at[i].groups)
            say(&a, "%-4s %6d %7d %17d %12d %13d", par_axis_name((par_axis)i), filled.size[i],
                a.at[i].groups, a.at[i].within_numa, a.at[i].within_host, a.at[i].across);
    advise_tp(&a);
    advise_others(&a);
    return PAR_OK;
}
