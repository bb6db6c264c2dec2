/* Configurations: presets against published counts, PERFORMANCE formulas, and refusals with the
 * legal values. */
#include <math.h>
#include <string.h>

#include "../harness.h"
#include "driver.h"
#include "libpar/model/layers.h"

static par_transformer_config preset(const char *name) {
    par_transformer_config c = {0};
    CHECK_OK(par_transformer_preset(name, &c));
    return c;
}

/* Parameters as counted by Hugging Face transformers from the published config.json. */
static void counts(void) {
    static const struct {
        const char *name;
        int64_t n;
    } known[] = {
        {"gpt2-124m", 124439808},     {"gpt2-355m", 354823168},     {"gpt2-774m", 774030080},
        {"gpt2-1.5b", 1557611200},    {"llama3-8b", 8030261248},    {"llama3.1-8b", 8030261248},
        {"llama3.2-1b", 1235814400},  {"llama3-70b", 70553706496},  {"smollm2-135m", 134515008},
        {"smollm2-360m", 361821120},  {"smollm2-1.7b", 1711376384}, {"mistral-7b", 7241732096},
        {"qwen2.5-0.5b", 494032768},  {"qwen3-0.6b", 596049920},    {"qwen3-8b", 8190735360},
        {"llama3.2-3b", 3212749824},  {"qwen2.5-3b", 3085938688},   {"qwen2.5-7b", 7615616512},
        {"qwen2.5-14b", 14770033664}, {"qwen2.5-32b", 32763876352}, {"qwen3-4b", 4022468096},
        {"qwen3-14b", 14768307200},   {"qwen3-32b", 32762123264},   {"qwen2.5-1.5b", 1543714304},
        {"qwen3-1.7b", 1720574976},   {"qwen2.5-72b", 72706203648}};
    for (int i = 0; i < HARNESS_COUNT(known); i++) {
        par_transformer_config c = preset(known[i].name);
        int64_t n = par_transformer_n_params(&c);
        CHECK(n == known[i].n, "%s has %lld parameters, published are %lld", known[i].name,
              (long long)n, (long long)known[i].n);
    }
}

/* What no count of parameters sees, as the published config.json have it: heads, base and factor of
 * the positions, how many there are, epsilon of the norms. Of Mistral also the window. */
