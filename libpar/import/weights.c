/* The parameters of a model in the order of the network, the family that fits a configuration, and
 * a directory as a source of weights. */
#include "libpar/import/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "libpar/base/checked.h"
#include "libpar/import/directory.h"

static const char *type_of(const par_transformer_config *c) {
    bool square = c->kv_heads == c->heads && c->heads * c->head_size == c->channels;
    if (!c->rmsnorm && !c->rope && !c->swiglu && !c->qk_norm && c->window == 0)
        return c->bias && square ? "gpt2" : NULL;
    if (!c->rmsnorm || !c->rope || !c->swiglu || c->bias) return NULL;
    if (c->qkv_bias) return c->qk_norm ? NULL : "qwen2";
    return c->qk_norm ? "qwen3" : c->window > 0 ? "mistral" : "llama";
}

const par__family *par__family_of(const par_transformer_config *config) {
    const char *type = type_of(config);
    for (int i = 0; type && par__families[i]; i++)
        if (strcmp(par__families[i]->model_type, type) == 0) return par__families[i];
    return NULL;
}

const char *par_weights_family(const par_transformer_config *config) {
    const par__family *family = config ? par__family_of(config) : NULL;
    return family ? family->model_type : NULL;
}

/* Rows of layers stand together in a table: a layer's come before the next layer's. */
const par__mapping *par__weights_row(const par_transformer_config *config,
                                     const par__family *family, int i, int64_t *layer) {
    int of_layer = 0, before = 0;
    bool in_layers = false;
    for (int k = 0; k < family->n; k++)
        of_layer +=
            strchr(family->table[k].name, '*') && par__mapping_applies(config, &family->table[k]);
    for (int k = 0; k < family->n; k++) {
        const par__mapping *m = &family->table[k];
        bool layered = strchr(m->name, '*');
        if (in_layers && !layered) before += (int)(config->layers - 1) * of_layer;
        in_layers = layered;
        if (!par__mapping_applies(config, m)) continue;
        *layer = layered ? (i - before) / of_layer : 0;
        if (*layer < config->layers && i == before + (int)*layer * of_layer) return m;
        before++;
    }
    return NULL;
}

bool par_weights_param(const par_transformer_config *config, int i, par_param *out) {
    const par__family *family = config && out && i >= 0 ? par__family_of(config) : NULL;
    int64_t layer;
    const par__mapping *m = family ? par__weights_row(config, family, i, &layer) : NULL;
    if (!m) return false;
    *out = (par_param){.ndim = m->cols == PAR__DIM_ONE ? 1 : 2};
    par__name_make(out->name, sizeof out->name, "", m->name, layer);
    out->global[0] = out->extent[0] = out->local[0] = par__dim_size(config, m->rows);
    out->global[1] = out->extent[1] = out->local[1] = par__dim_size(config, m->cols);
    return true;
}

size_t par__param_nbytes(const par_param *p, par_dtype dtype) {
    size_t n;
    return par__mul((size_t)p->global[0], (size_t)p->global[1], &n) &&
                   par__mul(n, par_dtype_nbytes(dtype), &n)
               ? n
               : 0;
}

void par__narrow(const float *src, int64_t n, par_dtype dtype, void *dst) {
    uint16_t *half = dst;
    if (dtype == PAR_F32 && dst != src) memcpy(dst, src, (size_t)n * sizeof *src);
    for (int64_t i = 0; i < n && dtype != PAR_F32; i++)
        half[i] = dtype == PAR_BF16 ? par__f32_to_bf16(src[i]) : par__f32_to_f16(src[i]);
}

static par_status read_import(void *user, const par_param *param, par_dtype dtype, void *dst) {
    par_param p = *param;
    p.dtype = dtype;
    size_t nbytes = par__param_nbytes(param, PAR_F32);
    float *values = dtype == PAR_F32 ? dst : malloc(nbytes);
    if (!values || nbytes == 0)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu bytes", p.name, nbytes);
    par_status st = par_import_read(user, &p, values);
    if (st == PAR_OK) par__narrow(values, p.global[0] * p.global[1], dtype, dst);
    if (values != dst) free(values);
    return st;
}

void par_weights_of_import(const par_import *import, par_weights *out) {
    *out = (par_weights){.config = *par_import_config(import),
                         .dtype = par__import_dtype(import),
                         .read = read_import,
                         .user = (void *)(uintptr_t)import};
    out->kept = import->kept;
    for (int32_t id; out->n_ends < PAR_WEIGHTS_ENDS; out->ends[out->n_ends++] = id)
        if ((id = par_import_end(import, out->n_ends)) < 0) break;
}
