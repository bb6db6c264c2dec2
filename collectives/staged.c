/*
 * Device data through pinned host memory: a window is copied from the device into staging, the host
 * engine runs the operation on it, the result is copied back. The sums are the host engine's,
 * element by element in rank order, so the bits are those of host data; each window counts as an
 * operation of its own, its bytes are the same.
 *
 * A comm has lanes, each a queue in order with staging and a stream of its own: one for collectives
 * and, where the comm was made for pairs, one per peer and direction, so that a receive that waits
 * for its peer holds up nothing else. A lane's first operation goes through its windows in three
 * states, moved on by progress alone; the host waits in par_work_wait only. `ready` says when the
 * buffers belong to the lane, `out` when its last copy is done; waiting for the operation means
 * that a stream waits for `out`.
 */
#include <stdlib.h>
#include <string.h>

#include "collectives/internal.h"
#include "collectives/link.h"
#include "libpar/base/record.h"

/* Staging of collectives and of a pair's direction, bytes; operations that may be under way. */
enum {
    COLLECTIVE_NBYTES = 4 << 20,
    PAIR_NBYTES = 1 << 20,
    MAX_COLLECTIVES = 512,
    MAX_PAIR = 64,
    ALIGNMENT = 256
};

typedef enum { COPIES_IN, ON_HOST, COPIES_OUT } state_of_window;

typedef struct {
    par__operation op;
    int64_t number;
    par_event *ready;
} waiting;

typedef struct {
    waiting *ring; /* [max], first at `head` */
    int max, head, n;
    int64_t nbytes; /* of each staging buffer */
    char *in, *out; /* pairs: the same buffer */
    par_stream *stream;
    par_event *copied;
    state_of_window state;
    bool begun;              /* the first operation has begun */
    int64_t position, width; /* of the window, elements */
    par_work host;
    int64_t n_done; /* number of the last operation whose result is on its way */
    int kind;       /* -1: collectives; else PAR__SEND or PAR__RECV */
    int peer;
} lane;

typedef struct {
    par_comm *comm;
    const par_backend *device;
    lane *lanes;
    int n_lanes;
    bool moving; /* progress has been entered: the host engine may call it again */
} staged;