static void fields(void) {
    static const struct {
        const char *name;
        int64_t heads, positions;
        double theta, factor, eps;
    } known[] = {
        {"gpt2-124m", 12, 1024, 0, 0, 1e-5},        {"gpt2-355m", 16, 1024, 0, 0, 1e-5},
        {"gpt2-774m", 20, 1024, 0, 0, 1e-5},        {"gpt2-1.5b", 25, 1024, 0, 0, 1e-5},
        {"llama3-8b", 32, 8192, 5e5, 0, 1e-5},      {"llama3-70b", 64, 8192, 5e5, 0, 1e-5},
        {"llama3.1-8b", 32, 131072, 5e5, 8, 1e-5},  {"llama3.2-1b", 32, 131072, 5e5, 32, 1e-5},
        {"llama3.2-3b", 24, 131072, 5e5, 32, 1e-5}, {"smollm2-135m", 9, 8192, 1e5, 0, 1e-5},
        {"smollm2-360m", 15, 8192, 1e5, 0, 1e-5},   {"smollm2-1.7b", 32, 8192, 1.3e5, 0, 1e-5},
        {"mistral-7b", 32, 32768, 1e4, 0, 1e-5},    {"qwen2.5-0.5b", 14, 32768, 1e6, 0, 1e-6},
        {"qwen2.5-1.5b", 12, 131072, 1e6, 0, 1e-6}, {"qwen2.5-3b", 16, 32768, 1e6, 0, 1e-6},
        {"qwen2.5-7b", 28, 131072, 1e6, 0, 1e-6},   {"qwen2.5-14b", 40, 131072, 1e6, 0, 1e-5},
        {"qwen2.5-32b", 40, 131072, 1e6, 0, 1e-5},  {"qwen2.5-72b", 64, 131072, 1e6, 0, 1e-5},
        {"qwen3-0.6b", 16, 40960, 1e6, 0, 1e-6},    {"qwen3-1.7b", 16, 40960, 1e6, 0, 1e-6},
        {"qwen3-4b", 32, 40960, 1e6, 0, 1e-6},      {"qwen3-8b", 32, 40960, 1e6, 0, 1e-6},
        {"qwen3-14b", 40, 40960, 1e6, 0, 1e-6},     {"qwen3-32b", 64, 40960, 1e6, 0, 1e-6},
    };
    for (int i = 0; i < HARNESS_COUNT(known); i++) {
        par_transformer_config c = preset(known[i].name);
        CHECK(c.heads == known[i].heads && c.positions == known[i].positions &&
                  (double)c.rope_theta == known[i].theta &&
                  (double)c.rope_scaling.factor == known[i].factor &&
                  (float)known[i].eps == c.norm_eps,
              "%s: heads %lld, positions %lld, theta %g, factor %g, eps %g", c.name,
              (long long)c.heads, (long long)c.positions, (double)c.rope_theta,
              (double)c.rope_scaling.factor, (double)c.norm_eps);
    }
    int n = 0;
    while (par_transformer_preset_name(n)) n++;
    CHECK(n == HARNESS_COUNT(known) + 2, "%d presets: two are nobody's, the others stand here", n);
    CHECK(preset("mistral-7b").window == 4096 && preset("qwen2.5-7b").window == 0, "the windows");
    CHECK(preset("smollm2-135m").init_std == 1 / 24.0, "the spread of SmolLM2 135M");
}

/* The GPT formulas for 4h MLPs (Narayanan et al. 2021): 72 L s h² (1 + s/6h + V/12hL) a
 * sequence. */
static void flops(void) {
    par_transformer_config c = preset("gpt2-774m");
    double L = 36, s = 1024, h = 1280, V = 50257;
    double expected = 72 * L * h * h * (1 + s / (6 * h) + V / (12 * h * L));
    CHECK(fabs(par_transformer_flops_per_token(&c) / expected - 1) < 1e-12,
          "%g FLOPs per token, formula %g", par_transformer_flops_per_token(&c), expected);
}

static void presets(void) {
    par_transformer_config c;
    int n = 0;
    for (; par_transformer_preset_name(n); n++) {
        par_problems problems = {0};
        par_layout layout = {0};
        c = preset(par_transformer_preset_name(n));
        CHECK(strcmp(c.name, par_transformer_preset_name(n)) == 0, "preset %d is called %s", n,
              c.name);
        par_transformer_check(&c, &layout, 1, false, &problems, NULL);
        CHECK(problems.n == 0, "%s: %s", c.name, problems.text);
    }
    CHECK(n >= 8, "%d presets", n);
    CHECK_FAILS(par_transformer_preset("gpt5", &c), PAR_ERR_OPTION, "llama3-8b");
}

static void refused(par_transformer_config c, int tp, bool sequence_parallel, const char *text) {
    par_problems problems = {0};
    par_layout layout = {.size = {tp, 1, 1, 1}};
    par_transformer_check(&c, &layout, 1, sequence_parallel, &problems, NULL);
    CHECK(problems.n == 1 && strstr(problems.text, text), "%d problems, \"%s\" lacks \"%s\"",
          problems.n, problems.text, text);
}

