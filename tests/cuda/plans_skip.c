/* The plans' suite where cuDNN is not installed: a visible skip. */
#include "harness.h"

static void skip(void) {
    harness_skip("no cuDNN and CUDA toolkit on this machine");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{.name = "plans", .run = skip}};
    return harness_main("cuda_plans", cases, 1, argc, argv);
}
