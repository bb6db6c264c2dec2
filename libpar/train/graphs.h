/*
 * Steps as graphs of the device. A step's calls have the same arguments as those of two steps
 * before: what changes lies in device memory, which the vote writes, or in pinned buffers. So two
 * graphs are captured, one for each step that may be begun, and launched in turn. The first steps
 * run call by call: they load kernels and connect what connects late.
 *
 * What the host does in a step beside its calls is done for each launch too: buffers are filled
 * before it, and the recorder counts what the captured walk counted.
 */
#ifndef PAR__GRAPHS_H
#define PAR__GRAPHS_H

#include "../model/registry.h"
#include "collectives/internal.h"
#include "context.h"

typedef struct {
    const par__context *on;
    char off[512];                          /* why no step is a graph; "": they are */
    par_graph *graphs[PAR_STEPS_BEGUN];     /* of step k at k mod PAR_STEPS_BEGUN; NULL: not yet */
    par_recorder *counted[PAR_STEPS_BEGUN]; /* by the walk that was captured; NULL: measuring */
    int64_t n_plain;                        /* steps that ran call by call */
    bool capturing;
    par__on_break on_break; /* drops them all: NCCL's abort waits for graphs that hold its calls */
} par__graphs;

/* Decides whether there are graphs, the same on all ranks. */
par_status par__graphs_create(par__graphs *graphs, const par__context *on,
                              const par_registry *registry);
/* A launch that is under way goes on. Communicators that were captured must still be open. */
void par__graphs_free(par__graphs *graphs);

/* The trainer is one whose steps become graphs, and this step is one. */
bool par__graphs_on(const par__graphs *graphs);
bool par__graphs_due(par__graphs *graphs);

/* What is put on the stream between the two becomes graph k, unless `walked` is an error: then, or
 * if the device refuses, it is dropped, and no step is a graph from here on. The recorder is as if
 * nothing had been captured. Errors: `walked`, the device's. */
par_status par__graphs_begin(par__graphs *graphs, int k);
par_status par__graphs_end(par__graphs *graphs, int k, par_status walked);
/* Enqueue graph k, and count what it does. */
par_status par__graphs_launch(par__graphs *graphs, int k);

#endif
