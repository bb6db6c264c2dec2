/*
 * Whether replicas are still equal. Ranks along dp hold the same weights. So do, of some
 * parameters, ranks along tp, and the first and the last stage. The same initial values, summed
 * gradients and updates keep them equal to the bit. A flipped bit in one rank's memory, or a device
 * that computes wrong, ends that, and nothing else shows it.
 */
#ifndef PAR_REPLICAS_H
#define PAR_REPLICAS_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"
#include "par/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What compares the copies of one trainer. */
typedef struct par_replicas par_replicas;

enum { PAR_REPLICAS_RANKS = 16 };

/* What was found; the same on every rank. */
typedef struct {
    int64_t n_copies; /* that were compared: of n copies of a parameter, n */
    int64_t n_differ; /* of them, those that are not as most are; where no value has most of a
                         parameter's copies, all of that parameter */
    bool majority; /* most copies of `param` are equal: the ranks are those of the others. Else it
                         cannot be told which are right */
    int n_ranks;   /* world ranks with copies that differ; the first ones are in `ranks` */
    int ranks[PAR_REPLICAS_RANKS];
    char param[96]; /* the first one that differs of ranks[0], in the order of registration */
} par_replicas_result;

/**
 * Takes all memory that checks need. Rank 0 has 16 bytes per parameter and rank. The trainer must
 * outlive it. Between steps.
 *
 * Collective: on the trainer's world. Errors: PAR_ERR_ARG [agreed] when a step is under way;
 * PAR_ERR_MEMORY [agreed]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_replicas_create(par_trainer *trainer, par_replicas **out);
/** NULL is accepted. Not collective. */
PAR_API void par_replicas_destroy(par_replicas **replicas);
/**
 * Hash every parameter's weights, and without ZeRO the optimizer's state of it. Rank 0 gets 8 bytes
 * per parameter and compares the hashes of all copies. A difference of a single bit is always
 * found: a hash is a bijection of each word of 8 bytes. Differences are not an error: see the
 * result. Between steps.
 *
 * Collective: on the trainer's world. Errors: PAR_ERR_ARG [agreed] when a step is under way;
 * PAR_ERR_TRANSPORT [comm], those of the device among them.
 */
PAR_API par_status par_replicas_check(par_replicas *replicas, par_replicas_result *out);

#ifdef __cplusplus
}
#endif
#endif
