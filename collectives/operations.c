/*
 * The operations of a comm: arguments are checked here, once; then each becomes an operation of the
 * engine. In a group of one rank, collectives are a copy.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/device.h"
#include "internal.h"
#include "libpar/base/record.h"

void par__note(par_comm *comm, par__kind kind, par_tag tag, int64_t number) {
    if (comm->last_place < 0) return;
    par_record_last *last = par__recorder_last_at(comm->transport->recorder, comm->last_place);
    *last = (par_record_last){comm->axis, tag.purpose, par__kind_name(kind), tag.layer,   tag.chunk,
                              tag.micro,  number,      comm->n_started,      comm->n_done};
}

static par_status check_arguments(const par_comm *comm, const par__op *args) {
    const char *name = par__kind_name(args->kind);
    bool reads = args->kind != PAR__RECV && args->kind != PAR__BARRIER,
         writes = args->kind != PAR__SEND && args->kind != PAR__BARRIER;
    if (args->n < 0)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: the count is %lld", name, comm->axis,
                 (long long)args->n);
    if (args->size == 0)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: %d is no element type", name, comm->axis,
                 (int)args->dtype);
    if ((args->kind == PAR__ALL_REDUCE || args->kind == PAR__REDUCE_SCATTER) &&
        args->dtype == PAR_U8)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s on axis %s: uint8 cannot be added; fp32, bf16, fp16, int32 and int64 can",
                 name, comm->axis);
    if (args->n > INT64_MAX / args->size / comm->n)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: %lld elements a rank are too many", name, comm->axis,
                 (long long)args->n);
    if (args->n > 0 && ((reads && !args->src) || (writes && !args->dst)))
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: a buffer is NULL", name, comm->axis);
    if (args->peer < 0 || args->peer >= comm->n)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: rank %d does not exist; legal ranks are 0 to %d",
                 name, comm->axis, args->peer, comm->n - 1);
    if (comm->measuring)
        PAR_FAIL(PAR_ERR_INTERNAL, "%s on axis %s, whose transport or memory only measures", name,
                 comm->axis);
    if (comm->transport->broken) PAR_FAIL(PAR_ERR_TRANSPORT, "%s", comm->transport->broken_text);
    return PAR_OK;
}

static void run_alone(par_comm *comm, const par__op *args) {
    bool copies = args->kind == PAR__ALL_REDUCE || args->kind == PAR__REDUCE_SCATTER ||
                  args->kind == PAR__ALL_GATHER;
    if (copies && args->n > 0 && args->src != args->dst)
        memmove(args->dst, args->src, (size_t)(args->n * args->size));
    comm->n_done++;
}

static par_status enqueue(par_comm *comm, const par__op *args, int64_t number, int row) {
    par_transport *t = comm->transport;
    par__op *op = t->free_ops;
    if (!op)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s on axis %s: %d operations are under way; wait for some first",
                 par__kind_name(args->kind), comm->axis, PAR__MAX_OPS);
    t->free_ops = op->next;
    *op = *args;
    op->number = number;
    op->row = row;
    if (op->kind != PAR__SEND && op->kind != PAR__RECV) {
        op->collective = ++comm->n_collectives;
        op->algorithm = par__algorithm_choose(op->kind, op->n * op->size);
        op->checking = t->params.check;
    }
    return par__engine_start(op);
}

par_status par__host_start(par_comm *comm, par__op args, par_tag tag, par_work *work) {
    PAR_REQUIRE(comm);
    if (!tag.purpose) tag.purpose = "";
    args.comm = comm;
    args.purpose = tag.purpose;
    args.size = (int64_t)par_dtype_nbytes(args.dtype);
    PAR_TRY(check_arguments(comm, &args));
    bool pair = args.kind == PAR__SEND || args.kind == PAR__RECV;
    if (pair && args.peer == comm->rank && !work &&
        !comm->channels[2 * args.peer + (args.kind == PAR__SEND)])
        PAR_FAIL(PAR_ERR_ARG, "a blocking %s with oneself on axis %s would never end",
                 par__kind_name(args.kind), comm->axis);
    int64_t number = ++comm->n_started;
    int row = par__recorder_row(comm->transport->recorder, comm->axis, tag.purpose,
                                par__kind_name(args.kind));
    par__recorder_op(comm->transport->recorder, row);
    par_status st = PAR_OK;
    if (comm->n == 1 && !pair)
        run_alone(comm, &args);
    else
        st = enqueue(comm, &args, number, row);
    par__note(comm, args.kind, tag, number);
    PAR_TRY(st);
    if (!work) return par__engine_wait(comm, number);
    *work = (par_work){comm, number};
    return PAR_OK;
}

/* On a device one rank alone copies on the stream, others hand the operation to the comm's link. */
static par_status start_on_device(par_comm *comm, const par__op *op, par_tag tag, par_stream *after,
                                  par_work *work) {
    par__op args = *op;
    args.comm = comm;
    args.size = (int64_t)par_dtype_nbytes(args.dtype);
    PAR_TRY(check_arguments(comm, &args));
    if (!tag.purpose) tag.purpose = "";
    bool pair = args.kind == PAR__SEND || args.kind == PAR__RECV;
    size_t nbytes = (size_t)(args.n * args.size);
    if (work) *work = (par_work){0};
    if (args.n == 0) return PAR_OK;
    if (comm->n == 1 && !pair)
        return args.src == args.dst ? PAR_OK
                                    : comm->device->copy(after, args.dst, args.src, nbytes);
    if (comm->n == 1)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s with oneself on axis %s, whose data lies on a device",
                 par__kind_name(args.kind), comm->axis);
    const par__device_args given = {args.kind,  args.src,  args.dst, args.n,
                                    args.dtype, args.peer, tag,      after};
    int64_t number = ++comm->n_device;
    PAR_TRY(comm->device_link->start(comm->device_state, &given, number));
    if (!work) return comm->device_link->wait(comm->device_state, number, after);
    *work = (par_work){comm, number};
    return PAR_OK;
}

