/*
 * Mapped readers and atomic writers. The order of the writer's steps is the guarantee: data is on
 * the disk before the name points to it (fsync, then rename), and the name is on the disk before
 * commit returns (fsync of the directory).
 */
#define _DEFAULT_SOURCE   /* flock */
#define _FILE_OFFSET_BITS 64
#include "libpar/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static par_status io_error(const char *what, const char *path) {
    return par_error_set(PAR_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

const char *par__write_remedy(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT: return "; make room, or name another place";
    case EFBIG: return "; raise the limit of a file's size (ulimit -f), or name another place";
    case ENOENT:
    case ENOTDIR: return "; legal: a name in a directory that is there";
    case EACCES:
    case EPERM:
    case EROFS: return "; legal: a name in a directory that can be written to";
    default: return "";
    }
}

/* By the final name: the temporary one says nothing to people. */
static par_status write_error(const char *what, const char *path) {
    int error = errno;
    return par_error_set(PAR_ERR_IO, "%s: cannot be %s: %s%s", path, what, strerror(error),
                         par__write_remedy(error));
}

static par_status map_descriptor(int fd, const char *path, par__map *out) {
    struct stat info;
    if (fstat(fd, &info) != 0) return io_error("read its size", path);
    if (!S_ISREG(info.st_mode)) return par_error_set(PAR_ERR_IO, "%s: is not a regular file", path);
    if (info.st_size == 0) {
        *out = (par__map){NULL, 0};
        return PAR_OK;
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return io_error("map it into memory", path);
    *out = (par__map){data, (size_t)info.st_size};
    return PAR_OK;
}

par_status par__map_open(const char *path, par__map *out) {
    /* Not blocking: opening a FIFO must not hang before fstat can refuse it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return io_error("open it", path);
    par_status st = map_descriptor(fd, path, out);
    close(fd);
    return st;
}

void par__map_close(par__map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->nbytes);
    *map = (par__map){NULL, 0};
}

bool par__file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool par__directory_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Exclusively locked, so that nobody else writes it; empty. Another writer may give the file its
 * final name between this one's opening and locking it: the lock counts only for the file that the
 * name still means. A file system without locks (ENOLCK and the like) has to do without. */
static int open_temporary(const char *temporary) {
    for (;;) {
        struct stat opened, named;
        int fd = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0) return -1;
        bool held = flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR);
        bool same = held && fstat(fd, &opened) == 0 && lstat(temporary, &named) == 0 &&
                    opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
        if (same && ftruncate(fd, 0) == 0) return fd;
        int error = errno;
        close(fd);
        errno = error;
        if (same || (!held && error != EINTR)) return -1;
    }
}

par_status par__writer_open(const char *path, par__writer *out) {
    struct stat info;
    size_t n = strlen(path) + sizeof PAR__TEMPORARY;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return par_error_set(PAR_ERR_IO,
                             "%s: is %s, which is not replaced; legal: the name of a file", path,
                             S_ISDIR(info.st_mode) ? "a directory" : "no plain file");
    char *temporary = malloc(n);
    if (!temporary)
        return par_error_set(PAR_ERR_MEMORY, "%s: no memory for its temporary name", path);
    snprintf(temporary, n, "%s" PAR__TEMPORARY, path);
    int fd = open_temporary(temporary);
    if (fd < 0) {
        par_status st =
            errno == EWOULDBLOCK
                ? par_error_set(
                      PAR_ERR_IO,
                      "%s: another process is writing it (%s is locked); wait for it, or name "
                      "another place",
                      path, temporary)
                : write_error("created", path);
        free(temporary);
        return st;
    }
    *out = (par__writer){fd, path, temporary};
    return PAR_OK;
}

par_status par__writer_write(par__writer *writer, const void *data, size_t nbytes) {
    const char *p = data;
    while (nbytes > 0) {
        /* Linux moves at most 2^31 - 4096 bytes a call. */
        ssize_t n = write(writer->fd, p, nbytes < (1u << 30) ? nbytes : (1u << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return write_error("written", writer->path);
        p += n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

par_status par__writer_patch(par__writer *writer, size_t offset, const void *data, size_t nbytes) {
    const char *p = data;
    while (nbytes > 0) {
        ssize_t n = pwrite(writer->fd, p, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return write_error("written", writer->path);
        p += n;
        offset += (size_t)n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

/* Some file systems cannot sync a directory (EINVAL): their rename is as durable as it gets. */
static par_status sync_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    char *directory =
        slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    par_status st = PAR_OK;
    if (!directory)
        return par_error_set(PAR_ERR_MEMORY, "%s: no memory for its directory's name", path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        st = io_error("open it", directory);
    else if (fsync(fd) != 0 && errno != EINVAL)
        st = io_error("sync it", directory);
    if (fd >= 0) close(fd);
    free(directory);
    return st;
}

/* Complete on the disk, under its temporary name. */
static par_status finish(par__writer *writer) {
    return fsync(writer->fd) == 0 ? PAR_OK : write_error("synced", writer->path);
}

/* Closed, and with it unlocked, only when the temporary name is gone. */
static par_status publish(par__writer *writer) {
    const char *path = writer->path;
    if (rename(writer->temporary, path) != 0) return write_error("given its name", path);
    close(writer->fd);
    free(writer->temporary);
    *writer = (par__writer){-1, NULL, NULL};
    return sync_directory(path);
}

par_status par__writer_commit(par__writer *writer) {
    par_status st = finish(writer);
    if (st == PAR_OK) st = publish(writer);
    par__writer_abort(writer);
    return st;
}

par_status par__writer_commit_pair(par__writer *first, par__writer *second) {
    par_status st = finish(first);
    if (st == PAR_OK) st = finish(second);
    if (st == PAR_OK) st = publish(first);
    if (st == PAR_OK) st = publish(second);
    par__writer_abort(first);
    par__writer_abort(second);
    return st;
}

void par__writer_abort(par__writer *writer) {
    if (!writer->temporary) return;
    unlink(writer->temporary);
    close(writer->fd);
    free(writer->temporary);
    *writer = (par__writer){-1, NULL, NULL};
}
