/*
 * How fast ranks exchange data: ping-pong between pairs, one pair at a time, and all-reduces of all
 * ranks and of the groups of axes. What is timed is libpar's own comm, as a training uses it. The
 * best of a few repetitions counts: disturbances only add.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"
#include "topology.h"

static const par_tag tag = {"measure", -1, -1, -1};

enum { SMALL = 8, SMALL_TURNS = 20, LARGE_TURNS = 3, REPEATS = 5 };

typedef struct {
    par_transport *transport;
    par_mesh *mesh; /* its world, and the axes' groups */
    int size, rank;
    char *buffer;  /* [PAR_MEASURE_NBYTES] */
    double *times; /* [size] */
    par_measurement *m;
} measuring;

/* Seconds of one way, the fastest of `turns` behind one that warms up. */
static par_status ping_pong(measuring *w, int peer, int64_t n, int turns, double *out) {
    par_comm *world = w->mesh->world;
    bool first = w->rank < peer;
    double best = 1e30;
    for (int i = 0; i <= turns; i++) {
        double begin = par__seconds();
        if (first) PAR_TRY(par_comm_send(world, w->buffer, n, PAR_U8, peer, tag, NULL, NULL));
        PAR_TRY(par_comm_recv(world, w->buffer, n, PAR_U8, peer, tag, NULL, NULL));
        if (!first) PAR_TRY(par_comm_send(world, w->buffer, n, PAR_U8, peer, tag, NULL, NULL));
        double one_way = (par__seconds() - begin) / 2;
        if (i > 0 && one_way < best) best = one_way;
    }
    *out = best;
    return PAR_OK;
}

static bool is_measured(int size, int a, int b) {
    int distance = b - a;
    return a < b && (size <= PAR_MEASURE_ALL || (distance & (distance - 1)) == 0);
}

static par_status measure_reduce(measuring *w, par_comm *group, const char *axis, int64_t nbytes) {
    par_reduce_speed *r = &w->m->reduces[w->m->n_reduces++];
    double best = 1e30;
    int n = par_comm_size(group);
    for (int i = 0; i <= REPEATS; i++) {
        PAR_TRY(par_comm_barrier(w->mesh->world, tag));
        double begin = par__seconds();
        PAR_TRY(
            par_comm_all_reduce(group, w->buffer, w->buffer, nbytes / 4, PAR_I32, tag, NULL, NULL));
        double own = par__seconds() - begin, slowest = 0;
        PAR_TRY(par_comm_all_gather(w->mesh->world, &own, w->times, sizeof own, PAR_U8, tag, NULL,
                                    NULL));
        for (int k = 0; k < w->size; k++)
            if (w->times[k] > slowest) slowest = w->times[k];
        if (i > 0 && slowest < best) best = slowest;
    }
    *r = (par_reduce_speed){.n = n, .groups = w->size / n, .nbytes = nbytes, .seconds = best};
    strncpy(r->axis, axis, sizeof r->axis - 1);
    r->algbw_bytes_s = (double)nbytes / best;
    r->busbw_bytes_s = r->algbw_bytes_s * 2 * (n - 1) / n;
    return PAR_OK;
}

static par_status measure_group(measuring *w, par_comm *group, const char *axis) {
    static const int64_t sizes[] = {1 << 10, 64 << 10, PAR_MEASURE_NBYTES};
    for (int i = 0; i < 3 && par_comm_size(group) > 1; i++)
        PAR_TRY(measure_reduce(w, group, axis, sizes[i]));
    return PAR_OK;
}

static par_status measure(measuring *w) {
    par_comm *world = w->mesh->world;
    double seconds = 0;
    /* All ranks come to every pair, so that no other one sends meanwhile. */
    for (int i = 0; i < w->m->n_pairs; i++) {
        par_pair_speed *pair = &w->m->pairs[i];
        PAR_TRY(par_comm_barrier(world, tag));
        if (w->rank != pair->a && w->rank != pair->b) continue;
        int peer = w->rank == pair->a ? pair->b : pair->a;
        PAR_TRY(ping_pong(w, peer, SMALL, SMALL_TURNS, &pair->latency_s));
        PAR_TRY(ping_pong(w, peer, PAR_MEASURE_NBYTES, LARGE_TURNS, &seconds));
        pair->bytes_s = PAR_MEASURE_NBYTES / seconds;
    }
    /* The lower rank of each pair has its numbers; rank 0 takes them from all. */
    for (int i = 0; i < w->m->n_pairs; i++) {
        par_pair_speed *pair = &w->m->pairs[i];
        if (pair->a == 0) continue;
        if (w->rank == 0)
            PAR_TRY(par_comm_recv(world, pair, sizeof *pair, PAR_U8, pair->a, tag, NULL, NULL));
        if (w->rank == pair->a)
            PAR_TRY(par_comm_send(world, pair, sizeof *pair, PAR_U8, 0, tag, NULL, NULL));
    }
    PAR_TRY(measure_group(w, world, "world"));
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++)
        if (par_comm_size(w->mesh->axis[axis]) < w->size)
            PAR_TRY(measure_group(w, w->mesh->axis[axis], par_axis_name((par_axis)axis)));
    return PAR_OK;
}

