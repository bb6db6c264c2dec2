/* The trainer's parts: what create builds, and the functions of the step that other files
 * define. */
#ifndef PAR__TRAINER_H
#define PAR__TRAINER_H

#include "../model/registry.h"
#include "../pipeline/executor.h"
#include "../pipeline/timer.h"
#include "par/train.h"

/* A bucket's communication. */
typedef struct {
    par_work reduce, gather;
} par__bucket_work;

/* A micro-batch on the host, on its way to the device. */
typedef struct {
    void *x, *targets;
    par_event *copied; /* it may be filled again; NULL while measuring */
} par__batch;

/* Bytes that go between host and device in one piece, outside of steps. */
enum { PAR__STAGING = 1 << 20 };

/* Spans of time of a step outside of its walk: the step itself, the reduction's end, the update. */
enum { PAR__STEP_SPANS = 3 };

/* A step that was begun: what the host gives to its vote, and reads of it. */
typedef struct {
    par_ballot *ballot;    /* the host's */
    par_vote_state *state; /* the host's; there when `voted` has happened */
    par_event *voted;      /* NULL while measuring */
    par_status status;     /* of this rank's part, with its message */
    char message[768];
    par_step_times times;
    int64_t walk, round; /* of the executor, of the timer */
} par__begun;

struct par_trainer {
    par_trainer_params params; /* with defaults filled in */
    par_transport *transport;  /* the caller's */
    const par_backend *backend;
    par_memory *memory;
    par_mesh *mesh;
    par_registry *registry;
    par_stream *stream; /* all kernels and copies; NULL while measuring */
    bool sequence_parallel;

    int n_chunks;
    par__chunk chunks[PAR_MAX_CHUNKS];
    int n_micro;
    par_schedule **schedules;        /* [pp] training */
    par_schedule *evaluate, *single; /* forward only: n_micro micro-batches, and one */
    par__executor *executor;

    void *weights; /* [n_flat] dtype */
    float *master; /* the owned part of every bucket, one after the other; NULL in fp32: the weights
                      are */
    float *gradients;        /* [n_flat] */
    float *m, *v;            /* as master */
    int64_t n_state;         /* elements of each of the three */
    int64_t *state;          /* [n_buckets] where a bucket's part begins in them */
    par__bucket_work *works; /* [n_buckets] */
    double *norms;           /* [n_params][2] of the norm kernel */
    void *workspace;         /* of the kernels that this folder runs */
    par_ballot *ballots[2];  /* [world] each, on the device */
    par_vote_state *voted;   /* on the device; its fields' addresses are what kernels read from */
    void *polls;             /* [world] of par__poll, or a name; the host's */

    char *staging; /* [PAR__STAGING], the host's; NULL where the device's memory is the host's */
    par_checkpoint_staging checkpoint_staging; /* the same, as checkpoints are told */

    par__batch *batches; /* [n_batches] used in turn */
    int n_batches, next_batch;
    const par_source *source;            /* of the step under way */
    const void *given_x, *given_targets; /* of par_trainer_forward */
    int64_t first_sample;                /* of this dp rank in the step under way */

    par__begun begun[PAR_STEPS_BEGUN]; /* step k has place k mod PAR_STEPS_BEGUN */
    int64_t n_begun, n_ended;          /* steps */
    bool upload;                       /* the device's state is not this one: */
    int64_t consumed, updates;         /* as of the last step that ended */
    par_scaler scaler;
    char choices[PAR_CHOICES_NBYTES]; /* of the backend, as a checkpoint stores or had them */
    par__timer *timer;                /* NULL while measuring */
    double busy, walked;              /* s of the last walk that was measured */
    double gradient_scale; /* of the last step: raw sums to the gradient of the mean loss */
    par_step_times times;
    struct par_generator *generator; /* NULL: none */
};

/* build.c: everything but the contents, on measuring or real memory. */
par_status par__trainer_build(par_transport *transport, const par_trainer_params *params,
                              par_memory *memory, par_trainer **out);
/* Frees what build made; the memory stays. */
void par__trainer_free(par_trainer **trainer);

