/*
 * The functions that make and end communicators, and groups of calls. A communicator has the same
 * identity on all its ranks: a hash of NCCL's unique id, or of its parent's identity, how often the
 * parent had been split, and the color. So files of different ranks can be joined.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wrap.h"

enum { MAX_PENDING = 64 };

/* Communicators of a group that have no handle yet: old releases give it at the group's end. A
 * thread takes the memory once: little room is left for what each thread has from its begin. */
typedef struct {
    record_comm *comm;
    ncclComm_t *where;
} without_handle;
static _Thread_local without_handle *pending; /* [MAX_PENDING] */
static _Thread_local int n_pending;

/* One that NCCL has begun to make, in *out. */
static void made(ncclComm_t *out, record_comm *comm) {
    if (!comm) return;
    if (record_group_depth > 0 && !pending) pending = calloc(MAX_PENDING, sizeof *pending);
    if (*out) {
        record_made(comm, *out);
    } else if (record_group_depth > 0 && pending && n_pending < MAX_PENDING) {
        pending[n_pending].comm = comm;
        pending[n_pending++].where = out;
    } else {
        free(comm); /* of a split: this rank is in none */
    }
}

EXPORT ncclResult_t ncclCommInitRank(ncclComm_t *out, int n, ncclUniqueId unique, int rank) {
    char id[ID_NBYTES];
    BEGIN(ncclCommInitRank)
    record_id("id", &unique, sizeof unique, id);
    if (counted) *out = NULL;
    CALL((out, n, unique, rank))
    if (counted && record_taken(result)) made(out, record_begin(id, n, rank, NULL));
    return result;
}

EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId unique, int rank,
                                           ncclConfig_t *config) {
    char id[ID_NBYTES];
    BEGIN(ncclCommInitRankConfig)
    record_id("id", &unique, sizeof unique, id);
    if (counted) *out = NULL;
    CALL((out, n, unique, rank, config))
    if (counted && record_taken(result)) made(out, record_begin(id, n, rank, config));
    return result;
}

EXPORT ncclResult_t ncclCommInitRankScalable(ncclComm_t *out, int n, int rank, int n_ids,
                                             ncclUniqueId *ids, ncclConfig_t *config) {
    char id[ID_NBYTES];
    BEGIN(ncclCommInitRankScalable)
    record_id("id", ids, (size_t)(n_ids > 0 ? n_ids : 0) * sizeof *ids, id);
    if (counted) *out = NULL;
    CALL((out, n, rank, n_ids, ids, config))
    if (counted && record_taken(result)) made(out, record_begin(id, n, rank, config));
    return result;
}

/* All ranks are of this process. */
EXPORT ncclResult_t ncclCommInitAll(ncclComm_t *comms, int n, const int *devices) {
    static _Atomic int count;
    struct {
        char host[64];
        long pid, number;
    } own;
    char id[ID_NBYTES];
    BEGIN(ncclCommInitAll)
    CALL((comms, n, devices))
    if (!counted || !record_taken(result)) return result;
    memset(&own, 0, sizeof own);
    gethostname(own.host, sizeof own.host - 1);
    own.pid = (long)getpid();
    own.number = atomic_fetch_add(&count, 1);
    record_id("all", &own, sizeof own, id);
    for (int i = 0; i < n; i++) made(&comms[i], record_begin(id, n, i, NULL));
    return result;
}

/* A child, which its parent's ranks make at the same time: `what` is what those that will be in it
 * have in common. Its rank and size are NCCL's to tell. */
static record_comm *child_of(ncclComm_t comm, const char *kind, const void *what, size_t nbytes,
                             const ncclConfig_t *config) {
    struct {
        char parent[ID_NBYTES], what[ID_NBYTES];
        int number;
    } named;
    char id[ID_NBYTES];
    record_comm *parent = record_open(comm), *child;
    if (!parent) return NULL;
    memset(&named, 0, sizeof named);
    memcpy(named.parent, parent->id, sizeof named.parent);
    named.number = atomic_fetch_add(&parent->n_children, 1);
    record_id(kind, what, nbytes, named.what);
    record_id("child", &named, sizeof named, id);
    child = record_begin(id, 0, 0, config);
    if (child) memcpy(child->parent, parent->id, sizeof child->parent);
    return child;
}

EXPORT ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out,
                                  ncclConfig_t *config) {
    BEGIN(ncclCommSplit)
    record_comm *child = counted ? child_of(comm, "split", &color, sizeof color, config) : NULL;
    if (counted) *out = NULL;
    CALL((comm, color, key, out, config))
    if (counted && record_taken(result))
        made(out, child);
    else
        free(child);
    return result;
}

EXPORT ncclResult_t ncclCommShrink(ncclComm_t comm, int *excluded, int n, ncclComm_t *out,
                                   ncclConfig_t *config, int flags) {
    BEGIN(ncclCommShrink)
    size_t nbytes = (size_t)(n > 0 ? n : 0) * sizeof *excluded;
    record_comm *child = counted ? child_of(comm, "shrink", excluded, nbytes, config) : NULL;
    if (counted) *out = NULL;
    CALL((comm, excluded, n, out, config, flags))
    if (counted && record_taken(result))
        made(out, child);
    else
        free(child);
    return result;
}

EXPORT ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    BEGIN(ncclCommFinalize)
    CALL((comm))
    if (counted && record_taken(result)) record_write(false);
    return result;
}

/* The handle may be another communicator's as soon as NCCL has freed it. The file is written here
 * too: processes that are forked often end without the end of a program. */
EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    BEGIN(ncclCommDestroy)
    if (counted) record_closed(comm);
    CALL((comm))
    if (counted) record_write(false);
    return result;
}

EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm) {
    BEGIN(ncclCommAbort)
    if (counted) record_closed(comm);
    CALL((comm))
    if (counted) record_write(false);
    return result;
}

EXPORT ncclResult_t ncclGroupStart(void) {
    BEGIN(ncclGroupStart)
    CALL(())
    if (counted && result == ncclSuccess) record_group_depth++;
    return result;
}

EXPORT ncclResult_t ncclGroupEnd(void) {
    BEGIN(ncclGroupEnd)
    CALL(())
    if (!counted || record_group_depth == 0 || --record_group_depth > 0) return result;
    /* the outermost group has ended */
    record_groups *all = &record_all_groups;
    uint64_t largest = atomic_load(&all->largest), calls = record_group_calls;
    while (calls > largest && !atomic_compare_exchange_weak(&all->largest, &largest, calls)) {
    }
    atomic_fetch_add(&all->calls, calls);
    atomic_fetch_add(&all->n, 1);
    record_group_calls = 0;
    for (int i = 0; i < n_pending; i++)
        if (*pending[i].where)
            record_made(pending[i].comm, *pending[i].where);
        else
            free(pending[i].comm);
    n_pending = 0;
    return result;
}
