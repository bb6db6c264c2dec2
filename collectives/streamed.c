/*
 * Device data by NCCL: operations are put on streams, and the host waits for nothing but the
 * connection at create. The comm's collectives have one communicator and one stream. `ready` lets
 * it wait for the input, an event per operation lets others wait for the result. Sums of 16-bit
 * types are NCCL's, rounded at every hop, where the host engine rounds once; the order of additions
 * is NCCL's too.
 *
 * Where operations are not part of a graph, two more events tell how long each took on its stream,
 * from the moment at which its input was there; they are read when they have happened. Of graphs,
 * NCCL's profiler tells how long each launch's kernels took, where there is one.
 *
 * Sends and receives have a communicator of two ranks and a stream for each ordered pair of
 * neighbours on the ring of ranks, which are those that schedules use. So a receive that was put on
 * its stream early holds up nothing but later receives from the same rank, and the k-th send of a
 * pair meets its k-th receive: the order for which the schedule checker proves that a rendezvous
 * never blocks for ever. Two conditions stay: kernels that wait for a peer must not stand before
 * others in a hardware queue (nccl.c asks for 32), and all must fit on the device beside each other
 * (at most 4 pairs and one collective per comm, of few blocks each; kernels that compute end by
 * themselves).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/internal.h"
#include "collectives/link.h"
#include "collectives/nccl/nccl.h"
#include "libpar/base/clock.h"
#include "libpar/base/record.h"

enum { MAX_OPS = 512, MAX_LANES = 5, CONNECT_S = 300 };

typedef struct {
    void *nccl; /* the communicator */
    char name[48];
    par_stream *stream;
    int kind;  /* -1: collectives; else PAR__SEND or PAR__RECV */
    int peer;  /* rank of the group */
    int there; /* the same in the communicator of two */
} lane;

/* Operation number n has entry n mod MAX_OPS. */
typedef struct {
    int64_t number;
    bool waited; /* for it, by a stream: the entry may be taken again */
    par_event *done;
    par_event *timed[2]; /* its begin and end; NULL: the device has no such events */
    int row;             /* of the recorder, which is to be told of its time; -1: is not */
} entry;

typedef struct {
    par_comm *comm;
    const par_backend *device;
    const par__nccl *nccl;
    par_event *ready;
    entry entries[MAX_OPS];
    int64_t last, told; /* numbers: the last operation; up to this one their times are told */
    int64_t n_ran;      /* operations in graphs, of all comms, whose times were asked for */
    lane lanes[MAX_LANES];
    int n_lanes;
    void *scratch; /* 8 bytes of the device, while connecting */
} streamed;

static const par_tag connect_tag = {"connect", -1, -1, -1};

static par_status gather_bytes(par_comm *comm, const void *mine, void *all, int64_t nbytes) {
    const par__operation op = {.kind = PAR__ALL_GATHER,
                               .src = mine,
                               .dst = all,
                               .n = nbytes,
                               .dtype = PAR_U8,
                               .tag = connect_tag};
    return par__host_start(comm, &op, NULL);
}

/* Abort every communicator, so that no kernel waits for ever. */
static void streamed_abort(void *state) {
    streamed *s = state;
    for (int i = 0; i < s->n_lanes; i++) {
        if (s->lanes[i].nccl) s->nccl->close(s->lanes[i].nccl, true);
        s->lanes[i].nccl = NULL;
    }
}

/* Peers wait for what this rank can no longer send. par_error() says why. */
static par_status break_down(streamed *s) {
    char text[768];
    snprintf(text, sizeof text, "rank %d, axis %s: %.600s", s->comm->transport->rank, s->comm->axis,
             par_error());
    return par__transport_break(s->comm->transport, text);
}

