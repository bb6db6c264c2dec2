/*
 * Directories as people have them: what tools write around names, heads that are left out, weights
 * in forms that are not read, Git LFS pointers, numbers that no training can begin with. The model
 * is a Qwen2 or a Qwen3 of one layer that is written here.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../data/temp.h"
#include "../harness.h"
#include "par/import.h"
#include "par/tokenizer.h"
#include "par/weights.h"

enum { C = 4, V = 6, F = 8, D = 2, MAX = 20 };

typedef struct {
    int n;
    char names[MAX][160];
    par_tensor tensors[MAX];
} model;

static float numbers[64];

static void add(model *m, const char *before, const char *name, int64_t rows, int64_t cols) {
    snprintf(m->names[m->n], sizeof m->names[0], "%s%s", before, name);
    m->tensors[m->n++] = par_tensor_make(numbers, PAR_F32, cols ? 2 : 1, rows, cols, 0, 0);
}

/* H 2, K 1; outer: before all names, inner: before those of the base model. */
static void make(model *m, const char *outer, const char *inner, bool qwen3, bool head) {
    static const struct {
        const char *name;
        int rows, cols, only; /* 2, 3: of that Qwen alone */
    } rows[] = {{"embed_tokens.weight", V, C, 0},
                {"norm.weight", C, 0, 0},
                {"layers.0.input_layernorm.weight", C, 0, 0},
                {"layers.0.post_attention_layernorm.weight", C, 0, 0},
                {"layers.0.self_attn.q_proj.weight", C, C, 0},
                {"layers.0.self_attn.k_proj.weight", D, C, 0},
                {"layers.0.self_attn.v_proj.weight", D, C, 0},
                {"layers.0.self_attn.o_proj.weight", C, C, 0},
                {"layers.0.self_attn.q_proj.bias", C, 0, 2},
                {"layers.0.self_attn.k_proj.bias", D, 0, 2},
                {"layers.0.self_attn.v_proj.bias", D, 0, 2},
                {"layers.0.self_attn.q_norm.weight", D, 0, 3},
                {"layers.0.self_attn.k_norm.weight", D, 0, 3},
                {"layers.0.mlp.gate_proj.weight", F, C, 0},
                {"layers.0.mlp.up_proj.weight", F, C, 0},
                {"layers.0.mlp.down_proj.weight", C, F, 0}};
    char before[80];
    m->n = 0;
    snprintf(before, sizeof before, "%s%s", outer, inner);
    for (int i = 0; i < HARNESS_COUNT(numbers); i++) numbers[i] = harness_noise(3, (uint64_t)i);
    for (int i = 0; i < HARNESS_COUNT(rows); i++)
        if (rows[i].only == 0 || (rows[i].only == 3) == qwen3)
            add(m, before, rows[i].name, rows[i].rows, rows[i].cols);
    if (head) add(m, outer, "lm_head.weight", V, C);
}

static void write_model(const model *m) {
    const char *names[MAX];
    for (int i = 0; i < m->n; i++) names[i] = m->names[i];
    CHECK_OK(par_safetensors_write(temp_path("model.safetensors"), m->n, names, m->tensors));
}

static void write_config(const char *family, bool tied) {
    char text[600];
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"vocab_size\": %d, \"hidden_size\": %d, "
             "\"intermediate_size\": %d, \"max_position_embeddings\": 8, \"num_hidden_layers\": 1, "
             "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": %d, "
             "\"tie_word_embeddings\": %s}",
             family, V, C, F, D, tied ? "true" : "false");
    temp_text("config.json", text);
}

static par_param whole(const char *name, int64_t rows, int64_t cols) {
    par_param p = {.ndim = cols ? 2 : 1, .global = {rows, cols ? cols : 1}};
    snprintf(p.name, sizeof p.name, "%s", name);
    for (int d = 0; d < 2; d++) p.extent[d] = p.local[d] = p.global[d];
    return p;
}

