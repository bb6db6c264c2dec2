/*
 * NCCL's profiler plugin: profiler_abi.h says what NCCL tells when. Handles that NCCL gets are
 * numbers, not addresses: the kind, a step, an index into a table, and how many entries were taken
 * before. So what is told of an entry that is another one's by now is found out and left aside.
 *
 * Tables are rings: an operation keeps its entry until as many others have started. That one may
 * stay without a time. A proxy's operation gives its entry back when it stops.
 *
 * One lock guards all: NCCL calls from the program's threads, from CUDA's, and from proxies'.
 */
#define _GNU_SOURCE
#include "profile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "profiler_abi.h"

enum { N_OPERATIONS = 4096, N_PROXIES = 4096, N_STEPS = 8, N_MARKS = 1024 };
enum { OPERATION = 1, PROXY, CHANNEL, STEP, CALL, KINDS = 8 };

typedef struct {
    uintptr_t handle;
    profile_comm *comm;
    int row, mark, n_channels, n_ended;
    uint64_t begin_ns, end_ns;
} operation;

typedef struct {
    uintptr_t handle; /* 0: free */
    profile_cell *cell;
    bool sends;
    uint64_t since_ns[N_STEPS]; /* given to the network; 0: is not */
} proxy;

static operation operations[N_OPERATIONS];
static proxy proxies[N_PROXIES];
static struct {
    int64_t n;
    uint64_t time_ns;
} marked[N_MARKS];
static uint64_t n_taken;
static int n_comms;
static _Atomic int64_t n_marked;
static _Atomic bool marks; /* a program has marked calls */
static _Thread_local int mark = -1;

void par_nccl_profile_mark(int wanted) {
    atomic_store(&marks, true);
    mark = wanted < N_MARKS ? wanted : -1;
}

