/*
 * A brief fuzz run of the same targets that libFuzzer drives: sound files, mutated with a fixed
 * seed. The targets abort when a promise is broken; under a sanitizer every out-of-bounds read is
 * found too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"

#define LLVMFuzzerTestOneInput fuzz_tokens
#include "fuzz_tokens.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_json
#include "fuzz_json.c"
#undef LLVMFuzzerTestOneInput

enum { CAPACITY = 8192, RUNS = 4000 };

static uint64_t state;

/* xorshift64*, Marsaglia 2003; in [0, n). */
static size_t draw(size_t n) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (size_t)((state * 2685821657736338717u) >> 33) % (n ? n : 1);
}

static size_t insert(uint8_t *b, size_t n, size_t at, const void *piece, size_t m) {
    if (n + m > CAPACITY) return n;
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

static void run(int (*target)(const uint8_t *, size_t), const void *seed, size_t n_seed,
                uint64_t first) {
    uint8_t b[CAPACITY];
    target(seed, n_seed);
    for (int i = 0; i < RUNS; i++) {
        size_t n = n_seed;
        state = first * 1000003 + (uint64_t)i * 2 + 1;
        memcpy(b, seed, n_seed);
        for (size_t k = 1 + draw(4); k > 0; k--) n = mutate(b, n);
        target(b, n);
    }
}

static void put(uint8_t *b, size_t *n, uint64_t value, int nbytes) {
    for (int i = 0; i < nbytes; i++) b[(*n)++] = (uint8_t)(value >> (8 * i));
}

static void tokens(void) {
    static uint8_t b[CAPACITY];
    size_t n = 0;
    put(b, &n, 0, 3);
    put(b, &n, 20240520, 4);
    put(b, &n, 1, 4);
    put(b, &n, 20, 4);
    n = 3 + 1024;
    for (int i = 0; i < 20; i++) put(b, &n, (uint64_t)i * 97, 2);
    run(fuzz_tokens, b, n, 1);
    run(fuzz_tokens, b, 3 + 80, 2); /* raw u16, and a header that is too short */
}

static void index_file(void) {
    static uint8_t b[CAPACITY];
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
    run(fuzz_tokens, b, n, 3);
}

/* The tiny GPT-2 that fuzz_safetensors.c imports: C 2, V 3, P 2, F 2, L 1. */
static void safetensors(void) {
    static const struct {
        const char *name, *shape;
        int n;
    } entries[] = {{"wte.weight", "3,2", 6},
                   {"wpe.weight", "2,2", 4},
                   {"ln_f.weight", "2", 2},
                   {"ln_f.bias", "2", 2},
                   {"h.0.ln_1.weight", "2", 2},
                   {"h.0.ln_1.bias", "2", 2},
                   {"h.0.attn.c_attn.weight", "2,6", 12},
                   {"h.0.attn.c_attn.bias", "6", 6},
                   {"h.0.attn.c_proj.weight", "2,2", 4},
                   {"h.0.attn.c_proj.bias", "2", 2},
                   {"h.0.ln_2.weight", "2", 2},
                   {"h.0.ln_2.bias", "2", 2},
                   {"h.0.mlp.c_fc.weight", "2,2", 4},
                   {"h.0.mlp.c_fc.bias", "2", 2},
                   {"h.0.mlp.c_proj.weight", "2,2", 4},
                   {"h.0.mlp.c_proj.bias", "2", 2}};
    static char b[CAPACITY];
    int n = 8, at = 0;
    for (int i = 0; i < 16; at += 4 * entries[i++].n)
        n += snprintf(b + n, sizeof b - (size_t)n,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                      i ? "," : "{", entries[i].name, entries[i].shape, at, at + 4 * entries[i].n);
    b[n++] = '}';
    memcpy(b, &(uint64_t){(uint64_t)n - 8}, 8);
    par_safetensors *file = NULL;
    CHECK_OK(par__safetensors_parse("seed", (const uint8_t *)b, (size_t)(n + at), &file));
    par_safetensors_close(&file);
    fuzz_safetensors((const uint8_t *)b, (size_t)(n + at));
    CHECK(accepted == 1 && imported == 1, "the tiny GPT-2 is refused: %s", par_error());
    run(fuzz_safetensors, b, (size_t)(n + at), 4);
    char small[128] = {0};
    n = snprintf(small + 8, sizeof small - 8,
                 "{\"a\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]},\"__metadata__"
                 "\":{}}ABCD");
    small[0] = (char)(n - 4);
    accepted = 0;
    fuzz_safetensors((const uint8_t *)small, (size_t)n + 8);
    CHECK(accepted == 1, "the small file is refused: %s", par_error());
    run(fuzz_safetensors, small, (size_t)n + 8, 5);
}

static void json(void) {
    static const char *const texts[] = {
        "{\"model_type\":\"gpt2\",\"n_embd\":32,\"n_head\":4,\"n_inner\":null,\"n_layer\":4,\"n_"
        "positions\":"
        "32,\"vocab_size\":131}",
        "{\"model_type\":\"llama\",\"head_dim\":16,\"hidden_size\":48,\"intermediate_size\":100,"
        "\"max_"
        "position_embeddings\":64,"
        "\"num_attention_heads\":4,\"num_hidden_layers\":3,\"num_key_value_heads\":1,\"rope_"
        "parameters\":{"
        "\"factor\":8.0,"
        "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":16,"
        "\"rope_"
        "theta\":500000.0,"
        "\"rope_type\":\"llama3\"},\"vocab_size\":96}",
        "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"y."
        "safetensors\"}}",
    };
    par__index index;
    CHECK_OK(par__index_parse("seed", texts[2], strlen(texts[2]), &index));
    par__index_free(&index);
    for (int i = 0; i < 3; i++) run(fuzz_json, texts[i], strlen(texts[i]), 6 + (uint64_t)i);
    char deep[CAPACITY];
    memset(deep, '[', sizeof deep);
    fuzz_json((const uint8_t *)deep, sizeof deep);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"tokens", tokens, 0, NULL, 0},
                                         {"index", index_file, 0, NULL, 0},
                                         {"safetensors", safetensors, 0, NULL, 0},
                                         {"json", json, 0, NULL, 0}};
    return harness_main("fuzz", cases, HARNESS_COUNT(cases), argc, argv);
}
