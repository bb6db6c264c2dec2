/* A checkpoint's pairs: what they say, the model that they describe, and pairs to save. */
#include <stdio.h>
#include <string.h>

#include "checkpoint_tool.h"

const char *checkpoint_value(const par_checkpoint *c, const char *name) {
    int n;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0) return pairs[i].value;
    return NULL;
}

par_status checkpoint_config(const par_checkpoint *c, par_transformer_config *out) {
    int n, n_tensors;
    const char *path = par_checkpoint_info(c)->path;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    par_status st = par_config_of_pairs(path, pairs, n, out);
    if (st != PAR_OK) return st;
    par_checkpoint_tensors(c, &n_tensors);
    if (out->layers < 1 || out->layers > n_tensors) /* each has some */
        return par_error_set(PAR_ERR_FORMAT, "%s: its layers is \"%lld\", and it has %d tensors",
                             path, (long long)out->layers, n_tensors);
    par_layout layout = {0};
    par_problems problems = {0};
    par_transformer_check(out, &layout, 1, false, &problems, NULL);
    return problems.n == 0 ? PAR_OK : par_error_set(PAR_ERR_FORMAT, "%s: %s", path, problems.text);
}

void checkpoint_pairs_of(const par_transformer_config *c, checkpoint_pairs *out) {
    static par_config_pairs model;
    *out = (checkpoint_pairs){0};
    par_config_pairs_of(c, &model);
    for (int i = 0; i < model.n; i++)
        checkpoint_pair_add(out, model.pairs[i].name, model.pairs[i].value,
                            model.pairs[i].class_of);
}

void checkpoint_pair_add(checkpoint_pairs *p, const char *name, const char *value,
                         par_checkpoint_class class_of) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->pairs[i].name, name) == 0) return;
    if (p->n == CHECKPOINT_MAX_PAIRS) return;
    snprintf(p->values[p->n], sizeof p->values[0], "%s", value);
    par_utf8_clean(p->values[p->n]); /* a path, or one that was cut */
    snprintf(p->names[p->n], sizeof p->names[0], "%s", name);
    p->pairs[p->n] = (par_checkpoint_pair){p->names[p->n], p->values[p->n], class_of};
    p->n++;
}
