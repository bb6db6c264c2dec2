/*
 * One rank's file: libhdf5 makes its structure, the data goes in by our own pwrite. Every byte is
 * under a digest: each block of a run has one, all the rest (header, structure, gaps, in file
 * order) has `frame`. So a flipped bit anywhere is found by reading the file as bytes, without
 * libhdf5, and loading never gives libhdf5 a file.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

enum { PIECE = 1 << 16, WRITTEN = 1 << 20, SIGNATURE = 9 };

void par__shard_name(int rank, char out[PAR__NAME]) {
    snprintf(out, PAR__NAME, "rank_%05d.h5", rank);
}

void par__shard_free(par__shard *shard) {
    free(shard->spans);
    free(shard->hashes);
    *shard = (par__shard){0};
}

static int by_offset(const void *a, const void *b) {
    const par__span *x = *(par__span *const *)a, *y = *(par__span *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Spans in file order; PAR_ERR_FORMAT if one lies outside or on another. */
static par_status sort_spans(const char *path, const par__shard *shard, par__span ***out) {
    par__span **sorted = malloc(((size_t)shard->n + 1) * sizeof *sorted);
    if (!sorted) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %d spans", path, shard->n);
    for (int i = 0; i < shard->n; i++) sorted[i] = &shard->spans[i];
    qsort(sorted, (size_t)shard->n, sizeof *sorted, by_offset);
    int64_t end = SIGNATURE;
    for (int i = 0; i < shard->n; i++) {
        const par__span *p = sorted[i];
        if (p->offset < end || p->nbytes < 0 || p->nbytes > shard->nbytes - p->offset) {
            free(sorted);
            PAR_FAIL(PAR_ERR_FORMAT, "%s: %lld bytes at %lld lie outside the file or on others",
                     path, (long long)p->nbytes, (long long)p->offset);
        }
        end = p->offset + p->nbytes;
    }
    *out = sorted;
    return PAR_OK;
}

static par_status add_range(int fd, const char *path, int64_t begin, int64_t end,
                            par__digest *digest) {
    char piece[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        size_t n = (size_t)(end - at < PIECE ? end - at : PIECE);
        PAR_TRY(par__read_at(fd, path, piece, n, at));
        par__digest_add(digest, piece, n);
    }
    return PAR_OK;
}

static par_status frame_of(int fd, const char *path, const par__shard *shard, par__span **sorted,
                           par__digest *digest, char out[PAR__HASH]) {
    int64_t at = 0;
    for (int i = 0; i < shard->n; i++) {
        PAR_TRY(add_range(fd, path, at, sorted[i]->offset, digest));
        at = sorted[i]->offset + sorted[i]->nbytes;
    }
    PAR_TRY(add_range(fd, path, at, shard->nbytes, digest));
    par__digest_end(digest, out);
    return PAR_OK;
}

/* The signature of HDF5 and a superblock of version 2 or 3, whose structure carries checksums. */
static par_status check_superblock(int fd, const char *path) {
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[SIGNATURE];
    PAR_TRY(par__read_at(fd, path, head, sizeof head, 0));
    if (memcmp(head, signature, sizeof signature) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is not an HDF5 file", path);
    if (head[8] < 2 || head[8] > 3)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has HDF5 superblock version %d; legal: 2, 3", path, head[8]);
    return PAR_OK;
}

static par_status compare(const char *path, int64_t offset, const char *found, const char *said) {
    if (strcmp(found, said) == 0) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: the digest at byte %lld is %s; the manifest says %s", path,
             (long long)offset, found, said);
}

/* A piece of a job is next. */
static par_status beat(const char *path, par__pulse *pulse) {
    if (!pulse) return PAR_OK;
    if (atomic_load(&pulse->stop)) PAR_FAIL(PAR_ERR_IO, "%s: was given up", path);
    atomic_fetch_add(&pulse->n, 1);
    if (pulse->progress) ++*pulse->progress;
    return PAR_OK;
}

