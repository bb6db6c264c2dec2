/*
 * train_llm: the trainer program. Its parts: options (the rows; elsewhere: names that have none),
 * config (command line, file of options; recipe), help, settle (what follows from the options
 * alone), world (MPI, threads, cores, devices), data (token files, splits), loop (a training),
 * checkpoint (saving, resuming), about (what a checkpoint records), carried (what it brings back),
 * tokenizer (which one it is), signals (what asks to save or stop), limits (memory of the nodes),
 * methods (what computes what), observe (log, tables, curve, communication matrix), memory (what
 * takes how much of it), log (its records), cost, health, run (the directory of all that), mfu,
 * sample (text from a model), watch (the watchdog), verify (a layout against one rank), report (what
 * is printed), plan (what is printed of a run that need not run), and main. It uses the public
 * headers only; what the library must not do (MPI_Init, signals, threads, printing, exit codes) is
 * here.
 *
 * A name that two files share begins with llm_ and its part.
 */
#ifndef TRAIN_LLM_H
#define TRAIN_LLM_H

#include <stdbool.h>
#include <stdint.h>

#include "par/par.h"

/* Exit codes, the same on every rank. */
enum {
    EXIT_OK = 0,
    EXIT_RUNTIME = 1,
    EXIT_INPUT = 2,
    EXIT_NONFINITE = 3,
    EXIT_STOPPED = 4,
    EXIT_BROKEN = 5, /* a rank failed alone */
    EXIT_STALLED = 6 /* the watchdog ended it */
};

/* Choices of options that are not an enum of the library. */
enum { LLM_LR_COSINE, LLM_LR_LINEAR, LLM_LR_WSD, LLM_LR_CONSTANT };
enum { LLM_CPU, LLM_CUDA, LLM_REF };
enum { LLM_QUANTIZE_NONE, LLM_QUANTIZE_INT8 };
enum { LLM_DOCUMENTS_ACROSS, LLM_DOCUMENTS_APART };

/* Where a row's value is recorded: par_option.recorded. */
enum { LLM_IN_LOG = 1, LLM_IN_CHECKPOINT = 2, LLM_MAX_OPTIONS = 192 };
enum { LLM_DIRECTORY = 900 }; /* bytes of the name of a run's directory */

/*
 * What the command line says, and, once it is settled, what follows where it leaves something open
 * (layout, micro-batch, lowest learning rate ...). Samples, tokens and steps are counts; choices
 * are values of the enums that options.c names; the defaults are in its rows.
 */
typedef struct {
    const char *model, *import;
    int64_t layers, channels, heads, kv_heads, head_size, mlp, tokens, vocab;
    double dropout; /* negative: the model's own */
    int64_t tp, cp, pp, dp;
    const char *order;
    int64_t micro_batch, batch, steps, warmup, decay_steps, seed;
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip, momentum;
    int optimizer, lr_schedule, schedule, recompute, nonfinite, precision, reduce_dtype;
    double stop_at_loss; /* 0: never */
    const char *recipe;
    double loss_scale, loss_scale_init, loss_scale_min, loss_scale_max;
    int64_t loss_scale_window, loss_scale_hysteresis, max_skips;
    int64_t chunks, zero;
    int64_t logits_memory;  /* MiB; 0: the backend's */
    par_int_list pp_layers; /* blocks of each part */
    bool sequence_parallel;
    int device, comm;
    int64_t gpu; /* -1: by the rank on its node */
    bool allow_shared_gpu, tf32, tune_gemm, nondeterministic_attention, no_graph;
    int64_t attention_workspace; /* MiB */
    const char *plan_cache;
    bool strict_kernels;
    int64_t threads;
    const char *data; /* NULL: there is none */
    int data_form;    /* par_tokens_form */
    double split;
    int documents;
    int64_t document_end; /* id; -1: the tokenizer's */
    int64_t eval_every, eval_batches, log_every;
    const char *save, *resume;
    bool save_async;
    int64_t save_memory; /* MiB; 0: what the copy takes */
    int64_t save_every, keep, keep_every, keep_best, checkpoint_memory;
    const char *stop_file, *exit_after;
    double price_per_hour, energy_price, budget; /* 0: none */
    const char *project;
    const char *run; /* directory; "none": none; NULL: one that rank 0 names */
    const char *log, *csv, *tensorboard, *curve, *comm_matrix_csv, *comm_matrix_svg; /* files */
    double peak_tflops; /* 0: the device's, if it is known */
    bool eval_only;
    const char *config;
    bool comm_matrix;
    const char *trace, *trace_file;
    int64_t trace_events; /* per rank; 0: as many as the steps need */
    int64_t ranks;
    bool bigram, check_comm, dry_run, show_mesh, gantt, help, version, other_names;
    bool verify_parallel;
    int64_t verify_layers, verify_steps;
    double stall_timeout; /* s */
    int64_t health_every, check_replicas;
    bool check_nodes;
    bool sample;
    int64_t sample_tokens; /* -1: as many as fit, up to 100 */
    int64_t sample_count, sample_seed, top_k;
    double temperature, top_p;
    const char *prompt, *prompt_file, *stop, *tokenizer;
    int quantize; /* weights that a sample is drawn with */
} llm_settings;