static par_status lane_create(staged *s, par_memory *memory, lane *l) {
    bool pair = l->kind >= 0;
    void *block = NULL;
    l->max = pair ? MAX_PAIR : MAX_COLLECTIVES;
    l->nbytes = s->comm->transport->params.piece_nbytes;
    if (l->nbytes > (pair ? PAIR_NBYTES : COLLECTIVE_NBYTES))
        l->nbytes = pair ? PAIR_NBYTES : COLLECTIVE_NBYTES;
    if (l->nbytes < s->comm->n * ALIGNMENT) l->nbytes = s->comm->n * ALIGNMENT;
    size_t one = (size_t)((l->nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    PAR_TRY(par_memory_take(memory, PAR_MEM_COMM, "staging of device data", pair ? one : 2 * one,
                            &block));
    if (s->comm->measuring) return PAR_OK;
    l->in = block;
    l->out = pair ? l->in : l->in + one;
    l->ring = calloc((size_t)l->max, sizeof *l->ring);
    if (!l->ring) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d staged operations", l->max);
    for (int i = 0; i < l->max; i++) PAR_TRY(s->device->event_create(&l->ring[i].ready));
    PAR_TRY(s->device->event_create(&l->copied));
    return s->device->stream_create(&l->stream);
}

static void staged_destroy(void *state) {
    staged *s = state;
    if (!s) return;
    for (int i = 0; i < s->n_lanes; i++) {
        lane *l = &s->lanes[i];
        for (int k = 0; l->ring && k < l->max; k++)
            if (l->ring[k].ready) s->device->event_destroy(l->ring[k].ready);
        free(l->ring);
        if (l->copied) s->device->event_destroy(l->copied);
        if (l->stream) s->device->stream_destroy(l->stream);
    }
    free(s->lanes);
    free(s);
}

static par_status staged_create(par_comm *comm, const par_comm_params *params, par_memory *memory,
                                void **out) {
    PAR_REQUIRE(memory);
    int n = params->pairs ? 1 + 2 * comm->n : 1;
    staged *s = calloc(1, sizeof *s);
    if (s) s->lanes = calloc((size_t)n, sizeof *s->lanes);
    if (!s || !s->lanes) {
        free(s);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d lanes", n);
    }
    s->comm = comm;
    s->device = params->device;
    s->n_lanes = n;
    for (int i = 0; i < n; i++) {
        s->lanes[i].peer = (i - 1) / 2;
        s->lanes[i].kind = i == 0 ? -1 : i % 2 ? PAR__SEND : PAR__RECV;
        par_status st = lane_create(s, memory, &s->lanes[i]);
        if (st != PAR_OK) {
            staged_destroy(s);
            return st;
        }
    }
    *out = s;
    return PAR_OK;
}

static int64_t size_of(const waiting *w) {
    return (int64_t)par_dtype_nbytes(w->op.dtype);
}

/* How many blocks of the window's width lie in the device's input and output, n elements apart. */
static int blocks_in(const staged *s, par__kind kind, int root) {
    if (kind == PAR__REDUCE_SCATTER) return s->comm->n;
    return kind == PAR__RECV || (kind == PAR__BROADCAST && root != s->comm->rank) ? 0 : 1;
}
static int blocks_out(const staged *s, par__kind kind, int root) {
    if (kind == PAR__ALL_GATHER) return s->comm->n;
    return kind == PAR__SEND || (kind == PAR__BROADCAST && root == s->comm->rank) ? 0 : 1;
}

/* Copies of one window between the device, whose blocks are n elements apart, and staging. */
static par_status copy_blocks(const staged *s, lane *l, const waiting *w, bool in) {
    int64_t size = size_of(w), width = l->width * size;
    int n_blocks = (in ? blocks_in : blocks_out)(s, w->op.kind, w->op.peer);
    for (int k = 0; k < n_blocks; k++) {
        int64_t at = (k * w->op.n + l->position) * size;
        PAR_TRY(in ? s->device->copy(l->stream, l->in + k * width, w->op.src + at, (size_t)width)
                   : s->device->copy(l->stream, w->op.dst + at, l->out + k * width, (size_t)width));
    }
    return PAR_OK;
}

/* A window of an all-reduce holds whole shards, so that a remainder is in the last one alone and
 * the messages' bytes add up to those of one operation. */
static par_status begin_window(const staged *s, lane *l, const waiting *w) {
    bool shards = w->op.kind == PAR__REDUCE_SCATTER || w->op.kind == PAR__ALL_GATHER;
    int64_t p = s->comm->n, most = l->nbytes / size_of(w) / (shards ? p : 1);
    if (w->op.kind == PAR__ALL_REDUCE) most = most / p * p;
    int64_t left = w->op.n - l->position, windows = (left + most - 1) / most;
    l->width = left <= most ? left : (left + windows - 1) / windows;
    if (w->op.kind == PAR__ALL_REDUCE && windows > 1) l->width += (p - l->width % p) % p;
    PAR_TRY(copy_blocks(s, l, w, true));
    PAR_TRY(s->device->event_record(l->stream, l->copied));
    l->state = COPIES_IN;
    return PAR_OK;
}

/* One state further, if what it waits for is done. */
static par_status advance(const staged *s, lane *l, bool *moved) {
    bool done = false;
    if (l->n == 0) return PAR_OK;
    const waiting *w = &l->ring[l->head];
    if (!l->begun) {
        *moved = l->begun = true;
        l->position = 0;
        PAR_TRY(s->device->wait(l->stream, w->ready));
        return begin_window(s, l, w);
    }
    if (l->state == ON_HOST)
        done = par__engine_done(s->comm, l->host.number);
    else
        PAR_TRY(s->device->event_query(l->copied, &done));
    if (!done) return PAR_OK;
    *moved = true;
    if (l->state == COPIES_IN) {
        bool in_place = w->op.kind == PAR__BROADCAST || l->kind >= 0;
        par__operation window = w->op;
        window.dst = w->op.kind == PAR__BROADCAST && w->op.peer == s->comm->rank ? l->in : l->out;
        window.src = in_place ? window.dst : l->in;
        window.n = l->width;
        l->state = ON_HOST;
        return par__host_start(s->comm, &window, &l->host);
    }
    if (l->state == ON_HOST) {
        PAR_TRY(par__engine_result(s->comm, l->host.number));
        PAR_TRY(copy_blocks(s, l, w, false));
        PAR_TRY(s->device->event_record(l->stream, l->copied));
        l->state = COPIES_OUT;
        if (l->position + l->width >= w->op.n) l->n_done = w->number;
        return PAR_OK;
    }
    l->position += l->width; /* staging is free again: the next window, or the next operation */
    if (l->position < w->op.n) return begin_window(s, l, w);
    l->begun = false;
    l->head = (l->head + 1) % l->max;
    l->n--;
    return PAR_OK;
}

static par_status staged_progress(void *state, bool *moved) {
    staged *s = state;
    par_status st = PAR_OK;
    if (s->moving) return PAR_OK;
    s->moving = true;
    for (int i = 0; i < s->n_lanes && st == PAR_OK; i++) st = advance(s, &s->lanes[i], moved);
    s->moving = false;
    /* peers wait for what this rank can no longer send */
    return st == PAR_OK ? st : par__transport_break(s->comm->transport, par_error());
}

static par_status staged_start(void *state, const par__operation *op, int64_t number) {
    staged *s = state;
    int i = par__is_pair(op->kind) ? 1 + 2 * op->peer + (op->kind == PAR__RECV) : 0;
    if (i >= s->n_lanes)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "axis %s was not made for %s: set par_comm_params.pairs",
                 s->comm->axis, par__kind_name(op->kind));
    lane *l = &s->lanes[i];
    if (l->n == l->max)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s on axis %s: %d operations are under way; wait for some first",
                 par__kind_name(op->kind), s->comm->axis, l->max);
    waiting *w = &l->ring[(l->head + l->n) % l->max];
    w->op = *op;
    w->number = number;
    PAR_TRY(s->device->event_record(op->after, w->ready));
    l->n++;
    return PAR_OK;
}