/* Until `event` has happened, or with NULL the communicator is there. */
static par_status await(streamed *s, lane *l, par_event *event) {
    par_transport *t = s->comm->transport;
    double begin = par__seconds();
    bool done = false, moved;
    for (int n_idle = 0; !done; n_idle++) {
        PAR_TRY(s->nccl->poll(l->nccl, &done));
        if (event && done) PAR_TRY(s->device->event_query(event, &done));
        PAR_TRY(par__engine_progress(t, &moved));
        if (!done) par__engine_idle(t, n_idle);
        if (!done && par__seconds() - begin > CONNECT_S)
            PAR_FAIL(PAR_ERR_TRANSPORT,
                     "communicator %s has not connected in %d s: a rank is gone, or none of its "
                     "networks "
                     "reaches the others (NCCL_DEBUG=INFO tells, NCCL_SOCKET_IFNAME chooses)",
                     l->name, CONNECT_S);
    }
    return PAR_OK;
}

static par_status lane_open(streamed *s, lane *l, const void *id, int n, int rank) {
    PAR_TRY(s->device->stream_create(&l->stream));
    return s->nccl->open(id, n, rank, l->name, &l->nccl);
}

static lane *lane_add(streamed *s, int kind, int peer, int there) {
    lane *l = &s->lanes[s->n_lanes++];
    const par_comm *comm = s->comm;
    *l = (lane){.kind = kind, .peer = peer, .there = there};
    if (kind < 0)
        snprintf(l->name, sizeof l->name, "%s from rank %d", comm->axis, comm->ranks[0]);
    else
        snprintf(l->name, sizeof l->name, "%s %d to %d", comm->axis,
                 comm->ranks[kind == PAR__SEND ? comm->rank : peer],
                 comm->ranks[kind == PAR__SEND ? peer : comm->rank]);
    return l;
}

/* A first operation connects what NCCL connects late, here where all ranks take part. */
static par_status warm_up(streamed *s, lane *l) {
    par__kind kind = l->kind < 0 ? PAR__ALL_REDUCE : (par__kind)l->kind;
    const par__operation op = {.kind = kind,
                               .src = s->scratch,
                               .dst = s->scratch,
                               .n = 1,
                               .dtype = PAR_I32,
                               .peer = l->there,
                               .tag = connect_tag,
                               .after = l->stream};
    return s->nccl->start(l->nccl, &op, l->stream);
}

static par_status warm_up_all(streamed *s, lane *first, int n) {
    for (int i = 0; i < n; i++) PAR_TRY(await(s, &first[i], NULL));
    for (int i = 0; i < n; i++) {
        PAR_TRY(warm_up(s, &first[i]));
        PAR_TRY(s->device->event_record(first[i].stream, s->entries[i].done));
    }
    for (int i = 0; i < n; i++) PAR_TRY(await(s, &first[i], s->entries[i].done));
    return PAR_OK;
}

static par_status open_collectives(streamed *s) {
    char id[PAR__NCCL_ID_NBYTES] = {0};
    const par__operation send_id = {.kind = PAR__BROADCAST,
                                    .src = id,
                                    .dst = id,
                                    .n = sizeof id,
                                    .dtype = PAR_U8,
                                    .tag = connect_tag};
    lane *l = lane_add(s, -1, 0, 0);
    PAR_TRY(par_comm_agree(s->comm, s->comm->rank == 0 ? s->nccl->new_id(id) : PAR_OK));
    PAR_TRY(par__host_start(s->comm, &send_id, NULL));
    PAR_TRY(par_comm_agree(s->comm, lane_open(s, l, id, s->comm->n, s->comm->rank)));
    return par_comm_agree(s->comm, warm_up_all(s, l, 1));
}

/* Edge e of the ring joins ranks e, which makes the ids, and e + 1: a communicator for each
 * direction. */
static par_status open_edge(streamed *s, int e, const char (*ids)[2][PAR__NCCL_ID_NBYTES]) {
    bool first = s->comm->rank == e;
    int peer = first ? (e + 1) % s->comm->n : e;
    lane *up = lane_add(s, first ? PAR__SEND : PAR__RECV, peer, first);
    lane *down = lane_add(s, first ? PAR__RECV : PAR__SEND, peer, first);
    PAR_TRY(lane_open(s, up, ids[e][0], 2, !first));
    return lane_open(s, down, ids[e][1], 2, !first);
}

