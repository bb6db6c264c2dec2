/*
 * The functions that stand before NCCL's. Each calls NCCL's own and tells the recorder of what
 * NCCL took; here those that move data.
 *
 * NCCL's own function is the one that the caller would get without the recorder: the next one in
 * the order in which the process was linked; else, as for a module that was loaded for itself, the
 * one of the caller's own libraries; else that of a libnccl.so.2 that is loaded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "wrap.h"

_Thread_local int record_inside, record_group_depth;
_Thread_local uint64_t record_group_calls;

/* Of a library that is not this one. */
static void *symbol_in(void *library, const char *name) {
    static const char here = 0;
    Dl_info own, other;
    void *found = library ? dlsym(library, name) : NULL;
    if (!found || !dladdr(&here, &own) || !dladdr(found, &other)) return NULL;
    return own.dli_fbase == other.dli_fbase ? NULL : found;
}

void *record_real(const char *name, const void *caller) {
    static _Atomic(void *) callers_library;
    Dl_info info;
    void *found = dlsym(RTLD_NEXT, name);
    if (found) return found;
    if (caller && dladdr(caller, &info) && info.dli_fname) {
        void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        found = symbol_in(library, name);
        if (found) atomic_store(&callers_library, library);
    } else {
        found = symbol_in(atomic_load(&callers_library), name);
    }
    return found ? found : symbol_in(dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD), name);
}

void *record_real_kept(_Atomic(void *) *place, const char *name, const void *caller) {
    void *found = atomic_load_explicit(place, memory_order_acquire);
    if (found) return found;
    found = record_real(name, caller);
    if (!found)
        fprintf(stderr,
                "libpar_nccl_record: there is no %s in this process; load NCCL with the program\n",
                name);
    atomic_store_explicit(place, found, memory_order_release);
    return found;
}

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