static par_status allocate(measuring *w) {
    int n = 0;
    for (int a = 0; a < w->size; a++)
        for (int b = a + 1; b < w->size; b++) n += is_measured(w->size, a, b);
    w->m = calloc(1, sizeof *w->m);
    w->buffer = calloc(1, PAR_MEASURE_NBYTES);
    w->times = calloc((size_t)w->size, sizeof *w->times);
    if (w->m) w->m->pairs = calloc((size_t)n + 1, sizeof *w->m->pairs);
    if (!w->m || !w->buffer || !w->times || !w->m->pairs)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory to measure %d pairs of ranks", n);
    w->m->n_ranks = w->size;
    for (int a = 0; a < w->size; a++)
        for (int b = a + 1; b < w->size; b++)
            if (is_measured(w->size, a, b))
                w->m->pairs[w->m->n_pairs++] = (par_pair_speed){.a = a, .b = b};
    return PAR_OK;
}

par_status par_topology_measure(par_transport *transport, const par_layout *layout,
                                par_measurement **out) {
    PAR_REQUIRE(transport && out);
    measuring w = {.transport = transport,
                   .size = par_transport_size(transport),
                   .rank = par_transport_rank(transport)};
    const par_layout data = {.size = {[PAR_DP] = w.size}};
    par_status st = par_mesh_create(transport, layout ? layout : &data, NULL, NULL, &w.mesh);
    if (st == PAR_ERR_LAYOUT) return st;                                      /* so on all ranks */
    if (st != PAR_OK) return par_transport_abort(transport, st, par_error()); /* peers wait */
    st = par_comm_agree(w.mesh->world, allocate(&w));
    if (st == PAR_OK) st = measure(&w);
    par_mesh_destroy(&w.mesh);
    free(w.buffer);
    free(w.times);
    if (st != PAR_OK || w.rank != 0) par_measurement_destroy(&w.m);
    if (st == PAR_OK) *out = w.m;
    return st;
}

void par_measurement_destroy(par_measurement **handle) {
    if (!handle || !*handle) return;
    free((*handle)->pairs);
    free(*handle);
    *handle = NULL;
}

/* Where both ranks of a pair are: "numa", "host", "network". */
static const char *distance(const par_topology *t, const par_pair_speed *p) {
    const par_topology_rank *a = &t->ranks[p->a], *b = &t->ranks[p->b];
    if (a->host != b->host) return "network";
    return a->numa >= 0 && a->numa == b->numa ? "numa" : "host";
}

static json_t *pairs_json(const par_measurement *m, const par_topology *t) {
    json_t *list = json_array();
    for (int i = 0; i < m->n_pairs; i++) {
        const par_pair_speed *p = &m->pairs[i];
        json_t *o = json_object();
        json_object_set_new(o, "a", json_integer(p->a));
        json_object_set_new(o, "b", json_integer(p->b));
        json_object_set_new(o, "within", json_string(distance(t, p)));
        json_object_set_new(o, "latency_s", json_real(p->latency_s));
        json_object_set_new(o, "bytes_s", json_real(p->bytes_s));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *reduces_json(const par_measurement *m) {
    json_t *list = json_array();
    for (int i = 0; i < m->n_reduces; i++) {
        const par_reduce_speed *r = &m->reduces[i];
        json_t *o = json_object();
        json_object_set_new(o, "axis", json_string(r->axis));
        json_object_set_new(o, "ranks", json_integer(r->n));
        json_object_set_new(o, "groups", json_integer(r->groups));
        json_object_set_new(o, "nbytes", json_integer(r->nbytes));
        json_object_set_new(o, "seconds", json_real(r->seconds));
        json_object_set_new(o, "algbw_bytes_s", json_real(r->algbw_bytes_s));
        json_object_set_new(o, "busbw_bytes_s", json_real(r->busbw_bytes_s));
        json_array_append_new(list, o);
    }
    return list;
}

par_status par_measurement_write(const par_measurement *m, const par_topology *t,
                                 const char *path) {
    PAR_REQUIRE(m && t && path && t->n_ranks == m->n_ranks);
    json_t *o = json_object(), *hosts = json_array(), *ranks = json_array();
    for (int h = -1; (h = par__topology_child(t, -1, h)) >= 0;)
        json_array_append_new(hosts, json_string(t->components[h].name));
    for (int r = 0; r < t->n_ranks; r++) json_array_append_new(ranks, par__json_rank(t, r));
    json_object_set_new(o, "form", json_string("libpar measurement 1"));
    json_object_set_new(o, "carrier", json_string("host"));
    json_object_set_new(o, "hosts", hosts);
    json_object_set_new(o, "ranks", ranks);
    json_object_set_new(o, "pair_nbytes", json_integer(PAR_MEASURE_NBYTES));
    json_object_set_new(o, "pairs", pairs_json(m, t));
    json_object_set_new(o, "all_reduces", reduces_json(m));
    return par__json_write(o, path);
}