/* Opens, and reads one parameter; the numbers are those that were written. */
static par_status try_read(const char *name, int64_t rows, int64_t cols, par_dtype dtype) {
    par_import *import = NULL;
    float got[64] = {0};
    par_param p = whole(name, rows, cols);
    p.dtype = dtype;
    par_status st = par_import_open(temp_path("."), &import);
    if (st == PAR_OK) st = par_import_read(import, &p, got);
    for (int64_t i = 0; st == PAR_OK && i < rows * (cols ? cols : 1); i++)
        CHECK(got[i] == numbers[i], "%s: element %lld is %g, the file has %g", name, (long long)i,
              (double)got[i], (double)numbers[i]);
    par_import_close(&import);
    return st;
}

static par_status try_open(void) {
    par_import *import = NULL;
    par_status st = par_import_open(temp_path("."), &import);
    par_import_close(&import);
    return st;
}

static void tensors_of_each(void) {
    model m;
    write_config("qwen2", false);
    make(&m, "", "model.", false, true);
    write_model(&m);
    CHECK_OK(try_read("layers.0.attention.q.bias", C, 0, PAR_F32));
    CHECK_OK(try_read("layers.0.attention.k.bias", D, 0, PAR_F32));
    write_config("llama", false);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "_proj.bias\" is unknown to LlamaForCausalLM");
    write_config("qwen3", false);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "q_norm.weight\" is missing");
    make(&m, "", "model.", true, true);
    write_model(&m);
    CHECK_OK(try_read("layers.0.attention.k.norm.weight", D, 0, PAR_F32));
    m.tensors[8].shape[0] = C; /* the norm of all heads together is another one */
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "shape [4]; the configuration gives [2]");
}

static void prefixes(void) {
    static const char *const outer[] = {"",
                                        "module.",
                                        "_orig_mod.",
                                        "base_model.",
                                        "base_model.model.",
                                        "module._orig_mod.",
                                        "_fsdp_wrapped_module."};
    model m;
    write_config("qwen2", false);
    for (int i = 0; i < HARNESS_COUNT(outer); i++) {
        make(&m, outer[i], "model.", false, true);
        write_model(&m);
        CHECK_OK(try_read("head.weight", V, C, PAR_F32));
        CHECK_OK(try_read("layers.0.mlp.up.weight", F, C, PAR_F32));
    }
    make(&m, "", "", false, true);
    write_model(&m);
    CHECK_OK(try_read("head.weight", V, C, PAR_F32));
    make(&m, "vision.", "model.", false, true);
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "tensor \"model.embed_tokens.weight\" is missing");
    /* one name that the tool did not write */
    make(&m, "module.", "model.", false, true);
    snprintf(m.names[1], sizeof m.names[1], "model.norm.weight");
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "tensor \"module.model.norm.weight\" is missing");
}

/* Tools that compile, shard or recompute single blocks write within names. */
static void wrapped_blocks(void) {
    static const char *const words[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                        "_checkpoint_wrapped_module.",
                                        "_fsdp_wrapped_module._checkpoint_wrapped_module."};
    model m;
    write_config("qwen2", false);
    for (int i = 0; i < HARNESS_COUNT(words); i++) {
        int n = 0;
        make(&m, "_orig_mod.", "model.", false, true);
        for (int k = 0; k < m.n; k++) {
            char rest[160], *at = strstr(m.names[k], "layers.0.");
            if (!at) continue;
            snprintf(rest, sizeof rest, "%s", at + 9);
            snprintf(at + 9, sizeof m.names[k] - (size_t)(at + 9 - m.names[k]), "%s%s", words[i],
                     rest);
            n++;
        }
        CHECK(n > 5, "%d names", n);
        write_model(&m);
        CHECK_OK(try_read("layers.0.mlp.up.weight", F, C, PAR_F32));
        CHECK_OK(try_read("layers.0.attention.q.bias", C, 0, PAR_F32));
        CHECK_OK(try_read("head.weight", V, C, PAR_F32));
    }
}

