/*
 * What the cuda module gives libpar of NCCL: communicators that are opened by an id, operations
 * that are put on a stream, and their errors. Nothing here waits for a peer, and nothing knows of
 * transports or recorders; collectives/streamed.c makes a comm's link of it.
 *
 * Errors carry NCCL's own text and the call. After one, only `close` with broken = true may follow.
 */
#ifndef PAR__NCCL_H
#define PAR__NCCL_H

#include "kernels/contract.h"

enum { PAR__NCCL_ID_NBYTES = 128, PAR__NCCL_PLACE_NBYTES = 128 };

typedef enum {
    PAR__NCCL_ALL_REDUCE,
    PAR__NCCL_REDUCE_SCATTER,
    PAR__NCCL_ALL_GATHER,
    PAR__NCCL_BROADCAST,
    PAR__NCCL_SEND,
    PAR__NCCL_RECV
} par__nccl_kind;

typedef struct {
    par__nccl_kind kind;
    const void *src;
    void *dst;
    int64_t n; /* elements: of a shard for reduce-scatter and all-gather */
    par_dtype dtype;
    int peer; /* or root */
} par__nccl_args;

typedef struct {
    uint64_t contract; /* par__nccl_contract() of the module; first, and compared before all else */
    const char *name;  /* "NCCL 2.28.9" */
    const char *place; /* host and device: equal for two ranks that share a GPU */
    bool shared;       /* ranks share GPUs: NCCL only where it is asked for */
    par_status (*new_id)(void *id);
    /* The communicator exists when poll has said `ready`. */
    par_status (*open)(const void *id, int n, int rank, const char *name, void **comm);
    par_status (*poll)(void *comm, bool *ready); /* also tells asynchronous errors */
    par_status (*start)(void *comm, const par__nccl_args *args, par_stream *stream);
    void (*close)(void *comm, bool broken);
    size_t (*used)(void); /* bytes of the device that are taken, by anyone */
} par__nccl;

/* What kernels/contract.h does, for the structs above. */
#define PAR__FIELDS_par__nccl_args(F, A) F(kind) F(src) F(dst) F(n) F(dtype) F(peer)
#define PAR__FIELDS_par__nccl(F, A)                                                                \
    F(contract) F(name) F(place) F(shared) F(new_id) F(open) F(poll) F(start) F(close) F(used)

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wmissing-field-initializers"
static inline uint64_t par__nccl_contract(void) {
    uint64_t hash = PAR__CONTRACT_BEGIN;
    PAR__CONTRACT_STRUCT(par__nccl_args)
    PAR__CONTRACT_STRUCT(par__nccl)
    return hash;
}
#pragma GCC diagnostic pop

#endif
