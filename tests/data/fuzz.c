/* Token files and Megatron's index, mutated: see ../mutate.h. */
#include "../mutate.h"

#include <string.h>

#include "../harness.h"

#define LLVMFuzzerTestOneInput fuzz_tokens
#include "fuzz_tokens.c"
#undef LLVMFuzzerTestOneInput

static void put(uint8_t *b, size_t *n, uint64_t value, int nbytes) {
    for (int i = 0; i < nbytes; i++) b[(*n)++] = (uint8_t)(value >> (8 * i));
}

static void tokens(void) {
    static uint8_t b[MUTATE_CAPACITY];
    size_t n = 0;
    put(b, &n, 0, 3);
    put(b, &n, 20240520, 4);
    put(b, &n, 1, 4);
    put(b, &n, 20, 4);
    n = 3 + 1024;
    for (int i = 0; i < 20; i++) put(b, &n, (uint64_t)i * 97, 2);
    mutate_run(fuzz_tokens, b, n, 1);
    mutate_run(fuzz_tokens, b, 3 + 80, 2); /* raw u16, and a header that is too short */
}

static void index_file(void) {
    static uint8_t b[MUTATE_CAPACITY];
    size_t n = 0;
    put(b, &n, 1, 1);
    put(b, &n, 34 + 12 * 2 + 8 * 2, 2);
    memcpy(b + n, "MMIDIDX\0\0", 9);
    n += 9;
    put(b, &n, 1, 8);
    put(b, &n, 8, 1);
    put(b, &n, 2, 8);
    put(b, &n, 2, 8);
    put(b, &n, 3, 4);
    put(b, &n, 5, 4);
    put(b, &n, 0, 8);
    put(b, &n, 6, 8);
    put(b, &n, 0, 8);
    put(b, &n, 2, 8);
    for (int i = 0; i < 8; i++) put(b, &n, (uint64_t)i, 2);
    mutate_run(fuzz_tokens, b, n, 3);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"tokens", tokens, 0, NULL, 0},
                                         {"index", index_file, 0, NULL, 0}};
    return harness_main("fuzz", cases, HARNESS_COUNT(cases), argc, argv);
}
