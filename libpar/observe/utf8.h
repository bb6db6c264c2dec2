/* UTF-8 of names that come from outside: logs and pages hold none that is broken. */
#ifndef PAR__OBSERVE_UTF8_H
#define PAR__OBSERVE_UTF8_H

/* Bytes of the UTF-8 sequence at s, 0 if it is none (RFC 3629: no overlong forms, surrogates, or >
 * 10FFFF). */
static inline int par__utf8_sequence(const unsigned char *s) {
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
            : (s[0] & 0xf0) == 0xe0       ? 3
            : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
    if (s[0] == 0xed && s[1] > 0x9f) return 0;
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
    return n;
}

#endif
