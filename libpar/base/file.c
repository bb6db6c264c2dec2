/*
 * Files: see file.h. The order of the writer's steps is the guarantee: data is on the disk before
 * the name points to it (fsync, then rename), and the name is on the disk before commit returns
 * (fsync of the directory).
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
#include <sys/stat.h>
#include <unistd.h>

par_status par__read_error(const char *path, const char *verb) {
    return par_error_set(PAR_ERR_IO, "%s: cannot be %s: %s", path, verb, strerror(errno));
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

par_status par__write_error(const char *path, const char *verb) {
    int error = errno;
    return par_error_set(PAR_ERR_IO, "%s: cannot be %s: %s%s", path, verb, strerror(error),
                         par__write_remedy(error));
}

par_status par__look(const char *path, bool follow, struct stat *info, bool *there) {
    *there = (follow ? stat(path, info) : lstat(path, info)) == 0;
    return *there || errno == ENOENT || errno == ENOTDIR ? PAR_OK
                                                         : par__read_error(path, "looked at");
}

par_status par__file_exists(const char *path, bool *there) {
    struct stat info;
    return par__look(path, true, &info, there);
}

int par__rename_over(const char *from, const char *to) {
    if (rename(from, to) == 0) return 0;
    return errno == EEXIST && unlink(to) == 0 ? rename(from, to) : -1;
}

/* ---- descriptors ---- */

par_status par__read_at(int fd, const char *path, void *data, size_t nbytes, int64_t offset) {
    char *to = data;
    while (nbytes > 0) {
        ssize_t n = pread(fd, to, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return par__read_error(path, "read");
        if (n == 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: ends at byte %lld", path, (long long)offset);
        to += n;
        offset += n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

/* offset -1: where the descriptor stands. */
static par_status write_all(int fd, const char *path, const void *data, size_t nbytes,
                            int64_t offset) {
    const char *from = data;
    while (nbytes > 0) {
        ssize_t n = offset < 0 ? write(fd, from, nbytes) : pwrite(fd, from, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO;
        if (n <= 0) return par__write_error(path, "written");
        from += n;
        if (offset >= 0) offset += n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

par_status par__write_at(int fd, const char *path, const void *data, size_t nbytes,
                         int64_t offset) {
    return write_all(fd, path, data, nbytes, offset);
}

par_status par__write(int fd, const char *path, const void *data, size_t nbytes) {
    return write_all(fd, path, data, nbytes, -1);
}

par_status par__close(int fd, const char *path, par_status before) {
    if (close(fd) != 0 && before == PAR_OK) return par__write_error(path, "closed");
    return before;
}

par_status par__sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return par__write_error(path, "opened");
    par_status st = fsync(fd) == 0 || errno == EINVAL ? PAR_OK : par__write_error(path, "synced");
    return par__close(fd, path, st);
}

par_status par__sync_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    char *parent = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!parent) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its folder's name", path);
    par_status st = par__sync_directory(parent);
    free(parent);
    return st;
}

/* ---- whole files ---- */

par_status par__refuse_pointer(const char *path, const void *data, size_t nbytes) {
    static const char begin[] = "version https://git-lfs.github.com/spec/";
    if (nbytes < sizeof begin - 1 || memcmp(data, begin, sizeof begin - 1) != 0) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: is a Git LFS pointer: git lfs pull, in the folder that it was cloned to, fetches "
             "the file",
             path);
}

par_status par__write_file(const char *path, const void *data, size_t nbytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return par__write_error(path, "created");
    par_status st = par__write_at(fd, path, data, nbytes, 0);
    if (st == PAR_OK && fsync(fd) != 0) st = par__write_error(path, "synced");
    return par__close(fd, path, st);
}

static par_status read_descriptor(int fd, const char *path, int64_t max, char **out,
                                  size_t *nbytes) {
    struct stat info;
    if (fstat(fd, &info) != 0) return par__read_error(path, "asked for its size");
    if (!S_ISREG(info.st_mode)) PAR_FAIL(PAR_ERR_FORMAT, "%s: is not a plain file", path);
    if (info.st_size > max)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %lld bytes; legal: at most %lld", path,
                 (long long)info.st_size, (long long)max);
    char *data = malloc((size_t)info.st_size + 1);
    if (!data)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %lld bytes", path,
                 (long long)info.st_size);
    par_status st = par__read_at(fd, path, data, (size_t)info.st_size, 0);
    if (st == PAR_OK) st = par__refuse_pointer(path, data, (size_t)info.st_size);
    if (st != PAR_OK) {
        free(data);
        return st;
    }
    data[info.st_size] = 0;
    *out = data;
    *nbytes = (size_t)info.st_size;
    return PAR_OK;
}

par_status par__read_file(const char *path, int64_t max, char **out, size_t *nbytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return par__read_error(path, "opened");
    par_status st = read_descriptor(fd, path, max, out, nbytes);
    close(fd);
    return st;
}

/* ---- the writer ---- */

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

enum { BLOCK = 1 << 13 };

par_status par__writer_open(const char *path, par__writer *out) {
    struct stat info;
    size_t n = strlen(path) + sizeof PAR__TEMPORARY;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return par_error_set(PAR_ERR_IO, "%s: is %s; it is not replaced; legal: the name of a file",
                             path, S_ISDIR(info.st_mode) ? "a directory" : "not a plain file");
    char *temporary = malloc(n + BLOCK);
    if (!temporary)
        return par_error_set(PAR_ERR_MEMORY, "%s: no host memory for its temporary name", path);
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
                : par__write_error(path, "created");
        free(temporary);
        return st;
    }
    *out = (par__writer){.fd = fd, .path = path, .temporary = temporary, .block = temporary + n};
    return PAR_OK;
}

/* Errors are of the final name: the temporary one says nothing to people. */
static par_status flush(par__writer *writer) {
    size_t n = writer->n_block;
    writer->n_block = 0;
    return n == 0 ? PAR_OK : par__write(writer->fd, writer->path, writer->block, n);
}

par_status par__writer_write(par__writer *writer, const void *data, size_t nbytes) {
    if (nbytes > BLOCK - writer->n_block) PAR_TRY(flush(writer));
    if (nbytes > BLOCK) return par__write(writer->fd, writer->path, data, nbytes);
    if (nbytes > 0) memcpy(writer->block + writer->n_block, data, nbytes);
    writer->n_block += nbytes;
    return PAR_OK;
}

par_status par__writer_patch(par__writer *writer, size_t offset, const void *data, size_t nbytes) {
    PAR_TRY(flush(writer));
    return par__write_at(writer->fd, writer->path, data, nbytes, (int64_t)offset);
}

/* Complete on the disk, under its temporary name. */
static par_status finish(par__writer *writer) {
    PAR_TRY(flush(writer));
    return fsync(writer->fd) == 0 ? PAR_OK : par__write_error(writer->path, "synced");
}

/* Closed, and with it unlocked, only when the temporary name is gone. */
static par_status publish(par__writer *writer) {
    const char *path = writer->path;
    if (par__rename_over(writer->temporary, path) != 0)
        return par__write_error(path, "given its name");
    close(writer->fd);
    free(writer->temporary);
    *writer = (par__writer){.fd = -1};
    return par__sync_parent(path);
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
    *writer = (par__writer){.fd = -1};
}

par_status par__replace_file(const char *path, const void *data, size_t nbytes) {
    par__writer writer;
    PAR_TRY(par__writer_open(path, &writer));
    par_status st = par__writer_write(&writer, data, nbytes);
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}
