/*
 * Classes of characters, by utf8proc's tables, and scanners for the patterns that most tokenizers
 * split by. A scanner gives what a backtracking engine finds as the pattern's first match, in one
 * pass; the pattern stands above it.
 */
#include <string.h>
#include <utf8proc.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

static uint32_t decode(const uint8_t *p, size_t length) {
    if (length == 2) return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3F);
    if (length == 3) return (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3F);
    return (p[0] & 7u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3F);
}

static unsigned classes_of(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return PAR__UPPER | PAR__WORD;
    case UTF8PROC_CATEGORY_LL: return PAR__LOWER | PAR__WORD;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return PAR__CASELESS | PAR__WORD;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return PAR__MARK | PAR__WORD;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: return PAR__NUMBER | PAR__WORD;
    case UTF8PROC_CATEGORY_NO: return PAR__NUMBER;
    case UTF8PROC_CATEGORY_PC: return PAR__PUNCTUATION | PAR__WORD;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return PAR__PUNCTUATION;
    default: break;
    }
    /* Join_Control, and letters in circles and squares, which are Alphabetic; White_Space */
    bool word = c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
                (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
                (c >= 0x1F170 && c <= 0x1F189);
    bool space = c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
                 c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
    return space ? PAR__SPACE : word ? PAR__WORD : 0;
}

static inline unsigned ascii_classes(uint8_t c) {
    if (c >= 'a' && c <= 'z') return PAR__LOWER | PAR__WORD;
    if (c == ' ') return PAR__SPACE;
    if (c >= 'A' && c <= 'Z') return PAR__UPPER | PAR__WORD;
    if (c >= '0' && c <= '9') return PAR__NUMBER | PAR__WORD;
    if (c == '\n' || c == '\r') return PAR__SPACE | PAR__LINE_END;
    if (c >= '\t' && c <= '\r') return PAR__SPACE;
    if (c == '_') return PAR__PUNCTUATION | PAR__WORD;
    return c > ' ' && c < 0x7F ? PAR__PUNCTUATION : 0; /* as Rust's is_ascii_punctuation */
}

static inline unsigned class_at(const uint8_t *p, size_t n, size_t *length) {
    if (p[0] < 0x80) {
        *length = 1;
        return ascii_classes(p[0]);
    }
    size_t k = par__utf8_length(p, n);
    *length = k ? k : 1;
    return k ? classes_of(decode(p, k)) : 0;
}

unsigned par__class_at(const uint8_t *p, size_t n, size_t *length) {
    return class_at(p, n, length);
}

/* ---- patterns ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CAPITALS     "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define SMALL        "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define SPACES       "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* As tokenizer.json spells them. */
static const struct {
    const char *regex;
    int which;
} patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     PAR__SPLIT_GPT2},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     PAR__SPLIT_GPT2},
    {CONTRACTIONS
     "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
     PAR__SPLIT_LLAMA3},
    {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
     PAR__SPLIT_QWEN2},
    {"[^\\r\\n\\p{L}\\p{N}]?[" CAPITALS "]*[" SMALL "]+" CONTRACTIONS
     "?|[^\\r\\n\\p{L}\\p{N}]?[" CAPITALS "]+[" SMALL "]*" CONTRACTIONS
     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES,
     PAR__SPLIT_O200K},
};

int par__scanner_which(const char *regex) {
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (strcmp(patterns[i].regex, regex) == 0) return patterns[i].which;
    return -1;
}

/* ---- scanners ---- */

/* End of the run of characters from `at` that have one of the classes, or, with `not`, none. */
static inline size_t run(const uint8_t *p, size_t n, size_t at, unsigned classes, bool not ) {
    size_t k;
    while (at < n && ((class_at(p + at, n - at, &k) & classes) == 0) == not ) at += k;
    return at;
}

/* Length of 's, 't, 're, 've, 'm, 'll or 'd at the front; 0: none. Without case U+017F is an s. */
static size_t contraction(const uint8_t *p, size_t n, bool any_case) {
    if (n < 2 || p[0] != '\'') return 0;
    if (any_case && n > 2 && p[1] == 0xC5 && p[2] == 0xBF) return 3;
    uint8_t bit = any_case ? 0x20 : 0, a = p[1] | bit, b = n > 2 ? p[2] | bit : 0;
    bool letters = p[1] >= 'A' && (n < 3 || b != 0);
    if (!letters) return 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    bool three =
        n > 2 && p[2] >= 'A' && ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l'));
    return three ? 3 : 0;
}

