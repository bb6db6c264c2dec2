/*
 * Ids of a corpus (documents.c) as a token file of llm.c or Megatron. Ids go out in blocks, so that
 * a corpus may be larger than memory.
 * What tokens cannot be read without gets its name before them: Megatron's .idx, since a .bin alone
 * would pass for nanoGPT's form, and the table of a tokenizer that is one.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokenizer.h"
#include "libpar/data/tokens.h"

/* ---- characters ---- */

static par_status mark_bytes(void *user, const uint8_t *text, size_t n) {
    bool *seen = user;
    for (size_t i = 0; i < n; i++) seen[text[i]] = true;
    return PAR_OK;
}

par_status par_tokenizer_of_text(const par_corpus *corpus, par_tokenizer **out) {
    PAR_REQUIRE(corpus && corpus->n_files > 0 && corpus->paths && out);
    bool seen[256] = {false};
    uint8_t bytes[256];
    int32_t n = 0;
    PAR_TRY(par__corpus_run(corpus, mark_bytes, seen));
    for (int b = 0; b < 256; b++)
        if (seen[b]) bytes[n++] = (uint8_t)b;
    return par__tokenizer_create_table(bytes, n, out);
}

/* OUT.vocab, one line of JSON: id i is byte bytes[i]. */
static par_status open_table(const par_tokenizer *t, const char *path, par__writer *out) {
    char line[2048]; /* 256 numbers of 3 digits and a comma */
    const par__vocab *v = &t->vocab;
    int n = snprintf(line, sizeof line, "{\"tokenizer\": \"%s\", \"vocab\": %d, \"bytes\": [",
                     v->n == 256 ? "bytes" : "chars", (int)v->n);
    for (int i = 0; i < v->n; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%s%d", i ? "," : "", v->bytes[i]);
    n += snprintf(line + n, sizeof line - (size_t)n, "]}\n");
    PAR_TRY(par__writer_open(path, out));
    par_status st = par__writer_write(out, line, (size_t)n);
    if (st != PAR_OK) par__writer_abort(out);
    return st;
}

/* ---- Megatron's form ---- */

typedef struct {
    par__writer bin;
    char *index_path;
    int32_t *lengths; /* [n] tokens of each document */
    int64_t n, max, n_tokens;
    bool wide; /* i32, else u16 */
} megatron_file;

static par_status megatron_begin(const char *path, int64_t vocab, megatron_file *m) {
    size_t n = strlen(path);
    *m = (megatron_file){.bin.fd = -1, .wide = vocab >= 65500};
    if (n < 5 || strcmp(path + n - 4, ".bin") != 0)
        PAR_FAIL(PAR_ERR_ARG, "%s: legal for Megatron's form: a name that ends in .bin", path);
    m->index_path = strdup(path);
    if (!m->index_path) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a name");
    memcpy(m->index_path + n - 4, ".idx", 4);
    return par__writer_open(path, &m->bin);
}

/* Numbers of 8 bytes; a write each would be a system call each. */
typedef struct {
    par__writer *file;
    int64_t block[1024];
    size_t n;
} number_block;

static par_status put_number(number_block *b, int64_t value) {
    b->block[b->n++] = value;
    if (b->n < 1024) return PAR_OK;
    b->n = 0;
    return par__writer_write(b->file, b->block, sizeof b->block);
}

static par_status write_index(const megatron_file *m, par__writer *file) {
    uint8_t head[34] = "MMIDIDX\0\0";
    uint64_t version = 1, n = (uint64_t)m->n, n_bounds = n + 1;
    int64_t offset = 0, width = m->wide ? 4 : 2;
    number_block b = {.file = file};
    memcpy(head + 9, &version, 8);
    head[17] = m->wide ? 4 : 8;
    memcpy(head + 18, &n, 8);
    memcpy(head + 26, &n_bounds, 8);
    PAR_TRY(par__writer_write(file, head, sizeof head));
    PAR_TRY(par__writer_write(file, m->lengths, (size_t)n * 4));
    for (int64_t i = 0; i < m->n; offset += width * m->lengths[i++])
        PAR_TRY(put_number(&b, offset));
    for (int64_t i = 0; i <= m->n; i++) PAR_TRY(put_number(&b, i));
    return par__writer_write(file, b.block, b.n * 8);
}

static par_status megatron_end(megatron_file *m) {
    par__writer index;
    PAR_TRY(par__writer_open(m->index_path, &index));
    par_status st = write_index(m, &index);
    if (st != PAR_OK) {
        par__writer_abort(&index);
        return st;
    }
    const char *path = m->bin.path;
    st = par__writer_commit_pair(&index, &m->bin);
    /* An older .bin needs an .idx, even a wrong one that readers refuse: alone it would pass for
     * raw u16. */
    bool there = true;
    if (st != PAR_OK && par__file_exists(path, &there) == PAR_OK && !there) remove(m->index_path);
    return st;
}

/* ---- either form ---- */

enum { BLOCK = 4096 };

typedef struct {
    par_tokenizer *tokenizer;
    bool megatron;
    megatron_file m;
    par__tokens_writer llmc;
    int32_t block[BLOCK];
    size_t n_block;
    int64_t n_tokens, n_documents, n_before; /* n_before: tokens of the documents that ended */
    par__batch *batch;
} token_file;

static par_status flush(token_file *f) {
    uint16_t narrow[BLOCK];
    size_t n = f->n_block;
    f->n_block = 0;
    if (!f->megatron) return par__tokens_append(&f->llmc, f->block, (int64_t)n);
    f->m.n_tokens += (int64_t)n;
    if (f->m.wide) return par__writer_write(&f->m.bin, f->block, 4 * n);
    for (size_t i = 0; i < n; i++) narrow[i] = (uint16_t)f->block[i];
    return par__writer_write(&f->m.bin, narrow, 2 * n);
}

static par_status put_ids(void *user, const int32_t *ids, size_t n) {
    token_file *f = user;
    for (size_t i = 0; i < n; i++) {
        if (f->n_block == BLOCK) PAR_TRY(flush(f));
        f->block[f->n_block++] = ids[i];
    }
    f->n_tokens += (int64_t)n;
    return PAR_OK;
}

static par_status put_document(void *user, const uint8_t *text, size_t n) {
    token_file *f = user;
    return par__batch_add(f->batch, text, n);
}

static par_status end_document(void *user) {
    token_file *f = user;
    megatron_file *m = &f->m;
    int64_t n_tokens = f->n_tokens - f->n_before;
    f->n_before = f->n_tokens;
    f->n_documents++;
    if (!f->megatron) return PAR_OK;
    if (n_tokens > INT32_MAX)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: document %" PRId64 " has %" PRId64 " tokens; legal: up to 2147483647",
                 m->bin.path, m->n, n_tokens);
    if (m->n == m->max) {
        int64_t max = m->max ? 2 * m->max : 1024;
        int32_t *lengths = realloc(m->lengths, (size_t)max * sizeof *lengths);
        if (!lengths)
            PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the lengths of %" PRId64 " documents",
                     max);
        m->lengths = lengths;
        m->max = max;
    }
    m->lengths[m->n++] = (int32_t)n_tokens;
    return PAR_OK;
}

