/*
 * The GPT-2 and Llama families (and Llama's relatives: Mistral, Qwen2, Qwen3, SmolLM2) as one
 * configurable transformer: embedding, L blocks, head.
 *
 * Parameter names: embedding.token.weight [V,C], embedding.position.weight [P,C]; for layer i
 * layers.i.attention.norm.{weight,bias} [C], layers.i.attention.{q,k,v,out}.{weight,bias},
 * layers.i.attention.{q,k}.norm.weight [D],
 * layers.i.mlp.norm.{weight,bias}, layers.i.mlp.{up,gate,down}.{weight,bias};
 * final.norm.{weight,bias}; head.weight [V,C] unless tied. Weights of linear layers are [out, in].
 */
#ifndef PAR_TRANSFORMER_H
#define PAR_TRANSFORMER_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/mesh.h"
#include "par/model.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The shape of a transformer; the letters are those of this header's comments. */
typedef struct {
    char name[48];
    int64_t vocab;     /* V */
    int64_t tokens;    /* T: length of a training sequence */
    int64_t positions; /* P: rows of the learned position table, or what the model was made for with
                          RoPE; T
                          <= P */
    int64_t layers, channels, heads, kv_heads, head_size, mlp; /* L, C, H, K, D, F */
    bool rmsnorm;                                              /* else LayerNorm */
    float norm_eps;
    bool rope;      /* else learned positions */
    bool swiglu;    /* else GELU */
    bool gelu_erf;  /* else the tanh form */
    bool bias;      /* on linear layers and LayerNorm */
    bool qkv_bias;  /* on q, k and v, also without `bias` */
    bool qk_norm;   /* RMSNorm of each head of q and k with norm_eps, before the rotation */
    bool tied;      /* head = token embedding */
    int64_t window; /* tokens that a query sees, itself among them: only T <= window is
                       computed; 0: all */
    double rope_theta;
    struct { /* Llama 3.1's scaling; factor 0: none */
        double factor, low_freq_factor, high_freq_factor;
        int64_t original_positions;
    } rope_scaling;
    float dropout;           /* residuals, and the embedding unless the next says otherwise */
    float embedding_dropout; /* 0: as dropout; negative: none */
    float attention_dropout; /* attention probabilities */
    double init_std; /* 0: 0.02; out and down projections get init_std / sqrt(2 L), as GPT-2 */
} par_transformer_config;

/** Presets by name, or by their name on the hub with or without its organisation, in any case:
 * "openai-community/gpt2", "gpt2". Not collective. Errors: PAR_ERR_OPTION with the names there
 * are. */
PAR_API par_status par_transformer_preset(const char *name, par_transformer_config *out);
/** Name of preset i, NULL past the end. Not collective. */
PAR_API const char *par_transformer_preset_name(int i);
/** Name of preset i on the hub, NULL past the end and where it is not there. Not collective. */
PAR_API const char *par_transformer_preset_hub(int i);

/**
 * Is the configuration sound, and does it fit the layout? A line per problem with the legal values;
 * notes (padding of the vocabulary or the MLP, replicated KV heads) go to `notes`, which may be
 * NULL. Sets layout->kv_replicas. Refused: heads mod tp != 0; kv_heads that neither divide nor are
 * a multiple of tp; T > P or the window; odd head sizes with RoPE. micro_batch · T mod tp != 0 is
 * refused when sequence_parallel is set. Not collective.
 */
PAR_API void par_transformer_check(const par_transformer_config *, par_layout *,
                                   int64_t micro_batch, bool sequence_parallel,
                                   par_problems *problems, par_problems *notes);

/** Number of logical parameters, tied ones once. Not collective. */
PAR_API int64_t par_transformer_n_params(const par_transformer_config *);
/** Model FLOPs per token, forward and backward: 6 · (matmul parameters) + 12 · L · H · D · T
 * (PERFORMANCE: no causal discount, no recompute; embedding lookup excluded, head included). Not
 * collective. */
PAR_API double par_transformer_flops_per_token(const par_transformer_config *);

/** The model: x int32 [T] token ids, targets int32 [T], negative = ignored. `config` is copied. Not
 * collective. Errors: PAR_ERR_OPTION [agreed] when the configuration is not sound;
 * PAR_ERR_MEMORY. */
PAR_API par_status par_transformer_create(const par_transformer_config *config, par_model **out);
/** NULL is accepted. Its trainers must be destroyed before. Not collective. */
PAR_API void par_transformer_destroy(par_model **model);

/**
 * The head module's logits of the last evaluation call (training false) with that stash, which was
 * built with keep_logits: [B·T, V_local] of the build's dtype, row-major with row length V_local;
 * this tp rank holds vocabulary entries [begin, begin + valid). Only on the last stage. Not
 * collective. Errors: PAR_ERR_ARG when `head` is not the head of a transformer, or keeps no logits.
 */
PAR_API par_status par_transformer_logits(const par_module *head, const void *stash,
                                          par_tensor *logits, int64_t *begin, int64_t *valid);

/** Tokens whose logits a built head makes at a time, from its build's logits_nbytes; the last ones
 * of a micro-batch may be fewer. 0 for another module. Not collective. */
PAR_API int64_t par_transformer_loss_rows(const par_module *head);

#ifdef __cplusplus
}
#endif
#endif
