/*
 * par run: starts a job through the mpirun or srun that is there. Its parts: run.c (the check, the
 * job, restarts), run_options.c (options, the program's words), run_program.c (words that train_llm
 * gets besides), run_launch.c (the launcher and its words), run_map.c (where ranks lie on the
 * machine), run_rank.c (what runs on each rank: the program, with its output in files), run_bound.c
 * (which binds a rank where the launcher has no words for it), run_output.c (the ranks' output as
 * one), run_report.c (what is said of a job that failed), run_words.c.
 *
 * Words reach the program as they are: there is no shell anywhere.
 */
#ifndef PAR_RUN_H
#define PAR_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "par/par.h"

enum { RUN_AUTO, RUN_OPENMPI, RUN_MPICH, RUN_SLURM }; /* launchers */
enum {
    RUN_PATH = 1024,
    RUN_NAME = 64,
    RUN_GPUS = 64,  /* of a host */
    RUN_STOPPED = 4 /* exit code of a run that was asked to end */
};

/* A list of words that ends with NULL, as execv takes it. */
typedef struct {
    char **words;
    int n;
} run_words;

/** Add a copy of printf's text; without memory the program ends with a message. */
void run_word(run_words *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
void run_words_free(run_words *list);

/* The words as a POSIX shell would have to be given them, with spaces between; malloc'ed. */
char *run_quote(char *const *words, int n);

typedef struct {
    int64_t ranks, restarts;
    const char *parallel, *set, *hosts, *hostfile, *run;
    int launcher;
    bool print, check;
    run_words environment; /* NAME=VALUE */
    run_words program;     /* and its words */
} run_settings;

/* What the command line says, and the program's words but for pairs that are none. True: help
 * was asked for and is printed. */
bool run_options_read(run_settings *s, int argc, char **argv, par_problems *problems);

bool run_is_train_llm(const run_settings *s);
/* The directory that train_llm's own words name; NULL: none. */
const char *run_program_directory(const run_settings *s);
/* Adds words for a job whose folder is `directory`. */
void run_program_prepare(run_settings *s, const char *directory);
/* And for one that starts again: where it began with --resume DIR, it goes on from its own newest
 * checkpoint, if there is one. */
void run_program_again(run_settings *s);

/* Whether the program's words give `option` this value. */
bool run_program_has(const run_settings *s, const char *option, const char *value);
/* The GPU that train_llm is told to take, among those that are visible; -1: by the rank. */
int run_program_gpu(const run_settings *s);
/* The layout in the program's words, dp filled up to the ranks; sizes 0: it is not one of them. */
void run_program_layout(const run_settings *s, par_layout *out);

/* Where ranks lie on the machine. */
typedef struct {
    par_topology *machine;     /* with the ranks on it, if `placed`; NULL: it cannot be read */
    bool placed, bound, gpus;  /* each rank to a memory node; each rank has a GPU */
    int cores;                 /* of this host, for this job */
    int hosts, per_host;       /* if placed; and ranks of a host */
    int share;                 /* ranks of a memory node, if that makes the map; else 0 */
    int n_gpus, gpu[RUN_GPUS]; /* indices of the GPUs that a host's ranks see, in that order */
    const char *why;           /* not bound because */
    par_layout layout;
} run_map;

/* Ranks of the job will be on this host, as far as it can be known. */
bool run_map_is_here(const run_settings *s);
/* `slurm`: the hosts are those of the Slurm job around it. */
void run_map_find(const run_settings *s, bool slurm, run_map *out);
/* The flags of that MPI's launcher, and where these cannot say the map, what stands in front of the
 * program; changes `bound` where threads of memory nodes are not known. */
void run_map_words(run_map *m, int mpi, run_words *words, run_words *binder);
/* Which ranks lie where, and what that means for the axes, where there is anything to choose. */
void run_map_print(const run_map *m, FILE *file);
void run_map_free(run_map *m);

/* How a job is started, and what its launcher does with signals. */
typedef struct {
    run_map map;
    run_words words;      /* the launcher and its flags */
    run_words binder;     /* in front of the program: what binds its rank; empty: the launcher */
    int stop, kill;       /* signals to it: all ranks save and end; all end at once */
    int save;             /* ... all save and go on; 0: it may not take one to them */
    char about[RUN_PATH]; /* one line for people */
} run_launch;

/* PAR_ERR_OPTION: there is none, or not the one that was asked for. */
par_status run_launch_find(const run_settings *s, run_launch *out);
void run_launch_free(run_launch *l);

/* The path of this program. */
void run_self(char out[RUN_PATH]);

/* "DIRECTORY/rank-00003.out" and so on; kind: out, err, status. */
void run_rank_file(char out[RUN_PATH], const char *directory, int rank, const char *kind);

/* What is known of a rank from its status file. */
typedef struct {
    bool began, ended;
    int code, signal; /* of its end */
    long pid;
    double began_s, ended_s; /* seconds since the epoch, its host's clock */
    char host[RUN_NAME];
} run_rank_status;

void run_rank_read(const char *directory, int rank, run_rank_status *out);

/* The ranks' output as it comes. */
typedef struct run_output run_output;
run_output *run_output_create(const char *directory, int ranks);
void run_output_show(run_output *o, bool last);
void run_output_destroy(run_output **o);

/* To stderr: who failed first, how, where, its last lines. Returns the job's exit code. `may_stop`:
 * RUN_STOPPED is the end of a job that was asked to end, and no failure. `killed`: when a user had
 * it killed, on this host's clock; infinite: never. */
int run_report(const char *directory, int ranks, int launcher_status, double seconds, bool may_stop,
               double killed);

#endif
