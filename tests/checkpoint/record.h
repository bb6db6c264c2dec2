/*
 * A record of the calls that change files below a folder, in their order and with their data: open,
 * pwrite, fsync, rename and the others stand before libc's, for libpar and for libhdf5, in a
 * program that is linked with this or where it is preloaded. Calls of threads, and of all processes
 * that share the log, are recorded one after the other. The calls are made, too; only a sync that
 * is to be dropped is not. PAR_POWER_DROP in the environment says which: a number, the
 * process's sync of this number, from 0 on; else those of paths that hold this text.
 *
 * Preloaded, PAR_RECORD_LOG and PAR_RECORD_FOLDER (which is there) say where and what to record.
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
    char call[24]; /* its name */
    int pid, fd, flags;
    char path[256],
        to[256]; /* below the folder; "": the folder itself. Of a descriptor: when opened */
    int64_t at, n;
    char *data; /* [n], owned */
} record;

/* From now on, behind what is in the log; the folder is named as the calls name it. */
void record_begin(const char *log, const char *folder);
void record_end(void);
/* The records [n] of a log, until record_free. */
record *record_read(const char *log, int *n);
void record_free(record *records, int n);

#endif
