/*
 * Writer of a Hugging Face directory: the family's tensors from libpar's parameters, fused and
 * transposed as it stores them, spread over files in the order of the network. config.json is
 * written last, so that a directory that has it is complete. Its temporary file is there first, and
 * locked: so a directory that has it alone is unfinished, and whether its writer lives can be told.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpar/base/directory.h"
#include "libpar/base/file.h"
#include "libpar/base/json_text.h"
#include "libpar/import/safetensors.h"
#include "libpar/import/weights.h"

enum { NAME = 128 };
static const size_t default_shard = 5000000000;

/* One stored tensor: of `parts` parameters from number `first` on. */
typedef struct {
    char name[NAME];
    int first, file;
    const par__mapping *row;
} stored;

typedef struct {
    const par_weights *from;
    const par__family *family;
    const char *directory;
    par_dtype dtype;
    stored *tensors;
    par_tensor *views; /* without data */
    int n, n_files;
    int begin;         /* of the file that is written */
    char *data, *part; /* of the largest tensor, and of one of its parts */
} writing;

static par_status add_tensor(writing *w, int i, const par__mapping *m, int64_t layer) {
    par_param p;
    stored *t = &w->tensors[w->n];
    const char *prefix = m->when == PAR__IF_UNTIED ? "" : w->family->prefix;
    if (!par__name_make(t->name, sizeof t->name, prefix, m->theirs, layer) ||
        !par_weights_param(&w->from->config, i, &p))
        PAR_FAIL(PAR_ERR_INTERNAL, "name of %s does not fit", m->theirs);
    int64_t rows = p.global[0] * m->parts, cols = p.global[1];
    t->first = i;
    t->row = m;
    w->views[w->n++] = par_tensor_make(NULL, w->dtype, p.ndim, m->transposed ? cols : rows,
                                       m->transposed ? rows : cols, 1, 1);
    return PAR_OK;
}

/* The list, and which file each is in. */
static par_status plan(writing *w, size_t shard_nbytes) {
    size_t most = shard_nbytes ? shard_nbytes : default_shard, used = 0, largest = 1;
    int64_t layer;
    int n = 0; /* parameters, which are at least as many as tensors */
    for (par_param p; par_weights_param(&w->from->config, n, &p);) n++;
    w->tensors = calloc((size_t)n + 1, sizeof *w->tensors);
    w->views = calloc((size_t)n + 1, sizeof *w->views);
    if (!w->tensors || !w->views) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d tensors", n);
    for (int i = 0; i < n; i++) {
        const par__mapping *m = par__weights_row(&w->from->config, w->family, i, &layer);
        if (m->part == 0) PAR_TRY(add_tensor(w, i, m, layer));
    }
    for (int i = 0; i < w->n; i++) {
        size_t nbytes = par_tensor_nbytes(&w->views[i]);
        if (nbytes > largest) largest = nbytes;
        if (i == 0 || used + nbytes > most) w->n_files++, used = 0;
        used += nbytes;
        w->tensors[i].file = w->n_files - 1;
    }
    w->data = malloc(largest);
    w->part = malloc(largest);
    if (!w->data || !w->part)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for two tensors of %zu bytes", largest);
    return PAR_OK;
}

/* src [rows, cols] into dst [cols, width], from column `at` on. */
static void transpose(const char *src, int64_t rows, int64_t cols, char *dst, int64_t width,
                      int64_t at, size_t size) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            memcpy(dst + (size_t)(j * width + at + i) * size, src + (size_t)(i * cols + j) * size,
                   size);
}

