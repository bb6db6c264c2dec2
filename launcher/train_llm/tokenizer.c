/*
 * The tokenizer of a run: which one it is, and its files, which checkpoints carry. It is told from
 * others by the bytes that decide about ids, not by its name: a table of all bytes in their order
 * is "bytes", wherever it lies. Rank 0 looks and reads; what a checkpoint carries goes to all
 * ranks, each of which opens it from a folder of its own.
 */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train_llm.h"

/* Files above this in all are not carried; their identity is. */
enum { MAX_NBYTES = 16 << 20 };

/* What decides about ids: the first row of which all files are there. */
static const char *const deciding[][2] = {
    {"tokenizer.json", NULL},      {"tokenizer.model", NULL},   {"vocab.json", "merges.txt"},
    {"encoder.json", "vocab.bpe"}, {"vocab.json", "vocab.bpe"}, {"encoder.json", "merges.txt"}};
/* What other programs look for beside those. */
static const char *const beside[] = {"tokenizer_config.json", "special_tokens_map.json",
                                     "added_tokens.json", "generation_config.json",
                                     "chat_template.jinja"};

static const par_tag tag = {"tokenizer", -1, -1, -1};

/* ---- rank 0: from files ---- */

/* The file's bytes as one more file of the tokenizer; false: it is not there, or too large. */
static bool add_file(llm_tokenizer *t, const char *folder, const char *name) {
    char path[LLM_TOKENIZER_PATH + 80];
    struct stat info;
    llm_tokenizer_file *f = &t->files[t->n_files];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    if (t->n_files == LLM_TOKENIZER_FILES || strlen(name) >= sizeof f->name) return false;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 1) return false;
    FILE *file = info.st_size <= 8 * (int64_t)MAX_NBYTES ? fopen(path, "rb") : NULL;
    char *bytes = file ? malloc((size_t)info.st_size + 1) : NULL;
    bool good = bytes && fread(bytes, 1, (size_t)info.st_size, file) == (size_t)info.st_size;
    if (file) fclose(file);
    if (!good) {
        free(bytes);
        return false;
    }
    bytes[info.st_size] = 0;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->bytes = bytes;
    f->n = info.st_size;
    t->n_files++;
    return true;
}

/* FNV-1a, 64 bits: it tells files apart that nobody has forged. */
static void identify(llm_tokenizer *t) {
    uint64_t hash = 14695981039346656037u;
    if (t->n_files == 0) return;
    for (int i = 0; i < t->n_files; i++)
        for (int64_t k = 0; k < t->files[i].n; k++)
            hash = (hash ^ (unsigned char)t->files[i].bytes[k]) * 1099511628211u;
    snprintf(t->id, sizeof t->id, "%016llx", (unsigned long long)hash);
    if (strstr(t->files[0].name, ".vocab") && strstr(t->files[0].bytes, "\"tokenizer\": \"bytes\""))
        snprintf(t->id, sizeof t->id, "bytes");
}

static void drop_files(llm_tokenizer *t) {
    for (int i = 0; i < t->n_files; i++) free(t->files[i].bytes);
    t->n_files = 0;
}

/* The tokenizer of a path, as far as it can be read: opening it says what is wrong. */
static void look_at_path(llm_tokenizer *t, const char *path) {
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
            drop_files(t);
    identify(t);
    for (size_t i = 0; whole && t->n_files && i < sizeof beside / sizeof *beside; i++)
        add_file(t, folder, beside[i]);
}

/* ---- rank 0: from the checkpoint ---- */

/* The name of a file, and nothing else. */
static bool is_plain(const char *name) {
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) < 64;
}

