/* nccl-loader LIBRARY WHAT N RANK: nccl-program's work by a library that is loaded for itself. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int (*program)(int argc, char **argv);
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library) *(void **)(void *)&program = dlsym(library, "nccl_program");
    if (library && program) return program(argc - 1, argv + 1);
    fprintf(stderr, "nccl-loader: %s\n", dlerror());
    return 2;
}
