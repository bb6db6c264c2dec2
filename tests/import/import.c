/*
 * Import of directories. The independent side is a reader of its own that finds an entry in the
 * header by text search and does the arithmetic of fusion and transposition by hand; rectangles are
 * compared with the whole tensor. Reference directories are used where they are; small ones made
 * here need nothing.
 */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "kernels/half.h"
#include "par/guard.h"
#include "par/import.h"
#include "par/weights.h"
#include "../data/temp.h"

enum { L = 2, C = 4, V = 5, P = 3, F = 16, TENSORS = 4 + 12 * L };

static par_param make_param(const char *name, int64_t rows, int64_t cols) {
    par_param p = {.ndim = cols ? 2 : 1, .global = {rows, cols ? cols : 1}};
    snprintf(p.name, sizeof p.name, "%s", name);
    for (int d = 0; d < 2; d++) p.extent[d] = p.local[d] = p.global[d];
    return p;
}

/* ---- a reader of its own ---- */

static const float *raw_tensor(const char *bytes, const char *name) {
    char quoted[200];
    uint64_t n;
    memcpy(&n, bytes, 8);
    snprintf(quoted, sizeof quoted, "\"%s\":{", name);
    const char *at = strstr(bytes + 8, quoted);
    at = at ? strstr(at, "\"data_offsets\":[") : NULL;
    return at ? (const float *)(const void *)(bytes + 8 + n + strtoull(at + 16, NULL, 10)) : NULL;
}

static float at_unaligned(const float *p, int64_t i) {
    float x;
    memcpy(&x, (const char *)p + 4 * i, 4);
    return x;
}

/* Row i, column j of the parameter is element first + i·row + j·col of `theirs`. */
typedef struct {
    const char *name, *theirs;
    int64_t rows, cols, first, row, col;
} expectation;

static void check_rectangles(const par_import *import, const par_param *whole, const float *full) {
    for (uint64_t k = 0; k < 6; k++) {
        par_param p = *whole;
        for (int d = 0; d < p.ndim; d++) {
            uint64_t r = (uint64_t)((harness_noise(k, (uint64_t)d) + 1) * 500000);
            p.offset[d] = (int64_t)(r % (uint64_t)p.global[d]);
            p.extent[d] = (int64_t)(r / 7 % (uint64_t)(p.global[d] - p.offset[d] + 1));
            p.local[d] = p.extent[d] + (int64_t)(k % 3);
        }
        int64_t cols = p.ndim == 2 ? p.local[1] : 1, whole_cols = p.ndim == 2 ? p.global[1] : 1,
                n = p.local[0] * cols;
        float *got = malloc((size_t)(n + 1) * 4);
        for (int64_t i = 0; i <= n; i++) got[i] = 777;
        CHECK_OK(par_import_read(import, &p, got));
        for (int64_t i = 0; i < p.local[0]; i++)
            for (int64_t j = 0; j < cols; j++) {
                bool inside = i < p.extent[0] && (p.ndim == 1 || j < p.extent[1]);
                float want =
                    inside
                        ? full[(p.offset[0] + i) * whole_cols + (p.ndim == 2 ? p.offset[1] : 0) + j]
                        : 0;
                CHECK(got[i * cols + j] == want, "%s: rectangle %d differs at %d, %d", p.name,
                      (int)k, (int)i, (int)j);
            }
        CHECK(got[n] == 777, "%s: written past the end", p.name);
        free(got);
    }
}

/* One parameter from the directory, and from another file of the family, against the raw bytes.
 * Elements compared. */
static int64_t check_one(const par_import *import, const par_safetensors *file, const char *prefix,
                         const char *bytes, const expectation *e) {
    char name[160];
    par_param p = make_param(e->name, e->rows, e->cols);
    int64_t cols = e->cols ? e->cols : 1, n = e->rows * cols;
    float *got = malloc((size_t)n * 4);
    snprintf(name, sizeof name, "%s%s", prefix, e->theirs);
    const float *want = raw_tensor(bytes, name);
    CHECK(want != NULL, "%s is not in the file", name);
    if (file)
        CHECK_OK(par_import_read_from(import, file, prefix, &p, got));
    else
        CHECK_OK(par_import_read(import, &p, got));
    for (int64_t i = 0; want && i < e->rows && !harness_failed(); i++)
        for (int64_t j = 0; j < cols; j++)
            CHECK(got[i * cols + j] == at_unaligned(want, e->first + i * e->row + j * e->col),
                  "%s differs at %d, %d", e->name, (int)i, (int)j);
    if (!file && !harness_failed()) check_rectangles(import, &p, got);
    free(got);
    return n;
}

