/*
 * The algorithms as phases of flows, and the table that chooses one by size.
 *
 * Direct: rank r sends every other rank j the shard that j wants (reduce-scatter) or its own shard
 * (all-gather), first to r + 1, so that no rank is everyone's first. The receiver adds windows in
 * rank order from two staging slots a peer. Bruck et al. 1997, "Efficient algorithms for all-to-all
 * communications", for small all-gathers: phase k fetches the blocks that rank r + 2^k holds.
 * Dissemination barrier: Hensgen, Finkel and Manber 1988. Broadcast: binomial tree.
 */
#include <string.h>

#include "internal.h"

/* Shard j in elements of the vector: equal ones, or for an all-reduce ones that differ by at most
 * one element. */
static int64_t shard_n(const par__op *op, int j) {
    int p = op->comm->n;
    return op->kind == PAR__ALL_REDUCE ? op->n / p + (j < op->n % p) : op->n;
}

static int64_t shard_begin(const par__op *op, int j) {
    int64_t p = op->comm->n, rest = op->n % p;
    return op->kind == PAR__ALL_REDUCE ? op->n / p * j + (j < rest ? j : rest) : op->n * j;
}

static par__flow *new_flow(par__op *op, const void *data, int64_t nbytes, int64_t chunk, int peer,
                           bool sending) {
    par__flow *f = &op->comm->flows[op->comm->n_flows++];
    par__flow_start(f, (void *)(uintptr_t)data, nbytes, chunk, peer, sending, op);
    return f;
}

static int64_t chunk_nbytes(const par__op *op) {
    return op->comm->transport->params.chunk_nbytes;
}

/* Whole elements, so that a window can be added when it has arrived. */
static int64_t window_nbytes(const par__op *op) {
    int64_t n = op->comm->window / op->size;
    return (n > 0 ? n : 1) * op->size;
}

static char *reduced_at(const par__op *op) {
    return op->kind == PAR__ALL_REDUCE ? op->dst + shard_begin(op, op->comm->rank) * op->size
                                       : op->dst;
}

static int slot_of(const par_comm *comm, int j) {
    return j < comm->rank ? j : j - 1;
}

static void reduce_phase(par__op *op) {
    par_comm *comm = op->comm;
    int p = comm->n, r = comm->rank;
    int64_t window = window_nbytes(op), nbytes = shard_n(op, r) * op->size;
    op->window = 0;
    op->n_windows = nbytes / window + (nbytes % window != 0);
    for (int k = 1; k < p; k++) {
        int to = (r + k) % p, from = (r + p - k) % p;
        new_flow(op, op->src + shard_begin(op, to) * op->size, shard_n(op, to) * op->size, window,
                 to, true);
        par__flow *f = new_flow(op, comm->staging + 2 * comm->slot * slot_of(comm, from), nbytes,
                                window, from, false);
        f->ring = comm->slot;
        f->credit = 2;
    }
}

static bool window_arrived(const par_comm *comm, int64_t window) {
    for (int i = 0; i < comm->n_flows; i++)
        if (comm->flows[i].ring && comm->flows[i].n_done <= window) return false;
    return true;
}

bool par__reduce_windows(par__op *op) {
    par_comm *comm = op->comm;
    int64_t size = window_nbytes(op),
            nbytes = op->n_windows ? shard_n(op, comm->rank) * op->size : 0;
    const char *own = op->src + (op->n_windows ? shard_begin(op, comm->rank) * op->size : 0);
    for (; op->window < op->n_windows && window_arrived(comm, op->window); op->window++) {
        int64_t begin = op->window * size, n = nbytes - begin < size ? nbytes - begin : size;
        for (int j = 0; j < comm->n; j++)
            comm->sources[j] =
                j == comm->rank
                    ? own + begin
                    : comm->staging + comm->slot * (2 * slot_of(comm, j) + op->window % 2);
        par__sum(op->dtype, reduced_at(op) + begin, comm->sources, comm->n, n / op->size);
        for (int i = 0; i < comm->n_flows; i++)
            if (comm->flows[i].ring) comm->flows[i].credit = op->window + 3;
    }
    return op->window == op->n_windows;
}

/* dst holds this rank's shard already. */
static void gather_phase(par__op *op) {
    int p = op->comm->n, r = op->comm->rank;
    const char *own = op->dst + shard_begin(op, r) * op->size;
    for (int k = 1; k < p; k++) {
        int to = (r + k) % p, from = (r + p - k) % p;
        new_flow(op, own, shard_n(op, r) * op->size, chunk_nbytes(op), to, true);
        new_flow(op, op->dst + shard_begin(op, from) * op->size, shard_n(op, from) * op->size,
                 chunk_nbytes(op), from, false);
    }
}

/* Blocks [first, first + n) modulo p: one flow, or two where they wrap, the second after the
 * first. */
