/*
 * Whole files: mapped read-only for readers, and replaced atomically by writers. A reader never
 * sees half a file: the writer fills a temporary file in the same directory, syncs it, renames it
 * over the target and syncs the directory. The temporary file's name is the target's and
 * PAR__TEMPORARY, and its writer holds a lock on it: what a killed process left there is
 * overwritten by the next writer of the same target, and a second writer at the same time is
 * refused.
 */
#ifndef PAR__DATA_FILE_H
#define PAR__DATA_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/status.h"

/* A read-only mapping. Another process that truncates the file while it is mapped kills readers
 * with SIGBUS. */
typedef struct {
    const uint8_t *data; /* NULL if the file is empty */
    size_t nbytes;
} par__map;

par_status par__map_open(const char *path, par__map *out);
void par__map_close(par__map *map);
/* "; " and what to do about an error of writing, or "". */
const char *par__write_remedy(int error);
bool par__file_exists(const char *path);
bool par__directory_exists(const char *path);

#define PAR__TEMPORARY ".par-tmp"

typedef struct {
    int fd;           /* -1: closed */
    const char *path; /* borrowed until commit or abort */
    char *temporary;
} par__writer;

/* What is there under the name and is no plain file (a directory, a device) is not replaced, nor is
 * what another writer is about to replace: PAR_ERR_IO. */
par_status par__writer_open(const char *path, par__writer *out);
par_status par__writer_write(par__writer *writer, const void *data, size_t nbytes);
/* Overwrite bytes that are already written; the position for par__writer_write stays. */
par_status par__writer_patch(par__writer *writer, size_t offset, const void *data, size_t nbytes);
/* Make the file appear under its name, durably. Closes the writer, also on failure. */
par_status par__writer_commit(par__writer *writer);
/* Two files that belong together: both are complete on the disk before either has its name, so that
 * a full disk leaves the old pair. The first one's name appears first. Closes both, also on
 * failure. */
par_status par__writer_commit_pair(par__writer *first, par__writer *second);
/* Remove the temporary file; nothing happens after a commit. */
void par__writer_abort(par__writer *writer);

#endif
