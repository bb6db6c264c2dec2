/* One string of a line of JSON Lines: see text_load.h. */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/text_load.h"
#include "par/text.h"

typedef struct {
    const char *p;
    size_t n, at;
    const char *why; /* what is wrong at `at` */
} cursor;

static bool bad(cursor *c, const char *why) {
    if (!c->why) c->why = why;
    return false;
}

static int peek(const cursor *c) {
    return c->at < c->n ? (unsigned char)c->p[c->at] : -1;
}

static void skip_space(cursor *c) {
    while (c->at < c->n && strchr(" \t\r\n", c->p[c->at]) && c->p[c->at]) c->at++;
}

static bool take(cursor *c, int byte, const char *why) {
    skip_space(c);
    if (peek(c) != byte) return bad(c, why);
    c->at++;
    return true;
}

/* ---- characters of a string ---- */

static int hex4(const cursor *c, size_t at) {
    int value = 0;
    if (at + 4 > c->n) return -1;
    for (size_t i = at; i < at + 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *d = strchr(digits, c->p[i]);
        if (!d || !*d) return -1;
        value = value * 16 + (int)((d - digits) % 16);
    }
    return value;
}

/* \uXXXX takes, behind a high surrogate, its low one too. */
static bool escape(cursor *c, uint8_t out[4], size_t *n, bool *alone) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    c->at++;
    const char *simple = peek(c) > 0 ? strchr(from, peek(c)) : NULL;
    if (simple) {
        out[0] = (uint8_t)to[simple - from];
        *n = 1;
        c->at++;
        return true;
    }
    if (peek(c) != 'u') return bad(c, "an escape that JSON does not have");
    int high = hex4(c, c->at + 1), low = -1;
    if (high < 0) return bad(c, "\\u takes four hexadecimal digits");
    c->at += 5;
    uint32_t code = (uint32_t)high;
    if (high >= 0xD800 && high <= 0xDFFF) {
        if (high < 0xDC00 && peek(c) == '\\' && c->at + 1 < c->n && c->p[c->at + 1] == 'u')
            low = hex4(c, c->at + 2);
        *alone = low < 0xDC00 || low > 0xDFFF;
        code = *alone ? 0xFFFD : 0x10000 + ((code - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
        if (!*alone) c->at += 6;
    }
    *n = par__utf8_put(code, out);
    return true;
}

/* The next character as UTF-8. Surrogates that stand alone, escaped or as the three bytes that some
 * programs write, become U+FFFD. */
static bool character(cursor *c, uint8_t out[4], size_t *n, bool *alone) {
    const uint8_t *p = (const uint8_t *)c->p + c->at;
    size_t left = c->n - c->at;
    *alone = false;
    if (left == 0) return bad(c, "is not JSON: the line ends within a string");
    if (*p == '\\') return escape(c, out, n, alone);
    if (*p < 0x20) return bad(c, "is not JSON: a control character within a string");
    *n = par__utf8_length(p, left);
    if (*n == 0 && left >= 3 && p[0] == 0xED && p[1] >= 0xA0 && p[2] >= 0x80) {
        *alone = true;
        c->at += 3;
        *n = par__utf8_put(0xFFFD, out);
        return true;
    }
    if (*n == 0) return bad(c, "is not JSON: a byte that is not UTF-8");
    memcpy(out, p, *n);
    c->at += *n;
    return true;
}

/* ---- what is passed over ---- */

/* The rest of a string, its opening quote taken. */
static bool skip_string(cursor *c) {
    for (; c->at < c->n; c->at++) {
        if (c->p[c->at] == '\\' && c->at + 1 < c->n) {
            c->at++;
        } else if (c->p[c->at] == '"') {
            c->at++;
            return true;
        }
    }
    return bad(c, "is not JSON: the line ends within a string");
}

static bool skip_value(cursor *c) {
    size_t begin = c->at;
    int b = peek(c);
    if (b == '"') return c->at++, skip_string(c);
    if (b == '{' || b == '[') {
        size_t depth = 0;
        while (c->at < c->n) {
            char x = c->p[c->at++];
            if (x == '"' && !skip_string(c)) return false;
            if (x == '{' || x == '[') depth++;
            if ((x == '}' || x == ']') && --depth == 0) return true;
        }
        return bad(c, "is not JSON: the line ends before a bracket is closed");
    }
    while (
        c->at < c->n &&
        strchr("+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", c->p[c->at]) &&
        c->p[c->at])
        c->at++;
    return c->at > begin ? true : bad(c, "is not JSON: no value");
}

/* ---- the object ---- */

static bool append(par__string *s, const uint8_t *bytes, size_t n) {
    if (n > s->max - s->n) {
        size_t max = 2 * s->max + 256;
        uint8_t *grown = realloc(s->bytes, max);
        if (!grown) return false;
        s->bytes = grown;
        s->max = max;
    }
    memcpy(s->bytes + s->n, bytes, n);
    s->n += n;
    return true;
}

/* A name, its opening quote taken: is it this one? */
static bool name_is(cursor *c, const char *field, bool *is) {
    uint8_t bytes[4];
    size_t n;
    bool alone;
    for (*is = true; peek(c) != '"'; field += *is ? n : 0) {
        if (!character(c, bytes, &n, &alone)) return false;
        *is = *is && strncmp(field, (const char *)bytes, n) == 0 && bytes[0] != 0;
    }
    c->at++;
    *is = *is && *field == 0;
    return true;
}

static par__json_kind wanted(cursor *c, par__json_text *out) {
    uint8_t bytes[4];
    size_t n;
    bool alone;
    out->text.n = 0;
    if (c->n - c->at >= 4 && memcmp(c->p + c->at, "null", 4) == 0) {
        c->at += 4;
        return PAR__JSON_NULL;
    }
    if (peek(c) != '"') return bad(c, "no text: another value than a string"), PAR__JSON_BAD;
    for (c->at++; peek(c) != '"'; out->surrogates += alone) {
        if (!character(c, bytes, &n, &alone)) return PAR__JSON_BAD;
        if (!append(&out->text, bytes, n)) return PAR__JSON_NO_MEMORY;
    }
    c->at++;
    return PAR__JSON_STRING;
}

/* An object on several lines, as programs print it for people, ends none of them. */
static const char *not_done(cursor *c, const char *otherwise) {
    skip_space(c);
    return c->at == c->n ? "the line ends within an object (jq -c . makes one line of each)"
                         : otherwise;
}

/* One member; *kind, when it is the field. */
static bool member(cursor *c, const char *field, par__json_kind *kind, par__json_text *out) {
    bool is;
    if (!take(c, '"', not_done(c, "is not JSON: no name in quotes"))) return false;
    if (!name_is(c, field, &is)) return false;
    if (!take(c, ':', "is not JSON: no colon behind a name")) return false;
    skip_space(c);
    if (!is) return skip_value(c);
    if (*kind != PAR__JSON_BAD) return bad(c, "has the field twice");
    *kind = wanted(c, out);
    return *kind != PAR__JSON_BAD;
}

par__json_kind par__json_field(const char *line, size_t n, const char *field, par__json_text *out) {
    cursor c = {line, n, 0, NULL};
    par__json_kind kind = PAR__JSON_BAD;
    out->surrogates = 0;
    skip_space(&c);
    bool good = take(&c, '{',
                     peek(&c) == '[' ? "is an array, not an object (jq -c '.[]' makes lines of it)"
                                     : "is not JSON: not an object");
    skip_space(&c);
    bool more = good && peek(&c) != '}';
    while (more && (good = member(&c, field, &kind, out)) && kind != PAR__JSON_NO_MEMORY) {
        skip_space(&c);
        more = peek(&c) == ',';
        c.at += more;
    }
    if (kind == PAR__JSON_NO_MEMORY) return kind;
    good = good && take(&c, '}', not_done(&c, "is not JSON: no comma and no } behind a value"));
    skip_space(&c);
    if (good && c.at < n) good = bad(&c, "is not JSON: more than one object");
    if (good && kind != PAR__JSON_BAD) return kind;
    out->at = good ? 0 : c.at;
    out->why = good ? "has no such field" : c.why;
    return PAR__JSON_BAD;
}

par_status par_json_string(const char *line, size_t n, const char *field, char **out) {
    PAR_REQUIRE(line && field && out);
    par__json_text found = {.at = 0};
    par__json_kind kind = par__json_field(line, n, field, &found);
    const char *why = kind == PAR__JSON_NULL ? "the field is null" : found.why;
    bool good = kind == PAR__JSON_STRING;
    if (good && found.text.n > 0 && memchr(found.text.bytes, 0, found.text.n))
        good = false, why = "a zero byte";
    if (kind != PAR__JSON_NO_MEMORY && good && append(&found.text, (const uint8_t *)"", 1)) {
        *out = (char *)found.text.bytes;
        return PAR_OK;
    }
    free(found.text.bytes);
    if (good || kind == PAR__JSON_NO_MEMORY)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a string of %zu bytes", n);
    PAR_FAIL(PAR_ERR_FORMAT, "column %zu: %s; legal: an object in UTF-8 with a string \"%s\"",
             found.at + 1, why, field);
}
