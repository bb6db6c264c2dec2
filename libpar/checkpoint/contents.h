/* The parts of contents.c that other files hold: a manifest's head, and its tensors. */
#ifndef PAR__CHECKPOINT_CONTENTS_H
#define PAR__CHECKPOINT_CONTENTS_H

#include <jansson.h>

#include "libpar/checkpoint/checkpoint.h"

/* The object that ends before its shards, and how many there are: numbers, pairs, the index. */
par_status par__contents_head(par_checkpoint *c, const char *path, const char *text, size_t nbytes,
                              size_t *n_ranks);
/* The logical tensors of what is stored, sorted; each element must be there once. */
par_status par__contents_tensors(par_checkpoint *c, const char *path);
/* A copy of n bytes and a zero that is the checkpoint's; NULL: more text than the manifest had. */
const char *par__contents_text(par_checkpoint *c, const char *text, size_t n);

#endif
