/*
 * The executor walks a schedule: it owns slots, tensors between modules and the pipeline's
 * messages.
 *
 * A slot holds one micro-batch of one chunk: the input of every module, their stashes, and the
 * output until it is sent. With full recompute a slot keeps the chunk's input and output alone;
 * everything between lies in one shared area and is computed again before backward.
 */
#ifndef PAR__EXECUTOR_H
#define PAR__EXECUTOR_H

#include "par/model.h"
#include "par/schedule.h"

/* What the ledger is told of a module. */
typedef struct {
    char layer[48]; /* "layers.3" */
    int n_kept;     /* tensors of its stash */
    par_kept kept[PAR_MAX_KEPT];
} par__module_memory;

/* One chunk of this stage. */
typedef struct {
    int n_modules;
    par_module **modules;
    par_tensor *x;            /* [n_modules + 1] input of each module and the output; data NULL */
    size_t *stash_nbytes;     /* [n_modules] */
    par__module_memory *told; /* [n_modules]; NULL: nothing */
    int first_index;          /* number of its first module in the model */
} par__chunk;

/* What the executor asks its owner for. Every function may be called in any action; all return
 * statuses. */
typedef struct {
    void *feed; /* user of load */
    /* Batch of a micro-batch: copy x, targets, and what par_call.documents says of it, each into
     * its place if that is not NULL. */
    par_status (*load)(void *feed, int micro, void *x, void *targets, void *documents);
    void *user;                                   /* of the others */
    par_status (*reduce)(void *user, int bucket); /* start to; it may go on behind the walk */
    par_status (*gather)(void *user, int bucket); /* wait for what was started before the walk */
} par__executor_hooks;

typedef struct {
    const par_mesh *mesh;
    const par_backend *backend;
    par_stream *stream; /* its progress is called between actions */
    par__chunk *chunks;
    int n_chunks;
    par_recompute recompute;
    const par_model *model;
    int64_t micro_batch;
    bool apart;                /* documents are: every chunk loads where they begin */
    size_t scratch_nbytes;     /* the largest of all modules */
    size_t workspace_nbytes;   /* of it, what kernels asked for */
    const char *scratch_layer; /* whose it is; NULL: not known */
    par_schedule *const
        *schedules; /* every schedule that will be walked: slots are made for all of them */
    int n_schedules;
    par__executor_hooks hooks;
    par_recorder *recorder; /* is told where the walk is; NULL: nobody */
} par__executor_params;

/* One walk. */
typedef struct {
    bool training;
    const float *loss_seed;     /* on the device, as par_call's */
    const int64_t *sample_base; /* likewise */
    int64_t first_sample,
        sample_stride; /* micro-batch i's first sample, counted from the base: first + i · stride */
    const int *captured; /* the graph, 0 or 1, that the walk is captured in; NULL: none */
} par__walk;

/* Of a walk, seconds. Forward and backward are the sums over their actions, a recomputed forward is
 * backward; the rest of the total is transfers, and where the stage stood still. */
typedef struct {
    int64_t walk;               /* its number, counted from 0 */
    double load;                /* the host's: reading batches */
    double loss_sum, n_targets; /* by par__executor_add_losses */
    /* by par__executor_times, by the device's clock; wait: on a device total - forward - backward,
     * on the host its waits for messages */
    double total, forward, backward, wait;
} par__walk_result;

typedef struct par__executor par__executor;

/* Takes slots and buffers from `memory`. params is copied; what it points to must outlive the
 * executor. */
par_status par__executor_create(const par__executor_params *params, par_memory *memory,
                                par__executor **out);
void par__executor_destroy(par__executor **executor);

/*
 * Walk one schedule: everything is enqueued on the stream, and nothing waits for it. Collective on
 * the mesh's tp and pp groups. *out gets the walk's number and `load`. An error ends the walk where
 * it is: peers may wait for what does not come, so the caller must break the transport.
 */
par_status par__executor_walk(par__executor *executor, const par_schedule *schedule,
                              const par__walk *walk, par__walk_result *out);

/* A walk that was captured is launched: *out gets its number and `load`, the seconds that reading
 * its batches took. */
void par__executor_repeat(par__executor *executor, int captured, double load,
                          par__walk_result *out);
/* A capture was given up: no message is under way. */
void par__executor_forget(par__executor *executor);

/* The losses of the last walk, [*n][2] in the order of its micro-batches, on the device and valid
 * until the next walk; none but on the last stage. */
const float *par__executor_losses(const par__executor *executor, int64_t *n);
/* After a walk that does not train and a wait for its stream: add its losses; 0 but on the last
 * stage. */
void par__executor_add_losses(const par__executor *executor, par__walk_result *result);

/*
 * Fill in walk, load, total, forward, backward and wait of walk number `walk`, one of the last two.
 * On a device the stream must be through with it: after a wait for it, or for an event behind the
 * walk; the next walk may be under way. It waits for nothing. Errors: PAR_ERR_INTERNAL for another
 * walk or one that failed; the backend's if it has not ended.
 */
par_status par__executor_times(const par__executor *executor, int64_t walk,
                               par__walk_result *result);

/* Of such a walk on a device: the spans of its phases, as par__timer_spans gives them. */
par_status par__executor_spans(const par__executor *executor, int64_t walk, par_event *origin,
                               void (*visit)(void *user, const char *phase, double begin_s,
                                             double end_s),
                               void *user);

/* Stash of the last module in the slot that ran last (the last stage; valid until the next
 * walk). */
const void *par__executor_last_stash(const par__executor *executor);

#endif
