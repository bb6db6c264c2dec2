/*
 * The inside of the collectives.
 *
 * A flow is a vector on its way to or from one peer: a number of chunks, at most two of them under
 * way, in order. An operation is a sequence of phases, each a set of flows; it goes on to the next
 * phase when its flows have ended. The engine (engine.c) moves flows, the algorithms (algorithms.c)
 * set up phases, a link (mpi.c) carries chunks.
 *
 * Order is what makes tags unnecessary: collectives of one comm run one after another, and a flow
 * is posted only after the flow `before` it, so that the messages of an ordered pair are sent and
 * received in the same order.
 */
#ifndef PAR__COLLECTIVES_H
#define PAR__COLLECTIVES_H

#include "par/comm.h"

enum { PAR__MAX_OPS = 1024, PAR__SMALL = 4096 };

typedef struct par__flow {
    char *data;
    int64_t nbytes, chunk; /* bytes; the last chunk may be shorter */
    int64_t ring;          /* 0: chunk i lies at data + i * chunk; else at data + (i % 2) * ring */
    int64_t n_chunks;      /* all */
    int64_t n_posted, n_done; /* chunks [0, n_done) have ended; n_posted - n_done <= 2 */
    int64_t credit;           /* chunks that may be posted so far */
    const struct par__flow
        *before;         /* must be posted completely before this one starts; NULL: none */
    int peer, tag, row;  /* peer: world rank; row: of the recorder */
    bool sending, ahead; /* ahead: chunk n_done + 1 has ended, n_done has not */
} par__flow;

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

typedef struct par__op par__op;

/* Set up phase op->phase of an operation; false: there is no such phase, the operation has
 * ended. */
typedef bool par__step(par__op *op);

typedef struct {
    par__kind kind;
    int64_t max_nbytes; /* of one rank's input: the first row of the kind that is large enough is
                           taken */
    const char *name, *description;
    par__step *step;
} par__algorithm;

/* What ranks compare in check mode, zero-padded so that memcmp tells. */
typedef struct {
    int64_t number, n, window_nbytes;
    int32_t kind, dtype, root, size;
    char purpose[24];
} par__description;

struct par__op {
    par_comm *comm;
    par__kind kind;
    int64_t number, collective; /* among all operations, among the collectives of the comm */
    const char *src;
    char *dst;
    int64_t n;
    int64_t size; /* bytes an element */
    par_dtype dtype;
    int peer; /* group rank; root of a broadcast */
    const char *purpose;
    int row;
    const par__algorithm *algorithm;
    int phase;
    bool checking;
    int64_t window; /* reductions: windows added so far */
    int64_t n_windows;
    par__flow flow;                          /* of a send or receive */
    par__op *previous, *next;                /* all operations under way on the transport */
    par__op *channel_before, *channel_after; /* sends (receives) of one pair */
    par__op *queue;                          /* collectives of one comm */
};

struct par_comm {
    par_transport *transport;
    const char *axis;
    int *ranks; /* [n], world ranks */
    int n, rank, tag;
    bool measuring;
    char *staging;        /* from the par_memory: 2 slots a peer, or n small vectors */
    void *owned_staging;  /* the same when no par_memory was given */
    int64_t slot, window; /* bytes: of a slot, of it what a message of a reduction may fill */
    par__flow *flows;     /* [4 n] of the collective under way */
    int n_flows;
    const char **sources;           /* [n] */
    par__op *first, *last;          /* queue of collectives; the first is under way */
    par__op **channels;             /* [2 n]: the last send and receive under way with each peer */
    par__description *descriptions; /* [n] */
    int32_t *statuses;              /* [n], for agree */
    char token[2];
    int64_t n_started, n_done, n_collectives;
    int last_place;
    int64_t error_number; /* the operation that was refused last, 0: none */
    par_status error_status;
    char error_text[768];
    const struct par__device_link *device_link; /* NULL: data is on the host */
    const par_backend *device;
    void *device_state;
    int64_t n_device;    /* device operations started */
    int64_t link_nbytes; /* of the device, taken by the link itself */
    par_comm *next;      /* of the transport */
};

/* What carries chunks between ranks. */
typedef struct {
    par_status (*reserve)(par_transport *,
                          int n_flows); /* room for that many more flows; allocates */
    par_status (*post)(par_transport *, par__flow *, int64_t chunk);
    par_status (*poll)(par_transport *,
                       int *n_ended); /* calls par__flow_ended for each chunk that has */
    void (*destroy)(par_transport *);
} par__link;

struct par_transport {
    par_transport_params params;
    int size, rank, local_size, local_rank;
    int max_yields; /* idle polls with a yield before one with a sleep, if oversubscribed */
    bool measuring;
    par_recorder *recorder;
    const par__link *link; /* NULL: one rank */
    void *link_state;
    par__op *pool;         /* [PAR__MAX_OPS] */
    par__op *free_ops;     /* linked by next */
    par__op *first, *last; /* under way, oldest first */
    par_comm *comms;
    bool broken;
    char broken_text[512];
};

/* transport.c */
par_status par__transport_create(const par_transport_params *params, int size, int rank,
                                 par_transport **out);
par_status par__transport_break(par_transport *t, const char *text);
const char *par__kind_name(par__kind kind);

/* engine.c */
void par__flow_start(par__flow *flow, void *data, int64_t nbytes, int64_t chunk, int peer,
                     bool sending, const par__op *op);
char *par__flow_chunk(const par__flow *flow, int64_t chunk, int64_t *nbytes);
void par__flow_ended(par_transport *t, par__flow *flow, int64_t chunk);
par_status par__engine_start(par__op *op);
par_status par__engine_progress(par_transport *t, bool *moved);
par__op *par__engine_find(const par_comm *comm, int64_t number);
par_status par__engine_wait(par_comm *comm, int64_t number);
/* After `n_idle` polls in a row that moved nothing: let others have the core. */
void par__engine_idle(const par_transport *t, int n_idle);

/* algorithms.c */
const par__algorithm *par__algorithm_choose(par__kind kind, int64_t nbytes);
bool par__bruck(par__op *op, char *buffer, int64_t block, int phase);
/* Add what has arrived; true when nothing is left to add. */
bool par__reduce_windows(par__op *op);

/* check.c */
bool par__check_step(par__op *op);
par_status par__check_compare(par__op *op);

/* sum.c: dst[i] = sum over k in order of sources[k][i], one rounding; dst may be one of the
 * sources. */
void par__sum(par_dtype dtype, void *dst, const char *const *sources, int n_sources, int64_t n);

#endif