static par_status verify_span(int fd, const char *path, const par__span *p, par__pulse *pulse,
                              par__digest *digest) {
    char hash[PAR__HASH];
    for (int64_t k = 0; k < par__blocks(p); k++) {
        int64_t begin = k * p->block, end = begin + p->block;
        if (end > p->nbytes) end = p->nbytes;
        PAR_TRY(beat(path, pulse));
        PAR_TRY(add_range(fd, path, p->offset + begin, p->offset + end, digest));
        par__digest_end(digest, hash);
        par_status st = compare(path, p->offset + begin, hash, p->hashes + k * PAR__HASH);
        if (st != PAR_OK && p->kind)
            PAR_FAIL(st, "%s (%s/%s, block %lld of %lld)", par_error(), p->kind, p->name,
                     (long long)k + 1, (long long)par__blocks(p));
        PAR_TRY(st);
    }
    return PAR_OK;
}

par_status par__shard_open(const char *path, int64_t nbytes, int *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) PAR_FAIL(PAR_ERR_FORMAT, "%s: is missing", path);
    if (fd < 0) return par__read_error(path, "opened");
    par_status st = PAR_OK;
    struct stat info;
    if (fstat(fd, &info) != 0)
        st = par__read_error(path, "asked for its size");
    else if (!S_ISREG(info.st_mode))
        st = par_error_set(PAR_ERR_FORMAT, "%s: is not a plain file", path);
    else if (info.st_size != nbytes)
        st = par_error_set(PAR_ERR_FORMAT, "%s: has %lld bytes; the manifest says %lld", path,
                           (long long)info.st_size, (long long)nbytes);
    if (st != PAR_OK)
        close(fd);
    else
        *out = fd;
    return st;
}

static par_status verify(const char *path, const par__shard *shard, bool data, par__pulse *pulse) {
    par_status st = PAR_OK;
    par__span **sorted = NULL;
    par__digest *digest = NULL;
    char frame[PAR__HASH];
    int fd;
    PAR_TRY(sort_spans(path, shard, &sorted));
    PAR_TRY_GOTO(par__digest_create(&digest), out_sorted);
    PAR_TRY_GOTO(par__shard_open(path, shard->nbytes, &fd), out_digest);
    st = check_superblock(fd, path);
    if (st == PAR_OK) st = frame_of(fd, path, shard, sorted, digest, frame);
    if (st == PAR_OK) st = compare(path, 0, frame, shard->frame);
    for (int i = 0; data && st == PAR_OK && i < shard->n; i++)
        st = verify_span(fd, path, sorted[i], pulse, digest);
    close(fd);
out_digest:
    par__digest_destroy(&digest);
out_sorted:
    free(sorted);
    return st;
}

par_status par__shard_verify(const char *path, const par__shard *shard, par__pulse *pulse) {
    return verify(path, shard, true, pulse);
}

par_status par__shard_verify_frame(const char *path, const par__shard *shard) {
    return verify(path, shard, false, NULL);
}

/* Blocks are reserved first, so that a full disk is found before anything large is written. */
static par_status reserve(int fd, const char *path, int64_t nbytes) {
    int error;
    do error = posix_fallocate(fd, 0, (off_t)nbytes);
    while (error == EINTR);
    if (error == 0 || error == EOPNOTSUPP || error == EINVAL) return PAR_OK;
    errno = error;
    return par__write_error(path, "given its space");
}

/* Bytes that go in one piece, whole elements: within a block, as many as staging holds, and few
 * enough to stay in a core's cache until they have been looked at, hashed and written. */
static int64_t piece_of(const par_checkpoint_run *run, const par__span *p, int64_t done) {
    int64_t n = p->block - done % p->block, item = (int64_t)par_dtype_nbytes(run->dtype);
    if (n > WRITTEN) n = WRITTEN;
    if (run->staging && n > (int64_t)run->staging->nbytes)
        n = (int64_t)run->staging->nbytes / item * item;
    return n < p->nbytes - done ? n : p->nbytes - done;
}