/* Edges of one colour share no rank, and all ranks go through the colours together: no circle of
 * waiting, and three rounds. */
static par_status open_colour(streamed *s, int colour, const char (*ids)[2][PAR__NCCL_ID_NBYTES]) {
    int n = s->comm->n, r = s->comm->rank, edges[2] = {(r + n - 1) % n, r}, begin = s->n_lanes;
    par_status st = PAR_OK;
    for (int i = 0; i < 2; i++) {
        int e = edges[i];
        if (n == 2 && e == 1) continue; /* is edge 0 */
        if ((n % 2 && e == n - 1 ? 2 : e % 2) == colour) st = open_edge(s, e, ids);
    }
    PAR_TRY(par_comm_agree(s->comm, st));
    st = warm_up_all(s, &s->lanes[begin], s->n_lanes - begin);
    return par_comm_agree(s->comm, st);
}

static par_status open_pairs(streamed *s) {
    par_comm *comm = s->comm;
    bool makes = comm->n > 2 || comm->rank == 0;
    char mine[2][PAR__NCCL_ID_NBYTES] = {{0}}, (*all)[2][PAR__NCCL_ID_NBYTES];
    all = calloc((size_t)comm->n, sizeof mine);
    par_status st = all ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for ids of NCCL");
    for (int i = 0; makes && i < 2 && st == PAR_OK; i++) st = s->nccl->new_id(mine[i]);
    st = par_comm_agree(comm, st);
    if (st == PAR_OK) st = gather_bytes(comm, mine, all, sizeof mine);
    for (int colour = 0; colour < 3 && st == PAR_OK; colour++) st = open_colour(s, colour, all);
    free(all);
    return st;
}

