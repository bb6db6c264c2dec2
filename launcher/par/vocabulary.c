/*
 * Trained vocabularies under their names. See vocabulary.h. Files are renamed one by
 * one, merges first: with merges of another vocabulary opening it fails, so a crash in between is
 * never taken for a tokenizer.
 */
#define _DEFAULT_SOURCE /* flock */
#define _XOPEN_SOURCE   700
#include "par_tool.h"
#include "vocabulary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"merges.txt", "vocab.json"};

enum { N_FILES = 2, NAME = 4352 };

/* The folder, locked: what a killed process left in it is overwritten file by file. It is opened
 * again if another process gave it its final name before it was locked here. */
static int open_locked(const char *path) {
    for (;;) {
        struct stat opened, named;
        if (mkdir(path, 0755) != 0 && errno != EEXIST) return -1;
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) continue;
        if (fd < 0) return -1;
        bool held = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        if (held && fstat(fd, &opened) == 0 && stat(path, &named) == 0 &&
            opened.st_ino == named.st_ino)
            return fd;
        close(fd);
        errno = EWOULDBLOCK;
        if (!held) return -1;
    }
}

par_status vocabulary_begin(const char *out, vocabulary_files *names) {
    int n = snprintf(names->final, sizeof names->final, "%s.tokenizer", out);
    int k = snprintf(names->temporary, sizeof names->temporary, "%s.tokenizer.par-tmp", out);
    if (n < 0 || k < 0 || k >= (int)sizeof names->temporary)
        return par_error_set(PAR_ERR_OPTION, "--out: name is longer than %zu bytes",
                             sizeof names->temporary - 20);
    names->lock = open_locked(names->temporary);
    if (names->lock >= 0) return PAR_OK;
    if (errno == EWOULDBLOCK)
        return par_error_set(
            PAR_ERR_IO,
            "%s: another process is writing it (%s is locked); wait for it, or name another --out",
            names->final, names->temporary);
    return par_error_set(
        PAR_ERR_IO,
        "%s: cannot be made: %s; legal: --out in a directory that is there and can be written to",
        names->final, strerror(errno));
}

par_status vocabulary_keep(vocabulary_files *names) {
    char from[NAME], to[NAME];
    bool whole = rename(names->temporary, names->final) == 0;
    for (int i = 0; i < N_FILES && !whole; i++) {
        snprintf(from, sizeof from, "%s/%s", names->temporary, files[i]);
        snprintf(to, sizeof to, "%s/%s", names->final, files[i]);
        if (par_tool_rename(from, to) != 0)
            return par_error_set(
                PAR_ERR_IO, "%s: cannot be given its name: %s; the tokens need this vocabulary", to,
                strerror(errno));
    }
    if (!whole) rmdir(names->temporary);
    close(names->lock);
    return PAR_OK;
}

void vocabulary_drop(vocabulary_files *names) {
    char path[NAME];
    for (int i = 0; i < N_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", names->temporary, files[i]);
        unlink(path);
    }
    rmdir(names->temporary);
    close(names->lock);
}
