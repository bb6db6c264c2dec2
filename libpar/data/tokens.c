/*
 * Token files: open, check, read. A file is mapped, so its size does not matter, and a rank touches
 * only what it reads. Ids are checked when they are read, since looking at all of them at open
 * would read terabytes.
 */
#define _POSIX_C_SOURCE 200809L
#include "libpar/data/tokens.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"

static int32_t header_word(const uint8_t *data, int i) {
    int32_t x;
    memcpy(&x, data + 4 * i, sizeof x);
    return x;
}

/* llm.c: 256 words of header, then tokens up to the end of the file. */
static par_status parse_llmc(const char *path, const uint8_t *data, size_t nbytes,
                             par_tokens *out) {
    bool wide = header_word(data, 0) == PAR__TOKENS_MAGIC32;
    int32_t version = wide ? 7 : 1;
    size_t item = wide ? 4 : 2;
    if (nbytes < PAR__TOKENS_HEADER)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: has %zu bytes; the header of an llm.c token file alone takes %d", path,
                 nbytes, PAR__TOKENS_HEADER);
    if (header_word(data, 1) != version)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 4: version %" PRId32 "; legal with this magic: %" PRId32, path,
                 header_word(data, 1), version);
    int32_t n = header_word(data, 2);
    if (n < 1)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 8: %" PRId32 " tokens; legal: 1 to 2147483647", path,
                 n);
    for (int i = 3; i < PAR__TOKENS_HEADER / 4; i++)
        if (header_word(data, i) != 0)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: offset %d: reserved word is %" PRId32 "; legal: 0", path,
                     4 * i, header_word(data, i));
    if (nbytes != PAR__TOKENS_HEADER + (size_t)n * item)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 8: %" PRId32 " tokens need a file of %zu bytes, it has %zu", path, n,
                 PAR__TOKENS_HEADER + (size_t)n * item, nbytes);
    out->type = wide ? PAR__TOKEN_U32 : PAR__TOKEN_U16;
    out->offset = PAR__TOKENS_HEADER;
    out->n = n;
    return PAR_OK;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static par_status parse_raw(const char *path, size_t nbytes, par_tokens *out) {
    if (!ends_with(path, ".bin"))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 0: no known magic; legal: llm.c (20240520 or 20240801), Megatron (a "
                 ".idx beside "
                 "the .bin), "
                 "or raw u16 in a name that ends in .bin",
                 path);
    if (nbytes % 2 != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %zu bytes; raw u16 tokens take an even number", path,
                 nbytes);
    out->type = PAR__TOKEN_U16;
    out->offset = 0;
    out->n = (int64_t)(nbytes / 2);
    return PAR_OK;
}

par_status par__tokens_parse(const char *path, const uint8_t *data, size_t nbytes,
                             const uint8_t *index, size_t index_nbytes, par_tokens *out) {
    if (nbytes == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a token file of llm.c, Megatron or nanoGPT",
                 path);
    int32_t magic = nbytes >= 4 ? header_word(data, 0) : 0;
    if (index)
        PAR_TRY(par__tokens_parse_index(path, index, index_nbytes, nbytes, out));
    else if (magic == PAR__TOKENS_MAGIC16 || magic == PAR__TOKENS_MAGIC32)
        PAR_TRY(parse_llmc(path, data, nbytes, out));
    else
        PAR_TRY(parse_raw(path, nbytes, out));
    out->first = data + out->offset;
    return PAR_OK;
}

/* x.bin → x.idx; NULL without memory. */
static char *index_path(const char *path) {
    char *copy = strdup(path);
    if (copy) memcpy(copy + strlen(copy) - 4, ".idx", 4);
    return copy;
}

static par_status open_with_index(par_tokens *t, const char *path, const char *name) {
    par__map index;
    PAR_TRY(par__map_open(name, &index));
    static const uint8_t nothing[1];
    par_status st = PAR_OK;
    if (t->map.nbytes == 0)
        st = par_error_set(PAR_ERR_FORMAT,
                           "%s: is empty; legal: a token file of llm.c, Megatron or nanoGPT", path);
    if (st == PAR_OK)
        st = par__tokens_parse(name, t->map.data, t->map.nbytes, index.data ? index.data : nothing,
                               index.nbytes, t);
    par__map_close(&index);
    return st;
}

static par_status open_mapped(par_tokens *t, const char *path) {
    PAR_TRY(par__map_open(path, &t->map));
    if (!ends_with(path, ".bin"))
        return par__tokens_parse(path, t->map.data, t->map.nbytes, NULL, 0, t);
    char *name = index_path(path);
    if (!name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for the name of its index", path);
    par_status st = par__file_exists(name)
                        ? open_with_index(t, path, name)
                        : par__tokens_parse(path, t->map.data, t->map.nbytes, NULL, 0, t);
    free(name);
    return st;
}

par_status par_tokens_open(const char *path, par_tokens **out) {
    PAR_REQUIRE(path && out);
    par_tokens *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory to open it", path);
    t->path = strdup(path);
    par_status st = t->path ? open_mapped(t, path)
                            : par_error_set(PAR_ERR_MEMORY, "%s: no memory to open it", path);
    if (st != PAR_OK) {
        par_tokens_close(&t);
        return st;
    }
    *out = t;
    return PAR_OK;
}

void par_tokens_close(par_tokens **tokens) {
    if (!tokens || !*tokens) return;
    par__map_close(&(*tokens)->map);
    free((*tokens)->path);
    free(*tokens);
    *tokens = NULL;
}

int64_t par_tokens_n(const par_tokens *t) {
    return t->n;
}

/* Token i as it is, a negative one as a number that is too large for any vocabulary. */
static inline int64_t token_at(const par_tokens *t, int64_t i) {
    const uint8_t *p = t->first + (size_t)i * par__token_nbytes(t->type);
    uint16_t h;
    uint32_t w;
    int64_t d;
    switch (t->type) {
    case PAR__TOKEN_U8: return p[0];
    case PAR__TOKEN_I8: return p[0] < 128 ? p[0] : INT64_MAX;
    case PAR__TOKEN_U16: memcpy(&h, p, 2); return h;
    case PAR__TOKEN_I16: memcpy(&h, p, 2); return h < 32768 ? h : INT64_MAX;
    case PAR__TOKEN_I32: memcpy(&w, p, 4); return w <= INT32_MAX ? (int64_t)w : INT64_MAX;
    case PAR__TOKEN_U32: memcpy(&w, p, 4); return w;
    case PAR__TOKEN_I64: memcpy(&d, p, 8); return d >= 0 ? d : INT64_MAX;
    }
    return INT64_MAX;
}

int64_t par_tokens_max(const par_tokens *t) {
    int64_t max = 0;
    for (int64_t i = 0; i < t->n; i++) {
        int64_t id = token_at(t, i);
        if (id > max) max = id;
    }
    return max;
}

par_status par_tokens_read(const par_tokens *t, int64_t first, int64_t n, int32_t *out) {
    int64_t end;
    PAR_REQUIRE(t && (out || n == 0));
    if (first < 0 || n < 0 || !par__add64(first, n, &end) || end > t->n)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: %" PRId64 " tokens from %" PRId64 " asked for; it holds %" PRId64, t->path, n,
                 first, t->n);
    for (int64_t i = 0; i < n; i++) {
        int64_t id = token_at(t, first + i);
        if (id > INT32_MAX)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: token %" PRId64 " is negative or above 2147483647", t->path,
                     t->offset + (size_t)(first + i) * par__token_nbytes(t->type), first + i);
        out[i] = (int32_t)id;
    }
    return par__map_check(&t->map, t->path);
}