static par_status read_blob(llm_tokenizer *t, const par_checkpoint *c,
                            const par_checkpoint_tensor *blob) {
    llm_tokenizer_file *f = &t->files[t->n_files];
    const int64_t offset[2] = {0, 0}, extent[2] = {blob->global[0], 1};
    f->n = blob->global[0];
    f->bytes = malloc((size_t)f->n + 1);
    if (!f->bytes) return par_error_set(PAR_ERR_MEMORY, "no host memory for %s", blob->name);
    t->n_files++;
    snprintf(f->name, sizeof f->name, "%s", blob->name);
    f->bytes[f->n] = 0;
    return par_checkpoint_read(c, blob, offset, extent, PAR_U8, f->bytes);
}

static par_status look_at_checkpoint(const llm_run *r, llm_tokenizer *t) {
    const llm_carried *from = &r->carried;
    par_checkpoint *c = NULL;
    int n;
    if (!*from->tokenizer || par_checkpoint_open(from->path, NULL, &c) != PAR_OK) return PAR_OK;
    const par_checkpoint_tensor *all = par_checkpoint_tensors(c, &n);
    par_status st = PAR_OK;
    for (int i = 0; i < n && st == PAR_OK && t->n_files < LLM_TOKENIZER_FILES; i++)
        if (strcmp(all[i].kind, "tokenizer") == 0 && all[i].ndim == 0 && all[i].dtype == PAR_U8 &&
            all[i].global[0] <= MAX_NBYTES && is_plain(all[i].name))
            st = read_blob(t, c, &all[i]);
    par_checkpoint_close(&c);
    t->carried = t->n_files > 0;
    if (t->carried || strcmp(from->tokenizer, "bytes") == 0) {
        snprintf(t->id, sizeof t->id, "%s", from->tokenizer);
        snprintf(t->name, sizeof t->name, "%s",
                 *from->tokenizer_file ? from->tokenizer_file : from->path);
        snprintf(t->path, sizeof t->path, "%s", t->carried ? "" : "bytes");
        snprintf(t->ends, sizeof t->ends, "%s", from->ends);
    }
    return st;
}

static par_status look(const llm_run *r, llm_tokenizer *t) {
    const llm_settings *s = &r->set;
    char path[4096];
    const char *given = s->tokenizer;
    if (given && strncmp(given, "gpt2:", 5) == 0) given += 5;
    if (given && strncmp(given, "hf:", 3) == 0) given += 3;
    if (given) {
        look_at_path(t, given);
        return PAR_OK;
    }
    if (s->sample) PAR_TRY(look_at_checkpoint(r, t));
    if (!*t->id && llm_sample_find_tokenizer(s, path, sizeof path)) look_at_path(t, path);
    return *t->id ? PAR_OK : look_at_checkpoint(r, t);
}

/* "128001,128009": of the tokenizer, and what the import says. */
static void find_ends(const llm_run *r, const par_import *import, llm_tokenizer *t) {
    par_tokenizer *open = NULL;
    size_t used = 0;
    if ((!r->set.save && !r->params.documents_apart) || t->carried || !*t->path) return;
    int32_t end = par_tokenizer_open(t->path, &open) == PAR_OK ? par_tokenizer_end(open) : -1;
    par_tokenizer_close(&open);
    if (end >= 0) used = (size_t)snprintf(t->ends, sizeof t->ends, "%d", (int)end);
    for (int i = 0; import && par_import_end(import, i) >= 0 && used < sizeof t->ends - 16; i++)
        if (par_import_end(import, i) != end)
            used += (size_t)snprintf(t->ends + used, sizeof t->ends - used, "%s%d", used ? "," : "",
                                     (int)par_import_end(import, i));
}

/* ---- all ranks ---- */

/* The id that ends a document, where documents are apart: the first of the tokenizer's. */
static par_status settle_document_end(llm_run *r) {
    if (!r->params.documents_apart || r->set.document_end >= 0) return PAR_OK;
    if (!*r->tokenizer.ends)
        return par_error_set(PAR_ERR_OPTION,
                             "--documents apart: no tokenizer says which id ends a document; "
                             "legal: with --document-end ID or --tokenizer FILE|DIR");
    r->params.document_end = (int32_t)strtol(r->tokenizer.ends, NULL, 10);
    return PAR_OK;
}

