/*
 * The engine: moves every operation under way on a transport. One call posts what may be posted,
 * takes what has ended, and lets operations go on to their next phase; nothing here waits but
 * par__engine_wait, and nothing allocates.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <time.h>

#include "collectives/device.h"
#include "internal.h"
#include "libpar/base/clock.h"
#include "libpar/base/record.h"

enum { DEPTH = 2 };

void par__flow_start(par__flow *f, void *data, int64_t nbytes, int64_t chunk, int peer,
                     bool sending, const par__op *op) {
    const par_comm *comm = op->comm;
    bool pair = op->kind == PAR__SEND || op->kind == PAR__RECV;
    *f = (par__flow){
        .data = data, .nbytes = nbytes, .chunk = chunk, .sending = sending, .row = op->row};
    f->n_chunks = nbytes / chunk + (nbytes % chunk != 0);
    f->credit = f->n_chunks;
    f->peer = comm->ranks[peer];
    f->tag = comm->tag + (pair ? 1 : 0);
}

char *par__flow_chunk(const par__flow *f, int64_t chunk, int64_t *nbytes) {
    int64_t begin = chunk * f->chunk;
    *nbytes = f->nbytes - begin < f->chunk ? f->nbytes - begin : f->chunk;
    return f->ring ? f->data + chunk % DEPTH * f->ring : f->data + begin;
}

void par__flow_ended(par_transport *t, par__flow *f, int64_t chunk) {
    int64_t nbytes;
    par__flow_chunk(f, chunk, &nbytes);
    if (!f->sending) par__recorder_received(t->recorder, f->row, nbytes);
    if (chunk != f->n_done) {
        f->ahead = true;
        return;
    }
    f->n_done += f->ahead ? 2 : 1;
    f->ahead = false;
}

static par_status flow_post(par_transport *t, par__flow *f) {
    if (f->before && f->before->n_posted < f->before->n_chunks) return PAR_OK;
    while (f->n_posted < f->credit && f->n_posted < f->n_chunks &&
           f->n_posted - f->n_done < DEPTH) {
        int64_t nbytes;
        par__flow_chunk(f, f->n_posted, &nbytes);
        PAR_TRY(t->link->post(t, f, f->n_posted));
        f->n_posted++;
        if (f->sending) par__recorder_sent(t->recorder, f->row, f->peer, nbytes);
    }
    return PAR_OK;
}

/* Take the operation out of every list; its work is done from here on. */
static void pair_unlink(par__op *op) {
    par_transport *t = op->comm->transport;
    par__op **tail = &op->comm->channels[2 * op->peer + (op->kind == PAR__RECV)];
    if (op->previous)
        op->previous->next = op->next;
    else
        t->first = op->next;
    if (op->next)
        op->next->previous = op->previous;
    else
        t->last = op->previous;
    if (op->channel_before) op->channel_before->channel_after = op->channel_after;
    if (op->channel_after) {
        op->channel_after->channel_before = op->channel_before;
        op->channel_after->flow.before = op->channel_before ? &op->channel_before->flow : NULL;
    }
    if (*tail == op) *tail = op->channel_before;
}

static void pair_link(par__op *op) {
    par_transport *t = op->comm->transport;
    par__op **tail = &op->comm->channels[2 * op->peer + (op->kind == PAR__RECV)];
    op->previous = t->last;
    if (t->last)
        t->last->next = op;
    else
        t->first = op;
    t->last = op;
    op->channel_before = *tail;
    if (*tail) {
        (*tail)->channel_after = op;
        op->flow.before = &(*tail)->flow;
    }
    *tail = op;
}

static void queue_unlink(par_comm *comm) {
    comm->first = comm->first->queue;
    if (!comm->first) comm->last = NULL;
    comm->n_flows = 0;
}

static void queue_link(par__op *op) {
    par_comm *comm = op->comm;
    if (comm->last)
        comm->last->queue = op;
    else
        comm->first = op;
    comm->last = op;
}

static bool is_pair(const par__op *op) {
    return op->kind == PAR__SEND || op->kind == PAR__RECV;
}

static void op_end(par__op *op) {
    par_comm *comm = op->comm;
    par_transport *t = comm->transport;
    if (is_pair(op))
        pair_unlink(op);
    else
        queue_unlink(comm);
    comm->n_done++;
    if (comm->last_place >= 0)
        par__recorder_last_at(t->recorder, comm->last_place)->n_done = comm->n_done;
    op->next = t->free_ops;
    t->free_ops = op;
}

static void op_refuse(par__op *op, par_status st) {
    par_comm *comm = op->comm;
    comm->error_number = op->number;
    comm->error_status = st;
    strncpy(comm->error_text, par_error(), sizeof comm->error_text - 1);
    op_end(op);
}

/* A message of a rank to itself never leaves the process: the oldest send meets the oldest
 * receive. */
