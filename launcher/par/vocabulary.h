/*
 * What `par data` does around vocabularies: a trained one waits under a temporary name until the
 * tokens are there too.
 */
#ifndef VOCABULARY_H
#define VOCABULARY_H

#include "par/par.h"

/* The two names of OUT.tokenizer, and the lock of the temporary one. */
typedef struct {
    char final[4096], temporary[4096];
    int lock;
} vocabulary_files;

/* A folder for the files of a vocabulary, beside its final name. A second process is refused; what
 * a killed one left is used again. */
par_status vocabulary_begin(const char *out, vocabulary_files *names);
/* Both files under their final names; an older vocabulary there is replaced. */
par_status vocabulary_keep(vocabulary_files *names);
/* The temporary folder goes, with what is in it. */
void vocabulary_drop(vocabulary_files *names);

#endif
