/*
 * Pre-tokenizers, GPT-2's (Radford et al. 2019) and Llama 3's, on any bytes. Stretches of sound
 * UTF-8 go through the pattern with PCRE2; a run of bytes between them that is none is one piece.
 * PCRE2 checks the whole rest of the text on every match unless it is told that the text is sound,
 * which would be quadratic: here the stretch was just checked. Unicode's White_Space is spelt out,
 * because PCRE2's \s takes U+180E for a space.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

#define SPACE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* As tokenizer.json spells them, and for PCRE2. */
static const struct {
    const char *regex, *pattern;
} patterns[PAR__N_SPLITS] = {
    [PAR__SPLIT_GPT2] =
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE
         "]+(?![^" SPACE "])|[" SPACE "]+"},
    [PAR__SPLIT_LLAMA3] =
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" SPACE
         "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"},
};

struct par__splitter {
    pcre2_code *code;
    pcre2_match_data *match;
};

int par__splitter_which(const char *regex) {
    int which = PAR__N_SPLITS - 1;
    while (which >= 0 && strcmp(patterns[which].regex, regex) != 0) which--;
    return which;
}

par_status par__splitter_create(int which, par__splitter **out) {
    int error = 0;
    PCRE2_SIZE at = 0;
    par__splitter *s = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a tokenizer");
    s->code = pcre2_compile((PCRE2_SPTR)patterns[which].pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &at, NULL);
    if (s->code) s->match = pcre2_match_data_create(1, NULL);
    if (!s->match) {
        par__splitter_destroy(&s);
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "PCRE2 refuses the splitting pattern at %zu: error %d; it needs Unicode support",
                 (size_t)at, error);
    }
    /* A machine that forbids generated code runs the interpreter: slower, the same pieces. */
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
    *out = s;
    return PAR_OK;
}

void par__splitter_destroy(par__splitter **splitter) {
    par__splitter *s = *splitter;
    if (!s) return;
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    free(s);
    *splitter = NULL;
}

/* Length of the stretch at the front that is sound UTF-8, or of the run that is not. */
static size_t stretch(const uint8_t *p, size_t n, bool *sound) {
    size_t i = 0, k = par__utf8_length(p, n);
    for (*sound = k > 0; i < n; i += k ? k : 1) {
        k = par__utf8_length(p + i, n - i);
        if ((k > 0) != *sound) break;
    }
    return i;
}

static par_status split(par__splitter *s, const uint8_t *text, size_t n, par__piece_visitor *visit,
                        void *user) {
    for (size_t at = 0; at < n;) {
        int found = pcre2_match(s->code, text, n, at, PCRE2_NO_UTF_CHECK, s->match, NULL);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
        if (found < 1 || range[0] != at || range[1] <= at)
            PAR_FAIL(PAR_ERR_INTERNAL, "PCRE2 splits no piece at byte %zu of %zu: %d", at, n,
                     found);
        PAR_TRY(visit(user, text + at, range[1] - at));
        at = range[1];
    }
    return PAR_OK;
}

par_status par__splitter_run(par__splitter *s, const uint8_t *text, size_t n,
                             par__piece_visitor *visit, void *user) {
    bool sound;
    for (size_t at = 0; at < n;) {
        size_t k = stretch(text + at, n - at, &sound);
        PAR_TRY(sound ? split(s, text + at, k, visit, user) : visit(user, text + at, k));
        at += k;
    }
    return PAR_OK;
}