typedef int64_t visitor(void *user, const expectation *e);

static int64_t visit(visitor *f, void *user, const char *name, const char *theirs, int64_t rows,
                     int64_t cols, int64_t first, int64_t row, int64_t col) {
    expectation e = {name, theirs, rows, cols, first, row, col};
    return f(user, &e);
}

static int64_t visit_gpt2_layer(const par_transformer_config *c, const char *base, int layer,
                                visitor *f, void *user) {
    static const char *const qkv[] = {"q", "k", "v"};
    int64_t n = 0, ch = c->channels;
    char a[96], b[96];
#define NAMES(ours, theirs)                                                                        \
    (snprintf(a, sizeof a, "layers.%d.%s", layer, ours),                                           \
     snprintf(b, sizeof b, "%sh.%d.%s", base, layer, theirs))
    for (int k = 0; k < 3; k++) {
        char ours[40];
        snprintf(ours, sizeof ours, "attention.%s.weight", qkv[k]);
        NAMES(ours, "attn.c_attn.weight");
        n += visit(f, user, a, b, ch, ch, k * ch, 1, 3 * ch);
        snprintf(ours, sizeof ours, "attention.%s.bias", qkv[k]);
        NAMES(ours, "attn.c_attn.bias");
        n += visit(f, user, a, b, ch, 0, k * ch, 1, 0);
    }
    NAMES("attention.out.weight", "attn.c_proj.weight");
    n += visit(f, user, a, b, ch, ch, 0, 1, ch);
    NAMES("mlp.up.weight", "mlp.c_fc.weight");
    n += visit(f, user, a, b, c->mlp, ch, 0, 1, c->mlp);
    NAMES("mlp.down.weight", "mlp.c_proj.weight");
    n += visit(f, user, a, b, ch, c->mlp, 0, 1, ch);
    NAMES("mlp.up.bias", "mlp.c_fc.bias");
    n += visit(f, user, a, b, c->mlp, 0, 0, 1, 0);
    static const char *const vectors[][2] = {{"attention.norm.weight", "ln_1.weight"},
                                             {"attention.norm.bias", "ln_1.bias"},
                                             {"attention.out.bias", "attn.c_proj.bias"},
                                             {"mlp.norm.weight", "ln_2.weight"},
                                             {"mlp.norm.bias", "ln_2.bias"},
                                             {"mlp.down.bias", "mlp.c_proj.bias"}};
    for (int k = 0; k < 6; k++) {
        NAMES(vectors[k][0], vectors[k][1]);
        n += visit(f, user, a, b, ch, 0, 0, 1, 0);
    }
#undef NAMES
    return n;
}

static int64_t visit_gpt2(const par_transformer_config *c, const char *base, visitor *f,
                          void *user) {
    static const char *const top[][2] = {{"final.norm.weight", "ln_f.weight"},
                                         {"final.norm.bias", "ln_f.bias"}};
    char b[96];
    int64_t n = 0, ch = c->channels;
    snprintf(b, sizeof b, "%swte.weight", base);
    n += visit(f, user, "embedding.token.weight", b, c->vocab, ch, 0, ch, 1);
    snprintf(b, sizeof b, "%swpe.weight", base);
    n += visit(f, user, "embedding.position.weight", b, c->positions, ch, 0, ch, 1);
    for (int k = 0; k < 2; k++) {
        snprintf(b, sizeof b, "%s%s", base, top[k][1]);
        n += visit(f, user, top[k][0], b, ch, 0, 0, 1, 0);
    }
    for (int layer = 0; layer < c->layers; layer++) n += visit_gpt2_layer(c, base, layer, f, user);
    return n;
}

