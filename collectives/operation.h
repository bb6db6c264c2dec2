/*
 * An operation as par/comm.h was given it: the one description that the host engine, the links of
 * device data and the NCCL wrapper of the cuda module share. It says what is wanted and holds no
 * state; what is under way is a par__task (internal.h).
 */
#ifndef PAR__OPERATION_H
#define PAR__OPERATION_H

#include "par/comm.h"

typedef enum {
    PAR__ALL_REDUCE,
    PAR__REDUCE_SCATTER,
    PAR__ALL_GATHER,
    PAR__BROADCAST,
    PAR__BARRIER,
    PAR__SEND,
    PAR__RECV,
    PAR__KINDS
} par__kind;

typedef struct {
    par__kind kind;
    const char *src; /* [n], of a reduce-scatter [p · n] */
    char *dst;       /* [n], of an all-gather [p · n]; a broadcast reads src and writes dst */
    int64_t n;       /* elements: of a shard for reduce-scatter and all-gather */
    par_dtype dtype;
    int peer; /* rank of the group: the other one of a pair, or the root of a broadcast */
    par_tag tag;
    par_stream *after; /* of the device: the input is ready, the output is free; host: NULL */
    par_dtype wire;    /* of fp32 in messages, where bytes are to be saved: PAR_BF16; else 0 */
} par__operation;

const char *par__kind_name(par__kind kind);

/* Between two ranks, in order with the others of that pair and direction. */
static inline bool par__is_pair(par__kind kind) {
    return kind == PAR__SEND || kind == PAR__RECV;
}

/* What can be told from the description alone, for a group of n_ranks on that axis.
 * Errors: PAR_ERR_ARG. */
par_status par__operation_check(const par__operation *op, const char *axis, int n_ranks);

#endif
