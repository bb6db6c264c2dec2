/*
 * A libnccl.so.2 in which nothing moves: communicators that know their size and rank, and calls
 * that are taken or refused. Its types are the recorder's declarations. A split is by the rank
 * modulo 2. A communicator that is destroyed is the next one's memory, and a call of another public
 * function goes through the loader, as both may be in NCCL.
 */
#include <stdlib.h>

#include "launcher/nccl_record/abi.h"

enum { MAX = 64 };

struct ncclComm {
    int n, rank, device, used;
};

static struct ncclComm all[MAX];

ncclResult_t ncclCommCount(const ncclComm_t comm, int *n);
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank);
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device);
ncclResult_t ncclGetVersion(int *version);

static ncclResult_t make(ncclComm_t *out, int n, int rank, int device) {
    for (int i = 0; i < MAX; i++)
        if (!all[i].used) {
            all[i] = (struct ncclComm){n, rank, device, 1};
            *out = &all[i];
            return ncclSuccess;
        }
    return ncclInvalidUsage;
}

static ncclResult_t take(ncclComm_t comm, int type) {
    return comm && comm->used && type >= 0 && type < 12 ? ncclSuccess : ncclInvalidUsage;
}

static ncclResult_t end(ncclComm_t comm) {
    comm->used = 0;
    return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version) {
    *version = 22809;
    return ncclSuccess;
}
ncclResult_t ncclCommCount(const ncclComm_t comm, int *n) {
    *n = comm->n;
    return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
    *rank = comm->rank;
    return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
    *device = comm->device;
    return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t *out, int n, ncclUniqueId id, int rank) {
    return make(out, n, rank, 0);
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    return make(out, n, rank, 0);
}
ncclResult_t ncclCommInitAll(ncclComm_t *comms, int n, const int *devices) {
    for (int i = 0; i < n; i++)
        if (make(&comms[i], n, i, devices ? devices[i] : i) != ncclSuccess) return ncclInvalidUsage;
    return ncclSuccess;
}
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out,
                           ncclConfig_t *config) {
    *out = NULL;
    if (color < 0) return ncclSuccess;
    return make(out, (comm->n + 1 - comm->rank % 2) / 2, comm->rank / 2, comm->device);
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    return end(comm);
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return end(comm);
}
ncclResult_t ncclGroupStart(void) {
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void *src, void *dst, size_t n, ncclDataType_t type,
                           ncclRedOp_t sum, ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclReduceScatter(const void *src, void *dst, size_t n, ncclDataType_t type,
                               ncclRedOp_t sum, ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclAllGather(const void *src, void *dst, size_t n, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclAlltoAll(const void *src, void *dst, size_t n, ncclDataType_t type,
                          ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclBroadcast(const void *src, void *dst, size_t n, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclBcast(void *data, size_t n, ncclDataType_t type, int root, ncclComm_t comm,
                       cudaStream_t stream) {
    return ncclBroadcast(data, data, n, type, root, comm, stream);
}
ncclResult_t ncclReduce(const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t sum,
                        int root, ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclGather(const void *src, void *dst, size_t n, ncclDataType_t type, int root,
                        ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclScatter(const void *src, void *dst, size_t n, ncclDataType_t type, int root,
                         ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclSend(const void *src, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclPutSignal(const void *src, size_t n, ncclDataType_t type, int peer,
                           ncclWindow_t window, size_t offset, int signal, int context,
                           unsigned int flags, ncclComm_t comm, cudaStream_t stream) {
    return take(comm, (int)type);
}
ncclResult_t ncclRecv(void *dst, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return take(comm, (int)type);
}
