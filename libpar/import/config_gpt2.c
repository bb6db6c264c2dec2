/* config.json of GPT-2: its fields, and what transformers' class assumes where one is absent. */
#include <float.h>
#include <inttypes.h>
#include <string.h>

#include "libpar/import/config_fields.h"

void par__config_gpt2(par__config_reader *r) {
    par_transformer_config *c = r->c;
    json_t *root = r->root;
    c->vocab = par__config_size(r, root, "vocab_size", 0);
    c->positions = par__config_size(
        r, root, par__config_field(root, "n_positions") ? "n_positions" : "n_ctx", 0);
    c->layers = par__config_size(r, root, "n_layer", 0);
    c->channels = par__config_size(r, root, "n_embd", 0);
    c->heads = c->kv_heads = par__config_size(r, root, "n_head", 0);
    c->mlp = par__config_size(r, root, "n_inner", 4 * c->channels);
    c->norm_eps = (float)par__config_number(r, root, "layer_norm_epsilon", 1e-5, FLT_MIN, 1);
    c->bias = true;
    c->tied = par__config_bool(r, "tie_word_embeddings", true);
    c->head_size = c->channels / c->heads;
    if (c->channels % c->heads != 0)
        MALFORMED(r, "%s: n_embd: %" PRId64 " is not a multiple of n_head: %" PRId64, r->path,
                  c->channels, c->heads);
    const char *activation = par__config_activation(r, "activation_function", "gelu_new");
    c->gelu_erf = strcmp(activation, "gelu") == 0;
    if (!c->gelu_erf && strcmp(activation, "gelu_new") != 0 &&
        strcmp(activation, "gelu_pytorch_tanh") != 0)
        UNSUPPORTED(r,
                    "%s: activation_function: \"%.60s\" is not supported; legal: gelu_new, "
                    "gelu_pytorch_tanh, gelu",
                    r->path, activation);
    double residual = par__config_number(r, root, "resid_pdrop", 0.1, 0, 0.999);
    double embedding = par__config_number(r, root, "embd_pdrop", 0.1, 0, 0.999);
    c->dropout = (float)residual;
    if (residual != embedding) c->embedding_dropout = embedding > 0 ? (float)embedding : -1;
    c->attention_dropout = (float)par__config_number(r, root, "attn_pdrop", 0.1, 0, 0.999);
}
