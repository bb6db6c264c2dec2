/*
 * Layouts: defaults, orders, ranks and coordinates, and the check whose messages say what would be
 * legal. A layout is refused from its numbers alone, before any rank talks to another.
 */
#include "libpar/mesh/layout.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/number.h"

const char *par_axis_name(par_axis axis) {
    static const char *const names[PAR_AXIS_COUNT] = {
        [PAR_TP] = "tp", [PAR_CP] = "cp", [PAR_DP] = "dp", [PAR_PP] = "pp"};
    return (int)axis >= 0 && axis < PAR_AXIS_COUNT ? names[axis] : "unknown axis";
}

par_layout par__layout_filled(const par_layout *layout) {
    par_layout filled = *layout;
    bool default_order = true;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) default_order &= layout->order[i] == PAR_TP;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        if (filled.size[i] == 0) filled.size[i] = 1;
        if (default_order) filled.order[i] = (par_axis)i;
    }
    if (filled.kv_replicas == 0) filled.kv_replicas = 1;
    return filled;
}

int par_layout_rank(const par_layout *layout, const int coordinate[PAR_AXIS_COUNT]) {
    par_layout l = par__layout_filled(layout);
    int rank = 0, stride = 1;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        rank += coordinate[l.order[i]] * stride;
        stride *= l.size[l.order[i]];
    }
    return rank;
}

void par_layout_coordinates(const par_layout *layout, int rank, int coordinate[PAR_AXIS_COUNT]) {
    par_layout l = par__layout_filled(layout);
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        coordinate[l.order[i]] = rank % l.size[l.order[i]];
        rank /= l.size[l.order[i]];
    }
}

static bool is_permutation(const par_axis order[PAR_AXIS_COUNT]) {
    unsigned seen = 0;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if ((int)order[i] >= 0 && order[i] < PAR_AXIS_COUNT) seen |= 1u << order[i];
    return seen == (1u << PAR_AXIS_COUNT) - 1;
}

par_status par_layout_parse_order(const char *text, par_axis order[PAR_AXIS_COUNT]) {
    const char *c = text;
    par_axis parsed[PAR_AXIS_COUNT];
    PAR_REQUIRE(text && order);
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        int axis = 0;
        while (axis < PAR_AXIS_COUNT && strncmp(c, par_axis_name((par_axis)axis), 2) != 0) axis++;
        if (axis == PAR_AXIS_COUNT || c[2] != (i + 1 < PAR_AXIS_COUNT ? '-' : '\0')) goto illegal;
        parsed[i] = (par_axis)axis;
        c += 3;
    }
    if (!is_permutation(parsed)) goto illegal;
    memcpy(order, parsed, sizeof parsed);
    return PAR_OK;
illegal:
    PAR_FAIL(PAR_ERR_OPTION,
             "order \"%s\" is not legal: name tp, cp, dp and pp once each, fastest first, as in "
             "tp-cp-dp-pp",
             text);
}

/* "dp would have to be 4": every axis that alone could make the product right. */
static void legal_sizes(const par_layout *l, int world_size, char *text, size_t nbytes) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        static const par_axis by_habit[PAR_AXIS_COUNT] = {PAR_DP, PAR_PP, PAR_TP, PAR_CP};
        par_axis axis = by_habit[i];
        int64_t others = 1;
        if (axis == PAR_CP) continue;
        for (int k = 0; k < PAR_AXIS_COUNT; k++) others *= k == (int)axis ? 1 : l->size[k];
        if (world_size % others != 0) continue;
        used += (size_t)snprintf(text + used, nbytes - used, "%s%s would have to be %lld",
                                 used ? ", or " : "", par_axis_name(axis),
                                 (long long)(world_size / others));
    }
}

static void check_product(const par_layout *l, int world_size, par_problems *problems) {
    char legal[160];
    int64_t product = 1;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (__builtin_mul_overflow(product, (int64_t)l->size[i], &product)) product = INT64_MAX;
    if (product == world_size) return;
    if (world_size == 1) {
        par_problem(
            problems,
            "the layout tp %d × cp %d × dp %d × pp %d needs %lld ranks, but this process is alone "
            "in a world of 1 rank. Was it started by mpirun -n %lld (or srun)? If it was, the "
            "ranks have not found each other, and each believes that it is alone: mpirun belongs "
            "to another MPI than the one that this program is linked with (compare `mpirun "
            "--version` with `ldd`), or srun was called without --mpi=pmix",
            l->size[PAR_TP], l->size[PAR_CP], l->size[PAR_DP], l->size[PAR_PP], (long long)product,
            (long long)product);
        return;
    }
    legal_sizes(l, world_size, legal, sizeof legal);
    par_problem(problems,
                "the layout tp %d × cp %d × dp %d × pp %d needs %lld ranks, but there are %d: "
                "%s%sstart %lld ranks",
                l->size[PAR_TP], l->size[PAR_CP], l->size[PAR_DP], l->size[PAR_PP],
                (long long)product, world_size, legal,
                legal[0] ? ", or " : "no change of one size helps; ", (long long)product);
}

void par_layout_check(const par_layout *layout, int world_size, par_problems *problems) {
    par_layout l = par__layout_filled(layout);
    bool positive = true;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        if (l.size[i] >= 1) continue;
        positive = false;
        par_problem(problems, "%s is %d; it must be at least 1", par_axis_name((par_axis)i),
                    l.size[i]);
    }
    if (l.size[PAR_CP] > 1)
        par_problem(problems, "cp is %d; only 1 is possible (no context parallelism yet)",
                    l.size[PAR_CP]);
    if (!is_permutation(l.order))
        par_problem(
            problems,
            "the order of the axes must name tp, cp, dp and pp once each, as in tp-cp-dp-pp");
    if (!positive) return;
    if (l.kv_replicas < 1 || l.size[PAR_TP] % l.kv_replicas != 0) {
        char legal[128];
        par__divisors(l.size[PAR_TP], legal, sizeof legal);
        par_problem(problems, "%d copies of a KV head do not divide tp %d; legal numbers are %s",
                    l.kv_replicas, l.size[PAR_TP], legal);
    }
    check_product(&l, world_size, problems);
}
