/*
 * Communicators. A par_comm is a group of ranks of a par_transport: making one exchanges no message
 * (but for NCCL). Every operation is numbered, named (axis, purpose, layer) and counted by the
 * transport's recorder.
 *
 * Reductions of fp32 add in rank order; of 16-bit types in fp32 in rank order with one rounding.
 * The bits of a result depend on the number of ranks alone, not on timing, pieces or nodes, and are
 * the same on every rank. (On a device by NCCL, both order and rounding are NCCL's: it rounds
 * 16-bit sums at every hop.)
 *
 * Asynchronous form: pass `work`; the buffers are borrowed until par_work_wait. Blocking form: work
 * = NULL. Operations on one comm are started in the same order by all of its ranks; sends and
 * receives are FIFO per ordered pair of ranks, without tags. Collectives of one comm may run beside
 * each other; one runs after another that was started before it if they share memory which either
 * writes, so that it may read what that one will have written. All calls come from one thread
 * (MPI_THREAD_FUNNELED).
 *
 * Data on a device: par_comm_params.device. `after` is the stream on which the input becomes ready
 * and the output is free; par_work_wait lets the stream `then` wait for the result, in the blocking
 * form `after` does. A link carries the data: NCCL, or pinned host memory and the operations of the
 * host ("staged").
 *
 * Errors of an operation, also seen when it is waited for:
 *   PAR_ERR_ARG          [agreed] when n is negative or too large, dtype is not a type or cannot be
 *                        added, root does not exist, or ranks started different operations and the
 *                        transport checks; [local] when a buffer is NULL or peer does not exist
 *   PAR_ERR_UNSUPPORTED  [local] when too many operations are under way (1,024 of a transport; on a
 *                        device 512 of a comm, staged 64 per peer and direction), or the link
 *                        cannot do it (par_comm_params.pairs)
 *   PAR_ERR_INTERNAL     [agreed] when the transport or the comm's memory only measures
 *   PAR_ERR_TRANSPORT    [comm] when MPI, NCCL or the device failed, a peer is gone, or any rank
 *                        called par_transport_abort: the message begins with that rank
 *
 * A rank that cannot go on, for a reason that its peers do not know, calls par_transport_abort.
 * Whoever waits for it then returns within seconds, by MPI, staged and by NCCL.
 */
#ifndef PAR_COMM_H
#define PAR_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/kernels.h"
#include "par/memory.h"
#include "par/record.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What carries messages between the ranks of a world: one process per rank, by MPI; or one rank. */
typedef struct par_transport par_transport;
/* A group of ranks of it. */
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

/* What a transport is told; a field of 0 means its default. */
typedef struct {
    int64_t piece_nbytes; /* of staged device data at a time; messages have at most as many, and 60
                             KiB; 0: 1 MiB */
    bool check; /* ranks compare a hash of (axis, number, op, count, type, purpose) before each
                   collective */
    bool oversubscribed; /* waits also sleep; the MPI transport sets it itself when a node has more
                            ranks than cores */
    par_link link;       /* of its comms whose data lies on a device */
} par_transport_params;

/** The world of one rank, without MPI. Not collective. Errors: PAR_ERR_ARG when piece_nbytes is
 * out of range; PAR_ERR_MEMORY when there is no host memory. */
PAR_API par_status par_transport_create_self(const par_transport_params *params,
                                             par_transport **out);

/**
 * A world of `size` ranks seen from `rank` that only measures: comms of it have sizes and take
 * staging memory, and every operation is refused with PAR_ERR_INTERNAL. Plans are made with it. Not
 * collective. Errors: as par_transport_create_self.
 */
PAR_API par_status par_transport_create_measuring(const par_transport_params *params, int size,
                                                  int rank, par_transport **out);

/** Free it; its comms must be destroyed before. NULL is accepted. Collective: on the ranks of an
 * MPI transport, whose duplicates of the communicator are freed; not collective where it is broken,
 * which leaves them to MPI_Finalize, and of other transports. */
PAR_API void par_transport_destroy(par_transport **transport);
/** Ranks of the world. Not collective. */
PAR_API int par_transport_size(const par_transport *);
/** This rank of it, from 0. Not collective. */
PAR_API int par_transport_rank(const par_transport *);
/** Ranks on this rank's node; 1 for self and measuring. Not collective. */
PAR_API int par_transport_local_size(const par_transport *);
/** This rank among them, in world order from 0. Not collective. */
PAR_API int par_transport_local_rank(const par_transport *);
/** What counts its operations; lives as long as the transport. Not collective. */
PAR_API par_recorder *par_transport_recorder(par_transport *);

