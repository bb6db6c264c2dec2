/*
 * NCCL, inside of the cuda module. Communicators do not block (config.blocking = 0): a call that
 * has to connect goes on in a thread of NCCL's, and its end is polled, so that a peer that never
 * comes shows as an error of the caller, who also moves the host's messages meanwhile.
 *
 * The environment is set before the first call of CUDA and of NCCL, and only where it is unset:
 * - CUDA_DEVICE_MAX_CONNECTIONS=32: kernels that wait for a peer must not stand before others in
 * one hardware queue, of which streams share 8 by default;
 * - NCCL_RUNTIME_CONNECT=0: collectives connect when the communicator is made, not in their first
 * call, where the host would wait for its peers;
 * - NCCL_GRAPH_REGISTER=0: to capture an operation in a graph is a call of this rank alone, as to
 * start one is; with registration the host would wait for its peers;
 * - for ranks that share a GPU, which NCCL refuses for two ranks of one host: a host id per
 * process, and sockets of the loopback between what it then takes for hosts.
 */
#define _GNU_SOURCE
#include "collectives/nccl/nccl.h"

#include <dlfcn.h>
#include <nccl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"
#include "libpar/base/clock.h"

/* Seconds: what a call that only enqueues may take, and the farewell of all ranks. */
enum { CALL_S = 300, FINALIZE_S = 10 };

static par__nccl table;

static par_status failed(ncclComm_t comm, ncclResult_t result, const char *call) {
    const char *last = ncclGetLastError(comm);
    PAR_FAIL(PAR_ERR_TRANSPORT, "%s: %s%s%.600s", call, ncclGetErrorString(result),
             last && *last ? ": " : "", last ? last : "");
}

/* NCCL's thread does the rest of a call; at most `limit` seconds. */
static ncclResult_t settle(ncclComm_t comm, ncclResult_t result, double limit) {
    double begin = par__seconds();
    while (result == ncclInProgress && par__seconds() - begin < limit) {
        sched_yield();
        ncclResult_t asked = ncclCommGetAsyncError(comm, &result);
        if (asked != ncclSuccess) return asked;
    }
    return result;
}

static par_status new_id(void *id) {
    ncclUniqueId unique;
    ncclResult_t result = ncclGetUniqueId(&unique);
    if (result != ncclSuccess) return failed(NULL, result, "ncclGetUniqueId");
    _Static_assert(sizeof unique == PAR__NCCL_ID_NBYTES, "the size of an id is NCCL's");
    memcpy(id, &unique, sizeof unique);
    return PAR_OK;
}

static par_status open_comm(const void *id, int n, int rank, const char *name, void **out) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId unique;
    ncclComm_t comm = NULL;
    memcpy(&unique, id, sizeof unique);
    config.blocking = 0;
    config.commName = name;
    ncclResult_t result = ncclCommInitRankConfig(&comm, n, unique, rank, &config);
    if (result != ncclSuccess && result != ncclInProgress) {
        par_status st = failed(comm, result, "ncclCommInitRankConfig");
        if (comm) (void)ncclCommAbort(comm);
        return st;
    }
    *out = comm;
    return PAR_OK;
}

static par_status poll_comm(void *comm, bool *ready) {
    ncclResult_t state = ncclSuccess, result = ncclCommGetAsyncError(comm, &state);
    if (result != ncclSuccess) return failed(comm, result, "ncclCommGetAsyncError");
    *ready = state != ncclInProgress;
    return state == ncclSuccess || state == ncclInProgress
               ? PAR_OK
               : failed(comm, state, "an operation under way");
}

static void close_comm(void *comm, bool broken) {
    if (!broken && settle(comm, ncclCommFinalize(comm), FINALIZE_S) == ncclSuccess)
        (void)ncclCommDestroy(comm);
    else
        (void)ncclCommAbort(comm);
}

