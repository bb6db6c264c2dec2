/*
 * Token files without a magic of llm.c or an index, and files that are none. Raw ids say nothing of
 * their width: it is given, or a stamp tells it, or u32 is impossible, because it would have an id
 * outside of any vocabulary. What stays open is asked for, never guessed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokens.h"

/* ---- LitGPT: "LITPKDS", u64 version 1, u8 type, u64 tokens; then the tokens ---- */

enum { LITGPT_HEADER = 24 };

bool par__tokens_is_litgpt(const uint8_t *data, size_t nbytes) {
    return nbytes >= 7 && memcmp(data, "LITPKDS", 7) == 0;
}

par_status par__tokens_parse_litgpt(const char *path, const uint8_t *data, size_t nbytes,
                                    par_tokens *out) {
    uint64_t version, n;
    if (nbytes < LITGPT_HEADER)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %zu bytes; the header of a LitGPT file alone takes %d",
                 path, nbytes, LITGPT_HEADER);
    memcpy(&version, data + 7, 8);
    memcpy(&n, data + 16, 8);
    if (version != 1)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 7: LitGPT's version %" PRIu64 "; legal: 1", path,
                 version);
    if (!par__token_type_of(data[15], &out->type))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 15: LitGPT's element type %u is not one for tokens; "
                 "legal: " PAR__TOKEN_CODES,
                 path, data[15]);
    size_t item = par__token_nbytes(out->type), there = nbytes - LITGPT_HEADER;
    if (n < 1 || n != there / item || there % item != 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 16: a LitGPT file of %" PRIu64
                 " tokens of %zu bytes; the file has %zu "
                 "bytes behind its header, so it was cut or is not one whole chunk",
                 path, n, item, there);
    out->form = PAR_TOKENS_LITGPT;
    out->offset = LITGPT_HEADER;
    out->n = (int64_t)n;
    return PAR_OK;
}

/* ---- files of other kinds ---- */

/* Printable UTF-8 without a zero byte; a character may be cut at the end. */
static bool is_text(const uint8_t *data, size_t nbytes) {
    size_t n = nbytes < 4096 ? nbytes : 4096;
    for (size_t i = 0, k; i < n; i += k) {
        k = par__utf8_length(data + i, n - i);
        if (k == 0 && n - i < 4 && n < nbytes) break;
        if (k == 0 || (data[i] < 32 && !(data[i] >= 9 && data[i] <= 13))) return false;
    }
    return true;
}

const char *par__magic(const uint8_t *data, size_t nbytes, bool text, const char **remedy) {
    static const struct {
        int at, n;
        const char *magic, *name, *remedy, *of_ids; /* of_ids: a remedy for token files alone */
    } kinds[] = {
        {0, 6, "\x93NUMPY", "a NumPy file (.npy)", NULL,
         ": write its array with tofile() or as llm.c does"},
        {0, 4, "PK\3\4", "a zip archive (or .npz, or saved by PyTorch)", ": unpack it first", NULL},
        {0, 4, "PAR1", "a Parquet file", ": export its text as JSON Lines for par data", NULL},
        {0, 6, "ARROW1", "an Arrow file", ": export its text as JSON Lines for par data", NULL},
        {0, 3, "\x1f\x8b\x08", "compressed (gzip)", ": gunzip it first", NULL},
        {0, 4, "\x28\xb5\x2f\xfd", "compressed (zstd)", ": unzstd it first", NULL},
        {0, 4, "\x04\x22\x4d\x18", "compressed (lz4)", ": unlz4 it first", NULL},
        {0, 6, "\xfd\x37zXZ\0", "compressed (xz)", ": unxz it first", NULL},
        {4, 6, "1AY&SY", "compressed (bzip2)", ": bunzip2 it first", NULL},
        {0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive", ": unpack it first", NULL},
        {257, 5, "ustar", "a tar archive", ": unpack it first", NULL},
        {0, 8, "\x89HDF\r\n\x1a\n", "an HDF5 file", NULL, ": write its array as raw u16 or u32"},
        {0, 4, "GGUF", "a model for llama.cpp (GGUF)", NULL, NULL},
        {0, 9, "MMIDIDX\0\0", "a Megatron index", NULL, ": name the .bin beside it"},
        {0, 5, "%PDF-", "a PDF", ": make text of it first (pdftotext)", NULL},
        {0, 4, "\x88\xd8\x34\x01", "a token file of llm.c", NULL, NULL},
        {0, 4, "\xa1\xd9\x34\x01", "a token file of llm.c", NULL, NULL},
        {0, 4, "\x46\x25\x35\x01", "a model of llm.c (20240326)", NULL, NULL},
        {0, 4, "\x47\x25\x35\x01", "a debug state of llm.c (20240327)", NULL, NULL},
        {0, 16, "SQLite format 3", "an SQLite database", NULL, NULL},
        {0, 23, "version https://git-lfs", "a Git LFS pointer, not the file", ": git lfs pull",
         NULL},
        {0, 3, "\x80\x04\x95", "a Python pickle", NULL, ": write its array with numpy's tofile()"},
        {0, 6, "\x80\x02\x8a\x0al\xfc", "saved by PyTorch", NULL,
         ": write its array with numpy's tofile()"},
    };
    *remedy = text ? ", not text" : ", not tokens";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if ((size_t)(kinds[i].at + kinds[i].n) > nbytes ||
            memcmp(data + kinds[i].at, kinds[i].magic, (size_t)kinds[i].n) != 0)
            continue;
        const char *of_ids = text ? NULL : kinds[i].of_ids;
        if (kinds[i].remedy || of_ids) *remedy = of_ids ? of_ids : kinds[i].remedy;
        return kinds[i].name;
    }
    /* u64 length of a header of JSON, which begins behind it */
    uint64_t n = 0;
    if (nbytes >= 10) memcpy(&n, data, sizeof n);
    bool fits = n >= 2 && n <= 100000000 && (text || n <= nbytes - 8);
    return fits && memcmp(data + 8, "{\"", 2) == 0 ? "a model (a safetensors file)" : NULL;
}