/**
 * Break the transport. On every rank, whoever waits returns PAR_ERR_TRANSPORT with "rank N: why"
 * (cut at 511 bytes), N being this rank. So does every later call on the transport and its comms. A
 * rank that is busy elsewhere learns of it in its next wait. Takes up to 2 s, in which it hears
 * from all ranks. Buffers that were lent to operations are the caller's again; those of a device
 * once what was put on its streams has ended. If the transport is broken already, nothing happens.
 * MPI itself goes on; what stands on the transport is to be destroyed, which then sends nothing.
 *
 * Not collective: by any rank, at any time. Errors: `status` [comm], which is not PAR_OK, with
 * `why` as its message: so a failure is passed on by returning the call.
 */
PAR_API par_status par_transport_abort(par_transport *, par_status status, const char *why);
/** NULL, or the message with which the transport was broken: "rank N: why". Not collective. */
PAR_API const char *par_transport_broken(const par_transport *);

/* What a comm is. */
typedef struct {
    const char
        *axis; /* "world", "tp", "dp", "pp", "tied", "kv": a string literal; groups of one axis are
                  disjoint, and ranks that share two comms give them different axes */
    const int *ranks;   /* [n], world ranks of the group in group order; must contain this rank;
                         copied. NULL: the whole world, in its order */
    int n;              /* not read if ranks is NULL */
    int64_t max_nbytes; /* largest vector that will be reduced, a hint for staging; 0: one piece
                           per peer */
    const par_backend
        *device; /* where the data lies; NULL or one that is on_host: host memory. Else `memory`
                    must be given; agreements and barriers stay on the host */
    bool pairs;  /* send and receive will be used: on a device they need staging or communicators of
                    their own;  by NCCL, with the next and previous rank of the group alone */
    par_link link; /* for data on a device */
} par_comm_params;

/**
 * A group of ranks, all of which must make the same one. Staging comes from `memory`
 * (PAR_MEM_COMM), or from malloc if that is NULL; the comm must not outlive transport and memory.
 *
 * Not collective, unless NCCL carries its data: then collective: on the group, and groups that
 * share ranks are made in one order.
 *
 * Errors: PAR_ERR_ARG [agreed] when ranks, axis or max_nbytes are not possible; PAR_ERR_MEMORY
 * [local] when there is no memory, by NCCL [agreed]; PAR_ERR_UNSUPPORTED [agreed] when NCCL is
 * asked for and the device has none, or two ranks share a GPU unasked; PAR_ERR_TRANSPORT [agreed]
 * when NCCL does not connect.
 */
PAR_API par_status par_comm_create(par_transport *, const par_comm_params *, par_memory *memory,
                                   par_comm **out);
/** Free it; no operation may be under way, unless the transport is broken. NULL is accepted. Not
 * collective, by NCCL collective: on the group. */
PAR_API void par_comm_destroy(par_comm **comm);
/** Ranks of the group. Not collective. */
PAR_API int par_comm_size(const par_comm *);
/** This rank within the group, from 0. Not collective. */
PAR_API int par_comm_rank(const par_comm *);
/** par_comm_params.axis. Not collective. */
PAR_API const char *par_comm_axis(const par_comm *);
/** What carries its data: "host", "staged" or "nccl". Not collective. */
PAR_API const char *par_comm_link(const par_comm *);
/** What carries its data between devices, and why not NCCL where that is so (par_method, work
 * "link"). False: there is nothing between devices, as its data lies on the host or it has one
 * rank. Not collective. */
PAR_API bool par_comm_method(const par_comm *, par_method *out);
/** The same of any comm of several ranks for data of this device that is made with this link,
 * before there is one. False: the device's memory is the host's. Not collective. */
PAR_API bool par_link_method(const par_backend *device, par_link link, par_method *out);
/** World rank of a rank of the group; -1 for one that does not exist. Not collective. */
PAR_API int par_comm_world_rank(const par_comm *, int rank);

/**
 * dst = sum over k of src_k, on every rank.
 * Shapes: src, dst [n]; dst may be src. Types: fp32, bf16, fp16, int32, int64.
 * Collective: on comm. Errors: those of an operation, at the top of this header.
 */
PAR_API par_status par_comm_all_reduce(par_comm *, const void *src, void *dst, int64_t n, par_dtype,
                                       par_tag, par_stream *after, par_work *work);

/**
 * Rank r gets elements [r · n_shard, (r + 1) · n_shard) of the sum over ranks.
 * Shapes: src [p · n_shard], dst [n_shard]; dst may be src + r · n_shard, the rest of src stays as
 * it is. Types as par_comm_all_reduce.
 * Collective: on comm. Errors: those of an operation.
 */
PAR_API par_status par_comm_reduce_scatter(par_comm *, const void *src, void *dst, int64_t n_shard,
                                           par_dtype, par_tag, par_stream *after, par_work *work);

/**
 * dst = the src of all ranks in rank order.
 * Shapes: src [n_shard], dst [p · n_shard]; src may be dst + r · n_shard. Every type.
 * Collective: on comm. Errors: those of an operation.
 */
