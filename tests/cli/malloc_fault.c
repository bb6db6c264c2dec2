/* For LD_PRELOAD: the FAIL_CALL-th allocation, from 1, that train_llm, par or libpar asks for on
 * rank FAIL_RANK fails, and all behind it. Where that happens, a line of stderr says so. Where it
 * does not, another one says at the end how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

static bool chosen(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *wanted = getenv("FAIL_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return wanted && atoi(wanted) == (rank ? atoi(rank) : 0);
}

static bool is_ours(const void *caller) {
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/'), *name = slash ? slash + 1 : info.dli_fname;
    return strncmp(name, "libpar.so", 9) == 0 || strcmp(name, "train_llm") == 0 ||
           strcmp(name, "par") == 0;
}

static long calls, at = -1;

__attribute__((destructor)) static void tell(void) {
    char line[64];
    int n = snprintf(line, sizeof line, "malloc_fault: all %ld allocations\n", calls);
    if (at > calls && write(STDERR_FILENO, line, (size_t)n) < 0) return;
}

static bool fails(const void *caller) {
    static const char line[] = "malloc_fault: an allocation fails\n";
    if (at < 0) at = chosen() ? atol(getenv("FAIL_CALL")) : 0;
    if (at == 0 || !is_ours(caller) || __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) < at)
        return false;
    if (calls == at && write(STDERR_FILENO, line, sizeof line - 1) < 0) return true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}
void *calloc(size_t n, size_t nbytes) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, nbytes);
}
void *realloc(void *old, size_t n) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, n);
}