static par_status fetch(void *user, int i, const void **data) {
    writing *w = user;
    const stored *t = &w->tensors[w->begin + i];
    size_t size = par_dtype_nbytes(w->dtype);
    par_param p;
    for (int k = 0; k < t->row->parts; k++) {
        if (!par_weights_param(&w->from->config, t->first + k, &p))
            PAR_FAIL(PAR_ERR_INTERNAL, "%s: has no part %d", t->name, k);
        int64_t rows = p.global[0], cols = p.global[1];
        PAR_TRY(w->from->read(w->from->user, &p, w->dtype, w->part));
        if (t->row->transposed)
            transpose(w->part, rows, cols, w->data, rows * t->row->parts, k * rows, size);
        else
            memcpy(w->data + (size_t)(k * rows * cols) * size, w->part,
                   (size_t)(rows * cols) * size);
    }
    *data = w->data;
    return PAR_OK;
}

static void file_name(const writing *w, int file, char name[NAME]) {
    if (w->n_files == 1)
        snprintf(name, NAME, "model.safetensors");
    else
        snprintf(name, NAME, "model-%05d-of-%05d.safetensors", file + 1, w->n_files);
}

static par_status write_files(writing *w) {
    char path[PAR__PATH], name[NAME];
    const char **names = malloc(((size_t)w->n + 1) * sizeof *names);
    par_status st = PAR_OK;
    if (!names) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d names", w->n);
    for (int i = 0; i < w->n; i++) names[i] = w->tensors[i].name;
    for (int i = 0, end = 0; st == PAR_OK && i < w->n; i = end) {
        while (end < w->n && w->tensors[end].file == w->tensors[i].file) end++;
        file_name(w, w->tensors[i].file, name);
        w->begin = i;
        st = par__path(path, w->directory, name);
        if (st == PAR_OK)
            st = par__safetensors_stream(path, end - i, names + i, w->views + i, fetch, w);
    }
    free(names);
    return st;
}

