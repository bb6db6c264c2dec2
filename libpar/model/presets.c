/* Published shapes of the GPT-2 and Llama 3 families and of Llama's relatives, as config.json on
 * the hub has them, with their names there; and two tiny models for tests and demonstrations. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
#define QWEN(NAME, V, P, L, C_, H, K, D, F, TIED)                                                  \
    .name = NAME, .vocab = V, .tokens = 4096, .positions = P, .layers = L, .channels = C_,         \
    .heads = H, .kv_heads = K, .head_size = D, .mlp = F, .rmsnorm = true, .rope = true,            \
    .rope_theta = 1000000, .swiglu = true, .tied = TIED
#define QWEN2(...) QWEN(__VA_ARGS__), .qkv_bias = true
#define QWEN3(NAME, L, C_, H, F, TIED)                                                             \
    QWEN(NAME, 151936, 40960, L, C_, H, 8, 128, F, TIED), .norm_eps = 1e-6f, .qk_norm = true
#define SMOLLM2(NAME, L, C_, H, K, F) LLAMA(NAME, 49152, 2048, 8192, L, C_, H, K, 64, F, true)

static const struct {
    par_transformer_config config;
    const char *hub; /* NULL: is not there */
} presets[] = {
    {GPT2("gpt2-nano", 256, 64, 2, 64, 4), NULL},
    {{LLAMA("llama-nano", 256, 64, 64, 2, 64, 4, 2, 16, 176, false), .rope_theta = 10000}, NULL},
    {GPT2("gpt2-124m", 50257, 1024, 12, 768, 12), "openai-community/gpt2"},
    {GPT2("gpt2-355m", 50257, 1024, 24, 1024, 16), "openai-community/gpt2-medium"},
    {GPT2("gpt2-774m", 50257, 1024, 36, 1280, 20), "openai-community/gpt2-large"},
    {GPT2("gpt2-1.5b", 50257, 1024, 48, 1600, 25), "openai-community/gpt2-xl"},
    {{LLAMA("llama3-8b", 128256, 8192, 8192, 32, 4096, 32, 8, 128, 14336, false),
      .rope_theta = 500000},
     "meta-llama/Meta-Llama-3-8B"},
    {{LLAMA("llama3-70b", 128256, 8192, 8192, 80, 8192, 64, 8, 128, 28672, false),
      .rope_theta = 500000},
     "meta-llama/Meta-Llama-3-70B"},
    {{LLAMA("llama3.1-8b", 128256, 8192, 131072, 32, 4096, 32, 8, 128, 14336, false),
      .rope_theta = 500000, SCALED(8)},
     "meta-llama/Llama-3.1-8B"},
    {{LLAMA("llama3.2-1b", 128256, 8192, 131072, 16, 2048, 32, 8, 64, 8192, true),
      .rope_theta = 500000, SCALED(32)},
     "meta-llama/Llama-3.2-1B"},
    {{LLAMA("llama3.2-3b", 128256, 8192, 131072, 28, 3072, 24, 8, 128, 8192, true),
      .rope_theta = 500000, SCALED(32)},
     "meta-llama/Llama-3.2-3B"},
    {{SMOLLM2("smollm2-135m", 30, 576, 9, 3, 1536), .rope_theta = 100000, .init_std = 1 / 24.0},
     "HuggingFaceTB/SmolLM2-135M"},
    {{SMOLLM2("smollm2-360m", 32, 960, 15, 5, 2560), .rope_theta = 100000},
     "HuggingFaceTB/SmolLM2-360M"},
    {{SMOLLM2("smollm2-1.7b", 24, 2048, 32, 32, 8192), .rope_theta = 130000},
     "HuggingFaceTB/SmolLM2-1.7B"},
    {{LLAMA("mistral-7b", 32000, 4096, 32768, 32, 4096, 32, 8, 128, 14336, false),
      .rope_theta = 10000, .window = 4096},
     "mistralai/Mistral-7B-v0.1"},
    {{QWEN2("qwen2.5-0.5b", 151936, 32768, 24, 896, 14, 2, 64, 4864, true), .norm_eps = 1e-6f},
     "Qwen/Qwen2.5-0.5B"},
    {{QWEN2("qwen2.5-1.5b", 151936, 131072, 28, 1536, 12, 2, 128, 8960, true), .norm_eps = 1e-6f},
     "Qwen/Qwen2.5-1.5B"},
    {{QWEN2("qwen2.5-3b", 151936, 32768, 36, 2048, 16, 2, 128, 11008, true), .norm_eps = 1e-6f},
     "Qwen/Qwen2.5-3B"},
    {{QWEN2("qwen2.5-7b", 152064, 131072, 28, 3584, 28, 4, 128, 18944, false), .norm_eps = 1e-6f},
     "Qwen/Qwen2.5-7B"},
    {{QWEN2("qwen2.5-14b", 152064, 131072, 48, 5120, 40, 8, 128, 13824, false), .norm_eps = 1e-5f},
     "Qwen/Qwen2.5-14B"},
    {{QWEN2("qwen2.5-32b", 152064, 131072, 64, 5120, 40, 8, 128, 27648, false), .norm_eps = 1e-5f},
     "Qwen/Qwen2.5-32B"},
    {{QWEN2("qwen2.5-72b", 152064, 131072, 80, 8192, 64, 8, 128, 29568, false), .norm_eps = 1e-5f},
     "Qwen/Qwen2.5-72B"},
    {{QWEN3("qwen3-0.6b", 28, 1024, 16, 3072, true)}, "Qwen/Qwen3-0.6B"},
    {{QWEN3("qwen3-1.7b", 28, 2048, 16, 6144, true)}, "Qwen/Qwen3-1.7B"},
    {{QWEN3("qwen3-4b", 36, 2560, 32, 9728, true)}, "Qwen/Qwen3-4B"},
    {{QWEN3("qwen3-8b", 36, 4096, 32, 12288, false)}, "Qwen/Qwen3-8B"},
    {{QWEN3("qwen3-14b", 40, 5120, 40, 17408, false)}, "Qwen/Qwen3-14B"},
    {{QWEN3("qwen3-32b", 64, 5120, 64, 25600, false)}, "Qwen/Qwen3-32B"},
};

