/*
 * The files of a tokenizer. It is told from others by the bytes that decide about ids, not by its
 * name: a table of all bytes in their order is "bytes", wherever it lies.
 */
#define _POSIX_C_SOURCE 200809L
#include "tokenizer_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What decides about ids: the first row of which all files are there. */
static const char *const deciding[][2] = {
    {"tokenizer.json", NULL},      {"tokenizer.model", NULL},   {"vocab.json", "merges.txt"},
    {"encoder.json", "vocab.bpe"}, {"vocab.json", "vocab.bpe"}, {"encoder.json", "merges.txt"}};
const char *const llm_tokenizer_names[] = {"tokenizer.json",
                                           "tokenizer.model",
                                           "vocab.json",
                                           "merges.txt",
                                           "encoder.json",
                                           "vocab.bpe",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "generation_config.json",
                                           "chat_template.jinja",
                                           NULL};

FILE *llm_tokenizer_open_file(const char *path, int64_t *nbytes) {
    struct stat info;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe without a writer opens */
    if (file < 0) return NULL;
    bool is_file = fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0;
    bool fits = is_file && info.st_size <= 8 * (int64_t)LLM_TOKENIZER_NBYTES;
    FILE *out = fits ? fdopen(file, "rb") : NULL;
    if (!out) {
        int error = fits ? errno : is_file ? EFBIG : ENOENT;
        close(file);
        errno = error;
        return NULL;
    }
    *nbytes = info.st_size;
    return out;
}

/* The file's bytes as one more file of the tokenizer; false: it is not there, or too large. */
static bool add_file(llm_tokenizer *t, const char *folder, const char *name) {
    char path[LLM_TOKENIZER_PATH + 80];
    llm_tokenizer_file *f = &t->files[t->n_files];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    if (t->n_files == LLM_TOKENIZER_FILES || strlen(name) >= sizeof f->name) return false;
    FILE *file = llm_tokenizer_open_file(path, &f->n);
    char *bytes = file ? malloc((size_t)f->n + 1) : NULL;
    bool good = bytes && fread(bytes, 1, (size_t)f->n, file) == (size_t)f->n;
    if (file) fclose(file);
    if (!good) {
        free(bytes);
        return false;
    }
    bytes[f->n] = 0;
    snprintf(f->name, sizeof f->name, "%s", name);
    par_utf8_clean(f->name); /* checkpoints store it */
    f->bytes = bytes;
    t->n_files++;
    return true;
}

/* Each byte is the id of the same number: what a .vocab says of itself is not asked. */
static bool is_table_of_bytes(const char *path) {
    par_tokenizer *open = NULL;
    uint8_t bytes[256];
    int32_t ids[256];
    size_t n = 0;
    for (int b = 0; b < 256; b++) bytes[b] = (uint8_t)b;
    bool is = par_tokenizer_open(path, &open) == PAR_OK && par_tokenizer_vocab(open) == 256 &&
              par_tokenizer_encode(open, bytes, 256, ids, 256, &n) == PAR_OK && n == 256;
    for (int b = 0; b < 256; b++) is = is && ids[b] == b;
    par_tokenizer_close(&open);
    return is;
}

/* FNV-1a, 64 bits: it tells files apart that nobody has forged. */
static void identify(llm_tokenizer *t) {
    uint64_t hash = 14695981039346656037u;
    if (t->n_files == 0) return;
    for (int i = 0; i < t->n_files; i++)
        for (int64_t k = 0; k < t->files[i].n; k++)
            hash = (hash ^ (unsigned char)t->files[i].bytes[k]) * 1099511628211u;
    snprintf(t->id, sizeof t->id, "%016llx", (unsigned long long)hash);
    if (strstr(t->files[0].name, ".vocab") && is_table_of_bytes(t->path))
        snprintf(t->id, sizeof t->id, "bytes");
}

void llm_tokenizer_drop(llm_tokenizer *t) {
    for (int i = 0; i < t->n_files; i++) free(t->files[i].bytes);
    t->n_files = t->n_blobs = 0;
}

void llm_tokenizer_carry(llm_tokenizer *t) {
    int64_t sum = 0;
    for (int i = 0; i < t->n_files; i++) sum += t->files[i].n;
    t->n_blobs = sum <= LLM_TOKENIZER_NBYTES ? t->n_files : 0;
    for (int i = 0; i < t->n_blobs; i++)
        t->blobs[i] = (par_checkpoint_run){.kind = "tokenizer",
                                           .name = t->files[i].name,
                                           .dtype = PAR_U8,
                                           .n = t->files[i].n,
                                           .data = t->files[i].bytes};
}

void llm_tokenizer_look(llm_tokenizer *t, const char *path) {
    char folder[LLM_TOKENIZER_PATH];
    struct stat info;
    snprintf(t->path, sizeof t->path, "%s", path);
    snprintf(t->name, sizeof t->name, "%s", path);
    snprintf(folder, sizeof folder, "%s", path);
    if (strcmp(path, "bytes") == 0) snprintf(t->id, sizeof t->id, "bytes");
    if (strcmp(path, "bytes") == 0 || stat(path, &info) != 0) return;
    bool whole = S_ISDIR(info.st_mode);
    if (!whole) {
        char *slash = strrchr(folder, '/');
        const char *name = slash ? slash + 1 : path;
        if (slash) *slash = 0;
        add_file(t, slash ? folder : "", slash ? name : path);
        whole = strcmp(name, "tokenizer.json") == 0 || strcmp(name, "tokenizer.model") == 0;
        if (!slash) *folder = 0;
    }
    for (size_t i = 0; t->n_files == 0 && i < sizeof deciding / sizeof *deciding; i++)
        if (add_file(t, folder, deciding[i][0]) && deciding[i][1] &&
            !add_file(t, folder, deciding[i][1]))
            llm_tokenizer_drop(t);
    identify(t);
    for (int i = LLM_TOKENIZER_DECIDING; whole && t->n_files && llm_tokenizer_names[i]; i++)
        add_file(t, folder, llm_tokenizer_names[i]);
}

bool llm_tokenizer_look_again(llm_tokenizer *t, const char *path, const char *id) {
    if (*path) llm_tokenizer_look(t, path);
    if (*path && strcmp(t->id, id) == 0) return true;
    llm_tokenizer_drop(t);
    *t->path = *t->name = *t->id = 0;
    return false;
}
