/*
 * Added tokens: found in a text before it is split, the leftmost first, of several there the
 * longest, as Hugging Face's library does. A bit for each pair of first bytes keeps the list from
 * being looked at for every byte.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

static void mark(par__added *a, unsigned first, unsigned second) {
    unsigned pair = first << 8 | second;
    a->begins[pair / 8] |= (uint8_t)(1u << pair % 8);
}

par_status par__added_put(par__added *a, const par__added_token *token) {
    par__added_token *list = realloc(a->list, ((size_t)a->n + 1) * sizeof *list);
    if (list) a->list = list;
    char *text = list ? malloc(token->n + 1) : NULL;
    if (!text) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for an added token");
    memcpy(text, token->text, token->n);
    text[token->n] = 0;
    const uint8_t *p = (const uint8_t *)text;
    if (token->n > 1) mark(a, p[0], p[1]);
    for (unsigned b = 0; token->n == 1 && b < 256; b++) mark(a, p[0], b);
    a->list[a->n] = *token;
    a->list[a->n++].text = text;
    return PAR_OK;
}

void par__added_destroy(par__added *a) {
    for (int32_t i = 0; i < a->n; i++) free(a->list[i].text);
    free(a->list);
    *a = (par__added){0};
}

const par__added_token *par__added_at(const par__added *a, const uint8_t *text, size_t n) {
    const par__added_token *found = NULL;
    unsigned pair = (unsigned)text[0] << 8 | (n > 1 ? text[1] : 0);
    if (a->n == 0 || !(a->begins[pair / 8] >> pair % 8 & 1)) return NULL;
    for (int32_t i = 0; i < a->n; i++) {
        const par__added_token *token = &a->list[i];
        if ((found && token->n <= found->n) || token->n > n) continue;
        if (memcmp(token->text, text, token->n) == 0) found = token;
    }
    return found;
}

static int32_t find(const par__added *a, const char *token) {
    for (int32_t i = 0; i < a->n; i++)
        if (strcmp(a->list[i].text, token) == 0) return a->list[i].id;
    return -1;
}

int32_t par__added_find(const par_tokenizer *t, const char *token) {
    int32_t id = find(&t->added, token);
    return id >= 0 ? id : find(&t->normalized_added, token);
}

/* Begin of the last character of n bytes; a byte that is not UTF-8 is one. */
static size_t last_character(const uint8_t *text, size_t n) {
    for (size_t k = 1; k <= 4 && k <= n; k++)
        if (par__utf8_length(text + n - k, k) == k) return n - k;
    return n - 1;
}

/* No character of a word touches text [begin, end). */
static bool stands_alone(const uint8_t *text, size_t n, size_t begin, size_t end) {
    size_t k, at = begin > 0 ? last_character(text, begin) : 0;
    if (begin > 0 && (par__class_at(text + at, begin - at, &k) & PAR__WORD)) return false;
    return end == n || !(par__class_at(text + end, n - end, &k) & PAR__WORD);
}

par_status par__added_run(const par__added *a, const uint8_t *text, size_t n,
                          par__added_visitor *visit, void *user) {
    size_t done = 0;
    for (size_t at = 0; a->n > 0 && at < n;) {
        const par__added_token *token = par__added_at(a, text + at, n - at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token->n, k;
        at = end;
        if (token->single && !stands_alone(text, n, begin, end)) continue;
        while (token->left && begin > 0) {
            size_t before = last_character(text, begin);
            if (!(par__class_at(text + before, begin - before, &k) & PAR__SPACE)) break;
            begin = before;
        }
        while (token->right && end < n && (par__class_at(text + end, n - end, &k) & PAR__SPACE))
            end += k;
        if (begin > done) PAR_TRY(visit(user, NULL, text + done, begin - done));
        PAR_TRY(visit(user, token, NULL, 0));
        done = end;
    }
    return done < n ? visit(user, NULL, text + done, n - done) : PAR_OK;
}