/* What the checkpoint of --resume carries, so that no option need repeat it. */
typedef struct {
    char path[1024];               /* of the newest one that verifies; "": there is none */
    bool model;                    /* the configuration is known */
    par_transformer_config config; /* with the name that the run had for it */
    char why[512];                 /* the configuration is not known */
    char tokenizer[32], tokenizer_file[1024], ends[512]; /* as in its pairs; "": not recorded */
    char data[1024], data_form[16];
} llm_carried;

/* The run's tokenizer. Files [n_files] are rank 0's, or all ranks' where a checkpoint carries it. */
enum { LLM_TOKENIZER_FILES = 8, LLM_TOKENIZER_PATH = 4096 };
typedef struct {
    char name[64];
    char *bytes; /* [n], a zero behind them; owned */
    int64_t n;
} llm_tokenizer_file;
typedef struct {
    char path[LLM_TOKENIZER_PATH]; /* to open it; "": none is known */
    char name[LLM_TOKENIZER_PATH]; /* where it was when the run had it first */
    char id[32];                   /* of what decides about ids; "": it is not known */
    char ends[512];                /* "128001,128009": ids that end a text, as far as is known */
    bool carried;                  /* by the checkpoint: its files are in `folder` */
    char folder[256];              /* this rank's, until it has been opened; "": none */
    llm_tokenizer_file files[LLM_TOKENIZER_FILES];
    int n_files;
    par_checkpoint_run blobs[LLM_TOKENIZER_FILES]; /* rank 0: what checkpoints store */
    int n_blobs;
} llm_tokenizer;

/* One run: the options, and everything that follows from them and the world. */
typedef struct {
    llm_settings set;
    par_option options[LLM_MAX_OPTIONS]; /* the rows; their values are in `set` */
    int n_options;
    llm_carried carried;
    llm_tokenizer tokenizer;
    par_transformer_config config;
    par_model *model;
    par_trainer_params params;
    int modules_per_part[256];
    int n_micro;
    par_problems notes, early_notes; /* of everything; without those on the model */
    char recipe[1024];               /* what a recipe set, for people; "": there is none */
    char methods[32768];             /* what computes what, of all ranks: methods.c */
    bool began;                      /* the first step */
    char directory[LLM_DIRECTORY];   /* of this run, the same on every rank; "": none */
    char newest[1024];               /* the checkpoint saved or resumed last; "": none */
    par_owner *owner;                /* of --save's directory; NULL: there is none */
    struct {
        bool can, under_way;  /* every rank has memory for the copy; a save has not ended */
        double since, waited; /* s: when it began; that the training waited for it so far */
    } behind;                 /* of --save-async */
    char stop_file[1100];     /* "": none */
    double exit_after_s;      /* since the start; 0: no limit */
} llm_run;

typedef struct llm_world llm_world;

/* recipe */
void llm_recipe_apply(llm_run *, par_problems *);
/* For --help: the names and where the values are from. */
void llm_recipe_list(char *text, size_t nbytes);

/* help */
void llm_help(char *text, size_t nbytes);
/* What options of other programs are called here. */
void llm_help_other_names(char *text, size_t nbytes);
extern const char llm_version[];

/* options, elsewhere */
/* Fills the table with the rows, whose values are those settings; their number. */
int llm_options_rows(llm_settings *, par_option *table);
int llm_elsewhere_rows(par_option *table);
extern const par_choice llm_devices[], llm_precisions[], llm_recomputes[];

