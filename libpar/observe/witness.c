/* Who was gone first. See witness.h. */
#define _GNU_SOURCE
#include "witness.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hang.h"

/* At the start, when pages are being made, looks for them are so close, and so many. */
enum { EARLY = 200 };
static const double EARLY_S = 0.02;

void par__witness_lock(par__page_file *mine) {
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mine->alive, &how);
    pthread_mutexattr_destroy(&how);
}

void par__witness_begin(par__witness *w, const char *directory, par__page_file *mine,
                        par__page_file **others) {
    w->directory = directory;
    w->mine = mine;
    w->others = others;
    pthread_mutex_lock(&mine->alive);
    mine->flight.n_watched = 1;
}

/* The lock's word, which is the kernel's as much as the C library's (futex(2)): 0, or the holder's
 * thread, and bits. It is looked at and not tried, as who tries a lock holds it for a moment, or is
 * told alone that it was left. NULL: it is somewhere else. */
static int *word_of(par__page_file *file) {
#ifdef __GLIBC__
    return &file->alive.__data.__lock;
#else
    (void)file;
    return NULL;
#endif
}

static int load(par__page_file *file) {
    return __atomic_load_n(word_of(file), __ATOMIC_ACQUIRE);
}

static void wake(const int *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 1 << 12, NULL, NULL, 0);
}

static par__page_file *map(const char *directory, int rank) {
    char path[4200];
    struct stat is;
    par__page_path(path, sizeof path, directory, rank);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *file = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &is) == 0 && is.st_size == sizeof(par__page_file))
        file = mmap(NULL, sizeof(par__page_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    return file == MAP_FAILED ? NULL : file;
}

/* Ranks make their pages one after the other; a watchdog counts once it holds its lock. */
static void find(par__witness *w) {
    par__flight *mine = &w->mine->flight, page;
    w->off = w->off || !word_of(w->mine);
    for (int r = 0; r < mine->size && !w->off && mine->n_watched < mine->size; r++) {
        if (r == mine->rank || w->others[r]) continue;
        if (!par__page_read(w->directory, r, mine->run, &page)) continue;
        w->off = strcmp(page.host, mine->host) != 0;
        par__page_file *file = w->off ? NULL : map(w->directory, r);
        if (file && load(file) != 0)
            w->others[r] = file, mine->n_watched++;
        else if (file)
            munmap(file, sizeof *file);
    }
}

/* How many are gone, and the last of them. */
static int count_gone(const par__witness *w, int *last) {
    int n = 0;
    for (int r = 0; r < w->mine->flight.size; r++)
        if (w->others[r] && load(w->others[r]) & FUTEX_OWNER_DIED) n++, *last = r;
    return n;
}

/* The second look at all of them begins behind the end of one that the first look has found. */
static void look(par__witness *w) {
    par__flight *mine = &w->mine->flight;
    int first = 0;
    if (w->off || mine->n_watched < mine->size || mine->witness != 0) return;
    if (count_gone(w, &first) == 0) return;
    mine->witness = count_gone(w, &first) == 1 ? first + 1 : PAR__WITNESS_SEVERAL;
    for (int r = 0; r < mine->size; r++)
        if (w->others[r]) wake(word_of(w->others[r]));
}

/* The lock of the next rank that lives, with the bit that has its end wake this thread. */
static const int *choose(par__witness *w, int *value) {
    int size = w->mine->flight.size;
    for (int i = 1; i < size; i++) {
        par__page_file *file = w->others[(w->mine->flight.rank + i) % size];
        if (!file) continue;
        int word = load(file);
        if (word == 0 || word & FUTEX_OWNER_DIED) continue;
        *value = word | (int)FUTEX_WAITERS;
        if (word == *value || __atomic_compare_exchange_n(word_of(file), &word, *value, false,
                                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return word_of(file);
    }
    *value = 0;
    return &w->idle;
}

bool par__witness_wait(par__witness *w, double seconds) {
    int value;
    find(w);
    look(w);
    bool whole = w->off || w->mine->flight.n_watched == w->mine->flight.size;
    if (!whole && w->n_early++ < EARLY && seconds > EARLY_S) seconds = EARLY_S;
    const struct timespec most = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    const int *word = choose(w, &value);
    __atomic_store_n(&w->sleep, word, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&w->end, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, word, FUTEX_WAIT, value, &most, NULL, 0);
    look(w);
    return !__atomic_load_n(&w->end, __ATOMIC_SEQ_CST);
}

void par__witness_end(par__witness *w) {
    __atomic_store_n(&w->ended, 1, __ATOMIC_SEQ_CST);
    for (int r = 0; r < w->mine->flight.size; r++)
        if (w->others[r]) munmap(w->others[r], sizeof *w->others[r]);
    pthread_mutex_unlock(&w->mine->alive);
}

void par__witness_stop(par__witness *w) {
    const struct timespec pause = {.tv_nsec = 50000};
    __atomic_store_n(&w->end, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&w->ended, __ATOMIC_SEQ_CST)) {
        const int *word = __atomic_load_n(&w->sleep, __ATOMIC_SEQ_CST);
        if (word) wake(word); /* again, as it may not have slept yet */
        nanosleep(&pause, NULL);
    }
}