static int64_t visit_llama_layer(const par_transformer_config *c, int layer, visitor *f,
                                 void *user) {
    int64_t ch = c->channels, q = c->heads * c->head_size, kv = c->kv_heads * c->head_size, n = 0;
    const struct {
        const char *ours, *theirs;
        int64_t rows, cols;
    } rows[] = {{"attention.q.weight", "self_attn.q_proj.weight", q, ch},
                {"attention.k.weight", "self_attn.k_proj.weight", kv, ch},
                {"attention.v.weight", "self_attn.v_proj.weight", kv, ch},
                {"attention.out.weight", "self_attn.o_proj.weight", ch, q},
                {"attention.norm.weight", "input_layernorm.weight", ch, 0},
                {"mlp.norm.weight", "post_attention_layernorm.weight", ch, 0},
                {"mlp.gate.weight", "mlp.gate_proj.weight", c->mlp, ch},
                {"mlp.up.weight", "mlp.up_proj.weight", c->mlp, ch},
                {"mlp.down.weight", "mlp.down_proj.weight", ch, c->mlp}};
    for (int k = 0; k < 9; k++) {
        char a[96], b[96];
        snprintf(a, sizeof a, "layers.%d.%s", layer, rows[k].ours);
        snprintf(b, sizeof b, "model.layers.%d.%s", layer, rows[k].theirs);
        n +=
            visit(f, user, a, b, rows[k].rows, rows[k].cols, 0, rows[k].cols ? rows[k].cols : 1, 1);
    }
    return n;
}

static int64_t visit_llama(const par_transformer_config *c, visitor *f, void *user) {
    int64_t ch = c->channels, n = visit(f, user, "embedding.token.weight",
                                        "model.embed_tokens.weight", c->vocab, ch, 0, ch, 1);
    n += visit(f, user, "final.norm.weight", "model.norm.weight", ch, 0, 0, 1, 0);
    if (!c->tied) n += visit(f, user, "head.weight", "lm_head.weight", c->vocab, ch, 0, ch, 1);
    for (int layer = 0; layer < c->layers; layer++) n += visit_llama_layer(c, layer, f, user);
    return n;
}

typedef struct {
    const par_import *import;
    const par_safetensors *file;
    const char *prefix;
    char *bytes[3]; /* raw files; the tensor is in one of them */
} comparison;

static int64_t compare(void *user, const expectation *e) {
    const comparison *c = user;
    char name[160];
    snprintf(name, sizeof name, "%s%s", c->prefix, e->theirs);
    int i = 0;
    while (i < 2 && c->bytes[i + 1] && !raw_tensor(c->bytes[i], name)) i++;
    return check_one(c->import, c->file, c->prefix, c->bytes[i], e);
}

static int64_t compare_all(const char *base, comparison *c) {
    const par_transformer_config *config = par_import_config(c->import);
    return config->rope ? visit_llama(config, compare, c) : visit_gpt2(config, base, compare, c);
}

/* Gradients, final weights and moments through the directory's names. */
static void compare_other_files(const char *directory, const char *base, const par_import *import) {
    static const char *const files[][2] = {{"gradients.safetensors", ""},
                                           {"final.safetensors", ""},
                                           {"moments.safetensors", "m."},
                                           {"moments.safetensors", "v."}};
    for (int i = 0; i < 4; i++) {
        char path[600];
        size_t size;
        comparison c = {.import = import, .prefix = files[i][1]};
        par_safetensors *file = NULL;
        snprintf(path, sizeof path, "%s/%s", directory, files[i][0]);
        c.bytes[0] = temp_read(path, &size);
        if (!c.bytes[0]) continue;
        CHECK_OK(par_safetensors_open(path, &file));
        c.file = file;
        if (file) compare_all(base, &c);
        par_safetensors_close(&file);
        free(c.bytes[0]);
    }
}

static void read_weights(const char *directory, char *bytes[3]) {
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    bytes[0] = temp_read(path, &size);
    if (bytes[0]) return;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/model-0000%d-of-00003.safetensors", directory, i + 1);
        bytes[i] = temp_read(path, &size);
    }
}