static par_status type_of(par_dtype dtype, ncclDataType_t *out) {
    switch (dtype) {
    case PAR_F32: *out = ncclFloat32; return PAR_OK;
    case PAR_BF16: *out = ncclBfloat16; return PAR_OK;
    case PAR_F16: *out = ncclFloat16; return PAR_OK;
    case PAR_I32: *out = ncclInt32; return PAR_OK;
    case PAR_I64: *out = ncclInt64; return PAR_OK;
    case PAR_U8: *out = ncclUint8; return PAR_OK;
    default: PAR_FAIL(PAR_ERR_ARG, "NCCL: %d is not an element type", (int)dtype);
    }
}

static ncclResult_t call(ncclComm_t comm, const par__operation *op, ncclDataType_t type,
                         cudaStream_t stream, const char **name) {
    size_t n = (size_t)op->n;
    switch (op->kind) {
    case PAR__ALL_REDUCE:
        *name = "ncclAllReduce";
        return ncclAllReduce(op->src, op->dst, n, type, ncclSum, comm, stream);
    case PAR__REDUCE_SCATTER:
        *name = "ncclReduceScatter";
        return ncclReduceScatter(op->src, op->dst, n, type, ncclSum, comm, stream);
    case PAR__ALL_GATHER:
        *name = "ncclAllGather";
        return ncclAllGather(op->src, op->dst, n, type, comm, stream);
    case PAR__BROADCAST:
        *name = "ncclBroadcast";
        return ncclBroadcast(op->src, op->dst, n, type, op->peer, comm, stream);
    case PAR__SEND: *name = "ncclSend"; return ncclSend(op->src, n, type, op->peer, comm, stream);
    case PAR__RECV: *name = "ncclRecv"; return ncclRecv(op->dst, n, type, op->peer, comm, stream);
    default: *name = "an unknown operation"; return ncclInvalidArgument;
    }
}

static par_status start(void *comm, const par__operation *op, par_stream *stream) {
    ncclDataType_t type = ncclUint8;
    const char *name;
    PAR_TRY(type_of(op->dtype, &type));
    ncclResult_t result =
        settle(comm, call(comm, op, type, par__cuda_stream(stream), &name), CALL_S);
    return result == ncclSuccess ? PAR_OK : failed(comm, result, name);
}

void par__nccl_environment(const par_device_params *params) {
    char host[64] = "", id[128];
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    setenv("NCCL_RUNTIME_CONNECT", "0", 0);
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    if (!params->shared) return;
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "host");
    snprintf(id, sizeof id, "%s-%ld", host, (long)getpid());
    setenv("NCCL_HOSTID", id, 0);
    setenv("NCCL_NET", "Socket", 0);
    setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    setenv("NCCL_MNNVL_ENABLE", "0", 0);
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 0); /* from 2.30.3 on */
}

/* The recorder, where it is the profiler that NCCL will load: libpar_nccl_record.so. */
static void find_profiler(void) {
    const char *path = getenv("NCCL_PROFILER_PLUGIN");
    void *file = path && strstr(path, "par_nccl_record") ? dlopen(path, RTLD_NOW) : NULL;
    if (!file) return;
    *(void **)(void *)&table.mark = dlsym(file, "par_nccl_profile_mark");
    *(void **)(void *)&table.ran = dlsym(file, "par_nccl_profile_take");
    if (!table.ran) table.mark = NULL;
    if (table.mark) table.mark(-1); /* before the first communicator */
}

const par__nccl *par__nccl_open(const par_device_params *params) {
    static char name[32], gpu[PAR__NCCL_GPU_NBYTES];
    char host[64] = "";
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess) return NULL;
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "host");
    snprintf(name, sizeof name, "NCCL %d.%d.%d", version / 10000, version / 100 % 100,
             version % 100);
    snprintf(gpu, sizeof gpu, "%s, GPU %s", host, par__cuda_device_get()->bus_id);
    table = (par__nccl){
        par__nccl_contract(), name, gpu, params->shared, new_id, open_comm, poll_comm, start,
        close_comm,           NULL, NULL};
    find_profiler();
    return &table;
}
