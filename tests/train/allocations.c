/*
 * The malloc of this program: passes every call on to libc's and, while counting, adds it to the
 * library that holds the return address. A function of libc that allocates for its caller (fopen,
 * qsort, asprintf) counts as libc's.
 */
#define _GNU_SOURCE
#include "allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAVE_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAVE_SANITIZER 1
#endif
#endif
#ifndef HAVE_SANITIZER
#define HAVE_SANITIZER 0
#endif

enum { MAX_SEGMENTS = 512 };

typedef struct {
    uintptr_t begin, end;
    allocations_owner owner;
} segment;

static segment segments[MAX_SEGMENTS];
static int n_segments;
static bool counting;
static int64_t until_failure; /* allocations of libpar; 0: none fails, -1: it has */
static allocations_count now;

bool allocations_can_count(void) {
    return !HAVE_SANITIZER;
}

const char *allocations_owner_name(allocations_owner owner) {
    static const char *const names[ALLOCATIONS_OWNERS] = {"libpar",         "libc", "MPI",
                                                          "oneDNN and C++", "test", "other"};
    return names[owner];
}

static allocations_owner owner_of(const char *path) {
    static const struct {
        const char *part;
        allocations_owner owner;
    } table[] = {{"libpar.so", BY_LIBPAR}, {"libmpi", BY_MPI},     {"libopen-", BY_MPI},
                 {"openmpi", BY_MPI},      {"mca_", BY_MPI},       {"pmix", BY_MPI},
                 {"libevent", BY_MPI},     {"libhwloc", BY_MPI},   {"libucp", BY_MPI},
                 {"libuct", BY_MPI},       {"libucs", BY_MPI},     {"libfabric", BY_MPI},
                 {"libpsm", BY_MPI},       {"libdnnl", BY_ONEDNN}, {"libstdc++", BY_ONEDNN},
                 {"libgomp", BY_OTHER},    {"libc.so", BY_LIBC},   {"libm.so", BY_LIBC},
                 {"ld-linux", BY_LIBC}};
    if (path[0] == 0) return BY_TEST; /* the program itself */
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(name, table[i].part)) return table[i].owner;
    return BY_OTHER;
}

static int add_library(struct dl_phdr_info *info, size_t size, void *user) {
    for (int i = 0; i < info->dlpi_phnum && n_segments < MAX_SEGMENTS; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X)) continue;
        uintptr_t begin = info->dlpi_addr + h->p_vaddr;
        segments[n_segments++] = (segment){begin, begin + h->p_memsz, owner_of(info->dlpi_name)};
    }
    return 0;
}

static int64_t heap_in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
}

void allocations_begin(void) {
    n_segments = 0;
    dl_iterate_phdr(add_library, NULL);
    memset(&now, 0, sizeof now);
    now.kept = -heap_in_use();
    counting = true;
}

void allocations_end(allocations_count *out) {
    counting = false;
    now.kept += heap_in_use();
    *out = now;
}

bool allocations_fail(int64_t n) {
    bool failed = until_failure < 0;
    until_failure = n;
    return failed;
}

#if !HAVE_SANITIZER
/* dlsym itself may allocate before the functions are known: that comes from here and is never
 * freed. */
static char early[65536];
static size_t early_used;

static void *take_early(size_t nbytes) {
    size_t begin = (early_used + 15) / 16 * 16;
    if (nbytes > sizeof early - begin) return NULL;
    early_used = begin + nbytes;
    return early + begin;
}

static bool is_early(const void *p) {
    return (const char *)p >= early && (const char *)p < early + sizeof early;
}

/* False: this one fails. Several threads may count at once; they add atomically. */
static bool count(size_t nbytes, const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    allocations_owner owner = BY_OTHER;
    if (!counting) return true;
    for (int i = 0; i < n_segments; i++)
        if (at >= segments[i].begin && at < segments[i].end) owner = segments[i].owner;
    __atomic_fetch_add(&now.n[owner], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&now.nbytes[owner], (int64_t)nbytes, __ATOMIC_RELAXED);
    if (owner == BY_LIBPAR && !now.first_libpar) now.first_libpar = caller;
    if (owner != BY_LIBPAR || until_failure <= 0 || --until_failure > 0) return true;
    until_failure = -1;
    return false;
}

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    int state; /* 0: unknown, 1: being looked up, 2: known */
} real;

static bool look_up(void) {
    if (real.state == 2) return true;
    if (real.state == 1) return false;
    real.state = 1;
    *(void **)&real.malloc = dlsym(RTLD_NEXT, "malloc");
    *(void **)&real.calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&real.realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real.free = dlsym(RTLD_NEXT, "free");
    *(void **)&real.posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&real.aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&real.memalign = dlsym(RTLD_NEXT, "memalign");
    real.state = 2;
    return true;
}

void *malloc(size_t nbytes) {
    if (!look_up()) return take_early(nbytes);
    return count(nbytes, __builtin_return_address(0)) ? real.malloc(nbytes) : NULL;
}

void *calloc(size_t n, size_t nbytes) {
    if (!look_up()) return take_early(n * nbytes);
    return count(n * nbytes, __builtin_return_address(0)) ? real.calloc(n, nbytes) : NULL;
}

void *realloc(void *old, size_t nbytes) {
    if (!look_up()) return NULL;
    if (!count(nbytes, __builtin_return_address(0))) return NULL;
    if (!is_early(old)) return real.realloc(old, nbytes);
    void *block = real.malloc(nbytes);
    if (block)
        memcpy(block, old,
               nbytes < (size_t)(early + sizeof early - (char *)old)
                   ? nbytes
                   : (size_t)(early + sizeof early - (char *)old));
    return block;
}

void free(void *p) {
    if (!p || is_early(p) || !look_up()) return;
    real.free(p);
}

int posix_memalign(void **out, size_t alignment, size_t nbytes) {
    if (!look_up()) return ENOMEM;
    return count(nbytes, __builtin_return_address(0)) ? real.posix_memalign(out, alignment, nbytes)
                                                      : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t nbytes) {
    if (!look_up()) return NULL;
    return count(nbytes, __builtin_return_address(0)) ? real.aligned_alloc(alignment, nbytes)
                                                      : NULL;
}

void *memalign(size_t alignment, size_t nbytes) {
    if (!look_up()) return NULL;
    return count(nbytes, __builtin_return_address(0)) ? real.memalign(alignment, nbytes) : NULL;
}
#endif