/* n_params: elements that the model has, each compared once. */
static void check_directory(const char *directory, const char *base, int64_t n_params) {
    par_import *import = NULL;
    comparison c = {.prefix = ""};
    read_weights(directory, c.bytes);
    CHECK_OK(par_import_open(directory, &import));
    c.import = import;
    if (import) {
        int64_t n = compare_all(base, &c);
        CHECK(n == n_params, "%lld elements compared", (long long)n);
        compare_other_files(directory, base, import);
    }
    par_import_close(&import);
    for (int i = 0; i < 3; i++) free(c.bytes[i]);
}

/* The full reference directory, else the part of it that lies in the repository (from its root or
 * the build folder). */
static bool find_case(const char *name, char *path, size_t nbytes) {
    const char *shared = harness_shared();
    if (shared) snprintf(path, nbytes, "%s/oracles/%s", shared, name);
    if (shared && access(path, R_OK) == 0) return true;
    snprintf(path, nbytes, "tests/fixtures/%s", name);
    if (access(path, R_OK) == 0) return true;
    snprintf(path, nbytes, "../tests/fixtures/%s", name);
    if (access(path, R_OK) == 0) return true;
    harness_skip("no reference directory %s", name);
    return false;
}

/* Elements: GPT-2 V·C + P·C + 2C + L·(12 C² + 13 C); Llama V·C·(1 or 2) + C + L·(2 C + 2 Q·C + 2
 * KV·C + 3 F·C). */
static void oracle_gpt2(void) {
    char path[512];
    if (find_case("gpt2-tiny", path, sizeof path))
        check_directory(path, "transformer.", 131 * 32 + 32 * 32 + 64 + 4 * (12 * 1024 + 13 * 32));
}

static void oracle_hub_names(void) {
    char path[512];
    if (find_case("gpt2-tiny-hub-names", path, sizeof path))
        check_directory(path, "", 131 * 32 + 32 * 32 + 64 + 4 * (12 * 1024 + 13 * 32));
}

static void oracle_llama_gqa(void) {
    char path[512];
    if (find_case("llama-gqa", path, sizeof path))
        check_directory(path, "",
                        2 * 131 * 64 + 64 + 4 * (128 + 2 * 64 * 64 + 2 * 16 * 64 + 3 * 88 * 64));
}

static void oracle_llama_tied(void) {
    char path[512];
    if (find_case("llama-tied", path, sizeof path))
        check_directory(path, "",
                        96 * 48 + 48 + 3 * (96 + 2 * 64 * 48 + 2 * 16 * 48 + 3 * 100 * 48));
}

/* ---- small directories made here ---- */

typedef struct {
    int n;
    char names[TENSORS + 4][80];
    par_tensor tensors[TENSORS + 4];
} model;

static float numbers[256];

static void add(model *m, const char *name, par_dtype dtype, int64_t rows, int64_t cols) {
    snprintf(m->names[m->n], sizeof m->names[0], "%s", name);
    m->tensors[m->n++] = par_tensor_make(numbers, dtype, cols ? 2 : 1, rows, cols, 0, 0);
}

/* GPT-2, L 2, C 4, V 5, P 3, in any type. */
static void make_model(model *m, const char *base, par_dtype dtype) {
    static const struct {
        const char *name;
        int rows, cols;
    } layer[] = {{"ln_1.weight", C, 0},
                 {"ln_1.bias", C, 0},
                 {"attn.c_attn.weight", C, 3 * C},
                 {"attn.c_attn.bias", 3 * C, 0},
                 {"attn.c_proj.weight", C, C},
                 {"attn.c_proj.bias", C, 0},
                 {"ln_2.weight", C, 0},
                 {"ln_2.bias", C, 0},
                 {"mlp.c_fc.weight", C, F},
                 {"mlp.c_fc.bias", F, 0},
                 {"mlp.c_proj.weight", F, C},
                 {"mlp.c_proj.bias", C, 0}};
    static const struct {
        const char *name;
        int rows, cols;
    } top[] = {
        {"wte.weight", V, C}, {"wpe.weight", P, C}, {"ln_f.weight", C, 0}, {"ln_f.bias", C, 0}};
    char name[80];
    m->n = 0;
    for (int i = 0; i < 256; i++) numbers[i] = harness_noise(3, (uint64_t)i);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", base, top[i].name);
        add(m, name, dtype, top[i].rows, top[i].cols);
    }
    for (int l = 0; l < L; l++)
        for (int i = 0; i < 12; i++) {
            snprintf(name, sizeof name, "%sh.%d.%s", base, l, layer[i].name);
            add(m, name, dtype, layer[i].rows, layer[i].cols);
        }
}

