/* Safetensors files, config.json and the index of a sharded model, mutated: see ../mutate.h. */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "../mutate.h"

#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_json
#include "fuzz_json.c"
#undef LLVMFuzzerTestOneInput

/* The tiny GPT-2 that fuzz_safetensors.c imports: C 2, V 3, P 2, F 2, L 1. */
static void safetensors(void) {
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
    static char b[MUTATE_CAPACITY];
    int n = 8, at = 0;
    for (int i = 0; i < 16; at += 4 * entries[i++].n)
        n += snprintf(b + n, sizeof b - (size_t)n,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                      i ? "," : "{", entries[i].name, entries[i].shape, at, at + 4 * entries[i].n);
    b[n++] = '}';
    memcpy(b, &(uint64_t){(uint64_t)n - 8}, 8);
    par_safetensors *file = NULL;
    CHECK_OK(par__safetensors_parse("seed", (const uint8_t *)b, (size_t)(n + at), &file));
    par_safetensors_close(&file);
    fuzz_safetensors((const uint8_t *)b, (size_t)(n + at));
    CHECK(accepted == 1 && imported == 1, "the tiny GPT-2 is refused: %s", par_error());
    mutate_run(fuzz_safetensors, b, (size_t)(n + at), 4);
    char small[128] = {0};
    n = snprintf(small + 8, sizeof small - 8,
                 "{\"a\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]},\"__metadata__"
                 "\":{}}ABCD");
    small[0] = (char)(n - 4);
    accepted = 0;
    fuzz_safetensors((const uint8_t *)small, (size_t)n + 8);
    CHECK(accepted == 1, "the small file is refused: %s", par_error());
    mutate_run(fuzz_safetensors, small, (size_t)n + 8, 5);
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
    for (int i = 0; i < 3; i++) mutate_run(fuzz_json, texts[i], strlen(texts[i]), 6 + (uint64_t)i);
    char deep[MUTATE_CAPACITY];
    memset(deep, '[', sizeof deep);
    fuzz_json((const uint8_t *)deep, sizeof deep);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"safetensors", safetensors, 0, NULL, 0},
                                         {"json", json, 0, NULL, 0}};
    return harness_main("fuzz-import", cases, HARNESS_COUNT(cases), argc, argv);
}
