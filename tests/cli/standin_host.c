/*
 * A host with oddities, by LD_PRELOAD: STANDIN_NO_COPIES forbids copies between processes, as a
 * container's seccomp does, STANDIN_CLOCK_S is how many seconds its clock is ahead. STANDIN_MOUNT
 * is what its file systems lack, of these words:
 *   replace: rename gives no name that is taken (EEXIST)
 *   space: it does not tell its free space
 *   order: a file is written from its beginning to its end alone (EINVAL)
 */
#undef _FILE_OFFSET_BITS /* both forms of each call are defined here, under their own names */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t
process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n_local,
                 const struct iovec *remote, unsigned long n_remote, unsigned long flags) {
    if (!getenv("STANDIN_NO_COPIES"))
        return syscall(SYS_process_vm_readv, pid, local, n_local, remote, n_remote, flags);
    errno = EPERM;
    return -1;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *t) {
    const char *ahead = getenv("STANDIN_CLOCK_S");
    int status = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME && ahead) t->tv_sec += atoi(ahead);
    return status;
}

static bool lacks(const char *what) {
    const char *words = getenv("STANDIN_MOUNT");
    return words && strstr(words, what);
}

__attribute__((visibility("default"))) int rename(const char *from, const char *to) {
    if (!lacks("replace") || access(to, F_OK) != 0)
        return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0u);
    errno = EEXIST;
    return -1;
}

#define SPACE(name, type)                                                                          \
    __attribute__((visibility("default"))) int name(const char *path, struct type *out) {          \
        int (*original)(const char *, struct type *);                                              \
        void *found = dlsym(RTLD_NEXT, #name);                                                     \
        memcpy(&original, &found, sizeof original);                                                \
        int status = original(path, out);                                                          \
        if (status == 0 && lacks("space")) memset(out, 0, sizeof *out);                            \
        return status;                                                                             \
    }
SPACE(statvfs, statvfs)
SPACE(statvfs64, statvfs64)

#define ORDER(name, type)                                                                          \
    __attribute__((visibility("default"))) ssize_t name(int fd, const void *data, size_t n,        \
                                                        type at) {                                 \
        struct stat info;                                                                          \
        if (!lacks("order") || (fstat(fd, &info) == 0 && info.st_size == (off_t)at))               \
            return syscall(SYS_pwrite64, fd, data, n, at);                                         \
        errno = EINVAL;                                                                            \
        return -1;                                                                                 \
    }
ORDER(pwrite, off_t)
ORDER(pwrite64, off64_t)
