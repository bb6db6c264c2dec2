/* Calls that change files, recorded: see record.h. */
#undef _FILE_OFFSET_BITS /* both forms of each call are defined here, under their own names */
#define _GNU_SOURCE
#include "record.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FDS = 1024, PATH = 256 };

static struct {
    atomic_bool on;
    pthread_mutex_t mutex;             /* from a call's begin until it is recorded */
    char folder[1024], resolved[4096]; /* as the calls name it, and without links */
    bool ours[FDS];                    /* descriptors of files below the folder */
    char paths[FDS][PATH];
    int log;
    const char *drop; /* PAR_POWER_DROP, or "" */
    long n_syncs;
} now = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* Other processes wait, too. */
static bool enter(void) {
    if (!atomic_load(&now.on)) return false;
    pthread_mutex_lock(&now.mutex);
    while (flock(now.log, LOCK_EX) != 0)
        if (errno != EINTR) abort();
    return true;
}

static void leave(void) {
    flock(now.log, LOCK_UN);
    pthread_mutex_unlock(&now.mutex);
}

static record make(record_kind kind, const char *call) {
    record r = {.kind = kind, .fd = -1, .pid = (int)getpid()};
    snprintf(r.call, sizeof r.call, "%s", call);
    return r;
}

/* To the log: the record, and behind it its bytes. */
static void put(const record *r, const void *data) {
    ssize_t (*original)(int, const void *, size_t);
    void *found = next("write");
    memcpy(&original, &found, sizeof original);
    if (original(now.log, r, sizeof *r) != sizeof *r) abort();
    if (r->n > 0 && original(now.log, data, (size_t)r->n) != r->n) abort();
}

static void whole_path(int directory, const char *path, char out[1024]) {
    char link[64];
    ssize_t used = 0;
    if (path[0] != '/' && directory == AT_FDCWD) {
        if (!getcwd(out, 512)) abort();
        used = (ssize_t)strlen(out);
    } else if (path[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        used = readlink(link, out, 512);
        if (used < 0) abort();
    }
    snprintf(out + used, 1024 - (size_t)used, "%s%s", used ? "/" : "", path);
}

/* The path below the folder; false: it is elsewhere. */
static bool below(int directory, const char *path, char out[PATH]) {
    char whole[1024];
    const char *folder = directory == AT_FDCWD ? now.folder : now.resolved;
    size_t n = strlen(folder);
    whole_path(directory, path, whole);
    if (strncmp(whole, folder, n) != 0 || (whole[n] != '/' && whole[n] != 0)) return false;
    if (snprintf(out, PATH, "%s", whole + n + (whole[n] == '/')) >= PATH) abort();
    return true;
}

static void note_path(record_kind kind, const char *call, int directory, const char *path) {
    record r = make(kind, call);
    if (below(directory, path, r.path)) put(&r, NULL);
}

static void note_paths(record_kind kind, const char *call, const char *from, const char *to) {
    record r = make(kind, call);
    if (below(AT_FDCWD, from, r.path) && below(AT_FDCWD, to, r.to)) put(&r, NULL);
}

static void note_open(const char *call, int fd, const char *path, int flags) {
    record r = make(RECORD_OPEN, call);
    if (!below(AT_FDCWD, path, r.path)) return;
    if (fd >= FDS) abort();
    now.ours[fd] = true;
    strcpy(now.paths[fd], r.path);
    r.fd = fd;
    r.flags = flags;
    put(&r, NULL);
}

static void note_fd(record_kind kind, const char *call, int fd, int64_t at, const void *data,
                    int64_t n) {
    if (fd < 0 || fd >= FDS || !now.ours[fd]) return;
    record r = make(kind, call);
    r.fd = fd;
    r.at = at;
    r.n = n;
    strcpy(r.path, now.paths[fd]);
    put(&r, data);
    if (kind == RECORD_CLOSE) now.ours[fd] = false;
}

/* The call, and if it went well its note; nobody else's comes between. */
#define RECORDED(type, name, parameters, arguments, good, note)                                    \
    type name parameters;                                                                          \
    type name parameters {                                                                         \
        type(*original) parameters;                                                                \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        bool on = enter();                                                                         \
        type result = original arguments;                                                          \
        int error = errno;                                                                         \
        if (on && (good)) note;                                                                    \
        if (on) leave();                                                                           \
        errno = error;                                                                             \
        return result;                                                                             \
    }

RECORDED(int, mkdir, (const char *path, mode_t mode), (path, mode), result == 0,
         note_path(RECORD_MKDIR, "mkdir", AT_FDCWD, path))
RECORDED(int, rmdir, (const char *path), (path), result == 0,
         note_path(RECORD_RMDIR, "rmdir", AT_FDCWD, path))
RECORDED(int, unlink, (const char *path), (path), result == 0,
         note_path(RECORD_UNLINK, "unlink", AT_FDCWD, path))
RECORDED(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), result == 0,
         note_path(flags &AT_REMOVEDIR ? RECORD_RMDIR : RECORD_UNLINK, "unlinkat", fd, path))
