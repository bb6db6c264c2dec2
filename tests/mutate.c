/* Mutations of sound files; see mutate.h. */
#include "mutate.h"

#include <string.h>

enum { RUNS = 4000 };

static uint64_t state;

static size_t draw(size_t n) {
    return mutate_draw(&state, n);
}

static size_t insert(uint8_t *b, size_t n, size_t at, const void *piece, size_t m) {
    if (n + m > MUTATE_CAPACITY) return n;
    memmove(b + at + m, b + at, n - at);
    memcpy(b + at, piece, m);
    return n + m;
}

static size_t insert_word(uint8_t *b, size_t n) {
    static const char *const words[] = {"{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        ",",
                                        ":",
                                        "null",
                                        "true",
                                        "-1",
                                        "0",
                                        "1e999",
                                        "99999999999999999999",
                                        "9223372036854775807",
                                        "\\u0000",
                                        "\xff",
                                        "F64",
                                        "\"dtype\"",
                                        "\"shape\"",
                                        "..",
                                        "/",
                                        "2147483648"};
    const char *word = words[draw(sizeof words / sizeof *words)];
    return insert(b, n, draw(n + 1), word, strlen(word));
}

static size_t mutate(uint8_t *b, size_t n) {
    static const uint64_t special[] = {0,      1,          0x7f,       0xff,      0x7fff,
                                       0xffff, 0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t at = draw(n), m = 1 + draw(16);
    uint8_t piece[16];
    if (n == 0) return insert_word(b, n);
    switch (draw(7)) {
    case 0: b[at] ^= (uint8_t)(1u << draw(8)); return n;
    case 1: b[at] = (uint8_t)draw(256); return n;
    case 2: /* a number of 1, 2, 4 or 8 bytes */
        m = (size_t)1 << draw(4);
        if (at + m <= n) memcpy(b + at, &special[draw(10)], m);
        return n;
    case 3: /* cut out */
        if (m > n - at) m = n - at;
        memmove(b + at, b + at + m, n - at - m);
        return n - m;
    case 4: /* repeat a piece elsewhere */
        if (m > n - at) m = n - at;
        memcpy(piece, b + at, m);
        return insert(b, n, draw(n + 1), piece, m);
    case 5: return draw(8) ? n : at; /* cut short, seldom */
    default: return insert_word(b, n);
    }
}

void mutate_run(int (*target)(const uint8_t *, size_t), const void *seed, size_t n_seed,
                uint64_t first) {
    uint8_t b[MUTATE_CAPACITY];
    target(seed, n_seed);
    for (int i = 0; i < RUNS; i++) {
        size_t n = n_seed;
        state = first * 1000003 + (uint64_t)i * 2 + 1;
        memcpy(b, seed, n_seed);
        for (size_t k = 1 + draw(4); k > 0; k--) n = mutate(b, n);
        target(b, n);
    }
}
