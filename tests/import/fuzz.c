/* Safetensors files, config.json, the index of a sharded model, directories of them, and model
 * files of llm.c, mutated: see ../mutate.h. */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "../mutate.h"
#include "par/weights.h"

#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_json
#include "fuzz_json.c"
#undef LLVMFuzzerTestOneInput

/* The tiny GPT-2 that fuzz_safetensors.c imports: C 2, V 3, P 2, F 2, L 1. */
static const struct {
    const char *name, *shape;
    int n;
} entries[] = {{"wte.weight", "3,2", 6},
               {"wpe.weight", "2,2", 4},
               {"ln_f.weight", "2", 2},
               {"ln_f.bias", "2", 2},
               {"h.0.ln_1.weight", "2", 2},
               {"h.0.ln_1.bias", "2", 2},
               {"h.0.attn.c_attn.weight", "2,6", 12},
               {"h.0.attn.c_attn.bias", "6", 6},
               {"h.0.attn.c_proj.weight", "2,2", 4},
               {"h.0.attn.c_proj.bias", "2", 2},
               {"h.0.ln_2.weight", "2", 2},
               {"h.0.ln_2.bias", "2", 2},
               {"h.0.mlp.c_fc.weight", "2,2", 4},
               {"h.0.mlp.c_fc.bias", "2", 2},
               {"h.0.mlp.c_proj.weight", "2,2", 4},
               {"h.0.mlp.c_proj.bias", "2", 2}};
enum { N_ENTRIES = sizeof entries / sizeof *entries };
static char tiny[MUTATE_CAPACITY];

/* It as a file; returns its bytes. */
static size_t tiny_gpt2(void) {
    int n = 8, at = 0;
    memset(tiny, 0, sizeof tiny);
    for (int i = 0; i < N_ENTRIES; at += 4 * entries[i++].n)
        n += snprintf(tiny + n, sizeof tiny - (size_t)n,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                      i ? "," : "{", entries[i].name, entries[i].shape, at, at + 4 * entries[i].n);
    tiny[n++] = '}';
    memcpy(tiny, &(uint64_t){(uint64_t)n - 8}, 8);
    return (size_t)(n + at);
}

static void safetensors(void) {
    size_t n = tiny_gpt2();
    par_safetensors *file = NULL;
    CHECK_OK(par__safetensors_parse("seed", (const uint8_t *)tiny, n, &file));
    par_safetensors_close(&file);
    fuzz_safetensors((const uint8_t *)tiny, n);
    CHECK(accepted == 1 && imported == 1, "the tiny GPT-2 is refused: %s", par_error());
    mutate_run("safetensors", fuzz_safetensors, tiny, n, 4000);
    char small[128] = {0};
    n = (size_t)snprintf(
        small + 8, sizeof small - 8,
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]},\"__metadata__"
        "\":{}}ABCD");
    small[0] = (char)(n - 4);
    accepted = 0;
    fuzz_safetensors((const uint8_t *)small, n + 8);
    CHECK(accepted == 1, "the small file is refused: %s", par_error());
    mutate_run("safetensors-small", fuzz_safetensors, small, n + 8, 4000);
}

static const char index_text[] = "{\"metadata\":{\"total_size\":12},\"weight_map\":"
                                 "{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"}}";

static void json(void) {
    static const char *const texts[] = {
        "{\"model_type\":\"gpt2\",\"n_embd\":32,\"n_head\":4,\"n_inner\":null,\"n_layer\":4,\"n_"
        "positions\":"
        "32,\"vocab_size\":131}",
        "{\"model_type\":\"llama\",\"head_dim\":16,\"hidden_size\":48,\"intermediate_size\":100,"
        "\"max_"
        "position_embeddings\":64,"
        "\"num_attention_heads\":4,\"num_hidden_layers\":3,\"num_key_value_heads\":1,\"rope_"
        "parameters\":{"
        "\"factor\":8.0,"
        "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":16,"
        "\"rope_"
        "theta\":500000.0,"
        "\"rope_type\":\"llama3\"},\"vocab_size\":96}",
        index_text,
    };
    par__index index;
    CHECK_OK(par__index_parse("seed", texts[2], strlen(texts[2]), &index));
    par__index_free(&index);
    static const char *const names[] = {"config-gpt2", "config-llama", "safetensors-index"};
    for (int i = 0; i < 3; i++) mutate_run(names[i], fuzz_json, texts[i], strlen(texts[i]), 4000);
    char deep[MUTATE_CAPACITY];
    memset(deep, '[', sizeof deep);
    fuzz_json((const uint8_t *)deep, sizeof deep);
}

