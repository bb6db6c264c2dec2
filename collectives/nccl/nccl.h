/*
 * What the cuda module gives libpar of NCCL: communicators that are opened by an id, operations
 * that are put on a stream, and their errors. Nothing here waits for a peer, and nothing knows of
 * transports or recorders; collectives/streamed.c makes a comm's link of it.
 *
 * Errors carry NCCL's own text and the call. After one, only `close` with broken = true may follow.
 */
#ifndef PAR__NCCL_H
#define PAR__NCCL_H

#include "par/kernels.h"

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

typedef struct par__nccl {
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

/* In the module: what CUDA and NCCL read from the environment, before their first call; and the
 * table, once the device is open (NULL: NCCL does not answer). */
void par__nccl_environment(const par_device_params *params);
const par__nccl *par__nccl_open(const par_device_params *params);

#endif
