/*
 * Gradient buckets: all-reduce over the groups whose copies hold partial gradients, then
 * reduce-scatter over dp, started where the schedule has its REDUCE: behind the last backward of
 * the bucket's first sublayer, while those before it still compute. Without ZeRO the reduced shards
 * are gathered again right behind, which makes it an all-reduce. With ZeRO-1 the parameters are
 * gathered instead, each bucket's when it is updated, in the order in which the next forward reads
 * them; the wait for each stands before the first module that does. A step that is a graph of the
 * device ends with nothing under way: it gathers the bucket that is read first, and owes the
 * others, with which the next step begins.
 */
#include "bucket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"

static const par_tag reduce_tag = {"gradients", -1, -1, -1};
static const par_tag gather_tag = {"parameters", -1, -1, -1};
static const par_tag sum_tag = {"partial gradients", -1, -1, -1};
static const par_tag settle_tag = {"settle", -1, -1, -1};
static const par_tag share_tag = {"checkpoint", -1, -1, -1};

static par_comm *dp(const par__buckets *k) {
    return k->on->mesh->axis[PAR_DP];
}

par_status par__buckets_create(par__buckets *k, const par__context *on, const par__flat *flat) {
    int n = flat->registry->n_buckets;
    k->on = on;
    k->flat = flat;
    if (on->params.reduce_dtype != PAR_F32 && !on->params.inference &&
        strcmp(par_comm_link(dp(k)), "nccl") == 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "reduce type %s: NCCL carries dp's gradients, and would add them in that type and "
                 "round at every hop; legal: fp32, or the staged link",
                 par_dtype_name(on->params.reduce_dtype));
    k->works = calloc((size_t)n + 1, sizeof *k->works);
    k->begun = calloc((size_t)n + 1, sizeof *k->begun);
    if (!k->works || !k->begun) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d buckets", n);
    return PAR_OK;
}

void par__buckets_free(par__buckets *k) {
    free(k->works);
    free(k->begun);
}

void par__buckets_begin_step(par__buckets *k) {
    const par_registry *registry = k->flat->registry;
    for (int i = 0; i < registry->n_params; i++) registry->params[i]->written = false;
    k->tail_s = 0;
    k->n_begun = 0;
}

par_status par__bucket_reduce(void *user, int bucket) {
    par__buckets *k = user;
    const par_registry *registry = k->flat->registry;
    const par__bucket *b = &registry->buckets[bucket];
    float *gradients = k->flat->gradients;
    assert(k->n_begun < registry->n_buckets);
    k->begun[k->n_begun++] = bucket;
    for (int i = 0; i < registry->n_params; i++) { /* what nobody wrote in this step is zero */
        par_param *p = registry->params[i];
        if (p->bucket != bucket || p->written) continue;
        PAR_TRY(k->on->backend->zero(k->on->stream, p->grad,
                                     (size_t)par__param_n(p) * sizeof *p->grad));
    }
    for (int i = 0; i < registry->n_sums; i++) {
        const par__sum_range *s = &registry->sums[i];
        float *grad = gradients + s->begin;
        if (s->bucket != bucket) continue;
        PAR_TRY(
            par_comm_all_reduce(s->sum, grad, grad, s->n, PAR_F32, sum_tag, k->on->stream, NULL));
    }
    if (par_comm_size(dp(k)) == 1) return PAR_OK;
    par_dtype wire = k->on->params.reduce_dtype;
    PAR_TRY(par_comm_reduce_scatter_as(dp(k), gradients + b->begin, gradients + b->shard,
                                       b->n_shard, wire, reduce_tag, k->on->stream,
                                       &k->works[bucket].reduce));
    if (k->flat->sharded) return PAR_OK;
    return par_comm_all_gather_as(dp(k), gradients + b->shard, gradients + b->begin, b->n_shard,
                                  wire, reduce_tag, k->on->stream, &k->works[bucket].gather);
}

static par_status wait_gather(par__buckets *k, int bucket) {
    PAR_TRY(par_work_wait(k->works[bucket].gather, k->on->stream));
    k->works[bucket].gather = (par_work){0};
    return PAR_OK;
}