static void write_part(const model *m, const char *file, int first, int n) {
    const char *names[TENSORS + 4];
    for (int i = 0; i < n; i++) names[i] = m->names[first + i];
    CHECK_OK(par_safetensors_write(temp_path(file), n, names, m->tensors + first));
}

static void write_model(const model *m) {
    write_part(m, "model.safetensors", 0, m->n);
}

static void write_config(void) {
    temp_text("config.json", "{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 3, "
                             "\"n_embd\": 4, \"n_head\": 2,"
                             "\"n_layer\": 2}");
}

static par_status try_import(void) {
    par_import *import = NULL;
    par_status st = par_import_open(temp_path("."), &import);
    par_import_close(&import);
    return st;
}

static int find(const model *m, const char *part) {
    for (int i = 0; i < m->n; i++)
        if (strstr(m->names[i], part)) return i;
    return 0;
}

static void wrong_tensors(void) {
    static model m;
    write_config();
    make_model(&m, "transformer.", PAR_F32);
    write_model(&m);
    CHECK_OK(try_import());
    for (int i = 0; i < TENSORS;
         i++) { /* each one missing, misshapen, and of a type that no weight has */
        make_model(&m, "transformer.", PAR_F32);
        snprintf(m.names[i], sizeof m.names[i], "transformer.another");
        write_model(&m);
        CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "is missing");
        make_model(&m, "transformer.", PAR_F32);
        m.tensors[i].shape[0]++;
        write_model(&m);
        CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "the configuration gives [");
        CHECK(strstr(par_error(), m.names[i]) != NULL, "\"%s\" lacks %s", par_error(), m.names[i]);
        make_model(&m, "transformer.", PAR_F32);
        m.tensors[i].dtype = PAR_I32;
        write_model(&m);
        CHECK_FAILS(try_import(), PAR_ERR_UNSUPPORTED,
                    "dtype I32; supported for weights: F32, BF16, F16");
    }
}

static void extra_tensors(void) {
    static const char *const known[] = {"transformer.h.0.attn.bias",
                                        "transformer.h.1.attn.masked_bias"};
    static const char *const unknown[] = {"transformer.h.2.ln_1.bias",
                                          "transformer.h.0.attn.extra",
                                          "wte.weight",
                                          "h.0.attn.bias",
                                          "transformer.h.01.ln_1.bias",
                                          "transformer.h.0.attn.rotary_emb.inv_freq"};
    static model m;
    write_config();
    for (int i = 0; i < 2; i++) {
        make_model(&m, "transformer.", PAR_F32);
        add(&m, known[i], PAR_U8, 3, 3);
        write_model(&m);
        CHECK_OK(try_import());
    }
    for (int i = 0; i < 6; i++) {
        make_model(&m, "transformer.", PAR_F32);
        add(&m, unknown[i], PAR_F32, 4, 0);
        write_model(&m);
        CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "is unknown to GPT2LMHeadModel with 2 layers");
    }
    make_model(&m, "", PAR_F32);
    write_model(&m);
    CHECK_OK(try_import());
    add(&m, "lm_head.weight", PAR_F32, V, C); /* the same numbers as wte */
    write_model(&m);
    CHECK_OK(try_import());
    m.tensors[m.n - 1].data = numbers + 1;
    write_model(&m);
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT,
                "differs from \"wte.weight\", but tie_word_embeddings");
}

