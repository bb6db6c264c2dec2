/*
 * Normalizers: what becomes of a text before it is split. Each reads one text and writes another;
 * bytes that are not UTF-8 stay. Unicode's forms are utf8proc's. An ASCII character never joins
 * what stands before it, so only stretches from such a character to the next are given to utf8proc.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

par_status par__grown_append(par__grown *text, const void *bytes, size_t n) {
    if (n == 0) return PAR_OK;
    if (n > text->max - text->n) {
        size_t max = text->max + n + text->max / 2 + 64;
        uint8_t *data = realloc(text->data, max);
        if (!data) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a text of %zu bytes", max);
        text->data = data;
        text->max = max;
    }
    memcpy(text->data + text->n, bytes, n);
    text->n += n;
    return PAR_OK;
}

void par__normalizers_destroy(par__normalizers *all) {
    for (int i = 0; i < all->n; i++) {
        par__normalizer *s = &all->list[i];
        free(s->from);
        free(s->to);
        free(s->map.blob);
        par__regex_destroy(&s->regex);
    }
    all->n = 0;
}

/* ---- Unicode's forms ---- */

static par_status apply_form(const uint8_t *text, size_t n, int options, par__grown *out) {
    utf8proc_int32_t few[64], *codes = few;
    utf8proc_option_t form = (utf8proc_option_t)options;
    utf8proc_ssize_t length =
        utf8proc_decompose(text, (utf8proc_ssize_t)n, few, 63, form); /* one for the end */
    if (length > 63) {
        codes = malloc(((size_t)length + 1) * sizeof *codes);
        if (!codes) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu characters", (size_t)length);
        length = utf8proc_decompose(text, (utf8proc_ssize_t)n, codes, length, form);
    }
    if (length >= 0) length = utf8proc_reencode(codes, length, form);
    par_status st = length < 0
                        ? par_error_set(PAR_ERR_INTERNAL, "utf8proc: %s", utf8proc_errmsg(length))
                        : par__grown_append(out, codes, (size_t)length);
    if (codes != few) free(codes);
    return st;
}

static par_status apply_unicode(const par__normalizer *s, const uint8_t *text, size_t n,
                                par__grown *out) {
    size_t done = 0;
    for (size_t at = 0; at < n;) {
        if (text[at] < 0x80 && (at + 1 == n || text[at + 1] < 0x80)) {
            at++;
            continue;
        }
        /* a stretch ends before an ASCII character, or before what is not UTF-8, and has one
         * character above ASCII at least; of 0 bytes: what stands here is not UTF-8 */
        size_t k = par__utf8_length(text + at, n - at), next;
        while (k > 0 && at + k < n && text[at + k] >= 0x80 &&
               (next = par__utf8_length(text + at + k, n - at - k)) > 0)
            k += next;
        PAR_TRY(par__grown_append(out, text + done, at - done));
        PAR_TRY(k > 0 ? apply_form(text + at, k, s->options, out)
                      : par__grown_append(out, text + at, 1));
        done = at += k ? k : 1;
    }
    return par__grown_append(out, text + done, n - done);
}

static par_status apply_lowercase(const uint8_t *text, size_t n, par__grown *out) {
    for (size_t at = 0, k; at < n; at += k) {
        utf8proc_uint8_t small[8];
        utf8proc_int32_t code = 0;
        k = par__utf8_length(text + at, n - at);
        if (k == 0) {
            k = 1;
            PAR_TRY(par__grown_append(out, text + at, 1));
            continue;
        }
        (void)utf8proc_iterate(text + at, (utf8proc_ssize_t)k, &code);
        utf8proc_ssize_t length = utf8proc_encode_char(utf8proc_tolower(code), small);
        /* the one character whose small form has two: I with a dot, U+0130 */
        PAR_TRY(code == 0x130 ? par__grown_append(out, "i\xcc\x87", 3)
                              : par__grown_append(out, small, (size_t)length));
    }
    return PAR_OK;
}

/* ---- the others ---- */

static par_status apply_replace(const par__normalizer *s, par__match *match, const uint8_t *text,
                                size_t n, par__grown *out) {
    size_t n_from = s->from ? strlen(s->from) : 0, n_to = strlen(s->to), done = 0, begin, end;
    for (size_t at = 0; at < n && s->regex; at = done = end) {
        PAR_TRY(par__regex_find(s->regex, match, text, n, at, &begin, &end));
        PAR_TRY(par__grown_append(out, text + done, begin - done));
        if (begin < n) PAR_TRY(par__grown_append(out, s->to, n_to));
    }
    for (size_t at = 0; !s->regex && at + n_from <= n;) {
        if (memcmp(text + at, s->from, n_from) != 0) {
            at++;
            continue;
        }
        PAR_TRY(par__grown_append(out, text + done, at - done));
        PAR_TRY(par__grown_append(out, s->to, n_to));
        done = at += n_from;
    }
    return par__grown_append(out, text + done, n - done);
}

/* A regular expression sees stretches of sound UTF-8. */
static par_status replace_sound(const par__normalizer *s, par__match *match, const uint8_t *text,
                                size_t n, par__grown *out) {
    if (!s->regex) return apply_replace(s, match, text, n, out);
    for (size_t at = 0, to, k; at < n; at = to) {
        for (to = at; to < n && (k = par__utf8_length(text + to, n - to)) > 0; to += k) {
        }
        PAR_TRY(apply_replace(s, match, text + at, to - at, out));
        if (to < n) PAR_TRY(par__grown_append(out, text + to++, 1));
    }
    return PAR_OK;
}

