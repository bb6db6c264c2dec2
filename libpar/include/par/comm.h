/*
 * Communicators. A par_comm is a group of ranks of a par_transport, given as a list: making one
 * exchanges no message. Every operation is numbered, named (axis, purpose, layer) and counted by
 * the transport's recorder.
 *
 * Reductions of fp32 add in rank order; of 16-bit types in fp32 in rank order with one rounding.
 * The bits of a result depend on the number of ranks alone, not on timing, pieces or nodes, and are
 * the same on every rank. (On a device by NCCL, both order and rounding are NCCL's: it rounds
 * 16-bit sums at every hop.)
 *
 * Asynchronous form: pass `work`; the buffers are borrowed until par_work_wait. Blocking form: work
 * = NULL. Operations on one comm are started in the same order by all of its ranks; sends and
 * receives are FIFO per ordered pair of ranks, without tags. All calls come from one thread
 * (MPI_THREAD_FUNNELED).
 *
 * Data on a device: par_comm_params.device. `after` is the stream on which the input becomes ready
 * and the output is free; par_work_wait lets the stream `then` wait for the result, in the blocking
 * form `after` does. A link carries the data: NCCL, or pinned host memory and the operations of the
 * host ("staged").
 */
#ifndef PAR_COMM_H
#define PAR_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "par/kernels.h"
#include "par/memory.h"
#include "par/record.h"
#include "par/status.h"
#include "par/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct par_transport par_transport;
typedef struct par_comm par_comm;

/* Why an operation happens: the recorder's row. */
typedef struct {
    const char *purpose;         /* a string literal: "activations", "gradients", "vote", ... */
    int16_t layer, chunk, micro; /* -1: none */
} par_tag;

/* What carries data that lies on a device. */
typedef enum {
    PAR_LINK_DEFAULT, /* the transport's; there: NCCL if the device has it and ranks do not share
                         GPUs, else staged */
    PAR_LINK_STAGED,
    PAR_LINK_NCCL
} par_link;

/* An operation under way: a value, nothing to free. */
typedef struct {
    par_comm *comm;
    int64_t number;
} par_work;

typedef struct {
    int64_t piece_nbytes; /* largest message; 0: 1 MiB */
    bool check; /* ranks compare a hash of (axis, number, op, count, type, purpose) before each
                   collective; debug builds always do */
    bool oversubscribed; /* waits also sleep; the MPI transport sets it itself when a node has more
                            ranks than cores */
    par_link link;       /* of its comms whose data lies on a device */
} par_transport_params;

/** The world of one rank, without MPI. Not collective. Errors: PAR_ERR_MEMORY. */
par_status par_transport_create_self(const par_transport_params *params, par_transport **out);

/**
 * A world of `size` ranks seen from `rank` that only measures: comms of it have sizes and take
 * staging memory, and every operation is refused with PAR_ERR_INTERNAL. Plans are made with it. Not
 * collective.
 */
par_status par_transport_create_measuring(const par_transport_params *params, int size, int rank,
                                          par_transport **out);

/** NULL is accepted. Collective for MPI (frees the dup'ed communicator). Comms must be destroyed
 * before. */
void par_transport_destroy(par_transport **transport);
int par_transport_size(const par_transport *);
int par_transport_rank(const par_transport *);
/** Ranks on this rank's node; 1 for self and measuring. Not collective. */
int par_transport_local_size(const par_transport *);
/** This rank among them, in world order from 0. Not collective. */
int par_transport_local_rank(const par_transport *);
par_recorder *par_transport_recorder(par_transport *);

typedef struct {
    const char
        *axis; /* "world", "tp", "dp", "pp", "tied", "kv": a string literal; groups of one axis are
                  disjoint, and ranks that share two comms give them different axes */
    const int *ranks; /* [n], world ranks of the group in group order; must contain this rank;
                         copied. NULL: the whole world, in its order */
    int n;            /* not read if ranks is NULL */
    int64_t max_nbytes; /* largest vector that will be reduced, a hint for staging; 0: one piece a
                           peer */
    const par_backend
        *device; /* where the data lies; NULL or one that is on_host: host memory. Else `memory`
                    must be given; agreements and barriers stay on the host */
    bool pairs;  /* send and receive will be used: on a device they need staging or communicators of
                    their own;  by NCCL, with the next and previous rank of the group alone */
    par_link link; /* for data on a device */
} par_comm_params;