/* bf16 and fp16 sources are widened exactly, also through a transposition. */
static void half_types(void) {
    static const par_dtype types[] = {PAR_BF16, PAR_F16};
    static model m;
    static uint16_t half[256];
    for (int k = 0; k < 2; k++) {
        par_import *import = NULL;
        float got[F * C];
        par_param p = make_param("layers.1.mlp.up.weight", F, C);
        write_config();
        make_model(&m, "", types[k]);
        for (int i = 0; i < 256; i++)
            half[i] = k ? par__f32_to_f16(numbers[i]) : par__f32_to_bf16(numbers[i]);
        m.tensors[find(&m, "h.1.mlp.c_fc.weight")].data = half;
        write_model(&m);
        CHECK_OK(par_import_open(temp_path("."), &import));
        if (!import) return;
        CHECK_OK(par_import_read(import, &p, got));
        /* Half of a unit in the last place: 2^-8 relative for bf16 (8 bits), 2^-11 (and 2^-25
         * absolute) for fp16 (11 bits). */
        for (int i = 0; i < F; i++)
            for (int j = 0; j < C; j++) {
                float want = numbers[j * F + i], d = got[i * C + j] - want,
                      bound = k ? 0x1p-11f : 0x1p-8f;
                if (d < 0) d = -d;
                CHECK(d <= bound * (want < 0 ? -want : want) + 0x1p-25f, "type %d: %g for %g", k,
                      (double)got[i * C + j], (double)want);
            }
        par_import_close(&import);
    }
}

static void read_refusals(void) {
    static model m;
    par_import *import = NULL;
    float got[256];
    write_config();
    make_model(&m, "transformer.", PAR_F32);
    write_model(&m);
    CHECK_OK(par_import_open(temp_path("."), &import));
    if (!import) return;
    par_param p = make_param("layers.2.attention.q.weight", C, C);
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_FORMAT,
                "no parameter of GPT2LMHeadModel with 2 layers");
    p = make_param("layers.0.mlp.gate.weight", C, C);
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_FORMAT,
                "layers.0.mlp.gate.weight: no parameter");
    p = make_param("layers.0.attention.q.weight", C, C + 1);
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_FORMAT,
                "dimension 1 is 5; the configuration gives 4");
    p = make_param("layers.0.attention.q.weight", C, 0);
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_FORMAT,
                "has 1 dimensions; the model gives 2");
    p = make_param("layers.0.attention.q.weight", C, C);
    p.offset[0] = 1;
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_ARG, "dimension 0: offset 1, extent 4");
    p.offset[0] = INT64_MAX;
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_ARG, "dimension 0: offset");
    p = make_param("layers.0.attention.q.weight", C, C);
    p.local[1] = 3;
    CHECK_FAILS(par_import_read(import, &p, got), PAR_ERR_ARG, "local 3");
    par_import_close(&import);
}

/* The small model in two files: the first half of its tensors in a, the rest in b. */
static void write_sharded(const model *m, const char *total, const char *wrong,
                          const char *wrong_file) {
    char text[8192], *at = text;
    temp_remove("model.safetensors");
    write_part(m, "a.safetensors", 0, 10);
    write_part(m, "b.safetensors", 10, m->n - 10);
    at += sprintf(at, "{\"metadata\": {\"total_size\": %s}, \"weight_map\": {", total);
    for (int i = 0; i < m->n; i++) {
        bool is_wrong = wrong && strcmp(m->names[i], wrong) == 0;
        if (is_wrong && !wrong_file) continue;
        at += sprintf(at, "%s\"%s\": \"%s\"", at[-1] == '{' ? "" : ", ", m->names[i],
                      is_wrong ? wrong_file
                      : i < 10 ? "a.safetensors"
                               : "b.safetensors");
    }
    sprintf(at, "}}");
    temp_text("model.safetensors.index.json", text);
}

