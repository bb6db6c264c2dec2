/*
 * The inside of the collectives, from the bottom up:
 *
 *   operation, flow   what is wanted; a vector on its way to or from one peer
 *   transport         the world: its carrier (mpi.c), recorder, comms and pool of tasks
 *   algorithms, check an operation as phases, each a set of flows; rounded: those of fp32 as bf16
 *   engine            moves flows, and tasks on to their next phase
 *   calls             the public operations: arguments, host or device
 *   staged, streamed  links: what carries data of a device
 *   comm              groups of ranks
 *
 * Some collectives of a comm run beside each other, so that the wire has work while one of them
 * waits for its last messages: those whose numbers are fewer than n_slots apart and that share no
 * memory. Number i has slot i % n_slots: flows, rooms and a tag of its own. Within a slot one
 * operation follows the other, and a flow is posted only after the flow `before` it, so that the
 * messages of an ordered pair are sent and received in the same order.
 */
#ifndef PAR__COLLECTIVES_H
#define PAR__COLLECTIVES_H

#include "collectives/flow.h"
#include "collectives/operation.h"
#include "par/comm.h"

/* MPI sends messages up to about 64 KiB at once; for longer ones it asks the receiver first, which
 * answers only when it calls MPI. While ranks compute, nobody does for milliseconds: so messages
 * stay below, and many of them are under way (PAR__FLOW_DEPTH, about 4 MB). */
enum { PAR__MAX_TASKS = 1024, PAR__SMALL = 4096, PAR__PIECE = 60 << 10 };

/* A bucket's reduce-scatter, its all-gather, which waits for it, and the next reduce-scatter. */
enum { PAR__SLOTS = 3 };

typedef struct par__task par__task;

/* How an operation runs. The engine knows these members only: an operation goes on to the next
 * phase when its flows have ended and `advance` has nothing left to do. Steps touch no data, so
 * that flows which only count can be had from them. */
typedef struct {
    par__kind kind;
    int64_t max_nbytes; /* of one rank's input: the first row of the kind that is large enough is
                           taken */
    const char *name, *description;
    bool pair; /* one flow, in order with those of its pair and direction; else one of the
                  collectives of its comm */
    void (*begin)(par__task *);     /* before phase 0; NULL: nothing */
    bool (*step)(par__task *);      /* set up the flows of task->phase; false: there is none */
    bool (*advance)(par__task *);   /* use what has arrived, grant credit; true: nothing is left to
                                       do in this phase; NULL: nothing to do ever */
    par_status (*end)(par__task *); /* after the last phase; an error is the operation's; NULL */
} par__algorithm;

/* An operation that is under way. */
struct par__task {
    par_comm *comm;
    par__operation op;
    int64_t size;       /* bytes per element */
    int64_t number;     /* among all operations of the comm */
    int64_t collective; /* among its collectives, or the sends or receives of its pair */
    int64_t begin_ns;   /* for the timeline; 0: it is not recorded */
    double begin_s;     /* when it started, or became the oldest of its queue */
    int row;            /* of the recorder */
    const par__algorithm *algorithm;
    const par__algorithm *then; /* runs after it; NULL: none */
    int phase;
    int slot;         /* of its comm; of a pair 0 */
    par__flow *flows; /* of the phase: the slot's, for a pair its own */
    int n_flows;
    int64_t window, n_windows; /* reductions: added so far, all */
    /* the engine's lists */
    par__flow own;
    par__task *previous, *next;                /* all pairs under way on the transport */
    par__task *channel_before, *channel_after; /* sends (receives) of one pair */
    par__task *queue;                          /* collectives of one comm */
};

/* What ranks compare in check mode, zero-padded so that memcmp tells. */
typedef struct {
    int64_t number, n, window_nbytes;
    int32_t kind, dtype, wire, root, size;
    char purpose[24];
} par__description;

struct par_comm {
    par_transport *transport;
    const char *axis;
    int *ranks; /* [n], world ranks */
    int n, rank, tag;
    bool measuring;
    int n_slots;
    char *staging;        /* from the par_memory: per slot n_rooms per peer, or n small vectors */
    int64_t slot_nbytes;  /* of it, of a slot */
    void *owned_staging;  /* the same when no par_memory was given */
    int64_t room, window; /* bytes: of a room, of it what a message of a reduction may fill */
    int depth;            /* pieces of a flow that may be under way; all peers together share
                                PAR__FLOW_DEPTH, and each has 2 at least */
    int n_rooms;          /* of a peer and slot, at most depth */
    par__flow *flows;     /* [n_slots][4 n], of the collectives under way */
    const char **sources; /* [n], of a sum */
    par__task *first, *last;        /* queue of collectives, oldest first */
    par__task **channels;           /* [2 n]: the last send and receive under way with each peer */
    int64_t *n_pairs;               /* [2 n]: sends and receives so far */
    par__description *descriptions; /* [n] */
    int32_t *words;                 /* [n, 2], for agree.c */
    char token[2];                  /* of a barrier: sent, received */
    int64_t n_started, n_done, n_collectives;
    int n_moving,
        send_row;         /* collectives and sends under way; the recorder's row of the last send */
    bool waited;          /* somebody waits for one of its operations */
    double since_s;       /* when either changed */
    int last_index;       /* of its last operation in the recorder; -1: none */
    int64_t error_number; /* the operation that was refused last, 0: none */
    par_status error_status;
    char error_text[768];
    const struct par__link *link; /* NULL: data is on the host */
    void *link_state;
    const par_backend *device;
    int64_t n_device; /* device operations started */
    par_comm *next;   /* of the transport */
};