par_status par__buckets_finish_reduce(par__buckets *k) {
    double begin = 0;
    for (int i = 0; i < k->n_begun; i++) {
        int b = k->begun[i];
        begin = par__seconds();
        PAR_TRY(par_work_wait(k->works[b].reduce, k->on->stream));
        k->works[b].reduce = (par_work){0};
        if (!k->flat->sharded) PAR_TRY(wait_gather(k, b));
    }
    if (begin > 0) k->tail_s += par__seconds() - begin;
    return PAR_OK;
}

static par_status gather_weights(par__buckets *k, int bucket, par_tag tag, par_work *work) {
    const par__bucket *b = &k->flat->registry->buckets[bucket];
    par_dtype dtype = k->flat->dtype;
    char *weights = k->flat->weights;
    return par_comm_all_gather(dp(k), weights + (size_t)b->shard * par_dtype_nbytes(dtype),
                               weights + (size_t)b->begin * par_dtype_nbytes(dtype), b->n_shard,
                               dtype, tag, k->on->stream, work);
}

int par__bucket_of_use(const par__buckets *k, int i) {
    const par_registry *registry = k->flat->registry;
    const int *first = registry->first_bucket;
    int chunk = 0, n_tied = registry->n_buckets - first[registry->n_chunks];
    if (i < n_tied) return registry->n_buckets - 1 - i;
    for (i -= n_tied; i >= first[chunk + 1] - first[chunk]; chunk++)
        i -= first[chunk + 1] - first[chunk];
    return first[chunk + 1] - 1 - i;
}

par_status par__bucket_begin_gather(par__buckets *k, int bucket) {
    if (!k->flat->sharded || par_comm_size(dp(k)) == 1) return PAR_OK;
    return gather_weights(k, bucket, gather_tag, &k->works[bucket].gather);
}

par_status par__bucket_gather(void *user, int bucket) {
    par__buckets *k = user;
    double begin = par__seconds();
    PAR_TRY(wait_gather(k, bucket));
    if (bucket == par__bucket_of_use(k, 0)) k->tail_s += par__seconds() - begin;
    return PAR_OK;
}

par_status par__buckets_wait(par__buckets *k) {
    for (int b = 0; b < k->flat->registry->n_buckets; b++) PAR_TRY(wait_gather(k, b));
    return PAR_OK;
}

par_status par__buckets_owe(par__buckets *k) {
    PAR_TRY(par__buckets_wait(k));
    k->owed = k->flat->sharded && par_comm_size(dp(k)) > 1;
    return PAR_OK;
}

par_status par__buckets_begin_owed(par__buckets *k, bool captured) {
    int n = k->owed ? k->flat->registry->n_buckets : 0;
    k->owed = false;
    for (int i = 1; i < n; i++) {
        int b = par__bucket_of_use(k, i);
        PAR_TRY(gather_weights(k, b, captured ? gather_tag : settle_tag, &k->works[b].gather));
    }
    return PAR_OK;
}

par_status par__buckets_settle(par__buckets *k) {
    PAR_TRY(par__buckets_begin_owed(k, false));
    return par__buckets_wait(k);
}

par_status par__buckets_forget(par__buckets *k) {
    for (int b = 0; b < k->flat->registry->n_buckets; b++) k->works[b] = (par__bucket_work){0};
    return par__buckets_owe(k);
}

par_status par__buckets_share(par__buckets *k) {
    float *const states[] = {k->flat->master, k->flat->m, k->flat->v};
    if (par_comm_size(dp(k)) == 1) return PAR_OK;
    for (int b = 0; b < k->flat->registry->n_buckets; b++) {
        const par__bucket *bucket = &k->flat->registry->buckets[b];
        PAR_TRY(gather_weights(k, b, share_tag, NULL));
        for (int i = 0; i < 3 && !k->flat->sharded; i++) {
            if (!states[i]) continue;
            float *all = states[i] + k->flat->held[b];
            PAR_TRY(par_comm_all_gather(dp(k), all + (bucket->shard - bucket->begin), all,
                                        bucket->n_shard, PAR_F32, share_tag, k->on->stream, NULL));
        }
    }
    return PAR_OK;
}
