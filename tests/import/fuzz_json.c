/*
 * Fuzz target: config.json, the ids in it that end a text, and model.safetensors.index.json. What
 * the parsers accept must keep their promises: sizes in range, heads that divide, file names that
 * stay in the directory.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/import/directory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool check_config(const char *text, size_t size) {
    const par__family *family = NULL;
    par_transformer_config c;
    if (par__config_parse("config.json", text, size, &family, &c) != PAR_OK) return false;
    if (!family || c.vocab < 1 || c.positions < 1 || c.layers < 1 || c.channels < 1 ||
        c.heads < 1 || c.kv_heads < 1 || c.head_size < 1 || c.mlp < 1 || c.tokens > c.positions ||
        c.heads % c.kv_heads != 0)
        abort();
    if (!(c.norm_eps >= 0) || !(c.dropout >= 0 && c.dropout < 1) ||
        !(c.attention_dropout >= 0 && c.attention_dropout < 1))
        abort();
    if (c.rope && (!(c.rope_theta >= 1) || c.head_size % 2 != 0)) abort();
    return true;
}

static void check_ends(const char *text, size_t size) {
    int32_t ends[PAR__MAX_ENDS];
    int n = 0;
    if (par__ends_parse("generation_config.json", text, size, 100, ends, &n) != PAR_OK && n)
        abort();
    for (int i = 0; i < n; i++)
        if (n > PAR__MAX_ENDS || ends[i] < 0 || ends[i] >= 100) abort();
}

static bool check_index(const char *text, size_t size) {
    par__index index;
    if (par__index_parse("index.json", text, size, &index) != PAR_OK) return false;
    for (int i = 0; i < index.n; i++)
        if (index.entries[i].file < 0 || index.entries[i].file >= index.n_files ||
            strchr(index.files[index.entries[i].file], '/'))
            abort();
    par__index_free(&index);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    check_ends(copy, size);
    bool found = check_config(copy, size) || check_index(copy, size);
    free(copy);
    return found ? 0 : -1;
}