/* settle */
/* The default model: small enough for 64 ranks on a laptop, deep enough for 8 stages. */
extern const par_transformer_config llm_small;
/* What options say about each other, and the model by name or as the checkpoint has it, unless it
 * comes from an import. Collective. */
void llm_settle_options(llm_run *, const llm_world *, par_problems *);
/* Everything that can be told from the options, the configuration and the world's size. Every rank
 * comes to the same answer without communication. Errors: PAR_ERR_OPTION with all problems, those
 * that were there before among them. */
par_status llm_settle(llm_run *, int world_size, par_problems *);
/* No option says how large the vocabulary is, and the default model fits any. */
bool llm_settle_vocab_is_open(const llm_run *);
/* After llm_settle: another vocabulary; 0: as it was. Errors: as llm_settle. */
par_status llm_settle_vocab(llm_run *, int world_size, int64_t vocab);
/* The learning rate of a step, which counts from 1. */
double llm_settle_lr(const llm_settings *, int64_t step);

/* world */
struct llm_world {
    par_transport *transport;
    par_comm *comm; /* the program's own agreements: files, cores */
    par_memory *memory;
    int size, rank;
    int threads;           /* per rank */
    int cores, node_cores; /* this node's cores that ranks may use (within the cgroup's quota);
                              that the launcher may use */
    int local_size;        /* ranks of this node */
    double start;          /* the process's, s */
};

/* Called first: MPI is up, size and rank are known, nothing else. What one process does by itself,
 * as --dry-run and --help without a launcher, needs no MPI that works. */
int llm_world_begin(llm_world *, int argc, char **argv);
/* N worlds of one rank under a launcher of N: a problem with the cause. */
void llm_world_check_singletons(int world_size, par_problems *);
/* Not collective; after an error peers may be waiting. */
par_status llm_world_connect(llm_world *, const llm_settings *);
/* Of its transport, as the options ask for it. */
par_transport_params llm_world_transport_params(const llm_settings *);
/* Threads per rank: as asked, or this node's cores shared by its ranks; the same on every rank.
 * Collective. */
par_status llm_world_threads(llm_world *, int64_t asked);
/* The device of this rank, opened; agreed on: a rank without one ends all, with its message.
 * Collective. */
par_status llm_world_device(llm_world *, const llm_settings *);
/* The same for a plan, by one process for itself. Not collective. */
par_status llm_world_device_alone(const llm_settings *);
/* The table of ranks, with the device of each unless it is the host, on rank 0. Collective. */
par_status llm_world_print(const llm_world *, const llm_run *);
/* Agree on a status over all ranks. Collective. */
par_status llm_world_agree(llm_world *, par_status);
void llm_world_disconnect(llm_world *);
/* After the transport was broken: returns at once on rank 0, which ends the job; elsewhere after 10
 * to 20 s, if it has not. */
void llm_world_await_end(const llm_world *);
/* Ends the process; `broken`: peers may be waiting for this rank, so the job is torn down. */
_Noreturn void llm_world_end(int code, bool broken);
double llm_world_seconds(void);
/* Rank 0's bytes to all, before there is a transport. Collective. */
void llm_world_share(void *data, size_t nbytes);

/* run: the directory that a run leaves */
/* The given name, and what follows from it: --save. */
void llm_run_settle(llm_run *, par_problems *);
/* Rank 0 makes it, all know it; log and curve have their places in it. Before there is a transport.
 * Collective. Errors [agreed]: PAR_ERR_IO, of a name that was given. */
par_status llm_run_make(llm_run *, const llm_world *);
/* DIRECTORY/NAME, valid to the end of the process; NULL: there is no directory. Rank 0 alone
 * writes there. Not collective. */
const char *llm_run_file(const llm_run *, const char *name);
/* Its name, or why there is none; on rank 0. */
void llm_run_print(const llm_run *);
/* At the end: what was made for a run that never began goes. Not collective. */
void llm_run_leave(void);

/* watch: the watchdog; nothing without --stall-timeout, or on one rank. Not collective but for the
 * first. */
void llm_watch_begin(const llm_run *, const llm_world *);
/* The rank waits for all others, without a transport. */
void llm_watch_waits(bool waits);
void llm_watch_transport(par_transport *);
/* Before the transport is destroyed. */
void llm_watch_end(void);