static void heads(void) {
    model m;
    write_config("qwen2", false);
    make(&m, "", "model.", false, false);
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT,
                "tensor \"lm_head.weight\" is missing, and config.json does not say");
    CHECK(strstr(par_error(), "write \"tie_word_embeddings\": true into it") != NULL,
          "\"%s\" has no remedy", par_error());
    write_config("qwen2", true);
    CHECK_OK(try_open());
    make(&m, "_orig_mod.", "model.", false, true); /* stored twice, with the same numbers */
    write_model(&m);
    CHECK_OK(try_open());
    m.tensors[m.n - 1].data = numbers + 1;
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "differs from \"_orig_mod.model.embed_tokens.weight\"");
    /* the same numbers in another type, then one that rounding has changed */
    uint32_t bits[V * C];
    uint16_t half[V * C];
    memcpy(bits, numbers, sizeof bits);
    for (int i = 0; i < V * C; i++) bits[i] &= 0xffff0000u, half[i] = (uint16_t)(bits[i] >> 16);
    m.tensors[0].data = bits;
    m.tensors[m.n - 1] = par_tensor_make(half, PAR_BF16, 2, V, C, 0, 0);
    write_model(&m);
    CHECK_OK(try_open());
    bits[V * C - 1] |= 1;
    write_model(&m);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "differs from");
    /* the head's name alone */
    make(&m, "module.", "model.", false, true);
    snprintf(m.names[0], sizeof m.names[0], "%s", m.names[m.n - 1]);
    m.n--;
    write_model(&m);
    CHECK_OK(try_read("embedding.token.weight", V, C, PAR_F32));
    CHECK_OK(try_read("layers.0.mlp.up.weight", F, C, PAR_F32));
    write_config("qwen2", false);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "tensor \"model.embed_tokens.weight\" is missing");
}

static par_dtype dtype_of_weights(void) {
    par_import *import = NULL;
    par_weights w = {.dtype = PAR_U8};
    CHECK_OK(par_import_open(temp_path("."), &import));
    if (import) par_weights_of_import(import, &w);
    par_import_close(&import);
    return w.dtype;
}

/* Weights keep the type of their files; where types are mixed, no number of any of them is
 * rounded. A constant that older files store has no say. */
static void types(void) {
    model m;
    write_config("qwen2", true);
    make(&m, "", "model.", false, false);
    write_model(&m);
    CHECK(dtype_of_weights() == PAR_F32, "all fp32");
    for (int i = 0; i < m.n; i++) m.tensors[i].dtype = PAR_BF16;
    add(&m, "model.", "rotary_emb.inv_freq", C, 0);
    write_model(&m);
    CHECK(dtype_of_weights() == PAR_BF16, "all bf16");
    for (int i = 0; i < m.n - 1; i++) {
        m.tensors[i].dtype = i % 2 ? PAR_F32 : PAR_F16;
        write_model(&m);
        CHECK(dtype_of_weights() == PAR_F32, "%s is %s", m.names[i], i % 2 ? "fp32" : "fp16");
        m.tensors[i].dtype = PAR_BF16;
    }
}

static void other_forms(void) {
    static const char *const names[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                        "consolidated.00.pth", "tf_model.h5"};
    write_config("qwen2", true);
    temp_remove("model.safetensors");
    CHECK_FAILS(try_open(), PAR_ERR_IO, "holds neither model.safetensors nor");
    for (int i = 0; i < HARNESS_COUNT(names); i++) {
        temp_text(names[i], "x");
        CHECK_FAILS(try_open(), PAR_ERR_UNSUPPORTED, names[i]);
        CHECK(strstr(par_error(), "save_pretrained(") != NULL, "\"%s\" has no remedy", par_error());
        temp_remove(names[i]);
    }
    temp_text("adapter_model.safetensors", "x");
    CHECK_FAILS(try_open(), PAR_ERR_UNSUPPORTED, "merge it into its base model");
    temp_remove("adapter_model.safetensors");
}

