/*
 * libpar's side of the module: every backend by its name, and the loading of libpar_cuda.so, at the
 * first time that "cuda" is asked for. It is looked for beside the file that libpar is in, which is
 * libpar.so or a program that linked libpar.a. PAR_MODULE_PATH names another folder. Else it is
 * looked for where the loader looks, in that file's run path first. What fails is said once, with
 * the file and what it lacks, and stays so: a process has one answer.
 */
#define _GNU_SOURCE
#include "libpar/module/module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backends.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static par_device_params selected = {.local_size = 1, .device = -1};
static par__module loaded;
static par_status status;
static bool tried;
static char reason[1024];

static par_status host_fail(par_status st, const char *text) {
    return par_error_set(st, "%s", text);
}

/* "DIRECTORY/libpar_cuda.so" for the folder that holds libpar, or for PAR_MODULE_PATH. */
static void *open_file(void) {
    char path[1024];
    const char *folder = getenv("PAR_MODULE_PATH");
    Dl_info here;
    if (folder && *folder) {
        snprintf(path, sizeof path, "%s/libpar_cuda.so", folder);
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (dladdr(&loaded, &here) && here.dli_fname) {
        snprintf(path, sizeof path, "%s", here.dli_fname);
        char *slash = strrchr(path, '/');
        if (slash && (size_t)(slash - path) + sizeof "/libpar_cuda.so" < sizeof path) {
            strcpy(slash, "/libpar_cuda.so");
            void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            /* a file that is there and cannot be loaded says why; only an absent one is looked for
             * elsewhere */
            FILE *there = file ? NULL : fopen(path, "rb");
            if (there) fclose(there);
            if (file || there) return file;
        }
    }
    return dlopen("libpar_cuda.so", RTLD_NOW | RTLD_LOCAL);
}

static par_status load(void) {
    static const par__module_host host = {host_fail};
    par__module_contract *contract;
    par__module_open *open;
    void *file = open_file();
    if (!file) {
        const char *why = dlerror();
        PAR_FAIL(
            PAR_ERR_UNSUPPORTED,
            "device cuda: its module cannot be loaded (%s); build with CUDA (meson setup build "
            "-Dcuda=enabled) and install its libraries, or use "
            "device cpu",
            why ? why : "no reason given");
    }
    *(void **)(void *)&contract = dlsym(file, "par_cuda_contract");
    *(void **)(void *)&open = dlsym(file, "par_cuda_open");
    if (!contract || !open || contract() != par__module_fingerprint())
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: libpar_cuda.so was built from other sources than libpar, whose "
                 "structs differ: build and install both together");
    return open(&host, &selected, &loaded);
}

par_status par_device_select(const par_device_params *params) {
    PAR_REQUIRE(params && params->local_rank >= 0 && params->local_rank < params->local_size &&
                params->device >= -1);
    pthread_mutex_lock(&lock);
    par_status st =
        tried ? par_error_set(PAR_ERR_ARG, "the device was chosen when the module was loaded")
              : PAR_OK;
    if (st == PAR_OK) selected = *params;
    pthread_mutex_unlock(&lock);
    return st;
}

par_status par_backend_get(const char *name, const par_backend **out) {
    PAR_REQUIRE(name && out);
    if (strcmp(name, "cuda") != 0) return par__backend_find(name, out);
    pthread_mutex_lock(&lock);
    if (!tried) {
        status = load();
        if (status != PAR_OK) snprintf(reason, sizeof reason, "%s", par_error());
    } else if (status != PAR_OK) {
        par_error_set(status, "%s", reason);
    }
    tried = true;
    pthread_mutex_unlock(&lock);
    if (status == PAR_OK) *out = &loaded.backend;
    return status;
}
