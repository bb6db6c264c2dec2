/*
 * Blocks of files into runs. A block that goes whole to one place in host memory, in the type that
 * is stored, is read there; of any other, nothing is copied before it has been read and verified:
 * memory for one block is all that a reader takes. Reading goes in pieces that are still in a
 * core's cache when they are hashed. What a run needs of a stored one is walked in the order of the
 * file, so a block is read once per run that needs it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/half.h"
#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

enum { PIECE = 4096, READ = 1 << 18 }; /* bytes */

par_status par__reader_open(const par_checkpoint *from, par__reader *out) {
    *out = (par__reader){.from = from, .file = -1, .fd = -1};
    out->buffer = malloc((size_t)from->block + 1);
    if (!out->buffer)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a block of %lld bytes", from->info.path,
                 (long long)from->block);
    par_status st = par__digest_create(&out->digest);
    if (st != PAR_OK) par__reader_close(out);
    return st;
}

static void close_file(par__reader *r) {
    if (r->fd >= 0) close(r->fd);
    r->fd = r->file = -1;
    r->stored = NULL;
}

void par__reader_close(par__reader *r) {
    close_file(r);
    par__digest_destroy(&r->digest);
    free(r->buffer);
    r->buffer = NULL;
}

/* A block to `to`; NULL: nowhere, it is hashed alone. The last block that was verified is not read
 * again where that is all that is asked, or where the buffer has it. */
static par_status read_block(par__reader *r, const par__stored *s, int64_t block, char *to) {
    const par__span *p = &s->span;
    char name[PAR__NAME], hash[PAR__HASH];
    bool same = r->stored == s && r->block == block;
    if (same && (!to || (to == r->buffer && r->held))) return PAR_OK;
    if (r->file != s->file) {
        close_file(r);
        par__shard_name(s->file, name);
        PAR_TRY(par__path(r->path, r->from->info.path, name));
        PAR_TRY(par__shard_open(r->path, r->from->files[s->file].nbytes, &r->fd));
        r->file = s->file;
    }
    int64_t begin = block * p->block,
            n = p->nbytes - begin < p->block ? p->nbytes - begin : p->block;
    if (p->offset < 0 || p->offset > r->from->files[s->file].nbytes - p->nbytes)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s/%s lies outside", r->path, s->run.kind, s->run.name);
    r->stored = NULL;
    for (int64_t done = 0, m; done < n; done += m) {
        m = n - done < READ ? n - done : READ;
        char *piece = to ? to + done : r->buffer;
        PAR_TRY(par__read_at(r->fd, r->path, piece, (size_t)m, p->offset + begin + done));
        par__digest_add(r->digest, piece, (size_t)m);
    }
    par__digest_end(r->digest, hash);
    if (strcmp(hash, p->hashes + block * PAR__HASH) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: the digest at byte %lld is %s; the manifest says %s", r->path,
                 (long long)(p->offset + begin), hash, p->hashes + block * PAR__HASH);
    r->total += n;
    r->stored = s;
    r->block = block;
    r->held = to == r->buffer;
    return PAR_OK;
}

static bool is_float(par_dtype dtype) {
    return dtype == PAR_F32 || dtype == PAR_BF16 || dtype == PAR_F16;
}

bool par__converts(par_dtype from, par_dtype to) {
    return from == to || (is_float(from) && is_float(to));
}

static float to_float(const char *data, par_dtype dtype, int64_t i) {
    uint16_t half;
    float x;
    if (dtype == PAR_F32) {
        memcpy(&x, data + i * (int64_t)sizeof x, sizeof x);
        return x;
    }
    memcpy(&half, data + i * (int64_t)sizeof half, sizeof half);
    return dtype == PAR_BF16 ? par__bf16_to_f32(half) : par__f16_to_f32(half);
}

