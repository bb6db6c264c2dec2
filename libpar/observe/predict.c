/*
 * The closed forms of a layout's traffic; par/matrix.h states them. They are written from the
 * algorithms' papers and the model's equations and share no code with collectives, model or
 * trainer: a difference between this and the recorder is a defect in one of them.
 */
#include <stdlib.h>
#include <string.h>

#include "traffic_table.h"

enum { SMALL_NBYTES = 4096, BALLOT_NBYTES = 72, POLL_NBYTES = 24 };

/* One kind of message: where it is written down, and between whom. */
typedef struct {
    par_traffic *traffic;
    const par_comm *comm;
    const char *purpose;
} channel;

static void add(const channel *c, int peer, int64_t nbytes) {
    if (nbytes == 0) return;
    par_recorder_cell *line = par__traffic_line(c->traffic, par_comm_axis(c->comm), c->purpose);
    if (line) line[par_comm_world_rank(c->comm, peer)].nbytes += nbytes;
}

/* Phase k: min(2^k, p - 2^k) blocks to rank r - 2^k. */
static void add_phases(const channel *c, int64_t times, int64_t block_nbytes) {
    int p = par_comm_size(c->comm), r = par_comm_rank(c->comm);
    for (int64_t distance = 1; distance < p; distance *= 2) {
        int64_t blocks = distance < p - distance ? distance : p - distance;
        add(c, (int)((r + p - distance) % p), times * block_nbytes * blocks);
    }
}

static void add_gather(const channel *c, int64_t times, int64_t shard_nbytes) {
    int p = par_comm_size(c->comm), r = par_comm_rank(c->comm);
    if (shard_nbytes <= SMALL_NBYTES) {
        add_phases(c, times, shard_nbytes);
        return;
    }
    for (int j = 0; j < p; j++)
        if (j != r) add(c, j, times * shard_nbytes);
}

static void add_scatter(const channel *c, int64_t times, int64_t shard_nbytes) {
    for (int j = 0; j < par_comm_size(c->comm); j++)
        if (j != par_comm_rank(c->comm)) add(c, j, times * shard_nbytes);
}

/* Shards of n elements that differ by at most one, the longer ones first. */
static void add_sum(const channel *c, int64_t times, int64_t n, int64_t size) {
    int p = par_comm_size(c->comm), r = par_comm_rank(c->comm);
    if (n * size <= SMALL_NBYTES) {
        add_phases(c, times, n * size);
        return;
    }
    for (int j = 0; j < p; j++)
        if (j != r) add(c, j, times * size * ((n / p + (j < n % p)) + (n / p + (r < n % p))));
}

/* How often a forward, and a backward, sums and gathers n elements on this rank. */
typedef struct {
    int64_t sums, gathers;
} per_micro;

static void add_activations(const channel *c, const par_traffic_run *run, int64_t times,
                            per_micro count) {
    int64_t n = run->B * run->T * run->C, size = (int64_t)par_dtype_nbytes(run->dtype);
    if (!run->sequence_parallel) {
        add_sum(c, times * count.sums, n, size);
        return;
    }
    int64_t shard_nbytes = n * size / par_comm_size(c->comm);
    add_scatter(c, times * count.sums, shard_nbytes);
    add_gather(c, times * count.gathers, shard_nbytes);
}

/* Forward of the blocks: two sums each, and with sequence parallel two gathers, rows in pieces. */
static void add_blocks(const channel *c, const par_traffic_run *run, int64_t times) {
    int64_t rows = run->B * run->T, k = run->tp_pieces > 1 ? run->tp_pieces : 1;
    int64_t size = (int64_t)par_dtype_nbytes(run->dtype), count = times * 2 * run->n_blocks;
    if (run->sequence_parallel) rows /= par_comm_size(c->comm);
    for (int64_t i = 0; i < k; i++) {
        int64_t n = (rows * (i + 1) / k - rows * i / k) * run->C;
        if (!run->sequence_parallel) {
            add_sum(c, count, n, size);
        } else {
            add_scatter(c, count, n * size);
            add_gather(c, count, n * size);
        }
    }
}

static int64_t forwards(const par_traffic_run *run) {
    return run->micros * (run->recompute_full ? 2 : 1) + run->eval_micros;
}

static void tensor_axis(par_traffic *t, const par_traffic_run *run) {
    const par_comm *tp = run->mesh->axis[PAR_TP];
    const channel forward = {t, tp, "activations forward"},
                  backward = {t, tp, "activations backward"}, loss = {t, tp, "loss"};
    int64_t blocks = run->n_blocks;
    if (par_comm_size(tp) == 1) return;
    add_blocks(&forward, run, forwards(run));
    add_activations(&forward, run, forwards(run), (per_micro){.sums = run->embedding});
    add_activations(&backward, run, run->micros,
                    (per_micro){2 * blocks + run->head, 4 * blocks + run->head + run->embedding});
    if (!run->head) return;
    add_activations(&forward, run, run->eval_micros, (per_micro){.gathers = 1});
    /* Three numbers per token, loss_rows tokens at a time. */
    const int64_t token = 3 * (int64_t)sizeof(float), N = run->B * run->T,
                  micros = run->micros + run->eval_micros;
    add_gather(&loss, N / run->loss_rows * micros, run->loss_rows * token);
    add_gather(&loss, micros, N % run->loss_rows * token);
}

