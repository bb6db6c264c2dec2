/* Published shapes of the GPT-2 and Llama 3 families and of Llama's relatives, and two tiny models
 * for tests and demonstrations. */
#include <stdio.h>
#include <string.h>

#include "par/transformer.h"

#define GPT2(NAME, V, TOKENS, L, C_, H)                                                            \
    {                                                                                              \
        .name = NAME, .vocab = V, .tokens = TOKENS, .positions = TOKENS, .layers = L,              \
        .channels = C_, .heads = H, .kv_heads = H, .head_size = (C_) / (H), .mlp = 4 * (C_),       \
        .norm_eps = 1e-5f, .bias = true, .tied = true                                              \
    }
#define LLAMA(NAME, V, TOKENS, P, L, C_, H, K, D, F, TIED)                                         \
    .name = NAME, .vocab = V, .tokens = TOKENS, .positions = P, .layers = L, .channels = C_,       \
    .heads = H, .kv_heads = K, .head_size = D, .mlp = F, .rmsnorm = true, .norm_eps = 1e-5f,       \
    .rope = true, .swiglu = true, .tied = TIED
#define SCALED(FACTOR)                                                                             \
    .rope_scaling = {                                                                              \
        .factor = FACTOR, .low_freq_factor = 1, .high_freq_factor = 4, .original_positions = 8192}
/* T 4096, as they were trained in the main */
#define QWEN(NAME, P, L, C_, H, K, D, F, TIED)                                                     \
    .name = NAME, .vocab = 151936, .tokens = 4096, .positions = P, .layers = L, .channels = C_,    \
    .heads = H, .kv_heads = K, .head_size = D, .mlp = F, .rmsnorm = true, .norm_eps = 1e-6f,       \
    .rope = true, .rope_theta = 1000000, .swiglu = true, .tied = TIED

static const par_transformer_config presets[] = {
    GPT2("gpt2-nano", 256, 64, 2, 64, 4),
    {LLAMA("llama-nano", 256, 64, 64, 2, 64, 4, 2, 16, 176, false), .rope_theta = 10000},
    GPT2("gpt2-124m", 50257, 1024, 12, 768, 12),
    GPT2("gpt2-355m", 50257, 1024, 24, 1024, 16),
    GPT2("gpt2-774m", 50257, 1024, 36, 1280, 20),
    GPT2("gpt2-1.5b", 50257, 1024, 48, 1600, 25),
    {LLAMA("llama3-8b", 128256, 8192, 8192, 32, 4096, 32, 8, 128, 14336, false),
     .rope_theta = 500000},
    {LLAMA("llama3-70b", 128256, 8192, 8192, 80, 8192, 64, 8, 128, 28672, false),
     .rope_theta = 500000},
    {LLAMA("llama3.1-8b", 128256, 8192, 131072, 32, 4096, 32, 8, 128, 14336, false),
     .rope_theta = 500000, SCALED(8)},
    {LLAMA("llama3.2-1b", 128256, 8192, 131072, 16, 2048, 32, 8, 64, 8192, true),
     .rope_theta = 500000, SCALED(32)},
    {LLAMA("smollm2-135m", 49152, 2048, 8192, 30, 576, 9, 3, 64, 1536, true), .rope_theta = 100000},
    {LLAMA("smollm2-360m", 49152, 2048, 8192, 32, 960, 15, 5, 64, 2560, true),
     .rope_theta = 100000},
    {LLAMA("smollm2-1.7b", 49152, 2048, 8192, 24, 2048, 32, 32, 64, 8192, true),
     .rope_theta = 130000},
    {LLAMA("mistral-7b", 32000, 4096, 32768, 32, 4096, 32, 8, 128, 14336, false),
     .rope_theta = 10000, .window = 4096},
    {QWEN("qwen2.5-0.5b", 32768, 24, 896, 14, 2, 64, 4864, true), .qkv_bias = true},
    {QWEN("qwen3-0.6b", 40960, 28, 1024, 16, 8, 128, 3072, true), .qk_norm = true},
    {QWEN("qwen3-8b", 40960, 36, 4096, 32, 8, 128, 12288, false), .qk_norm = true},
};

enum { N_PRESETS = sizeof presets / sizeof *presets };

const char *par_transformer_preset_name(int i) {
    return i >= 0 && i < N_PRESETS ? presets[i].name : NULL;
}

par_status par_transformer_preset(const char *name, par_transformer_config *out) {
    char names[1024] = "";
    PAR_REQUIRE(name && out);
    for (int i = 0; i < N_PRESETS; i++) {
        size_t used = strlen(names);
        if (strcmp(presets[i].name, name) == 0) {
            *out = presets[i];
            return PAR_OK;
        }
        snprintf(names + used, sizeof names - used, "%s%.47s", i ? ", " : "", presets[i].name);
    }
    PAR_FAIL(PAR_ERR_OPTION, "model \"%s\" is unknown; legal: %s", name, names);
}
