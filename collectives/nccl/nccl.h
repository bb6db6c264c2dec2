/*
 * What the cuda module gives libpar of NCCL: communicators that are opened by an id, operations
 * that are put on a stream, and their errors. Nothing here waits for a peer, and nothing knows of
 * transports or recorders; collectives/streamed.c makes a comm's link of it.
 *
 * Errors carry NCCL's own text and the call. After one, only `close` with broken = true may follow.
 */
#ifndef PAR__NCCL_H
#define PAR__NCCL_H

#include "collectives/operation.h"
#include "kernels/contract.h"

enum { PAR__NCCL_ID_NBYTES = 128, PAR__NCCL_GPU_NBYTES = 128 };

typedef struct par__nccl {
    uint64_t contract; /* par__nccl_contract() of the module; first, and compared before all else */
    const char *name;  /* "NCCL 2.28.9" */
    const char *gpu;   /* host and device: equal for two ranks that share a GPU */
    bool shared;       /* ranks share GPUs: NCCL only where it is asked for */
    par_status (*new_id)(void *id);
    /* The communicator exists when poll has said `ready`. */
    par_status (*open)(const void *id, int n, int rank, const char *name, void **comm);
    par_status (*poll)(void *comm, bool *ready); /* also tells asynchronous errors */
    /* On `stream`; op->peer is a rank of the communicator, op->after is not looked at. */
    par_status (*start)(void *comm, const par__operation *op, par_stream *stream);
    void (*close)(void *comm, bool broken);
    /* Where NCCL's profiler tells of operations in graphs, else NULL. What this thread starts from
     * now on is counted under this mark, 0 to 1023 (-1: is not), with each launch of a graph. */
    void (*mark)(int mark);
    /* What has run since it was last asked for; of mark -1 all that ever did, without seconds. */
    void (*ran)(int mark, int64_t *n, double *seconds);
} par__nccl;

/* In the module: what CUDA and NCCL read from the environment, before their first call; and the
 * table, once the device is open (NULL: NCCL does not answer). */
void par__nccl_environment(const par_device_params *params);
const par__nccl *par__nccl_open(const par_device_params *params);

/* What kernels/contract.h does, for the structs above. */
#define PAR__FIELDS_par_tag(F, A) F(purpose) F(layer) F(chunk) F(micro)
#define PAR__FIELDS_par__operation(F, A)                                                           \
    F(kind) F(src) F(dst) F(n) F(dtype) F(peer) F(tag) F(after) F(wire)
#define PAR__FIELDS_par__nccl(F, A)                                                                \
    F(contract) F(name) F(gpu) F(shared) F(new_id) F(open) F(poll) F(start) F(close) F(mark) F(ran)

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wmissing-field-initializers"
static inline uint64_t par__nccl_contract(void) {
    uint64_t hash = PAR__FNV64;
    PAR__CONTRACT_STRUCT(par_tag)
    PAR__CONTRACT_STRUCT(par__operation)
    PAR__CONTRACT_STRUCT(par__nccl)
    return hash;
}
#pragma GCC diagnostic pop

#endif