static par_status start(par_comm *comm, par__op args, par_tag tag, par_stream *after,
                        par_work *work) {
    PAR_REQUIRE(comm);
    return comm->device ? start_on_device(comm, &args, tag, after, work)
                        : par__host_start(comm, args, tag, work);
}

par_status par_comm_all_reduce(par_comm *comm, const void *src, void *dst, int64_t n,
                               par_dtype dtype, par_tag tag, par_stream *after, par_work *work) {
    return start(comm,
                 (par__op){.kind = PAR__ALL_REDUCE, .src = src, .dst = dst, .n = n, .dtype = dtype},
                 tag, after, work);
}

par_status par_comm_reduce_scatter(par_comm *comm, const void *src, void *dst, int64_t n_shard,
                                   par_dtype dtype, par_tag tag, par_stream *after,
                                   par_work *work) {
    return start(
        comm,
        (par__op){
            .kind = PAR__REDUCE_SCATTER, .src = src, .dst = dst, .n = n_shard, .dtype = dtype},
        tag, after, work);
}

par_status par_comm_all_gather(par_comm *comm, const void *src, void *dst, int64_t n_shard,
                               par_dtype dtype, par_tag tag, par_stream *after, par_work *work) {
    return start(
        comm,
        (par__op){.kind = PAR__ALL_GATHER, .src = src, .dst = dst, .n = n_shard, .dtype = dtype},
        tag, after, work);
}

par_status par_comm_broadcast(par_comm *comm, void *data, int64_t n, par_dtype dtype, int root,
                              par_tag tag, par_stream *after, par_work *work) {
    return start(
        comm,
        (par__op){
            .kind = PAR__BROADCAST, .src = data, .dst = data, .n = n, .dtype = dtype, .peer = root},
        tag, after, work);
}

par_status par_comm_send(par_comm *comm, const void *src, int64_t n, par_dtype dtype, int peer,
                         par_tag tag, par_stream *after, par_work *work) {
    return start(comm,
                 (par__op){.kind = PAR__SEND, .src = src, .n = n, .dtype = dtype, .peer = peer},
                 tag, after, work);
}

par_status par_comm_recv(par_comm *comm, void *dst, int64_t n, par_dtype dtype, int peer,
                         par_tag tag, par_stream *after, par_work *work) {
    return start(comm,
                 (par__op){.kind = PAR__RECV, .dst = dst, .n = n, .dtype = dtype, .peer = peer},
                 tag, after, work);
}

par_status par_comm_barrier(par_comm *comm, par_tag tag) {
    return par__host_start(comm, (par__op){.kind = PAR__BARRIER, .dtype = PAR_U8}, tag, NULL);
}

par_status par_comm_agree(par_comm *comm, par_status local) {
    const par_tag tag = {"agree", -1, -1, -1};
    char text[2048] = "";
    PAR_REQUIRE(comm);
    if (comm->n == 1) return local;
    if (local != PAR_OK) strncpy(text, par_error(), sizeof text - 1);
    int32_t mine = (int32_t)local;
    par__op gather = {.kind = PAR__ALL_GATHER,
                      .src = (const char *)&mine,
                      .dst = (char *)comm->statuses,
                      .n = 1,
                      .dtype = PAR_I32};
    PAR_TRY(par__host_start(comm, gather, tag, NULL));
    int worst = 0;
    for (int j = 1; j < comm->n; j++)
        if (comm->statuses[j] > comm->statuses[worst]) worst = j;
    par_status st = (par_status)comm->statuses[worst];
    if (st == PAR_OK) return PAR_OK;
    par__op broadcast = {.kind = PAR__BROADCAST,
                         .src = text,
                         .dst = text,
                         .n = sizeof text,
                         .dtype = PAR_U8,
                         .peer = worst};
    PAR_TRY(par__host_start(comm, broadcast, tag, NULL));
    return par_error_set(st, "rank %d: %s", comm->ranks[worst], text);
}

par_status par_work_wait(par_work work, par_stream *then) {
    if (!work.comm) return PAR_OK;
    if (work.comm->device_state)
        return work.comm->device_link->wait(work.comm->device_state, work.number, then);
    return par__engine_wait(work.comm, work.number);
}

bool par_work_done(par_work work) {
    bool moved;
    if (!work.comm) return true;
    /* A broken transport: done, so that loops end; par_work_wait tells. */
    if (par__engine_progress(work.comm->transport, &moved) != PAR_OK) return true;
    if (work.comm->device_state)
        return work.comm->device_link->done(work.comm->device_state, work.number);
    return !par__engine_find(work.comm, work.number);
}