PAR_API par_status par_comm_all_gather(par_comm *, const void *src, void *dst, int64_t n_shard,
                                       par_dtype, par_tag, par_stream *after, par_work *work);

/**
 * par_comm_reduce_scatter of fp32 that travels as `wire`: PAR_F32, as it is, or PAR_BF16, which
 * halves the bytes. With bf16 every rank's src is rounded to nearest even, its own too; the values
 * are added in fp32, in rank order, and the sum is not rounded. In a group of one rank nothing
 * travels, and nothing is rounded.
 * Shapes: as par_comm_reduce_scatter.
 * Collective: on comm; wire is equal on all ranks. Errors: those of an operation; PAR_ERR_ARG
 * [agreed] for another wire; PAR_ERR_UNSUPPORTED [agreed] for bf16 by NCCL.
 */
PAR_API par_status par_comm_reduce_scatter_as(par_comm *, const float *src, float *dst,
                                              int64_t n_shard, par_dtype wire, par_tag,
                                              par_stream *after, par_work *work);
/**
 * par_comm_all_gather of fp32 that travels so. With bf16 every rank gets the rounded values, of its
 * own shard too.
 * Shapes: as par_comm_all_gather.
 * Collective: on comm; wire is equal on all ranks. Errors: as par_comm_reduce_scatter_as.
 */
PAR_API par_status par_comm_all_gather_as(par_comm *, const float *src, float *dst, int64_t n_shard,
                                          par_dtype wire, par_tag, par_stream *after,
                                          par_work *work);

/**
 * The data of rank `root` on every rank. Shapes: data [n]. Every type.
 * Collective: on comm; root is equal on all ranks. Errors: those of an operation.
 */
PAR_API par_status par_comm_broadcast(par_comm *, void *data, int64_t n, par_dtype, int root,
                                      par_tag, par_stream *after, par_work *work);

/**
 * Send src [n] to rank `peer` of comm, whose next receive from this rank has the same n and dtype.
 * FIFO per ordered pair of ranks. Every type. To itself a rank sends host data only, and not in the
 * blocking form.
 * Collective: on the two ranks. Errors: those of an operation.
 */
PAR_API par_status par_comm_send(par_comm *, const void *src, int64_t n, par_dtype, int peer,
                                 par_tag, par_stream *after, par_work *work);
/**
 * Receive dst [n] from rank `peer` of comm: its next send to this rank.
 * Collective: on the two ranks. Errors: those of an operation; PAR_ERR_TRANSPORT [comm] also when
 * the peer sent another number of bytes.
 */
PAR_API par_status par_comm_recv(par_comm *, void *dst, int64_t n, par_dtype, int peer, par_tag,
                                 par_stream *after, par_work *work);

/** Wait until all ranks have come here. The host's, also of a comm whose data lies on a device:
 * staged, it comes behind the collectives that were started before, which it waits for, as
 * par_comm_agree does. Collective: on comm. Errors: those of an operation. */
PAR_API par_status par_comm_barrier(par_comm *, par_tag);

/**
 * Agree on a status: all ranks return the largest one of all. par_error() becomes the whole message
 * of the lowest rank that has it, behind "rank N: ". Use it before an error may diverge. In a group
 * of one rank `local` comes back unchanged.
 * Collective: on comm. Errors: the agreed status [agreed]; PAR_ERR_TRANSPORT [comm] when MPI failed
 * or a peer is gone.
 */
PAR_API par_status par_comm_agree(par_comm *, par_status local);

/**
 * par_comm_agree, and whether all ranks have the same values: lines "name \t value", each with a
 * "\n" at its end; what is behind PAR_LINES_NBYTES does not count. A hash of them goes with the
 * status, so that the lines move only where they differ. `what` stands in front of each name in the
 * message, as "the generator's ". Lines of 2^-31 of all different lists have the same hash.
 *
 * Collective: on comm, `what` alone equal. Errors: as par_comm_agree; PAR_ERR_OPTION [agreed] when
 * lines differ, each with the lowest such rank's value and rank 0's.
 */
PAR_API par_status par_comm_same(par_comm *, par_status local, const char *what, const char *lines);

/**
 * The operation is complete when this returns; where data lies on a device, it is for the stream
 * `then`, and the host does not wait for the device. A work is waited for once; that of a NULL comm
 * is complete.
 * Collective: as its operation. Errors: those of an operation.
 */
PAR_API par_status par_work_wait(par_work, par_stream *then);
/** True when par_work_wait would not wait. Moves what is under way a little. Not collective. */
PAR_API bool par_work_done(par_work);
/** Move everything under way on the transport as far as it goes, without waiting for peers, for 2
 * ms at most. A rank that computes should call it every millisecond or so. Not collective. Errors:
 * PAR_ERR_TRANSPORT [comm] when MPI, NCCL or the device failed, or a peer is gone. */
PAR_API par_status par_transport_progress(par_transport *);

#ifdef __cplusplus
}
#endif
#endif
