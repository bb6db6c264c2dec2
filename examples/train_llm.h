/*
 * train_llm: the trainer program, in nine files: options (the table and what follows from it
 * alone), world (MPI, threads, cores), data (token files, splits, import), checkpoint (saving,
 * resuming, signals), observe (log, curve, communication matrix), report (everything that is
 * printed), verify and main. It uses the public headers only; what it does that the library must
 * not (MPI_Init, signals, threads, printing, exit codes) is here.
 */
#ifndef TRAIN_LLM_H
#define TRAIN_LLM_H

#include <stdbool.h>
#include <stdint.h>

#include "par/par.h"

/* Exit codes, the same on every rank. */
enum { EXIT_OK = 0, EXIT_RUNTIME = 1, EXIT_INPUT = 2, EXIT_NONFINITE = 3, EXIT_STOPPED = 4 };

/* What the command line says; 0 or NULL: not given. Samples, tokens and steps are counts, lr and
 * the betas plain numbers. */
typedef struct {
    const char *model, *import;
    int64_t layers, channels, heads, kv_heads, head_size, mlp, tokens, vocab;
    double dropout; /* negative: the model's own */
    int64_t tp, cp, pp, dp;
    const char *order;
    int64_t micro_batch, batch, steps, warmup, decay_steps, seed;
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip, momentum;
    const char *optimizer, *lr_schedule, *schedule, *recompute, *nonfinite, *precision;
    double loss_scale, loss_scale_init, loss_scale_min, loss_scale_max;
    int64_t loss_scale_window, loss_scale_hysteresis, max_skips;
    int64_t chunks, zero;
    par_int_list pp_layers; /* blocks a part */
    bool sequence_parallel, sequence_parallel_set;
    const char *device, *comm;
    int64_t gpu; /* -1: by the rank on its node */
    bool allow_shared_gpu, tf32, tune_gemm, nondeterministic_attention;
    int64_t attention_workspace; /* MiB */
    const char *plan_cache;
    int64_t threads;
    const char *data;
    double split;
    int64_t eval_every, eval_batches, log_every;
    const char *save, *resume;
    int64_t save_every, keep;
    const char *log, *curve, *comm_matrix_csv, *comm_matrix_svg; /* files */
    bool comm_matrix;
    bool bigram, check_comm, dry_run, show_mesh, gantt, help, version;
    bool verify_parallel;
    int64_t verify_layers, verify_steps;
    bool sample;
    int64_t sample_tokens, sample_count, sample_seed,
        top_k; /* sample_tokens -1: as many as fit, up to 100 */
    double temperature;
    const char *prompt, *tokenizer;
} settings;

/* One run: everything that follows from the settings and the world. */
typedef struct {
    settings set;
    par_transformer_config config;
    par_model *model;
    par_trainer_params params;
    int modules_per_part[256];
    int n_micro;
    par_problems notes;
} run;

/* options */
void options_parse(settings *, int argc, char **argv, par_problems *);
void options_help(char *text, size_t nbytes);
/* The model by name with its overrides, unless it comes from an import. */
void options_model(const settings *, par_transformer_config *, par_problems *);
/* Everything that can be told from the options, the configuration and the world's size. Pure. */
void options_resolve(run *, int world_size, par_problems *);
void run_destroy(run *);
/* The learning rate of a step, which counts from 1. */
double options_lr(const settings *, int64_t step);

/* world */
typedef struct {
    par_transport *transport;
    par_comm *comm; /* the program's own agreements: files, cores */
    par_memory *memory;
    int size, rank;
    int threads;           /* a rank */
    int cores, node_cores; /* this node's cores that ranks may use; that the launcher may use */
    int local_size;
} world;

/* Called first: MPI is up, size and rank are known, nothing else. */
int world_begin(int *size, int *rank);
/* N worlds of one rank under a launcher of N: a problem with the cause. */
void world_check_singletons(int world_size, par_problems *);
par_status world_connect(world *, const settings *);
/* Of its transport, as the options ask for it. */
par_transport_params world_transport_params(const settings *);
/* Threads a rank: as asked, or this node's cores shared by its ranks; the same on every rank.
 * Collective. */
par_status world_threads(world *, int64_t asked);
/* The device of this rank, opened; agreed on: a rank without one ends all, with its message.
 * Collective. */
par_status world_device(world *, const settings *);
/* The same for a plan, by one process for itself. Not collective. */
par_status world_device_alone(const settings *);
/* A line a rank with its device, on rank 0, unless it is the host. Collective. */
par_status world_devices_print(const world *, const settings *,
                               void (*print)(void *, const char *));