/* host.c: the device's memory as the host gets at it, outside of steps. Every call waits for the
 * stream. */
/* The caller's own backend, or the one that is called so. */
par_status par__trainer_backend(const par_trainer_params *params, const par_backend **out);
/* Elements of `size` bytes that par__host_view and par__host_fill take at once: all n where no copy
 * is needed. */
int64_t par__host_piece(const par_trainer *trainer, int64_t n, size_t size);
/* The bytes at a device's address, valid until the next call of these. */
par_status par__host_view(const par_trainer *trainer, const void *device, size_t nbytes,
                          const void **out);
/* Where the host puts what belongs to that address of the device; then par__host_store takes it
 * there. */
void *par__host_room(const par_trainer *trainer, void *device);
par_status par__host_store(const par_trainer *trainer, void *device, size_t nbytes);

/* batch.c */
par_status par__batch_take(par_trainer *trainer);
void par__batch_free(par_trainer *trainer);
/* Hook of the executor: the next micro-batch on its way to x and targets, either may be NULL. */
par_status par__batch_load(void *trainer, int micro, void *x, void *targets);

/* check.c */
void par__trainer_defaults(par_trainer_params *params);

/* state.c */
par_status par__trainer_init_weights(par_trainer *trainer);
/* Where the owned part of a bucket lies: [first, first + n) of the flat space, and its place in
 * master, m and v. */
void par__owned(const par_trainer *trainer, int bucket, int64_t *first, int64_t *n, int64_t *state);

/* The owned part of a parameter: [begin, begin + n) of the flat space, and its place in master, m
 * and v. */
void par__owned_part(const par_trainer *trainer, const par_param *param, int64_t *begin, int64_t *n,
                     int64_t *state);

/* bucket.c: hooks of the executor, and what surrounds the walk. */
par_status par__bucket_reduce(void *trainer, int bucket);
par_status par__bucket_gather(void *trainer, int bucket);
void par__bucket_begin_step(par_trainer *trainer);
par_status par__bucket_finish_reduce(par_trainer *trainer);
par_status par__bucket_begin_gather(par_trainer *trainer);

/* vote.c */
/* Room for ballots, state and what the host reads. */
par_status par__vote_take(par_trainer *trainer);
void par__vote_free(par_trainer *trainer);
/* The host's state to the device, if it is another. */
par_status par__vote_upload(par_trainer *trainer);
/* Enqueue the vote from the gradients' norms, the last walk's losses and the host's part.
 * Collective on the mesh's axes. */
par_status par__vote_start(par_trainer *trainer, par__begun *begun);
/* Its outcome to the host. */
par_status par__vote_fetch(par_trainer *trainer, par__begun *begun);
/* Wait for that. PAR_ERR_TRANSPORT if the device or a peer failed. */
par_status par__vote_await(par_trainer *trainer, par__begun *begun);
/* "parameter on rank (n elements)" of an outcome with inf or NaN, from the rank that holds it to
 * all. Collective on world. */
par_status par__vote_where(par_trainer *trainer, const par_outcome *outcome, char *where,
                           size_t nbytes);

/* What an evaluation adds up, on the host. Collective on world. */
typedef struct {
    double loss_sum, n_targets;
    int64_t status; /* the largest */
} par__poll;
par_status par__poll_all(par_trainer *trainer, par__poll *poll);

/* step.c: refuses what may only be done between steps. */
par_status par__no_step_begun(const par_trainer *trainer);
/* The loss counts once: on the last stage, tp rank 0. */
bool par__counts_loss(const par_trainer *trainer);

/* scaler.c: the error of max_skips steps in a row at the smallest scale. */
par_status par__scaler_at_floor(const par_scaler *scaler);

/* update.c */
/* Workspace of norms, updates and casts, and room for the norms. */
par_status par__update_take(par_trainer *trainer);
/* Enqueue the norms of all gradients. */
par_status par__gradient_norms(par_trainer *trainer);
/* Enqueue the update that the vote decided. */
par_status par__update(par_trainer *trainer);

#endif
