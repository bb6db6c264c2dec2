/*
 * The algorithms as phases of flows, and the table that chooses one by size.
 *
 * Direct: rank r sends every other rank j the shard that j wants (reduce-scatter) or its own shard
 * (all-gather), first to r + 1, so that no rank is everyone's first. The receiver adds windows in
 * rank order from a ring of staging rooms per peer. Bruck et al. 1997, "Efficient algorithms for
 * all-to-all communications", for small all-gathers: phase k fetches the blocks that rank r + 2^k
 * holds. Dissemination barrier: Hensgen, Finkel and Manber 1988. Broadcast: binomial tree.
 */
#include <string.h>

#include "internal.h"

/* Shard j of the vector: equal ones, or for an all-reduce ones that differ by at most one
 * element. */
static int64_t shard_nbytes(const par__task *task, int j) {
    int64_t n = task->op.n, p = task->comm->n;
    return (task->op.kind == PAR__ALL_REDUCE ? n / p + (j < n % p) : n) * task->size;
}

/* Shard j within a vector of the whole. */
static char *shard_at(const par__task *task, const char *vector, int j) {
    int64_t n = task->op.n, p = task->comm->n, rest = n % p;
    int64_t begin = task->op.kind == PAR__ALL_REDUCE ? n / p * j + (j < rest ? j : rest) : n * j;
    return (char *)(uintptr_t)vector + begin * task->size;
}

static int64_t piece_nbytes(const par__task *task) {
    return par__piece_nbytes(task->comm->transport);
}

/* Whole elements, so that a window can be added when it has arrived. */
static int64_t window_nbytes(const par__task *task) {
    int64_t n = task->comm->window / task->size;
    return (n > 0 ? n : 1) * task->size;
}

static void reduce_phase(par__task *task) {
    par_comm *comm = task->comm;
    int p = comm->n, r = comm->rank;
    int64_t window = window_nbytes(task), nbytes = shard_nbytes(task, r);
    task->window = 0;
    task->n_windows = nbytes / window + (nbytes % window != 0);
    for (int k = 1; k < p; k++) {
        int to = (r + k) % p, from = (r + p - k) % p;
        par__new_flow(task, shard_at(task, task->op.src, to), shard_nbytes(task, to), window, to,
                      true);
        par__flow *f = par__new_flow(task, par__rooms_of(task, from), nbytes, window, from, false);
        f->ring = comm->room;
        f->credit = f->depth = comm->n_rooms;
    }
}

/* Add the windows that have arrived, in rank order, and grant their rooms to the next ones. */
static bool reduce_windows(par__task *task) {
    par_comm *comm = task->comm;
    if (task->window == task->n_windows) return true;
    int64_t size = window_nbytes(task), nbytes = shard_nbytes(task, comm->rank);
    const char *own = shard_at(task, task->op.src, comm->rank);
    char *sum =
        task->op.kind == PAR__ALL_REDUCE ? shard_at(task, task->op.dst, comm->rank) : task->op.dst;
    for (; task->window < task->n_windows; task->window++) {
        int64_t begin = task->window * size, n = nbytes - begin < size ? nbytes - begin : size;
        for (int i = 0; i < task->n_flows; i++)
            if (task->flows[i].ring && task->flows[i].n_done <= task->window) return false;
        for (int j = 0; j < comm->n; j++)
            comm->sources[j] = j == comm->rank ? own + begin
                                               : par__rooms_of(task, j) +
                                                     task->window % comm->n_rooms * comm->room;
        par__sum(task->op.dtype, sum + begin, comm->sources, comm->n, n / task->size);
        for (int i = 0; i < task->n_flows; i++)
            if (task->flows[i].ring) task->flows[i].credit = task->window + 1 + comm->n_rooms;
    }
    return true;
}

/* dst holds this rank's shard already. */
static void gather_phase(par__task *task) {
    int p = task->comm->n, r = task->comm->rank;
    char *dst = task->op.dst;
    for (int k = 1; k < p; k++) {
        int to = (r + k) % p, from = (r + p - k) % p;
        par__new_flow(task, shard_at(task, dst, r), shard_nbytes(task, r), piece_nbytes(task), to,
                      true);
        par__new_flow(task, shard_at(task, dst, from), shard_nbytes(task, from), piece_nbytes(task),
                      from, false);
    }
}

/* Blocks [first, first + n) modulo p: one flow, or two where they wrap, the second after the
 * first. */
static void blocks_flow(par__task *task, char *buffer, int64_t block, int first, int n, int peer,
                        bool sending) {
    int p = task->comm->n, head = n < p - first ? n : p - first;
    par__flow *f = par__new_flow(task, buffer + first * block, head * block, piece_nbytes(task),
                                 peer, sending);
    if (n > head)
        par__new_flow(task, buffer, (n - head) * block, piece_nbytes(task), peer, sending)->before =
            f;
}

bool par__bruck(par__task *task, char *buffer, int64_t block) {
    int p = task->comm->n, r = task->comm->rank, phase = task->phase;
    if (phase > 30 || 1 << phase >= p) return false;
    int distance = 1 << phase, n = distance < p - distance ? distance : p - distance;
    blocks_flow(task, buffer, block, r, n, (r + p - distance) % p, true);
    blocks_flow(task, buffer, block, (r + distance) % p, n, (r + distance) % p, false);
    return true;
}

static void stage_own(par__task *task) {
    size_t nbytes = (size_t)(task->op.n * task->size);
    if (nbytes > 0)
        memcpy(par__staging(task) + (size_t)task->comm->rank * nbytes, task->op.src, nbytes);
}

static bool all_reduce_gather(par__task *task) {
    return task->op.n > 0 && par__bruck(task, par__staging(task), task->op.n * task->size);
}

