/*
 * Pipeline schedules as data: for every rank a list of actions. A generator makes it, a checker
 * proves it, the executor walks it. p stages, m micro-batches, v chunks per stage; chunk c of stage
 * s is part c · p + s of the model.
 */
#ifndef PAR_SCHEDULE_H
#define PAR_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/mesh.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an action does. */
typedef enum { PAR_FORWARD, PAR_BACKWARD, PAR_SEND, PAR_RECV, PAR_REDUCE, PAR_GATHER } par_act;

/*
 * FORWARD/BACKWARD: chunk, micro, slot (which of the chunk's slots holds it). FORWARD runs the
 * chunk's sublayers from where it stands, at first sublayer 0, and stops before `sublayer`; 0: at
 * the chunk's end. BACKWARD runs them from the last one down to `sublayer`. Several of them with
 * rising (falling) sublayers, the last with 0, make one forward (backward). A chunk's sublayers are
 * those of its modules, counted through (par_module_ops.n_sublayers).
 * SEND/RECV: peer is a stage; grad false: activations. RECV: chunk, micro, slot are those of the
 * FORWARD (grad: BACKWARD) that will read it; for grad, slot numbers one of the chunk's gradient
 * buffers. SEND: those of the FORWARD (BACKWARD) that made it. RECV only posts; the reader waits.
 * SEND of a chunk that stays on the same stage (p = 1) does not exist: the executor hands the
 * tensor over. REDUCE: start to reduce bucket, after the last BACKWARD that writes it. GATHER: wait
 * for bucket's weights, before the first FORWARD through a sublayer that reads it.
 */
typedef struct {
    uint8_t act;
    bool grad;
    int16_t chunk, micro, slot, peer, bucket;
    int16_t sublayer; /* number in its chunk: BACKWARD ends with it, FORWARD before it; else 0 */
} par_action;

/* In which order forwards and backwards come. */
typedef enum {
    PAR_SCHEDULE_GPIPE,
    PAR_SCHEDULE_1F1B,
    PAR_SCHEDULE_INTERLEAVED,
    PAR_SCHEDULE_EAGER_1F1B,
    PAR_SCHEDULE_FORWARD_ONLY
} par_schedule_kind;

/* What a list is made for. */
typedef struct {
    par_schedule_kind kind;
    int p, m, v; /* v > 1 only for INTERLEAVED and FORWARD_ONLY; INTERLEAVED needs m mod p = 0 */
    int stage;
    /* Buckets of each local chunk in reduction order: chunk c owns [first_bucket[c], first_bucket[c
     * + 1]); NULL: none. */
    const int *first_bucket;
    /* [first_bucket[v]] Of a chunk's bucket, the number in the chunk of its first sublayer: its
     * backward completes the bucket, its forward is the first that reads it. Not rising within a
     * chunk. The last backward of the chunk is cut there, so that the reduction runs under the
     * sublayers that are left. So is its first forward: weights are still on their way under those
     * before. NULL: all 0. */
    const int16_t *bucket_sublayer;
    /* Buckets that are reduced after all others, in both lists last (tied weights); chunk ranges
     * exclude them. */
    int n_last_buckets; /* numbers first_bucket[v] .. first_bucket[v] + n_last_buckets - 1 */
} par_schedule_params;

/* The list of one stage. */
typedef struct {
    par_schedule_kind kind;
    int p, m, v, stage;
    int n;
    par_action *actions;
    int n_slots[PAR_MAX_CHUNKS];      /* of a chunk: forward slots in use at once, at most */
    int n_grad_slots[PAR_MAX_CHUNKS]; /* of a chunk: buffers for received gradients */
    /* What the list was made for, so that the checker knows which buckets must be there; see
     * par_schedule_params. */
    int first_bucket[PAR_MAX_CHUNKS + 1], n_last_buckets;
    int16_t *bucket_sublayer; /* [first_bucket[v]] */
} par_schedule;

/** "gpipe", "1f1b", "interleaved", "eager-1f1b", "forward". Not collective. */
PAR_API const char *par_schedule_kind_name(par_schedule_kind);

/**
 * One stage's list, a function of its arguments. Not collective. Errors: PAR_ERR_LAYOUT [agreed]
 * with the legal values (m mod p for interleaved, v > 1 elsewhere); PAR_ERR_MEMORY.
 */
PAR_API par_status par_schedule_create(const par_schedule_params *, par_schedule **out);
/** NULL is accepted. Not collective. */
PAR_API void par_schedule_destroy(par_schedule **);

/**
 * Prove the lists of all p stages together. There is no deadlock under rendezvous semantics: a SEND
 * completes only when the matching RECV, the k-th of that ordered pair, is posted, and a reader
 * waits for its SEND. Chunk and micro match at both ends. Every (chunk, micro) has one forward and
 * one backward, in dependency order; one that is cut runs in one go. Slots are never reused while
 * in use. Every bucket is gathered before the first forward of its sublayers, and reduced once
 * after their last backward. Collectives come in one order on all stages. Not collective. Errors:
 * PAR_ERR_INTERNAL; the message names stage, action and cause. PAR_ERR_MEMORY.
 */
PAR_API par_status par_schedule_check(par_schedule *const *schedules, int p);

/* Costs of one action in any unit, for the simulation below. */
typedef struct {
    double forward, backward,
        transfer; /* of one stage's whole layer set; a chunk takes 1/v of it */
} par_schedule_cost;

/** Simulated time of the step, in the unit of the costs, and the largest over stages of idle /
 * busy. Not collective. Errors: those of par_schedule_check; PAR_ERR_ARG when a cost is negative or
 * not finite, or forward's is 0. */
PAR_API par_status par_schedule_simulate(par_schedule *const *schedules, int p,
                                         const par_schedule_cost *, double *total, double *bubble);

/* When a simulated action runs on its stage, in the unit of the costs; only FORWARD and BACKWARD
 * take time. */
typedef struct {
    double begin, end;
} par_schedule_time;

/** The same simulation action by action, into times [n of all lists together]: those of stage 0 in
 * the order of its list, then those of stage 1, and so on. Not collective. Errors: those of
 * par_schedule_simulate. */
PAR_API par_status par_schedule_times(par_schedule *const *schedules, int p,
                                      const par_schedule_cost *, par_schedule_time *times);

/** Ideal bubble idle / busy: (p - 1) / m for GPipe and 1F1B, (p - 1) / (v m) interleaved (Narayanan
 * et al. 2021). Not collective. */
PAR_API double par_schedule_ideal_bubble(par_schedule_kind kind, int p, int m, int v);

/**
 * A text Gantt of the simulated schedule, one line per stage: "0 1 2" forward, "b0" backward, "."
 * idle; with chunks "A0" and "bA0", "B0" and "bB0", ...; ">" at the end of a line that was cut.
 * NUL-terminated into text [nbytes], truncated at `width` columns. Not collective. Errors: those of
 * par_schedule_simulate; PAR_ERR_ARG also when width or nbytes is too small, with what is needed.
 */
PAR_API par_status par_schedule_gantt(par_schedule *const *schedules, int p,
                                      const par_schedule_cost *, int width, char *text,
                                      size_t nbytes);

#ifdef __cplusplus
}
#endif
#endif
