/*
 * train_llm: the trainer program. Its parts: options (the rows; elsewhere: names that have none),
 * config (command line, file of options; recipe), help, settle (what follows from the options
 * alone), world (MPI, threads, cores, devices), data (token files, splits), loop (a training),
 * checkpoint (saving, resuming), about (what a checkpoint records), carried (what it brings back),
 * tokenizer (which one it is), signals (what asks to save or stop), limits (memory of the nodes),
 * methods (what computes what), observe (log, tables, curve, communication matrix), memory (what
 * takes how much of it), trace (timelines), log (its records), cost, health, run (the directory of
 * all that), mfu, generate (texts), watch (the watchdog), verify (a layout against one rank),
 * report (what is printed), plan (what is printed of a run that need not run), and main. It uses
 * the public headers only; what the library must not do (MPI_Init, signals, threads, printing, exit
 * codes) is here.
 *
 * A name that two files share begins with llm_ and its part. settings.h has the options, observe.h
 * the parts from watch to cost.
 */
#ifndef TRAIN_LLM_H
#define TRAIN_LLM_H

#include "settings.h"
#include "tokenizer_files.h"

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

enum { LLM_DIRECTORY = 900 }; /* bytes of the name of a run's directory */

/* What the checkpoint of --resume carries, so that no option need repeat it. */
typedef struct {
    char path[1024];               /* of the newest one that verifies; "": there is none */
    bool first;                    /* it is that of --resume auto:DIR, as --save has none yet */
    bool model;                    /* the configuration is known */
    par_transformer_config config; /* with the name that the run had for it */
    char why[512];                 /* why there is none, or its configuration is not known */
    char tokenizer[32], tokenizer_file[1024], ends[512]; /* as in its pairs; "": not recorded */
    char data[1024], data_form[16];
    char origin[512]; /* of a checkpoint of weights alone, which no training saved; "": one did */
    char kept[PAR_IMPORT_KEPT]; /* what par_import_kept said of the model; --import's, too */
} llm_carried;

/* One run: the options, and everything that follows from them and the world. */
typedef struct {
    llm_settings set;
    par_option options[LLM_MAX_OPTIONS]; /* the rows; their values are in `set` */
    int n_options;
    llm_carried carried;
    bool guessed; /* config is not the model's: --import is not open, or --model unknown */
    llm_tokenizer tokenizer;
    par_transformer_config config;
    par_model *model;
    par_trainer_params params;
    int modules_per_part[256];
    int n_micro;
    par_problems notes, early_notes; /* of everything; without those on the model */
    char recipe[1024];               /* what a recipe set, for people; "": there is none */
    char methods[32768];             /* what computes what, of all ranks: methods.c */
    bool began, trains;              /* the first step; and it is one of a training */
    char directory[LLM_DIRECTORY];   /* of this run, the same on every rank; "": none */
    char newest[1024];               /* the checkpoint saved or resumed last; "": none */
    bool newest_is_own;              /* it lies in --save's directory */
    char unsaved[1024];              /* why the last save was none: a state that is not finite */
    par_owner *owner;                /* of --save's directory; NULL: there is none */
    struct {
        bool can, under_way;  /* every rank has memory for the copy; a save has not ended */
        double since, waited; /* s: when it began; that the training waited for it so far */
    } behind;                 /* of --save-async */
    char stop_file[1100];     /* "": none */
    double exit_after_s;      /* since the start; 0: no limit */
} llm_run;

/* Of a training that fails: its newest checkpoint, and the words that go on from there; "": it has
 * none. */
static inline void llm_run_advise(const llm_run *r, char *text, size_t nbytes) {
    bool own = r->newest_is_own;
    *text = 0;
    if (r->trains && *r->newest)
        snprintf(text, nbytes, "the newest checkpoint is %s; --resume auto%s%s goes on from there",
                 r->newest, own ? "" : ":", own ? "" : r->newest);
}

typedef struct llm_world llm_world;

/* What is resumed from: a checkpoint, or a directory of them; NULL: nothing. After
 * llm_carried_read. */
static inline const char *llm_resume_from(const llm_run *r) {
    const llm_settings *s = &r->set;
    return r->carried.first ? llm_resume_first(s) : llm_resume_is_auto(s) ? s->save : s->resume;
}

/* recipe */
void llm_recipe_apply(llm_run *, par_problems *);
/* For --help: the names and where the values are from. */
void llm_recipe_list(char *text, size_t nbytes);

/* help */
void llm_help(char *text, size_t nbytes);
/* What options of other programs are called here. */
void llm_help_other_names(char *text, size_t nbytes);
#ifndef TRAIN_LLM_VERSION
#define TRAIN_LLM_VERSION "unknown"
#endif

/* settle */
/* The default model: small enough for 64 ranks on a laptop, deep enough for 8 stages. */
extern const par_transformer_config llm_small;
/* What options say about each other, and the model by name or as the checkpoint has it, unless it
 * comes from an import. Collective. */
