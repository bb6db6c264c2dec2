/* The model that a checkpoint's pairs describe, and the pairs of a model: as train_llm records
 * it. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_tool.h"

#define AT(field) offsetof(par_transformer_config, field)

typedef enum { SIZE, FLOAT, REAL, WORD } value_type;

/* A pair and where its value is; WORD: true where the value is this word. */
static const struct {
    const char *name;
    value_type type;
    const char *word;
    size_t at;
    bool optional; /* recorded where the model has it, or by later versions */
} rows[] = {
    {"vocabulary", SIZE, NULL, AT(vocab), false},
    {"layers", SIZE, NULL, AT(layers), false},
    {"channels", SIZE, NULL, AT(channels), false},
    {"heads", SIZE, NULL, AT(heads), false},
    {"kv heads", SIZE, NULL, AT(kv_heads), false},
    {"head size", SIZE, NULL, AT(head_size), false},
    {"mlp", SIZE, NULL, AT(mlp), false},
    {"positions", SIZE, NULL, AT(positions), false},
    {"tokens", SIZE, NULL, AT(tokens), false},
    {"window", SIZE, NULL, AT(window), true},
    {"norm", WORD, "rmsnorm", AT(rmsnorm), false},
    {"position encoding", WORD, "rope", AT(rope), false},
    {"activation", WORD, "swiglu", AT(swiglu), false},
    {"activation", WORD, "gelu erf", AT(gelu_erf), false},
    {"bias", WORD, "on", AT(bias), false},
    {"qkv bias", WORD, "on", AT(qkv_bias), true},
    {"qk norm", WORD, "on", AT(qk_norm), true},
    {"tied", WORD, "on", AT(tied), false},
    {"norm eps", FLOAT, NULL, AT(norm_eps), false},
    {"dropout", FLOAT, NULL, AT(dropout), false},
    {"attention dropout", FLOAT, NULL, AT(attention_dropout), false},
    {"embedding dropout", FLOAT, NULL, AT(embedding_dropout), true},
    {"rope theta", REAL, NULL, AT(rope_theta), true},
};

enum { N_ROWS = sizeof rows / sizeof *rows };

static bool take(int row, const char *value, par_transformer_config *c) {
    char *field = (char *)c + rows[row].at, *end;
    double x = strtod(value, &end);
    bool number = end != value && !*end;
    switch (rows[row].type) {
    case SIZE: *(int64_t *)(void *)field = strtoll(value, &end, 10); return number && !*end;
    case FLOAT: *(float *)(void *)field = strtof(value, NULL); return number;
    case REAL: *(double *)(void *)field = x; return number;
    case WORD: *(bool *)(void *)field = strcmp(value, rows[row].word) == 0; return true;
    }
    return false;
}

par_status checkpoint_config(const par_checkpoint *c, par_transformer_config *out) {
    const char *path = par_checkpoint_info(c)->path;
    *out = (par_transformer_config){0};
    for (int i = 0; i < N_ROWS; i++) {
        const char *value = checkpoint_value(c, rows[i].name);
        if (!value && rows[i].optional) continue;
        if (!value || !take(i, value, out))
            return par_error_set(PAR_ERR_FORMAT,
                                 "%s: its %s is \"%s\", so its model is not known; legal: a "
                                 "checkpoint of train_llm, of version 2",
                                 path, rows[i].name, value ? value : "not recorded");
    }
    const char *name = checkpoint_value(c, "preset"),
               *scaling = checkpoint_value(c, "rope scaling");
    snprintf(out->name, sizeof out->name, "%s", name ? name : "model");
    long long positions = 0;
    if (scaling && sscanf(scaling, "%lf %lf %lf %lld", &out->rope_scaling.factor,
                          &out->rope_scaling.low_freq_factor, &out->rope_scaling.high_freq_factor,
                          &positions) != 4)
        return par_error_set(PAR_ERR_FORMAT, "%s: its rope scaling is \"%s\"", path, scaling);
    out->rope_scaling.original_positions = positions;
    return PAR_OK;
}

static void write_value(int row, const par_transformer_config *c, char *text, size_t nbytes) {
    const char *field = (const char *)c + rows[row].at;
    switch (rows[row].type) {
    case SIZE:
        snprintf(text, nbytes, "%lld", (long long)*(const int64_t *)(const void *)field);
        break;
    case FLOAT: snprintf(text, nbytes, "%g", (double)*(const float *)(const void *)field); break;
    case REAL: snprintf(text, nbytes, "%g", *(const double *)(const void *)field); break;
    case WORD:
        snprintf(text, nbytes, "%s", *(const bool *)(const void *)field ? rows[row].word : "off");
        break;
    }
}

static const char *activation(const par_transformer_config *c) {
    return c->swiglu ? "swiglu" : c->gelu_erf ? "gelu erf" : "gelu tanh";
}

void checkpoint_pairs_of(const par_transformer_config *c, checkpoint_pairs *out) {
    *out = (checkpoint_pairs){0};
    checkpoint_pair_add(out, "preset", c->name, PAR_CHECKPOINT_NOTED);
    for (int i = 0; i < N_ROWS; i++) {
        char value[128];
        write_value(i, c, value, sizeof value);
        if (strcmp(rows[i].name, "norm") == 0 && !c->rmsnorm) strcpy(value, "layernorm");
        if (strcmp(rows[i].name, "position encoding") == 0 && !c->rope) strcpy(value, "learned");
        if (strcmp(rows[i].name, "activation") == 0) strcpy(value, activation(c));
        bool shape = rows[i].type == WORD || rows[i].type == SIZE;
        bool free = strcmp(rows[i].name, "tokens") == 0 || strcmp(rows[i].name, "window") == 0 ||
                    (strcmp(rows[i].name, "positions") == 0 && c->rope);
        checkpoint_pair_add(out, rows[i].name, value,
                            shape && !free ? PAR_CHECKPOINT_EQUAL : PAR_CHECKPOINT_NOTED);
    }
    if (!c->rope) return;
    char scaling[128];
    snprintf(scaling, sizeof scaling, "%g %g %g %lld", c->rope_scaling.factor,
             c->rope_scaling.low_freq_factor, c->rope_scaling.high_freq_factor,
             (long long)c->rope_scaling.original_positions);
    checkpoint_pair_add(out, "rope scaling", scaling, PAR_CHECKPOINT_NOTED);
}

void checkpoint_pair_add(checkpoint_pairs *p, const char *name, const char *value,
                         par_checkpoint_class class_of) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->pairs[i].name, name) == 0) return;
    if (p->n == CHECKPOINT_MAX_PAIRS) return;
    snprintf(p->values[p->n], sizeof p->values[0], "%s", value);
    snprintf(p->names[p->n], sizeof p->names[0], "%s", name);
    p->pairs[p->n] = (par_checkpoint_pair){p->names[p->n], p->values[p->n], class_of};
    p->n++;
}