/* What carries pieces between ranks. */
typedef struct {
    /* room for that many more pieces under way; allocates */
    par_status (*reserve)(par_transport *, int n_pieces);
    par_status (*post)(par_transport *, par__flow *, int64_t piece);
    /* calls par__flow_ended for each piece that has */
    par_status (*poll)(par_transport *, int *n_ended);
    /* A notice of a peer's break breaks the transport. */
    par_status (*hear)(par_transport *);
    /* The transport is broken: tell all ranks, which takes 2 s at most, and end what is under
     * way. */
    void (*spread)(par_transport *);
    void (*destroy)(par_transport *);
} par__carrier;

/* What somebody does when the transport breaks, before links close what is open. */
typedef struct par__on_break {
    void (*run)(void *user);
    void *user;
    struct par__on_break *next;
} par__on_break;

struct par_transport {
    par_transport_params params;
    int size, rank, local_size, local_rank;
    int max_yields; /* idle polls with a yield before one with a sleep, if oversubscribed */
    bool measuring;
    par_recorder *recorder;
    const par__carrier *carrier; /* NULL: one rank */
    void *carrier_state;
    par__task *pool;         /* [PAR__MAX_TASKS] */
    par__task *free_tasks;   /* linked by next */
    par__task *first, *last; /* pairs under way, oldest first */
    par_comm *comms;
    par__on_break *on_break;
    int64_t n_idle;  /* polls that moved nothing */
    double polled_s; /* when par__engine_between did last */
    bool broken;
    char broken_text[512];
};

/* Bytes of a message at most. */
static inline int64_t par__piece_nbytes(const par_transport *t) {
    return t->params.piece_nbytes < PAR__PIECE ? t->params.piece_nbytes : PAR__PIECE;
}

/* Another flow of the task's phase, with a rank of its comm. */
static inline par__flow *par__new_flow(par__task *task, const void *data, int64_t nbytes,
                                       int64_t piece, int peer, bool sending) {
    const par_comm *comm = task->comm;
    par__flow *f = &task->flows[task->n_flows++];
    *f = par__flow_make((void *)(uintptr_t)data, nbytes, piece, sending);
    f->peer = comm->ranks[peer];
    f->tag = comm->tag + (task->algorithm->pair ? PAR__SLOTS : task->slot);
    f->row = task->row;
    if (!task->algorithm->pair) f->depth = comm->depth;
    return f;
}

/* The staging of the task's slot, and in it the rooms of another rank. */
static inline char *par__staging(const par__task *task) {
    return task->comm->staging + task->slot * task->comm->slot_nbytes;
}
static inline char *par__rooms_of(const par__task *task, int peer) {
    const par_comm *comm = task->comm;
    int i = peer < comm->rank ? peer : peer - 1;
    return par__staging(task) + comm->n_rooms * comm->room * i;
}

/* transport.c */
par_status par__transport_create(const par_transport_params *params, int size, int rank,
                                 par_transport **out);
/* End the transport: every later call returns PAR_ERR_TRANSPORT with the text of the first break,
 * as this one does; peers are told. */
par_status par__transport_break(par_transport *t, const char *text);
/* PAR_ERR_TRANSPORT with that text if it is broken. */
par_status par__transport_intact(const par_transport *t);
void par__transport_on_break(par_transport *t, par__on_break *what);
void par__transport_off_break(par_transport *t, const par__on_break *what);

/* algorithms.c */
const par__algorithm *par__algorithm_choose(const par__operation *op);
/* Flows of a phase of an all-gather of `block` bytes per rank in `buffer`, block r being rank r's;
 * false: there is no such phase. */
bool par__bruck(par__task *task, char *buffer, int64_t block);

/* rounded.c: fp32 that travels as bf16. */
extern const par__algorithm par__rounded_reduce_scatter, par__rounded_all_gather;

/* check.c: compares what ranks are about to do; runs before another algorithm. */
extern const par__algorithm par__check;

/* engine.c: nothing here waits but par__engine_wait, and nothing allocates. */
par_status par__engine_start(par__task *task, bool waited); /* waited: by who starts it */
par_status par__engine_progress(par_transport *t, bool *moved);
bool par__engine_done(const par_comm *comm, int64_t number);
par_status par__engine_wait(par_comm *comm, int64_t number);
/* Of an operation that is done. */
par_status par__engine_result(const par_comm *comm, int64_t number);
/* Between blocks of a kernel: par_transport_progress, unless nothing is under way or the last call
 * was a moment ago. What breaks is told by the next operation. */
void par__engine_between(par_transport *t);
/* After `n_idle` polls in a row that moved nothing: let others have the core. */
void par__engine_idle(const par_transport *t, int n_idle);
/* Tell the recorder of the messages that the host form of the operation exchanges: its algorithm's
 * steps, on flows that only count. No collective of the comm may be under way. */
void par__engine_count(par_comm *comm, const par__operation *op, int row);

/* logical.c: tell the recorder of an operation that starts and of what it asks for; the row that
 * its messages are counted in. */
int par__count_operation(par_comm *comm, const par__operation *op);

/* calls.c: an operation of the host engine on a comm, also on one whose data lies on a device. */
par_status par__host_start(par_comm *comm, const par__operation *op, par_work *work);
/* calls.c: a collective of the host comes behind those of the device that were started before. */
par_status par__host_drain(par_comm *comm);
/* calls.c: the operation is the comm's last one in the recorder. */
void par__note(par_comm *comm, const par__operation *op, int64_t number);

/* sum.c: dst[i] = sum over k in order of sources[k][i], one rounding; dst may be one of the
 * sources. */
void par__sum(par_dtype dtype, void *dst, const char *const *sources, int n_sources, int64_t n);

#endif