/**
 * Not collective, but every rank of the group must make the same group; by NCCL it is collective on
 * the group, and groups that share ranks must be made in one order. Staging comes from `memory`
 * (PAR_MEM_COMM), or from malloc if that is NULL. Errors: PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
par_status par_comm_create(par_transport *, const par_comm_params *, par_memory *memory,
                           par_comm **out);
/** NULL is accepted. Not collective; no operation may be under way. */
void par_comm_destroy(par_comm **comm);
int par_comm_size(const par_comm *);
int par_comm_rank(const par_comm *);
const char *par_comm_axis(const par_comm *);
/** What carries its data: "host", "staged" or "nccl". Not collective. */
const char *par_comm_link(const par_comm *);
/** World rank of a rank of the group. Not collective. */
int par_comm_world_rank(const par_comm *, int rank);

/**
 * dst = sum over k of src_k, on every rank. Collective on comm.
 * Shapes: src, dst [n]; dst may be src. Types: fp32, bf16, fp16, int32, int64.
 * @retval PAR_ERR_ARG [agreed] n < 0 or type not reducible; [local] NULL pointer
 * @retval PAR_ERR_TRANSPORT [comm] MPI failed or a peer is gone
 */
par_status par_comm_all_reduce(par_comm *, const void *src, void *dst, int64_t n, par_dtype,
                               par_tag, par_stream *after, par_work *work);

/**
 * Rank r gets elements [r · n_shard, (r + 1) · n_shard) of the sum of src [p · n_shard]. Collective
 * on comm. dst [n_shard] may be src + r · n_shard; the rest of src is unchanged. Errors as
 * all_reduce.
 */
par_status par_comm_reduce_scatter(par_comm *, const void *src, void *dst, int64_t n_shard,
                                   par_dtype, par_tag, par_stream *after, par_work *work);

/**
 * dst [p · n_shard] = the src [n_shard] of all ranks in rank order. Collective on comm. Any dtype;
 * src may be dst + r · n_shard. Errors as all_reduce.
 */
par_status par_comm_all_gather(par_comm *, const void *src, void *dst, int64_t n_shard, par_dtype,
                               par_tag, par_stream *after, par_work *work);

/** data [n] of rank root on every rank. Collective on comm; root equal everywhere. Any dtype. */
par_status par_comm_broadcast(par_comm *, void *data, int64_t n, par_dtype, int root, par_tag,
                              par_stream *after, par_work *work);

/** Send [n] to, receive [n] from rank `peer` of comm. FIFO per ordered pair. Collective on the two.
 * Any dtype. */
par_status par_comm_send(par_comm *, const void *src, int64_t n, par_dtype, int peer, par_tag,
                         par_stream *after, par_work *work);
par_status par_comm_recv(par_comm *, void *dst, int64_t n, par_dtype, int peer, par_tag,
                         par_stream *after, par_work *work);

/** Wait for all ranks. Collective on comm. */
par_status par_comm_barrier(par_comm *, par_tag);

/**
 * Agree on a status: the largest one of all ranks is returned on all, and par_error() becomes the
 * message of the lowest rank that has it, with its number in front. Collective on comm. Use it
 * before an error may diverge.
 */
par_status par_comm_agree(par_comm *, par_status local);

/** Host: progress until done. Stream comm: `then` waits. The work of a NULL comm is done.
 * Collective as its operation. */
par_status par_work_wait(par_work, par_stream *then);
/** True if done, without waiting. Makes progress. Not collective. */
bool par_work_done(par_work);
/** Move everything under way on the transport a little. Not collective. */
par_status par_transport_progress(par_transport *);

#ifdef __cplusplus
}
#endif
#endif
