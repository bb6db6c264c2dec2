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

enum { MAX_SEGMENTS = 512, BLOCKS = 1 << 15 };

typedef struct {
    uintptr_t begin, end;
    allocations_owner owner;
} segment;

static segment segments[MAX_SEGMENTS];
static int n_segments;
static bool counting;
static unsigned chosen = 1u << BY_LIBPAR;
static bool for_good;
static int64_t until_failure; /* allocations of the chosen; 0: none fails, -1: it has */
static allocations_count now;

bool allocations_can_count(void) {
    return !HAVE_SANITIZER;
}

const char *allocations_owner_name(allocations_owner owner) {
    static const char *const names[ALLOCATIONS_OWNERS] = {
        "libpar", "libc", "MPI", "oneDNN and C++", "jansson and xxHash", "HDF5", "test", "other"};
    return names[owner];
}

static allocations_owner owner_of(const char *path) {
    static const struct {
        const char *part;
        allocations_owner owner;
    } table[] = {{"libpar.so", BY_LIBPAR},   {"libmpi", BY_MPI},        {"libopen-", BY_MPI},
                 {"openmpi", BY_MPI},        {"mca_", BY_MPI},          {"pmix", BY_MPI},
                 {"libevent", BY_MPI},       {"libhwloc", BY_MPI},      {"libucp", BY_MPI},
                 {"libuct", BY_MPI},         {"libucs", BY_MPI},        {"libfabric", BY_MPI},
                 {"libpsm", BY_MPI},         {"libdnnl", BY_ONEDNN},    {"libstdc++", BY_ONEDNN},
                 {"libjansson", BY_JANSSON}, {"libxxhash", BY_JANSSON}, {"libhdf5", BY_HDF5},
                 {"libgomp", BY_OTHER},      {"libc.so", BY_LIBC},      {"libm.so", BY_LIBC},
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

/* Blocks of the chosen owners by address. NULL: never used; the table's own address: free again */
static const void *blocks[BLOCKS];
static int n_used, n_live;

void allocations_choose(unsigned owners, bool all_behind) {
    chosen = owners;
    for_good = all_behind;
}

void allocations_begin(void) {
    n_segments = 0;
    dl_iterate_phdr(add_library, NULL);
    memset(&now, 0, sizeof now);
    memset(blocks, 0, sizeof blocks);
    n_used = n_live = 0;
    now.kept = -heap_in_use();
    counting = true;
}

void allocations_end(allocations_count *out) {
    counting = false;
    now.kept += heap_in_use();
    now.live = n_live;
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

static char locked;

static const void **find(const void *p, bool free_too) {
    size_t i = (uintptr_t)p / 16 % BLOCKS;
    while (blocks[i] && blocks[i] != p && !(free_too && blocks[i] == blocks)) i = (i + 1) % BLOCKS;
    return &blocks[i];
}

static void lock(void) {
    while (__atomic_test_and_set(&locked, __ATOMIC_ACQUIRE)) continue;
}

static void unlock(void) {
    __atomic_clear(&locked, __ATOMIC_RELEASE);
}

static void keep_block(const void *p) {
    lock();
    if (n_used < BLOCKS / 2) {
        const void **at = find(p, true);
        n_used += *at == NULL;
        n_live++;
        *at = p;
    }
    unlock();
}

/* True: it was there. */
static bool drop_block(const void *p) {
    lock();
    const void **at = find(p, false);
    bool there = *at != NULL;
    if (there) *at = blocks;
    n_live -= there;
    unlock();
    return there;
}

typedef enum { FAILS, GOES, IS_KEPT } fate;

/* Several threads may count at once; they add atomically. */
static fate count(size_t nbytes, const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    allocations_owner owner = BY_OTHER;
    if (!counting) return GOES;
    for (int i = 0; i < n_segments; i++)
        if (at >= segments[i].begin && at < segments[i].end) owner = segments[i].owner;
    __atomic_fetch_add(&now.n[owner], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&now.nbytes[owner], (int64_t)nbytes, __ATOMIC_RELAXED);
    if (owner == BY_LIBPAR && !now.first_libpar) now.first_libpar = caller;
    if (!(chosen >> owner & 1)) return GOES;
    if (until_failure < 0 && for_good) return FAILS;
    if (until_failure <= 0 || __atomic_sub_fetch(&until_failure, 1, __ATOMIC_RELAXED) != 0)
        return IS_KEPT;
    until_failure = -1;
    return FAILS;
}

/* A block as its fate is. */
static void *made(void *p, fate f) {
    if (p && f == IS_KEPT) keep_block(p);
    return p;
}

static void *none(void) {
    errno = ENOMEM;
    return NULL;
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
    fate f = count(nbytes, __builtin_return_address(0));
    return f == FAILS ? none() : made(real.malloc(nbytes), f);
}

void *calloc(size_t n, size_t nbytes) {
    if (!look_up()) return take_early(n * nbytes);
    fate f = count(n * nbytes, __builtin_return_address(0));
    return f == FAILS ? none() : made(real.calloc(n, nbytes), f);
}

void *realloc(void *old, size_t nbytes) {
    if (!look_up()) return NULL;
    fate f = count(nbytes, __builtin_return_address(0));
    if (f == FAILS) return none();
    if (!is_early(old)) {
        bool kept = counting && old && drop_block(old);
        void *moved = real.realloc(old, nbytes);
        if (!moved && kept) keep_block(old);
        return made(moved, f);
    }
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
    if (counting) drop_block(p);
    real.free(p);
}

int posix_memalign(void **out, size_t alignment, size_t nbytes) {
    if (!look_up()) return ENOMEM;
    fate f = count(nbytes, __builtin_return_address(0));
    int error = f == FAILS ? ENOMEM : real.posix_memalign(out, alignment, nbytes);
    if (error == 0) made(*out, f);
    return error;
}

void *aligned_alloc(size_t alignment, size_t nbytes) {
    if (!look_up()) return NULL;
    fate f = count(nbytes, __builtin_return_address(0));
    return f == FAILS ? none() : made(real.aligned_alloc(alignment, nbytes), f);
}

void *memalign(size_t alignment, size_t nbytes) {
    if (!look_up()) return NULL;
    fate f = count(nbytes, __builtin_return_address(0));
    return f == FAILS ? none() : made(real.memalign(alignment, nbytes), f);
}
#endif