/* Agree on a status over all ranks. Collective. */
par_status world_agree(world *, par_status);
void world_disconnect(world *);
/* Ends the process; `broken`: peers may be waiting for this rank, so the job is torn down. */
_Noreturn void world_end(int code, bool broken);
double world_seconds(void);

/* data */
typedef struct {
    par_tokens *tokens;
    par_sampler *train, *validation; /* validation NULL: no split */
    int64_t begin, cut, end;         /* tokens: [begin, cut) training, [cut, end) validation */
    int64_t n_validation;            /* samples of one evaluation */
} data;

par_status data_open(const run *, const world *, data *);
void data_close(data *);
/* Cross-entropy, nats a token, of a table of pairs counted on the training part (each count plus
 * one). */
par_status data_bigram(const data *, int64_t vocab, double *nats);
const char *data_path(const settings *);

/* verify */
/* Compare the layout with one rank instead of training. Collective. Errors: PAR_ERR_NUMERIC if they
 * differ. */
par_status verify_parallel(const run *, world *, const data *);

/* checkpoint */
enum { ASKED_NOTHING = 0, ASKED_SAVE = 1, ASKED_STOP = 2 };
/* SIGUSR1: save and go on. SIGINT, SIGTERM, SIGUSR2: finish the step, save, end. */
void checkpoint_catch_signals(void);
/* What a signal asked of this rank; the vote's `stop` if it is anything. */
int checkpoint_asked(void);
/* After a vote to stop: the most that any rank was asked; this rank's own wish is forgotten.
 * Collective. */
par_status checkpoint_agree(const world *, int *asked);
/* With --save: the directory is made, every rank can write in it, and a checkpoint fits.
 * Collective. */
par_status checkpoint_check(const run *, const world *, par_trainer *);
/* With --save: a checkpoint of this step. A step that is not finite is passed over with a note.
 * Collective. */
par_status checkpoint_save(const run *, const world *, const data *, par_trainer *, int64_t step,
                           double loss);
/* Where a run begins: after this step, which had this loss. Zeros: anew. */
typedef struct {
    int64_t step;
    double loss;
} beginning;
/* With --resume: what was saved last, zeros if there is nothing. Collective. */
par_status checkpoint_resume(const run *, const world *, const data *, par_trainer *, beginning *);

/* observe */
typedef struct observer observer;
/* Opens log and curve on rank 0, continues those of a resumed run, and sets the recorder to 0,
 * right before the first step. Collective. */
par_status observer_create(const run *, world *, const data *, const beginning *, observer **);
void observer_destroy(observer **);
/* The log holds an evaluation after the step where the run begins; the same answer on every
 * rank. */
bool observer_has_validation(const observer *);
/* Every rank calls these after a step and an evaluation. */
void observer_step(observer *, int64_t step, double lr, double seconds, const par_vote *,
                   const par_step_times *);
void observer_validation(observer *, const run *, int64_t step, double loss, int64_t n,
                         double seconds);
/* The last curve, what was sent so far, once the last step's weights have arrived, and the
 * prediction of it. What is sent later is not in the matrix. Collective. */
par_status observer_count(observer *, const run *, const data *, par_trainer *);
/* The communication matrix. Collective. */
par_status observer_matrix(observer *, const run *, world *);

/* sample */
typedef struct sampler sampler;
/* Reads tokenizer and prompt. *out stays NULL where no sample will be drawn (--sample-tokens 0).
 * What cannot be read is an error if a sample was asked for, else a note in its place.
 * Collective. */
par_status sample_open(const run *, world *, sampler **out);
/* The options ask for a sample, instead of leaving it to what is there. */
bool sample_is_asked_for(const settings *);
/* Takes the memory of the generator; where that fails, as above. NULL is accepted here and below.
 * Collective. */
par_status sample_prepare(const run *, sampler *, par_trainer *);
/* Draws, and prints on rank 0. Collective. */
par_status sample_draw(const run *, world *, sampler *);
/* Before the trainer is destroyed. */
void sample_close(sampler **);

/* report; on rank 0 alone */
void report_problems(const char *title, const char *text);
void report_start(const run *, const world *, const data *, const par_trainer *);
void report_notes(const run *, const world *);
par_status report_plan(const run *, int world_size);
par_status report_gantt(const run *, const par_trainer *);
void report_line(void *user, const char *line);
/* The time of every step, for medians; also of those that get no line. */
void report_time(double seconds, const par_vote *);
void report_step(const run *, int64_t step, double lr, double seconds, const par_vote *,
                 const par_trainer *);
/* On a terminal, a line that the next one overwrites: steps done and time left. Elsewhere
 * nothing. */
void report_progress(const run *, int64_t step);
void report_progress_clear(void);

#endif
