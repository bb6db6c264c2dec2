/*
 * Model files of llm.c: GPT-2 alone. A header of 256 int32: magic, version, positions, vocabulary,
 * layers, heads, channels, padded vocabulary; then the tensors of the table below, each stacked
 * over layers, linear weights [out, in], q, k and v below each other.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "libpar/base/checked.h"
#include "libpar/base/file.h"
#include "libpar/import/weights.h"

enum { MAGIC = 20240326, FP32 = 3, BF16 = 5, WORDS = 256, PADDING = 128 };

#define ROW(name, rows, cols, part, parts)                                                         \
    { name, "", PAR__DIM_##rows, PAR__DIM_##cols, false, part, parts, PAR__ALWAYS }
static const par__mapping table[] = {
    ROW("embedding.token.weight", V, C, 0, 1),
    ROW("embedding.position.weight", P, C, 0, 1),
    ROW("layers.*.attention.norm.weight", C, ONE, 0, 1),
    ROW("layers.*.attention.norm.bias", C, ONE, 0, 1),
    ROW("layers.*.attention.q.weight", C, C, 0, 3),
    ROW("layers.*.attention.k.weight", C, C, 1, 3),
    ROW("layers.*.attention.v.weight", C, C, 2, 3),
    ROW("layers.*.attention.q.bias", C, ONE, 0, 3),
    ROW("layers.*.attention.k.bias", C, ONE, 1, 3),
    ROW("layers.*.attention.v.bias", C, ONE, 2, 3),
    ROW("layers.*.attention.out.weight", C, C, 0, 1),
    ROW("layers.*.attention.out.bias", C, ONE, 0, 1),
    ROW("layers.*.mlp.norm.weight", C, ONE, 0, 1),
    ROW("layers.*.mlp.norm.bias", C, ONE, 0, 1),
    ROW("layers.*.mlp.up.weight", F, C, 0, 1),
    ROW("layers.*.mlp.up.bias", F, ONE, 0, 1),
    ROW("layers.*.mlp.down.weight", C, F, 0, 1),
    ROW("layers.*.mlp.down.bias", C, ONE, 0, 1),
    ROW("final.norm.weight", C, ONE, 0, 1),
    ROW("final.norm.bias", C, ONE, 0, 1),
};
enum { N = sizeof table / sizeof *table };

struct par_llmc {
    par__map map;
    char *path; /* owned; for messages */
    par_transformer_config config;
    int64_t padded; /* rows of the token embedding */
    par_dtype dtype;
};

static int64_t layers_of(const par_transformer_config *c, const par__mapping *m) {
    return strchr(m->name, '*') ? c->layers : 1;
}

/* Elements of one layer's part. */
static int64_t part_of(const par_transformer_config *c, const par__mapping *m) {
    return par__dim_size(c, m->rows) * par__dim_size(c, m->cols);
}

/* Elements in front of a parameter; of row N all there are. */
static int64_t place_of(const par_transformer_config *c, int64_t padded, int row, int64_t layer) {
    int64_t at = row > 0 ? (padded - c->vocab) * c->channels : 0;
    int first = row < N ? row - table[row].part : N;
    for (int k = 0; k < first; k++) at += layers_of(c, &table[k]) * part_of(c, &table[k]);
    if (row == N) return at;
    return at + (layer * table[row].parts + table[row].part) * part_of(c, &table[row]);
}