const char *par__tokens_foreign(const uint8_t *data, size_t nbytes, const char **remedy) {
    const char *kind = par__magic(data, nbytes, false, remedy);
    if (kind) return kind;
    if (nbytes < 16 || !is_text(data, nbytes)) return NULL;
    bool json = *data == '{' || *data == '[';
    *remedy = json ? ": par data --jsonl makes tokens of JSON Lines"
                   : ": par data --text makes tokens of it";
    return json ? "JSON" : "text";
}

/* ---- raw ids ---- */

/* Read as u32, an id is outside of any vocabulary: then they are u16. (The other way round nothing
 * can be shown, as the halves of a legal u32 are legal.) In text of u16 a few ids are enough. What
 * is outside of the model's vocabulary alone shows nothing, as that may be too small for the file;
 * neither do the small negative numbers of i32 that stand for no token. */
static bool is_u16(const uint8_t *data, size_t nbytes, int64_t vocab) {
    enum { ANY_VOCAB = 1 << 20 };
    if (vocab < ANY_VOCAB) vocab = ANY_VOCAB;
    for (size_t i = 0; i + 4 <= nbytes && nbytes % 4 == 0; i += 4) {
        uint32_t w;
        memcpy(&w, data + i, 4);
        if (w >= vocab && w < 0xFFFF0000) return true;
    }
    return nbytes % 4 != 0;
}

/* Ids have fewer bytes than their elements, so that some bytes of each are zero: which ones, and
 * the width and order of bytes follow. One character per byte of 8: 0 always zero, s always below
 * 16 (the high half of an id below 2^20), x not always zero. No text has every other id zero. */
static const struct {
    int asked, item; /* bytes: as which the ids would be read, as which they were written */
    const char *bytes, *name, *numpy;
} misreadings[] = {
    {4, 8, "x..00000", "i64", "'<i8'"},
    {4, 8, "00000..x", "i64, the highest byte first", "'>i8'"},
    {4, 4, "0s.x0s.x", "u32, the highest byte first", "'>u4'"},
    {4, 2, "0x0x0x0x", "u16, the highest byte first", "'>u2'"},
    {2, 8, "x..00000", "i64", "'<i8'"},
    {2, 8, "00000..x", "i64, the highest byte first", "'>i8'"},
    {2, 4, "x.00x.00", "u32", NULL},
    {2, 4, "xxs0xxs0", "u32", NULL},
    {2, 4, "00.x00.x", "u32, the highest byte first", "'>u4'"},
    {2, 4, "0sxx0sxx", "u32, the highest byte first", "'>u4'"},
    {2, 2, "0x0x0x0x", "u16, the highest byte first", "'>u2'"},
};

