/*
 * Megatron's .idx: sequence lengths, byte offsets and document boundaries of the .bin beside it.
 * Nothing of it is used after the check, the tokens are one stream; but an index that does not
 * describe its .bin means a wrong pair of files. Offset 34, where the arrays begin, is not aligned:
 * every field is copied out.
 */
#include <inttypes.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/data/tokens.h"

enum { INDEX_HEADER = 34 };

typedef struct {
    const char *path;
    const uint8_t *data;
    uint64_t sequences, documents;       /* N and D */
    size_t item;                         /* bytes of a token */
    size_t lengths, offsets, boundaries; /* byte offsets of the arrays */
} index_file;

static uint64_t get_u64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Sizes first: nothing behind the header is touched before the file is known to be as long as it
 * says. */
static par_status parse_header(const char *path, const uint8_t *data, size_t nbytes, index_file *f,
                               par__token_type *type) {
    static const int types[] = {
        -1, PAR__TOKEN_U8, PAR__TOKEN_I8, PAR__TOKEN_I16, PAR__TOKEN_I32, PAR__TOKEN_I64, -1,
        -1, PAR__TOKEN_U16};
    size_t n4, n8, d8, end;
    if (nbytes < INDEX_HEADER)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %zu bytes; the header alone takes %d", path, nbytes,
                 INDEX_HEADER);
    if (memcmp(data, "MMIDIDX\0\0", 9) != 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 0: does not begin with MMIDIDX and two zero bytes: no Megatron index",
                 path);
    if (get_u64(data + 9) != 1)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 9: version %" PRIu64 "; legal: 1", path,
                 get_u64(data + 9));
    if (data[17] > 8 || types[data[17]] < 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 17: element type %u is not one for tokens; legal: 1 u8, 2 i8, 3 i16, "
                 "4 i32, 5 i64, 8 u16",
                 path, data[17]);
    *type = (par__token_type)types[data[17]];
    *f = (index_file){
        path, data, get_u64(data + 18), get_u64(data + 26), par__token_nbytes(*type), INDEX_HEADER,
        0,    0};
    if (!par__mul(f->sequences, 4, &n4) || !par__mul(f->sequences, 8, &n8) ||
        !par__mul(f->documents, 8, &d8) || !par__add(INDEX_HEADER, n4, &f->offsets) ||
        !par__add(f->offsets, n8, &f->boundaries) || !par__add(f->boundaries, d8, &end) ||
        end != nbytes)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 18: %" PRIu64 " sequences and %" PRIu64
                 " document boundaries need 34 + 12 N + 8 D bytes, the file has %zu",
                 path, f->sequences, f->documents, nbytes);
    return PAR_OK;
}

/* Byte offsets are the running sum of length times item size, and end at the size of the .bin. */
static par_status check_sequences(const index_file *f, size_t bin_nbytes) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < f->sequences; i++) {
        int32_t length;
        memcpy(&length, f->data + f->lengths + 4 * i, sizeof length);
        uint64_t offset = get_u64(f->data + f->offsets + 8 * i);
        if (length < 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: sequence %" PRIu64 " has length %" PRId32
                     "; legal: 0 or more",
                     f->path, f->lengths + (size_t)(4 * i), i, length);
        if (offset != sum)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: sequence %" PRIu64 " begins at byte %" PRId64
                     "; the lengths before it give %" PRIu64,
                     f->path, f->offsets + (size_t)(8 * i), i, (int64_t)offset, sum);
        /* Below bin_nbytes before the addition, so it cannot overflow. */
        sum += (uint64_t)length * f->item;
        if (sum > bin_nbytes) break;
    }
    if (sum != bin_nbytes)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its sequences take %s%" PRIu64 " bytes, the .bin has %zu",
                 f->path, sum > bin_nbytes ? "at least " : "", sum, bin_nbytes);
    return PAR_OK;
}

static par_status check_documents(const index_file *f) {
    uint64_t before = 0, last = f->documents - 1;
    if (f->documents < 1)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 26: 0 document boundaries; legal: 1 or more", f->path);
    for (uint64_t i = 0; i < f->documents; i++) {
        uint64_t at = get_u64(f->data + f->boundaries + 8 * i);
        size_t offset = f->boundaries + (size_t)(8 * i);
        if (i == 0 && at != 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: the first document begins at sequence %" PRId64 "; legal: 0",
                     f->path, offset, (int64_t)at);
        if (at < before || at > f->sequences)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: document boundary %" PRIu64 " is sequence %" PRId64
                     "; legal: %" PRIu64 " to %" PRIu64,
                     f->path, offset, i, (int64_t)at, before, f->sequences);
        if (i == last && at != f->sequences)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: offset %zu: the last document ends at sequence %" PRIu64
                     "; legal: %" PRIu64,
                     f->path, offset, at, f->sequences);
        before = at;
    }
    return PAR_OK;
}

par_status par__tokens_parse_index(const char *path, const uint8_t *index, size_t index_nbytes,
                                   size_t nbytes, par_tokens *out) {
    index_file f = {0};
    par__token_type type = PAR__TOKEN_U8;
    PAR_TRY(parse_header(path, index, index_nbytes, &f, &type));
    PAR_TRY(check_sequences(&f, nbytes));
    PAR_TRY(check_documents(&f));
    out->form = PAR_TOKENS_MEGATRON;
    out->type = type;
    out->n_documents = (int64_t)f.documents - 1;
    out->offset = 0;
    out->n = (int64_t)(nbytes / f.item);
    return PAR_OK;
}