/* Sizes must fit each other, and into 32 bits each: then their products fit into 64. */
static par_status check(const char *path, const int32_t *h, par_llmc *f) {
    if (h[0] != MAGIC)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: begins with %d; legal: %d, a model file of llm.c", path,
                 (int)h[0], MAGIC);
    if (h[1] != FP32 && h[1] != BF16)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has version %d; legal: %d (fp32), %d (bf16)", path, (int)h[1],
                 FP32, BF16);
    bool fit = true;
    for (int i = 2; i <= 7; i++) fit &= h[i] >= 1;
    if (!fit || h[7] < h[3] || h[6] % h[5] != 0 || h[6] > 1 << 20 || h[4] > 1 << 16)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: positions %d, vocabulary %d, layers %d, heads %d, channels %d, padded "
                 "vocabulary %d: do not fit each other",
                 path, (int)h[2], (int)h[3], (int)h[4], (int)h[5], (int)h[6], (int)h[7]);
    f->dtype = h[1] == FP32 ? PAR_F32 : PAR_BF16;
    f->padded = h[7];
    f->config = (par_transformer_config){.name = "gpt2",
                                         .vocab = h[3],
                                         .tokens = h[2],
                                         .positions = h[2],
                                         .layers = h[4],
                                         .channels = h[6],
                                         .heads = h[5],
                                         .kv_heads = h[5],
                                         .head_size = h[6] / h[5],
                                         .mlp = 4 * (int64_t)h[6],
                                         .norm_eps = 1e-5f,
                                         .bias = true,
                                         .tied = true};
    double bytes =
        (double)place_of(&f->config, f->padded, N, 0) * (double)par_dtype_nbytes(f->dtype);
    if ((double)f->map.nbytes - WORDS * sizeof *h != bytes)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %zu bytes; its header gives %.0f", path, f->map.nbytes,
                 bytes + WORDS * sizeof *h);
    return PAR_OK;
}

par_status par_llmc_open(const char *path, par_llmc **out) {
    int32_t header[WORDS];
    PAR_REQUIRE(path && out);
    par_llmc *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(path);
    par_status st = f && f->path ? par__map_open(path, &f->map)
                                 : par_error_set(PAR_ERR_MEMORY, "%s: no host memory", path);
    if (st == PAR_OK && f->map.nbytes < sizeof header)
        st = par_error_set(PAR_ERR_FORMAT, "%s: has %zu bytes; legal: a header of %zu at least",
                           path, f->map.nbytes, sizeof header);
    if (st == PAR_OK) {
        memcpy(header, f->map.data, sizeof header);
        st = par__map_check(&f->map, path);
        if (st == PAR_OK) st = check(path, header, f);
    }
    if (st != PAR_OK)
        par_llmc_close(&f);
    else
        *out = f;
    return st;
}

void par_llmc_close(par_llmc **file) {
    if (!file || !*file) return;
    par__map_close(&(*file)->map);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

static par_status read_llmc(void *user, const par_param *param, par_dtype dtype, void *dst) {
    const par_llmc *f = user;
    int64_t layer, n = param->global[0] * param->global[1];
    int row = 0;
    while (row < N && !par__name_match(table[row].name, param->name, &layer)) row++;
    if (row < N && layer < 0) layer = 0;
    if (row == N || n != part_of(&f->config, &table[row]) ||
        layer >= layers_of(&f->config, &table[row]))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has no %s", f->path, param->name);
    const uint8_t *src =
        f->map.data + WORDS * sizeof(int32_t) +
        (size_t)place_of(&f->config, f->padded, row, layer) * par_dtype_nbytes(f->dtype);
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        float x;
        memcpy(&half, src + 2 * i, sizeof half);
        if (f->dtype == PAR_BF16)
            x = par__bf16_to_f32(half);
        else
            memcpy(&x, src + 4 * i, sizeof x);
        const int64_t cols = param->global[1], index[2] = {i / cols, i % cols};
        if (!(fabsf(x) < par__weight_limit(dtype)))
            return par__weight_refuse(f->path, param->name, param->ndim, index, (double)x, dtype);
        par__narrow(&x, 1, dtype, (char *)dst + (size_t)i * par_dtype_nbytes(dtype));
    }
    return par__map_check(&f->map, f->path);
}

void par_weights_of_llmc(const par_llmc *file, par_weights *out) {
    *out = (par_weights){.config = file->config,
                         .dtype = file->dtype,
                         .read = read_llmc,
                         .user = (void *)(uintptr_t)file};
}

