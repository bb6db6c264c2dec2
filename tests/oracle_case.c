/* Opening a directory of reference results: config.json, weights, tokens, results in safetensors
 * and reference.json. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oracle.h"

enum { PATH_NBYTES = 1024 };

static par_status open_optional(const char *directory, const char *file, par_safetensors **out) {
    char path[PATH_NBYTES];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    if (access(path, F_OK) != 0) return PAR_OK;
    return par_safetensors_open(path, out);
}

static par_status read_reference(const char *directory, json_t **out) {
    char path[PATH_NBYTES];
    json_error_t error;
    snprintf(path, sizeof path, "%s/reference.json", directory);
    *out = json_load_file(path, 0, &error);
    if (!*out) PAR_FAIL(PAR_ERR_FORMAT, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_array(json_object_get(*out, "trajectory")))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: there is no array \"trajectory\"", path);
    return PAR_OK;
}

static par_status read_tokens(const char *directory, oracle_case *c) {
    char path[PATH_NBYTES];
    par_safetensors *file = NULL;
    par_tensor t;
    snprintf(path, sizeof path, "%s/tokens.safetensors", directory);
    PAR_TRY(par_safetensors_open(path, &file));
    par_status st = par_safetensors_get(file, "tokens", &t);
    if (st == PAR_OK && (t.dtype != PAR_I32 || t.ndim != 3 || t.shape[2] < 2))
        st = par_error_set(PAR_ERR_FORMAT, "%s: tokens must be int32 [steps, B, T + 1]", path);
    if (st == PAR_OK) {
        c->n_steps = t.shape[0];
        c->batch = t.shape[1];
        c->T = t.shape[2] - 1;
        c->tokens = malloc(par_tensor_nbytes(&t));
        if (!c->tokens) st = par_error_set(PAR_ERR_MEMORY, "no memory for the tokens of %s", path);
    }
    if (st == PAR_OK)
        memcpy(c->tokens, t.data, par_tensor_nbytes(&t)); /* the view may be unaligned */
    par_safetensors_close(&file);
    return st;
}

par_status oracle_open(const char *directory, const char *reference, oracle_case *out) {
    oracle_case c = {0};
    const char *results = reference ? reference : directory;
    par_status st = PAR_OK;
    size_t end = strlen(directory), begin;
    while (end > 1 && directory[end - 1] == '/') end--;
    for (begin = end; begin > 0 && directory[begin - 1] != '/';) begin--;
    snprintf(c.name, sizeof c.name, "%.*s", (int)(end - begin), directory + begin);
    PAR_TRY_GOTO(par_import_open(directory, &c.import), out_close);
    PAR_TRY_GOTO(read_tokens(results, &c), out_close);
    PAR_TRY_GOTO(read_reference(results, &c.reference), out_close);
    PAR_TRY_GOTO(open_optional(results, "forward.safetensors", &c.forward), out_close);
    PAR_TRY_GOTO(open_optional(results, "gradients.safetensors", &c.gradients), out_close);
    PAR_TRY_GOTO(open_optional(results, "final.safetensors", &c.final), out_close);
    PAR_TRY_GOTO(open_optional(results, "moments.safetensors", &c.moments), out_close);
    c.config = *par_import_config(c.import);
    c.config.tokens = c.T;
    *out = c;
    return PAR_OK;
out_close:
    oracle_close(&c);
    return st;
}

void oracle_close(oracle_case *c) {
    par_safetensors_close(&c->forward);
    par_safetensors_close(&c->gradients);
    par_safetensors_close(&c->final);
    par_safetensors_close(&c->moments);
    par_import_close(&c->import);
    json_decref(c->reference);
    free(c->tokens);
    memset(c, 0, sizeof *c);
}

static par_status read_samples(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const oracle_case *c = user;
    for (int64_t i = 0; i < n; i++) {
        const int32_t *row = c->tokens + (first + i) % (c->n_steps * c->batch) * (c->T + 1);
        memcpy((int32_t *)x + i * c->T, row, (size_t)c->T * sizeof *row);
        memcpy((int32_t *)targets + i * c->T, row + 1, (size_t)c->T * sizeof *row);
    }
    return PAR_OK;
}

par_source oracle_source(const oracle_case *c) {
    return (par_source){.read = read_samples, .user = (void *)c};
}
