/* UTF-8 inside: par_utf8_length (par/text.h), in line for what looks at every character. */
#ifndef PAR__UTF8_H
#define PAR__UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The second byte's range excludes overlong forms, surrogates, and what is above U+10FFFF. */
static inline size_t par__utf8_length(const void *bytes, size_t n) {
    const uint8_t *p = (const uint8_t *)bytes;
    uint8_t low = 0x80, high = 0xBF;
    if (n == 0) return 0;
    size_t k = p[0] < 0x80   ? 1
               : p[0] < 0xC2 ? 0
               : p[0] < 0xE0 ? 2
               : p[0] < 0xF0 ? 3
               : p[0] < 0xF5 ? 4
                             : 0;
    if (k < 2) return k;
    if (k > n) return 0;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < k; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return k;
}

/* Bytes of the control character at the front, 0: there is none. Terminals obey them: those of
 * ASCII but the ends of lines and tabulators, and those that UTF-8 writes as two bytes. */
static inline size_t par__control_length(const char *text) {
    unsigned char c = (unsigned char)text[0], next = c ? (unsigned char)text[1] : 0;
    if (c == 0xC2 && next >= 0x80 && next < 0xA0) return 2;
    return (c > 0 && c < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
}

static inline bool par__is_utf8(const char *text) {
    size_t n = strlen(text), k = 1;
    for (size_t i = 0; i < n && k > 0; i += k) k = par__utf8_length(text + i, n - i);
    return k > 0;
}

/* The same without control characters. */
static inline bool par__is_plain(const char *text) {
    for (const char *c = text; *c; c++)
        if (par__control_length(c)) return false;
    return par__is_utf8(text);
}

#endif
