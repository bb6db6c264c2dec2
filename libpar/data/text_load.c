/*
 * Files of text: see text_load.h. What is packed or in UTF-16 is made into UTF-8 in memory as a
 * whole; what is not stays where it is mapped.
 */
#include "libpar/data/text_load.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "libpar/data/tokens.h"
#include "par/tokenizer.h"
#if HAVE_ZLIB
#include <zlib.h>
#endif
#if HAVE_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

enum { LOOK = 4096 }; /* bytes that show what a file is */

size_t par__utf8_put(uint32_t c, uint8_t out[4]) {
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t first[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)(first[n] | c);
    return n;
}

static bool begins(const par__text *t, const char *bytes, size_t n) {
    return t->n >= n && memcmp(t->data, bytes, n) == 0;
}

static void own(par__text *t, uint8_t *bytes, size_t n) {
    free(t->owned);
    t->owned = bytes;
    t->data = n ? bytes : NULL;
    t->n = n;
}

/* ---- gzip and zstd ---- */

#if HAVE_ZLIB || HAVE_ZSTD
/* Room for more: at least 64 KiB behind n. */
static bool grow(uint8_t **bytes, size_t n, size_t *max) {
    if (*max - n >= 1 << 16) return true;
    size_t more = 2 * *max + (1 << 17);
    uint8_t *grown = realloc(*bytes, more);
    if (!grown) return false;
    *bytes = grown;
    *max = more;
    return true;
}
#endif

#if HAVE_ZLIB
/* Tapes and some programs fill a packed file up with zeros. */
static bool only_zeros(const uint8_t *data, size_t n) {
    size_t i = 0;
    while (i < n && data[i] == 0) i++;
    return i == n;
}

/* All members of the file, one behind the other; at least `limit` bytes are enough. */
static par_status gunzip(const char *path, par__text *t, size_t limit) {
    uint8_t *out = NULL;
    size_t n = 0, max = 0, at = 0;
    z_stream z = {0};
    int rc = inflateInit2(&z, 16 + MAX_WBITS);
    while (n < limit && (rc == Z_OK || (rc == Z_STREAM_END && at < t->n))) {
        if (rc == Z_STREAM_END && only_zeros(t->data + at, t->n - at)) break;
        if (rc == Z_STREAM_END) inflateReset(&z);
        if (!grow(&out, n, &max)) rc = Z_MEM_ERROR;
        if (rc == Z_MEM_ERROR) break;
        size_t in = t->n - at < 1 << 30 ? t->n - at : 1 << 30, room = max - n;
        if (room > 1 << 30) room = 1 << 30;
        if (room > limit - n) room = limit - n;
        z.next_in = (z_const Bytef *)(t->data + at);
        z.avail_in = (uInt)in;
        z.next_out = out + n;
        z.avail_out = (uInt)room;
        rc = inflate(&z, Z_NO_FLUSH);
        at += in - z.avail_in;
        n += room - z.avail_out;
        if (rc == Z_BUF_ERROR && z.avail_out == 0) rc = Z_OK;
        if (rc == Z_OK && at == t->n && z.avail_out > 0) rc = Z_BUF_ERROR; /* it was cut */
    }
    inflateEnd(&z);
    if (rc == Z_STREAM_END || (rc == Z_OK && n == limit)) return own(t, out, n), PAR_OK;
    free(out);
    if (rc == Z_MEM_ERROR) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory to unpack it", path);
    PAR_FAIL(PAR_ERR_FORMAT, "%s: gzip data that is damaged or was cut, at byte %zu", path, at);
}
#else
static par_status gunzip(const char *path, par__text *t, size_t limit) {
    (void)(t && limit);
    PAR_FAIL(PAR_ERR_UNSUPPORTED,
             "%s: is packed by gzip, and this build has no zlib; gunzip it first, or install zlib "
             "(Debian: zlib1g-dev) and build again",
             path);
}
#endif

#if HAVE_ZSTD
/* All frames of the file, with windows of any length: all of it is in memory anyway. */
static par_status unzstd(const char *path, par__text *t, size_t limit) {
    uint8_t *out = NULL;
    size_t n = 0, max = 0, rc = 1;
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {t->data, t->n, 0};
    bool memory = z != NULL, more = true;
    if (z) ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, sizeof(size_t) > 4 ? 31 : 30);
    while (memory && more && n < limit && !ZSTD_isError(rc)) {
        memory = grow(&out, n, &max);
        if (!memory) break;
        size_t end = max < limit ? max : limit;
        ZSTD_outBuffer room = {out, end, n};
        rc = ZSTD_decompressStream(z, &room, &in);
        n = room.pos;
        more = in.pos < in.size || (rc != 0 && n == end);
    }
    ZSTD_freeDStream(z);
    memory = memory && ZSTD_getErrorCode(rc) != ZSTD_error_memory_allocation;
    if (memory && (rc == 0 || (n == limit && !ZSTD_isError(rc)))) return own(t, out, n), PAR_OK;
    free(out);
    if (!memory) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory to unpack it", path);
    if (ZSTD_getErrorCode(rc) == ZSTD_error_dictionary_wrong)
        PAR_FAIL(
            PAR_ERR_FORMAT,
            "%s: is packed by zstd with dictionary %u, which is not in it: unpack it with that "
            "first (unzstd -D DICTIONARY)",
            path, ZSTD_getDictID_fromFrame(t->data + in.pos, t->n - in.pos));
    PAR_FAIL(PAR_ERR_FORMAT, "%s: zstd data that is damaged or was cut, at byte %zu", path, in.pos);
}
#else
static par_status unzstd(const char *path, par__text *t, size_t limit) {
    (void)(t && limit);
    PAR_FAIL(PAR_ERR_UNSUPPORTED,
             "%s: is packed by zstd, and this build has no libzstd; unzstd it first, or install it "
             "(Debian: libzstd-dev) and build again",
             path);
}
#endif

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A frame of zstd, or one that is skipped, with which pzstd begins. */
static bool is_zstd(const par__text *t) {
    bool skipped =
        t->n >= 4 && (t->data[0] & 0xF0) == 0x50 && memcmp(t->data + 1, "\x2a\x4d\x18", 3) == 0;
    return skipped || begins(t, "\x28\xb5\x2f\xfd", 4);
}

