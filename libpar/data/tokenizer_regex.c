/*
 * Regular expressions of a tokenizer.json, which are Oniguruma's, for PCRE2. What both spell alike
 * goes through; \s and \w are spelt out, because PCRE2's \s has U+180E and its \w no marks; what
 * means something else there is refused. PCRE2 checks the whole rest of the text on every match
 * unless it is told that the text is sound, which would be quadratic: callers have checked it.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokenizer.h"

#define SPACE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

#define WORD "\\p{L}\\p{M}\\p{N}\\p{Pc}"

struct par__regex {
    pcre2_code *code;
};
struct par__match {
    pcre2_match_data *data;
};

/* What \c becomes; NULL: it means the same to both; "": it does not. */
static const char *escape(char c, bool in_class) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == 's') return in_class ? SPACE : "[" SPACE "]";
    if (c == 'S' && !in_class) return "[^" SPACE "]";
    if (c == 'w') return in_class ? WORD : "[" WORD "]";
    if (c == 'W' && !in_class) return "[^" WORD "]";
    return !letter || strchr("dDpPrntf", c) ? NULL : "";
}

/* NULL, or where something stands that is not supported. */
static const char *translate(const char *p, char *out) {
    bool in_class = false;
    for (; *p; p++) {
        if (*p == '\\' && p[1]) {
            const char *text = escape(p[1], in_class);
            if (text && !*text) return p;
            if (text) out += strlen(strcpy(out, text));
            if (!text) out = (char *)memcpy(out, p, 2) + 2;
            p++;
            continue;
        }
        /* A class within a class, && between two, and {1,3}+, which repeats the repetition there
         * and takes all of it for good in PCRE2. */
        bool odd =
            in_class ? *p == '[' || (p[0] == '&' && p[1] == '&') : p[0] == '}' && p[1] == '+';
        if (odd) return p;
        *out++ = *p;
        if (*p == ']') in_class = false;
        if (*p != '[' || in_class) continue;
        in_class = true;
        if (p[1] == '^') *out++ = *++p;
    }
    *out = 0;
    return NULL;
}

par_status par__regex_create(const char *path, const char *element, const char *expression,
                             par__regex **out) {
    int error = 0;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR why[128] = "";
    par__regex *r = calloc(1, sizeof *r);
    char *pattern = malloc(strlen(expression) * sizeof "[^" SPACE "]" + 1);
    par_status st = PAR_OK;
    if (!r || !pattern)
        st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory for \"%s\"", path, element);
    const char *odd = st == PAR_OK ? translate(expression, pattern) : NULL;
    if (odd)
        st = par_error_set(PAR_ERR_UNSUPPORTED,
                           "%s: \"%s\" has \"Regex\": \"%.200s\", and from \"%.12s\" on it is not "
                           "supported; legal: classes, \\p{..}, \\s, groups, repetitions, looks",
                           path, element, expression, odd);
    if (st == PAR_OK) {
        r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                &error, &at, NULL);
        if (!r->code) {
            pcre2_get_error_message(error, why, sizeof why);
            st = par_error_set(error == PCRE2_ERROR_HEAP_FAILED ? PAR_ERR_MEMORY
                                                                : PAR_ERR_UNSUPPORTED,
                               "%s: \"%s\" has \"Regex\": \"%.200s\": PCRE2: %s", path, element,
                               expression, (const char *)why);
        }
    }
    /* A machine that forbids generated code runs the interpreter: slower, the same pieces. */
    if (st == PAR_OK) (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    free(pattern);
    if (st == PAR_OK)
        *out = r;
    else
        par__regex_destroy(&r);
    return st;
}

void par__regex_destroy(par__regex **regex) {
    par__regex *r = *regex;
    if (!r) return;
    pcre2_code_free(r->code);
    free(r);
    *regex = NULL;
}

par_status par__match_create(par__match **out) {
    par__match *m = calloc(1, sizeof *m);
    if (m) m->data = pcre2_match_data_create(1, NULL);
    if (!m || !m->data) {
        par__match_destroy(&m);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory to match a regular expression");
    }
    *out = m;
    return PAR_OK;
}

void par__match_destroy(par__match **match) {
    if (!*match) return;
    pcre2_match_data_free((*match)->data);
    free(*match);
    *match = NULL;
}

par_status par__regex_find(const par__regex *r, par__match *m, const uint8_t *text, size_t n,
                           size_t from, size_t *begin, size_t *end) {
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int found = pcre2_match(r->code, text, n, from, options, m->data, NULL);
    /* generated code has a small stack of its own; the interpreter's is on the heap */
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(r->code, text, n, from, options | PCRE2_NO_JIT, m->data, NULL);
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(m->data);
    *begin = *end = n;
    if (found == PCRE2_ERROR_NOMATCH) return PAR_OK;
    if (found < 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "PCRE2 splits no piece at byte %zu of %zu: %d", from, n,
                 found);
    if (range[0] < from || range[1] <= range[0]) /* \K, or an end before its begin */
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "a match of no length at byte %zu of %zu", from, n);
    *begin = range[0];
    *end = range[1];
    return PAR_OK;
}
