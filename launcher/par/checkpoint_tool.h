/*
 * par checkpoint: what is in checkpoints, whether they are whole, how two differ, and models from
 * and to other programs' files. Its parts: checkpoint.c (commands and options); list and show,
 * verify, diff, export and convert, average and import in a file each; and what these share:
 * sources of weights, pairs, paths, and how things are said. None of them needs MPI.
 */
#ifndef PAR_CHECKPOINT_TOOL_H
#define PAR_CHECKPOINT_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "par/par.h"

/* Exit codes beside 0 and PAR_TOOL_INPUT: something is damaged, two checkpoints differ. */
enum { CHECKPOINT_FOUND = 1 };

/* What the command line says. */
typedef struct {
    const char *command;
    const char *const *words; /* [n]: checkpoints, or directories of them */
    int n;
    int64_t threads;
    const char *hf, *llmc; /* what is written; what is imported */
    const char *save, *tokenizer;
    int dtype; /* a par_dtype; -1: as it is stored */
    double shard_gb;
    bool verify, weights_only;
} checkpoint_settings;

/* Paths of checkpoints, newest first; zeros: an empty list. */
typedef struct {
    char **paths;
    int n;
} checkpoint_paths;

/* A pair of checkpoints that no training saved: where they come from. Their loss means nothing. */
#define CHECKPOINT_ORIGIN "origin"

/* And one of what par_import_kept said. */
#define CHECKPOINT_KEPT "config.json"

enum { CHECKPOINT_MAX_PAIRS = 192 };

/* Pairs to save, with their text. */
typedef struct {
    par_checkpoint_pair pairs[CHECKPOINT_MAX_PAIRS];
    char names[CHECKPOINT_MAX_PAIRS][64], values[CHECKPOINT_MAX_PAIRS][512];
    int n;
} checkpoint_pairs;

/* An open source of weights: one of the three. */
typedef struct {
    const char *path; /* of a checkpoint: its own, also where a directory was given */
    par_checkpoint *checkpoint;
    par_import *import;
    par_llmc *llmc;
    par_weights weights;
} checkpoint_source;

int checkpoint_list(const checkpoint_settings *s);
int checkpoint_show(const checkpoint_settings *s);
int checkpoint_verify(const checkpoint_settings *s);
int checkpoint_diff(const checkpoint_settings *s);
int checkpoint_export(const checkpoint_settings *s);
int checkpoint_average(const checkpoint_settings *s);
int checkpoint_import(const checkpoint_settings *s);

/* par_checkpoint_open; what it passes over in a directory is printed. */
par_status checkpoint_open(const char *path, par_checkpoint **out);
/* The whole parameter, of this kind, as `dtype`; PAR_ERR_FORMAT: it is not there, or of another
 * shape. */
par_status checkpoint_read_param(const par_checkpoint *c, const char *kind, const par_param *p,
                                 par_dtype dtype, void *dst);
/* Close it also after an error. */
par_status checkpoint_source_open(const char *path, checkpoint_source *out);
par_status checkpoint_source_open_hf(const char *path, checkpoint_source *out);
par_status checkpoint_source_open_llmc(const char *path, checkpoint_source *out);
void checkpoint_source_close(checkpoint_source *source);
/* The model that the pairs describe; PAR_ERR_FORMAT: they do not. */
par_status checkpoint_config(const par_checkpoint *c, par_transformer_config *out);
void checkpoint_pairs_of(const par_transformer_config *config, checkpoint_pairs *out);
/* Where there is none of this name yet, and room. */
void checkpoint_pair_add(checkpoint_pairs *pairs, const char *name, const char *value,
                         par_checkpoint_class class_of);

/* The directory itself if it is a checkpoint, else all in it, also those that were set aside. */
par_status checkpoint_paths_find(const char *directory, checkpoint_paths *out);
void checkpoint_paths_free(checkpoint_paths *paths);
/* Open one that was found. *damage: why it cannot be, malloc'ed; it stays NULL where that is no
 * fault of its files, or there is none. */
par_status checkpoint_open_found(const char *path, par_checkpoint **out, char **damage);
/* One that was found and is not there any more: a run that goes on removes its older ones. */
bool checkpoint_is_gone(const char *path);
/* The value of a pair; NULL: it has none of this name. */
const char *checkpoint_value(const par_checkpoint *c, const char *name);
/* "1.5 GiB" into text; returns it. */
const char *checkpoint_size(double nbytes, char text[32]);
/* "[131, 32]" into text; returns it. */
const char *checkpoint_shape(const par_checkpoint_tensor *t, char text[64]);
/* Print par_error() with the command's name; returns the exit code. */
int checkpoint_failed(const char *command);
/* The same of looking into checkpoints: `st` says whether one is damaged. */
int checkpoint_not_read(const char *command, par_status st);
/* Every byte of n open checkpoints; NULL ones are left out. damage [n]: the first message of each,
 * malloc'ed; NULL: there is none. */
par_status checkpoint_verify_all(par_checkpoint *const *checkpoints, int n, int threads,
                                 char **damage);

#endif
