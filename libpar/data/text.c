/*
 * Text to tokens without a trained vocabulary: bytes as they are, or characters as ids in sorted
 * order, as nanoGPT's character table does for ASCII. The files are one text, one after the other,
 * streamed; "chars" reads them twice, first for the table. The table lies beside the tokens as one
 * line of JSON: id i decodes to byte bytes[i].
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokens.h"

enum { BLOCK = 1 << 14 };

typedef struct {
    const char *tokenizer;
    int16_t id[256]; /* of a byte; -1: not in the text */
    uint8_t bytes[256];
    int vocab;
} byte_table;

typedef par_status block_visitor(void *user, const char *path, const uint8_t *block, size_t n);

static par_status visit_file(const char *path, block_visitor *visit, void *user) {
    uint8_t block[BLOCK];
    FILE *file = fopen(path, "rb");
    size_t n;
    par_status st = PAR_OK;
    if (!file) PAR_FAIL(PAR_ERR_IO, "%s: cannot open it: %s", path, strerror(errno));
    while (st == PAR_OK && (n = fread(block, 1, sizeof block, file)) > 0)
        st = visit(user, path, block, n);
    if (st == PAR_OK && ferror(file))
        st = par_error_set(PAR_ERR_IO, "%s: cannot read it: %s", path, strerror(errno));
    fclose(file);
    return st;
}

static par_status visit_files(int n, const char *const *paths, block_visitor *visit, void *user) {
    for (int i = 0; i < n; i++) PAR_TRY(visit_file(paths[i], visit, user));
    return PAR_OK;
}

static par_status mark_bytes(void *user, const char *path, const uint8_t *block, size_t n) {
    bool *seen = user;
    for (size_t i = 0; i < n; i++) seen[block[i]] = true;
    return PAR_OK;
}

static par_status make_table(byte_table *t, int n, const char *const *paths,
                             const char *tokenizer) {
    bool seen[256] = {false};
    if (strcmp(tokenizer, "bytes") == 0)
        memset(seen, true, sizeof seen);
    else if (strcmp(tokenizer, "chars") == 0)
        PAR_TRY(visit_files(n, paths, mark_bytes, seen));
    else
        PAR_FAIL(PAR_ERR_OPTION, "tokenizer \"%s\"; legal: bytes, chars", tokenizer);
    t->tokenizer = tokenizer;
    t->vocab = 0;
    for (int b = 0; b < 256; b++) {
        t->id[b] = seen[b] ? (int16_t)t->vocab : -1;
        if (seen[b]) t->bytes[t->vocab++] = (uint8_t)b;
    }
    return PAR_OK;
}

typedef struct {
    const byte_table *table;
    par__tokens_writer writer;
} translation;

static par_status translate_block(void *user, const char *path, const uint8_t *block, size_t n) {
    translation *t = user;
    int32_t ids[BLOCK];
    for (size_t i = 0; i < n; i++) {
        ids[i] = t->table->id[block[i]];
        if (ids[i] < 0)
            PAR_FAIL(PAR_ERR_IO,
                     "%s: changed while it was read: byte %d was not there the first time", path,
                     block[i]);
    }
    return par__tokens_append(&t->writer, ids, (int64_t)n);
}

static par_status write_table(const byte_table *t, par__writer *file) {
    char line[2048]; /* 256 numbers of 3 digits and a comma */
    int n = snprintf(line, sizeof line, "{\"tokenizer\": \"%s\", \"vocab\": %d, \"bytes\": [",
                     t->tokenizer, t->vocab);
    for (int i = 0; i < t->vocab; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%s%d", i ? "," : "", t->bytes[i]);
    n += snprintf(line + n, sizeof line - (size_t)n, "]}\n");
    return par__writer_write(file, line, (size_t)n);
}

/* The vocabulary's name first: tokens never lie there without the table that decodes them. */
static par_status finish(translation *t, const char *out_path, const char *first_path,
                         int n_files) {
    char name[4096];
    par__writer file;
    if (t->writer.n == 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: the text is empty: %d file%s without a byte; nothing was written", first_path,
                 n_files, n_files == 1 ? "" : "s");
    if (snprintf(name, sizeof name, "%s.vocab", out_path) >= (int)sizeof name)
        PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", out_path, sizeof name - 7);
    PAR_TRY(par__writer_open(name, &file));
    par_status st = write_table(t->table, &file);
    if (st == PAR_OK) return par__tokens_end_with(&t->writer, &file);
    par__writer_abort(&file);
    return st;
}

par_status par_text_to_tokens(int n_files, const char *const *paths, const char *tokenizer,
                              const char *out_path, int64_t *n_tokens, int64_t *vocab) {
    byte_table table;
    PAR_REQUIRE(n_files > 0 && paths && tokenizer && out_path);
    PAR_TRY(make_table(&table, n_files, paths, tokenizer));
    translation t = {.table = &table};
    PAR_TRY(par__tokens_begin(out_path, table.vocab, &t.writer));
    par_status st = visit_files(n_files, paths, translate_block, &t);
    if (st == PAR_OK) st = finish(&t, out_path, paths[0], n_files);
    par__writer_abort(&t.writer.file);
    if (st != PAR_OK) return st;
    if (n_tokens) *n_tokens = t.writer.n;
    if (vocab) *vocab = table.vocab;
    return PAR_OK;
}
