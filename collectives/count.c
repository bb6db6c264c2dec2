/*
 * What an operation on device data counts as in the recorder: the messages that the host form would
 * exchange, so that traffic can be compared with its closed form whatever carries it. What NCCL
 * really puts on its wires depends on the algorithm that it chooses.
 */
#include "collectives/device.h"
#include "libpar/base/record.h"

typedef struct {
    const par_comm *comm;
    int row;
    int64_t chunk;
} counter;

static void sent(const counter *c, int to, int64_t nbytes) {
    int peer = c->comm->ranks[to];
    for (; nbytes > 0; nbytes -= c->chunk)
        par__recorder_sent(c->comm->transport->recorder, c->row, peer,
                           nbytes < c->chunk ? nbytes : c->chunk);
}

static void received(const counter *c, int64_t nbytes) {
    if (nbytes > 0) par__recorder_received(c->comm->transport->recorder, c->row, nbytes);
}

/* Phase k: the blocks that this rank holds go to rank r - 2^k, and as many come from r + 2^k. */
static void bruck(const counter *c, int64_t block) {
    int p = c->comm->n, r = c->comm->rank;
    for (int distance = 1; distance < p; distance *= 2) {
        int n = distance < p - distance ? distance : p - distance, head = n < p - r ? n : p - r;
        sent(c, (r + p - distance) % p, head * block);
        sent(c, (r + p - distance) % p, (n - head) * block);
        received(c, n * block);
    }
}

/* Shards of n elements, the first `rest` of them one longer: each to its rank, this rank's from all
 * others. */
static void scatter(const counter *c, int64_t n, int rest, int64_t size) {
    int p = c->comm->n, r = c->comm->rank;
    for (int k = 1; k < p; k++) {
        int to = (r + k) % p;
        sent(c, to, (n + (to < rest)) * size);
        received(c, (n + (r < rest)) * size);
    }
}

static void gather(const counter *c, int64_t n, int rest, int64_t size) {
    int p = c->comm->n, r = c->comm->rank;
    for (int k = 1; k < p; k++) {
        sent(c, (r + k) % p, (n + (r < rest)) * size);
        received(c, (n + ((r + k) % p < rest)) * size);
    }
}

static void broadcast(const counter *c, int root, int64_t nbytes) {
    int p = c->comm->n, v = (c->comm->rank + p - root) % p, bit = 1;
    while (bit < p && !(v & bit)) bit <<= 1;
    if (v > 0) received(c, nbytes);
    for (bit >>= 1; bit > 0; bit >>= 1)
        if (v + bit < p) sent(c, (v + bit + root) % p, nbytes);
}

void par__count(const par_comm *comm, const par__device_args *a, int row) {
    int64_t size = (int64_t)par_dtype_nbytes(a->dtype), nbytes = a->n * size, chunk;
    int rest = (int)(a->n % comm->n);
    bool small = nbytes <= PAR__SMALL;
    chunk = comm->transport->params.chunk_nbytes;
    counter c = {comm, row, chunk}, windows = {comm, row, comm->window / size * size};
    if (windows.chunk < size) windows.chunk = size;
    switch (a->kind) {
    case PAR__ALL_REDUCE:
        if (small) {
            bruck(&c, nbytes);
        } else {
            scatter(&windows, a->n / comm->n, rest, size);
            gather(&c, a->n / comm->n, rest, size);
        }
        break;
    case PAR__REDUCE_SCATTER: scatter(&windows, a->n, 0, size); break;
    case PAR__ALL_GATHER: small ? bruck(&c, nbytes) : gather(&c, a->n, 0, size); break;
    case PAR__BROADCAST: broadcast(&c, a->peer, nbytes); break;
    case PAR__SEND: sent(&c, a->peer, nbytes); break;
    case PAR__RECV: received(&c, nbytes); break;
    default: break;
    }
}
