/* Token files, Megatron's index, stamps and texts as people have them, mutated: see ../mutate.h. */
#include "../mutate.h"

#include <string.h>

#include "../harness.h"
#include "config.h"
#include "libpar/data/text_load.h"

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
    mutate_run("tokens", fuzz_tokens, b, n, 4000);
    b[1024] = PAR_TOKENS_U16 << 1; /* the tokens alone */
    mutate_run("tokens-u16", fuzz_tokens, b + 1024, 3 + 40, 4000);
}

static void litgpt(void) {
    static uint8_t b[128];
    size_t n = 3;
    memcpy(b + n, "LITPKDS", 7);
    n += 7;
    put(b, &n, 1, 8);
    put(b, &n, 8, 1);
    put(b, &n, 20, 8);
    for (int i = 0; i < 20; i++) put(b, &n, (uint64_t)i * 97, 2);
    mutate_run("tokens-litgpt", fuzz_tokens, b, n, 4000);
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
    mutate_run("tokens-index", fuzz_tokens, b, n, 4000);
}

/* The stamp beside a file; what it says is only believed of a file of that size. */
static int target_stamp(const uint8_t *data, size_t n) {
    par__stamp stamp;
    mutate_file("x.bin.stamp", data, n);
    bool read;
    if (par__stamp_read(mutate_path("x.bin"), &read, &stamp) != PAR_OK || !read) return -1;
    CHECK(stamp.n > 0 && stamp.max >= 0 && stamp.vocab >= 0 && stamp.form > PAR_TOKENS_KNOWN &&
              stamp.form <= PAR_TOKENS_U32 && stamp.type <= PAR__TOKEN_I64,
          "a stamp out of range");
    uint16_t tokens[40] = {0};
    par_tokens t = {.path = (char[]){"x.bin"}};
    if (par__tokens_parse("x.bin", &(par_tokens_params){0}, (const uint8_t *)tokens, sizeof tokens,
                          NULL, 0, &stamp, &t) == PAR_OK)
        par_tokens_max(&t);
    return 0;
}

static void stamp(void) {
    static const char sound[] =
        "{\"form\": \"u16\", \"type\": \"u16\", \"bytes\": 80, \"time\": 1700000000000000000, "
        "\"tokens\": 40, \"vocab\": 50257, \"documents\": 2, \"max\": 999, \"fingerprint\": "
        "\"0123456789abcdef\"}\n";
    mutate_run("stamp", target_stamp, sound, sizeof sound - 1, 2000);
    mutate_end();
}

static int target_text(const uint8_t *data, size_t n) {
    par__text text;
    static volatile uint8_t sink;
    if (par__text_load(mutate_file("x.txt", data, n), &text) != PAR_OK) return -1;
    for (size_t i = 0; i < text.n; i++) sink = (uint8_t)(sink ^ text.data[i]);
    par__text_free(&text);
    return 0;
}

/* UTF-16 with a pair of surrogates and one that stands alone; the word "hello" twice, packed. */
static void texts(void) {
    static const uint8_t wide[] = {0xff, 0xfe, 'a', 0, 0x3d, 0xd8, 0,    0xde,
                                   0xe9, 0,    'b', 0, 0x3d, 0xd8, '\n', 0};
    mutate_run("text-utf16", target_text, wide, sizeof wide, 2000);
#if HAVE_ZLIB
    static const uint8_t gzip[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03,
                                   0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xd7, 0x51, 0xc8, 0x00, 0x51,
                                   0x5c, 0x00, 0xdb, 0x25, 0x26, 0x1f, 0x0d, 0x00, 0x00, 0x00};
    mutate_run("text-gzip", target_text, gzip, sizeof gzip, 500);
#endif
#if HAVE_ZSTD
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x69, 0x00,
                                   0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x2c, 0x20,
                                   0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a};
    mutate_run("text-zstd", target_text, zstd, sizeof zstd, 500);
#endif
    mutate_end();
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"tokens", tokens, 0, NULL, 0},
                                         {"litgpt", litgpt, 0, NULL, 0},
                                         {"index", index_file, 0, NULL, 0},
                                         {"stamp", stamp, 0, NULL, 0},
                                         {"texts", texts, 0, NULL, 0}};
    return harness_main("fuzz", cases, HARNESS_COUNT(cases), argc, argv);
}