/* trace: the timeline of --trace; nothing without it */
/* Problems of its steps. */
void llm_trace_check(const llm_run *, par_problems *);
/* Takes the ring, and sees that the file can be written. Collective. */
par_status llm_trace_begin(const llm_run *, llm_world *, const par_trainer *);
/* Right before this step is begun, with no other begun where llm_trace_edge said so: recording
 * begins or ends, and behind the last step the file is written. Collective. */
par_status llm_trace_step(const llm_run *, const llm_world *, par_trainer *, int64_t step);
/* Recording begins or ends behind this step. */
bool llm_trace_edge(int64_t step);
/* Behind the last step of the run: what was not written yet. Collective. */
par_status llm_trace_end(const llm_run *, const llm_world *, par_trainer *);
/* Before the transport is destroyed. */
void llm_trace_close(void);

/* config */
/* Rows, defaults, command line, --config, --recipe, into r->set; what is wrong with single options
 * is a problem each. Rank 0 reads the file, all have what it read. Collective. */
void llm_config_read(llm_run *, const llm_world *, int argc, char **argv, par_problems *);
/* The command line, the file or the recipe has this option; `name` is a row's. */
bool llm_config_given(const llm_run *, const char *name);
/* All options as they are now, for --config. */
par_status llm_config_write(const llm_run *, const char *path);

/* data */
enum { LLM_MAX_SETS = 64 };

/* A token file, one of those that are blended. */
typedef struct {
    char path[4096];
    int64_t weight;   /* of the samples; relative to the others' */
    int64_t cut, end; /* tokens: [0, cut) training, [cut, end) validation */
    par_tokens *tokens;
    par_tokens_facts facts; /* the same on every rank */
    par_sampler *train, *validation;
} llm_data_set;

typedef struct {
    llm_data_set sets[LLM_MAX_SETS];
    int n_sets;
    par_blend *train_blend, *validation_blend;
    par_source train, validation;
    int64_t begin, cut, end; /* tokens of all sets: cut - begin for training, end - cut others */
    int64_t n_validation;    /* samples of one evaluation, each of them once; 0: no split */
} llm_data;

/* Without --data: quickstart's token file, or NULL if there is none. */
const char *llm_data_default(void);
/* The token file of --data, the first of several. */
void llm_data_path(const char *data, char *path, size_t nbytes);
/* Collective. Errors: as of opening and checking token files, [agreed]. */
par_status llm_data_open(const llm_run *, const llm_world *, llm_data *);
void llm_data_close(llm_data *);
/* What tells this data from other data: of one file 16 hexadecimal digits, of several
 * "7:DIGITS,3:DIGITS" with their weights. The same on every rank. */
void llm_data_fingerprint(const llm_data *, char *text, size_t nbytes);
/* The lines on the data. */
void llm_data_print(const llm_run *, const llm_data *);
/* Cross-entropy, nats per token, of a table of pairs counted on the training part (each count plus
 * one). */
par_status llm_data_bigram(const llm_data *, int64_t vocab, double *nats);

/* verify */
/* Compare the layout with one rank instead of training. Collective. Errors: PAR_ERR_NUMERIC if they
 * differ. */
par_status llm_verify(llm_run *, llm_world *, const llm_data *);

/* signals */
enum {
    LLM_ASKED_NOTHING,
    LLM_ASKED_SAVE,
    LLM_ASKED_STOP, /* by a signal; from here on: stop */
    LLM_ASKED_STOP_FILE,
    LLM_ASKED_STOP_TIME,
    LLM_ASKED_STOP_BUDGET,
    LLM_ASKED_COUNT
};
/* At the program's start: what must not end it. */
void llm_signals_begin(void);
/* Of --exit-after, in seconds; 0: it is not a duration. */
double llm_signals_duration(const char *text);
/* A stop file that is there at the start is refused. Collective. */
par_status llm_signals_check_file(const llm_run *, llm_world *);
/* SIGUSR1: save and go on. SIGINT, SIGTERM, SIGUSR2, SIGHUP (not under nohup): finish the step,
 * save, end. */
