/*
 * Communicators are found and calls are counted. The list of communicators only grows, so that it
 * is read without a lock; who looks for one begins with the last one that its thread found.
 */
#define _GNU_SOURCE
#include "record.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* FNV-1a of 64 bits: communicators of one job are few, so two of them differ. */
void record_id(const char *kind, const void *data, size_t nbytes, char out[ID_NBYTES]) {
    uint64_t hash = 14695981039346656037u;
    const unsigned char *bytes = data;
    for (; *kind; kind++) hash = (hash ^ (unsigned char)*kind) * 1099511628211u;
    for (size_t i = 0; i < nbytes; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    snprintf(out, ID_NBYTES, "%016llx", (unsigned long long)hash);
}

record_comm *record_begin(const char *id, int n, int rank, const ncclConfig_t *config) {
    record_comm *comm = calloc(1, sizeof *comm);
    if (!comm) return NULL;
    snprintf(comm->id, sizeof comm->id, "%s", id);
    atomic_store(&comm->n, n);
    atomic_store(&comm->rank, rank);
    atomic_store(&comm->device, -1);
    size_t needed = offsetof(ncclConfig_t, commName) + sizeof config->commName;
    if (config && config->size >= needed && config->commName)
        snprintf(comm->name, sizeof comm->name, "%s", config->commName);
    return comm;
}

void record_made(record_comm *comm, ncclComm_t handle) {
    atomic_store(&comm->handle, handle);
    pthread_mutex_lock(&lock);
    comm->next = atomic_load(&record_comms);
    atomic_store(&record_comms, comm);
    pthread_mutex_unlock(&lock);
    record_keep_writing();
}

static _Thread_local record_comm *last;

void record_closed(ncclComm_t handle) {
    record_comm *comm = record_find(handle);
    if (comm) atomic_store(&comm->handle, NULL);
}

/* One that was made by a function that the recorder does not know: by itself alone. */
static record_comm *adopt(ncclComm_t handle) {
    static _Atomic int count;
    struct {
        char host[64];
        long pid;
        int number;
    } own = {.pid = (long)getpid(), .number = atomic_fetch_add(&count, 1)};
    char id[ID_NBYTES];
    gethostname(own.host, sizeof own.host - 1);
    record_id("unknown", &own, sizeof own, id);
    record_comm *comm = record_begin(id, 0, 0, NULL);
    if (comm) record_made(comm, handle);
    return comm;
}

record_comm *record_find(ncclComm_t handle) {
    if (!handle) return NULL;
    if (last && atomic_load_explicit(&last->handle, memory_order_acquire) == handle) return last;
    for (record_comm *c = atomic_load_explicit(&record_comms, memory_order_acquire); c; c = c->next)
        if (atomic_load_explicit(&c->handle, memory_order_acquire) == handle) return last = c;
    return NULL;
}

static int ask(const char *name, ncclComm_t handle, int otherwise) {
    ncclResult_t (*call)(const ncclComm_t, int *);
    int value;
    *(void **)(void *)&call = record_real(name, NULL);
    return call && call(handle, &value) == ncclSuccess ? value : otherwise;
}

record_comm *record_open(ncclComm_t handle) {
    record_comm *comm = record_find(handle);
    if (!comm) comm = adopt(handle);
    if (!comm || atomic_load_explicit(&comm->settled, memory_order_acquire)) return comm;
    /* before the first call: afterwards NCCL does not answer until it has ended */
    pthread_mutex_lock(&lock);
    if (!atomic_load(&comm->settled)) {
        if (atomic_load(&comm->n) == 0) {
            atomic_store(&comm->rank, ask("ncclCommUserRank", handle, 0));
            atomic_store(&comm->n, ask("ncclCommCount", handle, 1));
        }
        atomic_store(&comm->device, ask("ncclCommCuDevice", handle, -1));
    }
    atomic_store(&comm->settled, true);
    pthread_mutex_unlock(&lock);
    return comm;
}

/* The driver's cuStreamIsCapturing, where the process has a driver. */
static int (*is_capturing)(cudaStream_t stream, int *status);

static void find_driver(void) {
    *(void **)(void *)&is_capturing = record_driver("cuStreamIsCapturing");
}

static bool captured(cudaStream_t stream) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int status = 0;
    pthread_once(&once, find_driver);
    return is_capturing && is_capturing(stream, &status) == 0 && status == 1;
}

void record_call(record_comm *comm, record_op op, int peer, size_t n, int type,
                 cudaStream_t stream) {
    record_cell *cells = comm ? atomic_load_explicit(&comm->cells[op], memory_order_acquire) : NULL;
    if (comm && !cells) { /* the first call of its operation */
        pthread_mutex_lock(&lock);
        cells = atomic_load(&comm->cells[op]);
        if (!cells) {
            size_t peers = op < BROADCAST ? 1 : (size_t)atomic_load(&comm->n);
            cells = calloc(peers * N_TYPES, sizeof *cells);
            atomic_store_explicit(&comm->cells[op], cells, memory_order_release);
        }
        pthread_mutex_unlock(&lock);
    }
    int at = op < BROADCAST ? 0 : peer;
    if (!cells || at < 0 || (at > 0 && at >= atomic_load(&comm->n))) {
        atomic_fetch_add(&record_lost, 1);
        return;
    }
    if (type < 0 || type >= N_TYPES) type = N_TYPES - 1;
    record_cell *cell = &cells[(size_t)at * N_TYPES + (size_t)type];
    atomic_fetch_add_explicit(&cell->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cell->nbytes, n * record_type_nbytes(type), memory_order_relaxed);
    if (captured(stream)) atomic_fetch_add_explicit(&cell->captured, 1, memory_order_relaxed);
}
