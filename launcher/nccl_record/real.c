/*
 * NCCL's own function of a name: the one that the caller would get without the recorder. It is the
 * next one in the order in which the process was linked; else, as for a module that was loaded for
 * itself, the one of the caller's own libraries; else that of a libnccl.so.2 that is loaded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "record.h"

/* Of a library that is not this one. */
static void *symbol_in(void *library, const char *name) {
    static const char here = 0;
    Dl_info own, other;
    void *found = library ? dlsym(library, name) : NULL;
    if (!found || !dladdr(&here, &own) || !dladdr(found, &other)) return NULL;
    return own.dli_fbase == other.dli_fbase ? NULL : found;
}

void *record_real(const char *name, const void *caller) {
    static _Atomic(void *) callers_library;
    Dl_info info;
    void *found = dlsym(RTLD_NEXT, name);
    if (found) return found;
    if (caller && dladdr(caller, &info) && info.dli_fname) {
        void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        found = symbol_in(library, name);
        if (found) atomic_store(&callers_library, library);
    } else {
        found = symbol_in(atomic_load(&callers_library), name);
    }
    return found ? found : symbol_in(dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD), name);
}

void *record_real_kept(_Atomic(void *) *place, const char *name, const void *caller) {
    void *found = atomic_load_explicit(place, memory_order_acquire);
    if (found) return found;
    found = record_real(name, caller);
    if (!found)
        fprintf(stderr,
                "libpar_nccl_record: there is no %s in this process; load NCCL with the program\n",
                name);
    atomic_store_explicit(place, found, memory_order_release);
    return found;
}

void *record_driver(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name), *driver;
    if (found) return found;
    driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    return driver ? dlsym(driver, name) : NULL;
}