void llm_settle_options(llm_run *, const llm_world *, par_problems *);
/* The model of --import, in place of one that was guessed. */
void llm_settle_import(llm_run *, const par_import *);
/* Everything that can be told from the options, the configuration and the world's size, without
 * communication. Ranks come to the same answer, but for what is wrong with one host. Errors:
 * PAR_ERR_OPTION with all problems, those that were there before among them. */
par_status llm_settle(llm_run *, int world_size, par_problems *);
/* No option says how large the vocabulary is, and the default model fits any. */
bool llm_settle_vocab_is_open(const llm_run *);
/* The library speaks of fields: " (--tp, --dp)" for those of a line that are options here; "" of a
 * line that begins with an option. */
void llm_settle_option_names(const char *line, char *text, size_t nbytes);
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
/* The transport. After an error peers may be waiting. Collective. */
par_status llm_world_connect(llm_world *, const llm_settings *);
/* The program's own communicator over it. After an error peers may be waiting. */
par_status llm_world_talk(llm_world *);
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
/* Agree on a status over all ranks. Collective. */
par_status llm_world_agree(llm_world *, par_status);
void llm_world_disconnect(llm_world *);
/* After the transport was broken: returns at once on rank 0, which ends the job; elsewhere after 10
 * to 20 s, if it has not. */
void llm_world_await_end(const llm_world *);
/* Until all ranks are here, with MPI alone. Collective. */
void llm_world_meet(void);
/* The last thing of a process but its exit: MPI goes down, on no rank before all are here, since
 * launchers kill the others of a job when one has ended with another code than 0. `broken`: peers
 * may be waiting for this rank, so the job is torn down with this code. */
void llm_world_end(int code, bool broken);
double llm_world_seconds(void);
/* Before there is a transport: *st becomes that of the lowest rank with an error, which is
 * returned; w->size: no rank has one. Collective. */
int llm_world_refuses(const llm_world *, par_status *st);
/* Rank 0's bytes to all, before there is a transport. Collective. */
void llm_world_share(void *data, size_t nbytes);

/* run: the directory that a run leaves */
/* The given name, and what follows from it: --save. */
void llm_run_settle(llm_run *, par_problems *);
/* Rank 0 makes it, all know it; log and curve have their places in it. Before there is a transport.
 * Collective. Errors [agreed]: PAR_ERR_IO, of a name that was given. */
par_status llm_run_make(llm_run *, const llm_world *);
/* Right before the first file in it: of two that were started at once, the second one is refused,
 * and leaves the first one's files alone. Collective. Errors [agreed]: PAR_ERR_IO. */
par_status llm_run_take(const llm_run *, llm_world *);
/* DIRECTORY/NAME, valid to the end of the process; NULL: there is no directory. Rank 0 alone
 * writes there. Not collective. */
const char *llm_run_file(const llm_run *, const char *name);
/* The path is of something in the directory. Not collective. */
bool llm_run_holds(const llm_run *, const char *path);
/* Its name, or why there is none; on rank 0. */
void llm_run_print(const llm_run *);
/* At the end: what was made for a training that never began goes. Not collective. */
void llm_run_leave(void);

/* config */
/* Rows, defaults and command line, into r->set; what is wrong with single options is a problem
 * each. Collective. Errors: PAR_ERR_OPTION on ranks with other options than rank 0, with all that
 * is wrong. */
par_status llm_config_parse(llm_run *, const llm_world *, int argc, char **argv, par_problems *);
/* Then --config and --recipe, for what is still open. Rank 0 reads the file, all have what it read.
 * Collective. */
void llm_config_load(llm_run *, const llm_world *, par_problems *);
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
/* Every file that cannot be opened, is none of tokens, or is too short is a problem; with
 * --check-files also one with ids above the vocabulary (0: not known). Not collective. */
void llm_data_check(const llm_run *, int64_t vocab, par_problems *);
/* Collective. Errors: as of opening and checking token files, [agreed]. */
par_status llm_data_open(const llm_run *, const llm_world *, llm_data *);
void llm_data_close(llm_data *);
/* What tells this data from other data: of one file 16 hexadecimal digits, of several
 * "7:DIGITS,3:DIGITS" with their weights, shortened. The same on every rank. */
void llm_data_fingerprint(const llm_data *, char *text, size_t nbytes);
/* `all`, or, where it does not fit, its beginning and a hash of it. */
void llm_data_shorten(const char *all, char *text, size_t nbytes);
/* The lines on the data. */
void llm_data_print(const llm_run *, const llm_data *);
/* Cross-entropy, nats per token, of a table of pairs counted on the training part (each count plus
 * one). */
par_status llm_data_bigram(const llm_data *, int64_t vocab, double *nats);

/* files */
/* Those that options name and that are not here, or of --data no tokens for this model, are a
 * problem each. Without --check-files the data is looked at only if an option names it. After
 * llm_settle. Not collective. */
void llm_files_check(const llm_run *, par_problems *);

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
/* The training is over: a signal, as launchers send when a rank has ended, says nothing more. */
void llm_signals_quiet(void);
/* After the last step and its save, before a sample is drawn: from now on a signal ends the
 * sample, and a second one the program. PAR_ERR_STOPPED: one has come since the last vote.
 * Collective. */