static void self_advance(par__op *op) {
    par_comm *comm = op->comm;
    par__op *other = comm->channels[2 * comm->rank + (op->kind == PAR__SEND)];
    while (other && other->channel_before) other = other->channel_before;
    if (!other) return;
    const par__op *send = op->kind == PAR__SEND ? op : other,
                  *recv = op->kind == PAR__SEND ? other : op;
    if (send->n * send->size == recv->n * recv->size) {
        if (send->n > 0) memmove(recv->dst, send->src, (size_t)(send->n * send->size));
        op_end(op);
    } else {
        par_error_set(PAR_ERR_ARG, "rank %d of axis %s sends itself %lld bytes and receives %lld",
                      comm->rank, comm->axis, (long long)(send->n * send->size),
                      (long long)(recv->n * recv->size));
        op_refuse(op, PAR_ERR_ARG);
    }
    op_end(other);
}

static bool flows_done(const par_comm *comm) {
    for (int i = 0; i < comm->n_flows; i++)
        if (comm->flows[i].n_done < comm->flows[i].n_chunks) return false;
    return true;
}

/* Children of a broadcast may send what has come from the parent, which is flow 0 of such a
 * phase. */
static void forward_credit(par_comm *comm) {
    if (comm->n_flows == 0 || comm->flows[0].sending) return;
    for (int i = 1; i < comm->n_flows; i++) comm->flows[i].credit = comm->flows[0].n_done;
}

/* Set up the next phase of the comm's first operation, or end it. */
static void next_phase(par__op *op) {
    op->comm->n_flows = 0;
    if (op->checking) {
        if (par__check_step(op)) {
            op->phase++;
            return;
        }
        op->checking = false;
        op->phase = 0;
        par_status st = par__check_compare(op);
        if (st != PAR_OK) {
            op_refuse(op, st);
            return;
        }
    }
    if (op->algorithm->step(op))
        op->phase++;
    else
        op_end(op);
}

static par_status queue_advance(par_comm *comm) {
    while (comm->first) {
        par__op *op = comm->first;
        bool added = true;
        if (!op->checking && op->kind == PAR__BROADCAST) forward_credit(comm);
        if (!op->checking) added = par__reduce_windows(op);
        for (int i = 0; i < comm->n_flows; i++)
            PAR_TRY(flow_post(comm->transport, &comm->flows[i]));
        if (!added || !flows_done(comm)) return PAR_OK;
        next_phase(op);
    }
    return PAR_OK;
}

static par_status pair_advance(par__op *op) {
    if (op->peer == op->comm->rank) return PAR_OK;
    PAR_TRY(flow_post(op->comm->transport, &op->flow));
    if (op->flow.n_done == op->flow.n_chunks && op->flow.n_posted == op->flow.n_chunks) op_end(op);
    return PAR_OK;
}

par_status par__engine_start(par__op *op) {
    if (!is_pair(op)) {
        queue_link(op);
        return op->comm->first == op ? queue_advance(op->comm) : PAR_OK;
    }
    if (op->peer == op->comm->rank) {
        pair_link(op);
        self_advance(op);
        return PAR_OK;
    }
    char *data = op->kind == PAR__SEND ? (char *)(uintptr_t)op->src : op->dst;
    par__flow_start(&op->flow, data, op->n * op->size, op->comm->transport->params.chunk_nbytes,
                    op->peer, op->kind == PAR__SEND, op);
    pair_link(op);
    return pair_advance(op);
}

/* Messages between hosts. */
static par_status link_progress(par_transport *t, bool *moved) {
    int n_ended = 0;
    if (!t->link) return PAR_OK;
    PAR_TRY(t->link->poll(t, &n_ended));
    if (n_ended == 0) return PAR_OK;
    *moved = true;
    for (par__op *op = t->first, *next; op; op = next) {
        next = op->next;
        PAR_TRY(pair_advance(op));
    }
    for (par_comm *comm = t->comms; comm; comm = comm->next) PAR_TRY(queue_advance(comm));
    return PAR_OK;
}

par_status par__engine_progress(par_transport *t, bool *moved) {
    *moved = false;
    if (t->broken) return par_error_set(PAR_ERR_TRANSPORT, "%s", t->broken_text);
    PAR_TRY(link_progress(t, moved));
    for (par_comm *comm = t->comms; comm; comm = comm->next)
        if (comm->device_state) PAR_TRY(comm->device_link->progress(comm->device_state, moved));
    return PAR_OK;
}

bool par__host_done(par_comm *comm, int64_t number) {
    return !par__engine_find(comm, number);
}

par__op *par__engine_find(const par_comm *comm, int64_t number) {
    for (par__op *op = comm->first; op; op = op->queue)
        if (op->number == number) return op;
    for (par__op *op = comm->transport->first; op; op = op->next)
        if (op->comm == comm && op->number == number) return op;
    return NULL;
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

par_status par__engine_wait(par_comm *comm, int64_t number) {
    par_transport *t = comm->transport;
    const par__op *op = par__engine_find(comm, number);
    par_status st = PAR_OK;
    if (op) {
        int row = op->row, n_idle = 0;
        double begin = par__seconds();
        while (st == PAR_OK && par__engine_find(comm, number)) {
            bool moved;
            st = par__engine_progress(t, &moved);
            n_idle = moved ? 0 : n_idle + 1;
            if (!moved) par__engine_idle(t, n_idle);
        }
        par__recorder_waited(t->recorder, row, par__seconds() - begin);
    }
    if (st == PAR_OK && comm->error_number == number && number > 0)
        return par_error_set(comm->error_status, "%s", comm->error_text);
    return st;
}
