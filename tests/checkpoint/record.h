/*
 * A record of the calls that change files below a folder, in their order and with their data: this
 * program's own open, pwrite, fsync, rename and the others stand before libc's, for libpar and for
 * libhdf5. Calls of threads are recorded one after the other. The calls are made, too; only a sync
 * that is to be dropped is not: PAR_POWER_DROP=N in the environment, the Nth from 0 on.
 */
#ifndef PAR_TESTS_CHECKPOINT_RECORD_H
#define PAR_TESTS_CHECKPOINT_RECORD_H

#include <stdint.h>

typedef enum {
    RECORD_OPEN, /* with its flags; also what it creates or truncates */
    RECORD_CLOSE,
    RECORD_WRITE,   /* n bytes at `at` */
    RECORD_SIZE,    /* becomes `at` bytes long */
    RECORD_RESERVE, /* becomes at least `at` bytes long */
    RECORD_SYNC,
    RECORD_DROPPED, /* a sync that was not made */
    RECORD_MKDIR,
    RECORD_RMDIR,
    RECORD_LINK,
    RECORD_UNLINK,
    RECORD_RENAME
} record_kind;

typedef struct {
    record_kind kind;
    const char *call; /* its name */
    int fd, flags;
    char path[256],
        to[256]; /* below the folder; "": the folder itself. Of a descriptor: when opened */
    int64_t at, n;
    char *data; /* [n], owned */
} record;

/* Record from now on what happens below the folder, named as the calls name it. */
void record_begin(const char *folder);
/* The records [n], until record_free. */
record *record_end(int *n);
void record_free(record *records, int n);

#endif