static lane *lane_with(const staged *s, int64_t number) {
    for (int i = 0; i < s->n_lanes; i++) {
        lane *l = &s->lanes[i];
        for (int k = 0; k < l->n; k++)
            if (l->ring[(l->head + k) % l->max].number == number) return l;
    }
    return NULL;
}

/* Its last copy has been put on the lane's stream, or it left the queue. */
static bool on_its_way(const staged *s, int64_t number) {
    const lane *l = lane_with(s, number);
    return !l || l->n_done >= number;
}

static par__flight *flight_of(const staged *s) {
    return par__recorder_flight(s->comm->transport->recorder);
}

/* The host waits for an operation of the lane until it is on its way. */
static par_status await(staged *s, const lane *l, int64_t number) {
    par_timeline *timeline = par__recorder_timeline(s->comm->transport->recorder);
    int n_idle = 0;
    int64_t begin = par__timeline_now(timeline);
    par__flight_wait(flight_of(s), l->kind < 0 ? PAR__WAIT_GROUP : PAR__WAIT_PEER,
                     s->comm->last_index, l->kind < 0 ? -1 : s->comm->ranks[l->peer],
                     s->comm->n_started);
    while (!on_its_way(s, number)) {
        bool moved = false;
        PAR_TRY(par__engine_progress(s->comm->transport, &moved));
        n_idle = moved ? 0 : n_idle + 1;
        if (!moved) par__engine_idle(s->comm->transport, n_idle);
    }
    par__flight_go_on(flight_of(s));
    par__timeline_add(timeline, (par__event){.begin_ns = begin,
                                             .name = "staged",
                                             .axis = s->comm->axis,
                                             .purpose = "",
                                             .first = s->comm->ranks[0],
                                             .peer = l->kind < 0 ? -1 : s->comm->ranks[l->peer],
                                             .kind = PAR__EVENT_WAIT,
                                             .layer = -1,
                                             .chunk = -1,
                                             .micro = -1});
    return PAR_OK;
}

static par_status staged_wait(void *state, int64_t number, par_stream *then) {
    staged *s = state;
    lane *l = lane_with(s, number);
    if (!l) return PAR_OK; /* every copy of it is done */
    PAR_TRY(await(s, l, number));
    /* `copied` is this operation's until the lane goes on, which only progress does */
    return lane_with(s, number) ? s->device->wait(then, l->copied) : PAR_OK;
}

/* Ranks start a window on the host when they come to it, so a barrier must not overtake one. */
static par_status staged_drain(void *state) {
    staged *s = state;
    const lane *l = &s->lanes[0];
    return l->n > 0 ? await(s, l, l->ring[(l->head + l->n - 1) % l->max].number) : PAR_OK;
}

static bool staged_done(void *state, int64_t number) {
    return !lane_with(state, number);
}

const par__link par__staged_link = {"staged",        staged_create, staged_destroy,
                                    staged_start,    staged_wait,   staged_done,
                                    staged_progress, staged_drain,  NULL};
