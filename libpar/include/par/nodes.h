/*
 * What the nodes of a job can do before it begins: each rank's rate of matrix products, the
 * bandwidth of its memory, and messages between all pairs of ranks; and which ranks or pairs are
 * far below what is usual in this job.
 */
#ifndef PAR_NODES_H
#define PAR_NODES_H

#include "par/comm.h"
#include "par/export.h"
#include "par/kernels.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is measured. */
typedef enum {
    PAR_NODE_PRODUCTS, /* FLOP/s */
    PAR_NODE_MEMORY,   /* bytes/s, read and written */
    PAR_NODE_MESSAGES, /* bytes/s, one way */
    PAR_NODE_LATENCY,  /* s, one way */
    PAR_NODE_FIGURES
} par_node_figure;

/* A rank, or a pair of them, that is far from the median: of two in the middle the better one. */
typedef struct {
    par_node_figure figure;
    int rank, peer;       /* peer -1: the rank; with messages, more than half of its pairs */
    double value, median; /* of the rank: the median of its pairs */
} par_node_fault;

/* What was measured; on rank 0. */
typedef struct {
    int n_ranks, n_faults;
    double (*ranks)[PAR_NODE_FIGURES]; /* [n_ranks]; of messages the median of the rank's pairs, 0
                                          with one rank */
    char (*hosts)[64];                 /* [n_ranks] */
    double median[PAR_NODE_FIGURES];   /* over the ranks */
    par_node_fault *faults;            /* [n_faults] */
} par_node_check;

/**
 * Measure, all ranks at once but for messages, of which one pair after the other: seconds for tens
 * of ranks. `dtype` is that of the products. *out is NULL but on rank 0.
 *
 * A rank is at fault whose products or memory are 1.3 times slower than the median of all ranks. A
 * pair is at fault whose messages are 3 times slower, or take 5 times as long to arrive, as those
 * of the median pair. Pairs on one host are compared with each other, and so are those on two.
 *
 * Collective: on the transport's world. Errors: PAR_ERR_MEMORY [agreed]; those of backend and
 * kernels [agreed]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_nodes_check(par_transport *transport, const par_backend *backend,
                                   par_dtype dtype, par_node_check **out);
/** NULL is accepted. Not collective. */
PAR_API void par_node_check_destroy(par_node_check **check);
/** A line on all nodes, and one for each fault. `print` gets a line at a time, without its end. Not
 * collective. */
PAR_API void par_node_check_print(const par_node_check *check,
                                  void (*print)(void *user, const char *line), void *user);

#ifdef __cplusplus
}
#endif
#endif
