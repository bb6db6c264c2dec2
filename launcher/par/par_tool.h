/* par: the tool beside train_llm. A command is a function that gets the words after its name and
 * returns the exit code. */
#ifndef PAR_TOOL_H
#define PAR_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#include "par/par.h"

enum { PAR_TOOL_INPUT = 2 }; /* exit code: bad options or input */

/* The command line of a command into its rows, at most 32, of one group, to which --help is added;
 * rows of words get their memory. Problems are added. True: help was asked for and is printed, so
 * the command ends. */
bool par_tool_read(const par_option *rows, int n, const char *usage, int argc, char **argv,
                   par_problems *problems);
/* Says the problems of a command's line; returns the exit code, 0 if there are none. */
int par_tool_refuse(const char *command, par_problems *problems);

/* Seconds of a clock that does not jump; seconds since 1970. */
double par_tool_seconds(void);
double par_tool_date(void);

/* What commands write, and so what may be replaced by it. */
typedef enum {
    PAR_OUTPUT_PAGE,
    PAR_OUTPUT_SVG,
    PAR_OUTPUT_PNG,
    PAR_OUTPUT_HDF5,
    PAR_OUTPUT_FOLDED,
    PAR_OUTPUT_MATRIX,
    PAR_OUTPUT_MATRIX_CSV,
    PAR_OUTPUT_COST_CSV,
    PAR_OUTPUT_TOPOLOGY,
    PAR_OUTPUT_MEASUREMENT,
    PAR_OUTPUT_TOKENS,
    PAR_OUTPUT_INDEX
} par_output;
/* Before any work: a plain file under this name that is of another kind is a problem. NULL, nothing
 * there, an empty file: none. What is no plain file is left to who writes. */
void par_tool_output(const char *option, const char *path, par_output kind, par_problems *problems);
/* A file with these bytes, under another name first: nobody sees half of it, and what is there
 * stays if it cannot be written. What is there and is no plain file (a device) is written to. */
par_status par_tool_write(const char *path, const void *data, size_t nbytes);

/* As rename of a file, also on file systems that give no name that is taken (EEXIST): there the
 * file of that name goes first. */
int par_tool_rename(const char *from, const char *to);

/* The folder of pages: `run` itself, or the newest one beside a log or a directory of checkpoints,
 * or beside the log in a run's directory. */
void par_pages_find(const char *run, char *directory, size_t nbytes);

/* A command that shows a communication matrix. */
typedef struct {
    const char *command, *usage;
    const char *name, *help;               /* of the word that it takes */
    int (*prepare)(const char *directory); /* what comes first; returns an exit code. NULL: none */
} par_matrix_words;
/* Its line, then the matrix that the word names. */
int par_matrix_command(const par_matrix_words *words, int argc, char **argv);

int par_check(int argc, char **argv);
int par_checkpoint_command(int argc, char **argv);
int par_compare(int argc, char **argv);
int par_cost(int argc, char **argv);
int par_data(int argc, char **argv);
int par_diagnose(int argc, char **argv);
int par_diagnose_memory(int argc, char **argv);
int par_diagnose_comm_matrix(int argc, char **argv);
int par_diagnose_nccl(int argc, char **argv);
int par_diagnose_timeline(int argc, char **argv);
int par_doctor(int argc, char **argv);
int par_report(int argc, char **argv);
int par_run(int argc, char **argv);
int par_run_bound(int argc, char **argv);
int par_run_rank(int argc, char **argv);
int par_topology_command(int argc, char **argv);

#endif