static void blocks_flow(par__op *op, char *buffer, int64_t block, int first, int n, int peer,
                        bool sending) {
    int p = op->comm->n, head = n < p - first ? n : p - first;
    par__flow *f =
        new_flow(op, buffer + first * block, head * block, chunk_nbytes(op), peer, sending);
    if (n > head)
        new_flow(op, buffer, (n - head) * block, chunk_nbytes(op), peer, sending)->before = f;
}

bool par__bruck(par__op *op, char *buffer, int64_t block, int phase) {
    int p = op->comm->n, r = op->comm->rank;
    if (phase > 30 || 1 << phase >= p) return false;
    int distance = 1 << phase, n = distance < p - distance ? distance : p - distance;
    blocks_flow(op, buffer, block, r, n, (r + p - distance) % p, true);
    blocks_flow(op, buffer, block, (r + distance) % p, n, (r + distance) % p, false);
    return true;
}

static void place_own(par__op *op) {
    char *own = op->dst + op->comm->rank * op->n * op->size;
    if (op->n > 0 && own != op->src) memmove(own, op->src, (size_t)(op->n * op->size));
}

static bool all_reduce_gather(par__op *op) {
    par_comm *comm = op->comm;
    int64_t nbytes = op->n * op->size;
    if (nbytes == 0) return false;
    if (op->phase == 0) memcpy(comm->staging + comm->rank * nbytes, op->src, (size_t)nbytes);
    if (par__bruck(op, comm->staging, nbytes, op->phase)) return true;
    for (int j = 0; j < comm->n; j++) comm->sources[j] = comm->staging + j * nbytes;
    par__sum(op->dtype, op->dst, comm->sources, comm->n, op->n);
    return false;
}

static bool all_reduce_direct(par__op *op) {
    if (op->phase == 0) reduce_phase(op);
    if (op->phase == 1) gather_phase(op);
    return op->phase < 2;
}

static bool reduce_scatter_direct(par__op *op) {
    if (op->phase == 0) reduce_phase(op);
    return op->phase < 1;
}

static bool all_gather_bruck(par__op *op) {
    if (op->phase == 0) place_own(op);
    return op->n > 0 && par__bruck(op, op->dst, op->n * op->size, op->phase);
}

static bool all_gather_direct(par__op *op) {
    if (op->phase > 0) return false;
    place_own(op);
    gather_phase(op);
    return true;
}

/* With v = rank - root, the parent of v is v without its lowest bit; flow 0 is the parent's. */
static bool broadcast_tree(par__op *op) {
    int p = op->comm->n, v = (op->comm->rank + p - op->peer) % p, bit = 1;
    int64_t nbytes = op->n * op->size;
    if (op->phase > 0) return false;
    while (bit < p && !(v & bit)) bit <<= 1;
    if (v > 0) new_flow(op, op->dst, nbytes, chunk_nbytes(op), (v - bit + op->peer) % p, false);
    for (bit >>= 1; bit > 0; bit >>= 1)
        if (v + bit < p)
            new_flow(op, op->dst, nbytes, chunk_nbytes(op), (v + bit + op->peer) % p, true)
                ->credit = v > 0 ? 0 : INT64_MAX;
    return true;
}

static bool barrier_dissemination(par__op *op) {
    par_comm *comm = op->comm;
    int p = comm->n, r = comm->rank;
    if (op->phase > 30 || 1 << op->phase >= p) return false;
    int distance = 1 << op->phase;
    new_flow(op, &comm->token[0], 1, 1, (r + distance) % p, true);
    new_flow(op, &comm->token[1], 1, 1, (r + p - distance) % p, false);
    return true;
}

const par__algorithm *par__algorithm_choose(par__kind kind, int64_t nbytes) {
    static const par__algorithm table[] = {
        {PAR__ALL_REDUCE, PAR__SMALL, "gather", "all-gather the vectors (Bruck), add locally",
         all_reduce_gather},
        {PAR__ALL_REDUCE, INT64_MAX, "direct", "direct reduce-scatter, direct all-gather",
         all_reduce_direct},
        {PAR__REDUCE_SCATTER, INT64_MAX, "direct", "every rank sends every other its shard",
         reduce_scatter_direct},
        {PAR__ALL_GATHER, PAR__SMALL, "bruck", "in log2 p phases, doubling what a rank holds",
         all_gather_bruck},
        {PAR__ALL_GATHER, INT64_MAX, "direct", "every rank sends its shard to every other",
         all_gather_direct},
        {PAR__BROADCAST, INT64_MAX, "tree", "binomial tree, forwarded by chunks", broadcast_tree},
        {PAR__BARRIER, INT64_MAX, "dissemination", "a byte to rank r + 2^k in phase k",
         barrier_dissemination},
    };
    const par__algorithm *a = table;
    while (a->kind != kind || a->max_nbytes < nbytes) a++;
    return a;
}