static par_status check_config(const char *path, const par_transformer_config *c, par_dtype dtype) {
    par_problems problems = {0};
    const par__family *family = par__family_of(c);
    if (family != par__families[0])
        par_problem(&problems, "%s: llm.c computes GPT-2 alone; this is %s", path,
                    family ? family->model_type : "no Hugging Face model either");
    if (family == par__families[0] && c->mlp != 4 * c->channels)
        par_problem(&problems, "%s: the MLP has %lld channels; legal in llm.c: %lld", path,
                    (long long)c->mlp, (long long)(4 * c->channels));
    if (!c->tied) par_problem(&problems, "%s: llm.c has a tied head alone", path);
    if (c->gelu_erf) par_problem(&problems, "%s: llm.c has the tanh form of GELU alone", path);
    if (c->norm_eps != 1e-5f)
        par_problem(&problems, "%s: the norms' eps is %g; legal in llm.c: 1e-05", path,
                    (double)c->norm_eps);
    if (dtype != PAR_F32 && dtype != PAR_BF16)
        par_problem(&problems, "%s: llm.c has no %s; legal: fp32, bf16", path,
                    par_dtype_name(dtype));
    return par_problems_status(&problems, PAR_ERR_UNSUPPORTED);
}

static int64_t padded_vocab(const par_transformer_config *c) {
    return (c->vocab + PADDING - 1) / PADDING * PADDING;
}

static par_status write_param(const par_weights *from, const par__mapping *m, int64_t layer,
                              par_dtype dtype, char *data, par__writer *file) {
    static const char zeros[4096];
    par_param p = {.ndim = m->cols == PAR__DIM_ONE ? 1 : 2};
    par__name_make(p.name, sizeof p.name, "", m->name, layer);
    p.global[0] = p.extent[0] = p.local[0] = par__dim_size(&from->config, m->rows);
    p.global[1] = p.extent[1] = p.local[1] = par__dim_size(&from->config, m->cols);
    PAR_TRY(from->read(from->user, &p, dtype, data));
    PAR_TRY(par__writer_write(file, data, par__param_nbytes(&p, dtype)));
    int64_t rows = m == table ? padded_vocab(&from->config) - from->config.vocab : 0;
    size_t rest = (size_t)(rows * from->config.channels) * par_dtype_nbytes(dtype);
    for (size_t n; rest > 0; rest -= n) {
        n = rest < sizeof zeros ? rest : sizeof zeros;
        PAR_TRY(par__writer_write(file, zeros, n));
    }
    return PAR_OK;
}

static par_status write_model(const par_weights *from, par_dtype dtype, char *data,
                              par__writer *file) {
    const par_transformer_config *c = &from->config;
    const int64_t words[] = {MAGIC,        dtype == PAR_F32 ? FP32 : BF16,
                             c->positions, c->vocab,
                             c->layers,    c->heads,
                             c->channels,  padded_vocab(c)};
    int32_t header[WORDS] = {0};
    for (int i = 0; i < 8; i++) {
        if (words[i] > INT32_MAX)
            PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: %lld does not fit into llm.c's header", file->path,
                     (long long)words[i]);
        header[i] = (int32_t)words[i];
    }
    PAR_TRY(par__writer_write(file, header, sizeof header));
    for (int row = 0; row < N; row += table[row].parts)
        for (int64_t layer = 0; layer < layers_of(c, &table[row]); layer++)
            for (int k = 0; k < table[row].parts; k++)
                PAR_TRY(write_param(from, &table[row + k], layer, dtype, data, file));
    return PAR_OK;
}

par_status par_weights_write_llmc(const par_weights *from, const char *path, par_dtype dtype) {
    par__writer file;
    size_t largest = 1;
    PAR_REQUIRE(from && from->read && path);
    PAR_TRY(check_config(path, &from->config, dtype));
    bool there;
    PAR_TRY(par__file_exists(path, &there));
    if (there) PAR_FAIL(PAR_ERR_IO, "%s: is there already; legal: a name that is not there", path);
    for (int row = 0; row < N; row++) {
        size_t nbytes = (size_t)part_of(&from->config, &table[row]) * par_dtype_nbytes(dtype);
        if (nbytes > largest) largest = nbytes;
    }
    char *data = malloc(largest);
    if (!data) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu bytes", path, largest);
    par_status st = par__writer_open(path, &file);
    if (st == PAR_OK) {
        st = write_model(from, dtype, data, &file);
        if (st == PAR_OK)
            st = par__writer_commit(&file);
        else
            par__writer_abort(&file);
    }
    free(data);
    return st;
}