/* A model file of llm.c: the header's first words, then the data; the zeros between are put in
 * here. Every parameter is read. */
static int target_llmc(const uint8_t *data, size_t n) {
    static const char *const names[] = {
        "embedding.token.weight",    "embedding.position.weight", "layers.0.attention.norm.weight",
        "layers.0.attention.v.bias", "layers.0.mlp.down.weight",  "final.norm.bias"};
    enum { HEADER = 1024, GIVEN = 32 };
    static uint8_t file[HEADER + MUTATE_CAPACITY];
    static float dst[MUTATE_CAPACITY];
    size_t given = n < GIVEN ? n : GIVEN;
    par_llmc *model = NULL;
    par_weights weights;
    memset(file, 0, HEADER);
    memcpy(file, data, given);
    memcpy(file + HEADER, data + given, n - given);
    if (par_llmc_open(mutate_file("model.bin", file, HEADER + n - given), &model) != PAR_OK)
        return -1;
    par_weights_of_llmc(model, &weights);
    const par_transformer_config *c = &weights.config;
    const int64_t sizes[][2] = {{c->vocab, c->channels}, {c->positions, c->channels},
                                {c->channels, 1},        {c->channels, 1},
                                {c->channels, c->mlp},   {c->channels, 1}};
    for (int i = 0; i < 6; i++) {
        par_param p = {.ndim = sizes[i][1] == 1 ? 1 : 2, .global = {sizes[i][0], sizes[i][1]}};
        strcpy(p.name, names[i]);
        par_status st = weights.read(weights.user, &p, PAR_F32, dst);
        CHECK(st == PAR_OK || st == PAR_ERR_FORMAT, "status %d", st); /* a weight is NaN */
    }
    par_llmc_close(&model);
    return 0;
}

static void llmc(void) {
    enum { V = 3, PADDED = 4, P = 2, C = 2, F = 8 };
    const int32_t header[] = {20240326, 3, P, V, 1, 1, C, PADDED};
    static float b[512];
    size_t n = PADDED * C + P * C + 2 * C + 3 * C * C + 3 * C + C * C + C + 2 * C + F * C + F +
               C * F + C + 2 * C;
    memcpy(b, header, sizeof header);
    for (size_t i = 8; i < 8 + n; i++) b[i] = (float)i;
    mutate_run("llm.c", target_llmc, b, 4 * (8 + n), 2000);
    mutate_end();
}

/* A directory whose files are sound but for one. */
static const char tiny_config[] =
    "{\"model_type\":\"gpt2\",\"n_embd\":2,\"n_head\":1,\"n_inner\":2,"
    "\"n_layer\":1,\"n_positions\":2,\"vocab_size\":3}";

static int open_directory(void) {
    par_import *import = NULL;
    if (par_import_open(mutate_folder(), &import) != PAR_OK) return -1;
    par_import_close(&import);
    return 0;
}

static int target_config(const uint8_t *data, size_t n) {
    mutate_file("config.json", data, n);
    return open_directory();
}

static int target_shards(const uint8_t *data, size_t n) {
    mutate_file("model.safetensors.index.json", data, n);
    return open_directory();
}

static void directory(void) {
    static char text[2048];
    size_t size = tiny_gpt2(), n = (size_t)sprintf(text, "{\"weight_map\":{");
    mutate_file("config.json", tiny_config, sizeof tiny_config - 1);
    mutate_file("one.safetensors", tiny, size);
    for (int i = 0; i < N_ENTRIES; i++)
        n += (size_t)sprintf(text + n, "%s\"%s\":\"one.safetensors\"", i ? "," : "",
                             entries[i].name);
    n += (size_t)sprintf(text + n, "}}");
    mutate_run("import-index", target_shards, text, n, 1000);
    mutate_file("model.safetensors", tiny, size);
    mutate_run("import-config", target_config, tiny_config, sizeof tiny_config - 1, 1000);
    mutate_end();
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"safetensors", safetensors, 0, NULL, 0},
                                         {"json", json, 0, NULL, 0},
                                         {"directory", directory, 0, NULL, 0},
                                         {"llm.c", llmc, 0, NULL, 0}};
    return harness_main("fuzz-import", cases, HARNESS_COUNT(cases), argc, argv);
}
