/*
 * A brief fuzz run of the targets that libFuzzer drives: a sound file, mutated with a fixed seed.
 * The targets abort when a promise is broken; under a sanitizer every out-of-bounds read is found
 * too.
 */
#ifndef PAR_TESTS_MUTATE_H
#define PAR_TESTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

enum { MUTATE_CAPACITY = 8192 }; /* bytes of a seed and of what it becomes */

/* The next number in [0, n) of the series that *state, not 0, is at: xorshift64*, Marsaglia
 * 2003. */
static inline size_t mutate_draw(uint64_t *state, size_t n) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (size_t)((*state * 2685821657736338717u) >> 33) % (n ? n : 1);
}

/* The target gets the seed, then 4000 mutations of it that depend on `first` alone. */
void mutate_run(int (*target)(const uint8_t *, size_t), const void *seed, size_t n_seed,
                uint64_t first);

#endif
