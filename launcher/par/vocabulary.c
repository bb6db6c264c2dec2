/*
 * Trained vocabularies under their names, and UTF-8. See vocabulary.h. Files are renamed one by
 * one, merges first: with merges of another vocabulary opening it fails, so a crash in between is
 * never taken for a tokenizer.
 */
#define _DEFAULT_SOURCE /* flock */
#define _XOPEN_SOURCE   700
#include "vocabulary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"merges.txt", "vocab.json"};

enum { N_FILES = 2, NAME = 4352, BLOCK = 1 << 16, CHARACTER = 3 /* bytes behind its first */ };

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
        if (rename(from, to) != 0)
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

int64_t vocabulary_first_bad(const char *path) {
    static const char *const known[] = {"\xff\xfe", "\xfe\xff", "\x1f\x8b", "\x28\xb5"};
    static unsigned char block[BLOCK];
    int64_t at = 0, bad = -1; /* of the block's front */
    size_t n = 0, got;
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    /* packed by gzip or zstd, or UTF-16 with its mark: it is looked at when it is read */
    bool done = false;
    got = fread(block, 1, 2, file);
    for (int i = 0; i < 4; i++) done = done || (got == 2 && memcmp(block, known[i], 2) == 0);
    rewind(file);
    while (bad < 0 && !done) {
        got = fread(block + n, 1, sizeof block - n, file);
        n += got;
        /* A character that the block cuts waits for the rest of it. */
        size_t i = 0, last = got ? CHARACTER : 0;
        while (bad < 0 && i + last < n) {
            size_t k = par_utf8_length(block + i, n - i);
            if (k == 0) bad = at + (int64_t)i;
            i += k;
        }
        memmove(block, block + i, n - i);
        at += (int64_t)i;
        n -= i;
        done = got == 0;
    }
    fclose(file);
    return bad;
}
