/*
 * Gradient buckets: all-reduce over the groups whose copies hold partial gradients, then
 * reduce-scatter over dp, started where the schedule has its REDUCE: behind the last backward of
 * the bucket's last module, while earlier modules still compute. Without ZeRO the reduced shards
 * are gathered again, which makes it an all-reduce; with ZeRO-1 the updated parameters are gathered
 * instead, and the wait for them stands before the first forward that reads them.
 */
#include "trainer.h"

static const par_tag reduce_tag = {"gradients", -1, -1, -1};
static const par_tag gather_tag = {"parameters", -1, -1, -1};
static const par_tag sum_tag = {"partial gradients", -1, -1, -1};

static par_comm *dp(const par_trainer *t) {
    return t->mesh->axis[PAR_DP];
}

void par__bucket_begin_step(par_trainer *t) {
    for (int i = 0; i < t->registry->n_params; i++) t->registry->params[i]->written = false;
}

/* Gradients that nobody wrote in this step are zero. */
static par_status zero_unwritten(par_trainer *t, int bucket) {
    for (int i = 0; i < t->registry->n_params; i++) {
        par_param *p = t->registry->params[i];
        if (p->bucket != bucket || p->written) continue;
        PAR_TRY(t->backend->zero(t->stream, p->grad, (size_t)par__param_n(p) * sizeof *p->grad));
    }
    return PAR_OK;
}

par_status par__bucket_reduce(void *user, int bucket) {
    par_trainer *t = user;
    const par__bucket *b = &t->registry->buckets[bucket];
    PAR_TRY(zero_unwritten(t, bucket));
    for (int i = 0; i < t->registry->n_sums; i++) {
        const par__sum_range *s = &t->registry->sums[i];
        float *grad = t->gradients + s->begin;
        if (s->bucket != bucket) continue;
        PAR_TRY(par_comm_all_reduce(s->sum, grad, grad, s->n, PAR_F32, sum_tag, t->stream, NULL));
    }
    if (par_comm_size(dp(t)) == 1) return PAR_OK;
    return par_comm_reduce_scatter(dp(t), t->gradients + b->begin, t->gradients + b->shard,
                                   b->n_shard, PAR_F32, reduce_tag, t->stream,
                                   &t->works[bucket].reduce);
}

par_status par__bucket_finish_reduce(par_trainer *t) {
    for (int b = 0; b < t->registry->n_buckets; b++) {
        const par__bucket *bucket = &t->registry->buckets[b];
        par__bucket_work *work = &t->works[b];
        PAR_TRY(par_work_wait(work->reduce, t->stream));
        work->reduce = (par_work){0};
        if (t->params.zero > 0 || par_comm_size(dp(t)) == 1) continue;
        PAR_TRY(par_comm_all_gather(dp(t), t->gradients + bucket->shard,
                                    t->gradients + bucket->begin, bucket->n_shard, PAR_F32,
                                    reduce_tag, t->stream, &work->reduce));
    }
    for (int b = 0; b < t->registry->n_buckets; b++) {
        PAR_TRY(par_work_wait(t->works[b].reduce, t->stream));
        t->works[b].reduce = (par_work){0};
    }
    return PAR_OK;
}

/* In the order in which the next forward reads them. */
par_status par__bucket_begin_gather(par_trainer *t) {
    if (t->params.zero == 0 || par_comm_size(dp(t)) == 1) return PAR_OK;
    for (int b = t->registry->n_buckets - 1; b >= 0; b--) {
        const par__bucket *bucket = &t->registry->buckets[b];
        size_t size = par_dtype_nbytes(t->params.dtype);
        char *weights = t->weights;
        PAR_TRY(par_comm_all_gather(dp(t), weights + (size_t)bucket->shard * size,
                                    weights + (size_t)bucket->begin * size, bucket->n_shard,
                                    t->params.dtype, gather_tag, t->stream, &t->works[b].gather));
    }
    return PAR_OK;
}

par_status par__bucket_gather(void *user, int bucket) {
    par_trainer *t = user;
    PAR_TRY(par_work_wait(t->works[bucket].gather, t->stream));
    t->works[bucket].gather = (par_work){0};
    return PAR_OK;
}
