/* For LD_PRELOAD: the file $BLINK is there for calls 3 and 5 of access() that ask for it, whether
 * it is there or not: one that is made and removed again between two looks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int access(const char *path, int mode) {
    static int (*real)(const char *, int);
    static int calls;
    const char *blinks = getenv("BLINK");
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "access");
    if (blinks && strcmp(path, blinks) == 0 && (++calls == 3 || calls == 5)) return 0;
    return real(path, mode);
}