void llm_signals_catch(const llm_run *, const llm_world *);
/* r->newest has changed: a signal names it at once. */
void llm_signals_newest(const llm_run *, const llm_world *);
/* A save took so long: --exit-after leaves room for the next. */
void llm_signals_saved(double took);
/* What this rank knows to be asked; the vote's `stop` if it is anything. */
int llm_signals_asked(const llm_run *, const llm_world *);
/* After a vote to stop: the most that any rank was asked; a wish to save is forgotten.
 * Collective. */
par_status llm_signals_agree(const llm_run *, const llm_world *, int *asked);
/* Says why and returns PAR_ERR_STOPPED. */
par_status llm_signals_stop(const llm_run *, const llm_world *, int asked, int64_t step);
/* On rank 0: a stdout that cannot be written to any more is said once. */
void llm_signals_check_stdout(const llm_run *);

/* checkpoint */
/* With --save: the directory becomes this run's. Collective. */
par_status llm_checkpoint_claim(llm_run *, const llm_world *);
/* What a checkpoint records of this run beside what the trainer does, or compares with what was
 * recorded. To be freed. */
enum { LLM_ABOUT_MAX = 64 };
typedef struct {
    par_checkpoint_about about;
    par_config_pairs model;
    char values[LLM_ABOUT_MAX][256];
    par_checkpoint_pair pairs[LLM_ABOUT_MAX];
    int n;
} llm_about;
par_status llm_about_make(const llm_run *, const llm_world *, const llm_data *, llm_about **out);

/* With --save: all that a save does, in small, and a checkpoint fits; with --save-async, whether
 * the copy does, which is said if not. Collective. */
par_status llm_checkpoint_check(llm_run *, const llm_world *, par_trainer *);
/* What a checkpoint is of. */
typedef struct {
    int64_t step;
    double loss, validation; /* of this step; after it, 0: not known */
    bool goes_on;            /* the training does: with --save-async the save is only begun */
} llm_moment;
/* With --save: a checkpoint, after the one that is under way. A step that is not finite is passed
 * over with a note. Collective. */
par_status llm_checkpoint_save(llm_run *, const llm_world *, const llm_data *, par_trainer *,
                               const llm_moment *);
/* Between steps: go on with a save that is under way, without waiting; an error of it is one of the
 * training. Collective. */
par_status llm_checkpoint_go_on(llm_run *, const llm_world *, par_trainer *);
/* A training has ended with `st`: wait for a save that is under way. Returns `st` with its message,
 * or what the save failed with where `st` is no error. Collective. */
par_status llm_checkpoint_await(llm_run *, const llm_world *, par_trainer *, par_status st);
/* Where a run begins: after this step, which had this loss. Zeros: anew. */
typedef struct {
    int64_t step;
    double loss;
} llm_beginning;
/* With --resume: what was saved last, zeros if there is nothing. Collective. */
par_status llm_checkpoint_resume(llm_run *, const llm_world *, const llm_data *, par_trainer *,
                                 llm_beginning *);

/* carried */
/* What the checkpoint of --resume carries, into r->carried: rank 0 reads, all have what it read.
 * What cannot be read stays empty, which the resuming will say. Collective. */
void llm_carried_read(llm_run *, const llm_world *);
/* The checkpoint's model, with the options that may change it; others must say what it is. */
void llm_carried_settle(llm_run *, par_problems *);

/* tokenizer */
/* Which one it is: of --tokenizer, beside --data or in --import, or the checkpoint's, which a sample
 * prefers. One that cannot be read is none here; opening it says why. Collective. */
par_status llm_tokenizer_find(llm_run *, const llm_world *, const par_import *);
/* Nobody opens it any more. */
void llm_tokenizer_opened(llm_tokenizer *);
void llm_tokenizer_free(llm_tokenizer *);

/* mfu */
/* The most that a rank's device can do, FLOP/s; 0: it is not known. */
double llm_mfu_peak(const llm_run *);
/* 0 to 1; negative: the peak is not known. */
double llm_mfu(const llm_run *, int ranks, double tokens_per_s);
/* Its formula and the peak, in a line. */
void llm_mfu_report(const llm_run *);

/* log: its records. Those without a status are ended by the caller. */
par_status llm_log_start(par_log *, const llm_run *, const llm_world *, const llm_data *);
par_status llm_log_resume(par_log *, const llm_world *, const llm_beginning *);
void llm_log_step(par_log *, int64_t step, double lr, double mfu, const par_vote *,
                  const par_step_times *);
