/* The kernel cases for the "ref" backend. */
#include "bench.h"

int main(int argc, char **argv) {
    return bench_main("ref", argc, argv);
}
