/* What a checkpoint records of a trainer: its own pairs, then those of the caller. */
#ifndef PAR__CHECKPOINT_ABOUT_H
#define PAR__CHECKPOINT_ABOUT_H

#include "trainer.h"

enum { PAR__ABOUT_MAX = 64 };

typedef struct {
    par_checkpoint_about about;
    char texts[PAR__ABOUT_MAX][128]; /* of the trainer's own */
    int n;
    par_checkpoint_pair pairs[]; /* [PAR__ABOUT_MAX + the caller's] */
} par__about;

/* To be freed. A caller's pair that has the name of one of the trainer's is left out. */
par_status par__about_make(const par_trainer *t, const par_checkpoint_about *given,
                           par__about **out);

#endif
