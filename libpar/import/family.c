/*
 * Which tensor of a family is which parameter. GPT-2's linear layers are Conv1D: stored [in, out],
 * q, k and v side by side in c_attn. Llama's and its relatives' are [out, in]; q and k are stored
 * for the half-split rotary form, as libpar computes it. The relatives share one table, whose rows
 * say which configurations have them.
 */
#include "libpar/import/family.h"

#include <stdio.h>
#include <string.h>

#define ROWS(t) t, (int)(sizeof t / sizeof *t)
/* name, theirs, rows, cols, transposed, part, parts, when */
#define VECTOR(name, theirs, rows)                                                                 \
    { name, theirs, PAR__DIM_##rows, PAR__DIM_ONE, false, 0, 1, PAR__ALWAYS }
#define MATRIX(name, theirs, rows, cols)                                                           \
    { name, theirs, PAR__DIM_##rows, PAR__DIM_##cols, false, 0, 1, PAR__ALWAYS }
#define CONV1D(name, theirs, rows, cols)                                                           \
    { name, theirs, PAR__DIM_##rows, PAR__DIM_##cols, true, 0, 1, PAR__ALWAYS }
#define FUSED_MATRIX(name, theirs, part)                                                           \
    { name, theirs, PAR__DIM_C, PAR__DIM_C, true, part, 3, PAR__ALWAYS }
#define FUSED_VECTOR(name, theirs, part)                                                           \
    { name, theirs, PAR__DIM_C, PAR__DIM_ONE, false, part, 3, PAR__ALWAYS }
#define HEAD(name, theirs)                                                                         \
    { name, theirs, PAR__DIM_V, PAR__DIM_C, false, 0, 1, PAR__IF_UNTIED }
#define VECTOR_IF(condition, name, theirs, rows)                                                   \
    { name, theirs, PAR__DIM_##rows, PAR__DIM_ONE, false, 0, 1, PAR__IF_##condition }

static const par__mapping gpt2_table[] = {
    MATRIX("embedding.token.weight", "wte.weight", V, C),
    MATRIX("embedding.position.weight", "wpe.weight", P, C),
    VECTOR("layers.*.attention.norm.weight", "h.*.ln_1.weight", C),
    VECTOR("layers.*.attention.norm.bias", "h.*.ln_1.bias", C),
    FUSED_MATRIX("layers.*.attention.q.weight", "h.*.attn.c_attn.weight", 0),
    FUSED_MATRIX("layers.*.attention.k.weight", "h.*.attn.c_attn.weight", 1),
    FUSED_MATRIX("layers.*.attention.v.weight", "h.*.attn.c_attn.weight", 2),
    FUSED_VECTOR("layers.*.attention.q.bias", "h.*.attn.c_attn.bias", 0),
    FUSED_VECTOR("layers.*.attention.k.bias", "h.*.attn.c_attn.bias", 1),
    FUSED_VECTOR("layers.*.attention.v.bias", "h.*.attn.c_attn.bias", 2),
    CONV1D("layers.*.attention.out.weight", "h.*.attn.c_proj.weight", C, C),
    VECTOR("layers.*.attention.out.bias", "h.*.attn.c_proj.bias", C),
    VECTOR("layers.*.mlp.norm.weight", "h.*.ln_2.weight", C),
    VECTOR("layers.*.mlp.norm.bias", "h.*.ln_2.bias", C),
    CONV1D("layers.*.mlp.up.weight", "h.*.mlp.c_fc.weight", F, C),
    VECTOR("layers.*.mlp.up.bias", "h.*.mlp.c_fc.bias", F),
    CONV1D("layers.*.mlp.down.weight", "h.*.mlp.c_proj.weight", C, F),
    VECTOR("layers.*.mlp.down.bias", "h.*.mlp.c_proj.bias", C),
    VECTOR("final.norm.weight", "ln_f.weight", C),
    VECTOR("final.norm.bias", "ln_f.bias", C),
    HEAD("head.weight", "lm_head.weight"),
};

static const par__mapping decoder_table[] = {
    MATRIX("embedding.token.weight", "embed_tokens.weight", V, C),
    VECTOR("layers.*.attention.norm.weight", "layers.*.input_layernorm.weight", C),
    MATRIX("layers.*.attention.q.weight", "layers.*.self_attn.q_proj.weight", Q, C),
    MATRIX("layers.*.attention.k.weight", "layers.*.self_attn.k_proj.weight", KV, C),
    MATRIX("layers.*.attention.v.weight", "layers.*.self_attn.v_proj.weight", KV, C),
    VECTOR_IF(QKV_BIAS, "layers.*.attention.q.bias", "layers.*.self_attn.q_proj.bias", Q),
    VECTOR_IF(QKV_BIAS, "layers.*.attention.k.bias", "layers.*.self_attn.k_proj.bias", KV),
    VECTOR_IF(QKV_BIAS, "layers.*.attention.v.bias", "layers.*.self_attn.v_proj.bias", KV),
    VECTOR_IF(QK_NORM, "layers.*.attention.q.norm.weight", "layers.*.self_attn.q_norm.weight", D),
    VECTOR_IF(QK_NORM, "layers.*.attention.k.norm.weight", "layers.*.self_attn.k_norm.weight", D),
    MATRIX("layers.*.attention.out.weight", "layers.*.self_attn.o_proj.weight", C, Q),
    VECTOR("layers.*.mlp.norm.weight", "layers.*.post_attention_layernorm.weight", C),
    MATRIX("layers.*.mlp.gate.weight", "layers.*.mlp.gate_proj.weight", F, C),
    MATRIX("layers.*.mlp.up.weight", "layers.*.mlp.up_proj.weight", F, C),
    MATRIX("layers.*.mlp.down.weight", "layers.*.mlp.down_proj.weight", C, F),
    VECTOR("final.norm.weight", "norm.weight", C),
    HEAD("head.weight", "lm_head.weight"),
};

/* Causal masks and rotary frequencies: constants that older files store. */
static const char *const gpt2_ignored[] = {"h.*.attn.bias", "h.*.attn.masked_bias", NULL};
static const char *const decoder_ignored[] = {"layers.*.self_attn.rotary_emb.inv_freq",
                                              "rotary_emb.inv_freq", NULL};

#define DECODER(NAME, type, Class)                                                                 \
    static const par__family NAME = {type,     Class "ForCausalLM", Class "Model",                 \
                                     "model.", ROWS(decoder_table), decoder_ignored}
static const par__family gpt2 = {"gpt2",         "GPT2LMHeadModel", "GPT2Model",
                                 "transformer.", ROWS(gpt2_table),  gpt2_ignored};
DECODER(llama, "llama", "Llama");
DECODER(mistral, "mistral", "Mistral");
DECODER(qwen2, "qwen2", "Qwen2");
DECODER(qwen3, "qwen3", "Qwen3");

const par__family *const par__families[] = {&gpt2, &llama, &mistral, &qwen2, &qwen3, NULL};

bool par__mapping_applies(const par_transformer_config *c, const par__mapping *m) {
    switch (m->when) {
    case PAR__IF_UNTIED: return !c->tied;
    case PAR__IF_QKV_BIAS: return c->qkv_bias;
    case PAR__IF_QK_NORM: return c->qk_norm;
    default: return true;
    }
}

int64_t par__dim_size(const par_transformer_config *c, par__dim dim) {
    switch (dim) {
    case PAR__DIM_ONE: return 1;
    case PAR__DIM_V: return c->vocab;
    case PAR__DIM_P: return c->positions;
    case PAR__DIM_C: return c->channels;
    case PAR__DIM_Q: return c->heads * c->head_size;
    case PAR__DIM_KV: return c->kv_heads * c->head_size;
    case PAR__DIM_D: return c->head_size;
    case PAR__DIM_F: return c->mlp;
    }
    return 0;
}

bool par__name_match(const char *pattern, const char *text, int64_t *number) {
    const char *star = strchr(pattern, '*');
    *number = -1;
    if (!star) return strcmp(pattern, text) == 0;
    size_t n = (size_t)(star - pattern);
    if (strncmp(pattern, text, n) != 0) return false;
    /* The star is a number of at most 9 digits without leading zeros. */
    const char *digits = text + n;
    int n_digits = 0;
    *number = 0;
    for (; digits[n_digits] >= '0' && digits[n_digits] <= '9'; n_digits++) {
        if (n_digits == 9) return false;
        *number = 10 * *number + (digits[n_digits] - '0');
    }
    if (n_digits == 0 || (n_digits > 1 && digits[0] == '0')) return false;
    return strcmp(star + 1, digits + n_digits) == 0;
}

bool par__name_make(char *out, size_t nbytes, const char *prefix, const char *pattern,
                    int64_t number) {
    const char *star = strchr(pattern, '*');
    int n = star ? snprintf(out, nbytes, "%s%.*s%lld%s", prefix, (int)(star - pattern), pattern,
                            (long long)number, star + 1)
                 : snprintf(out, nbytes, "%s%s", prefix, pattern);
    return n >= 0 && (size_t)n < nbytes;
}

const par__mapping *par__mapping_find(const par__family *family, const char *name, int64_t *layer) {
    for (int i = 0; i < family->n; i++)
        if (par__name_match(family->table[i].name, name, layer)) return &family->table[i];
    return NULL;
}