/* NCCL would find it out in a worse way. The same answer on every rank. */
static par_status check_gpus(const streamed *s) {
    const par_comm *comm = s->comm;
    int64_t size = PAR__NCCL_GPU_NBYTES;
    char mine[PAR__NCCL_GPU_NBYTES] = "", *all = calloc((size_t)comm->n, sizeof mine);
    par_status st = par_comm_agree(
        s->comm, all ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a list of GPUs"));
    strncpy(mine, s->nccl->gpu, sizeof mine - 1);
    if (st == PAR_OK) st = gather_bytes(s->comm, mine, all, size);
    for (int i = 0; st == PAR_OK && !s->nccl->shared && i < comm->n; i++)
        for (int j = 0; j < i && st == PAR_OK; j++)
            if (strcmp(all + i * size, all + j * size) == 0)
                st = par_error_set(
                    PAR_ERR_UNSUPPORTED,
                    "axis %s: ranks %d and %d are on one GPU (%s), which NCCL refuses: start one "
                    "rank per GPU, or choose the staged link, or let ranks share a GPU (for "
                    "functional tests)",
                    comm->axis, comm->ranks[j], comm->ranks[i], all + i * size);
    free(all);
    return st;
}

static void streamed_destroy(void *state) {
    streamed *s = state;
    bool broken = s && s->comm->transport->broken;
    if (!s) return;
    for (int i = 0; i < s->n_lanes; i++) {
        lane *l = &s->lanes[i];
        if (l->nccl && !broken && l->stream) broken = s->device->sync(l->stream) != PAR_OK;
        if (l->nccl) s->nccl->close(l->nccl, broken);
        if (l->stream) s->device->stream_destroy(l->stream);
    }
    for (int i = 0; i < MAX_OPS; i++) {
        par_event *const own[] = {s->entries[i].done, s->entries[i].timed[0],
                                  s->entries[i].timed[1]};
        for (int k = 0; k < 3; k++)
            if (own[k]) s->device->event_destroy(own[k]);
    }
    if (s->ready) s->device->event_destroy(s->ready);
    if (s->scratch) s->device->memory.release(s->scratch, 8);
    free(s);
}

static par_status prepare(streamed *s) {
    PAR_TRY(s->device->event_create(&s->ready));
    for (int i = 0; i < MAX_OPS; i++) {
        PAR_TRY(s->device->event_create(&s->entries[i].done));
        for (int k = 0; k < 2 && s->device->timed_event_create; k++)
            PAR_TRY(s->device->timed_event_create(&s->entries[i].timed[k]));
    }
    return s->device->memory.alloc(8, &s->scratch);
}

static par_status streamed_create(par_comm *comm, const par_comm_params *params, par_memory *memory,
                                  void **out) {
    if (comm->measuring) return PAR_OK;
    const par__nccl *nccl = params->device->nccl;
    streamed *s = calloc(1, sizeof *s);
    par_status st = s ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a comm of NCCL");
    if (s) {
        s->comm = comm;
        s->device = params->device;
        s->nccl = nccl;
        st = prepare(s);
    }
    st = par_comm_agree(comm, st);
    /* all ranks leave each of these together: one that fails alone would leave its peers waiting */
    if (st == PAR_OK) st = check_gpus(s);
    if (st == PAR_OK) st = open_collectives(s);
    if (st == PAR_OK && params->pairs) st = open_pairs(s);
    if (st != PAR_OK) {
        if (s) streamed_abort(s);
        streamed_destroy(s);
        return st;
    }
    s->device->memory.release(s->scratch, 8);
    s->scratch = NULL;
    *out = s;
    return PAR_OK;
}

/* The recorder gets the entry's time, if it is there. */
static par_status tell_time(streamed *s, entry *at, bool *done) {
    double seconds;
    *done = true;
    if (at->row < 0) return PAR_OK;
    PAR_TRY(s->device->event_query(at->timed[1], done));
    if (!*done) return PAR_OK;
    PAR_TRY(s->device->elapsed(at->timed[0], at->timed[1], &seconds));
    par__recorder_ran(s->comm->transport->recorder, at->row, seconds);
    at->row = -1;
    return PAR_OK;
}

static par_status tell_times(streamed *s) {
    bool done = !par__recorder_captured(s->comm->transport->recorder);
    while (done && s->told < s->last) {
        PAR_TRY(tell_time(s, &s->entries[(s->told + 1) % MAX_OPS], &done));
        s->told += done;
    }
    return PAR_OK;
}

/* The recorder gets times of this axis's operations in graphs. */
static void tell_launches(streamed *s) {
    par_recorder *recorder = s->comm->transport->recorder;
    const par_recorder_row *rows;
    int64_t n;
    double seconds;
    if (!s->nccl->ran || par__recorder_captured(recorder)) return;
    s->nccl->ran(-1, &n, &seconds);
    if (n == s->n_ran) return;
    s->n_ran = n;
    for (int i = par_recorder_rows(recorder, &rows); i-- > 0;) {
        if (strcmp(rows[i].axis, s->comm->axis) != 0) continue;
        s->nccl->ran(i, &n, &seconds);
        par__recorder_ran_in_graph(recorder, i, n, seconds);
    }
}

static par_status take_entry(streamed *s, const par__operation *op, int64_t number, entry **out) {
    entry *at = &s->entries[number % MAX_OPS];
    bool done = true;
    if (at->number > 0 && !at->waited && s->device->event_query(at->done, &done) != PAR_OK)
        return break_down(s);
    if (!done)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s on axis %s: %d operations are under way; wait for some first",
                 par__kind_name(op->kind), s->comm->axis, MAX_OPS);
    if (tell_times(s) != PAR_OK) return break_down(s);
    if (s->told <= number - MAX_OPS) s->told = number - MAX_OPS; /* its time comes too late */
    at->row = -1;
    *out = at;
    return PAR_OK;
}