static void refusals(void) {
    par_transformer_config c = preset("llama3-8b");
    c.heads = c.kv_heads = 8;
    refused(c, 3, false, "tp 3 does not divide 8 heads; legal: 1, 2, 4, 8");
    c.heads = 12, c.kv_heads = 6;
    refused(c, 4, false,
            "tp 4 neither divides nor is a multiple of 6 KV heads; legal: 1, 2, 3, 6, 12");
    c.kv_heads = 5;
    refused(c, 1, false, "12 heads are not a multiple of 5 KV heads");
    c = preset("llama3-8b"), c.tokens = 8193;
    refused(c, 1, false, "legal: 1 to 8192");
    c = preset("mistral-7b"), c.tokens = 4097;
    refused(c, 1, false,
            "4097 tokens are more than the model's attention window of 4096, which is not "
            "computed; legal: 1 to 4096 tokens");
    c = preset("gpt2-124m"), c.embedding_dropout = 1;
    refused(c, 1, false, "embedding dropout 1");
    c = preset("llama3-8b"), c.head_size = 15;
    refused(c, 1, false, "head size 15 is odd");
    c = preset("llama3-8b"), c.tokens = 31;
    refused(c, 2, true, "multiples of 2");
    c = preset("llama3-8b"), c.dropout = NAN;
    refused(c, 1, false, "dropout");
    c = preset("llama3-8b"), c.vocab = 0;
    refused(c, 1, false, "vocabulary 0 is out of range");
    c = preset("llama3-8b"), c.rope_theta = 0;
    refused(c, 1, false, "rotary base");
}

static void replicas_and_notes(void) {
    par_transformer_config c = driver_llama(2);
    par_problems problems = {0}, notes = {0};
    par_layout layout = {.size = {12, 1, 1, 1}};
    par_transformer_check(&c, &layout, 1, true, &problems, &notes);
    CHECK(problems.n == 0 && layout.kv_replicas == 6, "%d replicas, %s", layout.kv_replicas,
          problems.text);
    CHECK(notes.n == 3 &&
              strstr(notes.text, "vocabulary 131 is padded with zeros to 192: 16 on each"),
          "notes: %s", notes.text);
}

/* All shares of a split cover the whole once. */
static void splits(void) {
    for (int64_t n = 1; n < 20; n++)
        for (int p = 1; p < 9; p++) {
            int64_t end = 0;
            for (int r = 0; r < p; r++) {
                par__share share = par__split("x", n, p, r);
                CHECK(share.offset == end && share.extent <= share.local && share.extent >= 0,
                      "share %d of %d of %lld", r, p, (long long)n);
                end += share.extent;
            }
            CHECK(end == n, "shares of %lld over %d end at %lld", (long long)n, p, (long long)end);
        }
}

/* Llama 3.1's scaling at its three regimes, from the formula in the model's release: wavelengths
 * below original / high stay, above original / low are divided by the factor. */
static void rope(void) {
    par_transformer_config c = preset("llama3.1-8b");
    enum { T = 3, HALF = 64 };
    float cos_table[T * HALF], sin_table[T * HALF];
    c.tokens = T;
    par__rope_tables(&c, cos_table, sin_table);
    double pi = acos(-1.0);
    for (int i = 0; i < HALF; i++) {
        double f = pow(500000, -i / 64.0), wavelength = 2 * pi / f, scaled = f;
        double smooth = (8192 / wavelength - 1) / 3;
        if (wavelength > 8192)
            scaled = f / 8;
        else if (wavelength > 2048)
            scaled = (1 - smooth) * f / 8 + smooth * f;
        /* one rounding to fp32 */
        CHECK(fabs((double)cos_table[2 * HALF + i] - cos(2 * scaled)) < 1e-7, "cos of pair %d", i);
        CHECK(fabs((double)sin_table[2 * HALF + i] - sin(2 * scaled)) < 1e-7, "sin of pair %d", i);
    }
}

static const harness_case cases[] = {
    {.name = "counts", .run = counts},
    {.name = "flops", .run = flops},
    {.name = "presets", .run = presets},
    {.name = "fields", .run = fields},
    {.name = "refusals", .run = refusals},
    {.name = "replicas-and-notes", .run = replicas_and_notes},
    {.name = "splits", .run = splits},
    {.name = "rope", .run = rope},
};

int main(int argc, char **argv) {
    return harness_main("transformer", cases, HARNESS_COUNT(cases), argc, argv);
}
