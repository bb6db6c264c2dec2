/*
 * par_utf8_length against RFC 3629's table: every code point in its shortest form is a character of
 * its length, and cut short it is none; of all pairs of bytes with what may follow them at the ends
 * of its range, exactly the encodings of a code point are characters. And byte order marks, and
 * numbers as text.
 */
#include "par/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "libpar/base/number.h"

/* RFC 3629, section 3. */
static size_t encode(uint32_t code, uint8_t out[4]) {
    static const uint8_t first[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (uint8_t)code;
    if (code < 0x80) return 1;
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 0; code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3F));
    out[0] = (uint8_t)(first[n] | (out[0] & (0x7F >> n)));
    return n;
}

static void code_points(void) {
    uint8_t b[4];
    for (uint32_t code = 0; code <= 0x10FFFF && !harness_failed(); code++) {
        size_t n = encode(code, b), k = par_utf8_length(b, 4);
        bool surrogate = code >= 0xD800 && code < 0xE000;
        CHECK(k == (surrogate ? 0 : n), "U+%04X: %zu bytes", (unsigned)code, k);
        CHECK(surrogate || par_utf8_length(b, n) == n, "U+%04X alone is none", (unsigned)code);
        CHECK(par_utf8_length(b, n - 1) == 0, "U+%04X cut short is one", (unsigned)code);
    }
}

static bool is_encoding(const uint8_t *b, size_t n) {
    uint32_t code = n == 1 ? b[0] : b[0] & (0x7F >> n);
    uint8_t again[4];
    for (size_t i = 1; i < n; i++) code = code << 6 | (b[i] & 0x3F);
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    if (encode(code, again) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (again[i] != b[i]) return false;
    return true;
}

static void check(const uint8_t b[4]) {
    size_t k = par_utf8_length(b, 4), n = 0;
    for (size_t i = 1; i <= 4 && n == 0; i++) n = is_encoding(b, i) ? i : 0;
    CHECK(k == n, "%02x %02x %02x %02x: %zu, not %zu", b[0], b[1], b[2], b[3], k, n);
}

static void sequences(void) {
    static const uint8_t ends[] = {0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xFF};
    for (uint32_t x = 0; x < 1 << 16 && !harness_failed(); x++)
        for (int i = 0; i < 36; i++)
            check((uint8_t[]){(uint8_t)(x >> 8), (uint8_t)x, ends[i / 6], ends[i % 6]});
}

static void clean(void) {
    static const struct {
        const char *text, *want;
    } cases[] = {{"", ""},
                 {"plain", "plain"},
                 {"d\xC3\xA9j\xC3\xA0 \xF0\x9F\x98\x80", "d\xC3\xA9j\xC3\xA0 \xF0\x9F\x98\x80"},
                 {"dat\xE9.bin", "dat?.bin"},
                 {"cut \xF0\x9F\x98", "cut ???"},
                 {"\xC3\xC3\xA9\x80", "?\xC3\xA9?"}};
    for (int i = 0; i < (int)HARNESS_COUNT(cases); i++) {
        char text[32];
        strcpy(text, cases[i].text);
        par_utf8_clean(text);
        CHECK(strcmp(text, cases[i].want) == 0, "%d: \"%s\"", i, text);
    }
}

static void marks(void) {
    static const char marked[] = "\xef\xbb\xbf{}", cut[] = "\xef\xbb", wide[] = "\xfe\xff\0{";
    const char *text = marked;
    size_t n = 5;
    CHECK_OK(par_text_skip_mark("a", &text, &n));
    CHECK(text == marked + 3 && n == 2, "one is skipped: %zu bytes left", n);
    CHECK_OK(par_text_skip_mark("a", &text, &n));
    CHECK(text == marked + 3 && n == 2, "none is there: %zu bytes left", n);
    text = cut, n = 2;
    CHECK_OK(par_text_skip_mark("a", &text, &n));
    CHECK(text == cut && n == 2, "two thirds of one: %zu bytes left", n);
    text = wide, n = 4;
    CHECK_FAILS(par_text_skip_mark("a", &text, &n), PAR_ERR_FORMAT, "a: is UTF-16; legal: UTF-8");
}

/* Against trial of every number; of a large prime at once, and no more than fits. */
static void divisors(void) {
    char text[256], want[2048];
    for (int n = 1; n <= 1000 && !harness_failed(); n++) {
        size_t used = 0;
        for (int k = 1; k <= n; k++)
            if (n % k == 0)
                used +=
                    (size_t)snprintf(want + used, sizeof want - used, "%s%d", used ? ", " : "", k);
        par__divisors(n, text, sizeof text);
        CHECK(strcmp(text, want) == 0, "of %d: \"%s\", not \"%s\"", n, text, want);
    }
    par__divisors(INT64_C(999999999989), text, sizeof text);
    CHECK(strcmp(text, "1, 999999999989") == 0, "of a prime: \"%s\"", text);
    par__divisors(INT64_C(9223372036854775783), text, sizeof text);
    CHECK(strcmp(text, "1, ...") == 0, "of a prime below 2^63: \"%s\"", text);
    par__divisors(720720, text, 40);
    CHECK(strcmp(text, "1, 2, 3, 4, 5, 6, ...") == 0, "that fit: \"%s\"", text);
}

static void differences(void) {
    static const struct {
        const char *mine, *first, *expected;
    } cases[] = {
        {"a\t1\n", "a\t1\n", ""},
        {"", "", ""},
        {"a\t1\nb\t\nc\t3\n", "a\t2\nb\tx y\nc\t3\n",
         "the a is \"1\" here and \"2\" on rank 0; legal: so\n"
         "the b is \"\" here and \"x y\" on rank 0; legal: so"},
        {"a\t1\n", "a\t1\nb\t2\n", "the b is there on rank 0 alone; legal: so"},
        {"a\t1\nb\t2\n", "a\t1\n", "the b is there on this rank alone; legal: so"},
        {"a\t1\nbc\t2\n", "a\t3\nb\t2\n",
         "the a is \"1\" here and \"3\" on rank 0; legal: so\n"
         "the b is there on rank 0 alone; legal: so"},
        {"a\nb", "a\nc", "the c is there on rank 0 alone; legal: so"},
        {"a\t1\t2", "a\t1\t3", "the a is \"1\t2\" here and \"1\t3\" on rank 0; legal: so"},
    };
    for (int i = 0; i < HARNESS_COUNT(cases); i++) {
        par_problems found = {0};
        par_text_differences(cases[i].mine, cases[i].first, "the ", "so", &found);
        CHECK(strcmp(found.text, cases[i].expected) == 0, "%d: \"%s\"", i, found.text);
    }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"divisors", divisors, 0, NULL, 0},
                                         {"clean", clean, 0, NULL, 0},
                                         {"code-points", code_points, 0, NULL, 0},
                                         {"sequences", sequences, 0, NULL, 0},
                                         {"marks", marks, 0, NULL, 0},
                                         {"differences", differences, 0, NULL, 0}};
    return harness_main("text", cases, HARNESS_COUNT(cases), argc, argv);
}
