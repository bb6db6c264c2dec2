/* The kernel cases for the "cpu" backend. */
#include "bench.h"

int main(int argc, char **argv) {
    return bench_main("cpu", argc, argv);
}
