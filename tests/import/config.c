/*
 * config.json: both forms and both families give the right numbers; every field that is malformed,
 * or that changes the mathematics, is refused with its name. A case replaces one piece of a sound
 * file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "libpar/import/family.h"

static const char gpt2[] =
    "{\"activation_function\": \"gelu_new\", \"architectures\": "
    "[\"GPT2LMHeadModel\"], \"attn_pdrop\": 0.2, \"embd_pdrop\": 0.1,"
    "\"initializer_range\": 0.03, \"layer_norm_epsilon\": 1e-06, \"model_type\": "
    "\"gpt2\", \"n_embd\": 32, \"n_head\": 4,"
    "\"n_inner\": null, \"n_layer\": 3, \"n_positions\": 64, \"resid_pdrop\": 0.1, "
    "\"scale_attn_weights\": true, \"vocab_size\": 131}";

static const char llama_old[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, \"hidden_act\": "
    "\"silu\", "
    "\"hidden_size\": 64,"
    "\"intermediate_size\": 88, \"max_position_embeddings\": 32, \"model_type\": \"llama\", "
    "\"num_attention_heads\": 8,"
    "\"num_hidden_layers\": 4, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-05, "
    "\"rope_theta\": 20000.0,"
    "\"rope_scaling\": null, \"torch_dtype\": \"float32\", \"vocab_size\": 131}";

static const char llama_new[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"dtype\": \"float32\", "
    "\"head_dim\": 16, \"hidden_size\": 48,"
    "\"intermediate_size\": 100, \"max_position_embeddings\": 64, \"mlp_bias\": "
    "false, \"model_type\": \"llama\","
    "\"num_attention_heads\": 4, \"num_hidden_layers\": 3, "
    "\"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-06, \"rope_parameters\":"
    "{\"factor\": 8.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, "
    "\"original_max_position_embeddings\": 16,"
    "\"rope_theta\": 500000.0, \"rope_type\": \"llama3\"}, "
    "\"tie_word_embeddings\": true, \"vocab_size\": 96}";

/* Qwen2's form; the others differ in a word or two. */
static const char qwen2[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_act\": \"silu\", \"hidden_size\": 56, "
    "\"intermediate_size\": 88, \"max_position_embeddings\": 64, \"max_window_layers\": 2, "
    "\"model_type\": \"qwen2\", \"num_attention_heads\": 14, \"num_hidden_layers\": 4, "
    "\"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, "
    "\"sliding_window\": 32, \"tie_word_embeddings\": true, \"use_mrope\": false, "
    "\"use_sliding_window\": false, \"vocab_size\": 96}";

static par_transformer_config parsed;

static par_status parse(const char *text) {
    const par__family *family;
    memset(&parsed, 0, sizeof parsed);
    return par__config_parse("config.json", text, strlen(text), &family, &parsed);
}

/* `text` with the first `from` replaced. */
static const char *replaced(const char *text, const char *from, const char *to) {
    static char out[4096];
    const char *at = strstr(text, from);
    CHECK(at != NULL, "no %s in the sound file", from);
    if (at) snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void gpt2_values(void) {
    const par_transformer_config *c = &parsed;
    CHECK_OK(parse(gpt2));
    CHECK(c->vocab == 131 && c->tokens == 64 && c->positions == 64 && c->layers == 3 &&
              c->channels == 32,
          "sizes");
    CHECK(c->heads == 4 && c->kv_heads == 4 && c->head_size == 8 && c->mlp == 128, "heads or mlp");
    CHECK(!c->rmsnorm && !c->rope && !c->swiglu && !c->gelu_erf && c->bias && c->tied, "switches");
    CHECK(c->norm_eps == 1e-6f && c->dropout == 0.1f && c->attention_dropout == 0.2f &&
              c->init_std == 0.03,
          "numbers");
    CHECK_OK(parse(replaced(gpt2, "\"gelu_new\"", "\"gelu\"")));
    CHECK(c->gelu_erf, "gelu is the erf form");
    CHECK_OK(parse(
        replaced(gpt2, "\"n_inner\": null", "\"n_inner\": 77, \"tie_word_embeddings\": false")));
    CHECK(c->mlp == 77 && !c->tied, "n_inner or tie_word_embeddings");
    CHECK_OK(parse(replaced(gpt2, "\"n_positions\"", "\"n_ctx\"")));
    CHECK(c->positions == 64, "n_ctx");
    /* What transformers' GPT2Config has where a field is absent. */
    CHECK_OK(parse("{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_head\": 4, \"n_layer\": 3, "
                   "\"n_positions\": 64, \"vocab_size\": 9}"));
    CHECK(c->dropout == 0.1f && c->attention_dropout == 0.1f && c->norm_eps == 1e-5f &&
              c->init_std == 0.02 && c->tied,
          "defaults");
}

static void llama_values(void) {
    const par_transformer_config *c = &parsed;
    CHECK_OK(parse(llama_old));
    CHECK(c->vocab == 131 && c->tokens == 32 && c->layers == 4 && c->channels == 64 && c->mlp == 88,
          "sizes");
    CHECK(c->heads == 8 && c->kv_heads == 2 && c->head_size == 8, "heads");
    CHECK(c->rmsnorm && c->rope && c->swiglu && !c->bias && !c->tied, "switches");
    CHECK(c->rope_theta == 20000 && c->rope_scaling.factor == 0 && c->norm_eps == 1e-5f &&
              c->dropout == 0,
          "numbers");
    CHECK_OK(parse(llama_new));
    CHECK(c->head_size == 16 && c->heads == 4 && c->kv_heads == 1 && c->channels == 48 && c->tied,
          "sizes of the newer form");
    CHECK(c->rope_theta == 500000 && c->rope_scaling.factor == 8 &&
              c->rope_scaling.low_freq_factor == 1 && c->rope_scaling.high_freq_factor == 4 &&
              c->rope_scaling.original_positions == 16,
          "rotary parameters");
    /* Llama 3.1 in the older form. */
    CHECK_OK(parse(replaced(
        llama_old, "\"rope_scaling\": null",
        "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
        "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}")));
    CHECK(c->rope_theta == 20000 && c->rope_scaling.factor == 8 &&
              c->rope_scaling.original_positions == 8192,
          "scaling");
    CHECK_OK(parse(replaced(llama_old, "\"num_key_value_heads\": 2,", "")));
    CHECK(c->kv_heads == 8, "kv heads default to heads");
}

/* The same file as of another family. */
static const char *as_family(const char *type, const char *class) {
    static char text[4096];
    char name[64];
    snprintf(name, sizeof name, "\"model_type\": \"%s\"", type);
    snprintf(text, sizeof text, "%s", replaced(qwen2, "\"model_type\": \"qwen2\"", name));
    snprintf(text, sizeof text, "%s", replaced(text, "Qwen2ForCausalLM", class));
    return text;
}

static void relatives_values(void) {
    const par_transformer_config *c = &parsed;
    CHECK_OK(parse(qwen2));
    CHECK(c->qkv_bias && !c->qk_norm && !c->bias && c->tied && c->rmsnorm && c->rope && c->swiglu,
          "switches of Qwen2");
    CHECK(c->heads == 14 && c->kv_heads == 2 && c->head_size == 4 && c->rope_theta == 1e6, "heads");
    CHECK(c->window == 0, "a window that is off is %lld", (long long)c->window);
    CHECK_OK(parse(as_family("qwen3", "Qwen3ForCausalLM")));
    CHECK(c->qk_norm && !c->qkv_bias, "switches of Qwen3");
    CHECK(c->head_size == 128, "Qwen3's head size without head_dim is %lld",
          (long long)c->head_size);
    static char mistral[4096];
    snprintf(mistral, sizeof mistral, "%s",
             replaced(as_family("mistral", "MistralForCausalLM"), "\"use_sliding_window\": false, ",
                      ""));
    CHECK_OK(parse(mistral));
    CHECK(!c->qk_norm && !c->qkv_bias && c->window == 32 && c->tokens == 32, "Mistral, of T %lld",
          (long long)c->tokens);
    CHECK_OK(parse(replaced(mistral, "\"sliding_window\": 32", "\"sliding_window\": null")));
    CHECK(c->window == 0 && c->tokens == 64, "Mistral without a window");
    /* Llama's class has none, whatever is said */
    CHECK_OK(parse(replaced(llama_old, "{", "{\"sliding_window\": 8,")));
    CHECK(c->window == 0, "a Llama's window is %lld", (long long)c->window);
    /* no class, none listed, and the class as it was first spelt */
    CHECK_OK(parse(replaced(llama_old, "[\"LlamaForCausalLM\"]", "[]")));
    CHECK_OK(parse(replaced(llama_old, "\"architectures\": [\"LlamaForCausalLM\"], ", "")));
    CHECK_OK(parse(replaced(llama_old, "LlamaForCausalLM", "LLaMAForCausalLM")));
    CHECK(c->rmsnorm && c->heads == 8, "a Llama of 2023");
    CHECK_OK(parse(replaced(qwen2, "[\"Qwen2ForCausalLM\"]", "[]")));
    CHECK(c->qkv_bias, "a Qwen2 without a class");
    CHECK_FAILS(parse("{\"architectures\": [], \"vocab_size\": 9}"), PAR_ERR_UNSUPPORTED,
                "model_type: absent with architectures absent");
    /* SmolLM2 is a Llama that says more of itself */
    CHECK_OK(parse(replaced(llama_old, "{",
                            "{\"is_llama_config\": true, \"rope_interleaved\": false, "
                            "\"tie_word_embeddings\": true, \"transformers.js_config\": {},")));
    CHECK(c->tied && c->window == 0, "SmolLM2");
}

/* A window in all layers or none, as transformers' classes say; in some of them it is refused. */
static void windows(void) {
    static const char off[] = "\"use_sliding_window\": false", first[] = "\"max_window_layers\": 2",
                      full[] = "\"full_attention\"", windowed[] = "\"sliding_attention\"";
    static const struct {
        const char *fields, *types[2]; /* of the first layer, and of the others; NULL: no list */
        int64_t window;                /* -1: refused */
        const char *text;
    } rows[] = {
        {"\"use_sliding_window\": true, \"max_window_layers\": 0", {NULL, NULL}, 32, NULL},
        {"\"use_sliding_window\": true, \"max_window_layers\": 4", {NULL, NULL}, 0, NULL},
        {"\"use_sliding_window\": true", {NULL, NULL}, 0, NULL}, /* from layer 28 on */
        {"\"use_sliding_window\": true, \"max_window_layers\": 1",
         {NULL, NULL},
         -1,
         "max_window_layers: a window in 3 of 4 layers is not supported; legal: in all or none"},
        {"\"use_sliding_window\": true, \"max_window_layers\": -1",
         {NULL, NULL},
         -1,
         "max_window_layers: legal: an integer from 0"},
        {"\"use_sliding_window\": true, \"max_window_layers\": 0", {full, full}, 0, NULL},
        {"\"use_sliding_window\": true, \"max_window_layers\": 4", {windowed, windowed}, 32, NULL},
        {"\"use_sliding_window\": true",
         {full, windowed},
         -1,
         "layer_types: a window in 3 of 4 layers is not supported; legal: in all or none"},
        {off, {full, full}, 0, NULL},
        {off, {windowed, windowed}, -1, "sliding_window or use_sliding_window is off"},
    };
    for (int i = 0; i < HARNESS_COUNT(rows); i++) {
        char text[4096], types[256] = "";
        const char *const *t = rows[i].types;
        if (t[0])
            snprintf(types, sizeof types, ", \"layer_types\": [%s, %s, %s, %s]", t[0], t[1], t[1],
                     t[1]);
        snprintf(types + strlen(types), sizeof types - strlen(types), ", %s", rows[i].fields);
        snprintf(text, sizeof text, "%s", replaced(qwen2, first, "\"use_cache\": true"));
        snprintf(text, sizeof text, "%s", replaced(text, off, types + 2));
        if (rows[i].window < 0)
            CHECK(parse(text) != PAR_OK && strstr(par_error(), rows[i].text), "%d: %s", i,
                  par_error());
        else
            CHECK(parse(text) == PAR_OK && parsed.window == rows[i].window, "%d: %lld, %s", i,
                  (long long)parsed.window, par_error());
    }
    CHECK_FAILS(parse(replaced(qwen2, "{", "{\"layer_types\": [\"full_attention\"],")),
                PAR_ERR_FORMAT, "layer_types: legal: an array of 4, as num_hidden_layers says");
    CHECK_FAILS(parse(replaced(llama_new, "{",
                               "{\"sliding_window\": 8, \"layer_types\": [\"full_attention\", "
                               "\"full_attention\", \"sliding_attention\"],")),
                PAR_ERR_UNSUPPORTED, "Llama has no window");
}

/* GPT-2's files of 2019: no type, no class, and fields that nothing reads. */
static void oldest(void) {
    static const char text[] =
        "{\"attn_pdrop\": 0.1, \"embd_pdrop\": 0.0, \"finetuning_task\": null, "
        "\"initializer_range\": 0.02, \"layer_norm_epsilon\": 1e-05, \"n_ctx\": 64, "
        "\"n_embd\": 32, \"n_head\": 4, \"n_layer\": 3, \"num_labels\": 1, \"resid_pdrop\": "
        "0.2, \"summary_type\": \"cls_index\", \"torchscript\": false, \"vocab_size\": 131}";
    const par_transformer_config *c = &parsed;
    CHECK_OK(parse(text));
    CHECK(c->positions == 64 && c->layers == 3 && c->tied && c->bias && !c->rope, "sizes");
    CHECK(c->dropout == 0.2f && c->embedding_dropout < 0, "dropout of the embedding is %g",
          (double)c->embedding_dropout);
    CHECK_OK(parse(replaced(text, "\"embd_pdrop\": 0.0", "\"embd_pdrop\": 0.3")));
    CHECK(c->embedding_dropout == 0.3f, "dropout of the embedding");
    CHECK_OK(parse(replaced(text, "\"embd_pdrop\": 0.0", "\"embd_pdrop\": 0.2")));
    CHECK(c->embedding_dropout == 0, "dropout of the embedding, the same");
    CHECK_OK(parse(replaced(gpt2, "GPT2LMHeadModel", "GPT2Model")));
}

typedef struct {
    const char *text, *from, *to;
    par_status status;
    const char *message;
} refusal;

#define EXTRA(base, field, status, message)                                                        \
    { base, "{", "{" field ",", status, message }
#define BAD PAR_ERR_FORMAT
#define NOT PAR_ERR_UNSUPPORTED

static const refusal refusals[] = {
    {gpt2, "32", "32.5", BAD,
     "n_embd: is out of range or not an integer; legal: an integer from 1 to 2147483647"},
    {gpt2, "\"n_embd\"", "\"other\"", BAD, "n_embd: is missing"},
    {gpt2, "\"n_embd\": 32", "\"n_embd\": 0", BAD, "n_embd: is out of range"},
    {gpt2, "\"n_embd\": 32", "\"n_embd\": 2147483648", BAD, "n_embd: is out of range"},
    {gpt2, "\"n_embd\": 32", "\"n_embd\": 30", BAD, "n_embd: 30 is not a multiple of n_head: 4"},
    {gpt2, "\"n_head\": 4", "\"n_head\": -4", BAD, "n_head: is out of range"},
    {gpt2, "\"n_layer\": 3", "\"n_layer\": \"3\"", BAD,
     "n_layer: is out of range or not an integer"},
    {gpt2, "\"n_positions\": 64", "\"n_positions\": []", BAD,
     "n_positions: is out of range or not an integer"},
    {gpt2, "131", "null", BAD, "vocab_size: is missing"},
    {gpt2, "\"n_inner\": null", "\"n_inner\": 0", BAD, "n_inner: is out of range"},
    {gpt2, "1e-06", "-1", BAD, "layer_norm_epsilon: is out of range"},
    {gpt2, "1e-06", "0", BAD, "layer_norm_epsilon: is out of range"},
    {gpt2, "0.2", "1.0", BAD, "attn_pdrop: is out of range"},
    {gpt2, "\"embd_pdrop\": 0.1", "\"embd_pdrop\": 1", BAD, "embd_pdrop: is out of range"},
    {gpt2, "0.03", "\"x\"", BAD, "initializer_range: is out of range or not a number"},
    {gpt2, "\"gelu_new\"", "\"relu\"", NOT,
     "activation_function: \"relu\" is not supported; legal: gelu_new"},
    {gpt2, "\"gelu_new\"", "7", BAD, "activation_function: is not a string"},
    {gpt2, "true", "false", NOT, "scale_attn_weights: false is not supported; legal: true"},
    {gpt2, "GPT2LMHeadModel", "GPT2ForSequenceClassification", NOT,
     "GPT2ForSequenceClassification"},
    {gpt2, "\"gpt2\"", "\"gpt_neox\"", NOT, "model_type: gpt_neox"},
    {gpt2, "\"gpt2\"", "\"llama\"", NOT, "model_type: llama with architectures"},
    EXTRA(gpt2, "\"scale_attn_by_inverse_layer_idx\": true", NOT,
          "scale_attn_by_inverse_layer_idx: true"),
    EXTRA(gpt2, "\"add_cross_attention\": true", NOT, "add_cross_attention: true"),
    EXTRA(gpt2, "\"pruned_heads\": {\"1\": [0]}", NOT, "pruned_heads"),
    EXTRA(gpt2, "\"tie_word_embeddings\": 1", BAD, "tie_word_embeddings: is not a boolean"),
    EXTRA(gpt2, "\"quantization_config\": {\"bits\": 4}", NOT, "quantization_config: {\"bits\":4}"),
    EXTRA(gpt2, "\"n_head\": 4", BAD, "duplicate object key"),
    {llama_old, "false", "true", NOT, "attention_bias: true is not supported; legal: false"},
    {llama_old, "\"silu\"", "\"gelu\"", NOT, "hidden_act: \"gelu\" is not supported; legal: silu"},
    {llama_old, "64", "60", BAD, "hidden_size: 60 is not a multiple of num_attention_heads: 8"},
    {llama_old, "64", "72", NOT, "head size 9 is not supported with rotary positions"},
    {llama_old, "88", "0", BAD, "intermediate_size: is out of range"},
    {llama_old, "\"max_position_embeddings\": 32", "\"max_position_embeddings\": 0", BAD,
     "max_position_embeddings"},
    {llama_old, "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 0", BAD, "num_hidden_layers"},
    {llama_old, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", BAD,
     "not a multiple of num_key_value_heads: 3"},
    {llama_old, "1e-05", "2", BAD, "rms_norm_eps: is out of range"},
    {llama_old, "1e-05", "0", BAD, "rms_norm_eps: is out of range"},
    {llama_old, "1e-05", "1e-60", BAD, "rms_norm_eps: is out of range"},
    {llama_old, "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 16001", NOT,
     "layers 16001 is out of range; legal: 1 to 16000"},
    {llama_old, "20000.0", "0", BAD, "rope_theta: is out of range"},
    {llama_old, "\"rope_scaling\": null",
     "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", NOT,
     "rope_scaling: rope_type \"linear\" is not supported; legal: default, llama3"},
    {llama_old, "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": 3}", BAD,
     "rope_type is not a string"},
    {llama_old, "\"rope_scaling\": null", "\"rope_scaling\": 3", BAD,
     "rope_scaling: is not an object"},
    EXTRA(llama_old, "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1.5}", BAD,
          "rope_theta: 20000, and 1.5"),
    EXTRA(llama_old, "\"mlp_bias\": true", NOT, "mlp_bias: true"),
    EXTRA(llama_old, "\"rope_interleaved\": true", NOT, "rope_interleaved: true"),
    EXTRA(qwen2, "\"layer_types\": 3", BAD, "layer_types: legal: an array of 4"),
    EXTRA(qwen2, "\"layer_types\": [\"linear_attention\"]", BAD,
          "layer_types: \"linear_attention\" is not supported"),
    EXTRA(qwen2, "\"layer_types\": [3]", BAD, "layer_types: \"not a string\""),
    EXTRA(qwen2, "\"attention_bias\": true", NOT, "attention_bias: true"),
    {qwen2, "\"qwen2\"", "\"qwen2_moe\"", NOT, "model_type: qwen2_moe"},
    {qwen2, "\"qwen2\"", "\"qwen3\"", NOT, "qwen3 with Qwen3ForCausalLM"},
    {qwen2, "false", "1", NOT, "use_mrope: 1 is not supported"},
    EXTRA(llama_old, "\"partial_rotary_factor\": 0.5", NOT, "partial_rotary_factor: 0.5"),
    EXTRA(llama_old, "\"head_dim\": 7", NOT, "head size 7"),
    EXTRA(llama_old, "\"head_dim\": 0", BAD, "head_dim: is out of range"),
    EXTRA(llama_old, "\"attention_dropout\": -0.5", BAD, "attention_dropout: is out of range"),
    {llama_new, "8.0", "0.5", BAD, "factor: is out of range"},
    {llama_new, "\"factor\"", "\"faktor\"", BAD, "factor: is missing"},
    {llama_new, "\"factor\"", "\"faktor\"", BAD, "rope_parameters: faktor is not supported"},
    {llama_new, "4.0", "1.0", BAD, "high_freq_factor: 1 is not above low_freq_factor: 1"},
    {llama_new, "16,\"rope", "0,\"rope", BAD, "original_max_position_embeddings: is out of range"},
    {llama_new, "llama3", "yarn", NOT, "rope_type \"yarn\""},
    EXTRA(llama_new, "\"rope_scaling\": {\"rope_type\": \"default\"}", BAD,
          "both there and differ"),
    EXTRA(llama_new, "\"rope_theta\": 10000.0", BAD, "rope_theta: 10000, and 500000"),
};

static void refused(void) {
    for (int i = 0; i < HARNESS_COUNT(refusals); i++) {
        const refusal *r = &refusals[i];
        CHECK_FAILS(parse(replaced(r->text, r->from, r->to)), r->status, r->message);
        CHECK(strncmp(par_error(), "config.json", 11) == 0, "no path in \"%s\"", par_error());
    }
    CHECK_FAILS(parse(""), BAD, "is empty");
    CHECK_FAILS(parse("[]"), BAD, "is not a JSON object");
    CHECK_FAILS(parse("{"), BAD, "line 1");
}

/* Several problems come in one message. */
static void all_at_once(void) {
    CHECK(
        parse("{\"model_type\": \"llama\", \"attention_bias\": true, \"hidden_act\": \"relu\"}") ==
            BAD,
        "accepted");
    static const char *const parts[] = {"attention_bias: true", "hidden_act: \"relu\"",
                                        "vocab_size: is missing", "hidden_size"};
    for (int i = 0; i < 4; i++)
        CHECK(strstr(par_error(), parts[i]) != NULL, "\"%s\" lacks %s", par_error(), parts[i]);
}

static void truncations(void) {
    static const char *const texts[] = {gpt2, llama_old, llama_new};
    const par__family *family;
    for (int t = 0; t < 3; t++)
        for (size_t n = 0; n < strlen(texts[t]); n++) {
            char *copy = malloc(n + 1); /* exact, so that a sanitizer sees a read past the end */
            memcpy(copy, texts[t], n);
            CHECK(par__config_parse("config.json", copy, n, &family, &parsed) == PAR_ERR_FORMAT,
                  "file %d cut to %zu", t, n);
            free(copy);
        }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"gpt2-values", gpt2_values, 0, NULL, 0},
        {"llama-values", llama_values, 0, NULL, 0},
        {"relatives-values", relatives_values, 0, NULL, 0},
        {"windows", windows, 0, NULL, 0},
        {"oldest", oldest, 0, NULL, 0},
        {"refused", refused, 0, NULL, 0},
        {"all-at-once", all_at_once, 0, NULL, 0},
        {"truncations", truncations, 0, NULL, 0},
    };
    return harness_main("config", cases, HARNESS_COUNT(cases), argc, argv);
}