static par_status make_folder(llm_tokenizer *t) {
    const char *root = getenv("TMPDIR");
    char path[sizeof t->folder + 80];
    snprintf(t->folder, sizeof t->folder, "%.200s/par-tokenizer-XXXXXX",
             root && *root ? root : "/tmp");
    if (!mkdtemp(t->folder)) {
        par_status st =
            par_error_set(PAR_ERR_IO, "%s: cannot be made; legal: another TMPDIR", t->folder);
        *t->folder = 0;
        return st;
    }
    snprintf(t->path, sizeof t->path, "%s", t->folder);
    for (int i = 0; i < t->n_files; i++) {
        const llm_tokenizer_file *f = &t->files[i];
        snprintf(path, sizeof path, "%s/%s", t->folder, f->name);
        FILE *file = fopen(path, "wb");
        bool good = file && fwrite(f->bytes, 1, (size_t)f->n, file) == (size_t)f->n;
        if (file && fclose(file) != 0) good = false;
        if (!good) return par_error_set(PAR_ERR_IO, "%s: cannot be written", path);
        if (t->n_files == 1) snprintf(t->path, sizeof t->path, "%s", path);
    }
    return PAR_OK;
}

/* Rank 0's; the bytes only where all ranks need them. */
static par_status share(llm_tokenizer *t, const llm_world *w) {
    llm_tokenizer head = *t;
    PAR_TRY(par_comm_broadcast(w->comm, &head, sizeof head, PAR_U8, 0, tag, NULL, NULL));
    if (w->rank != 0) {
        *t = head;
        t->n_files = 0;
        for (int i = 0; t->carried && i < head.n_files; i++)
            t->files[i].bytes = malloc((size_t)head.files[i].n + 1);
        t->n_files = t->carried ? head.n_files : 0;
    }
    if (!t->carried) return PAR_OK;
    par_status st = PAR_OK;
    for (int i = 0; i < t->n_files; i++)
        if (!t->files[i].bytes) st = par_error_set(PAR_ERR_MEMORY, "no host memory for a file");
    PAR_TRY(par_comm_agree(w->comm, st));
    for (int i = 0; i < t->n_files; i++)
        PAR_TRY(par_comm_broadcast(w->comm, t->files[i].bytes, t->files[i].n, PAR_U8, 0, tag, NULL,
                                   NULL));
    return par_comm_agree(w->comm, make_folder(t));
}

par_status llm_tokenizer_find(llm_run *r, const llm_world *w, const par_import *import) {
    llm_tokenizer *t = &r->tokenizer;
    par_status st = PAR_OK;
    int64_t sum = 0;
    if (w->rank == 0) st = look(r, t);
    if (w->rank == 0 && st == PAR_OK) find_ends(r, import, t);
    PAR_TRY(par_comm_agree(w->comm, st));
    PAR_TRY(share(t, w));
    for (int i = 0; i < t->n_files; i++) sum += t->files[i].n;
    for (int i = 0; w->rank == 0 && sum <= MAX_NBYTES && i < t->n_files; i++)
        t->blobs[t->n_blobs++] = (par_checkpoint_run){.kind = "tokenizer",
                                                      .name = t->files[i].name,
                                                      .dtype = PAR_U8,
                                                      .n = t->files[i].n,
                                                      .data = t->files[i].bytes};
    return settle_document_end(r);
}

void llm_tokenizer_opened(llm_tokenizer *t) {
    char path[sizeof t->folder + 80];
    if (!*t->folder) return;
    for (int i = 0; i < t->n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", t->folder, t->files[i].name);
        unlink(path);
    }
    rmdir(t->folder);
    *t->folder = 0;
}

void llm_tokenizer_free(llm_tokenizer *t) {
    llm_tokenizer_opened(t);
    t->n_blobs = 0;
    drop_files(t);
}
