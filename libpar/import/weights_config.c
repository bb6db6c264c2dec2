/* A configuration → config.json, in the form that both older and newer readers take. What it says
 * is read back as the same configuration by config_json.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/import/weights.h"

enum { GPT2_VOCAB = 50257, GPT2_END = 50256 };

static void set(json_t *root, const char *key, json_t *value) {
    json_object_set_new(root, key, value);
}

static void set_size(json_t *root, const char *key, int64_t n) {
    set(root, key, json_integer(n));
}

/* The shortest number that is this float: 1e-05, where it as a double is 9.9999997473787516e-06. */
static json_t *real(float x) {
    char text[32];
    int digits = 1;
    do snprintf(text, sizeof text, "%.*g", digits, (double)x);
    while (strtof(text, NULL) != x && digits++ < 9);
    return json_real(strtod(text, NULL));
}

static void make_gpt2(json_t *root, const par_transformer_config *c) {
    float embedding = c->embedding_dropout == 0  ? c->dropout
                      : c->embedding_dropout < 0 ? 0
                                                 : c->embedding_dropout;
    bool ends = c->vocab >= GPT2_VOCAB && c->vocab <= 50304; /* padded to a multiple of 128 */
    set_size(root, "vocab_size", c->vocab);
    set_size(root, "n_positions", c->positions);
    set_size(root, "n_embd", c->channels);
    set_size(root, "n_layer", c->layers);
    set_size(root, "n_head", c->heads);
    set_size(root, "n_inner", c->mlp);
    set(root, "activation_function", json_string(c->gelu_erf ? "gelu" : "gelu_new"));
    set(root, "layer_norm_epsilon", real(c->norm_eps));
    set(root, "resid_pdrop", real(c->dropout));
    set(root, "embd_pdrop", real(embedding));
    set(root, "attn_pdrop", real(c->attention_dropout));
    set(root, "bos_token_id", ends ? json_integer(GPT2_END) : json_null());
    if (ends) set_size(root, "eos_token_id", GPT2_END);
}

static void make_decoder(json_t *root, const par__family *family, const par_transformer_config *c) {
    bool qwen = strncmp(family->model_type, "qwen", 4) == 0;
    json_t *scaling = json_null();
    if (c->rope_scaling.factor != 0)
        scaling = json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                            c->rope_scaling.factor, "low_freq_factor",
                            c->rope_scaling.low_freq_factor, "high_freq_factor",
                            c->rope_scaling.high_freq_factor, "original_max_position_embeddings",
                            (json_int_t)c->rope_scaling.original_positions);
    set_size(root, "vocab_size", c->vocab);
    set_size(root, "max_position_embeddings", c->positions);
    set_size(root, "hidden_size", c->channels);
    set_size(root, "intermediate_size", c->mlp);
    set_size(root, "num_hidden_layers", c->layers);
    set_size(root, "num_attention_heads", c->heads);
    set_size(root, "num_key_value_heads", c->kv_heads);
    set_size(root, "head_dim", c->head_size);
    set(root, "hidden_act", json_string("silu"));
    set(root, "rms_norm_eps", real(c->norm_eps));
    set(root, "rope_theta", json_real(c->rope_theta));
    set(root, "rope_scaling", scaling);
    set(root, "attention_dropout", real(c->attention_dropout));
    if (strcmp(family->model_type, "llama") == 0) {
        set(root, "attention_bias", json_false());
        set(root, "mlp_bias", json_false());
    }
    if (qwen) set(root, "use_sliding_window", json_boolean(c->window > 0));
    if (qwen && c->window > 0) set_size(root, "max_window_layers", 0);
    if (qwen || strcmp(family->model_type, "mistral") == 0)
        set(root, "sliding_window", c->window > 0 ? json_integer(c->window) : json_null());
    set(root, "bos_token_id", json_null());
}

/* As it was, also what was absent: what readers assume then is the family's. False: not known. */
static bool put_kept(json_t *root, const char *kept) {
    json_t *said = kept && *kept ? json_loads(kept, 0, NULL) : NULL;
    json_t *legal = json_is_object(said) ? par__config_kept(said) : NULL;
    if (legal) {
        json_object_del(root, "bos_token_id");
        json_object_del(root, "eos_token_id");
        json_object_update(root, legal);
    }
    bool known = legal != NULL;
    json_decref(legal);
    json_decref(said);
    return known;
}

json_t *par__config_make(const par__family *family, const par_weights *from, par_dtype dtype) {
    const par_transformer_config *c = &from->config;
    json_t *root = json_object();
    const char *type = dtype == PAR_BF16 ? "bfloat16" : dtype == PAR_F16 ? "float16" : "float32";
    if (!root) return NULL;
    set(root, "architectures", json_pack("[s]", family->architecture));
    set(root, "model_type", json_string(family->model_type));
    if (family == par__families[0])
        make_gpt2(root, c);
    else
        make_decoder(root, family, c);
    set(root, "initializer_range", json_real(c->init_std > 0 ? c->init_std : 0.02));
    bool kept = put_kept(root, from->kept);
    /* Null where the ends are not known and the family has not said. */
    json_t *ends = json_array();
    for (int i = 0; i < from->n_ends; i++) json_array_append_new(ends, json_integer(from->ends[i]));
    if (from->n_ends == 1)
        set_size(root, "eos_token_id", from->ends[0]);
    else if (from->n_ends > 1)
        json_object_set(root, "eos_token_id", ends);
    else if (!json_object_get(root, "eos_token_id") && !kept)
        set(root, "eos_token_id", json_null());
    json_decref(ends);
    set(root, "tie_word_embeddings", json_boolean(c->tied));
    set(root, "torch_dtype", json_string(type));
    return root;
}
