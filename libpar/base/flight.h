/*
 * The flight recorder's page of one rank: where it is, what it waits for, and its last operations
 * on each axis. The rank's main thread writes, its watchdog and, if the page is a file that is
 * mapped, other processes read, also of a rank that is stopped or gone. So it holds no pointers.
 * Fields are written one by one and read without a lock: a reader may see an operation half
 * written, which costs a name in a report.
 *
 * Version: a change of the layout changes the last digit of PAR__FLIGHT_MAGIC.
 */
#ifndef PAR__FLIGHT_H
#define PAR__FLIGHT_H

#include <stdint.h>
#include <string.h>

#define PAR__FLIGHT_MAGIC "parrank3"
enum { PAR__FLIGHT_AXES = 12, PAR__FLIGHT_OPS = 4 };
enum { PAR__WITNESS_SEVERAL = -1 };

/* Which call of the library a rank is in. */
typedef enum {
    PAR__PHASE_OUTSIDE, /* in none: the program's own code */
    PAR__PHASE_START,
    PAR__PHASE_CREATE,
    PAR__PHASE_STEP,
    PAR__PHASE_DATA, /* in a step or an evaluation: reads a micro-batch */
    PAR__PHASE_EVALUATE,
    PAR__PHASE_GENERATE,
    PAR__PHASE_LOAD,
    PAR__PHASE_SAVE,
    PAR__PHASE_ENDED,
    PAR__PHASES
} par__phase;

typedef enum {
    PAR__WAIT_NONE,
    PAR__WAIT_GROUP,  /* for all ranks of an axis's group, in a collective */
    PAR__WAIT_PEER,   /* for one rank, in a send or receive */
    PAR__WAIT_DEVICE, /* for the device, whose kernels may wait for peers */
    PAR__WAIT_ALL     /* for every rank, before there is a communicator */
} par__wait_kind;

typedef struct {
    int64_t number; /* on its comm, from 1 */
    int16_t layer, chunk, micro;
    char op[16], purpose[32];
} par__flight_op;

/* One comm. Groups of one axis are disjoint: its first rank names the group. */
typedef struct {
    char axis[16]; /* "": unused */
    int32_t n, first;
    int64_t n_started, n_done;           /* operations */
    int64_t n_collectives;               /* of them, without sends and receives; started */
    par__flight_op ops[PAR__FLIGHT_OPS]; /* number k at k mod PAR__FLIGHT_OPS */
} par__flight_axis;

typedef struct {
    char magic[8];
    int64_t run; /* pages of one run have the same */
    int32_t rank, size;
    int64_t pid;
    char host[64];
    int64_t beat, cpu; /* ns: the watchdog's last look, since 1970; the process's time on cores */
    int64_t progress;  /* counts whatever the rank gets done */
    int64_t reported;  /* its watchdog has reported a stall */
    int64_t told; /* ns since 1970: a signal told the process last that the job ends; 0: none */
    int64_t n_watched; /* ranks of which its watchdog would see the end, itself among them */
    int64_t witness; /* the rank that it saw gone first, and 1; several: they were gone at one look;
                          0: none */
    int32_t phase, wait, wait_axis, wait_peer; /* wait_axis: index; wait_peer: world rank */
    int64_t wait_number;                       /* of the operation, on its comm */
    int64_t step;                              /* the last that was begun, from 1 */
    int32_t act;                               /* a par_act and 1; 0: none */
    int16_t chunk, micro, layer;
    par__flight_axis axes[PAR__FLIGHT_AXES];
} par__flight;

static inline void par__flight_text(char *out, size_t nbytes, const char *text) {
    strncpy(out, text, nbytes - 1);
}

/* Where the executor is. */
static inline void par__flight_at(par__flight *f, int act, int chunk, int micro, int layer) {
    f->act = act + 1;
    f->chunk = (int16_t)chunk;
    f->micro = (int16_t)micro;
    f->layer = (int16_t)layer;
    f->progress++;
}

static inline void par__flight_wait(par__flight *f, par__wait_kind kind, int axis, int peer,
                                    int64_t number) {
    f->wait_axis = axis;
    f->wait_peer = peer;
    f->wait_number = number;
    f->wait = kind;
    f->progress++;
}

static inline void par__flight_go_on(par__flight *f) {
    f->wait = PAR__WAIT_NONE;
    f->progress++;
}

#endif
