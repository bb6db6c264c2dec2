/*
 * The engine: moves every operation under way on a transport. One call posts what may be posted,
 * takes what has ended, and lets operations go on to their next phase; nothing here waits but
 * par__engine_wait, and nothing allocates.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "collectives/link.h"
#include "internal.h"
#include "libpar/base/clock.h"
#include "libpar/base/record.h"

/* Polls that move nothing between two looks for a notice: a look takes some 25 ns. */
enum { HEAR_EVERY = 16 };
/* Polls of a computing rank: how often, for how long, and how many of them in a row may move
 * nothing. 10 Gbit/s are 0.6 MB in half a millisecond; a poll that moves nothing costs about a
 * microsecond. */
#define POLL_EVERY_S   0.5e-3
#define MOST_POLLING_S 2e-3
enum { IDLE_POLLS = 4 };

static par_status flow_post(par_transport *t, par__flow *f) {
    while (par__flow_ready(f)) {
        PAR_TRY(t->carrier->post(t, f, f->n_posted));
        par__flow_posted(t->recorder, f);
    }
    return PAR_OK;
}

/* The tail of the tasks of its pair and direction. */
static par__task **channel_of(const par__task *task) {
    return &task->comm->channels[2 * task->op.peer + !task->own.sending];
}

/* Take the task out of every list; its work is done from here on. */
static void pair_unlink(par__task *task) {
    par_transport *t = task->comm->transport;
    par__task **tail = channel_of(task);
    if (task->previous)
        task->previous->next = task->next;
    else
        t->first = task->next;
    if (task->next)
        task->next->previous = task->previous;
    else
        t->last = task->previous;
    if (task->channel_before) task->channel_before->channel_after = task->channel_after;
    if (task->channel_after) {
        task->channel_after->channel_before = task->channel_before;
        task->channel_after->own.before = task->channel_before ? &task->channel_before->own : NULL;
    }
    if (*tail == task) *tail = task->channel_before;
}

static void pair_link(par__task *task) {
    par_transport *t = task->comm->transport;
    par__task **tail = channel_of(task);
    task->previous = t->last;
    if (t->last)
        t->last->next = task;
    else
        t->first = task;
    t->last = task;
    task->channel_before = *tail;
    if (*tail) {
        (*tail)->channel_after = task;
        task->own.before = &(*tail)->own;
    }
    *tail = task;
}

/* One of the oldest: the loop is short. */
static void queue_unlink(const par__task *task) {
    par_comm *comm = task->comm;
    par__task *before = NULL, **link = &comm->first;
    for (; *link != task; link = &before->queue) before = *link;
    *link = task->queue;
    if (comm->last == task) comm->last = before;
}

/* A receive may be under way long before its peer sends. */
static bool moves(const par__task *task) {
    return task->op.kind != PAR__RECV &&
           !(task->algorithm->pair && task->op.peer == task->comm->rank);
}

/* Before either changes: the time since it did was hidden if messages moved and nobody waited.
 * Returns now. */
static double change(par_comm *comm, int n_moving, bool waited) {
    double now = par__seconds();
    if (comm->n_moving > 0 && !comm->waited)
        par__recorder_hidden(comm->transport->recorder,
                             comm->first ? comm->first->row : comm->send_row, now - comm->since_s);
    comm->since_s = now;
    comm->n_moving = n_moving;
    comm->waited = waited;
    return now;
}

/* The operation, as a span of this kind that begins there. */
static par__event event_of(const par__task *task, par__event_kind kind, int64_t begin_ns) {
    const par_comm *comm = task->comm;
    const par__operation *op = &task->op;
    return (par__event){.begin_ns = begin_ns,
                        .name = par__kind_name(op->kind),
                        .axis = comm->axis,
                        .purpose = op->tag.purpose,
                        .number = task->collective,
                        .nbytes = op->n * task->size,
                        .first = comm->ranks[0],
                        .peer = task->algorithm->pair ? comm->ranks[op->peer] : -1 - task->slot,
                        .kind = (int16_t)kind,
                        .layer = op->tag.layer,
                        .chunk = op->tag.chunk,
                        .micro = op->tag.micro};
}