/* With 15 digits, "0.02", unless a number in it needs all 17. */
static char *text_of(const json_t *root) {
    char *text = par__json_text(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_t *back = text ? json_loads(text, 0, NULL) : NULL;
    bool same = !text || json_equal(root, back);
    json_decref(back);
    if (same) return text;
    free(text);
    return par__json_text(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
}

/* Closes the file. */
static par_status write_json(par__writer *file, json_t *root) {
    char *text = root ? text_of(root) : NULL;
    json_decref(root);
    par_status st =
        text ? par__writer_write(file, text, strlen(text))
             : par_error_set(PAR_ERR_MEMORY, "%s: no host memory for its text", file->path);
    if (st == PAR_OK) st = par__writer_write(file, "\n", 1);
    if (st == PAR_OK)
        st = par__writer_commit(file);
    else
        par__writer_abort(file);
    free(text);
    return st;
}

static bool is_unfinished(const char *directory) {
    char path[PAR__PATH], temporary[PAR__PATH];
    return par__path(path, directory, "config.json") == PAR_OK &&
           par__path(temporary, directory, "config.json" PAR__TEMPORARY) == PAR_OK &&
           access(path, F_OK) != 0 && errno == ENOENT && access(temporary, F_OK) == 0;
}

/* Weights and what was being written. Other files are somebody's, or `beside`'s. */
static void remove_unfinished(const char *directory) {
    DIR *d;
    const char *name;
    if (par__list_open(directory, &d) != PAR_OK) return;
    while (par__list_next(&d, directory, &name) == PAR_OK && name) {
        static const char mine[] = "config.json" PAR__TEMPORARY, end[] = PAR__TEMPORARY;
        char path[PAR__PATH];
        size_t n = strlen(name);
        bool part = n >= sizeof end && strcmp(name + n + 1 - sizeof end, end) == 0;
        bool weights = strncmp(name, "model", 5) == 0 && strstr(name, ".safetensors");
        if ((part || weights) && strcmp(name, mine) != 0 &&
            par__path(path, directory, name) == PAR_OK)
            unlink(path);
    }
}

/* A new folder, or one that a process left that was killed, without what that has written. path: of
 * `config`, whose end is the folder's. */
static par_status begin(const char *directory, bool unfinished, char path[PAR__PATH],
                        par__writer *config) {
    bool there;
    PAR_TRY(par__file_exists(directory, &there));
    if (!unfinished && there)
        PAR_FAIL(PAR_ERR_IO, "%s: is there already; legal: a name that is not there", directory);
    PAR_TRY(par__path(path, directory, "config.json"));
    PAR_TRY(par__make_directories(directory));
    par_status st = par__writer_open(path, config);
    if (st == PAR_OK && unfinished) remove_unfinished(directory);
    if (st != PAR_OK && !unfinished) rmdir(directory); /* an empty one would be refused next time */
    return st;
}

/* What `beside` put there is on the disk before config.json says that all is. */
static par_status sync_files(const char *directory) {
    par_status st = PAR_OK;
    DIR *d;
    const char *name;
    PAR_TRY(par__list_open(directory, &d));
    while (st == PAR_OK && (st = par__list_next(&d, directory, &name)) == PAR_OK && name) {
        char path[PAR__PATH];
        struct stat info;
        if (par__path(path, directory, name) != PAR_OK) continue;
        int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (file < 0) {
            st = par__read_error(path, "opened");
            continue;
        }
        bool plain = fstat(file, &info) == 0 && S_ISREG(info.st_mode);
        if (plain && fsync(file) != 0) st = par__write_error(path, "synced");
        close(file);
    }
    if (d) closedir(d);
    return st;
}

static par_status write_index(const writing *w) {
    char name[NAME], path[PAR__PATH];
    par__writer file;
    PAR_TRY(par__path(path, w->directory, "model.safetensors.index.json"));
    PAR_TRY(par__writer_open(path, &file));
    json_int_t total = 0;
    json_t *map = json_object();
    for (int i = 0; i < w->n; i++) {
        file_name(w, w->tensors[i].file, name);
        json_object_set_new(map, w->tensors[i].name, json_string(name));
        total += (json_int_t)par_tensor_nbytes(&w->views[i]);
    }
    return write_json(
        &file, json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map));
}

par_status par_weights_write_hf(const par_weights *from, const char *directory, par_dtype dtype,
                                size_t shard_nbytes) {
    PAR_REQUIRE(from && from->read && directory && *directory);
    PAR_REQUIRE(dtype == PAR_F32 || dtype == PAR_BF16 || dtype == PAR_F16);
    writing w = {.from = from,
                 .family = par__family_of(&from->config),
                 .directory = directory,
                 .dtype = dtype};
    if (!w.family)
        PAR_FAIL(
            PAR_ERR_UNSUPPORTED,
            "%s: no kind of Hugging Face model that libpar reads computes this: %s, %s positions, "
            "%s, biases %s; legal: GPT-2's or Llama's combination",
            directory, from->config.rmsnorm ? "RMSNorm" : "LayerNorm",
            from->config.rope ? "rotary" : "learned", from->config.swiglu ? "SwiGLU" : "GELU",
            from->config.bias ? "on" : "off");
    char path[PAR__PATH];
    par__writer config;
    const bool unfinished = is_unfinished(directory);
    PAR_TRY(begin(directory, unfinished, path, &config));
    par_status st = plan(&w, shard_nbytes);
    if (st == PAR_OK) st = write_files(&w);
    if (st == PAR_OK && w.n_files > 1) st = write_index(&w);
    if (st == PAR_OK && from->beside) st = from->beside(from->beside_user, directory);
    if (st == PAR_OK && from->beside) st = sync_files(directory);
    if (st == PAR_OK)
        st = write_json(&config, par__config_make(w.family, from, dtype));
    else
        par__writer_abort(&config);
    if (st != PAR_OK) { /* its message stays */
        char why[PAR_ERROR_NBYTES];
        snprintf(why, sizeof why, "%s", par_error());
        if (!unfinished)
            par__remove_directory(directory);
        else
            remove_unfinished(directory), rmdir(directory); /* unless others' files are there */
        par_error_set(st, "%s", why);
    }
    free(w.tensors);
    free(w.views);
    free(w.data);
    free(w.part);
    return st;
}
