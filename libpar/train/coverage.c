/*
 * Every logical element is counted once: norms, totals and checkpoints take what replica 0 of a
 * parameter holds, so over the ranks that hold one copy of the model the rectangles of replica 0
 * must tile the logical tensor. A module that forgets to say which copy its rank has would get a
 * wrong norm and wrong clipping, without another sign.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

static const par_tag tag = {"parameters", -1, -1, -1};

/* What a rank says of one of its parameters. */
typedef struct {
    char name[96]; /* "": nothing, behind the last one of a rank */
    int64_t global[2], offset[2], extent[2];
    int32_t replica, rank; /* rank: of the world */
} statement;

static int by_name(const void *a, const void *b) {
    const statement *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->rank - y->rank;
}

static bool overlap(const statement *a, const statement *b) {
    for (int d = 0; d < 2; d++)
        if (a->offset[d] >= b->offset[d] + b->extent[d] ||
            b->offset[d] >= a->offset[d] + a->extent[d])
            return false;
    return true;
}

/* The n statements about one tensor. */
static par_status check_tensor(const statement *s, int n) {
    int64_t whole = s->global[0] * s->global[1], counted = 0;
    for (int i = 0; i < n; i++) {
        if (memcmp(s[i].global, s->global, sizeof s->global) != 0)
            PAR_FAIL(PAR_ERR_ARG,
                     "parameter %s is [%lld, %lld] on rank %d and [%lld, %lld] on rank %d", s->name,
                     (long long)s->global[0], (long long)s->global[1], s->rank,
                     (long long)s[i].global[0], (long long)s[i].global[1], s[i].rank);
        if (s[i].replica != 0) continue;
        counted += s[i].extent[0] * s[i].extent[1];
        for (int k = 0; k < i; k++)
            if (s[k].replica == 0 && overlap(&s[k], &s[i]))
                PAR_FAIL(PAR_ERR_ARG,
                         "parameter %s: ranks %d and %d both have the same elements as replica 0, "
                         "so norms would count them twice; copies need a replica of their own, 0 "
                         "to n_replicas - 1 (par_param_spec)",
                         s->name, s[k].rank, s[i].rank);
    }
    if (counted != whole)
        PAR_FAIL(PAR_ERR_ARG,
                 "parameter %s: %lld of its %lld elements are replica 0 of no rank, so norms would "
                 "leave them out (par_param_spec)",
                 s->name, (long long)(whole - counted), (long long)whole);
    return PAR_OK;
}

static par_status gather_and_check(par_comm *model, const par__context *on,
                                   const par_registry *registry) {
    int p = par_comm_size(model), r = par_comm_rank(model);
    int32_t *counts = calloc((size_t)p, sizeof *counts), max = 0;
    statement *all = NULL;
    par_status st =
        counts ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d numbers", p);
    PAR_TRY_GOTO(par_comm_agree(model, st), out);
    counts[r] = registry->n_params;
    PAR_TRY_GOTO(
        par_comm_all_gather(model, counts + r, counts, sizeof *counts, PAR_U8, tag, NULL, NULL),
        out);
    for (int i = 0; i < p; i++)
        if (counts[i] > max) max = counts[i];
    all = calloc((size_t)p * (size_t)max + 1, sizeof *all);
    st = all ? PAR_OK
             : par_error_set(PAR_ERR_MEMORY, "no host memory for %d x %d parameters", p, max);
    PAR_TRY_GOTO(par_comm_agree(model, st), out);
    for (int i = 0; i < registry->n_params; i++) {
        const par_param *param = registry->params[i];
        statement *own = &all[r * max + i];
        *own = (statement){.replica = param->replica, .rank = on->mesh->rank};
        memcpy(own->name, param->name, sizeof own->name);
        memcpy(own->global, param->global, sizeof own->global);
        memcpy(own->offset, param->offset, sizeof own->offset);
        memcpy(own->extent, param->extent, sizeof own->extent);
    }
    PAR_TRY_GOTO(par_comm_all_gather(model, all + r * max, all, max * (int64_t)sizeof *all, PAR_U8,
                                     tag, NULL, NULL),
                 out);
    int n = p * max;
    qsort(all, (size_t)n, sizeof *all, by_name);
    for (int first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && strcmp(all[end].name, all[first].name) == 0; end++) {
        }
        if (all[first].name[0]) PAR_TRY_GOTO(check_tensor(all + first, end - first), out);
    }
out:
    free(all);
    free(counts);
    return st;
}

par_status par__check_coverage(const par__context *on, const par_registry *registry) {
    const par_mesh *mesh = on->mesh;
    par_comm *model = NULL;
    int *ranks = calloc((size_t)mesh->size, sizeof *ranks), n = 0;
    /* a rank without memory for this says so before its peers wait for it */
    par_status st = par_comm_agree(
        mesh->world,
        ranks ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d ranks", mesh->size));
    if (st != PAR_OK) goto out;
    for (int rank = 0; rank < mesh->size; rank++) {
        int at[PAR_AXIS_COUNT];
        par_layout_coordinates(&mesh->layout, rank, at);
        if (at[PAR_DP] == mesh->coordinate[PAR_DP]) ranks[n++] = rank;
    }
    const par_comm_params params = {.axis = "model", .ranks = ranks, .n = n};
    st = par_comm_agree(mesh->world, par_comm_create(on->transport, &params, NULL, &model));
    if (st == PAR_OK) st = gather_and_check(model, on, registry);
    par_comm_destroy(&model);
out:
    free(ranks);
    return st;
}
