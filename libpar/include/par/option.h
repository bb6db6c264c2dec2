/*
 * The option table: a row is all there is to an option. Parsing, --help, refusals with suggestions,
 * and the record of what a run was given come from the rows.
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

/* The type of an option's value, and of what `value` points to. */
typedef enum {
    PAR_OPT_BOOL,     /* bool: --x, --no-x */
    PAR_OPT_INT,      /* int64_t */
    PAR_OPT_REAL,     /* double, finite */
    PAR_OPT_TEXT,     /* const char * */
    PAR_OPT_CHOICE,   /* int: the value of the choice, an enum's say */
    PAR_OPT_LIST,     /* par_int_list: integers with commas between */
    PAR_OPT_WORDS,    /* par_words: --x A B: all up to the next option; more --x add theirs */
    PAR_OPT_OPERANDS, /* par_words: those that are neither an option nor its value, wherever they
                         stand; the name, "RUN", is for people. At most one row */
    PAR_OPT_REST,     /* the same, but behind the first one all is taken, dashes or not */
    PAR_OPT_ABSENT    /* no value: what other programs have and this one has not. Its names are
                         refused with its help, which says what to do instead */
} par_option_type;

/* One legal word of a CHOICE and what it means. An array of them ends with a NULL name. */
typedef struct {
    const char *name;
    int value;
} par_choice;

/* The value of a LIST. */
typedef struct {
    int n;
    int values[256];
} par_int_list;

/* The value of WORDS, OPERANDS and REST: they point into argv. The memory is the caller's. */
typedef struct {
    int n, max;
    const char **words; /* [max], of which n are there; max: as many as argv has are enough */
} par_words;

/* A row of a program's table: all that there is to an option. */
typedef struct {
    const char *name; /* without dashes: "micro-batch" */
    par_option_type type;
    void *value;         /* where it is stored, as the type says */
    const char *initial; /* default, as it is written behind the option; BOOL: "on".
                            NULL: false, 0, no text, an empty list */
    const char *legal;   /* "min..max", either may be empty: of INT, REAL and the numbers of a LIST;
                            of OPERANDS how many words */
    const par_choice *choices; /* CHOICE */
    const char *group;         /* heading in --help; NULL: not there */
    const char *help;          /* what it does, in words; never empty */
    const char *metavar;       /* its value in --help: "FILE"; NULL: N, X or TEXT by type */
    char letter;               /* 'n': -n is the same; 0: none */
    const char *also;  /* what other programs call it, "learning-rate|-l|bf16=bf16|dtype half=fp16":
                         NAME for the same value, NAME=VALUE for this one, NAME THEIRS=VALUE where
                         theirs is another word, or a pattern as of file names ("FILE:*").
                         These names are refused, with what to write, and so are words under the
                         row's own name ("precision bf16-*=bf16"); but
                         +NAME is taken as the row's own, as it means the same. NULL: none */
    unsigned recorded; /* the program's own flags: where the value is recorded */
    int given;         /* set by par_options_parse: how often the command line has it */
} par_option;

/**
 * Store the default of each of n rows, then parse argv (without the program's name): --name value,
 * --name=value, --flag, --no-flag; -h is --help; a +NAME of `also` is a name. Of two equal options
 * the last one wins. A value that is refused leaves the one before it. Every problem becomes a line
 * of `problems`: missing values, words that no row takes, too many or too few words, and unknown
 * options with the closest name, or with what to write for another program's. Values that cannot be
 * read or are out of range come with the legal ones. Text values point into argv or into the rows.
 * Not collective; writes nothing but the values and `given`.
 */
PAR_API void par_options_parse(par_option *options, int n, int argc, char *const *argv,
                               par_problems *problems);

/**
 * `usage`, then the options by group, each with its default, into text[nbytes]; what does not fit
 * is cut. Values need not be stored yet. Not collective.
 */
PAR_API void par_options_help(const par_option *options, int n, const char *usage, char *text,
                              size_t nbytes);

/**
 * Options of a file, after par_options_parse: those that the command line has stay as they are. A
 * line is "key = value" in a part of TOML: a key is a row's name (or a +NAME), with - or _; a value
 * is a number, true or false, a word, a text, or a list [1, 2]. A "text" has the escapes \" \\ \n
 * \t \r \uNNNN (up to 007f), a 'text' has none. # begins a comment. Every problem becomes a line of
 * `problems` that begins with path and line: broken lines, keys that come twice, and values as
 * par_options_parse refuses them. A key that is unknown comes with the closest name, or with what
 * another program's means here. `text` is the file, zero-terminated; it is changed, and text values
 * point into it. Sets `given` of the rows that it has. Not collective.
 */
PAR_API void par_options_load(par_option *options, int n, const char *path, char *text,
                              par_problems *problems);

/**
 * Write the present values as a file for par_options_load, which reads the same values from it, to
 * the bit; no text, no list, words and a choice without a name are left out. Written under a
 * temporary name beside `path`, synced, then renamed.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY.
 */
PAR_API par_status par_options_save(const par_option *options, int n, const char *path);

/**
 * What other programs call the options, by name: a line for each entry of `also` and each ABSENT
 * row with what to write here, into text[nbytes]; what does not fit is cut. Not collective.
 */
PAR_API void par_options_others(const par_option *options, int n, char *text, size_t nbytes);

/** A row's present value as it is written behind the option; "on" or "off"; "" for no text and an
 * empty list. A real number has as many digits as give back the same double. Cut at nbytes. Returns
 * text. Not collective. */
PAR_API const char *par_option_text(const par_option *option, char *text, size_t nbytes);

/** The name of a choice's value, or NULL if none has it. Not collective. */
PAR_API const char *par_choice_name(const par_choice *choices, int value);

/** The closest of n names to `word` by edit distance, or NULL if none is near. Not collective. */
PAR_API const char *par_closest(const char *word, const char *const *names, int n);

#ifdef __cplusplus
}
#endif
#endif
