/* The kernel cases for the "cpu" backend, after a line with the names of two kernels, which tell
 * its rung. */
#include <stdio.h>

#include "bench.h"

int main(int argc, char **argv) {
    const par_backend *cpu;
    if (par_backend_get("cpu", &cpu) == PAR_OK)
        printf("# %s %s\n", cpu->kernels[PAR_OP_GEMM].name, cpu->kernels[PAR_OP_ROPE].name);
    return bench_main("cpu", argc, argv);
}
