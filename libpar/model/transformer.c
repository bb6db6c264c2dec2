/* The transformer as a list of modules: embedding, blocks, head, with their relative cost for the
 * cut into stages. */
#include <stdlib.h>
#include <string.h>

#include "layers.h"

/* The public struct comes first: its address is the object's. */
typedef struct {
    par_model model;
    par_transformer_config config;
    double work[];
} transformer;

static par_status create_module(const void *config, int index, par_module **out) {
    const par_transformer_config *c = config;
    int n = (int)c->layers + 2;
    PAR_REQUIRE(config && out && index >= 0 && index < n);
    PAR_TRY(index == 0       ? par__embedding_create(c, out)
            : index == n - 1 ? par__head_create(c, out)
                             : par__block_create(c, out));
    (*out)->layer = (int16_t)index;
    return PAR_OK;
}

par_status par_transformer_create(const par_transformer_config *config, par_model **out) {
    par_problems problems = {0};
    par_layout layout = {.kv_replicas = 1};
    PAR_REQUIRE(config && out);
    par_transformer_check(config, &layout, 1, false, &problems, NULL);
    PAR_TRY(par_problems_status(&problems, PAR_ERR_OPTION));
    int n = (int)config->layers + 2;
    transformer *t = calloc(1, sizeof *t + (size_t)n * sizeof t->work[0]);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a model of %d modules", n);
    t->config = *config;
    t->model = (par_model){.name = t->config.name,
                           .config = &t->config,
                           .n_modules = n,
                           .create = create_module,
                           .work = t->work,
                           .x = par_tensor_make(NULL, PAR_I32, 1, config->tokens, 1, 1, 1),
                           .targets = par_tensor_make(NULL, PAR_I32, 1, config->tokens, 1, 1, 1),
                           .n_ids = config->vocab};
    /* FLOPs per token, forward; the embedding is a read of a row and an addition */
    double logits = 2.0 * (double)config->vocab * (double)config->channels;
    double blocks = par_transformer_flops_per_token(config) / 3 - logits;
    t->work[0] = 8.0 * (double)config->channels;
    for (int i = 1; i < n - 1; i++) t->work[i] = blocks / (double)config->layers;
    t->work[n - 1] = logits;
    *out = &t->model;
    return PAR_OK;
}

const par_transformer_config *par__transformer_config(const par_model *model) {
    return model->create == create_module ? model->config : NULL;
}

void par_transformer_destroy(par_model **model) {
    if (!model) return;
    free(*model);
    *model = NULL;
}
