/* The configuration of a transformer as pairs of a checkpoint, and back: one table for both
 * ways. */
#include "libpar/base/number.h"
#include "par/checkpoint.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(par_transformer_config, field)

typedef enum { SIZE, FLOAT, REAL, WORD } value_type;

/* What a weight means must stay; what only the next steps use may change. */
#define SHAPE PAR_CHECKPOINT_EQUAL
#define FREE  PAR_CHECKPOINT_NOTED

static const struct {
    const char *name;
    value_type type;
    size_t at;
    par_checkpoint_class class_of;
    bool optional;        /* recorded where the model has it, or by later versions */
    const char *words[2]; /* of false and true */
} rows[] = {
    {"vocabulary", SIZE, AT(vocab), SHAPE, false, {NULL}},
    {"layers", SIZE, AT(layers), SHAPE, false, {NULL}},
    {"channels", SIZE, AT(channels), SHAPE, false, {NULL}},
    {"heads", SIZE, AT(heads), SHAPE, false, {NULL}},
    {"kv heads", SIZE, AT(kv_heads), SHAPE, false, {NULL}},
    {"head size", SIZE, AT(head_size), SHAPE, false, {NULL}},
    {"mlp", SIZE, AT(mlp), SHAPE, false, {NULL}},
    {"norm", WORD, AT(rmsnorm), SHAPE, false, {"layernorm", "rmsnorm"}},
    {"position encoding", WORD, AT(rope), SHAPE, false, {"learned", "rope"}},
    {"bias", WORD, AT(bias), SHAPE, false, {"off", "on"}},
    {"qkv bias", WORD, AT(qkv_bias), SHAPE, true, {"off", "on"}},
    {"qk norm", WORD, AT(qk_norm), SHAPE, true, {"off", "on"}},
    {"tied", WORD, AT(tied), SHAPE, false, {"off", "on"}},
    {"positions", SIZE, AT(positions), SHAPE, false, {NULL}}, /* with rope it may change */
    {"tokens", SIZE, AT(tokens), FREE, false, {NULL}},
    {"window", SIZE, AT(window), FREE, true, {NULL}},
    {"norm eps", FLOAT, AT(norm_eps), FREE, false, {NULL}},
    {"dropout", FLOAT, AT(dropout), FREE, false, {NULL}},
    {"attention dropout", FLOAT, AT(attention_dropout), FREE, false, {NULL}},
    {"embedding dropout", FLOAT, AT(embedding_dropout), FREE, true, {NULL}},
    {"rope theta", REAL, AT(rope_theta), FREE, true, {NULL}},
};

enum { N_ROWS = sizeof rows / sizeof *rows };

/* ---- to pairs ---- */

static char *add(par_config_pairs *p, const char *name, par_checkpoint_class class_of) {
    p->pairs[p->n] = (par_checkpoint_pair){name, p->values[p->n], class_of};
    return p->values[p->n++];
}

static void write_value(int row, const par_transformer_config *c, char *text) {
    const void *field = (const char *)c + rows[row].at;
    const size_t nbytes = PAR_CONFIG_VALUE;
    char number[PAR__NUMBER_NBYTES];
    switch (rows[row].type) {
    case SIZE: snprintf(text, nbytes, "%lld", (long long)*(const int64_t *)field); break;
    case FLOAT:
        snprintf(text, nbytes, "%s", par__exact_float(number, *(const float *)field));
        break;
    case REAL: snprintf(text, nbytes, "%s", par__exact(number, *(const double *)field)); break;
    case WORD: snprintf(text, nbytes, "%s", rows[row].words[*(const bool *)field]); break;
    }
}

void par_config_pairs_of(const par_transformer_config *c, par_config_pairs *out) {
    out->n = 0;
    snprintf(add(out, "preset", PAR_CHECKPOINT_NOTED), PAR_CONFIG_VALUE, "%s", c->name);
    snprintf(add(out, "activation", PAR_CHECKPOINT_EQUAL), PAR_CONFIG_VALUE, "%s",
             c->swiglu     ? "swiglu"
             : c->gelu_erf ? "gelu erf"
                           : "gelu tanh");
    for (int i = 0; i < N_ROWS; i++) {
        if (rows[i].at == AT(window) && c->window == 0) continue;
        if (rows[i].at == AT(rope_theta) && !c->rope) continue;
        bool free = rows[i].at == AT(positions) && c->rope;
        write_value(i, c, add(out, rows[i].name, free ? PAR_CHECKPOINT_NOTED : rows[i].class_of));
    }
    if (!c->rope) return;
    char factor[PAR__NUMBER_NBYTES], low[PAR__NUMBER_NBYTES], high[PAR__NUMBER_NBYTES];
    snprintf(add(out, "rope scaling", PAR_CHECKPOINT_NOTED), PAR_CONFIG_VALUE, "%s %s %s %lld",
             par__exact(factor, c->rope_scaling.factor),
             par__exact(low, c->rope_scaling.low_freq_factor),
             par__exact(high, c->rope_scaling.high_freq_factor),
             (long long)c->rope_scaling.original_positions);
}

/* ---- and back ---- */

static const char *value_of(const par_checkpoint_pair *pairs, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0) return pairs[i].value;
    return NULL;
}

static bool take(int row, const char *value, par_transformer_config *c) {
    void *field = (char *)c + rows[row].at;
    char *end = NULL;
    switch (rows[row].type) {
    case SIZE: *(int64_t *)field = strtoll(value, &end, 10); break;
    case FLOAT: *(float *)field = strtof(value, &end); break;
    case REAL: *(double *)field = strtod(value, &end); break;
    case WORD:
        *(bool *)field = strcmp(value, rows[row].words[1]) == 0;
        return *(bool *)field || strcmp(value, rows[row].words[0]) == 0;
    }
    return end != value && !*end;
}

static par_status not_known(const char *path, const char *name, const char *value) {
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: its %s is \"%s\", so its model is not known; legal: a checkpoint of train_llm, "
             "of version 2",
             path, name, value ? value : "not recorded");
}

par_status par_config_of_pairs(const char *path, const par_checkpoint_pair *pairs, int n,
                               par_transformer_config *out) {
    PAR_REQUIRE(path && (pairs || n == 0) && out);
    par_transformer_config c = {0};
    for (int i = 0; i < N_ROWS; i++) {
        const char *value = value_of(pairs, n, rows[i].name);
        if (!value && rows[i].optional) continue;
        if (!value || !take(i, value, &c)) return not_known(path, rows[i].name, value);
    }
    const char *activation = value_of(pairs, n, "activation"),
               *preset = value_of(pairs, n, "preset"),
               *scaling = value_of(pairs, n, "rope scaling");
    if (!activation) return not_known(path, "activation", NULL);
    c.swiglu = strcmp(activation, "swiglu") == 0;
    c.gelu_erf = strcmp(activation, "gelu erf") == 0;
    snprintf(c.name, sizeof c.name, "%s", preset ? preset : "model");
    long long positions = 0;
    if (scaling &&
        sscanf(scaling, "%lf %lf %lf %lld", &c.rope_scaling.factor, &c.rope_scaling.low_freq_factor,
               &c.rope_scaling.high_freq_factor, &positions) != 4)
        return not_known(path, "rope scaling", scaling);
    c.rope_scaling.original_positions = positions;
    *out = c;
    return PAR_OK;
}