static par_status apply_strip(const par__normalizer *s, const uint8_t *text, size_t n,
                              par__grown *out) {
    size_t k, end = s->right ? 0 : n;
    while (s->left && n > 0 && (par__class_at(text, n, &k) & PAR__SPACE)) {
        text += k;
        n -= k;
    }
    for (size_t at = 0; s->right && at < n; at += k)
        if (!(par__class_at(text + at, n - at, &k) & PAR__SPACE)) end = at + k;
    return par__grown_append(out, text, s->right ? end : n);
}

/* A grapheme of fewer than 6 bytes is looked up whole, then its characters one by one. */
static par_status apply_precompiled(const par__normalizer *s, const uint8_t *text, size_t n,
                                    par__grown *out) {
    for (size_t at = 0, to, k, length; at < n; at = to) {
        utf8proc_int32_t state = 0, code = 0, next;
        to = at + (k = par__utf8_length(text + at, n - at));
        if (k == 0) {
            to = at + 1;
            PAR_TRY(par__grown_append(out, text + at, 1));
            continue;
        }
        (void)utf8proc_iterate(text + at, (utf8proc_ssize_t)k, &code);
        while (to < n && (k = par__utf8_length(text + to, n - to)) > 0) {
            (void)utf8proc_iterate(text + to, (utf8proc_ssize_t)k, &next);
            if (utf8proc_grapheme_break_stateful(code, next, &state)) break;
            code = next;
            to += k;
        }
        const char *whole =
            to - at < 6 ? par__charsmap_find(&s->map, text + at, to - at, true, &length) : NULL;
        if (whole) PAR_TRY(par__grown_append(out, whole, strlen(whole)));
        for (size_t i = at; !whole && i < to; i += k) {
            k = par__utf8_length(text + i, to - i);
            const char *one = par__charsmap_find(&s->map, text + i, k, true, &length);
            PAR_TRY(one ? par__grown_append(out, one, strlen(one))
                        : par__grown_append(out, text + i, k));
        }
    }
    return PAR_OK;
}

/* ---- SentencePiece ---- */

/* What the text at the front becomes; *length: how much of it. */
static const uint8_t *next_prefix(const par__normalizer *s, const uint8_t *text, size_t n,
                                  size_t *length, size_t *n_out) {
    const par__added_token *symbol = s->symbols ? par__added_at(s->symbols, text, n) : NULL;
    if (symbol) {
        *length = *n_out = symbol->n;
        return text;
    }
    const char *to = par__charsmap_find(&s->map, text, n, false, length);
    if (to) {
        *n_out = strlen(to);
        return (const uint8_t *)to;
    }
    size_t k = par__utf8_length(text, n);
    *length = *n_out = k ? k : 1;
    return text;
}

static par_status apply_sentencepiece(const par__normalizer *s, const uint8_t *text, size_t n,
                                      par__grown *out) {
    const char *space = s->escape_spaces ? "\xe2\x96\x81" : " ";
    size_t n_space = strlen(space), at = 0, k, m;
    bool after_space = s->remove_spaces;
    while (s->remove_spaces && at < n) {
        const uint8_t *p = next_prefix(s, text + at, n - at, &k, &m);
        if (m != 1 || *p != ' ') break;
        at += k;
    }
    if (at == n) return PAR_OK;
    if (s->dummy_prefix && !s->suffix) PAR_TRY(par__grown_append(out, space, n_space));
    for (; at < n; at += k) {
        const uint8_t *p = next_prefix(s, text + at, n - at, &k, &m);
        for (; after_space && m > 0 && *p == ' '; p++) m--;
        for (size_t i = 0; i < m; i++)
            PAR_TRY(p[i] == ' ' ? par__grown_append(out, space, n_space)
                                : par__grown_append(out, p + i, 1));
        if (m > 0) after_space = p[m - 1] == ' ';
        if (!s->remove_spaces) after_space = false;
    }
    while (s->remove_spaces && out->n >= n_space &&
           memcmp(out->data + out->n - n_space, space, n_space) == 0)
        out->n -= n_space;
    return s->dummy_prefix && s->suffix ? par__grown_append(out, space, n_space) : PAR_OK;
}

/* ---- all of them ---- */

static par_status apply(const par__normalizer *s, par__match *match, const uint8_t *text, size_t n,
                        par__grown *out) {
    switch (s->kind) {
    case PAR__NORMALIZE_UNICODE: return apply_unicode(s, text, n, out);
    case PAR__NORMALIZE_PREPEND:
        if (n > 0) PAR_TRY(par__grown_append(out, s->to, strlen(s->to)));
        return par__grown_append(out, text, n);
    case PAR__NORMALIZE_REPLACE: return replace_sound(s, match, text, n, out);
    case PAR__NORMALIZE_LOWERCASE: return apply_lowercase(text, n, out);
    case PAR__NORMALIZE_STRIP: return apply_strip(s, text, n, out);
    case PAR__NORMALIZE_PRECOMPILED: return apply_precompiled(s, text, n, out);
    case PAR__NORMALIZE_SENTENCEPIECE: return apply_sentencepiece(s, text, n, out);
    }
    return PAR_OK;
}

static bool is_ascii(const uint8_t *p, size_t n) {
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++) all |= p[i];
    return all < 0x80;
}

par_status par__normalize(const par__normalizers *all, par__match *match, const uint8_t *text,
                          size_t n, par__grown buffers[2], const uint8_t **out, size_t *n_out) {
    for (int i = 0; i < all->n; i++) {
        par__grown *to = &buffers[i % 2];
        if (all->list[i].kind == PAR__NORMALIZE_UNICODE && is_ascii(text, n)) continue;
        to->n = 0;
        PAR_TRY(apply(&all->list[i], match, text, n, to));
        text = to->data;
        n = to->n;
    }
    *out = text;
    *n_out = n;
    return PAR_OK;
}
