/*
 * SentencePiece's table of characters and what they become ("precompiled_charsmap"): the number of
 * bytes of a trie, the trie, and texts with a zero behind each. The trie is a double array (Aoe
 * 1989) of 32-bit units as Darts-clone lays them out: bits 0 to 7 the label, bit 8 whether a value
 * hangs below, bits 10 to 30 the offset of the children, shifted by 8 more with bit 9; a unit with
 * bit 31 is a value, the place of a text.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokenizer.h"

par_status par__charsmap_read(const char *path, const uint8_t *bytes, size_t n,
                              par__charsmap *out) {
    size_t n_trie =
        n < 4 ? 0
              : bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    if (n_trie < 4 || n_trie % 4 != 0 || n_trie > n - 4 || n_trie == n - 4 || bytes[n - 1] != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: malformed \"precompiled_charsmap\" of %zu bytes", path, n);
    out->blob = malloc(n - 4);
    if (!out->blob) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu bytes", path, n);
    memcpy(out->blob, bytes + 4, n - 4);
    out->n_units = n_trie / 4;
    out->n_texts = n - 4 - n_trie;
    return PAR_OK;
}

static uint32_t unit_at(const par__charsmap *m, size_t at) {
    uint32_t unit;
    memcpy(&unit, m->blob + 4 * at, 4);
    return unit;
}

static size_t offset_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

const char *par__charsmap_find(const par__charsmap *m, const uint8_t *text, size_t n, bool first,
                               size_t *length) {
    const char *found = NULL;
    *length = 0;
    if (m->n_units == 0) return NULL;
    size_t node = offset_of(unit_at(m, 0));
    for (size_t i = 0; i < n && text[i] != 0; i++) {
        node ^= text[i];
        if (node >= m->n_units) break;
        uint32_t unit = unit_at(m, node);
        if ((unit & (1u << 31 | 0xFF)) != text[i]) break;
        node ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        size_t place = node < m->n_units ? unit_at(m, node) & ~(1u << 31) : m->n_texts;
        if (place >= m->n_texts) break;
        found = (const char *)m->blob + 4 * m->n_units + place;
        *length = i + 1;
        if (first) break;
    }
    return found;
}