static par_status end_llmc(token_file *f, const char *path) {
    char name[4096];
    par__writer table;
    if (f->tokenizer->model != PAR__MODEL_TABLE) return par__tokens_end(&f->llmc);
    if (snprintf(name, sizeof name, "%s.vocab", path) >= (int)sizeof name)
        PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", path, sizeof name - 7);
    PAR_TRY(open_table(f->tokenizer, name, &table));
    return par__tokens_end_with(&f->llmc, &table);
}

par_status par_corpus_write_tokens(const par_corpus *corpus, par_tokenizer *tokenizer,
                                   bool megatron, const char *path, int64_t *n_tokens,
                                   int64_t *n_documents) {
    PAR_REQUIRE(corpus && corpus->n_files > 0 && corpus->paths && tokenizer && path);
    token_file *f = calloc(1, sizeof *f);
    if (!f) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to write tokens");
    f->tokenizer = tokenizer;
    f->megatron = megatron;
    const par__document_sink sink = {put_ids, end_document, f};
    int64_t vocab = par_tokenizer_vocab(tokenizer);
    par_status st =
        megatron ? megatron_begin(path, vocab, &f->m) : par__tokens_begin(path, vocab, &f->llmc);
    if (st == PAR_OK) st = par__batch_open(tokenizer, &sink, &f->batch);
    if (st == PAR_OK) st = par__corpus_run(corpus, put_document, f);
    if (st == PAR_OK) st = par__batch_flush(f->batch);
    if (st == PAR_OK) st = flush(f);
    if (st == PAR_OK) st = megatron ? megatron_end(&f->m) : end_llmc(f, path);
    if (st == PAR_OK)
        par__tokens_leave_stamp(path, megatron ? PAR_TOKENS_MEGATRON : PAR_TOKENS_LLMC, vocab,
                                f->n_documents);
    if (st == PAR_OK && n_tokens) *n_tokens = f->n_tokens;
    if (st == PAR_OK && n_documents) *n_documents = f->n_documents;
    par__writer_abort(megatron ? &f->m.bin : &f->llmc.file);
    free(f->m.index_path);
    free(f->m.lengths);
    par__batch_close(&f->batch);
    free(f);
    return st;
}