static par_status unpack(const char *path, par__text *t, size_t limit) {
    bool gzip = begins(t, "\x1f\x8b", 2), zstd = is_zstd(t);
    if ((ends_with(path, ".gz") && !gzip) || (ends_with(path, ".zst") && !zstd))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its name says that it is packed, and it does not begin so",
                 path);
    if (gzip) PAR_TRY(gunzip(path, t, limit));
    if (zstd) PAR_TRY(unzstd(path, t, limit));
    t->unpacked = gzip || zstd;
    return PAR_OK;
}

/* ---- byte order marks and UTF-16 (RFC 2781) ---- */

static uint32_t unit(const uint8_t *p, bool big) {
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static par_status convert(const char *path, par__text *t, bool big) {
    size_t n = 0, units = t->n / 2;
    const uint8_t *p = t->data;
    if (t->n % 2 != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is UTF-16 and has an odd number of bytes: it was cut", path);
    uint8_t *out = malloc(units * 3 + 1); /* a pair, 4 bytes, has 2 units */
    if (!out) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory to convert it to UTF-8", path);
    for (size_t i = 1; i < units; i++) { /* behind the mark */
        uint32_t c = unit(p + 2 * i, big), low = i + 1 < units ? unit(p + 2 * i + 2, big) : 0;
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        if (surrogate && c < 0xDC00 && low >= 0xDC00 && low <= 0xDFFF) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            i++;
        } else if (surrogate) {
            c = 0xFFFD;
            t->surrogates++;
        }
        n += par__utf8_put(c, out + n);
    }
    own(t, out, n);
    t->converted = true;
    return PAR_OK;
}

/* Every second byte of UTF-16 is zero in text of few scripts; UTF-8 has no zeros. */
static bool is_unmarked_utf16(const par__text *t) {
    size_t zeros[2] = {0, 0}, n = t->n < LOOK ? t->n : LOOK;
    for (size_t i = 0; i < n; i++) zeros[i & 1] += t->data[i] == 0;
    return n >= 8 && zeros[0] + zeros[1] > n / 4 && (zeros[0] == 0 || zeros[1] == 0);
}

/* What is no text, whoever names it. */
static par_status refuse_foreign(const char *path, const par__text *t) {
    const char *remedy, *kind = par__magic(t->data, t->n, true, &remedy);
    if (begins(t, "\xff\xfe\0\0", 4) || begins(t, "\0\0\xfe\xff", 4))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is UTF-32: convert it first (iconv -f UTF-32 -t UTF-8)",
                 path);
    if (kind)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s %s%s", path,
                 t->unpacked ? "what is packed in it is" : "is", kind, remedy);
    return PAR_OK;
}

static par_status decode(const char *path, par__text *t) {
    PAR_TRY(refuse_foreign(path, t));
    if (begins(t, "\xff\xfe", 2)) return convert(path, t, false);
    if (begins(t, "\xfe\xff", 2)) return convert(path, t, true);
    if (begins(t, "\xef\xbb\xbf", 3)) {
        t->data += 3;
        t->n -= 3;
    }
    if (is_unmarked_utf16(t))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: is UTF-16 without a byte order mark: convert it first (iconv -f UTF-16%s -t "
                 "UTF-8)",
                 path, t->data[0] == 0 ? "BE" : "LE");
    return PAR_OK;
}

/* The file's bytes, unpacked: at least `limit` of them are enough. */
static par_status open_text(const char *path, size_t limit, par__text *t) {
    *t = (par__text){0};
    PAR_TRY(par__map_open(path, &t->map));
    t->data = t->map.data;
    t->n = t->map.nbytes;
    return unpack(path, t, limit);
}

par_status par__text_load(const char *path, par__text *out) {
    par__text t;
    par_status st = open_text(path, SIZE_MAX, &t);
    if (st == PAR_OK) st = decode(path, &t);
    if (st != PAR_OK && t.map.data) st = par__map_end(&t.map, path, st);
    if (st != PAR_OK)
        par__text_free(&t);
    else
        *out = t;
    return st;
}

par_status par_text_look(const char *path, par_text_kind *kind) {
    PAR_REQUIRE(path && kind);
    par__text t;
    par_status st = open_text(path, LOOK, &t);
    if (t.n > LOOK) t.n = LOOK;
    if (st == PAR_OK) {
        bool marked = begins(&t, "\xff\xfe", 2) || begins(&t, "\xfe\xff", 2);
        *kind = t.n == 0                             ? PAR_TEXT_EMPTY
                : refuse_foreign(path, &t) != PAR_OK ? PAR_TEXT_FOREIGN
                : marked || !memchr(t.data, 0, t.n)  ? PAR_TEXT_USUAL
                : is_unmarked_utf16(&t)              ? PAR_TEXT_UTF16
                                                     : PAR_TEXT_BINARY;
    }
    st = par__map_end(&t.map, path, st);
    par__text_free(&t);
    return st;
}

void par__text_free(par__text *t) {
    free(t->owned);
    par__map_close(&t->map);
    *t = (par__text){0};
}
