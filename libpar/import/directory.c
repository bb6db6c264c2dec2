/*
 * Opening a Hugging Face directory: config.json, then model.safetensors, or the files of
 * model.safetensors.index.json. Index and files must agree both ways: every tensor where the index
 * says, and none that it does not know.
 */
#define _POSIX_C_SOURCE 200809L
#include "libpar/import/directory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/directory.h"

/* directory/name, to be freed; NULL without memory. */
static char *join(const char *directory, const char *name) {
    size_t n = strlen(directory) + strlen(name) + 2;
    char *path = malloc(n);
    if (path) snprintf(path, n, "%s/%s", directory, name);
    return path;
}

static par_status no_memory(const char *directory) {
    return par_error_set(PAR_ERR_MEMORY, "%s: no memory to open it", directory);
}

static par_status open_config(par_import *import) {
    par__map map;
    char *path = join(import->directory, "config.json");
    if (!path) return no_memory(import->directory);
    par_status st = par__map_open(path, &map);
    if (st == PAR_OK) {
        st = par__config_parse(path, (const char *)map.data, map.nbytes, &import->family,
                               &import->config);
        if (st == PAR_OK)
            st = par__kept_parse(path, (const char *)map.data, map.nbytes, import->kept);
        st = par__map_end(&map, path, st);
    } else if (access(import->directory, F_OK) != 0) {
        st = par_error_set(st, "%s; legal: a folder that is here (nothing is fetched from a hub)",
                           par_error());
    }
    free(path);
    return st;
}

/* Newer folders say it in generation_config.json, and only there all of it. */
static par_status read_ends(par_import *import) {
    static const char *const names[] = {"generation_config.json", "config.json"};
    par_status st = PAR_OK;
    for (int i = 0; i < 2 && import->n_ends == 0 && st == PAR_OK; i++) {
        par__map map;
        char *path = join(import->directory, names[i]);
        if (!path) return no_memory(import->directory);
        bool there;
        st = par__file_exists(path, &there);
        if (there) st = par__map_open(path, &map);
        if (there && st == PAR_OK) {
            st = par__ends_parse(path, (const char *)map.data, map.nbytes, import->config.vocab,
                                 import->ends, &import->n_ends);
            st = par__map_end(&map, path, st);
        }
        free(path);
    }
    return st;
}

static par_status open_files(par_import *import, int n, char *const *names) {
    import->files = calloc((size_t)n, sizeof *import->files);
    if (!import->files) return no_memory(import->directory);
    for (int i = 0; i < n; i++) {
        char *path = join(import->directory, names[i]);
        par_status st =
            path ? par_safetensors_open(path, &import->files[i]) : no_memory(import->directory);
        free(path);
        if (st != PAR_OK) return st;
        import->n_files++;
    }
    return PAR_OK;
}

static par_status check_index(const par_import *import, const char *path, const par__index *index) {
    int64_t n = 0;
    for (int i = 0; i < index->n; i++)
        if (!par__safetensors_find(import->files[index->entries[i].file], index->entries[i].name))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: weight_map: \"%.200s\" is not in %s", path,
                     index->entries[i].name, index->files[index->entries[i].file]);
    for (int f = 0; f < import->n_files; f++) n += import->files[f]->n;
    /* Each of the index's names is in its file, so more tensors than names means one that the index
     * does not have. */
    if (n != index->n)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: weight_map: %d tensors, the files hold %" PRId64 "; legal: each tensor once",
                 path, index->n, n);
    return PAR_OK;
}

/* Weights in forms that are not read, and what makes a form of them that is. */
static const struct {
    const char *name, *why;
} others[] = {
    {"pytorch_model.bin", "a pickle, which can run any program"},
    {"pytorch_model.bin.index.json", "pickles, which can run any program"},
    {"consolidated.00.pth", "the publisher's own form"},
    {"consolidated.safetensors", "the publisher's own form, with other names"},
    {"tf_model.h5", "TensorFlow's form"},
    {"flax_model.msgpack", "Flax's form"},
};

/* Nothing that is read: if there is something else, what to do with it. */
static par_status no_weights(const par_import *import) {
    static const char neither[] =
        "holds neither model.safetensors nor model.safetensors.index.json";
    const char *d = import->directory;
    bool adapter = false;
    for (size_t i = 0; i <= sizeof others / sizeof *others; i++) {
        bool last = i == sizeof others / sizeof *others;
        char *path = join(d, last ? "adapter_model.safetensors" : others[i].name);
        bool there = path && access(path, F_OK) == 0;
        free(path);
        adapter = last && there;
        if (!there || last) continue;
        PAR_FAIL(
            PAR_ERR_UNSUPPORTED,
            "%s: %s; %s is not read (%s); to convert it: python3 -c \"from transformers import "
            "AutoModelForCausalLM as M; M.from_pretrained('%s').save_pretrained('%s')\"",
            d, neither, others[i].name, others[i].why, d, d);
    }
    if (adapter)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: %s; adapter_model.safetensors is an adapter alone: merge it into its base "
                 "model first (merge_and_unload of the peft library)",
                 d, neither);
    PAR_FAIL(PAR_ERR_IO, "%s: %s", d, neither);
}

static par_status open_sharded(par_import *import, const char *path) {
    par__map map;
    par__index index;
    bool there;
    PAR_TRY(par__file_exists(path, &there));
    if (!there) return no_weights(import);
    PAR_TRY(par__map_open(path, &map));
    par_status st = par__index_parse(path, (const char *)map.data, map.nbytes, &index);
    PAR_TRY(par__map_end(&map, path, st));
    st = open_files(import, index.n_files, index.files);
    if (st == PAR_OK) st = check_index(import, path, &index);
    par__index_free(&index);
    return st;
}

static par_status open_weights(par_import *import) {
    char name[] = "model.safetensors", *names[] = {name};
    char *single = join(import->directory, name),
         *index = join(import->directory, "model.safetensors.index.json");
    bool there = false;
    par_status st =
        single && index ? par__file_exists(single, &there) : no_memory(import->directory);
    if (st == PAR_OK) st = there ? open_files(import, 1, names) : open_sharded(import, index);
    free(single);
    free(index);
    for (int i = 0; st == PAR_OK && i < import->n_files; i++)
        st = par__safetensors_unwrap(import->files[i]);
    return st;
}

par_status par_import_open(const char *directory, par_import **out) {
    PAR_REQUIRE(directory && out);
    par_import *import = calloc(1, sizeof *import);
    if (!import) return no_memory(directory);
    import->directory = strdup(directory);
    par_status st = import->directory ? open_config(import) : no_memory(directory);
    if (st == PAR_OK) st = open_weights(import);
    if (st == PAR_OK) st = par__import_check(import);
    if (st == PAR_OK) st = read_ends(import);
    if (st != PAR_OK) {
        par_import_close(&import);
        return st;
    }
    *out = import;
    return PAR_OK;
}

void par_import_close(par_import **import) {
    if (!import || !*import) return;
    for (int i = 0; i < (*import)->n_files; i++) par_safetensors_close(&(*import)->files[i]);
    free((*import)->files);
    free((*import)->directory);
    free(*import);
    *import = NULL;
}

int32_t par_import_end(const par_import *import, int i) {
    return i >= 0 && i < import->n_ends ? import->ends[i] : -1;
}

const char *par_import_kept(const par_import *import) {
    return import->kept;
}

const par_transformer_config *par_import_config(const par_import *import) {
    return &import->config;
}
