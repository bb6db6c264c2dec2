/*
 * The public operations of a comm: arguments are checked here, once; then each becomes a task of
 * the engine, or is handed to the link of device data. In a group of one rank, collectives are a
 * copy.
 */
#include <string.h>

#include "collectives/internal.h"
#include "collectives/link.h"
#include "libpar/base/record.h"

void par__note(par_comm *comm, const par__operation *op, int64_t number) {
    if (comm->last_index < 0) return;
    par__flight_axis *axis = par__recorder_axis(comm->transport->recorder, comm->last_index);
    par__recorder_flight(comm->transport->recorder)->progress++;
    if (axis) { /* the flight recorder's page */
        par__flight_op *last = &axis->ops[number % PAR__FLIGHT_OPS];
        last->number = number;
        last->layer = op->tag.layer;
        last->chunk = op->tag.chunk;
        last->micro = op->tag.micro;
        par__flight_text(last->op, sizeof last->op, par__kind_name(op->kind));
        par__flight_text(last->purpose, sizeof last->purpose, op->tag.purpose);
        axis->n_started = comm->n_started;
        axis->n_done = comm->n_done;
        if (!par__is_pair(op->kind)) axis->n_collectives++;
    }
    *par__recorder_last_at(comm->transport->recorder, comm->last_index) =
        (par_recorder_started){.axis = comm->axis,
                               .purpose = op->tag.purpose,
                               .op = par__kind_name(op->kind),
                               .layer = op->tag.layer,
                               .chunk = op->tag.chunk,
                               .micro = op->tag.micro,
                               .number = number,
                               .n_started = comm->n_started,
                               .n_done = comm->n_done};
}

static par_status check(const par_comm *comm, const par__operation *op) {
    PAR_TRY(par__operation_check(op, comm->axis, comm->n));
    if (comm->measuring)
        PAR_FAIL(PAR_ERR_INTERNAL, "%s on axis %s, whose transport or memory only measures",
                 par__kind_name(op->kind), comm->axis);
    return par__transport_intact(comm->transport);
}

static par_status enqueue(par_comm *comm, const par__operation *op, int64_t number, int row,
                          bool waited) {
    par_transport *t = comm->transport;
    par__task *task = t->free_tasks;
    if (!task)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s on axis %s: %d operations are under way; wait for some first",
                 par__kind_name(op->kind), comm->axis, PAR__MAX_TASKS);
    t->free_tasks = task->next;
    int64_t size = (int64_t)par_dtype_nbytes(op->dtype);
    *task = (par__task){.comm = comm, .op = *op, .size = size, .number = number, .row = row};
    task->algorithm = par__algorithm_choose(op);
    task->collective = task->algorithm->pair
                           ? ++comm->n_pairs[2 * op->peer + (op->kind == PAR__RECV)]
                           : ++comm->n_collectives;
    if (!task->algorithm->pair && t->params.check) {
        task->then = task->algorithm;
        task->algorithm = &par__check;
    }
    return par__engine_start(task, waited);
}

par_status par__host_start(par_comm *comm, const par__operation *op, par_work *work) {
    bool pair = par__is_pair(op->kind);
    PAR_TRY(check(comm, op));
    if (pair && op->peer == comm->rank && !work &&
        !comm->channels[2 * op->peer + (op->kind == PAR__SEND)])
        PAR_FAIL(PAR_ERR_ARG, "a blocking %s with oneself on axis %s would never end",
                 par__kind_name(op->kind), comm->axis);
    int64_t number = ++comm->n_started;
    int row = par__count_operation(comm, op);
    par_status st = PAR_OK;
    if (comm->n > 1 || pair) {
        st = enqueue(comm, op, number, row, !work);
    } else {
        if (op->n > 0 && op->src != op->dst)
            memmove(op->dst, op->src, (size_t)op->n * par_dtype_nbytes(op->dtype));
        comm->n_done++;
    }
    par__note(comm, op, number);
    PAR_TRY(st);
    if (!work) return par__engine_wait(comm, number);
    *work = (par_work){comm, number};
    return PAR_OK;
}

/* On a device one rank alone copies on the stream, others hand the operation to the comm's link. */
static par_status start_on_device(par_comm *comm, const par__operation *op, par_work *work) {
    PAR_TRY(check(comm, op));
    if (work) *work = (par_work){0};
    if (op->n == 0) return PAR_OK;
    if (comm->n == 1 && par__is_pair(op->kind))
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s with oneself on axis %s, whose data lies on a device",
                 par__kind_name(op->kind), comm->axis);
    if (comm->n == 1)
        return op->src == op->dst ? PAR_OK
                                  : comm->device->copy(op->after, op->dst, op->src,
                                                       (size_t)op->n * par_dtype_nbytes(op->dtype));
    int64_t number = ++comm->n_device;
    PAR_TRY(comm->link->start(comm->link_state, op, number));
    if (!work) return comm->link->wait(comm->link_state, number, op->after);
    *work = (par_work){comm, number};
    return PAR_OK;
}

