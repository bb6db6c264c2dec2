/*
 * Regular expressions of a tokenizer.json, which are Oniguruma's in Ruby's syntax, for PCRE2. What
 * both spell alike goes through. What they spell alike and mean otherwise is spelt out: \s and \w
 * (PCRE2's \s has U+180E; its \w has no marks, but numbers that are no digits), ^ and $ (of lines),
 * \p of a script (PCRE2 also takes characters that other scripts share with it). The rest is
 * refused. PCRE2 checks the whole rest of the text on every match unless it is told that the text
 * is sound, which would be quadratic: callers have checked it.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libpar/data/tokenizer.h"

#define SPACE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* The ranges: letters in circles and squares, which are Alphabetic. Outside of a class Oniguruma
 * looks up Latin-1 in another table, in which the small numbers and fractions are of words. */
#define WORD                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}"                                                            \
    "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define LATIN_WORD WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

struct par__regex {
    pcre2_code *code;
    char what[512]; /* file, element and expression, for messages */
};
struct par__match {
    pcre2_match_data *data;
};

/* What \c becomes; NULL: it means the same to both; "": it does not. */
static const char *escape(char c, bool in_class) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == 's') return in_class ? SPACE : "[" SPACE "]";
    if (c == 'S' && !in_class) return "[^" SPACE "]";
    if (c == 'w') return in_class ? WORD : "[" LATIN_WORD "]";
    if (c == 'W' && !in_class) return "[^" LATIN_WORD "]";
    return !letter || strchr("dDpPrntf", c) ? NULL : "";
}

enum { MAX_DEPTH = 64 };

typedef struct {
    const char *p; /* what comes next */
    char *out;
    bool in_class;
    int depth;             /* of groups */
    bool folds[MAX_DEPTH]; /* [depth]: upper and lower case are one (i) */
    bool fresh;            /* p is at the begin of the expression or of a group */
    char before;           /* the literal in front of p; 0: there is none */
} translation;

static void put(translation *t, const char *text, size_t n) {
    memcpy(t->out, text, n);
    t->out += n;
}

/* Whether PCRE2 has a script of this name apart from what scripts share (from 10.40 on; before
 * that, its name alone means that). */