par_status llm_signals_over(const llm_run *, const llm_world *);
/* While it is drawn: PAR_ERR_STOPPED: one has come. Nothing where there was no training, and no
 * signal is caught. Collective. */
par_status llm_signals_drawing(const llm_world *);
/* A save took so long, and the training has just waited for it so long: --exit-after leaves room
 * for the next. */
void llm_signals_saved(double took, double waited);
/* What this rank knows to be asked; the vote's `stop` if it is anything. */
int llm_signals_asked(const llm_run *, const llm_world *);
/* After a vote to stop: *asked becomes the most that any rank was asked, if that is more; the ranks
 * forget a wish to save. Collective. */
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
enum { LLM_ABOUT_MAX = 64, LLM_ABOUT_VALUE = 512 };
typedef struct {
    par_checkpoint_about about;
    par_config_pairs model;
    char values[LLM_ABOUT_MAX][LLM_ABOUT_VALUE];
    par_checkpoint_pair pairs[LLM_ABOUT_MAX];
    int n;
} llm_about;
par_status llm_about_make(const llm_run *, const llm_world *, const llm_data *, llm_about **out);

/* With --save: all that a save does, in small, and a checkpoint fits; with --save-async, whether
 * the copy does, which is said if not. Collective. */
par_status llm_checkpoint_check(llm_run *, const llm_world *, const llm_data *, par_trainer *);
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
    double loss, validation; /* 0: not known */
    bool own;                /* the checkpoint lies in --save's directory */
} llm_beginning;
/* With --resume: what was saved last, zeros if there is nothing. Collective. */
par_status llm_checkpoint_resume(llm_run *, const llm_world *, const llm_data *, par_trainer *,
                                 llm_beginning *);

/* carried */
/* What the checkpoint of --resume carries, into r->carried: rank 0 reads, all have what it read.
 * What cannot be read stays empty: a problem where nothing goes without it, else the resuming will
 * say it. Collective. */
void llm_carried_read(llm_run *, const llm_world *, par_problems *);
/* The checkpoint's model, with the options that may change it; others must say what it is. */
void llm_carried_settle(llm_run *, par_problems *);

/* tokenizer */
/* Which one it is: of --tokenizer, beside --data or in --import, or the checkpoint's, which a
 * sample prefers. One that cannot be read is none here; opening it says why. Collective. */
par_status llm_tokenizer_find(llm_run *, const llm_world *, const par_import *);
/* The same by one process for all, before a plan. Not collective. */
par_status llm_tokenizer_find_alone(llm_run *);
/* Nobody opens it any more. */
void llm_tokenizer_opened(llm_tokenizer *);
void llm_tokenizer_free(llm_tokenizer *);

/* generate: a text that is drawn from the model */
typedef struct llm_generation llm_generation;
/* What `par data` left beside the token file, or what came with the imported model. */
bool llm_generate_find_tokenizer(const llm_settings *, char *path, size_t nbytes);
/* Ids of what lies beside --data; 0: nothing does, or it cannot be read, which a sample will say.
 * Not collective. */
int64_t llm_generate_vocab(const llm_settings *);
/* Reads tokenizer and prompts; the import, which may be NULL, says what ends a text. *out stays
 * NULL where no sample will be drawn (--sample-tokens 0). What cannot be read is an error if a
 * sample was asked for, else a note in its place. Collective. */
par_status llm_generate_open(const llm_run *, llm_world *, const par_import *,
                             llm_generation **out);
/* The options ask for a sample, instead of leaving it to what is there. */
bool llm_generate_is_asked_for(const llm_settings *);
/* What its generator must have room for, for a plan, by one process; zeros where no sample will be
 * drawn. Not collective. */
par_status llm_generate_size(const llm_run *, par_generator_params *);
/* Takes the memory of the generator; where that fails, as above. NULL is accepted here and below.
 * Collective. */
par_status llm_generate_prepare(const llm_run *, llm_generation *, par_trainer *);
/* Draws, and prints on rank 0. Collective. */
par_status llm_generate_draw(const llm_run *, llm_world *, llm_generation *);
/* Before the trainer is destroyed. */
void llm_generate_close(llm_generation **);

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
/* The memory of every stage; sample: what a generator must have room for, zeros for none. */
par_status llm_report_plan(const llm_run *, int world_size, const par_generator_params *sample);
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
par_status llm_loop_train(llm_run *, llm_world *, const llm_data *, par_import *,
                          llm_generation **);
/* --eval-only: weights and the loss of the validation part. */
par_status llm_loop_evaluate(llm_run *, llm_world *, const llm_data *, par_import *);
/* --sample: weights and a text, no data. */
par_status llm_loop_generate(llm_run *, llm_world *, par_import *, llm_generation **);

/* report; on rank 0 alone, but for the table of ranks */
void llm_report_problems(const char *title, const char *text);
void llm_report_line(void *user, const char *line);
/* Model, layout, batch, notes. */
void llm_report_head(const llm_run *, int world_size);
/* The table of ranks, with the device of each unless it is the host. Collective. */
par_status llm_report_ranks(const llm_world *, const llm_run *);
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