enum { N_MISREADINGS = sizeof misreadings / sizeof *misreadings };

/* Can bytes with these largest values be of the row? */
static bool may_be(int row, const uint8_t most[8], bool whole) {
    for (int i = 0; i < 8; i++) {
        char c = misreadings[row].bytes[i];
        if ((c == '0' && most[i] > 0) || (c == 's' && most[i] >= 16)) return false;
        if (whole && c == 'x' && most[i] == 0) return false;
    }
    return true;
}

/* The row of what ids without a header are, if not what they would be read as; -1: nothing speaks
 * against it. Of sound files the first ids show that, of others all are looked at. */
static int misreading(int asked, const uint8_t *data, size_t nbytes) {
    enum { FEWEST = 256, PART = 1 << 12 };
    uint8_t most[8] = {0};
    bool open = nbytes >= FEWEST;
    for (size_t at = 0; open && at < nbytes; at += PART) {
        size_t end = at + PART < nbytes ? at + PART : nbytes;
        for (size_t i = at; i < end; i++)
            if (data[i] > most[i % 8]) most[i % 8] = data[i];
        open = false;
        for (int row = 0; row < N_MISREADINGS; row++)
            open |= misreadings[row].asked == asked && may_be(row, most, false);
    }
    for (int row = 0; open && row < N_MISREADINGS; row++)
        if (misreadings[row].asked == asked && nbytes % (size_t)misreadings[row].item == 0 &&
            may_be(row, most, true))
            return row;
    return -1;
}

static par_status refuse_misread(const char *path, int asked, const uint8_t *data, size_t nbytes) {
    int row = misreading(asked, data, nbytes);
    if (row < 0) return PAR_OK;
    const char *name = misreadings[row].name, *numpy = misreadings[row].numpy;
    if (!numpy)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: its bytes are those of ids in %s, not in u%d; legal: its "
                 "form, %s",
                 path, name, 8 * asked, name);
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: its bytes are those of ids in %s, a form that is not read without a header; to "
             "convert it: python3 -c \"import numpy; numpy.fromfile('%s', %s).astype('<u4')"
             ".tofile('u32.bin')\"",
             path, name, path, numpy);
}

par_status par__tokens_parse_raw(const char *path, const par_tokens_params *params,
                                 const uint8_t *data, size_t nbytes, const par__stamp *stamp,
                                 par_tokens *out) {
    size_t n = strlen(path);
    bool given = params->form != PAR_TOKENS_KNOWN;
    const char *remedy, *foreign = given ? NULL : par__tokens_foreign(data, nbytes, &remedy);
    if (foreign) PAR_FAIL(PAR_ERR_FORMAT, "%s: is %s%s", path, foreign, remedy);
    if (!given && !stamp && (n < 4 || strcmp(path + n - 4, ".bin") != 0))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 0: no known magic; legal: llm.c (20240520 or 20240801), Megatron (a "
                 ".idx beside the .bin), LitGPT (LITPKDS), or ids without a header in a name that "
                 "ends in .bin",
                 path);
    bool raw = stamp && (stamp->form == PAR_TOKENS_U16 || stamp->form == PAR_TOKENS_U32);
    out->form = given ? params->form : raw ? stamp->form : PAR_TOKENS_U16;
    if (!given && raw) out->only_stamped = true;
    if (!given && !raw) PAR_TRY(refuse_misread(path, 4, data, nbytes));
    if (!given && !raw &&
        !is_u16(data, nbytes, params->vocab ? params->vocab : (int64_t)INT32_MAX + 1))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: holds ids without a header, and nothing tells whether they are u16 or u32: "
                 "either way all may be ids; give its form, u16 or u32 (nanoGPT writes u16 for "
                 "vocabularies up to 65,536, others more often u32)",
                 path);
    out->type = out->form == PAR_TOKENS_U32 ? PAR__TOKEN_U32 : PAR__TOKEN_U16;
    size_t item = par__token_nbytes(out->type);
    if (nbytes % item != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its size in bytes is %zu; raw u%zu tokens take %s", path,
                 nbytes, 8 * item, item == 2 ? "an even number" : "a multiple of 4");
    PAR_TRY(refuse_misread(path, (int)item, data, nbytes));
    out->offset = 0;
    out->n = (int64_t)(nbytes / item);
    return PAR_OK;
}
