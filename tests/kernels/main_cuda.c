/*
 * The kernel cases for the "cuda" backend: on the emulator (tests/cuda), whose module lies in the
 * folder cuda/ beside this program, or with PAR_TEST_GPU=1 on a GPU, with the module beside libpar.
 * PAR_MODULE_PATH overrides both.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

int main(int argc, char **argv) {
    char path[1024];
    const char *gpu = getenv("PAR_TEST_GPU");
    char *slash = strrchr(argv[0], '/');
    if ((!gpu || strcmp(gpu, "1") != 0) && !getenv("PAR_MODULE_PATH")) {
        snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
                 slash ? argv[0] : ".");
        setenv("PAR_MODULE_PATH", path, 1);
    }
    return bench_main("cuda", argc, argv);
}