/* Part c p + s of the model goes on at the next stage, unless it is the last part. */
static void pipeline_axis(par_traffic *t, const par_traffic_run *run) {
    const par_comm *pp = run->mesh->axis[PAR_PP];
    const channel forward = {t, pp, "pipeline forward"}, backward = {t, pp, "pipeline backward"};
    int p = par_comm_size(pp), s = par_comm_rank(pp), last = p * run->chunks - 1;
    int64_t nbytes = run->B * run->T * run->C * (int64_t)par_dtype_nbytes(run->dtype);
    if (run->sequence_parallel) nbytes /= par_comm_size(run->mesh->axis[PAR_TP]);
    if (p == 1) return;
    for (int part = s; part <= last; part += p) {
        if (part < last) add(&forward, (s + 1) % p, (run->micros + run->eval_micros) * nbytes);
        if (part > 0) add(&backward, (s + p - 1) % p, run->micros * nbytes);
    }
}

static void bucket(par_traffic *t, const par_traffic_run *run, int64_t n) {
    const par_comm *dp = run->mesh->axis[PAR_DP];
    const channel gradients = {t, dp, "gradients"}, parameters = {t, dp, "parameters"};
    int64_t shard = n / par_comm_size(dp), sent = (int64_t)par_dtype_nbytes(run->reduce_dtype);
    add_scatter(&gradients, run->steps, shard * sent);
    if (run->zero == 0 && run->reduce_dtype == PAR_F32)
        add_gather(&gradients, run->steps, shard * sent);
    if (run->zero == 0 && run->reduce_dtype != PAR_F32) /* of any size direct, as the scatter is */
        add_scatter(&gradients, run->steps, shard * sent);
    if (run->zero > 0)
        add_gather(&parameters, run->steps, shard * (int64_t)par_dtype_nbytes(run->dtype));
}

static int by_flat(const void *a, const void *b) {
    const par_param *x = *(par_param *const *)a, *y = *(par_param *const *)b;
    return x->flat < y->flat ? -1 : x->flat > y->flat;
}

/* A bucket reaches from its first parameter to the next bucket's. */
static void data_axis(par_traffic *t, const par_traffic_run *run, par_param *const *params) {
    int64_t begin = 0;
    if (par_comm_size(run->mesh->axis[PAR_DP]) == 1) return;
    for (int i = 1; i <= run->n_params; i++) {
        bool ends = i == run->n_params || params[i]->bucket != params[i - 1]->bucket;
        if (!ends) continue;
        int64_t end = i == run->n_params ? run->n_flat : params[i]->flat;
        bucket(t, run, end - begin);
        begin = end;
    }
}

/* Neighbours with one group and bucket are one all-reduce, what lies between them included. */
static void partial_sums(par_traffic *t, const par_traffic_run *run, par_param *const *params) {
    for (int first = 0, i = 0; first < run->n_params; first = i) {
        par_comm *sum = params[first]->sum;
        for (i = first + 1; i < run->n_params; i++)
            if (params[i]->sum != sum || params[i]->bucket != params[first]->bucket) break;
        const par_param *end = params[i - 1];
        const channel c = {t, sum, "partial gradients"};
        int64_t n = end->flat + end->local[0] * end->local[1] - params[first]->flat;
        if (sum && par_comm_size(sum) > 1) add_sum(&c, run->steps, n, sizeof(float));
    }
}

/* A step: the fastest axis gathers ballots, the next one what that has gathered. */
static void votes(par_traffic *t, const par_traffic_run *run) {
    const channel world = {t, run->mesh->world, "vote"};
    int64_t n = 1;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        const channel axis = {t, run->mesh->axis[run->mesh->layout.order[i]], "vote"};
        if (par_comm_size(axis.comm) == 1) continue;
        add_gather(&axis, run->steps, n * BALLOT_NBYTES);
        n *= par_comm_size(axis.comm);
    }
    add_gather(&world, run->evaluations, POLL_NBYTES);
}

par_status par_traffic_predict(par_traffic *t, const par_traffic_run *run) {
    PAR_REQUIRE(t && run && run->mesh && run->params && run->n_params > 0 &&
                t->size == run->mesh->size && (!run->head || run->loss_rows > 0));
    par_param **params = malloc((size_t)run->n_params * sizeof(par_param *));
    if (!params) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d parameters", run->n_params);
    memcpy(params, run->params, (size_t)run->n_params * sizeof(par_param *));
    qsort(params, (size_t)run->n_params, sizeof(par_param *), by_flat);
    par__traffic_clear(t);
    tensor_axis(t, run);
    pipeline_axis(t, run);
    data_axis(t, run, params);
    partial_sums(t, run, params);
    votes(t, run);
    free(params);
    return PAR_OK;
}
