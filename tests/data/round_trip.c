#define _XOPEN_SOURCE 700
#include "round_trip.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"

static uint64_t state = 1;
unsigned round_trip_draw(unsigned n) { /* xorshift64*, Marsaglia 2003 */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned)((state * 2685821657736338717u) >> 33) % n;
}

par_tokenizer *round_trip_open(const char *name) {
    char path[512];
    const char *shared = harness_shared();
    par_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s", shared ? shared : "", name);
    if (!shared || access(path, R_OK) != 0)
        harness_skip("no shared %s", name);
    else
        CHECK_OK(par_tokenizer_open(path, &t));
    return t;
}

size_t round_trip(par_tokenizer *t, const void *text, size_t n, const int32_t *ids,
                  size_t n_expected) {
    int32_t *got = malloc((n + 1) * sizeof *got);
    char *back = malloc(n + 1);
    size_t n_ids = 0, n_back = 0;
    CHECK_OK(par_tokenizer_encode(t, text, n, got, n, &n_ids));
    CHECK_OK(par_tokenizer_decode(t, got, n_ids, back, n, &n_back));
    CHECK(n_back == n && memcmp(back, text, n) == 0, "%zu bytes come back as %zu others", n,
          n_back);
    if (ids)
        CHECK(n_ids == n_expected && memcmp(got, ids, 4 * n_ids) == 0,
              "\"%.30s\": %zu ids, or others than %zu", (const char *)text, n_ids, n_expected);
    free(got);
    free(back);
    return n_ids;
}

void round_trip_random(par_tokenizer *t) {
    static const char *const pieces[] = {"\xc3\xa9",
                                         "\xe6\x97\xa5",
                                         "\xf0\x9f\x98\x80",
                                         "\xed\xa0\x80",
                                         "\xc0\x80",
                                         " ",
                                         "  ",
                                         "\n",
                                         "a",
                                         "'s",
                                         "7"};
    uint8_t text[600];
    for (int i = 0; i < 2000; i++) {
        size_t n = round_trip_draw(256), m;
        for (size_t k = 0; k < n; k++) text[k] = (uint8_t)round_trip_draw(256);
        for (unsigned k = round_trip_draw(60); k > 0; k--, n += m) {
            const char *p = pieces[round_trip_draw(11)];
            memcpy(text + n, p, m = strlen(p));
        }
        round_trip(t, text, n, NULL, 0);
    }
    round_trip(t, "", 0, NULL, 0);
}

void round_trip_cases(par_tokenizer *t, const char *path) {
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    const json_t *cases = json_object_get(root, "cases");
    if (!root) {
        harness_skip("no shared reference ids");
        return;
    }
    CHECK(json_array_size(cases) > 50, "%zu texts", json_array_size(cases));
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text"),
                     *list = json_object_get(c, "ids");
        size_t n = json_array_size(list);
        int32_t *ids = malloc((n + 1) * sizeof *ids);
        for (size_t k = 0; k < n; k++)
            ids[k] = (int32_t)json_integer_value(json_array_get(list, k));
        round_trip(t, json_string_value(text), json_string_length(text), ids, n);
        free(ids);
    }
    json_decref(root);
}