RECORDED(int, rename, (const char *from, const char *to), (from, to), result == 0,
         note_paths(RECORD_RENAME, "rename", from, to))
RECORDED(int, link, (const char *from, const char *to), (from, to), result == 0,
         note_paths(RECORD_LINK, "link", from, to))
RECORDED(int, close, (int fd), (fd), result == 0, note_fd(RECORD_CLOSE, "close", fd, 0, NULL, 0))
RECORDED(int, ftruncate, (int fd, off_t n), (fd, n), result == 0,
         note_fd(RECORD_SIZE, "ftruncate", fd, n, NULL, 0))
RECORDED(int, ftruncate64, (int fd, off64_t n), (fd, n), result == 0,
         note_fd(RECORD_SIZE, "ftruncate64", fd, n, NULL, 0))
RECORDED(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), result == 0,
         note_fd(RECORD_RESERVE, "posix_fallocate", fd, at + n, NULL, 0))
RECORDED(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n), result == 0,
         note_fd(RECORD_RESERVE, "posix_fallocate64", fd, at + n, NULL, 0))
RECORDED(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at),
         result > 0, note_fd(RECORD_WRITE, "pwrite", fd, at, data, result))
RECORDED(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at),
         result > 0, note_fd(RECORD_WRITE, "pwrite64", fd, at, data, result))
RECORDED(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), result > 0,
         note_fd(RECORD_WRITE, "write", fd, lseek(fd, 0, SEEK_CUR) - result, data, result))

static bool is_dropped(int fd) {
    if (!*now.drop || fd < 0 || fd >= FDS || !now.ours[fd]) return false;
    if (now.drop[0] < '0' || now.drop[0] > '9') return strstr(now.paths[fd], now.drop) != NULL;
    return now.n_syncs++ == atol(now.drop);
}

/* A sync that is to be dropped is said to have gone well. */
#define RECORDED_SYNC(name)                                                                        \
    int name(int fd);                                                                              \
    int name(int fd) {                                                                             \
        int (*original)(int);                                                                      \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        bool on = enter(), drop = on && is_dropped(fd);                                            \
        int result = drop ? 0 : original(fd), error = errno;                                       \
        if (on && result == 0)                                                                     \
            note_fd(drop ? RECORD_DROPPED : RECORD_SYNC, #name, fd, 0, NULL, 0);                   \
        if (on) leave();                                                                           \
        errno = error;                                                                             \
        return result;                                                                             \
    }

RECORDED_SYNC(fsync)
RECORDED_SYNC(fdatasync)

#define RECORDED_OPEN(name)                                                                        \
    int name(const char *path, int flags, ...);                                                    \
    int name(const char *path, int flags, ...) {                                                   \
        int (*original)(const char *, int, ...);                                                   \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        unsigned mode = flags & O_CREAT ? va_arg(list, unsigned) : 0;                              \
        va_end(list);                                                                              \
        bool on = enter();                                                                         \
        int fd = original(path, flags, mode), error = errno;                                       \
        if (on && fd >= 0) note_open(#name, fd, path, flags);                                      \
        if (on) leave();                                                                           \
        errno = error;                                                                             \
        return fd;                                                                                 \
    }

RECORDED_OPEN(open)
RECORDED_OPEN(open64)

void record_begin(const char *log, const char *folder) {
    const char *drop = getenv("PAR_POWER_DROP");
    now.drop = drop ? drop : "";
    now.n_syncs = 0;
    whole_path(AT_FDCWD, folder, now.folder);
    if (!realpath(folder, now.resolved)) abort();
    memset(now.ours, 0, sizeof now.ours);
    now.log = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (now.log < 0) abort();
    atomic_store(&now.on, true);
}

void record_end(void) {
    atomic_store(&now.on, false);
    close(now.log);
}

__attribute__((constructor)) static void begin_preloaded(void) {
    const char *log = getenv("PAR_RECORD_LOG"), *folder = getenv("PAR_RECORD_FOLDER");
    if (log && folder) record_begin(log, folder);
}
