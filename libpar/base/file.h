/*
 * Files that are read and written whole. A reader maps a file or takes it into memory. A writer
 * replaces a file atomically, so that nobody sees half of one: it fills a temporary file in the
 * same directory, syncs it, renames it over the target and syncs the directory. The temporary
 * file's name is the target's and PAR__TEMPORARY, and its writer holds a lock on it: what a killed
 * process left there is overwritten by the next writer of the same target, and a second writer at
 * the same time is refused.
 *
 * Below them: reads and writes that go on after a short one and after EINTR. A failed fsync is
 * never tried again, as the kernel may have dropped the pages that it could not write.
 */
#ifndef PAR__FILE_H
#define PAR__FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/status.h"

/* PAR_ERR_IO, "PATH: cannot be VERB: " and errno's text; of writing, with what to do about it. */
par_status par__read_error(const char *path, const char *verb);
par_status par__write_error(const char *path, const char *verb);
/* "; " and what to do about an error of writing, or "". */
const char *par__write_remedy(int error);

/* What is there, of a link itself or what it points to. PAR_ERR_IO: nobody knows, as the folder or
 * its server cannot be asked; it is not `there` then. */
struct stat;
par_status par__look(const char *path, bool follow, struct stat *info, bool *there);
par_status par__file_exists(const char *path, bool *there);

/* As rename of a file, also on file systems that give no name that is taken (EEXIST): there the
 * file of that name goes first. */
int par__rename_over(const char *from, const char *to);

/* All nbytes, at an offset, or where the descriptor stands. path: for messages. */
par_status par__read_at(int fd, const char *path, void *data, size_t nbytes, int64_t offset);
par_status par__write_at(int fd, const char *path, const void *data, size_t nbytes, int64_t offset);
par_status par__write(int fd, const char *path, const void *data, size_t nbytes);
/* Close what was written; an error of closing counts unless there was one before. */
par_status par__close(int fd, const char *path, par_status before);

/* The names in a folder are on the disk on return; of the second, those in the folder of `path`. A
 * file system that cannot sync a folder says EINVAL (fsync(2)): what was written and renamed there
 * is as durable as it gets, and that is not an error. */
par_status par__sync_directory(const char *path);
par_status par__sync_parent(const char *path);

/* A new file with these bytes, synced, under its own name at once. */
par_status par__write_file(const char *path, const void *data, size_t nbytes);
/* malloc'ed, a zero behind it. PAR_ERR_FORMAT above max bytes. Here and in par__map_open also for a
 * Git LFS pointer, which stands where the file should. */
par_status par__read_file(const char *path, int64_t max, char **out, size_t *nbytes);

/* What a clone without git-lfs has in place of a large file, three lines of text, is
 * PAR_ERR_FORMAT. */
par_status par__refuse_pointer(const char *path, const void *data, size_t nbytes);

/* A read-only mapping (mapping.c). Another process that truncates the file while it is mapped kills
 * readers with SIGBUS, unless par_guard_files was called: then they read zeros, and look at
 * par__map_check before they believe what they have read. */
typedef struct {
    const uint8_t *data; /* NULL if the file is empty */
    size_t nbytes;
} par__map;

par_status par__map_open(const char *path, par__map *out);
void par__map_close(par__map *map);
/* PAR_ERR_IO if the file has become shorter. */
par_status par__map_check(const par__map *map, const char *path);
/* Close what was read and led to `st`: that, or par__map_check's error in its place. */
par_status par__map_end(par__map *map, const char *path, par_status st);

#define PAR__TEMPORARY ".par-tmp"

typedef struct {
    int fd;           /* -1: closed */
    const char *path; /* borrowed until commit or abort */
    char *temporary;
    char *block;    /* small pieces wait in it, so that each is not a system call */
    size_t n_block; /* bytes that wait */
} par__writer;

/* What is there under the name and is not a plain file (a directory, a device) is not replaced, nor
 * is what another writer is about to replace: PAR_ERR_IO. */
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
/* All of it with these bytes. */
par_status par__replace_file(const char *path, const void *data, size_t nbytes);

#endif