static void pointers(void) {
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\n"
                                  "oid sha256:00ff\nsize 287720\n";
    model m;
    par_tokenizer *tokenizer = NULL;
    write_config("qwen2", true);
    temp_text("model.safetensors", pointer);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT,
                "model.safetensors: is a Git LFS pointer: git lfs pull");
    make(&m, "", "model.", false, false);
    write_model(&m);
    CHECK_OK(try_open());
    temp_text("config.json", pointer);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "config.json: is a Git LFS pointer");
    CHECK_FAILS(par_tokenizer_open(temp_text("tokenizer.json", pointer), &tokenizer),
                PAR_ERR_FORMAT, "tokenizer.json: is a Git LFS pointer");
    temp_remove("tokenizer.json");
}

/* The one bad element is row 2, column 3 of up [8, 4], as it is stored. */
static void values(void) {
    static const struct {
        double value;
        par_dtype dtype;
        par_status status;
        const char *text;
    } cases[] = {
        {(double)NAN, PAR_F32, PAR_ERR_FORMAT, "element [2, 3] is nan; legal: finite weights"},
        {-(double)INFINITY, PAR_F32, PAR_ERR_FORMAT, "element [2, 3] is -inf"},
        {1e5, PAR_F16, PAR_ERR_UNSUPPORTED,
         "element [2, 3] is 100000, too large for precision fp16; legal: up to 65504, or precision "
         "bf16"},
        {-65520, PAR_F16, PAR_ERR_UNSUPPORTED, "is -65520"},
        {3.4e38, PAR_BF16, PAR_ERR_UNSUPPORTED, "too large for precision bf16"},
        {65519, PAR_F16, PAR_OK, ""}, /* rounds to the largest one */
        {1e5, PAR_F32, PAR_OK, ""},
        {1e5, PAR_BF16, PAR_OK, ""},
    };
    model m;
    write_config("qwen2", true);
    for (int i = 0; i < HARNESS_COUNT(cases); i++) {
        make(&m, "", "model.", false, false);
        numbers[2 * C + 3] = (float)cases[i].value;
        if (!isnan(cases[i].value))
            numbers[2 * C + 5] = numbers[2 * C + 3]; /* the first is named */
        write_model(&m);
        par_status st = try_read("layers.0.mlp.up.weight", F, C, cases[i].dtype);
        CHECK(st == cases[i].status, "%g: status %d, \"%s\"", cases[i].value, (int)st, par_error());
        if (st == PAR_OK) continue;
        CHECK(strstr(par_error(), cases[i].text) && strstr(par_error(), "up_proj.weight"),
              "\"%s\" lacks \"%s\"", par_error(), cases[i].text);
    }
}

static int32_t end_of(int i) {
    par_import *import = NULL;
    CHECK_OK(par_import_open(temp_path("."), &import));
    int32_t id = import ? par_import_end(import, i) : -2;
    par_import_close(&import);
    return id;
}

/* What stands where the file should. */
static void ends_refused(const char *bytes, size_t n, const char *why) {
    par_import *import = NULL;
    temp_file("generation_config.json", bytes, n);
    CHECK_FAILS(par_import_open(temp_path("."), &import), PAR_ERR_FORMAT, why);
}

