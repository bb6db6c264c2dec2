/*
 * config.json → configuration, in the older form (rope_theta, rope_scaling, torch_dtype) and the
 * newer one (rope_parameters, dtype). A field that changes the mathematics and is not supported is
 * refused by name; all problems come in one message. Defaults of absent fields are those of
 * transformers' configuration classes.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libpar/import/directory.h"

#define SIZE_LIMIT 2147483647

typedef struct {
    const char *path;
    json_t *root;
    par_transformer_config *c;
    par_problems problems;
    par_status status; /* of the problems: FORMAT before UNSUPPORTED */
} config_reader;

#define MALFORMED(r, ...) ((r)->status = PAR_ERR_FORMAT, par_problem(&(r)->problems, __VA_ARGS__))
#define UNSUPPORTED(r, ...)                                                                        \
    ((r)->status = (r)->status == PAR_OK ? PAR_ERR_UNSUPPORTED : (r)->status,                      \
     par_problem(&(r)->problems, __VA_ARGS__))

/* NULL also for null, which the configuration classes take for "the default". */
static json_t *field(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* An integer of 1 or more; fallback 0: required. */
static int64_t read_size(config_reader *r, json_t *object, const char *key, int64_t fallback) {
    json_t *value = field(object, key);
    if (!value && fallback > 0) return fallback;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > SIZE_LIMIT) {
        MALFORMED(r, "%s: %s: %s; legal: an integer from 1 to %d", r->path, key,
                  value ? "is out of range or not an integer" : "is missing", SIZE_LIMIT);
        return 1;
    }
    return json_integer_value(value);
}

static double read_number(config_reader *r, json_t *object, const char *key, double fallback,
                          double low, double high) {
    json_t *value = field(object, key);
    if (!value && !isnan(fallback)) return fallback;
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= low && x <= high)) {
        MALFORMED(r, "%s: %s: %s; legal: a number from %g to %g", r->path, key,
                  value ? "is out of range or not a number" : "is missing", low, high);
        return low;
    }
    return x;
}