static void sharded(void) {
    static model m;
    char total[32];
    int64_t sum = 0;
    write_config();
    make_model(&m, "", PAR_F32);
    for (int i = 0; i < m.n; i++) sum += (int64_t)par_tensor_nbytes(&m.tensors[i]);
    snprintf(total, sizeof total, "%lld", (long long)sum);
    write_sharded(&m, total, NULL, NULL);
    CHECK_OK(try_import());
    static const char *const odd[] = {"0", "28", "null", "\"1\""}; /* tools write all of them */
    for (int i = 0; i < HARNESS_COUNT(odd); i++) {
        write_sharded(&m, odd[i], NULL, NULL);
        CHECK_OK(try_import());
    }
    write_sharded(&m, total, "wpe.weight", "b.safetensors");
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "weight_map: \"wpe.weight\" is not in b.safetensors");
    write_sharded(&m, total, "wpe.weight", NULL);
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "weight_map: 27 tensors, the files hold 28");
    write_sharded(&m, total, "wpe.weight", "../a.safetensors");
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT,
                "file \"../a.safetensors\"; legal: a name in this directory");
    write_sharded(&m, total, "wpe.weight", "c.safetensors");
    CHECK_FAILS(try_import(), PAR_ERR_IO, "c.safetensors: cannot be opened: No such file");
    char *many = malloc(600000), *end = many ? many + sprintf(many, "{\"weight_map\": {") : NULL;
    for (int i = 0; many && i <= 10000; i++)
        end += sprintf(end, "%s\"%d\": \"%d.safetensors\"", i ? ", " : "", i, i);
    if (many) strcpy(end, "}}");
    temp_text("model.safetensors.index.json", many ? many : "");
    free(many);
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "weight_map: names more than 10000 files");
    temp_text("model.safetensors.index.json", "{\"weight_map\": 3}");
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "weight_map: is missing, empty or not an object");
    temp_text("model.safetensors.index.json", "{\"weight_map\": {\"a\": 3}}");
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "\"a\" has no string");
    temp_text("model.safetensors.index.json", "");
    CHECK_FAILS(try_import(), PAR_ERR_FORMAT, "is empty");
    temp_remove("model.safetensors.index.json");
    CHECK_FAILS(try_import(), PAR_ERR_IO, "holds neither model.safetensors nor");
    temp_remove("config.json");
    CHECK_FAILS(try_import(), PAR_ERR_IO, "config.json: cannot be opened: No such file");
}

/* A model file of llm.c that becomes shorter while it is open: its weights are not zeros. */
static void llmc_shorter(void) {
    enum { ROWS = 4096, W = 2, PLACES = 2, MLP = 4 * W };
    enum { N = ROWS * W + PLACES * W + 2 * W + 3 * W * W + 3 * W + W * W + W + 2 * W };
    enum { ALL = 256 + N + MLP * W + MLP + W * MLP + W + 2 * W };
    static int32_t words[ALL] = {20240326, 3, PLACES, ROWS, 1, 1, W, ROWS};
    static float dst[ROWS * W];
    par_llmc *file = NULL;
    par_weights weights;
    const par_param p = make_param("embedding.token.weight", ROWS, W);
    const char *path = temp_file("shorter.bin", words, sizeof words);
    CHECK_OK(par_guard_files());
    CHECK_OK(par_llmc_open(path, &file));
    if (!file) return;
    par_weights_of_llmc(file, &weights);
    CHECK_OK(weights.read(weights.user, &p, PAR_F32, dst));
    /* by a byte, for which there is no signal; and by pages */
    static const off_t lengths[] = {sizeof words - 1, 1024};
    for (int i = 0; i < 2; i++) {
        CHECK(truncate(path, lengths[i]) == 0, "truncate");
        CHECK_FAILS(weights.read(weights.user, &p, PAR_F32, dst), PAR_ERR_IO,
                    "shorter.bin: became shorter");
    }
    par_llmc_close(&file);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"oracle-gpt2", oracle_gpt2, 0, NULL, 0},
        {"oracle-hub-names", oracle_hub_names, 0, NULL, 0},
        {"oracle-llama-gqa", oracle_llama_gqa, 0, NULL, 0},
        {"oracle-llama-tied", oracle_llama_tied, 0, NULL, 0},
        {"wrong-tensors", wrong_tensors, 0, NULL, 0},
        {"extra-tensors", extra_tensors, 0, NULL, 0},
        {"half-types", half_types, 0, NULL, 0},
        {"read-refusals", read_refusals, 0, NULL, 0},
        {"sharded", sharded, 0, NULL, 0},
        {"llmc-shorter", llmc_shorter, 0, NULL, 0},
    };
    harness_foreign_json();
    temp_open();
    int rc = harness_main("import", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