enum { N_PRESETS = sizeof presets / sizeof *presets };

const char *par_transformer_preset_name(int i) {
    return i >= 0 && i < N_PRESETS ? presets[i].config.name : NULL;
}

const char *par_transformer_preset_hub(int i) {
    return i >= 0 && i < N_PRESETS ? presets[i].hub : NULL;
}

/* Whether a name is the hub's, with its organisation or without. Models that were tuned, and those
 * named apart from them ("-Base"), have the same shape; Llama 3.1's folders were moved. */
static bool is_hub_name(const char *hub, const char *name) {
    static const char *const ends[] = {"", "-Base", "-Instruct"};
    const char *slash = strchr(name, '/'), *model = strchr(hub, '/') + 1;
    if (slash && strncasecmp(hub, name, (size_t)(slash + 1 - name)) != 0) return false;
    if (slash) name = slash + 1;
    if (strncasecmp(name, "Meta-Llama-3.1", 14) == 0) name += 5;
    size_t n = strlen(model);
    if (strncasecmp(model, name, n) != 0) return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(name + n, ends[i]) == 0) return true;
    return false;
}

par_status par_transformer_preset(const char *name, par_transformer_config *out) {
    char names[1024] = "";
    PAR_REQUIRE(name && out);
    for (int i = 0; i < N_PRESETS; i++) {
        size_t used = strlen(names);
        const char *hub = presets[i].hub;
        if (strcmp(presets[i].config.name, name) == 0 || (hub && is_hub_name(hub, name))) {
            *out = presets[i].config;
            return PAR_OK;
        }
        snprintf(names + used, sizeof names - used, "%s%.47s", i ? ", " : "",
                 presets[i].config.name);
    }
    PAR_FAIL(PAR_ERR_OPTION, "model \"%s\" is unknown; legal: %s", name, names);
}
