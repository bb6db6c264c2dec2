/*
 * Token files in llm.c's form, written in one pass: the header's count is patched in at the end, so
 * that the length of the input need not be known. The file appears under its name only when it is
 * complete.
 */
#include <inttypes.h>
#include <string.h>

#include "libpar/data/tokens.h"

enum { BLOCK = 4096 }; /* tokens converted at a time, on the stack */

par_status par__tokens_begin(const char *path, int64_t vocab, par__tokens_writer *out) {
    static const uint8_t zeros[PAR__TOKENS_HEADER];
    PAR_TRY(par__writer_open(path, &out->file));
    out->n = 0;
    out->wide = vocab > 65536;
    par_status st = par__writer_write(&out->file, zeros, sizeof zeros);
    if (st != PAR_OK) par__writer_abort(&out->file);
    return st;
}

par_status par__tokens_append(par__tokens_writer *w, const int32_t *tokens, int64_t n) {
    if (n > INT32_MAX - w->n)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: more than 2147483647 tokens; an llm.c token file counts them in 31 bits",
                 w->file.path);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t k = n - i < BLOCK ? n - i : BLOCK;
        uint16_t narrow[BLOCK];
        for (int64_t j = 0; !w->wide && j < k; j++) narrow[j] = (uint16_t)tokens[i + j];
        PAR_TRY(w->wide ? par__writer_write(&w->file, tokens + i, (size_t)k * 4)
                        : par__writer_write(&w->file, narrow, (size_t)k * 2));
    }
    w->n += n;
    return PAR_OK;
}

static par_status write_head(par__tokens_writer *w) {
    int32_t head[3] = {w->wide ? PAR__TOKENS_MAGIC32 : PAR__TOKENS_MAGIC16, w->wide ? 7 : 1,
                       (int32_t)w->n};
    return par__writer_patch(&w->file, 0, head, sizeof head);
}

par_status par__tokens_end(par__tokens_writer *w) {
    par_status st = write_head(w);
    if (st == PAR_OK) return par__writer_commit(&w->file);
    par__writer_abort(&w->file);
    return st;
}

par_status par__tokens_end_with(par__tokens_writer *w, par__writer *before) {
    par_status st = write_head(w);
    if (st == PAR_OK) return par__writer_commit_pair(before, &w->file);
    par__writer_abort(before);
    par__writer_abort(&w->file);
    return st;
}

par_status par_tokens_write(const char *path, const int32_t *tokens, int64_t n, int64_t vocab) {
    par__tokens_writer w;
    PAR_REQUIRE(path && tokens && n > 0 && vocab > 0);
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            PAR_FAIL(PAR_ERR_ARG, "%s: token %" PRId64 " is %" PRId32 "; legal: 0 to %" PRId64,
                     path, i, tokens[i], vocab - 1);
    PAR_TRY(par__tokens_begin(path, vocab, &w));
    par_status st = par__tokens_append(&w, tokens, n);
    if (st != PAR_OK) {
        par__writer_abort(&w.file);
        return st;
    }
    return par__tokens_end(&w);
}
