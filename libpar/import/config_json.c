/*
 * config.json → configuration, in the older form (rope_theta, rope_scaling, torch_dtype) and the
 * newer one (rope_parameters, dtype). A field that changes the mathematics and is not supported is
 * refused by name; all problems come in one message. Defaults of absent fields are those of
 * transformers' configuration classes.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "libpar/import/config_fields.h"
#include "libpar/import/weights.h"

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

static void check_restricted(par__config_reader *r, const par__family *family) {
    static const char *const names[] = {"null or absent", "false", "true", "1", "empty"};
    char text[80];
    for (size_t i = 0; i < sizeof restricted / sizeof *restricted; i++) {
        json_t *value = par__config_field(r->root, restricted[i].key);
        if (restricted[i].model_type && strcmp(restricted[i].model_type, family->model_type) != 0)
            continue;
        if (!value || is_legal(value, restricted[i].legal)) continue;
        par__config_text(value, text, sizeof text);
        UNSUPPORTED(r, "%s: %s: %s is not supported; legal: %s", r->path, restricted[i].key, text,
                    names[restricted[i].legal]);
    }
}

/* Llama's class was once LLaMAForCausalLM: case says nothing. */
static bool names_architecture(json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i,
                       item) if (json_is_string(item) &&
                                 strcasecmp(json_string_value(item), name) == 0) return true;
    return false;
}

/* From model_type, and architectures if some are listed; both must agree. */
static const par__family *read_family(par__config_reader *r) {
    json_t *type = par__config_field(r->root, "model_type"),
           *list = par__config_field(r->root, "architectures");
    if (json_is_array(list) && json_array_size(list) == 0) list = NULL;
    /* GPT-2's first files, of 2019, name neither type nor class. Their sizes have names that are
     * GPT-2's alone among the families here; the tensors are then checked by name and shape in any
     * case. */
    bool oldest_gpt2 = !type && !list && par__config_field(r->root, "n_embd") &&
                       par__config_field(r->root, "n_head") &&
                       par__config_field(r->root, "n_layer");
    if (oldest_gpt2) return par__families[0];
    for (int i = 0; par__families[i]; i++) {
        const par__family *f = par__families[i];
        bool typed = json_is_string(type) && strcmp(json_string_value(type), f->model_type) == 0;
        bool listed =
            names_architecture(list, f->architecture) || names_architecture(list, f->base);
        if ((typed || !type) && (listed || (typed && !list))) return f;
    }
    char shown[80] = "absent", legal[256] = "";
    if (list || type) par__config_text(list ? list : type, shown, sizeof shown);
    for (int i = 0; par__families[i]; i++) {
        size_t used = strlen(legal);
        snprintf(legal + used, sizeof legal - used, "%s%s with %s", i ? ", " : "",
                 par__families[i]->model_type, par__families[i]->architecture);
    }
    UNSUPPORTED(r, "%s: model_type: %.60s with architectures %s is not supported; legal: %s",
                r->path, json_is_string(type) ? json_string_value(type) : "absent", shown, legal);
    return NULL;
}

static void read_all(par__config_reader *r, const par__family **family) {
    *family = read_family(r);
    if (!*family) return;
    snprintf(r->c->name, sizeof r->c->name, "%s", (*family)->model_type);
    r->c->init_std = par__config_number(r, r->root, "initializer_range", 0.02, 0, 1000);
    check_restricted(r, *family);
    if (*family == par__families[0])
        par__config_gpt2(r);
    else
        par__config_llama(r, *family);
    bool windowed = r->c->window > 0 && r->c->window < r->c->positions;
    r->c->tokens = windowed ? r->c->window : r->c->positions;
}

par_status par__ends_parse(const char *path, const char *text, size_t nbytes, int64_t vocab,
                           int32_t ends[PAR__MAX_ENDS], int *n_ends) {
    json_t *root;
    int n = 0;
    PAR_TRY(par__config_object(path, text, nbytes, 0, &root));
    json_t *value = par__config_field(root, "eos_token_id");
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab)
            continue;
        if (n < PAR__MAX_ENDS) ends[n] = (int32_t)json_integer_value(id);
        n++;
    }
    json_decref(root);
    if (n > PAR__MAX_ENDS)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: eos_token_id: %d ids; legal: up to %d", path, n,
                 PAR__MAX_ENDS);
    *n_ends = n;
    return PAR_OK;
}

/* Other programs read them, and take values of their own where they are absent. */
static const char *const kept[] = {"bos_token_id", "eos_token_id", "pad_token_id",
                                   "initializer_range"};

json_t *par__config_kept(json_t *root) {
    json_t *out = json_object();
    for (size_t i = 0; out && i < sizeof kept / sizeof *kept; i++) {
        size_t k;
        json_t *id, *value = json_object_get(root, kept[i]);
        bool legal = json_is_null(value) || json_is_integer(value) || json_is_real(value);
        if (json_is_array(value)) {
            legal = true;
            json_array_foreach(value, k, id) legal &= json_is_integer(id);
        }
        if (legal) json_object_set(out, kept[i], value);
    }
    return out;
}

par_status par__kept_parse(const char *path, const char *text, size_t nbytes,
                           char out[PAR_IMPORT_KEPT]) {
    json_t *root;
    PAR_TRY(par__config_object(path, text, nbytes, 0, &root));
    json_t *object = par__config_kept(root);
    size_t n = json_dumpb(object, out, PAR_IMPORT_KEPT, JSON_COMPACT | JSON_SORT_KEYS);
    out[n < PAR_IMPORT_KEPT ? n : 0] = 0;
    json_decref(object);
    json_decref(root);
    return PAR_OK;
}

par_status par__config_parse(const char *path, const char *text, size_t nbytes,
                             const par__family **family, par_transformer_config *out) {
    par_transformer_config c = {0};
    par__config_reader r = {.path = path, .c = &c};
    PAR_TRY(par__config_object(path, text, nbytes, JSON_REJECT_DUPLICATES, &r.root));
    read_all(&r, family);
    json_decref(r.root);
    if (r.status != PAR_OK) return par_problems_status(&r.problems, r.status);
    par_layout layout = {0};
    par_transformer_check(&c, &layout, 1, false, &r.problems, NULL);
    if (r.problems.n > 0) PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: %s", path, r.problems.text);
    *out = c;
    return PAR_OK;
}