static par_status sum_staged(par__task *task) {
    par_comm *comm = task->comm;
    for (int j = 0; j < comm->n; j++)
        comm->sources[j] = par__staging(task) + j * task->op.n * task->size;
    par__sum(task->op.dtype, task->op.dst, comm->sources, comm->n, task->op.n);
    return PAR_OK;
}

static bool all_reduce_direct(par__task *task) {
    if (task->phase == 0) reduce_phase(task);
    if (task->phase == 1) gather_phase(task);
    return task->phase < 2;
}

static bool reduce_scatter_direct(par__task *task) {
    if (task->phase == 0) reduce_phase(task);
    return task->phase < 1;
}

static void place_own(par__task *task) {
    const par__operation *op = &task->op;
    char *own = op->dst + task->comm->rank * op->n * task->size;
    if (op->n > 0 && own != op->src) memmove(own, op->src, (size_t)(op->n * task->size));
}

static bool all_gather_bruck(par__task *task) {
    return task->op.n > 0 && par__bruck(task, task->op.dst, task->op.n * task->size);
}

static bool all_gather_direct(par__task *task) {
    if (task->phase == 0) gather_phase(task);
    return task->phase < 1;
}

/* With v = rank - root, the parent of v is v without its lowest bit; flow 0 is the parent's. */
static bool broadcast_tree(par__task *task) {
    int p = task->comm->n, root = task->op.peer, v = (task->comm->rank + p - root) % p, bit = 1;
    int64_t nbytes = task->op.n * task->size, piece = piece_nbytes(task);
    if (task->phase > 0) return false;
    while (bit < p && !(v & bit)) bit <<= 1;
    if (v > 0) par__new_flow(task, task->op.dst, nbytes, piece, (v - bit + root) % p, false);
    for (bit >>= 1; bit > 0; bit >>= 1)
        if (v + bit < p)
            par__new_flow(task, task->op.dst, nbytes, piece, (v + bit + root) % p, true)->credit =
                v > 0 ? 0 : INT64_MAX;
    return true;
}

/* Children may be sent what has come from the parent; the root has no parent. */
static bool forward_credit(par__task *task) {
    if (task->n_flows == 0 || task->flows[0].sending) return true;
    for (int i = 1; i < task->n_flows; i++) task->flows[i].credit = task->flows[0].n_done;
    return true;
}

static bool barrier_dissemination(par__task *task) {
    par_comm *comm = task->comm;
    int p = comm->n, r = comm->rank;
    if (task->phase > 30 || 1 << task->phase >= p) return false;
    int distance = 1 << task->phase;
    par__new_flow(task, &comm->token[0], 1, 1, (r + distance) % p, true);
    par__new_flow(task, &comm->token[1], 1, 1, (r + p - distance) % p, false);
    return true;
}

static bool pair_direct(par__task *task) {
    const par__operation *op = &task->op;
    bool sending = op->kind == PAR__SEND;
    if (task->phase > 0) return false;
    par__new_flow(task, sending ? op->src : op->dst, op->n * task->size, piece_nbytes(task),
                  op->peer, sending);
    return true;
}

static const par__algorithm table[] = {
    {.kind = PAR__ALL_REDUCE,
     .max_nbytes = PAR__SMALL,
     .name = "gather",
     .description = "all-gather the vectors (Bruck), add locally",
     .begin = stage_own,
     .step = all_reduce_gather,
     .end = sum_staged},
    {.kind = PAR__ALL_REDUCE,
     .max_nbytes = INT64_MAX,
     .name = "direct",
     .description = "direct reduce-scatter, direct all-gather",
     .step = all_reduce_direct,
     .advance = reduce_windows},
    {.kind = PAR__REDUCE_SCATTER,
     .max_nbytes = INT64_MAX,
     .name = "direct",
     .description = "every rank sends every other its shard",
     .step = reduce_scatter_direct,
     .advance = reduce_windows},
    {.kind = PAR__ALL_GATHER,
     .max_nbytes = PAR__SMALL,
     .name = "bruck",
     .description = "in log2 p phases, doubling what a rank holds",
     .begin = place_own,
     .step = all_gather_bruck},
    {.kind = PAR__ALL_GATHER,
     .max_nbytes = INT64_MAX,
     .name = "direct",
     .description = "every rank sends its shard to every other",
     .begin = place_own,
     .step = all_gather_direct},
    {.kind = PAR__BROADCAST,
     .max_nbytes = INT64_MAX,
     .name = "tree",
     .description = "binomial tree, forwarded piece by piece",
     .step = broadcast_tree,
     .advance = forward_credit},
    {.kind = PAR__BARRIER,
     .max_nbytes = INT64_MAX,
     .name = "dissemination",
     .description = "a byte to rank r + 2^k in phase k",
     .step = barrier_dissemination},
    {.kind = PAR__SEND,
     .max_nbytes = INT64_MAX,
     .name = "direct",
     .description = "piece by piece",
     .pair = true,
     .step = pair_direct},
    {.kind = PAR__RECV,
     .max_nbytes = INT64_MAX,
     .name = "direct",
     .description = "piece by piece",
     .pair = true,
     .step = pair_direct},
};

const par__algorithm *par__algorithm_choose(const par__operation *op) {
    const par__algorithm *a = table;
    int64_t nbytes = op->n * (int64_t)par_dtype_nbytes(op->dtype);
    if (op->wire == PAR_BF16)
        return op->kind == PAR__ALL_GATHER ? &par__rounded_all_gather
                                           : &par__rounded_reduce_scatter;
    while (a->kind != op->kind || a->max_nbytes < nbytes) a++;
    return a;
}
