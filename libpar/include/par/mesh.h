/*
 * The mesh: this rank's coordinates along (tp, cp, dp, pp) and one communicator per axis.
 * Everything is computed from the world's size, the rank and the layout, without a message.
 */
#ifndef PAR_MESH_H
#define PAR_MESH_H

#include "par/comm.h"
#include "par/export.h"
#include "par/memory.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tensor, context, data and pipeline parallel. */
typedef enum { PAR_TP, PAR_CP, PAR_DP, PAR_PP, PAR_AXIS_COUNT } par_axis;

enum { PAR_MAX_CHUNKS = 16 }; /* parts of the model on one pipeline stage, at most */

/* How many ranks each axis has, and in which order ranks run through them. */
typedef struct {
    int size[PAR_AXIS_COUNT];       /* ranks along tp, cp, dp, pp; 0 means 1; cp must be 1 */
    par_axis order[PAR_AXIS_COUNT]; /* fastest first; all zero: tp, cp, dp, pp */
    int kv_replicas; /* tp ranks that hold a copy of the same KV head; 0 means 1; divides tp */
} par_layout;

/* Where this rank stands, and its communicators, which the mesh owns. */
typedef struct {
    par_layout layout; /* with defaults filled in */
    int size, rank;    /* of the world */
    int coordinate[PAR_AXIS_COUNT];
    par_comm *world;
    par_comm *axis[PAR_AXIS_COUNT]; /* ranks that differ from this one along that axis only; size 1
                                       allowed */
    par_comm *kv;                   /* the kv_replicas consecutive tp ranks with the same KV head */
    par_comm *tied; /* first and last stage of this pp line: tied embeddings; NULL elsewhere and
                       when pp = 1 */
} par_mesh;

/** "tp", "cp", "dp", "pp". Not collective. */
PAR_API const char *par_axis_name(par_axis axis);

/** Parse an order such as "tp-cp-dp-pp" (all four, each once). Not collective. Errors:
 * PAR_ERR_OPTION [agreed] when it is not one, with the legal form. */
PAR_API par_status par_layout_parse_order(const char *text, par_axis order[PAR_AXIS_COUNT]);

/**
 * Is the layout possible on `world_size` ranks? Every problem becomes a line in `problems` with the
 * legal values (for a wrong product: what dp would have to be; for a world of 1 and a larger
 * layout: that the ranks may not have found each other). Depends on its arguments alone. Not
 * collective.
 */
PAR_API void par_layout_check(const par_layout *layout, int world_size, par_problems *problems);

/** World rank of coordinates. Not collective. */
PAR_API int par_layout_rank(const par_layout *layout, const int coordinate[PAR_AXIS_COUNT]);
/** Coordinates of a world rank. Not collective. */
PAR_API void par_layout_coordinates(const par_layout *layout, int rank,
                                    int coordinate[PAR_AXIS_COUNT]);

/**
 * The mesh of this rank; every rank of the transport makes the same. `device` is where activations
 * and gradients lie, NULL: the host. Staging comes from `memory`, or from malloc if that is NULL.
 * The mesh must not outlive transport and memory.
 * Not collective, but where NCCL is a link of `device` collective: on all ranks of the transport.
 * Errors: PAR_ERR_LAYOUT [agreed] when the layout is not possible, with every problem; others as
 * par_comm_create.
 */
PAR_API par_status par_mesh_create(par_transport *, const par_layout *, const par_backend *device,
                                   par_memory *, par_mesh **out);
/** Free it and its comms, on which no operation may be under way. NULL is accepted. Not collective,
 * with NCCL collective: on all ranks of the transport. */
PAR_API void par_mesh_destroy(par_mesh **mesh);

/**
 * The table of ranks, a line each: rank, coordinates, host, pid, cores it may run on. `print` is
 * called on world rank 0 alone, once per line.
 * Collective: on world. Errors: PAR_ERR_MEMORY [agreed] when a rank has no host memory;
 * PAR_ERR_TRANSPORT [comm] when MPI failed or a peer is gone.
 */
PAR_API par_status par_mesh_print(const par_mesh *, void (*print)(void *user, const char *line),
                                  void *user);

#ifdef __cplusplus
}
#endif
#endif