/* One that began while it was recorded is recorded, also if a call ends it that is one span. */
static void task_end(par__task *task) {
    par_comm *comm = task->comm;
    par_transport *t = comm->transport;
    if (task->begin_ns)
        par__timeline_add(par__recorder_traced(t->recorder),
                          event_of(task, PAR__EVENT_OPERATION, task->begin_ns));
    if (moves(task)) { /* its time is its own: that of the next oldest begins now */
        double now = change(comm, comm->n_moving - 1, comm->waited);
        par__recorder_ran(t->recorder, task->row, now - task->begin_s);
        if (task == comm->first && task->queue) task->queue->begin_s = now;
    }
    if (task->algorithm->pair)
        pair_unlink(task);
    else
        queue_unlink(task);
    comm->n_done++;
    if (comm->last_index >= 0)
        par__recorder_last_at(t->recorder, comm->last_index)->n_done = comm->n_done;
    par__flight_axis *axis = par__recorder_axis(t->recorder, comm->last_index);
    if (axis) axis->n_done = comm->n_done;
    task->next = t->free_tasks;
    t->free_tasks = task;
}

static void task_refuse(par__task *task, par_status st) {
    par_comm *comm = task->comm;
    comm->error_number = task->number;
    comm->error_status = st;
    strncpy(comm->error_text, par_error(), sizeof comm->error_text - 1);
    task_end(task);
}

/* A message of a rank to itself never leaves the process: the oldest send meets the oldest
 * receive. */
static void self_advance(par__task *task) {
    par_comm *comm = task->comm;
    par__task *other = comm->channels[2 * comm->rank + task->own.sending];
    while (other && other->channel_before) other = other->channel_before;
    if (!other) return;
    const par__flow *send = task->own.sending ? &task->own : &other->own,
                    *recv = task->own.sending ? &other->own : &task->own;
    if (send->nbytes == recv->nbytes) {
        if (send->nbytes > 0) memmove(recv->data, send->data, (size_t)send->nbytes);
        task_end(task);
    } else {
        par_error_set(PAR_ERR_ARG, "rank %d of axis %s sends itself %lld bytes and receives %lld",
                      comm->rank, comm->axis, (long long)send->nbytes, (long long)recv->nbytes);
        task_refuse(task, PAR_ERR_ARG);
    }
    task_end(other);
}

/* Bytes that a collective reads and writes. */
static int64_t nbytes_in(const par__task *task) {
    return task->op.n * task->size * (task->op.kind == PAR__REDUCE_SCATTER ? task->comm->n : 1);
}
static int64_t nbytes_out(const par__task *task) {
    return task->op.n * task->size * (task->op.kind == PAR__ALL_GATHER ? task->comm->n : 1);
}

static bool overlap(const char *a, int64_t a_nbytes, const char *b, int64_t b_nbytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + (uintptr_t)b_nbytes && y < x + (uintptr_t)a_nbytes;
}

/* Neither reads nor writes what an older one of its comm writes, nor writes what that reads. */
static bool is_free(const par__task *task) {
    const char *src = task->op.src, *dst = task->op.dst;
    for (const par__task *o = task->comm->first; o != task; o = o->queue)
        if (overlap(src, nbytes_in(task), o->op.dst, nbytes_out(o)) ||
            overlap(dst, nbytes_out(task), o->op.dst, nbytes_out(o)) ||
            overlap(dst, nbytes_out(task), o->op.src, nbytes_in(o)))
            return false;
    return true;
}

/* Set up the next phase of a collective, of the algorithm behind its own, or end it: true. */
static bool next_phase(par__task *task) {
    const par__algorithm *a = task->algorithm;
    task->n_flows = 0;
    if (task->phase == 0 && a->begin) a->begin(task);
    if (a->step(task)) {
        task->phase++;
        return false;
    }
    par_status st = a->end ? a->end(task) : PAR_OK;
    if (st == PAR_OK && task->then) {
        task->algorithm = task->then;
        task->then = NULL;
        task->phase = 0;
        return false;
    }
    if (st == PAR_OK)
        task_end(task);
    else
        task_refuse(task, st);
    return true;
}

