/*
 * A trainer is its parts, and what makes them do a step (step.c), what the host takes from and
 * gives to them between steps (state.c, checkpoint_state.c), and their life (trainer.c, build.c).
 */
#ifndef PAR__TRAINER_H
#define PAR__TRAINER_H

#include "bucket.h"
#include "feed.h"
#include "flat.h"
#include "graphs.h"
#include "host.h"
#include "meter.h"
#include "optimizer.h"
#include "stage.h"
#include "vote.h"

/* Room for what this rank stores of the state. */
typedef struct {
    size_t nbytes; /* that it takes */
    char *room;    /* NULL: none was taken */
} par__copy;

struct par_trainer {
    par__context on;
    par__flat flat;
    par__stage stage;
    par__host host;
    par__buckets buckets;
    par__optimizer optimizer;
    par__vote vote;
    par__feed feed;
    par__meter meter;
    par__graphs graphs;
    char choices[PAR_CHOICES_NBYTES];     /* of the backend, as a checkpoint stores or had them */
    int32_t stored_dtype;                 /* of the run that saved; par_dtype */
    par__copy copy;                       /* of the state that a checkpoint stores */
    struct par_checkpoint_saving *saving; /* from the copy; NULL: none is under way */
    struct par_generator *generator;      /* NULL: none */
    struct {
        int32_t here, sum; /* whether this rank's source failed; ranks where one did */
        par_work work;
    } failed[2]; /* so far, as of this batch of an evaluation and of the one before */
    int64_t evaluations, eval_micros; /* polls of them; micro-batches of a dp rank in them */
    bool has_weights;                 /* drawn, loaded or resumed */
};

/* build.c: everything but the contents, on measuring or real memory. */
par_status par__trainer_build(par_transport *transport, const par_trainer_params *params,
                              par_memory *memory, par_trainer **out);
/* Frees what build made; the memory stays. */
void par__trainer_free(par_trainer **trainer);
/* equal.c: PAR_ERR_OPTION [agreed] with each parameter that a rank has other than rank 0.
 * Collective on world. */
par_status par__params_equal(par_comm *world, const par_trainer_params *params);

/* trainer.c: a rank of a world that need not be there, on memory that measures. */
typedef struct {
    par_transport *transport;
    par_memory *memory;
    par_trainer *trainer;
} par__planned;
par_status par__planned_begin(const par_trainer_params *params,
                              const par_transport_params *transport_params, int world_size,
                              int rank, par__planned *planned);
/* Also after a begin that failed. */
void par__planned_end(par__planned *planned);
/* The caller's own backend, or the one that is called so. */
par_status par__trainer_backend(const par_trainer_params *params, const par_backend **out);

/* state.c */
par_status par__trainer_draw(par_trainer *trainer);
par_status par__trainer_zero_moments(par_trainer *trainer);
/* What a call needs a trainer to have: weights; an executor, too; all of a training. */
typedef enum { PAR__WEIGHTS, PAR__WALKS, PAR__TRAINS } par__need;
/* PAR_ERR_ARG, the same on all ranks: the weights are none yet, or the trainer is for inference. */
par_status par__trainer_ready(const par_trainer *trainer, par__need need);

/* checkpoint_state.c: the copy's room, if the parameters allow as much. */
par_status par__trainer_take_copy(par_trainer *trainer);

/* coverage.c: every logical element must be counted by one rank of the model's, tp x pp. Collective
 * on the transport's world; every rank has the parameters of its modules. Errors: PAR_ERR_ARG, the
 * same on every rank of a dp index; PAR_ERR_MEMORY. */
par_status par__check_coverage(const par__context *on, const par_registry *registry);

#endif