static bool read_bool(config_reader *r, const char *key, bool fallback) {
    json_t *value = field(r->root, key);
    if (value && !json_is_boolean(value))
        MALFORMED(r, "%s: %s: is not a boolean; legal: true, false", r->path, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

static void text_of(json_t *value, char *text, size_t nbytes) {
    /* Into the caller's buffer, cut off where it is full. */
    size_t n = json_dumpb(value, text, nbytes - 1, JSON_COMPACT | JSON_ENCODE_ANY);
    text[n < nbytes - 1 ? n : nbytes - 1] = '\0';
}

typedef enum { ABSENT, FALSE_ONLY, TRUE_ONLY, ONE_ONLY, EMPTY_ONLY } legal_value;

/* Fields that change the mathematics, with the only value for which libpar computes the same. */
static const struct {
    const char *model_type; /* NULL: any */
    const char *key;
    legal_value legal;
} restricted[] = {
    {NULL, "is_encoder_decoder", FALSE_ONLY},
    {NULL, "add_cross_attention", FALSE_ONLY},
    {NULL, "quantization_config", ABSENT},
    {NULL, "pruned_heads", EMPTY_ONLY},
    {NULL, "attn_logit_softcapping", ABSENT},
    {NULL, "final_logit_softcapping", ABSENT},
    {NULL, "num_local_experts", ABSENT},
    {NULL, "num_experts", ABSENT},
    {NULL, "use_qk_norm", FALSE_ONLY},
    {NULL, "logit_scale", ONE_ONLY},
    {NULL, "logits_scaling", ONE_ONLY},
    {NULL, "embedding_multiplier", ONE_ONLY},
    {NULL, "residual_multiplier", ONE_ONLY},
    {NULL, "attention_multiplier", ABSENT},
    {NULL, "partial_rotary_factor", ONE_ONLY},
    {NULL, "no_rope_layers", ABSENT},
    {"gpt2", "scale_attn_weights", TRUE_ONLY},
    {"gpt2", "scale_attn_by_inverse_layer_idx", FALSE_ONLY},
    {NULL, "attention_bias", FALSE_ONLY},
    {NULL, "mlp_bias", FALSE_ONLY},
    {NULL, "rope_interleaved", FALSE_ONLY},
    {NULL, "use_mrope", FALSE_ONLY},
};

static bool is_legal(json_t *value, legal_value legal) {
    switch (legal) {
    case ABSENT: return false;
    case FALSE_ONLY: return json_is_false(value);
    case TRUE_ONLY: return json_is_true(value);
    case ONE_ONLY: return json_is_number(value) && json_number_value(value) == 1;
    case EMPTY_ONLY:
        return json_object_size(value) + json_array_size(value) == 0 && !json_is_string(value);
    }
    return false;
}

static void check_restricted(config_reader *r, const par__family *family) {
    static const char *const names[] = {"null or absent", "false", "true", "1", "empty"};
    char text[80];
    for (size_t i = 0; i < sizeof restricted / sizeof *restricted; i++) {
        json_t *value = field(r->root, restricted[i].key);
        if (restricted[i].model_type && strcmp(restricted[i].model_type, family->model_type) != 0)
            continue;
        if (!value || is_legal(value, restricted[i].legal)) continue;
        text_of(value, text, sizeof text);
        UNSUPPORTED(r, "%s: %s: %s is not supported; legal: %s", r->path, restricted[i].key, text,
                    names[restricted[i].legal]);
    }
}

static const char *read_activation(config_reader *r, const char *key, const char *fallback) {
    json_t *value = field(r->root, key);
    if (value && !json_is_string(value)) {
        MALFORMED(r, "%s: %s: is not a string", r->path, key);
        return fallback;
    }
    return value ? json_string_value(value) : fallback;
}

static void read_gpt2_dropout(config_reader *r) {
    double residual = read_number(r, r->root, "resid_pdrop", 0.1, 0, 0.999);
    double embedding = read_number(r, r->root, "embd_pdrop", 0.1, 0, 0.999);
    r->c->dropout = (float)residual;
    if (residual != embedding) r->c->embedding_dropout = embedding > 0 ? (float)embedding : -1;
    r->c->attention_dropout = (float)read_number(r, r->root, "attn_pdrop", 0.1, 0, 0.999);
}

static void read_gpt2_activation(config_reader *r) {
    const char *name = read_activation(r, "activation_function", "gelu_new");
    r->c->gelu_erf = strcmp(name, "gelu") == 0;
    if (!r->c->gelu_erf && strcmp(name, "gelu_new") != 0 && strcmp(name, "gelu_pytorch_tanh") != 0)
        UNSUPPORTED(r,
                    "%s: activation_function: \"%.60s\" is not supported; legal: gelu_new, "
                    "gelu_pytorch_tanh, gelu",
                    r->path, name);
}

static void read_gpt2(config_reader *r) {
    par_transformer_config *c = r->c;
    json_t *root = r->root;
    c->vocab = read_size(r, root, "vocab_size", 0);
    c->positions = read_size(r, root, field(root, "n_positions") ? "n_positions" : "n_ctx", 0);
    c->layers = read_size(r, root, "n_layer", 0);
    c->channels = read_size(r, root, "n_embd", 0);
    c->heads = c->kv_heads = read_size(r, root, "n_head", 0);
    c->mlp = read_size(r, root, "n_inner", 4 * c->channels);
    c->norm_eps = (float)read_number(r, root, "layer_norm_epsilon", 1e-5, 0, 1);
    c->bias = true;
    c->tied = read_bool(r, "tie_word_embeddings", true);
    c->head_size = c->channels / c->heads;
    if (c->channels % c->heads != 0)
        MALFORMED(r, "%s: n_embd: %" PRId64 " is not a multiple of n_head: %" PRId64, r->path,
                  c->channels, c->heads);
    read_gpt2_activation(r);
    read_gpt2_dropout(r);
}

/* Keys of rope_scaling and rope_parameters that are read, or that mean nothing here. */
static void check_rope_keys(config_reader *r, const char *where, json_t *rope) {
    static const char *const known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings"};
    const char *key;
    json_t *value;
    json_object_foreach(rope, key, value) {
        bool found = json_is_null(value) ||
                     (strcmp(key, "partial_rotary_factor") == 0 && is_legal(value, ONE_ONLY));
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= strcmp(key, known[i]) == 0;
        if (!found) UNSUPPORTED(r, "%s: %s: %.60s is not supported", r->path, where, key);
    }
}

static void read_llama3_scaling(config_reader *r, json_t *rope) {
    r->c->rope_scaling.factor = read_number(r, rope, "factor", (double)NAN, 1, 1e9);
    r->c->rope_scaling.low_freq_factor =
        read_number(r, rope, "low_freq_factor", (double)NAN, 1e-9, 1e9);
    r->c->rope_scaling.high_freq_factor =
        read_number(r, rope, "high_freq_factor", (double)NAN, 1e-9, 1e9);
    r->c->rope_scaling.original_positions =
        read_size(r, rope, "original_max_position_embeddings", 0);
    /* The smooth part divides by the difference. */
    if (!(r->c->rope_scaling.high_freq_factor > r->c->rope_scaling.low_freq_factor))
        MALFORMED(r, "%s: high_freq_factor: %g is not above low_freq_factor: %g", r->path,
                  r->c->rope_scaling.high_freq_factor, r->c->rope_scaling.low_freq_factor);
}

static void read_rope_type(config_reader *r, const char *where, json_t *rope) {
    json_t *value = field(rope, "rope_type") ? field(rope, "rope_type") : field(rope, "type");
    const char *type = value ? json_string_value(value) : "default";
    if (!type)
        MALFORMED(r, "%s: %s: rope_type is not a string", r->path, where);
    else if (strcmp(type, "llama3") == 0)
        read_llama3_scaling(r, rope);
    else if (strcmp(type, "default") != 0)
        UNSUPPORTED(r, "%s: %s: rope_type \"%.60s\" is not supported; legal: default, llama3",
                    r->path, where, type);
}

static void read_rope(config_reader *r) {
    json_t *old = field(r->root, "rope_scaling"), *new = field(r->root, "rope_parameters");
    const char *where = new ? "rope_parameters" : "rope_scaling";
    json_t *rope = new ? new : old;
    double outside = read_number(r, r->root, "rope_theta", 10000, 1, 1e18);
    r->c->rope_theta = outside;
    if (old && new && !json_equal(old, new))
        MALFORMED(
            r, "%s: rope_scaling and rope_parameters are both there and differ; legal: one of them",
            r->path);
    if (rope && !json_is_object(rope)) MALFORMED(r, "%s: %s: is not an object", r->path, where);
    if (!json_is_object(rope)) return;
    r->c->rope_theta = read_number(r, rope, "rope_theta", outside, 1, 1e18);
    if (field(r->root, "rope_theta") && r->c->rope_theta != outside)
        MALFORMED(r, "%s: rope_theta: %g, and %g in %s; legal: one value", r->path, outside,
                  r->c->rope_theta, where);
    check_rope_keys(r, where, rope);
    read_rope_type(r, where, rope);
}

/* What transformers' classes of the family assume where a field is absent. */
typedef struct {
    const char *model_type;
    int64_t kv_heads, head_size; /* 0: as many as heads; channels over heads */
    int64_t window;
} family_defaults;

static const family_defaults *defaults_of(const par__family *family) {
    static const family_defaults all[] = {
        {"mistral", 8, 0, 4096}, {"qwen2", 32, 0, 4096}, {"qwen3", 32, 128, 4096}, {NULL, 0, 0, 0}};
    int i = 0;
    while (all[i].model_type && strcmp(all[i].model_type, family->model_type) != 0) i++;
    return &all[i];
}

/* The default of an absent field; null means what an absent one does in Llama. */
static int64_t default_of(const config_reader *r, const char *key, int64_t of_family,
                          int64_t of_llama) {
    bool absent = !json_object_get(r->root, key);
    return absent && of_family > 0 ? of_family : of_llama;
}

static void read_llama_heads(config_reader *r, const family_defaults *defaults) {
    par_transformer_config *c = r->c;
    c->heads = read_size(r, r->root, "num_attention_heads", 0);
    c->kv_heads = read_size(r, r->root, "num_key_value_heads",
                            default_of(r, "num_key_value_heads", defaults->kv_heads, c->heads));
    if (c->heads % c->kv_heads != 0)
        MALFORMED(r,
                  "%s: num_attention_heads: %" PRId64
                  " is not a multiple of num_key_value_heads: %" PRId64,
                  r->path, c->heads, c->kv_heads);
    int64_t other = default_of(r, "head_dim", defaults->head_size, 0);
    bool own = field(r->root, "head_dim") || other > 0;
    if (!own && c->channels % c->heads != 0)
        MALFORMED(r,
                  "%s: hidden_size: %" PRId64 " is not a multiple of num_attention_heads: %" PRId64
                  ", and head_dim is absent",
                  r->path, c->channels, c->heads);
    c->head_size = own ? read_size(r, r->root, "head_dim", other) : c->channels / c->heads;
    if (c->head_size % 2 != 0)
        UNSUPPORTED(
            r, "%s: head size %" PRId64 " is not supported with rotary positions; legal: even ones",
            r->path, c->head_size);
}

/* Qwen's have a window that is off, unless use_sliding_window says so; that of others is on. Newer
 * configurations list what each layer does. */
static void read_window(config_reader *r, const par__family *family,
                        const family_defaults *defaults) {
    size_t i;
    json_t *item, *types = field(r->root, "layer_types");
    bool qwen = strncmp(family->model_type, "qwen", 4) == 0;
    bool on = read_bool(r, "use_sliding_window", !qwen);
    bool given = json_object_get(r->root, "sliding_window") != NULL;
    json_array_foreach(types, i, item) {
        const char *type = json_string_value(item);
        if (type && strcmp(type, "sliding_attention") == 0)
            on = true;
        else if (!type || strcmp(type, "full_attention") != 0)
            UNSUPPORTED(r,
                        "%s: layer_types: \"%.60s\" is not supported; legal: full_attention, "
                        "sliding_attention",
                        r->path, type ? type : "not a string");
    }
    if (!on || (!given && defaults->window == 0)) return;
    if (given && !field(r->root, "sliding_window")) return;
    r->c->window = read_size(r, r->root, "sliding_window", defaults->window);
}

static void read_llama(config_reader *r, const par__family *family) {
    par_transformer_config *c = r->c;
    const family_defaults *defaults = defaults_of(family);
    json_t *root = r->root;
    c->vocab = read_size(r, root, "vocab_size", 0);
    c->positions = read_size(r, root, "max_position_embeddings", 0);
    c->layers = read_size(r, root, "num_hidden_layers", 0);
    c->channels = read_size(r, root, "hidden_size", 0);
    c->mlp = read_size(r, root, "intermediate_size", 0);
    read_llama_heads(r, defaults);
    read_window(r, family, defaults);
    c->qkv_bias = strcmp(family->model_type, "qwen2") == 0;
    c->qk_norm = strcmp(family->model_type, "qwen3") == 0;
    c->norm_eps = (float)read_number(r, root, "rms_norm_eps", 1e-6, 0, 1);
    c->rmsnorm = c->rope = c->swiglu = true;
    c->tied = read_bool(r, "tie_word_embeddings", false);
    c->attention_dropout = (float)read_number(r, root, "attention_dropout", 0, 0, 0.999);
    const char *activation = read_activation(r, "hidden_act", "silu");
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        UNSUPPORTED(r, "%s: hidden_act: \"%.60s\" is not supported; legal: silu", r->path,
                    activation);
    read_rope(r);
}

static bool names_architecture(json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (json_is_string(item) &&
                                          strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

/* GPT-2's first files, of 2019, name neither type nor class. Their sizes have names that are
 * GPT-2's alone among the families here; the tensors are then checked by name and shape in any
 * case. */
static bool is_oldest_gpt2(const config_reader *r, json_t *type, json_t *list) {
    return !type && !list && field(r->root, "n_embd") && field(r->root, "n_head") &&
           field(r->root, "n_layer");
}

static par_status no_family(config_reader *r, json_t *type, json_t *list) {
    char shown[80] = "absent", legal[256] = "";
    if (list || type) text_of(list ? list : type, shown, sizeof shown);
    for (int i = 0; par__families[i]; i++) {
        size_t used = strlen(legal);
        snprintf(legal + used, sizeof legal - used, "%s%s with %s", i ? ", " : "",
                 par__families[i]->model_type, par__families[i]->architecture);
    }
    UNSUPPORTED(r, "%s: model_type: %.60s with architectures %s is not supported; legal: %s",
                r->path, json_is_string(type) ? json_string_value(type) : "absent", shown, legal);
    return r->status;
}

/* From model_type, and architectures if they are there; both must agree. */
static const par__family *read_family(config_reader *r) {
    json_t *type = field(r->root, "model_type"), *list = field(r->root, "architectures");
    if (is_oldest_gpt2(r, type, list)) return par__families[0];
    for (int i = 0; par__families[i]; i++) {
        const par__family *f = par__families[i];
        bool typed = json_is_string(type) && strcmp(json_string_value(type), f->model_type) == 0;
        bool listed =
            names_architecture(list, f->architecture) || names_architecture(list, f->base);
        if ((typed || !type) && (listed || (typed && !list))) return f;
    }
    no_family(r, type, list);
    return NULL;
}

static void read_all(config_reader *r, const par__family **family) {
    *family = read_family(r);
    if (!*family) return;
    snprintf(r->c->name, sizeof r->c->name, "%s", (*family)->model_type);
    r->c->init_std = read_number(r, r->root, "initializer_range", 0.02, 0, 1000);
    check_restricted(r, *family);
    if (*family == par__families[0])
        read_gpt2(r);
    else
        read_llama(r, *family);
    r->c->tokens = r->c->positions;
}

int par__ends_parse(const char *text, size_t nbytes, int64_t vocab, int32_t ends[PAR__MAX_ENDS]) {
    json_t *root = json_loadb(text, nbytes, 0, NULL);
    json_t *value = field(root, "eos_token_id");
    int n = 0;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && n < PAR__MAX_ENDS; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < vocab)
            ends[n++] = (int32_t)json_integer_value(id);
    }
    json_decref(root);
    return n;
}

par_status par__config_parse(const char *path, const char *text, size_t nbytes,
                             const par__family **family, par_transformer_config *out) {
    json_error_t error;
    par_transformer_config c = {0};
    config_reader r = {.path = path, .c = &c};
    if (nbytes == 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a JSON object", path);
    r.root = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &error);
    if (!r.root)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d column %d: %s", path, error.line, error.column,
                 error.text);
    if (json_is_object(r.root))
        read_all(&r, family);
    else
        MALFORMED(&r, "%s: is not a JSON object", path);
    json_decref(r.root);
    if (r.status != PAR_OK) return par_problems_status(&r.problems, r.status);
    *out = c;
    return PAR_OK;
}