/* Returns how many could be converted: up to the first that rounds to infinity. */
static int64_t convert(char *dst, par_dtype to, const char *src, par_dtype from, int64_t n) {
    size_t size = par_dtype_nbytes(to);
    float limit = to == PAR_F16    ? PAR__F16_OVERFLOW
                  : to == PAR_BF16 ? PAR__BF16_OVERFLOW
                                   : INFINITY;
    if (from == to) {
        memcpy(dst, src, (size_t)n * size);
        return n;
    }
    for (int64_t i = 0; i < n; i++) {
        float x = to_float(src, from, i);
        if (isfinite(x) && fabsf(x) >= limit) return i;
        uint16_t half = to == PAR_BF16 ? par__f32_to_bf16(x) : par__f32_to_f16(x);
        memcpy(dst + (size_t)i * size, to == PAR_F32 ? (void *)&x : (void *)&half, size);
    }
    return n;
}

/* Elements [at, at + n) of a run. */
static par_status put(const par_checkpoint_run *run, int64_t at, int64_t n, const char *src,
                      par_dtype from) {
    const par_checkpoint_staging *s = run->staging;
    int64_t size = (int64_t)par_dtype_nbytes(run->dtype);
    int64_t source = (int64_t)par_dtype_nbytes(from), most = s ? (int64_t)s->nbytes / size : n;
    for (int64_t done = 0, m; done < n; done += m) {
        m = n - done < most ? n - done : most;
        char *dst = (char *)run->data + (at + done) * size;
        int64_t k = convert(s ? s->buffer : dst, run->dtype, src + done * source, from, m);
        if (k < m)
            PAR_FAIL(PAR_ERR_UNSUPPORTED,
                     "%s/%s: has %g, too large for precision %s; legal: up to %g, or precision %s",
                     run->kind, run->name, (double)to_float(src, from, done + k),
                     par_dtype_name(run->dtype), run->dtype == PAR_F16 ? 65504.0 : 0x1.fep127,
                     run->dtype == PAR_F16 ? "bf16" : "fp32");
        if (s) PAR_TRY(s->copy(s->user, dst, s->buffer, (size_t)(m * size)));
    }
    return PAR_OK;
}

typedef struct {
    par__reader *reader;
    const par__stored *stored;
    const par_checkpoint_run *wanted;
    bool fill;
} taking;

static par_status take_piece(void *user, int64_t at, int64_t to, int64_t n) {
    const taking *t = user;
    par__reader *r = t->reader;
    const par__span *p = &t->stored->span;
    par_dtype dtype = t->stored->run.dtype;
    int64_t size = (int64_t)par_dtype_nbytes(dtype);
    for (int64_t m; n > 0; n -= m, at += m, to += m) {
        int64_t block = at * size / p->block, within = at * size - block * p->block;
        m = (p->block - within) / size;
        if (m > n) m = n;
        /* A whole block can be read to where it is wanted; else it goes through the buffer. */
        int64_t rest = p->nbytes - block * p->block;
        bool whole = m * size == (rest < p->block ? rest : p->block);
        bool direct = whole && !t->wanted->staging && t->wanted->dtype == dtype;
        char *place = t->fill && direct ? (char *)t->wanted->data + to * size : NULL;
        PAR_TRY(read_block(r, t->stored, block, place ? place : t->fill ? r->buffer : NULL));
        if (t->fill && !place) PAR_TRY(put(t->wanted, to, m, r->buffer + within, dtype));
    }
    return PAR_OK;
}

par_status par__reader_take(par__reader *reader, const par__stored *stored,
                            const par_checkpoint_run *wanted, bool fill) {
    taking t = {reader, stored, wanted, fill};
    par_checkpoint_run plain = par__run_plain(wanted);
    return par__run_common(&stored->run, &plain, take_piece, &t);
}

par_status par__clear_padding(const par_checkpoint_run *run) {
    static const char zeros[PIECE];
    par_checkpoint_run r = par__run_plain(run);
    if (par__run_count(&r) == r.n) return PAR_OK;
    int64_t size = (int64_t)par_dtype_nbytes(r.dtype);
    for (int64_t at = 0, n; at < r.n; at += n) {
        n = r.n - at < PIECE / size ? r.n - at : PIECE / size;
        PAR_TRY(put(&r, at, n, zeros, r.dtype));
    }
    return PAR_OK;
}