void llm_log_health(par_log *, const par_health_round *, const par_health *);
void llm_log_validation(par_log *, int64_t step, double loss, int64_t n, double seconds);

/* observe */
typedef struct llm_observer llm_observer;
/* Opens log and curve on rank 0, continues those of a resumed run, and sets the recorder to 0,
 * right before the first step. Collective. */
par_status llm_observer_create(const llm_run *, llm_world *, const llm_data *,
                               const llm_beginning *, llm_observer **);
void llm_observer_destroy(llm_observer **);
/* The log holds an evaluation after the step where the run begins; the same answer on every
 * rank. */
bool llm_observer_has_validation(const llm_observer *);
/* Every rank calls these after a step and an evaluation. */
void llm_observer_step(llm_observer *, const llm_run *, const llm_world *, int64_t step, double lr,
                       double seconds, const par_vote *, const par_step_times *);
/* On rank 0: a round of health. */
void llm_observer_health(llm_observer *, const par_health_round *, const par_health *);
void llm_observer_validation(llm_observer *, const llm_run *, int64_t step, double loss, int64_t n,
                             double seconds);
/* The last curve, what was sent so far, once the last step's weights have arrived, and the
 * prediction of it. What is sent later is not in the matrix. Collective. */
par_status llm_observer_count(llm_observer *, const llm_run *, const llm_data *, par_trainer *);
/* The communication matrix. Collective. */
par_status llm_observer_matrix(llm_observer *, const llm_run *, llm_world *);
/* What the run took. Collective. */
par_status llm_observer_cost(llm_observer *, const llm_run *, const llm_world *);

/* cost: what a run takes, in money and energy */
void llm_cost_settle(const llm_settings *, par_problems *);
/* One rank of each host opens its meters; what the log says was spent before is counted in, so it
 * comes before the log is cut back. Collective. */
par_status llm_cost_begin(const llm_run *, const llm_world *, const llm_beginning *);
/* After a step, on every rank; true: a record is due. */
bool llm_cost_step(const llm_run *, const llm_world *, int64_t step, int64_t n_targets);
/* A record of all until now, which the caller ends; false: there is nothing to record. On rank 0. */
bool llm_cost_record(const llm_run *, const llm_world *, par_log *);
/* Seconds that --budget lasts at the pace so far, now and from its beginning; false: there is none.
 * On rank 0. */
bool llm_cost_lasts(const llm_run *, const llm_world *, double *left, double *whole);
/* The energy of all hosts, and a line on rank 0; a record is due. Collective. */
par_status llm_cost_end(const llm_run *, const llm_world *);
void llm_cost_close(void);
/* Who runs this process. */
const char *llm_cost_user(char name[64]);
/* Now, as 2026-11-27T11:46:00Z. */
const char *llm_cost_time(char text[32]);

/* memory: RUN/memory.json, and answers to `par diagnose memory --pid` */
/* The first file, and from now on answers. Before the first step. Collective. */
par_status llm_memory_begin(const llm_run *, llm_world *, const par_trainer *);
/* Every rank after a step. */
void llm_memory_step(int64_t step);
/* The last file; a warning if something grows. Collective. */
par_status llm_memory_end(const llm_run *, llm_world *);
/* No answers any more. Not collective. */
void llm_memory_close(void);

/* health: times of ranks, replicas, nodes */
/* --check-nodes: before there is a trainer. Collective. */
par_status llm_health_nodes(const llm_run *, const llm_world *);
/* What --health-every and --check-replicas need. Collective. */
par_status llm_health_begin(const llm_run *, llm_world *, par_trainer *);
/* Every rank after a step; in a round rank 0 says who is slow, and logs it. Collective. */
par_status llm_health_step(const llm_run *, const llm_world *, llm_observer *, int64_t step,
                           const par_step_times *);
/* --check-replicas is due after this step. */
bool llm_health_checks(const llm_run *, int64_t step);
/* With no step under way. Collective. Errors: PAR_ERR_NUMERIC [agreed] with the rank that
 * differs. */
par_status llm_health_replicas(int64_t step);
/* The table of all rounds; on rank 0. */
void llm_health_print(void);
/* Before the trainer is destroyed. */
void llm_health_end(void);

