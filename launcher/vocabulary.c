/*
 * Trained vocabularies under their names, and UTF-8. See vocabulary.h. Files are renamed one by one, merges
 * first: with merges of another vocabulary opening it fails, so a crash in between is never taken for a
 * tokenizer.
 */
#define _XOPEN_SOURCE 700
#include "vocabulary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"merges.txt", "vocab.json"};

enum { N_FILES = 2, NAME = 4352, BLOCK = 1 << 16 };

par_status vocabulary_begin(const char *out, vocabulary_place *place) {
    int n = snprintf(place->final, sizeof place->final, "%s.tokenizer", out);
    int k = snprintf(place->temporary, sizeof place->temporary, "%s.tokenizer.tmp-XXXXXX", out);
    if (n < 0 || k < 0 || k >= (int)sizeof place->temporary)
        return par_fail(PAR_ERR_OPTION, "--out: name is longer than %zu bytes", sizeof place->temporary - 22);
    if (!mkdtemp(place->temporary))
        return par_fail(PAR_ERR_IO,
                        "%s: cannot be made: %s; legal: --out in a directory that is there and "
                        "can be written to",
                        place->final, strerror(errno));
    chmod(place->temporary, 0755);
    return PAR_OK;
}

par_status vocabulary_keep(const vocabulary_place *place) {
    char from[NAME], to[NAME];
    if (rename(place->temporary, place->final) == 0) return PAR_OK;
    for (int i = 0; i < N_FILES; i++) {
        snprintf(from, sizeof from, "%s/%s", place->temporary, files[i]);
        snprintf(to, sizeof to, "%s/%s", place->final, files[i]);
        if (rename(from, to) != 0)
            return par_fail(PAR_ERR_IO, "%s: cannot be given its name: %s; the tokens need this vocabulary",
                            to, strerror(errno));
    }
    rmdir(place->temporary);
    return PAR_OK;
}

void vocabulary_drop(const vocabulary_place *place) {
    char path[NAME];
    for (int i = 0; i < N_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", place->temporary, files[i]);
        unlink(path);
    }
    rmdir(place->temporary);
}

/* Where a sequence of UTF-8 stands: bytes that must follow, and the range of the next one. */
typedef struct {
    int more;
    unsigned char low, high;
} utf8_state;

static bool begin_sequence(utf8_state *s, unsigned char c) {
    *s = (utf8_state){0, 0x80, 0xbf};
    if (c < 0x80) return true;
    if (c < 0xc2 || c > 0xf4) return false;
    s->more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (c == 0xe0) s->low = 0xa0;  /* no overlong forms, */
    if (c == 0xed) s->high = 0x9f; /* surrogates, */
    if (c == 0xf0) s->low = 0x90;
    if (c == 0xf4) s->high = 0x8f; /* or beyond 10FFFF */
    return true;
}

static bool follow(utf8_state *s, unsigned char c) {
    if (s->more == 0) return begin_sequence(s, c);
    if (c < s->low || c > s->high) return false;
    *s = (utf8_state){s->more - 1, 0x80, 0xbf};
    return true;
}

int64_t text_first_bad(const char *path) {
    static unsigned char block[BLOCK];
    utf8_state s = {0, 0x80, 0xbf};
    int64_t at = 0, sequence = 0, bad = -1;
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    for (size_t n; bad < 0 && (n = fread(block, 1, sizeof block, file)) > 0; at += (int64_t)n)
        for (size_t i = 0; i < n && bad < 0; i++) {
            if (s.more == 0) sequence = at + (int64_t)i;
            if (!follow(&s, block[i])) bad = sequence;
        }
    fclose(file);
    return bad < 0 && s.more ? sequence : bad;
}
