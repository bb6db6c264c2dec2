/*
 * config.json of Llama and its relatives: their fields, and what transformers' classes assume where
 * one is absent. Rotary positions stand in the older form (rope_theta, rope_scaling) or the newer
 * one (rope_parameters).
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "libpar/import/config_fields.h"

/* Keys of rope_scaling and rope_parameters that are read, or that mean nothing here. */
static void check_rope_keys(par__config_reader *r, const char *where, json_t *rope) {
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
                     (strcmp(key, "partial_rotary_factor") == 0 && json_number_value(value) == 1);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= strcmp(key, known[i]) == 0;
        if (!found) UNSUPPORTED(r, "%s: %s: %.60s is not supported", r->path, where, key);
    }
}

static void read_llama3_scaling(par__config_reader *r, json_t *rope) {
    r->c->rope_scaling.factor = par__config_number(r, rope, "factor", (double)NAN, 1, 1e9);
    r->c->rope_scaling.low_freq_factor =
        par__config_number(r, rope, "low_freq_factor", (double)NAN, 1e-9, 1e9);
    r->c->rope_scaling.high_freq_factor =
        par__config_number(r, rope, "high_freq_factor", (double)NAN, 1e-9, 1e9);
    r->c->rope_scaling.original_positions =
        par__config_size(r, rope, "original_max_position_embeddings", 0);
    /* The smooth part divides by the difference. */
    if (!(r->c->rope_scaling.high_freq_factor > r->c->rope_scaling.low_freq_factor))
        MALFORMED(r, "%s: high_freq_factor: %g is not above low_freq_factor: %g", r->path,
                  r->c->rope_scaling.high_freq_factor, r->c->rope_scaling.low_freq_factor);
}

static void read_rope(par__config_reader *r) {
    json_t *old = par__config_field(r->root, "rope_scaling"),
           *new = par__config_field(r->root, "rope_parameters");
    const char *where = new ? "rope_parameters" : "rope_scaling";
    json_t *rope = new ? new : old;
    double outside = par__config_number(r, r->root, "rope_theta", 10000, 1, 1e18);
    r->c->rope_theta = outside;
    if (old && new && !json_equal(old, new))
        MALFORMED(
            r, "%s: rope_scaling and rope_parameters are both there and differ; legal: one of them",
            r->path);
    if (rope && !json_is_object(rope)) MALFORMED(r, "%s: %s: is not an object", r->path, where);
    if (!json_is_object(rope)) return;
    r->c->rope_theta = par__config_number(r, rope, "rope_theta", outside, 1, 1e18);
    if (par__config_field(r->root, "rope_theta") && r->c->rope_theta != outside)
        MALFORMED(r, "%s: rope_theta: %g, and %g in %s; legal: one value", r->path, outside,
                  r->c->rope_theta, where);
    check_rope_keys(r, where, rope);
    json_t *value = par__config_field(rope, "rope_type") ? par__config_field(rope, "rope_type")
                                                         : par__config_field(rope, "type");
    const char *type = value ? json_string_value(value) : "default";
    if (!type)
        MALFORMED(r, "%s: %s: rope_type is not a string", r->path, where);
    else if (strcmp(type, "llama3") == 0)
        read_llama3_scaling(r, rope);
    else if (strcmp(type, "default") != 0)
        UNSUPPORTED(r, "%s: %s: rope_type \"%.60s\" is not supported; legal: default, llama3",
                    r->path, where, type);
}

/* What transformers' classes of the family assume where a field is absent. */
typedef struct {
    const char *model_type;
    int64_t kv_heads, head_size; /* 0: as many as heads; channels over heads */
    int64_t window;
} family_defaults;

static const family_defaults all_defaults[] = {
    {"mistral", 8, 0, 4096}, {"qwen2", 32, 0, 4096}, {"qwen3", 32, 128, 4096}, {NULL, 0, 0, 0}};

/* The default of an absent field; null means what an absent one does in Llama. */
static int64_t default_of(const par__config_reader *r, const char *key, int64_t of_family,
                          int64_t of_llama) {
    bool absent = !json_object_get(r->root, key);
    return absent && of_family > 0 ? of_family : of_llama;
}

