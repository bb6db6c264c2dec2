/*
 * What `par data` does around texts and vocabularies: a trained vocabulary waits under a temporary
 * name until the tokens are there too, and texts that are not UTF-8 are pointed out.
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

/* Bytes of UTF-8 (RFC 3629) at the beginning of a file; -1: all of it, it cannot be read, or it is
 * converted when it is read (gzip, zstd, UTF-16). */
int64_t vocabulary_first_bad(const char *path);

#endif
