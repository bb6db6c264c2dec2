/*
 * Token files: open, check, read. A file is mapped, so its size does not matter, and a rank touches
 * only what it reads. Opening looks at headers alone; all ids are looked at by par_tokens_check,
 * once per file.
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
    out->form = PAR_TOKENS_LLMC;
    out->type = wide ? PAR__TOKEN_U32 : PAR__TOKEN_U16;
    out->offset = PAR__TOKENS_HEADER;
    out->n = n;
    return PAR_OK;
}

/* A form that was asked for and is not the file's. */
static par_status check_form(const char *path, par_tokens_form asked, par_tokens_form own) {
    static const char *const names[] = {"",
                                        "Megatron's, with its .idx",
                                        "llm.c's, with its magic",
                                        "LitGPT's, with its magic",
                                        "raw u16",
                                        "raw u32"};
    bool raw = asked == PAR_TOKENS_U16 || asked == PAR_TOKENS_U32;
    if (asked == PAR_TOKENS_KNOWN || asked == own) return PAR_OK;
    if (raw && (own == PAR_TOKENS_KNOWN || own == PAR_TOKENS_MEGATRON)) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: its form is asked to be %s; it is %s", path, names[asked],
             own ? names[own] : "another: neither a magic nor an index says so");
}

par_status par__tokens_parse(const char *path, const par_tokens_params *params, const uint8_t *data,
                             size_t nbytes, const uint8_t *index, size_t index_nbytes,
                             const par__stamp *stamp, par_tokens *out) {
    if (nbytes == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a token file of llm.c, Megatron or nanoGPT",
                 path);
    /* what the file itself says; PAR_TOKENS_KNOWN: nothing */
    int32_t magic = nbytes >= 4 ? header_word(data, 0) : 0;
    bool llmc = magic == PAR__TOKENS_MAGIC16 || magic == PAR__TOKENS_MAGIC32;
    par_tokens_form own = llmc                                  ? PAR_TOKENS_LLMC
                          : par__tokens_is_litgpt(data, nbytes) ? PAR_TOKENS_LITGPT
                          : index                               ? PAR_TOKENS_MEGATRON
                                                                : PAR_TOKENS_KNOWN,
                    form = own;
    PAR_TRY(check_form(path, params->form, own));
    if (params->form != PAR_TOKENS_KNOWN) form = params->form;
    out->n_documents = -1;
    out->only_stamped = false;
    switch (form) {
    case PAR_TOKENS_MEGATRON:
        PAR_TRY(par__tokens_parse_index(path, index, index_nbytes, nbytes, out));
        break;
    case PAR_TOKENS_LLMC: PAR_TRY(parse_llmc(path, data, nbytes, out)); break;
    case PAR_TOKENS_LITGPT: PAR_TRY(par__tokens_parse_litgpt(path, data, nbytes, out)); break;
    default: PAR_TRY(par__tokens_parse_raw(path, params, data, nbytes, stamp, out));
    }
    out->first = data + out->offset;
    return PAR_OK;
}

static par_status parse_mapped(par_tokens *t, const par_tokens_params *params, const char *path,
                               const par__map *index) {
    static const uint8_t nothing[1];
    const uint8_t *bytes = index && !index->data ? nothing : index ? index->data : NULL;
    const par__stamp *stamp = t->has_stamp ? &t->stamp : NULL;
    return par__tokens_parse(path, params, t->map.data ? t->map.data : nothing, t->map.nbytes,
                             bytes, index ? index->nbytes : 0, stamp, t);
}

static par_status open_mapped(par_tokens *t, const par_tokens_params *params) {
    bool raw = params->form == PAR_TOKENS_U16 || params->form == PAR_TOKENS_U32;
    t->vocab = params->vocab;
    size_t n = strlen(t->path);
    bool bin = n >= 4 && strcmp(t->path + n - 4, ".bin") == 0;
    par__map index;
    PAR_TRY(par__file_state_of(t->path, &t->state));
    PAR_TRY(par__map_open(t->path, &t->map));
    PAR_TRY(par__stamp_read(t->path, &t->has_stamp, &t->stamp));
    t->has_stamp = t->has_stamp && t->stamp.of.nbytes == t->state.nbytes;
    if (raw || !bin) return parse_mapped(t, params, t->path, NULL);
    char *name = strdup(t->path); /* x.bin → x.idx */
    if (!name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for the name of its index", t->path);
    memcpy(name + n - 4, ".idx", 4);
    bool there;
    par_status st = par__file_exists(name, &there);
    if (st == PAR_OK)
        st = there ? par__map_open(name, &index) : parse_mapped(t, params, t->path, NULL);
    if (there && st == PAR_OK) {
        st = parse_mapped(t, params, t->map.nbytes ? name : t->path, &index);
        st = par__map_end(&index, name, st);
    }
    free(name);
    return st;
}

par_status par_tokens_open_as(const char *path, const par_tokens_params *params, par_tokens **out) {
    PAR_REQUIRE(path && params && out && params->form >= PAR_TOKENS_KNOWN &&
                params->form <= PAR_TOKENS_U32);
    size_t n = strlen(path);
    par_tokens *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory to open it", path);
    t->path = malloc(n + sizeof ".bin");
    if (t->path) {
        memcpy(t->path, path, n);
        memcpy(t->path + n, ".bin", sizeof ".bin");
        /* As it is or, where only a .bin of that name is there, with that: Megatron's users name a
         * pair by what its two files have in common. */
    }
    par_status st =
        t->path ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "%s: no memory to open it", path);
    bool plain, with_end = false;
    if (st == PAR_OK) st = par__file_exists(path, &plain);
    if (st == PAR_OK && !plain) st = par__file_exists(t->path, &with_end);
    if (st == PAR_OK && !with_end) t->path[n] = 0;
    if (st == PAR_OK) st = open_mapped(t, params);
    if (st == PAR_OK) st = par__map_check(&t->map, t->path);
    if (st != PAR_OK) {
        par_tokens_close(&t);
        return st;
    }
    *out = t;
    return PAR_OK;
}

par_status par_tokens_open(const char *path, par_tokens **out) {
    return par_tokens_open_as(path, &(par_tokens_params){0}, out);
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

int64_t par__token_at(const par_tokens *t, int64_t i) {
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

par_status par_tokens_read(const par_tokens *t, int64_t first, int64_t n, int32_t *out) {
    int64_t end;
    PAR_REQUIRE(t && (out || n == 0));
    if (first < 0 || n < 0 || !par__add64(first, n, &end) || end > t->n)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: %" PRId64 " tokens from %" PRId64 " asked for; it holds %" PRId64, t->path, n,
                 first, t->n);
    for (int64_t i = 0; i < n; i++) {
        int64_t id = par__token_at(t, first + i);
        if (id > INT32_MAX)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: token %" PRId64 " is negative or above 2147483647", t->path,
                     t->offset + (size_t)(first + i) * par__token_nbytes(t->type), first + i);
        out[i] = (int32_t)id;
    }
    return par__map_check(&t->map, t->path);
}