/* As far as what has arrived lets it. */
static par_status collective_advance(par__task *task) {
    par_transport *t = task->comm->transport;
    do {
        bool done = !task->algorithm->advance || task->algorithm->advance(task);
        for (int i = 0; i < task->n_flows; i++) PAR_TRY(flow_post(t, &task->flows[i]));
        for (int i = 0; i < task->n_flows && done; i++) done = par__flow_done(&task->flows[i]);
        if (!done) break;
    } while (!next_phase(task));
    return PAR_OK;
}

/* The oldest collective and those that may run beside it; in check mode, which refuses one at a
 * time, none. */
static par_status queue_advance(par_comm *comm) {
    int width = comm->transport->params.check ? 1 : comm->n_slots;
    for (par__task *task = comm->first, *next; task; task = next) {
        if (task->collective >= comm->first->collective + width) break;
        next = task->queue;
        if (is_free(task)) PAR_TRY(collective_advance(task));
    }
    return PAR_OK;
}

static par_status pair_advance(par__task *task) {
    if (task->op.peer == task->comm->rank) return PAR_OK;
    PAR_TRY(flow_post(task->comm->transport, &task->own));
    if (par__flow_done(&task->own)) task_end(task);
    return PAR_OK;
}

par_status par__engine_start(par__task *task, bool waited) {
    par_comm *comm = task->comm;
    task->begin_ns = par__timeline_now(par__recorder_timeline(comm->transport->recorder));
    if (task->op.kind == PAR__SEND) comm->send_row = task->row;
    /* a link may start it while somebody waits for another one of its comm */
    task->begin_s = change(comm, comm->n_moving + moves(task), comm->waited || waited);
    if (!task->algorithm->pair) {
        task->slot = (int)(task->collective % comm->n_slots);
        task->flows = comm->flows + task->slot * 4 * comm->n;
        if (comm->last)
            comm->last->queue = task;
        else
            comm->first = task;
        comm->last = task;
        return queue_advance(comm);
    }
    task->flows = &task->own;
    task->algorithm->step(task);
    pair_link(task);
    if (task->op.peer != comm->rank) return pair_advance(task);
    self_advance(task);
    return PAR_OK;
}

void par__engine_count(par_comm *comm, const par__operation *op, int row) {
    int64_t size = (int64_t)par_dtype_nbytes(op->dtype);
    par__task task = {.comm = comm, .op = *op, .size = size, .row = row};
    task.algorithm = par__algorithm_choose(op);
    task.flows = task.algorithm->pair ? &task.own : comm->flows;
    assert(!comm->first);
    for (; task.algorithm->step(&task); task.phase++, task.n_flows = 0)
        for (int i = 0; i < task.n_flows; i++)
            par__flow_count(comm->transport->recorder, &task.flows[i]);
}

/* Messages between hosts. */
static par_status carrier_progress(par_transport *t, bool *moved) {
    int n_ended = 0;
    if (!t->carrier) return PAR_OK;
    PAR_TRY(t->carrier->poll(t, &n_ended));
    if (n_ended == 0) return PAR_OK;
    *moved = true;
    par__recorder_flight(t->recorder)->progress++;
    for (par__task *task = t->first, *next; task; task = next) {
        next = task->next;
        PAR_TRY(pair_advance(task));
    }
    for (par_comm *comm = t->comms; comm; comm = comm->next) PAR_TRY(queue_advance(comm));
    return PAR_OK;
}

par_status par__engine_progress(par_transport *t, bool *moved) {
    *moved = false;
    PAR_TRY(par__transport_intact(t));
    PAR_TRY(carrier_progress(t, moved));
    for (par_comm *comm = t->comms; comm; comm = comm->next)
        if (comm->link_state) PAR_TRY(comm->link->progress(comm->link_state, moved));
    if (*moved || !t->carrier || ++t->n_idle % HEAR_EVERY) return PAR_OK;
    return t->carrier->hear(t);
}