static void ends(void) {
    model m;
    par_import *import = NULL;
    write_config("qwen2", true);
    make(&m, "", "model.", false, false);
    write_model(&m);
    CHECK(end_of(0) == -1, "an end from nowhere");
    temp_text("generation_config.json", "{\"eos_token_id\": [5, 3, 99], \"top_k\": 3}");
    CHECK(end_of(0) == 5 && end_of(1) == 3 && end_of(2) == -1, "a list, with an id outside");
    temp_text("generation_config.json", "{\"eos_token_id\": 4}");
    CHECK(end_of(0) == 4 && end_of(1) == -1 && end_of(-1) == -1, "one");
    temp_text("generation_config.json", "{\"top_k\": 3, \"top_k\": 4}");
    CHECK(end_of(0) == -1, "a file that says nothing");
    char list[256] = "{\"eos_token_id\": [";
    for (int i = 0; i < 33; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%d, ", i % 3);
    temp_text("generation_config.json", strcat(list, "99]}"));
    CHECK_FAILS(par_import_open(temp_path("."), &import), PAR_ERR_UNSUPPORTED,
                "generation_config.json: eos_token_id: 33 ids; legal: up to 32");
    ends_refused("no JSON", 7, "generation_config.json: line 1 column 2: ");
    ends_refused("[5, 3]", 6, "generation_config.json: is not a JSON object");
    ends_refused("", 0, "generation_config.json: is empty");
    ends_refused("\xff\xfe{\0}\0", 6, "generation_config.json: is UTF-16; legal: UTF-8 (iconv");
    temp_remove("generation_config.json");
    CHECK(mkdir(temp_path("generation_config.json"), 0777) == 0, "mkdir");
    CHECK_FAILS(par_import_open(temp_path("."), &import), PAR_ERR_IO,
                "generation_config.json: is a folder");
    CHECK(rmdir(temp_path("generation_config.json")) == 0, "rmdir");
}

/* A file again, with bytes in front of it. */
static void put_before(const char *name, const char *mark) {
    char text[4096];
    size_t n = strlen(mark), k;
    FILE *file = fopen(temp_path(name), "rb");
    memcpy(text, mark, n);
    k = file ? fread(text + n, 1, sizeof text - n, file) : 0;
    if (file) fclose(file);
    CHECK(k > 0 && k < sizeof text - n, "%s has %zu bytes", name, k);
    temp_file(name, text, n + k);
}

/* What editors and shells of Windows put in front of a text. */
static void marks(void) {
    static const char mark[] = "\xef\xbb\xbf", utf16[] = "\xff\xfe";
    static const char vocab[] = "{\"bytes\": [97, 98], \"vocab\": 2}";
    char map[4096];
    size_t used = 0;
    model m;
    par_tokenizer *t = NULL;
    write_config("qwen2", true);
    make(&m, "", "model.", false, false);
    write_model(&m);
    put_before("config.json", mark);
    temp_text("generation_config.json", "{\"eos_token_id\": [5, 3]}");
    put_before("generation_config.json", mark);
    CHECK_OK(try_read("layers.0.mlp.up.weight", F, C, PAR_F32));
    CHECK(end_of(0) == 5 && end_of(1) == 3, "the ends of a text");
    temp_remove("generation_config.json");
    CHECK(rename(temp_path("model.safetensors"), temp_path("m.safetensors")) == 0, "rename");
    for (int i = 0; i < m.n; i++)
        used += (size_t)snprintf(map + used, sizeof map - used, "%s\"%s\": \"m.safetensors\"",
                                 i ? ", " : "{\"weight_map\": {", m.names[i]);
    snprintf(map + used, sizeof map - used, "}}");
    temp_text("model.safetensors.index.json", map);
    put_before("model.safetensors.index.json", mark);
    CHECK_OK(try_read("layers.0.mlp.up.weight", F, C, PAR_F32));
    put_before("model.safetensors.index.json", utf16);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "index.json: is UTF-16; legal: UTF-8");
    temp_remove("model.safetensors.index.json");
    temp_remove("m.safetensors");
    put_before("config.json", utf16);
    CHECK_FAILS(try_open(), PAR_ERR_FORMAT, "config.json: is UTF-16; legal: UTF-8");
    temp_text("t.vocab", vocab);
    put_before("t.vocab", mark);
    CHECK_OK(par_tokenizer_open(temp_path("t.vocab"), &t));
    par_tokenizer_close(&t);
    put_before("t.vocab", utf16);
    CHECK_FAILS(par_tokenizer_open(temp_path("t.vocab"), &t), PAR_ERR_FORMAT, "is UTF-16");
    temp_remove("t.vocab");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"tensors-of-each", tensors_of_each, 0, NULL, 0},
        {"prefixes", prefixes, 0, NULL, 0},
        {"wrapped-blocks", wrapped_blocks, 0, NULL, 0},
        {"heads", heads, 0, NULL, 0},
        {"types", types, 0, NULL, 0},
        {"other-forms", other_forms, 0, NULL, 0},
        {"ends", ends, 0, NULL, 0},
        {"marks", marks, 0, NULL, 0},
        {"pointers", pointers, 0, NULL, 0},
        {"values", values, 0, NULL, 0},
    };
    harness_foreign_json();
    temp_open();
    int rc = harness_main("hub", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