static void read_llama_heads(par__config_reader *r, const family_defaults *defaults) {
    par_transformer_config *c = r->c;
    c->heads = par__config_size(r, r->root, "num_attention_heads", 0);
    c->kv_heads =
        par__config_size(r, r->root, "num_key_value_heads",
                         default_of(r, "num_key_value_heads", defaults->kv_heads, c->heads));
    if (c->heads % c->kv_heads != 0)
        MALFORMED(r,
                  "%s: num_attention_heads: %" PRId64
                  " is not a multiple of num_key_value_heads: %" PRId64,
                  r->path, c->heads, c->kv_heads);
    int64_t other = default_of(r, "head_dim", defaults->head_size, 0);
    bool own = par__config_field(r->root, "head_dim") || other > 0;
    if (!own && c->channels % c->heads != 0)
        MALFORMED(r,
                  "%s: hidden_size: %" PRId64 " is not a multiple of num_attention_heads: %" PRId64
                  ", and head_dim is absent",
                  r->path, c->channels, c->heads);
    c->head_size = own ? par__config_size(r, r->root, "head_dim", other) : c->channels / c->heads;
    if (c->head_size % 2 != 0)
        UNSUPPORTED(
            r, "%s: head size %" PRId64 " is not supported with rotary positions; legal: even ones",
            r->path, c->head_size);
}

/* How many layers layer_types gives a window. */
static int64_t count_windowed(par__config_reader *r, json_t *types) {
    size_t i;
    json_t *item;
    int64_t n = 0;
    if ((int64_t)json_array_size(types) != r->c->layers)
        MALFORMED(r, "%s: layer_types: legal: an array of %" PRId64 ", as num_hidden_layers says",
                  r->path, r->c->layers);
    json_array_foreach(types, i, item) {
        const char *type = json_string_value(item);
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        n += sliding;
        if (!sliding && (!type || strcmp(type, "full_attention") != 0))
            UNSUPPORTED(r,
                        "%s: layer_types: \"%.60s\" is not supported; legal: full_attention, "
                        "sliding_attention",
                        r->path, type ? type : "not a string");
    }
    return n;
}

/* Llama's class has no window, whatever sliding_window says; Mistral's has one in all layers, and
 * Qwen's, where use_sliding_window says so, in those from max_window_layers on. layer_types says it
 * of each layer. */
static void read_window(par__config_reader *r, const par__family *family,
                        const family_defaults *defaults) {
    json_t *types = par__config_field(r->root, "layer_types"),
           *first = par__config_field(r->root, "max_window_layers");
    int64_t layers = r->c->layers, n = layers, full = first ? json_integer_value(first) : 28;
    bool qwen = strncmp(family->model_type, "qwen", 4) == 0;
    bool on = qwen ? par__config_bool(r, "use_sliding_window", false) : defaults->window > 0;
    if (json_is_null(json_object_get(r->root, "sliding_window"))) on = false;
    if (types)
        n = count_windowed(r, types);
    else if (!on)
        n = 0;
    else if (qwen && ((first && !json_is_integer(first)) || full < 0))
        MALFORMED(r, "%s: max_window_layers: legal: an integer from 0", r->path);
    else if (qwen)
        n = full < layers ? layers - full : 0;
    if (n > 0 && !on)
        UNSUPPORTED(r, "%s: layer_types: \"sliding_attention\" is not supported here, as %s",
                    r->path,
                    defaults->window == 0 ? "Llama has no window"
                                          : "sliding_window or use_sliding_window is off");
    else if (n > 0 && n != layers)
        UNSUPPORTED(r,
                    "%s: %s: a window in %" PRId64 " of %" PRId64
                    " layers is not supported; legal: in all or none",
                    r->path, types ? "layer_types" : "max_window_layers", n, layers);
    else if (n > 0)
        r->c->window = par__config_size(r, r->root, "sliding_window", defaults->window);
}

void par__config_llama(par__config_reader *r, const par__family *family) {
    par_transformer_config *c = r->c;
    const family_defaults *defaults = all_defaults;
    json_t *root = r->root;
    while (defaults->model_type && strcmp(defaults->model_type, family->model_type) != 0)
        defaults++;
    c->vocab = par__config_size(r, root, "vocab_size", 0);
    c->positions = par__config_size(r, root, "max_position_embeddings", 0);
    c->layers = par__config_size(r, root, "num_hidden_layers", 0);
    c->channels = par__config_size(r, root, "hidden_size", 0);
    c->mlp = par__config_size(r, root, "intermediate_size", 0);
    read_llama_heads(r, defaults);
    read_window(r, family, defaults);
    c->qkv_bias = strcmp(family->model_type, "qwen2") == 0;
    c->qk_norm = strcmp(family->model_type, "qwen3") == 0;
    c->norm_eps = (float)par__config_number(r, root, "rms_norm_eps", 1e-6, FLT_MIN, 1);
    c->rmsnorm = c->rope = c->swiglu = true;
    c->tied = par__config_bool(r, "tie_word_embeddings", false);
    c->attention_dropout = (float)par__config_number(r, root, "attention_dropout", 0, 0, 0.999);
    const char *activation = par__config_activation(r, "hidden_act", "silu");
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        UNSUPPORTED(r, "%s: hidden_act: \"%.60s\" is not supported; legal: silu", r->path,
                    activation);
    read_rope(r);
}