/* Who computes comes seldom: it takes all that has arrived, for a bounded time. MPI may need some
 * calls for a message, so one that moves nothing is not the end. */
static par_status poll_for_a_while(par_transport *t, bool *any_moved) {
    double end = par__seconds() + MOST_POLLING_S;
    *any_moved = false;
    for (int n_idle = 0; n_idle < IDLE_POLLS;) {
        bool moved;
        PAR_TRY(par__engine_progress(t, &moved));
        *any_moved = *any_moved || moved;
        n_idle = moved ? 0 : n_idle + 1;
        if (par__seconds() > end) break;
    }
    return PAR_OK;
}

par_status par_transport_progress(par_transport *t) {
    bool moved;
    PAR_REQUIRE(t);
    return poll_for_a_while(t, &moved);
}

void par__engine_between(par_transport *t) {
    par_timeline *timeline = par__recorder_timeline(t->recorder);
    bool under_way = t->first;
    for (const par_comm *comm = t->comms; comm && !under_way; comm = comm->next)
        under_way = comm->first || comm->link_state;
    if (!under_way || par__seconds() < t->polled_s + POLL_EVERY_S) return;
    int64_t begin = par__timeline_now(timeline);
    bool moved;
    (void)poll_for_a_while(t, &moved);
    t->polled_s = par__seconds();
    if (!moved) return;
    par__timeline_add(timeline, (par__event){.begin_ns = begin,
                                             .name = "progress",
                                             .kind = PAR__EVENT_PROGRESS,
                                             .peer = -1,
                                             .layer = -1,
                                             .chunk = -1,
                                             .micro = -1});
}

static const par__task *find(const par_comm *comm, int64_t number) {
    for (const par__task *task = comm->first; task; task = task->queue)
        if (task->number == number) return task;
    for (const par__task *task = comm->transport->first; task; task = task->next)
        if (task->comm == comm && task->number == number) return task;
    return NULL;
}

bool par__engine_done(const par_comm *comm, int64_t number) {
    return !find(comm, number);
}

/* Other ranks of the node may need this core: after some yields, an oversubscribed rank leaves it
 * for longer. */
void par__engine_idle(const par_transport *t, int n_idle) {
    const struct timespec pause = {.tv_nsec = 20000};
    if (t->params.oversubscribed && n_idle > t->max_yields)
        nanosleep(&pause, NULL);
    else
        sched_yield();
}

par_status par__engine_result(const par_comm *comm, int64_t number) {
    if (comm->error_number != number || number == 0) return PAR_OK;
    return par_error_set(comm->error_status, "%s", comm->error_text);
}

par_status par__engine_wait(par_comm *comm, int64_t number) {
    par_transport *t = comm->transport;
    const par__task *task = find(comm, number);
    par_status st = PAR_OK;
    if (task) {
        int row = task->row, n_idle = 0;
        bool pair = task->algorithm->pair;
        par_timeline *timeline = par__recorder_timeline(t->recorder);
        par__event event = event_of(task, PAR__EVENT_WAIT, par__timeline_now(timeline));
        par__flight_wait(par__recorder_flight(t->recorder), pair ? PAR__WAIT_PEER : PAR__WAIT_GROUP,
                         comm->last_index, pair ? comm->ranks[task->op.peer] : -1, number);
        change(comm, comm->n_moving, true);
        par__recorder_wait_begin(t->recorder, row);
        while (st == PAR_OK && find(comm, number)) {
            bool moved;
            st = par__engine_progress(t, &moved);
            n_idle = moved ? 0 : n_idle + 1;
            if (!moved) par__engine_idle(t, n_idle);
        }
        par__flight_go_on(par__recorder_flight(t->recorder));
        par__recorder_wait_end(t->recorder);
        par__timeline_add(timeline, event);
    }
    change(comm, comm->n_moving, false);
    return st == PAR_OK ? par__engine_result(comm, number) : st;
}
