/*
 * The tokenizer of a run: which one it is, and its files, which checkpoints carry. Rank 0 looks and
 * reads; what a checkpoint carries goes to all ranks, each of which opens it from a folder of its
 * own.
 */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train_llm.h"

static const par_tag tag = {"tokenizer", -1, -1, -1};

/* ---- rank 0: from the checkpoint ---- */

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

/* What it carries; or what lies where it was, if that is the same. */
static par_status look_at_checkpoint(const llm_run *r, llm_tokenizer *t) {
    const llm_carried *from = &r->carried;
    par_checkpoint *c = NULL;
    int n;
    if (!*from->tokenizer || par_checkpoint_open(from->path, NULL, &c) != PAR_OK) return PAR_OK;
    const par_checkpoint_tensor *all = par_checkpoint_tensors(c, &n);
    par_status st = PAR_OK;
    for (int i = 0; i < n && st == PAR_OK && t->n_files < LLM_TOKENIZER_FILES; i++) {
        const char *name = all[i].name;
        /* of a file, and nothing else */
        bool is_plain = *name && *name != '.' && !strchr(name, '/') && strlen(name) < 64;
        if (strcmp(all[i].kind, "tokenizer") == 0 && all[i].ndim == 0 && all[i].dtype == PAR_U8 &&
            all[i].global[0] <= LLM_TOKENIZER_NBYTES && is_plain)
            st = read_blob(t, c, &all[i]);
    }
    par_checkpoint_close(&c);
    t->carried = t->n_files > 0;
    bool known = t->carried || strcmp(from->tokenizer, "bytes") == 0;
    if (known) {
        snprintf(t->id, sizeof t->id, "%s", from->tokenizer);
        snprintf(t->name, sizeof t->name, "%s",
                 *from->tokenizer_file ? from->tokenizer_file : from->path);
        snprintf(t->path, sizeof t->path, "%s", t->carried ? "" : "bytes");
    } else if (st == PAR_OK) {
        known = llm_tokenizer_look_again(t, from->tokenizer_file, from->tokenizer);
    }
    if (known) snprintf(t->ends, sizeof t->ends, "%s", from->ends);
    return st;
}

static par_status look(const llm_run *r, llm_tokenizer *t) {
    const llm_settings *s = &r->set;
    char path[4096];
    const char *given = s->tokenizer;
    if (given && strncmp(given, "gpt2:", 5) == 0) given += 5;
    if (given && strncmp(given, "hf:", 3) == 0) given += 3;
    if (given) {
        llm_tokenizer_look(t, given);
        return PAR_OK;
    }
    if (s->sample) PAR_TRY(look_at_checkpoint(r, t));
    if (!*t->id && llm_generate_find_tokenizer(s, path, sizeof path)) llm_tokenizer_look(t, path);
    return *t->id ? PAR_OK : look_at_checkpoint(r, t);
}

/* "128001,128009": of the tokenizer, and what the import says. */
static void find_ends(const llm_run *r, const par_import *import, llm_tokenizer *t) {
    par_tokenizer *open = NULL;
    size_t used = 0;
    if ((!r->set.save && !r->params.documents_apart) || t->carried || *t->ends || !*t->path) return;
    int32_t end = par_tokenizer_open(t->path, &open) == PAR_OK ? par_tokenizer_end(open) : -1;
    par_tokenizer_close(&open);
    if (end >= 0) used = (size_t)snprintf(t->ends, sizeof t->ends, "%d", (int)end);
    for (int i = 0; import && par_import_end(import, i) >= 0 && used < sizeof t->ends - 16; i++)
        if (par_import_end(import, i) != end)
            used += (size_t)snprintf(t->ends + used, sizeof t->ends - used, "%s%d", used ? "," : "",
                                     (int)par_import_end(import, i));
}

/* ---- all ranks ---- */

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

par_status llm_tokenizer_find_alone(llm_run *r) {
    PAR_TRY(look(r, &r->tokenizer));
    return r->tokenizer.carried ? make_folder(&r->tokenizer) : PAR_OK;
}

par_status llm_tokenizer_find(llm_run *r, const llm_world *w, const par_import *import) {
    llm_tokenizer *t = &r->tokenizer;
    par_status st = PAR_OK;
    if (w->rank == 0) st = look(r, t);
    if (w->rank == 0 && st == PAR_OK) find_ends(r, import, t);
    PAR_TRY(par_comm_agree(w->comm, st));
    PAR_TRY(share(t, w));
    if (w->rank == 0) llm_tokenizer_carry(t);
    /* where documents are apart: the first id of the tokenizer's that end a text ends one */
    if (!r->params.documents_apart || r->set.document_end >= 0) return PAR_OK;
    if (!*t->ends)
        return par_error_set(PAR_ERR_OPTION,
                             "--documents apart: no tokenizer says which id ends a document; "
                             "legal: with --document-end ID or --tokenizer FILE|DIR");
    r->params.document_end = (int32_t)strtol(t->ends, NULL, 10);
    return PAR_OK;
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
    llm_tokenizer_drop(t);
}