static par_status put(streamed *s, lane *l, const par__operation *given, entry *at, bool timed) {
    par__operation op = *given;
    if (l->kind >= 0) op.peer = l->there;
    PAR_TRY(s->device->event_record(op.after, s->ready));
    PAR_TRY(s->device->wait(l->stream, s->ready));
    if (timed) PAR_TRY(s->device->event_record(l->stream, at->timed[0]));
    PAR_TRY(s->nccl->start(l->nccl, &op, l->stream));
    if (timed) PAR_TRY(s->device->event_record(l->stream, at->timed[1]));
    return s->device->event_record(l->stream, at->done);
}

static par_status streamed_start(void *state, const par__operation *op, int64_t number) {
    streamed *s = state;
    par_comm *comm = s->comm;
    lane *l = par__is_pair(op->kind) ? NULL : &s->lanes[0];
    entry *at = NULL;
    for (int i = 1; i < s->n_lanes && !l; i++)
        if (s->lanes[i].kind == (int)op->kind && s->lanes[i].peer == op->peer) l = &s->lanes[i];
    if (!l && s->n_lanes == 1)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "axis %s was not made for %s: set par_comm_params.pairs",
                 comm->axis, par__kind_name(op->kind));
    if (!l)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s between ranks %d and %d of axis %s: NCCL connects the next and the previous "
                 "rank alone; use staged",
                 par__kind_name(op->kind), comm->rank, op->peer, comm->axis);
    if (op->wire != PAR_F32)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s on axis %s: NCCL adds %s as such and rounds at every hop, so fp32 is not sent "
                 "as it; send fp32, or let the data go staged",
                 par__kind_name(op->kind), comm->axis, par_dtype_name(op->wire));
    PAR_TRY(take_entry(s, op, number, &at));
    /* a receive is there long before its peer sends */
    bool captured = par__recorder_captured(comm->transport->recorder);
    bool timed = at->timed[1] && op->kind != PAR__RECV && !captured;
    int row = par__count_operation(comm, op);
    bool marked = s->nccl->mark && captured && op->kind != PAR__RECV;
    if (marked) s->nccl->mark(par__recorder_index(row));
    par_status st = put(s, l, op, at, timed);
    if (marked) s->nccl->mark(-1);
    if (st != PAR_OK) return break_down(s);
    par__engine_count(comm, op, row);
    comm->n_started++;
    par__note(comm, op, comm->n_started);
    at->number = s->last = number;
    at->waited = false;
    at->row = timed ? row : -1;
    return PAR_OK;
}

static par_status streamed_progress(void *state, bool *moved) {
    streamed *s = state;
    for (int i = 0; i < s->n_lanes; i++) {
        bool ready;
        if (s->lanes[i].nccl && s->nccl->poll(s->lanes[i].nccl, &ready) != PAR_OK)
            return break_down(s);
    }
    tell_launches(s);
    return tell_times(s) == PAR_OK ? PAR_OK : break_down(s);
}

/* A work is waited for once; an entry that was taken again belongs to one that was, and to wait for
 * the later operation in it harms nothing. */
static par_status streamed_wait(void *state, int64_t number, par_stream *then) {
    streamed *s = state;
    entry *at = &s->entries[number % MAX_OPS];
    bool moved;
    PAR_TRY(streamed_progress(s, &moved));
    if (at->number == number && !at->waited) {
        at->waited = true;
        s->comm->n_done++;
    }
    return s->device->wait(then, at->done);
}

static bool streamed_done(void *state, int64_t number) {
    streamed *s = state;
    bool done = false;
    if (s->device->event_query(s->entries[number % MAX_OPS].done, &done) != PAR_OK) return true;
    return done;
}

const par__link par__streamed_link = {
    "nccl",        streamed_create, streamed_destroy,  streamed_start,
    streamed_wait, streamed_done,   streamed_progress, NULL,
    streamed_abort};
