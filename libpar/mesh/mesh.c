/*
 * The mesh: a rank's coordinates and the groups of its axes, by arithmetic alone. rank = sum over
 * axes of coordinate · stride, where the stride of an axis is the product of the sizes of those
 * that vary faster.
 */
#include "par/mesh.h"

#include <stdlib.h>

#include "libpar/mesh/layout.h"

/* Staging is sized by what a comm carries: over the world only agreements and small tables, along a
 * pipeline line sends and a few numbers of the vote. */
enum { WORLD_NBYTES = 64 << 10, PIPELINE_NBYTES = 4 << 10 };

typedef struct {
    par_mesh *mesh;
    par_transport *transport;
    const par_backend *device;
    par_memory *memory;
    int *ranks; /* [world size], a group under construction */
} builder;

static par_status make_comm(const builder *b, const char *axis, int n, int64_t max_nbytes,
                            par_comm **out) {
    const par_comm_params params = {.axis = axis,
                                    .ranks = b->ranks,
                                    .n = n,
                                    .max_nbytes = max_nbytes,
                                    .device = b->device,
                                    .pairs = out == &b->mesh->axis[PAR_PP]};
    return par_comm_create(b->transport, &params, b->memory, out);
}

static int rank_along(const par_mesh *mesh, par_axis axis, int i) {
    int coordinate[PAR_AXIS_COUNT];
    for (int k = 0; k < PAR_AXIS_COUNT; k++) coordinate[k] = mesh->coordinate[k];
    coordinate[axis] = i;
    return par_layout_rank(&mesh->layout, coordinate);
}

static par_status make_comms(const builder *b) {
    const par_comm_params world = {.axis = "world", .max_nbytes = WORLD_NBYTES};
    par_mesh *m = b->mesh;
    PAR_TRY(par_comm_create(b->transport, &world, b->memory, &m->world));
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        int size = m->layout.size[axis];
        for (int i = 0; i < size; i++) b->ranks[i] = rank_along(m, (par_axis)axis, i);
        PAR_TRY(make_comm(b, par_axis_name((par_axis)axis), size,
                          axis == PAR_PP ? PIPELINE_NBYTES : 0, &m->axis[axis]));
    }
    int n = m->layout.kv_replicas, first = m->coordinate[PAR_TP] / n * n;
    for (int i = 0; i < n; i++) b->ranks[i] = rank_along(m, PAR_TP, first + i);
    PAR_TRY(make_comm(b, "kv", n, 0, &m->kv));
    int last = m->layout.size[PAR_PP] - 1, here = m->coordinate[PAR_PP];
    if (last == 0 || (here != 0 && here != last)) return PAR_OK;
    b->ranks[0] = rank_along(m, PAR_PP, 0);
    b->ranks[1] = rank_along(m, PAR_PP, last);
    return make_comm(b, "tied", 2, 0, &m->tied);
}

par_status par_mesh_create(par_transport *transport, const par_layout *layout,
                           const par_backend *device, par_memory *memory, par_mesh **out) {
    par_problems problems = {0};
    PAR_REQUIRE(transport && layout && out);
    par_layout_check(layout, par_transport_size(transport), &problems);
    PAR_TRY(par_problems_status(&problems, PAR_ERR_LAYOUT));
    builder b = {.transport = transport, .device = device, .memory = memory};
    b.mesh = calloc(1, sizeof *b.mesh);
    b.ranks = calloc((size_t)par_transport_size(transport), sizeof *b.ranks);
    par_status st =
        b.mesh && b.ranks ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a mesh");
    if (st == PAR_OK) {
        b.mesh->layout = par__layout_filled(layout);
        b.mesh->size = par_transport_size(transport);
        b.mesh->rank = par_transport_rank(transport);
        par_layout_coordinates(&b.mesh->layout, b.mesh->rank, b.mesh->coordinate);
        st = make_comms(&b);
    }
    free(b.ranks);
    if (st == PAR_OK)
        *out = b.mesh;
    else
        par_mesh_destroy(&b.mesh);
    return st;
}

void par_mesh_destroy(par_mesh **handle) {
    par_mesh *mesh = handle ? *handle : NULL;
    if (!mesh) return;
    par_comm_destroy(&mesh->tied);
    par_comm_destroy(&mesh->kv);
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) par_comm_destroy(&mesh->axis[axis]);
    par_comm_destroy(&mesh->world);
    free(mesh);
    *handle = NULL;
}