static bool is_script(const char *name, size_t n) {
    char pattern[64];
    int error;
    PCRE2_SIZE at;
    if (n > 40) return false;
    snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", (int)n, name);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* \p{Name}, \P{Name}, \p{^Name}. Where case does not matter, a class of letters of one case takes
 * both in Oniguruma. */
static bool take_property(translation *t) {
    const char *name = t->p + 3, *end = strchr(t->p, '}');
    if (t->p[2] != '{' || !end || (t->in_class && t->folds[t->depth])) return false;
    bool inverted = *name == '^';
    name += inverted;
    put(t, t->p, 3 + inverted);
    if (is_script(name, (size_t)(end - name))) put(t, "sc:", 3);
    put(t, name, (size_t)(end - name) + 1);
    t->p = end + 1;
    return true;
}

static bool take_escape(translation *t) {
    t->before = 0;
    if (t->p[1] == 'p' || t->p[1] == 'P') return take_property(t);
    const char *text = escape(t->p[1], t->in_class);
    if (text && !*text) return false;
    put(t, text ? text : t->p, text ? strlen(text) : 2);
    t->p += 2;
    return true;
}

/* Groups, looks, and the option i; in the middle of a group it would end at another place. */
static bool take_group(translation *t, bool fresh) {
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    const char *p = t->p;
    size_t n = 0;
    bool folds = t->folds[t->depth];
    if (p[1] == '*' || t->depth + 1 == MAX_DEPTH) return false;
    if (p[1] != '?') n = 1;
    for (size_t i = 0; i < 6 && n == 0; i++)
        if (strncmp(p, kinds[i], strlen(kinds[i])) == 0) n = strlen(kinds[i]);
    if (n == 0) {
        size_t off = p[2] == '-'; /* (?i:  (?-i:  (?i) */
        if (p[2 + off] != 'i' || !p[3 + off]) return false;
        folds = !off;
        n = 4 + off;
        if (p[n - 1] == ')' && fresh) {
            t->folds[t->depth] = folds;
            put(t, p, n);
            t->p += n;
            return true;
        }
        if (p[n - 1] != ':') return false;
    }
    t->folds[++t->depth] = folds;
    put(t, p, n);
    t->p += n;
    t->fresh = true;
    return true;
}

/* One character. Where case does not matter, two letters may be one in Oniguruma ("ss" takes a
 * sharp s), and a letter that is not ASCII may be two. */
static bool take_literal(translation *t) {
    static const char *const ligatures[] = {"ss", "st", "ff", "fi", "fl"};
    char c = *t->p, pair[3] = {t->before, c, 0};
    for (size_t i = 0; t->folds[t->depth] && i < 5; i++)
        if ((c & 0x80) || (!t->in_class && strcasecmp(pair, ligatures[i]) == 0)) return false;
    put(t, t->p++, 1);
    t->before = c;
    return true;
}

/* Within [ ]: no class within it, no && between two. */
static bool take_in_class(translation *t) {
    if (*t->p == '[' || strncmp(t->p, "&&", 2) == 0) return false;
    if (*t->p == ']') t->in_class = false;
    if (t->in_class) return take_literal(t);
    put(t, t->p++, 1);
    t->before = 0;
    return true;
}

/* {,3} repeats in Oniguruma alone; {1,3}+ repeats the repetition there, and takes all of it for
 * good in PCRE2. False: not supported. */
static bool take(translation *t) {
    static const char begin[] = "(?:\\A|(?<=\\n)(?!\\z))", end[] = "(?![^\\n])";
    const char *p = t->p;
    bool fresh = t->fresh;
    t->fresh = false;
    if (*p == '\\' && p[1]) return take_escape(t);
    if (t->in_class) return take_in_class(t);
    if (*p == '(') return take_group(t, fresh);
    if (strncmp(p, "{,", 2) == 0 || strncmp(p, "}+", 2) == 0) return false;
    if (*p == ')' && t->depth > 0) t->depth--;
    if (!strchr("[^$)|*+?{}", *p)) return take_literal(t);
    if (*p != ')') t->before = 0;
    if (*p == '^' || *p == '$') {
        put(t, *p == '^' ? begin : end, strlen(*p == '^' ? begin : end));
    } else {
        put(t, p, 1);
        t->in_class = *p == '[';
        if (t->in_class && p[1] == '^') put(t, ++t->p, 1);
    }
    t->p++;
    return true;
}

/* NULL, or where something stands that is not supported. */
static const char *translate(const char *expression, char *out) {
    translation t = {.p = expression, .out = out, .fresh = true};
    while (*t.p)
        if (!take(&t)) return t.p;
    *t.out = 0;
    return NULL;
}

par_status par__regex_create(const char *path, const char *element, const char *expression,
                             par__regex **out) {
    int error = 0;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR why[128] = "";
    par__regex *r = calloc(1, sizeof *r);
    /* what a character of it becomes at most */
    char *pattern = malloc(strlen(expression) * sizeof "[^" SPACE LATIN_WORD "]" + 1);
    par_status st = PAR_OK;
    if (!r || !pattern)
        st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory for \"%s\"", path, element);
    const char *odd = st == PAR_OK ? translate(expression, pattern) : NULL;
    if (r)
        snprintf(r->what, sizeof r->what, "%.250s: \"%s\" has \"Regex\": \"%.200s\"", path, element,
                 expression);
    if (odd)
        st = par_error_set(PAR_ERR_UNSUPPORTED,
                           "%s, and from \"%.12s\" on it is not "
                           "supported; legal: classes, \\p{..}, \\s, groups, repetitions, looks",
                           r->what, odd);
    if (st == PAR_OK) {
        r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                &error, &at, NULL);
        if (!r->code) {
            pcre2_get_error_message(error, why, sizeof why);
            st = par_error_set(error == PCRE2_ERROR_HEAP_FAILED ? PAR_ERR_MEMORY
                                                                : PAR_ERR_UNSUPPORTED,
                               "%s: PCRE2: %s", r->what, (const char *)why);
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
    if (found < 0) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(found, why, sizeof why);
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: PCRE2 splits no piece at byte %zu of %zu of a text: %s; legal: an expression "
                 "that tries less: none with a repetition in a repetition, such as (a+)+",
                 r->what, from, n, (const char *)why);
    }
    if (range[0] < from || range[1] <= range[0]) /* \K, or an end before its begin */
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: a match of no length at byte %zu of %zu of a text",
                 r->what, from, n);
    *begin = range[0];
    *end = range[1];
    return PAR_OK;
}