par_status par__host_drain(par_comm *comm) {
    return comm->link_state && comm->link->drain ? comm->link->drain(comm->link_state) : PAR_OK;
}

static par_status start(par_comm *comm, par__operation op, par_work *work) {
    PAR_REQUIRE(comm);
    if (!op.tag.purpose) op.tag.purpose = "";
    if (comm->device && op.kind != PAR__BARRIER) return start_on_device(comm, &op, work);
    PAR_TRY(par__host_drain(comm));
    return par__host_start(comm, &op, work);
}

/* src, dst, n and dtype are where they are in every call. */
static par__operation operation(par__kind kind, const void *src, void *dst, int64_t n,
                                par_dtype dtype, par_tag tag, par_stream *after) {
    return (par__operation){
        .kind = kind, .src = src, .dst = dst, .n = n, .dtype = dtype, .tag = tag, .after = after};
}

par_status par_comm_all_reduce(par_comm *comm, const void *src, void *dst, int64_t n,
                               par_dtype dtype, par_tag tag, par_stream *after, par_work *work) {
    return start(comm, operation(PAR__ALL_REDUCE, src, dst, n, dtype, tag, after), work);
}

par_status par_comm_reduce_scatter(par_comm *comm, const void *src, void *dst, int64_t n_shard,
                                   par_dtype dtype, par_tag tag, par_stream *after,
                                   par_work *work) {
    return start(comm, operation(PAR__REDUCE_SCATTER, src, dst, n_shard, dtype, tag, after), work);
}

par_status par_comm_reduce_scatter_as(par_comm *comm, const float *src, float *dst, int64_t n_shard,
                                      par_dtype wire, par_tag tag, par_stream *after,
                                      par_work *work) {
    par__operation op = operation(PAR__REDUCE_SCATTER, src, dst, n_shard, PAR_F32, tag, after);
    op.wire = wire;
    return start(comm, op, work);
}

par_status par_comm_all_gather(par_comm *comm, const void *src, void *dst, int64_t n_shard,
                               par_dtype dtype, par_tag tag, par_stream *after, par_work *work) {
    return start(comm, operation(PAR__ALL_GATHER, src, dst, n_shard, dtype, tag, after), work);
}

par_status par_comm_all_gather_as(par_comm *comm, const float *src, float *dst, int64_t n_shard,
                                  par_dtype wire, par_tag tag, par_stream *after, par_work *work) {
    par__operation op = operation(PAR__ALL_GATHER, src, dst, n_shard, PAR_F32, tag, after);
    op.wire = wire;
    return start(comm, op, work);
}

par_status par_comm_broadcast(par_comm *comm, void *data, int64_t n, par_dtype dtype, int root,
                              par_tag tag, par_stream *after, par_work *work) {
    par__operation op = operation(PAR__BROADCAST, data, data, n, dtype, tag, after);
    op.peer = root;
    return start(comm, op, work);
}

par_status par_comm_send(par_comm *comm, const void *src, int64_t n, par_dtype dtype, int peer,
                         par_tag tag, par_stream *after, par_work *work) {
    par__operation op = operation(PAR__SEND, src, NULL, n, dtype, tag, after);
    op.peer = peer;
    return start(comm, op, work);
}

par_status par_comm_recv(par_comm *comm, void *dst, int64_t n, par_dtype dtype, int peer,
                         par_tag tag, par_stream *after, par_work *work) {
    par__operation op = operation(PAR__RECV, NULL, dst, n, dtype, tag, after);
    op.peer = peer;
    return start(comm, op, work);
}

par_status par_comm_barrier(par_comm *comm, par_tag tag) {
    return start(comm, (par__operation){.kind = PAR__BARRIER, .dtype = PAR_U8, .tag = tag}, NULL);
}

par_status par_work_wait(par_work work, par_stream *then) {
    par_comm *comm = work.comm;
    if (!comm) return PAR_OK;
    PAR_TRY(par__transport_intact(comm->transport));
    return comm->link_state ? comm->link->wait(comm->link_state, work.number, then)
                            : par__engine_wait(comm, work.number);
}

bool par_work_done(par_work work) {
    par_comm *comm = work.comm;
    bool moved;
    if (!comm) return true;
    /* A broken transport: done, so that loops end; par_work_wait tells. */
    if (par__engine_progress(comm->transport, &moved) != PAR_OK) return true;
    return comm->link_state ? comm->link->done(comm->link_state, work.number)
                            : par__engine_done(comm, work.number);
}
