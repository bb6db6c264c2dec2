/*
 * What the recorder is told of an operation when it starts: that there is one, and its logical
 * traffic, which is what it asks for whatever algorithm carries it. Sizes and factors are those of
 * bus bandwidth in the documentation of NCCL's performance tests (nccl-tests, PERFORMANCE.md).
 */
#include "internal.h"
#include "libpar/base/record.h"

static double bus_factor(par__kind kind, double n) {
    switch (kind) {
    case PAR__ALL_REDUCE: return 2 * (n - 1) / n;
    case PAR__REDUCE_SCATTER:
    case PAR__ALL_GATHER: return (n - 1) / n;
    default: return 1;
    }
}

/* What another rank of the group needs of this one. */
static int64_t nbytes_for(const par_comm *comm, const par__operation *op, int64_t nbytes,
                          int peer) {
    switch (op->kind) {
    case PAR__ALL_REDUCE: return nbytes;
    case PAR__REDUCE_SCATTER:
    case PAR__ALL_GATHER: return nbytes / comm->n;
    case PAR__BROADCAST: return op->peer == comm->rank ? nbytes : 0;
    case PAR__SEND: return op->peer == peer ? nbytes : 0;
    default: return 0;
    }
}

int par__count_operation(par_comm *comm, const par__operation *op) {
    par_recorder *r = comm->transport->recorder;
    int row =
        par__recorder_row(r, comm->axis, op->tag.purpose, par__kind_name(op->kind), op->tag.layer);
    par__recorder_op(r, row);
    if (comm->n == 1) return row;
    /* bytes of the vector: of reduce-scatter and all-gather all shards together */
    par_dtype dtype = op->wire == PAR_BF16 ? PAR_BF16 : op->dtype;
    int64_t shards = op->kind == PAR__REDUCE_SCATTER || op->kind == PAR__ALL_GATHER ? comm->n : 1;
    int64_t nbytes =
        op->kind == PAR__BARRIER ? 0 : shards * op->n * (int64_t)par_dtype_nbytes(dtype);
    par__recorder_asked(r, row, comm->n, nbytes, bus_factor(op->kind, comm->n) * (double)nbytes);
    for (int peer = 0; peer < comm->n; peer++) {
        if (peer == comm->rank) continue;
        par__recorder_asked_for(r, row, comm->ranks[peer], nbytes_for(comm, op, nbytes, peer));
    }
    return row;
}
