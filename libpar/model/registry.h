/*
 * The parameter registry of one rank and its flat space.
 *
 * Modules register parameters while they are built; par__registry_finish then lays them out. A unit
 * is a run of adjacent parameters. Units go into buckets chunk by chunk in backward order (the last
 * sublayer first), a bucket holding about bucket_n elements of one chunk, the last ones of a chunk
 * fewer; tied parameters that live on two stages form the last bucket of all. Inside a bucket,
 * units whose gradients must be added over the same group lie together, so that one all-reduce
 * covers them. A bucket's length is a multiple of 64 · dp elements: dp rank i owns its i-th part.
 */
#ifndef PAR__REGISTRY_H
#define PAR__REGISTRY_H

#include "par/model.h"

typedef struct {
    int64_t begin, n;       /* elements of the flat space; n mod (64 dp) = 0 */
    int64_t shard, n_shard; /* what this dp rank owns: first element, number */
    int16_t chunk;          /* -1: tied over stages, reduced last */
    int16_t sublayer;       /* number in the chunk of its first sublayer: the bucket is complete
                               after that one's backward */
} par__bucket;

/* Adjacent parameters of one bucket with the same `sum` group: one all-reduce. */
typedef struct {
    par_comm *sum;
    int64_t begin, n;
    int16_t bucket;
} par__sum_range;

struct par_registry {
    par_param **params; /* in registration order */
    int n_params, max_params;
    int *unit;            /* [max_params] parameters of one unit share a number */
    int16_t *sublayer;    /* [max_params] number in its chunk */
    int16_t now_sublayer; /* the first of the module that is built; set by the builder */
    int n_chunks, dp, dp_rank;
    par__bucket *buckets;
    int n_buckets;
    int first_bucket[PAR_MAX_CHUNKS + 1]; /* of each chunk; [n_chunks]: first tied bucket */
    par__sum_range *sums;
    int n_sums;
    int64_t n_flat;
    /* Rotary tables that the blocks of one configuration share; NULL: none yet. */
    const void *rope_config;
    const float *cos, *sin;
};

par_status par__registry_create(int n_chunks, int dp, int dp_rank, par_registry **out);
void par__registry_destroy(par_registry **registry);

/* Assign flat offsets and buckets. bucket_n: elements a bucket aims at. */
par_status par__registry_finish(par_registry *registry, int64_t bucket_n);

/* "layers.3" of "layers.3.mlp.up.weight", "head" of "head.weight"; a name without a dot has none,
 * "". Answers the rest of the name. */
const char *par__param_layer(const char *name, char *layer, size_t nbytes);

static inline int par__sublayers(const par_module *module) {
    return module->ops->n_sublayers > 1 ? module->ops->n_sublayers : 1;
}

/* Elements of the local array of a parameter, padding included. */
static inline int64_t par__param_n(const par_param *param) {
    return param->local[0] * param->local[1];
}

#endif
