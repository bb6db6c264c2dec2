/*
 * How long ranks take, and which are slow. Every rank adds up its times; in a round, after so many
 * steps, rank 0 gets those of all ranks and says who is slow. The same stage of the same model is
 * the same work. And what the nodes of a job can do before it begins: products, memory, messages.
 */
#ifndef PAR_HEALTH_H
#define PAR_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/kernels.h"
#include "par/mesh.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is timed, s. */
typedef enum {
    PAR_HEALTH_STEP,
    PAR_HEALTH_FORWARD,
    PAR_HEALTH_BACKWARD,
    PAR_HEALTH_WAIT, /* for peers */
    PAR_HEALTH_WORK, /* forward and backward without waits for peers: what tells who is slow */
    PAR_HEALTH_TIMES
} par_health_time;

/* Of one time over all ranks, per step. */
typedef struct {
    double min, median, max;
    int slowest; /* the rank of max */
} par_health_spread;

/* A rank that was slower than its stage's median in this round and those before. */
typedef struct {
    int rank, rounds;
    double factor; /* of this round */
} par_health_slow;

enum { PAR_HEALTH_SLOW = 8 };

/* What a round tells. */
typedef struct {
    int64_t step, n_steps; /* the last one, how many */
    par_health_spread spread[PAR_HEALTH_TIMES];
    int n_slow; /* of ranks that are slow; the worst ones are in `slow` */
    par_health_slow slow[PAR_HEALTH_SLOW];
    bool news; /* a rank has just become one of them */
} par_health_round;

/* The times of one rank; on rank 0 of all. */
typedef struct par_health par_health;

/**
 * Nothing is timed yet. A rank is slow whose work takes more than `factor` [1.5 for 0] times the
 * median of its stage, in `rounds` [3 for 0] rounds in a row. Stages of one rank have no median.
 *
 * Collective: on comm, the world of `layout`. Errors: PAR_ERR_MEMORY [agreed]; PAR_ERR_TRANSPORT
 * [comm].
 */
PAR_API par_status par_health_create(par_comm *comm, const par_layout *layout, double factor,
                                     int rounds, par_health **out);
/** NULL is accepted. Not collective. */
PAR_API void par_health_destroy(par_health **health);
/** Add a step of this rank. Not collective. */
PAR_API void par_health_add(par_health *health, const double seconds[PAR_HEALTH_TIMES]);
/**
 * Gather what was added since the last round: 48 bytes per rank. *out is filled in on rank 0.
 *
 * Collective: on comm. Errors: PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_health_gather(par_health *health, int64_t step, par_health_round *out);
/** A rank's host, on every rank. Not collective. */
PAR_API const char *par_health_host(const par_health *health, int rank);
/**
 * On rank 0 a table of all rounds, in the way of PETSc's -log_view. Of each time per step it has
 * the maximum over ranks, its ratio to the minimum, the median and the slowest rank. Then come the
 * ranks that were slow, and what the rounds cost. `print` gets a line at a time, without its end.
 * Nothing before the first round. Not collective.
 */
PAR_API void par_health_print(const par_health *health, void (*print)(void *user, const char *line),
                              void *user);
/** Short names of the times: "step", "forward", ... Not collective. */
PAR_API const char *par_health_name(par_health_time time);

#ifdef __cplusplus
}
#endif
#endif