/* sample: a text that is drawn from the model */
typedef struct llm_sample llm_sample;
/* What `par data` left beside the token file, or what came with the imported model. */
bool llm_sample_find_tokenizer(const llm_settings *, char *path, size_t nbytes);
/* Ids of what lies beside --data; 0: nothing does, or it cannot be read, which a sample will say.
 * Not collective. */
int64_t llm_sample_vocab(const llm_settings *);
/* Reads tokenizer and prompts; the import, which may be NULL, says what ends a text. *out stays
 * NULL where no sample will be drawn (--sample-tokens 0). What cannot be read is an error if a
 * sample was asked for, else a note in its place. Collective. */
par_status llm_sample_open(const llm_run *, llm_world *, const par_import *, llm_sample **out);
/* Takes the memory of the generator; where that fails, as above. NULL is accepted here and below.
 * Collective. */
par_status llm_sample_prepare(const llm_run *, llm_sample *, par_trainer *);
/* Draws, and prints on rank 0. Collective. */
par_status llm_sample_draw(const llm_run *, llm_world *, llm_sample *);
/* Before the trainer is destroyed. */
void llm_sample_close(llm_sample **);

/* methods: what computes what */
/* Gathers it, prints it on rank 0, and keeps it for the log. Behind a resume, which takes what was
 * timed before. Collective. Errors: PAR_ERR_UNSUPPORTED [agreed] with --strict-kernels, if
 * something faster is known. */
par_status llm_methods_report(llm_run *, llm_world *, const par_trainer *);
/* The same for a plan, by one process for what it has prepared. Not collective. */
par_status llm_methods_plan(llm_run *);
/* One record; none on the host. */
par_status llm_methods_log(par_log *, const llm_run *);

/* plan; on rank 0 alone */
/* The memory of every stage. */
par_status llm_report_plan(const llm_run *, int world_size);
/* The coordinates of every rank of a world that need not be there. */
void llm_report_mesh(const llm_run *, int world_size);
par_status llm_report_gantt(const llm_run *);
/* limits */
/* A warning for each node whose ranks take more memory than they can have; on rank 0.
 * Collective. */
par_status llm_limits_warn(const llm_run *, const llm_world *);
/* What this process can take of its machine. */
void llm_limits_print(void);

/* loop; both collective */
/* One training, from the trainer's memory to what is printed and written after the last step. */
par_status llm_loop_train(llm_run *, llm_world *, const llm_data *, par_import *, llm_sample **);
/* --eval-only: weights and the loss of the validation part. */
par_status llm_loop_evaluate(llm_run *, llm_world *, const llm_data *, par_import *);
/* --sample: weights and a text, no data. */
par_status llm_loop_sample(llm_run *, llm_world *, par_import *, llm_sample **);

/* report; on rank 0 alone */
void llm_report_problems(const char *title, const char *text);
void llm_report_line(void *user, const char *line);
/* Model, layout, batch, notes. */
void llm_report_head(const llm_run *, int world_size);
/* These, and the machine: before anything is opened. */
void llm_report_run(const llm_run *, const llm_world *);
/* Whether steps are graphs; nothing where the device is the host. */
void llm_report_graphs(const par_trainer *);
void llm_report_data(const llm_run *, const llm_data *, const par_trainer *);
/* The time of every step, for medians; also of those that get no line. */
void llm_report_time(const par_step_times *, const par_vote *);
/* What of the steps' communication was waited for, by axis. */
void llm_report_overlap(void);
void llm_report_step(const llm_run *, const llm_world *, int64_t step, double lr, double seconds,
                     const par_vote *, const par_trainer *);
/* On a terminal, a line that the next one overwrites: steps done and time left. Elsewhere
 * nothing. */
void llm_report_progress(const llm_run *, int64_t step);
void llm_report_progress_clear(void);
/* Standard output, mpirun's under it, is a terminal. */
bool llm_report_on_terminal(void);
/* Ranks share cores, so that what they measure of themselves says little. */
bool llm_report_takes_turns(const llm_run *, const llm_world *);
/* "3.20 MiB": the unit that fits. Returns text. */
const char *llm_report_bytes(double nbytes, char text[32]);
/* "s" but for one. */
static inline const char *llm_report_s(int64_t n) {
    return n == 1 ? "" : "s";
}

#endif