static par_status write_run(int fd, const char *path, const par_checkpoint_run *run, par__span *p,
                            par__pulse *pulse, par__digest *digest) {
    const par_checkpoint_staging *s = run->staging;
    int64_t item = (int64_t)par_dtype_nbytes(run->dtype);
    for (int64_t done = 0, n; done < p->nbytes; done += n) {
        PAR_TRY(beat(path, pulse));
        n = piece_of(run, p, done);
        const char *data = (const char *)run->data + done;
        if (s) PAR_TRY(s->copy(s->user, s->buffer, data, (size_t)n));
        if (s) data = s->buffer;
        PAR_TRY(par__check_finite(run, done / item, n / item, data));
        par__digest_add(digest, data, (size_t)n);
        PAR_TRY(par__write_at(fd, path, data, (size_t)n, p->offset + done));
        if ((done + n) % p->block != 0 && done + n != p->nbytes) continue;
        par__digest_end(digest, p->hashes + done / p->block * PAR__HASH);
        /* The disk begins with a block while the next one is made: fsync has less to wait for. Only
         * a hint, so what it says does not matter. */
        int64_t block = done / p->block * p->block;
        sync_file_range(fd, p->offset + block, done + n - block, SYNC_FILE_RANGE_WRITE);
    }
    return PAR_OK;
}

/* libhdf5 gave the spans: they must hold before anything is written there. */
static par_status fill(int fd, const char *path, const par_checkpoint_run *runs, par__shard *shard,
                       par__pulse *pulse) {
    par_status st = PAR_OK;
    par__span **sorted = NULL;
    par__digest *digest = NULL;
    struct stat info;
    if (fstat(fd, &info) != 0) return par__read_error(path, "asked for its size");
    shard->nbytes = info.st_size;
    PAR_TRY(sort_spans(path, shard, &sorted));
    PAR_TRY_GOTO(par__digest_create(&digest), out_sorted);
    PAR_TRY_GOTO(check_superblock(fd, path), out_digest);
    PAR_TRY_GOTO(reserve(fd, path, shard->nbytes), out_digest);
    for (int i = 0; i < shard->n; i++)
        PAR_TRY_GOTO(write_run(fd, path, &runs[i], &shard->spans[i], pulse, digest), out_digest);
    PAR_TRY_GOTO(fsync(fd) == 0 ? PAR_OK : par__write_error(path, "synced"), out_digest);
    st = frame_of(fd, path, shard, sorted, digest, shard->frame);
out_digest:
    par__digest_destroy(&digest);
out_sorted:
    free(sorted);
    return st;
}

/* Spans of n runs without their offsets, and room for their hashes. */
static par_status take_spans(const par_checkpoint_run *runs, int n, par__shard *shard) {
    int64_t blocks = 0;
    shard->spans = calloc((size_t)n + 1, sizeof *shard->spans);
    if (!shard->spans) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d spans of a checkpoint", n);
    shard->n = n;
    for (int i = 0; i < n; i++) {
        par__span *p = &shard->spans[i];
        p->nbytes = runs[i].n * (int64_t)par_dtype_nbytes(runs[i].dtype);
        p->block = PAR__BLOCK;
        blocks += par__blocks(p);
    }
    shard->hashes = calloc((size_t)blocks + 1, PAR__HASH);
    if (!shard->hashes)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %lld digests of a checkpoint",
                 (long long)blocks);
    char *hashes = shard->hashes;
    for (int i = 0; i < n; i++) {
        shard->spans[i].hashes = hashes;
        hashes += par__blocks(&shard->spans[i]) * PAR__HASH;
    }
    return PAR_OK;
}

par_status par__shard_declare(const par_checkpoint_run *runs, int n, par__shard *out) {
    char none[PAR__HASH];
    par_status st = take_spans(runs, n, out);
    par__hash("", 0, none);
    for (int i = 0; st == PAR_OK && i < n; i++)
        for (int64_t k = 0; k < par__blocks(&out->spans[i]); k++)
            memcpy(out->spans[i].hashes + k * PAR__HASH, none, PAR__HASH);
    memcpy(out->frame, none, PAR__HASH);
    return st;
}

par_status par__shard_begin(const char *path, const par_checkpoint_run *runs, int n,
                            par__shard *out) {
    par__shard shard = {0};
    par_status st = take_spans(runs, n, &shard);
    if (st == PAR_OK) st = par__shard_layout(path, runs, n, shard.spans);
    if (st != PAR_OK)
        par__shard_free(&shard);
    else
        *out = shard;
    return st;
}

par_status par__shard_fill(const char *path, const par_checkpoint_run *runs, par__shard *shard,
                           par__pulse *pulse) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return par__write_error(path, "opened");
    return par__close(fd, path, fill(fd, path, runs, shard, pulse));
}
