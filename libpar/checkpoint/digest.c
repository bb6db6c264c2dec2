/*
 * Files of checkpoints: whole reads and writes at offsets, creation with fsync of file and
 * directory, digests. A short write goes on, EINTR is tried again; a failed fsync is never tried
 * again, as the kernel may have dropped the pages that it could not write.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

struct par__digest {
    XXH3_state_t *state;
};

par_status par__digest_create(par__digest **out) {
    par__digest *d = malloc(sizeof *d);
    if (d) d->state = XXH3_createState();
    if (!d || !d->state) {
        free(d);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a digest");
    }
    XXH3_128bits_reset(d->state);
    *out = d;
    return PAR_OK;
}

void par__digest_destroy(par__digest **digest) {
    if (!*digest) return;
    XXH3_freeState((*digest)->state);
    free(*digest);
    *digest = NULL;
}

void par__digest_add(par__digest *digest, const void *data, size_t nbytes) {
    XXH3_128bits_update(digest->state, data, nbytes);
}

static void hex(XXH128_hash_t hash, char out[PAR__HASH]) {
    snprintf(out, PAR__HASH, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

void par__digest_end(par__digest *digest, char out[PAR__HASH]) {
    hex(XXH3_128bits_digest(digest->state), out);
    XXH3_128bits_reset(digest->state);
}

void par__hash(const void *data, size_t nbytes, char out[PAR__HASH]) {
    hex(XXH3_128bits(data, nbytes), out);
}

par_status par__path(char out[PAR__PATH], const char *directory, const char *name) {
    int n = snprintf(out, PAR__PATH, "%s/%s", directory, name);
    if (n < 0 || n >= PAR__PATH)
        PAR_FAIL(PAR_ERR_ARG, "%s/%s: is too long; legal: %d bytes", directory, name,
                 PAR__PATH - 1);
    return PAR_OK;
}

par_status par__io_error(const char *path, const char *what) {
    int error = errno;
    PAR_FAIL(PAR_ERR_IO, "%s: %s: %s%s", path, what, strerror(error), par__write_remedy(error));
}

par_status par__write_at(int fd, const char *path, const void *data, size_t nbytes,
                         int64_t offset) {
    const char *from = data;
    while (nbytes > 0) {
        ssize_t n = pwrite(fd, from, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO;
        if (n <= 0) return par__io_error(path, "write");
        from += n;
        offset += n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

par_status par__read_at(int fd, const char *path, void *data, size_t nbytes, int64_t offset) {
    char *to = data;
    while (nbytes > 0) {
        ssize_t n = pread(fd, to, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return par__io_error(path, "read");
        if (n == 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: ends at byte %lld", path, (long long)offset);
        to += n;
        offset += n;
        nbytes -= (size_t)n;
    }
    return PAR_OK;
}

par_status par__close(int fd, const char *path, par_status before) {
    if (close(fd) != 0 && before == PAR_OK) return par__io_error(path, "close");
    return before;
}

par_status par__sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return par__io_error(path, "open");
    par_status st = fsync(fd) == 0 ? PAR_OK : par__io_error(path, "fsync");
    return par__close(fd, path, st);
}

par_status par__write_file(const char *path, const void *data, size_t nbytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return par__io_error(path, "create");
    par_status st = par__write_at(fd, path, data, nbytes, 0);
    if (st == PAR_OK && fsync(fd) != 0) st = par__io_error(path, "fsync");
    return par__close(fd, path, st);
}

static par_status read_open_file(int fd, const char *path, int64_t max, char **out,
                                 size_t *nbytes) {
    struct stat info;
    if (fstat(fd, &info) != 0) return par__io_error(path, "stat");
    if (!S_ISREG(info.st_mode)) PAR_FAIL(PAR_ERR_FORMAT, "%s: is no plain file", path);
    if (info.st_size > max)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %lld bytes; legal: at most %lld", path,
                 (long long)info.st_size, (long long)max);
    char *data = malloc((size_t)info.st_size + 1);
    if (!data)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %lld bytes", path,
                 (long long)info.st_size);
    par_status st = par__read_at(fd, path, data, (size_t)info.st_size, 0);
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
    if (fd < 0) return par__io_error(path, "open");
    par_status st = read_open_file(fd, path, max, out, nbytes);
    close(fd);
    return st;
}

/* What is made anew is synced in its parent, so that a checkpoint in it is not lost with it. */
static par_status make_directory(const char *path) {
    char parent[PAR__PATH];
    struct stat info;
    if (mkdir(path, 0777) != 0) {
        int error = errno;
        if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return PAR_OK;
        errno = error;
        if (error == EEXIST)
            PAR_FAIL(PAR_ERR_IO, "%s: is there and is no directory; legal: the name of a directory",
                     path);
        return par__io_error(path, "make directory");
    }
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    return par__sync_directory(slash ? parent : ".");
}

par_status par__make_directories(const char *path) {
    char part[PAR__PATH];
    if (strlen(path) >= sizeof part) PAR_FAIL(PAR_ERR_ARG, "%s: is too long", path);
    for (size_t i = 1; path[i]; i++) {
        if (path[i] != '/' || path[i - 1] == '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        PAR_TRY(make_directory(part));
    }
    PAR_TRY(make_directory(path));
    return PAR_OK;
}

par_status par__remove_directory(const char *path) {
    DIR *d = opendir(path);
    par_status st = PAR_OK;
    if (!d) return errno == ENOENT ? PAR_OK : par__io_error(path, "open");
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(d), e->d_name, 0) != 0) st = par__io_error(path, e->d_name);
    }
    closedir(d);
    if (rmdir(path) != 0 && st == PAR_OK) st = par__io_error(path, "remove");
    return st;
}
