/*
 * Reduce-scatter and all-gather of fp32 vectors that travel as bf16, to nearest even: half the
 * bytes. They are the direct algorithms (algorithms.c), but what is sent goes through staging too:
 * of a peer's rooms the first half takes what comes from it, the other what goes to it. A room is
 * filled when its last piece has been sent, so that staging does not grow with the vector.
 *
 * A rank rounds its own values as it does those that it sends: an element's sum is that of p bf16
 * numbers in fp32, in rank order, whichever rank adds them, and a gathered vector is the same on
 * all ranks.
 */
#include "internal.h"
#include "kernels/half.h"

enum { BLOCK = 512 }; /* elements added at a time: 2 KiB of fp32 stay in the first cache */

/* Elements of a window, which is a message. */
static int64_t window_n(const par_comm *comm) {
    int64_t n = comm->window / (int64_t)sizeof(uint16_t);
    return n > 0 ? n : 1;
}

static int half_rooms(const par_comm *comm) {
    return comm->n_rooms / 2;
}

/* Flow 2 i goes to rank r + 1 + i, flow 2 i + 1 comes from rank r - 1 - i. */
static int peer_of(const par__task *task, int flow) {
    int p = task->comm->n, r = task->comm->rank, k = flow / 2 + 1;
    return flow % 2 == 0 ? (r + k) % p : (r + p - k) % p;
}

/* A shard to every peer and one from each; nothing may be sent yet. */
static bool shards_phase(par__task *task) {
    par_comm *comm = task->comm;
    int64_t size = (int64_t)sizeof(uint16_t), nbytes = task->op.n * size;
    if (task->phase > 0) return false;
    task->window = 0;
    task->n_windows = (task->op.n + window_n(comm) - 1) / window_n(comm);
    while (task->n_flows < 2 * (comm->n - 1)) {
        int peer = peer_of(task, task->n_flows);
        bool sending = task->n_flows % 2 == 0;
        char *rooms = par__rooms_of(task, peer) + (sending ? half_rooms(comm) * comm->room : 0);
        par__flow *f = par__new_flow(task, rooms, nbytes, window_n(comm) * size, peer, sending);
        f->ring = comm->room;
        f->depth = half_rooms(comm);
        f->credit = sending ? 0 : f->depth;
    }
    return true;
}

/* Round what is sent into rooms that are free. */
static void fill(const par__task *task, par__flow *f, const float *src) {
    for (; f->credit < f->n_pieces && f->credit < f->n_done + f->depth; f->credit++) {
        int64_t nbytes;
        uint16_t *room = (uint16_t *)(void *)par__flow_piece(f, f->credit, &nbytes);
        const float *x = src + f->credit * window_n(task->comm);
        for (int64_t i = 0; i < nbytes / (int64_t)sizeof *room; i++)
            room[i] = par__f32_to_bf16(x[i]);
    }
}

/* dst = the sum over ranks in their order, from rank 0's value on. This rank's, `own`, is fp32, and
 * may be dst. */
static void sum_window(const par__task *task, float *dst, const float *own, int64_t n) {
    const par_comm *comm = task->comm;
    int64_t room = task->window % half_rooms(comm) * comm->room;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        float total[BLOCK];
        uint16_t mine[BLOCK];
        for (int64_t i = 0; i < count; i++) mine[i] = par__f32_to_bf16(own[begin + i]);
        for (int j = 0; j < comm->n; j++) {
            const uint16_t *x = mine;
            if (j != comm->rank)
                x = (const uint16_t *)(void *)(par__rooms_of(task, j) + room) + begin;
            if (j == 0)
                for (int64_t i = 0; i < count; i++) total[i] = par__bf16_to_f32(x[i]);
            else
                for (int64_t i = 0; i < count; i++) total[i] += par__bf16_to_f32(x[i]);
        }
        for (int64_t i = 0; i < count; i++) dst[begin + i] = total[i];
    }
}

static bool reduce_shards(par__task *task) {
    const par_comm *comm = task->comm;
    int64_t n = task->op.n, size = window_n(comm);
    const float *src = (const float *)(const void *)task->op.src;
    float *dst = (float *)(void *)task->op.dst;
    for (int i = 0; i < task->n_flows; i += 2)
        fill(task, &task->flows[i], src + peer_of(task, i) * n);
    for (; task->window < task->n_windows; task->window++) {
        int64_t begin = task->window * size, left = n - begin;
        for (int i = 1; i < task->n_flows; i += 2)
            if (task->flows[i].n_done <= task->window) return false;
        sum_window(task, dst + begin, src + comm->rank * n + begin, left < size ? left : size);
        for (int i = 1; i < task->n_flows; i += 2) task->flows[i].credit++;
    }
    return true;
}

static void place_own_rounded(par__task *task) {
    const float *src = (const float *)(const void *)task->op.src;
    float *own = (float *)(void *)task->op.dst + task->comm->rank * task->op.n;
    for (int64_t i = 0; i < task->op.n; i++) own[i] = par__bf16_to_f32(par__f32_to_bf16(src[i]));
}

/* Widen what has arrived, and grant its rooms. False: more must come. */
static bool widen(const par__task *task, par__flow *f, float *dst) {
    for (int64_t w; w = f->credit - f->depth, w < f->n_done; f->credit++) {
        int64_t nbytes;
        const uint16_t *room = (const uint16_t *)(void *)par__flow_piece(f, w, &nbytes);
        float *y = dst + w * window_n(task->comm);
        for (int64_t i = 0; i < nbytes / (int64_t)sizeof *room; i++)
            y[i] = par__bf16_to_f32(room[i]);
    }
    return f->credit - f->depth == f->n_pieces;
}

static bool gather_shards(par__task *task) {
    float *dst = (float *)(void *)task->op.dst;
    bool all = true;
    for (int i = 0; i < task->n_flows; i += 2) {
        int64_t n = task->op.n;
        fill(task, &task->flows[i], dst + task->comm->rank * n);
        all &= widen(task, &task->flows[i + 1], dst + peer_of(task, i + 1) * n);
    }
    return all;
}

const par__algorithm par__rounded_reduce_scatter = {
    .kind = PAR__REDUCE_SCATTER,
    .name = "rounded",
    .description = "every rank sends every other its shard as bf16",
    .step = shards_phase,
    .advance = reduce_shards};
const par__algorithm par__rounded_all_gather = {
    .kind = PAR__ALL_GATHER,
    .name = "rounded",
    .description = "every rank sends its shard as bf16 to every other",
    .begin = place_own_rounded,
    .step = shards_phase,
    .advance = gather_shards};