/* \s*[\r\n]+ (with `lines`), else \s+(?!\S), else \s+. The first character is a space. */
static size_t spaces(const uint8_t *p, size_t n, bool lines) {
    size_t at = 0, last = 0, k, end_of_line = 0;
    unsigned classes;
    while (at < n && ((classes = class_at(p + at, n - at, &k)) & PAR__SPACE)) {
        last = at;
        at += k;
        if (classes & PAR__LINE_END) end_of_line = at;
    }
    if (lines && end_of_line > 0) return end_of_line;
    return at == n || last == 0 ? at : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t scan_gpt2(const uint8_t *p, size_t n) {
    const unsigned named = PAR__LETTER | PAR__NUMBER | PAR__SPACE;
    size_t k = contraction(p, n, false), at = p[0] == ' ' && n > 1;
    if (k > 0) return k;
    unsigned classes = class_at(p + at, n - at, &k);
    if (classes & PAR__LETTER) return run(p, n, at + k, PAR__LETTER, false);
    if (classes & PAR__NUMBER) return run(p, n, at + k, PAR__NUMBER, false);
    if (!(classes & PAR__SPACE)) return run(p, n, at + k, named, true);
    return spaces(p, n, false);
}

/* \p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+, with [\r\n/]* if `slash`.
 * No letter stands at the front. */
static size_t scan_rest(const uint8_t *p, size_t n, int digits, bool slash) {
    const unsigned named = PAR__LETTER | PAR__NUMBER | PAR__SPACE;
    size_t k, at = 0;
    if (class_at(p, n, &k) & PAR__NUMBER) {
        for (int i = 0; i < digits && at < n && (class_at(p + at, n - at, &k) & PAR__NUMBER); i++)
            at += k;
        return at;
    }
    at = p[0] == ' ' && n > 1;
    if (class_at(p + at, n - at, &k) & named) return spaces(p, n, true);
    at = run(p, n, at + k, named, true);
    while (at < n && (p[at] == '\r' || p[at] == '\n' || (slash && p[at] == '/'))) at++;
    return at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|... */
static size_t scan_llama3(const uint8_t *p, size_t n, int digits) {
    size_t k = contraction(p, n, true), more;
    if (k > 0) return k;
    unsigned classes = class_at(p, n, &k);
    if (classes & PAR__LETTER) return run(p, n, k, PAR__LETTER, false);
    bool may_join = !(classes & (PAR__NUMBER | PAR__LINE_END));
    if (may_join && k < n && (class_at(p + k, n - k, &more) & PAR__LETTER))
        return run(p, n, k + more, PAR__LETTER, false);
    return scan_rest(p, n, digits, false);
}

enum {
    CAPITAL_CLASSES = PAR__UPPER | PAR__CASELESS | PAR__MARK,
    SMALL_CLASSES = PAR__LOWER | PAR__CASELESS | PAR__MARK
};

/* End of [Lu Lt Lm Lo M]*[Ll Lm Lo M]+ from `at`; 0: no match. Where no small letter follows the
 * capitals, the second part takes what the first can give back: up to its last character of
 * both. */
static size_t small_word(const uint8_t *p, size_t n, size_t at) {
    size_t k, last = 0;
    unsigned classes;
    while (at < n && ((classes = class_at(p + at, n - at, &k)) & CAPITAL_CLASSES)) {
        at += k;
        if (classes & SMALL_CLASSES) last = at;
    }
    size_t end = run(p, n, at, SMALL_CLASSES, false);
    return end > at ? end : last;
}

/* End of [Lu Lt Lm Lo M]+[Ll Lm Lo M]* from `at`; 0: no match. */
static size_t capital_word(const uint8_t *p, size_t n, size_t at) {
    size_t end = run(p, n, at, CAPITAL_CLASSES, false);
    return end > at ? run(p, n, end, SMALL_CLASSES, false) : 0;
}

static size_t scan_o200k(const uint8_t *p, size_t n) {
    size_t k, end = 0;
    unsigned classes = class_at(p, n, &k);
    bool may_join = !(classes & (PAR__LETTER | PAR__NUMBER | PAR__LINE_END));
    if (may_join) end = small_word(p, n, k);
    if (end == 0) end = small_word(p, n, 0);
    if (end == 0 && may_join) end = capital_word(p, n, k);
    if (end == 0) end = capital_word(p, n, 0);
    if (end > 0) return end + contraction(p + end, n - end, true);
    return scan_rest(p, n, 3, true);
}

size_t par__scan(int which, const uint8_t *p, size_t n) {
    switch (which) {
    case PAR__SPLIT_GPT2: return scan_gpt2(p, n);
    case PAR__SPLIT_LLAMA3: return scan_llama3(p, n, 3);
    case PAR__SPLIT_QWEN2: return scan_llama3(p, n, 1);
    default: return scan_o200k(p, n);
    }
}
