/*
 * Mapped files, and what happens to a reader when one becomes shorter: see file.h and par/guard.h.
 * The handler may run at any moment, so it only walks a list whose entries stay for ever: a closed
 * mapping's entry is taken by a later one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "par/guard.h"

typedef struct mapped {
    struct mapped *next;
    _Atomic uintptr_t begin; /* 0: free */
    _Atomic size_t nbytes;
    atomic_bool lost; /* some of it is zeros by now */
    dev_t device;     /* the file's */
    ino_t number;
} mapped;

static mapped *_Atomic list;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of who adds and frees */
static struct sigaction before;
static size_t page;

static mapped *find(uintptr_t at) {
    for (mapped *m = list; m; m = m->next) {
        uintptr_t begin = m->begin;
        if (begin && at >= begin && at - begin < m->nbytes) return m;
    }
    return NULL;
}

static par_status add(const char *path, const void *data, const struct stat *info) {
    pthread_mutex_lock(&mutex);
    mapped *m = list;
    while (m && m->begin) m = m->next;
    if (!m && (m = calloc(1, sizeof *m))) {
        m->next = list;
        list = m;
    }
    if (m) {
        m->lost = false;
        m->device = info->st_dev;
        m->number = info->st_ino;
        m->nbytes = (size_t)info->st_size;
        m->begin = (uintptr_t)data;
    }
    pthread_mutex_unlock(&mutex);
    return m ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "%s: no host memory to map it", path);
}

par_status par__map_open(const char *path, par__map *out) {
    struct stat info;
    par_status st = PAR_OK;
    void *data = NULL;
    /* Not blocking: opening a FIFO must not hang before fstat can refuse it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return par__read_error(path, "opened");
    if (fstat(fd, &info) != 0)
        st = par__read_error(path, "asked for its size");
    else if (!S_ISREG(info.st_mode))
        st = par_error_set(PAR_ERR_IO, "%s: is %s", path,
                           S_ISDIR(info.st_mode) ? "a folder; legal: the name of a file in it"
                                                 : "not a plain file");
    else if (info.st_size > 0)
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) st = par__read_error(path, "mapped into memory");
    close(fd);
    if (st == PAR_OK && data && (st = add(path, data, &info)) != PAR_OK)
        munmap(data, (size_t)info.st_size);
    PAR_TRY(st);
    par__map map = {data, data ? (size_t)info.st_size : 0};
    st = par__refuse_pointer(path, map.data, map.nbytes);
    if (st != PAR_OK)
        par__map_close(&map);
    else
        *out = map;
    return st;
}

void par__map_close(par__map *map) {
    mapped *m = map->data ? find((uintptr_t)map->data) : NULL;
    if (map->data) munmap((void *)(uintptr_t)map->data, map->nbytes);
    if (m) m->begin = 0;
    *map = (par__map){NULL, 0};
}

par_status par__map_check(const par__map *map, const char *path) {
    const mapped *m = map->data ? find((uintptr_t)map->data) : NULL;
    struct stat now;
    /* within its last page a file is cut without a signal, and zeros are there, too */
    bool cut = m && stat(path, &now) == 0 && now.st_dev == m->device && now.st_ino == m->number &&
               (size_t)now.st_size < m->nbytes;
    if (!m || (!m->lost && !cut)) return PAR_OK;
    PAR_FAIL(PAR_ERR_IO,
             "%s: became shorter, or could not be read, while it was in use; legal: a file that "
             "stays as it is (copy to another name, then rename)",
             path);
}

par_status par__map_end(par__map *map, const char *path, par_status st) {
    par_status lost = par__map_check(map, path);
    par__map_close(map);
    return lost != PAR_OK ? lost : st;
}

/* Zeros from the page of the address up to the mapping's end: what was cut off ends there. mmap is
 * a system call of its own on Linux, and safe here. */
static void on_sigbus(int number, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr;
    int error = errno;
    mapped *m = info->si_code > 0 ? find(at) : NULL; /* of the kernel, not of kill */
    if (m) {
        uintptr_t from = at & ~(uintptr_t)(page - 1);
        void *zeros = mmap((void *)from, m->begin + m->nbytes - from, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        m->lost = true;
        errno = error;
        if (zeros != MAP_FAILED) return;
    }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(number, &before, NULL); /* the access is done again, and ends the process */
}

par_status par_guard_files(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    action.sa_sigaction = on_sigbus;
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (sigaction(SIGBUS, NULL, &now) != 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "SIGBUS cannot be caught here");
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus) return PAR_OK;
    before = now;
    if (sigaction(SIGBUS, &action, NULL) != 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "SIGBUS cannot be caught here");
    return PAR_OK;
}
