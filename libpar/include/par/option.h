/*
 * The option table: one row an option gives its name, type, default, help and legal values;
 * parsing, --help, errors with suggestions and the record of what was set come from the table.
 */
#ifndef PAR_OPTION_H
#define PAR_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    PAR_OPT_BOOL,
    PAR_OPT_INT,
    PAR_OPT_REAL,
    PAR_OPT_TEXT,
    PAR_OPT_CHOICE,
    PAR_OPT_LIST
} par_option_type;

typedef struct {
    const char *name; /* without dashes: "micro-batch" */
    /* BOOL: --x, --no-x; INT: int64_t; REAL: double; TEXT, CHOICE: const char *;
     * LIST: par_int_list */
    par_option_type type;
    void *value;       /* where it is stored; holds the default before parsing */
    const char *group; /* heading in --help */
    const char *help;
    const char *legal; /* CHOICE: "a|b|c"; INT, REAL: "min..max", either may be empty */
    bool set;          /* was given */
} par_option;

typedef struct {
    int n;
    int values[256];
} par_int_list;

/**
 * Parse argv (without argv[0]): --name value, --name=value, --flag, --no-flag. Every problem
 * becomes a line: unknown options with the closest name, values that do not parse or are out of
 * range with the legal ones, missing values, options given twice, words that are no option. Not
 * collective; pure. Text values point into argv.
 */
PAR_API void par_options_parse(par_option *options, int n, int argc, char *const *argv,
                               par_problems *problems);

/** The help text by group, defaults shown, into text[nbytes]. Not collective. */
PAR_API void par_options_help(const par_option *options, int n, const char *usage, char *text,
                              size_t nbytes);

/** The closest of n names to `word` by edit distance, or NULL if none is near. Not collective. */
PAR_API const char *par_closest(const char *word, const char *const *names, int n);

#ifdef __cplusplus
}
#endif
#endif
