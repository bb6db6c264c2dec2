/*
 * The functions that stand before NCCL's. Each calls NCCL's own and tells the recorder of what
 * NCCL took; here those that move data.
 */
#include "wrap.h"

_Thread_local int record_inside, record_group_depth;
_Thread_local uint64_t record_group_calls;

bool record_taken(ncclResult_t result) {
    if (result == ncclSuccess || result == ncclInProgress) return true;
    atomic_fetch_add(&record_failed, 1);
    return false;
}

/* One of the functions that move data, whose parameters have the names of abi.h. */
#define DATA(name, op, peer, parameters, arguments)                                                \
    EXPORT ncclResult_t name parameters {                                                          \
        BEGIN(name)                                                                                \
        record_comm *record = counted ? record_open(comm) : NULL;                                  \
        CALL(arguments)                                                                            \
        if (counted && record_taken(result)) {                                                     \
            record_call(record, op, peer, n, (int)type, stream);                                   \
            record_group_calls += record_group_depth > 0;                                          \
        }                                                                                          \
        return result;                                                                             \
    }

DATA(ncclAllReduce, ALL_REDUCE, 0,
     (const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t sum, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, sum, comm, stream))
DATA(ncclReduceScatter, REDUCE_SCATTER, 0,
     (const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t sum, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, sum, comm, stream))
DATA(ncclAllGather, ALL_GATHER, 0,
     (const void *src, void *dst, size_t n, ncclDataType_t type, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, comm, stream))
DATA(ncclAlltoAll, ALL_TO_ALL, 0,
     (const void *src, void *dst, size_t n, ncclDataType_t type, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, comm, stream))
DATA(ncclBroadcast, BROADCAST, root,
     (const void *src, void *dst, size_t n, ncclDataType_t type, int root, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, root, comm, stream))
DATA(ncclBcast, BROADCAST, root,
     (void *data, size_t n, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream),
     (data, n, type, root, comm, stream))
DATA(ncclReduce, REDUCE, root,
     (const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t sum, int root,
      ncclComm_t comm, cudaStream_t stream),
     (src, dst, n, type, sum, root, comm, stream))
DATA(ncclGather, GATHER, root,
     (const void *src, void *dst, size_t n, ncclDataType_t type, int root, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, root, comm, stream))
DATA(ncclScatter, SCATTER, root,
     (const void *src, void *dst, size_t n, ncclDataType_t type, int root, ncclComm_t comm,
      cudaStream_t stream),
     (src, dst, n, type, root, comm, stream))
DATA(ncclSend, SEND, peer,
     (const void *src, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
      cudaStream_t stream),
     (src, n, type, peer, comm, stream))
DATA(ncclRecv, RECV, peer,
     (void *dst, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
     (dst, n, type, peer, comm, stream))
DATA(ncclPutSignal, PUT, peer,
     (const void *src, size_t n, ncclDataType_t type, int peer, ncclWindow_t window, size_t offset,
      int signal, int context, unsigned int flags, ncclComm_t comm, cudaStream_t stream),
     (src, n, type, peer, window, offset, signal, context, flags, comm, stream))
