/* A tokenizer's files: which belong to it, what tells it from others, what checkpoints store. */
#ifndef TRAIN_LLM_TOKENIZER_FILES_H
#define TRAIN_LLM_TOKENIZER_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "par/par.h"

/* A tokenizer. Of a run, files [n_files] are rank 0's, or all ranks' where a checkpoint carries
 * it. */
enum { LLM_TOKENIZER_FILES = 8, LLM_TOKENIZER_PATH = 4096, LLM_TOKENIZER_NBYTES = 64 << 20 };
typedef struct {
    char name[256];
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

/* Names that its files may have, beside a .vocab; NULL behind the last. The first of them decide
 * about ids, the others are what other programs look for beside those. */
enum { LLM_TOKENIZER_DECIDING = 6 };
extern const char *const llm_tokenizer_names[];

/* The tokenizer of a path ("bytes", a file, a folder), as far as it can be read: path, name, files
 * and id. Opening it says what is wrong. */
void llm_tokenizer_look(llm_tokenizer *, const char *path);
/* The tokenizer of a path if it is still the one of this id; false: it is not; none is known. */
bool llm_tokenizer_look_again(llm_tokenizer *, const char *path, const char *id);
/* One of its files; NULL, with errno: ENOENT also for what is no file or has no bytes, EFBIG for
 * what no tokenizer has. */
FILE *llm_tokenizer_open_file(const char *path, int64_t *nbytes);
/* Its blobs: all of its files, or none where they are more than LLM_TOKENIZER_NBYTES. */
void llm_tokenizer_carry(llm_tokenizer *);
void llm_tokenizer_drop(llm_tokenizer *);

#endif