void par_nccl_profile_take(int of, int64_t *n, double *seconds) {
    *n = of < 0 ? atomic_load_explicit(&n_marked, memory_order_acquire) : 0;
    *seconds = 0;
    if (of < 0 || of >= N_MARKS) return;
    profile_lock();
    *n = marked[of].n;
    *seconds = 1e-9 * (double)marked[of].time_ns;
    marked[of].n = 0;
    marked[of].time_ns = 0;
    profile_unlock();
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A new entry's handle. */
static uintptr_t handle_of(int kind, int index) {
    return (uintptr_t)++n_taken << 18 | (uintptr_t)index << 6 | (uintptr_t)kind;
}

static int kind_of(uintptr_t handle) {
    return (int)(handle % KINDS);
}

static uintptr_t with(uintptr_t handle, int kind, int step) {
    return handle >> 6 << 6 | (uintptr_t)step << 3 | (uintptr_t)kind;
}

static int step_of(uintptr_t handle) {
    return (int)(handle >> 3 & (N_STEPS - 1));
}

/* NULL: the entry is another one's. */
static operation *operation_of(uintptr_t handle) {
    operation *o = &operations[(handle >> 6) % N_OPERATIONS];
    return handle && o->handle == with(handle, OPERATION, 0) ? o : NULL;
}

static proxy *proxy_of(uintptr_t handle) {
    proxy *p = &proxies[(handle >> 6) % N_PROXIES];
    return handle && p->handle == with(handle, PROXY, 0) ? p : NULL;
}

static int number_of(const char *name, const char *const *names, int n, int otherwise) {
    for (int i = 0; name && i < n; i++)
        if (names[i] && strcmp(name, names[i]) == 0) return i;
    return otherwise;
}

static int type_of(const char *name) {
    static const char *const names[N_TYPES] = {"ncclInt8",     "ncclUint8",      "ncclInt32",
                                               "ncclUint32",   "ncclInt64",      "ncclUint64",
                                               "ncclFloat16",  "ncclFloat32",    "ncclFloat64",
                                               "ncclBfloat16", "ncclFloat8e4m3", "ncclFloat8e5m2"};
    return number_of(name, names, N_TYPES, 1); /* NCCL has no name for uint8 */
}

static int op_of(const char *name) {
    static const char *const names[N_OPS] = {"AllReduce", "ReduceScatter", "AllGather", "AlltoAll",
                                             "Broadcast", "Reduce",        "Gather",    "Scatter",
                                             "Send",      "Recv",          "PutSignal"};
    return number_of(name, names, N_OPS, -1);
}

/* -1: there is no place. */
static int row_of(profile_comm *c, const profile_row *wanted) {
    for (int i = 0; i < c->n_rows; i++) {
        const profile_row *r = &c->rows[i];
        if (r->op == wanted->op && r->type == wanted->type && r->peer == wanted->peer &&
            strcmp(r->algorithm, wanted->algorithm) == 0 &&
            strcmp(r->protocol, wanted->protocol) == 0)
            return i;
    }
    if (c->n_rows == PROFILE_ROWS) return -1;
    c->rows[c->n_rows] = *wanted;
    return c->n_rows++;
}

static profile_cell *cell_of(profile_comm *c, int row, int peer) {
    for (int i = 0; i < c->n_cells; i++)
        if (c->cells[i].row == row && c->cells[i].peer == peer) return &c->cells[i];
    if (c->n_cells == PROFILE_CELLS || peer < 0 || peer >= c->n) return NULL;
    c->cells[c->n_cells] = (profile_cell){.row = row, .peer = peer};
    return &c->cells[c->n_cells++];
}

static uintptr_t lose(void) {
    profile_lost++;
    return 0;
}

/* `row`: what the event says; n: elements. */
static uintptr_t start_operation(profile_comm *c, profile_row *row, size_t n, uintptr_t parent) {
    static unsigned next;
    int at = c && row->op >= 0 ? row_of(c, row) : -1;
    if (at < 0) return lose();
    if (c->rows[at].n_channels < row->n_channels) c->rows[at].n_channels = row->n_channels;
    c->rows[at].calls++;
    c->rows[at].nbytes += n * record_type_nbytes(row->type);
    int index = (int)(next++ % N_OPERATIONS);
    operations[index] = (operation){.handle = handle_of(OPERATION, index),
                                    .comm = c,
                                    .row = at,
                                    .mark = kind_of(parent) == CALL ? (int)(parent >> 6) : -1,
                                    .n_channels = row->n_channels};
    return operations[index].handle;
}

static uintptr_t start_coll(profile_comm *c, const profiler_event *e) {
    int op = op_of(e->coll.function);
    profile_row row = {.op = op,
                       .type = type_of(e->coll.datatype),
                       .peer = op == BROADCAST || op == REDUCE ? e->coll.root : -1,
                       .n_channels = e->coll.n_channels};
    snprintf(row.algorithm, sizeof row.algorithm, "%s", e->coll.algorithm ? e->coll.algorithm : "");
    snprintf(row.protocol, sizeof row.protocol, "%s", e->coll.protocol ? e->coll.protocol : "");
    return start_operation(c, &row, e->coll.n, (uintptr_t)e->parent);
}

static uintptr_t start_p2p(profile_comm *c, const profiler_event *e) {
    profile_row row = {.op = op_of(e->p2p.function),
                       .type = type_of(e->p2p.datatype),
                       .peer = e->p2p.peer,
                       .n_channels = e->p2p.n_channels};
    return start_operation(c, &row, e->p2p.n, (uintptr_t)e->parent);
}

static uintptr_t start_channel(const profiler_event *e) {
    operation *o = operation_of((uintptr_t)e->parent);
    uint64_t begin = e->kernel_channel.time_ns;
    if (!o) return 0; /* as when it lost its place: it has no time */
    if (o->begin_ns == 0 || begin < o->begin_ns) o->begin_ns = begin;
    return with(o->handle, CHANNEL, 0);
}

static void stop_channel(uintptr_t handle, uint64_t end_ns) {
    operation *o = operation_of(handle);
    if (!o) return;
    if (end_ns > o->end_ns) o->end_ns = end_ns;
    if (++o->n_ended != o->n_channels || o->end_ns < o->begin_ns) return;
    o->comm->rows[o->row].timed++;
    o->comm->rows[o->row].time_ns += o->end_ns - o->begin_ns;
    if (o->mark < 0 || o->mark >= N_MARKS) return;
    marked[o->mark].n++;
    marked[o->mark].time_ns += o->end_ns - o->begin_ns;
    atomic_fetch_add_explicit(&n_marked, 1, memory_order_release);
}

static uintptr_t start_proxy(const profiler_event *e) {
    static unsigned next;
    if (e->proxy_op.pid != getpid()) { /* its parent is an address elsewhere */
        profile_relayed++;
        return 0;
    }
    operation *o = operation_of((uintptr_t)e->parent);
    profile_cell *cell = o ? cell_of(o->comm, o->row, e->proxy_op.peer) : NULL;
    if (!cell) return lose();
    int index = (int)(next++ % N_PROXIES);
    if (proxies[index].handle) profile_lost++; /* what it still was to tell */
    proxies[index] =
        (proxy){.handle = handle_of(PROXY, index), .cell = cell, .sends = e->proxy_op.is_send != 0};
    return proxies[index].handle;
}

static uintptr_t start_step(const profiler_event *e) {
    const proxy *p = proxy_of((uintptr_t)e->parent);
    return p ? with(p->handle, STEP, e->proxy_step.number & (N_STEPS - 1)) : 0;
}

static int start(profile_comm *c, void **handle, const profiler_event *e, uint64_t type) {
    uintptr_t out = 0;
    if (!handle) return 0;
    profile_lock();
    switch (type) {
    case PROFILER_COLL: out = start_coll(c, e); break;
    case PROFILER_P2P: out = start_p2p(c, e); break;
    case PROFILER_KERNEL_CHANNEL: out = start_channel(e); break;
    case PROFILER_PROXY_OP: out = start_proxy(e); break;
    case PROFILER_PROXY_STEP: out = start_step(e); break;
    case PROFILER_COLL_CALL:
    case PROFILER_P2P_CALL:
        if (mark >= 0) out = (uintptr_t)mark << 6 | CALL;
        break;
    }
    profile_unlock();
    *handle = (void *)out; /* NCCL keeps what was there before, where nothing is given */
    return 0;
}

static int start_v4(void *context, void **handle, profiler_event *event) {
    return start(context, handle, event, event ? event->type_v4 : 0);
}

static int start_v5(void *context, void **handle, profiler_event *event) {
    return start(context, handle, event, event ? event->type : 0);
}

static int stop(void *given) {
    uintptr_t handle = (uintptr_t)given;
    int step = step_of(handle);
    profile_lock();
    proxy *p = kind_of(handle) == PROXY || kind_of(handle) == STEP ? proxy_of(handle) : NULL;
    if (p && kind_of(handle) == PROXY) p->handle = 0;
    if (p && kind_of(handle) == STEP && p->since_ns[step]) {
        p->cell->send_ns += now_ns() - p->since_ns[step];
        p->since_ns[step] = 0;
    }
    profile_unlock();
    return 0;
}

static void record_step(uintptr_t handle, int state, size_t nbytes) {
    proxy *p = proxy_of(handle);
    if (!p) return;
    if (p->sends && state == PROFILER_SEND_WAIT) {
        p->cell->sent += nbytes;
        p->cell->n_sent++;
        p->since_ns[step_of(handle)] = now_ns();
    } else if (!p->sends && state == PROFILER_RECEIVED) {
        p->cell->received += nbytes;
    }
}

static int record(void *given, int state, profiler_state *told) {
    uintptr_t handle = (uintptr_t)given;
    if (!told) return 0;
    profile_lock();
    if (kind_of(handle) == CHANNEL && state == PROFILER_CHANNEL_STOP)
        stop_channel(handle, told->kernel_channel.time_ns);
    if (kind_of(handle) == STEP) record_step(handle, state, told->proxy_step.nbytes);
    profile_unlock();
    return 0;
}

/* NCCL's thread has chosen the device by now. */
static int device_now(void) {
    int device = -1, (*get)(int *);
    *(void **)(void *)&get = record_driver("cuCtxGetDevice");
    return get && get(&device) == 0 ? device : -1;
}

/* Never an error: NCCL 2.28 would go on and call all the same. */
static int init(void **context, int *mask, const char *name, uint64_t id, int n_hosts, int n,
                int rank) {
    *context = NULL;
    *mask = PROFILER_COLL | PROFILER_P2P | PROFILER_KERNEL_CHANNEL;
    if (record_wanted())
        *mask |= PROFILER_PROXY_OP | PROFILER_PROXY_STEP;
    else if (!atomic_load(&marks))
        *mask = 0;
    if (*mask == 0) return 0;
    profile_lock();
    bool room = n_comms < PROFILE_COMMS;
    n_comms += room;
    profile_unlock();
    profile_comm *c = room ? calloc(1, sizeof *c) : NULL;
    if (c) {
        c->n = n;
        c->n_hosts = n_hosts;
        c->rank = rank;
        c->device = device_now();
        record_id("profiled", &id, sizeof id, c->id);
        snprintf(c->name, sizeof c->name, "%s", name ? name : "");
    }
    profile_lock();
    if (c) c->next = profile_comms;
    if (c) profile_comms = c;
    profile_unlock();
    *context = c;
    if (record_wanted()) record_keep_writing();
    return 0;
}

static int init_v4(void **context, int *mask, const char *name, uint64_t id, int n_hosts, int n,
                   int rank, profiler_logger *log) {
    (void)log;
    return init(context, mask, name, id, n_hosts, n, rank);
}

static int init_v5(void **context, uint64_t id, int *mask, const char *name, int n_hosts, int n,
                   int rank, profiler_logger *log) {
    return init_v4(context, mask, name, id, n_hosts, n, rank, log);
}

static int finalize(void *context) {
    if (context && record_wanted()) record_write(false);
    return 0;
}

__attribute__((visibility("default")))
const profiler_v4 ncclProfiler_v4 = {"libpar", init_v4, start_v4, stop, record, finalize};
__attribute__((visibility("default")))
const profiler_v5 ncclProfiler_v5 = {"libpar", init_v5, start_v5, stop, record, finalize};
