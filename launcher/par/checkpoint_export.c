/* par checkpoint export, convert: weights to a Hugging Face directory, with its tokenizer, or to a
 * model file of llm.c. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_tool.h"
#include "../train_llm/tokenizer_files.h"
#include "par_tool.h"

enum { PATH = 4352 };

/* With errno's text. */
static par_status copy_error(const char *target, const char *verb, int error) {
    bool full = error == ENOSPC || error == EDQUOT;
    return par_error_set(PAR_ERR_IO, "%s: cannot be %s: %s%s", target, verb, strerror(error),
                         full ? "; make room, or name another place" : "");
}

/* Behind errors of before, which `error` is. */
static int close_written(FILE *out, int error) {
    bool closed = !out || fclose(out) == 0;
    return error ? error : closed ? 0 : errno;
}

/* The files that are there; how many, or 0 where none of them decides about ids. */
static int copy_files(const char *from, const char *to, par_status *st) {
    static char block[1 << 16];
    char source[PATH], target[PATH];
    int64_t nbytes;
    int n = 0;
    bool decided = false;
    for (const char *const *name = llm_tokenizer_names; *name && *st == PAR_OK; name++) {
        int length = snprintf(source, sizeof source, "%s/%s", from, *name);
        int other = snprintf(target, sizeof target, "%s/%s", to, *name);
        if (length >= PATH || other >= PATH)
            *st = par_error_set(PAR_ERR_OPTION, "%s or %s: is too long", from, to);
        FILE *in = *st == PAR_OK ? llm_tokenizer_open_file(source, &nbytes) : NULL;
        FILE *out = in ? fopen(target, "wb") : NULL;
        if (!in && *st == PAR_OK && errno != ENOENT && errno != ENOTDIR)
            *st = par_error_set(PAR_ERR_IO, "%s: cannot be opened: %s", source, strerror(errno));
        if (!in) continue;
        int error = out ? 0 : errno, unread = 0;
        for (size_t k; !error && (k = fread(block, 1, sizeof block, in)) > 0;)
            if (fwrite(block, 1, k, out) != k) error = errno;
        if (ferror(in)) unread = errno;
        fclose(in);
        error = close_written(out, error);
        if (unread)
            *st = copy_error(source, "read", unread);
        else if (error)
            *st = copy_error(target, "written", error);
        n += !unread && !error;
        decided |= name < llm_tokenizer_names + LLM_TOKENIZER_DECIDING;
    }
    return decided ? n : 0;
}

/* One file that a checkpoint carries. */
static par_status write_blob(const par_checkpoint *c, const par_checkpoint_tensor *t,
                             const char *to) {
    const int64_t offset[2] = {0, 0}, extent[2] = {t->global[0], 1};
    char target[PATH];
    char *bytes = malloc((size_t)t->global[0]);
    snprintf(target, sizeof target, "%s/%s", to, t->name);
    par_status st = bytes ? par_checkpoint_read(c, t, offset, extent, PAR_U8, bytes)
                          : par_error_set(PAR_ERR_MEMORY, "no host memory for %s", t->name);
    FILE *out = st == PAR_OK ? fopen(target, "wb") : NULL;
    int error = st == PAR_OK && !out ? errno : 0;
    if (out && fwrite(bytes, 1, (size_t)t->global[0], out) != (size_t)t->global[0]) error = errno;
    error = close_written(out, error);
    free(bytes);
    return st != PAR_OK || !error ? st : copy_error(target, "written", error);
}

/* A table of characters is none. */
static bool is_file_of_tokenizer(const char *name) {
    for (int k = 0; llm_tokenizer_names[k]; k++)
        if (strcmp(name, llm_tokenizer_names[k]) == 0) return true;
    return false;
}

/* Those of the files above that the checkpoint carries; how many. *any: it carries a tokenizer. */
static int write_carried(const par_checkpoint *c, const char *to, par_status *st, bool *any) {
    int n = 0, all;
    const par_checkpoint_tensor *t = par_checkpoint_tensors(c, &all);
    for (int i = 0; i < all && *st == PAR_OK; i++)
        if (strcmp(t[i].kind, "tokenizer") == 0 && t[i].ndim == 0 && t[i].dtype == PAR_U8) {
            bool named = is_file_of_tokenizer(t[i].name);
            if (named) *st = write_blob(c, &t[i], to);
            n += named;
            *any = true;
        }
    return n;
}

typedef struct {
    const checkpoint_settings *settings;
    const checkpoint_source *from;
} export;

/* What an export that was killed left of another tokenizer would decide in place of this one. */
static void remove_tokenizer(const char *folder) {
    char path[PATH];
    for (const char *const *name = llm_tokenizer_names; *name; name++)
        if (snprintf(path, sizeof path, "%s/%s", folder, *name) < PATH) unlink(path);
}

/* Where the tokenizer's files lie; "": not known. --tokenizer; or the directory that is converted;
 * or the place that the checkpoint recorded, where it is still the same tokenizer; or beside the
 * checkpoint's data. */
static void find_place(const export *e, char place[PATH]) {
    static llm_tokenizer t;
    const char *given = e->settings->tokenizer;
    const par_checkpoint *c = e->from->checkpoint;
    const char *id = c ? checkpoint_value(c, "tokenizer") : NULL,
               *recorded = c ? checkpoint_value(c, "tokenizer file") : NULL,
               *data = c ? checkpoint_value(c, "data") : NULL;
    *place = 0;
    if (given || e->from->import) {
        snprintf(place, PATH, "%s", given ? given : e->from->path);
    } else if (id && recorded && llm_tokenizer_look_again(&t, recorded, id) && t.n_files > 0 &&
               is_file_of_tokenizer(t.files[0].name)) {
        snprintf(place, PATH, "%s", recorded);
        char *slash = strrchr(place, '/'), *name = slash ? slash + 1 : place;
        bool is_file = strcmp(name, t.files[0].name) == 0; /* then it is its folder */
        if (is_file) snprintf(slash > place ? slash : name, 2, "%s", slash > place ? "" : ".");
    } else if (data && *data) {
        snprintf(place, PATH, "%s.tokenizer", data);
    }
    llm_tokenizer_drop(&t);
}

/* What the checkpoint carries, or what lies in the place. */
static par_status copy_tokenizer(void *user, const char *to) {
    const export *e = user;
    const par_checkpoint *c = e->from->checkpoint;
    char place[PATH];
    par_status st = PAR_OK;
    remove_tokenizer(to);
    bool any = false;
    int n_carried = c && !e->settings->tokenizer ? write_carried(c, to, &st, &any) : 0;
    if (n_carried > 0 && st == PAR_OK)
        printf("%s: %d file%s of the tokenizer, from the checkpoint\n", to, n_carried,
               n_carried == 1 ? "" : "s");
    if (n_carried > 0 || st != PAR_OK) return st;
    find_place(e, place);
    int n = *place ? copy_files(place, to, &st) : 0;
    if (st != PAR_OK) return st;
    const char *id = c ? checkpoint_value(c, "tokenizer") : NULL,
               *was = c ? checkpoint_value(c, "tokenizer file") : NULL;
    if (n > 0)
        printf("%s: %d file%s of the tokenizer in %s\n", to, n, n == 1 ? "" : "s", place);
    else if (id && was && !any && strcmp(id, "bytes") != 0)
        printf("note: the checkpoint's tokenizer, fingerprint %s, is not in %s any more; "
               "--tokenizer DIR gives it\n",
               id, was);
    else
        printf("note: no files of a tokenizer are known; --tokenizer DIR gives them\n");
    return PAR_OK;
}

/* Before anything is written. */
static par_status check_tokenizer(const char *folder) {
    char path[PATH];
    int64_t nbytes;
    for (int i = 0; i < LLM_TOKENIZER_DECIDING; i++) {
        if (snprintf(path, sizeof path, "%s/%s", folder, llm_tokenizer_names[i]) >= PATH) continue;
        FILE *file = llm_tokenizer_open_file(path, &nbytes);
        bool there = file || (errno != ENOENT && errno != ENOTDIR); /* copying says what it is */
        if (file) fclose(file);
        if (there) return PAR_OK;
    }
    return par_error_set(PAR_ERR_IO,
                         "--tokenizer %s: there is no tokenizer in it; legal: a folder with "
                         "tokenizer.json, or vocab.json and merges.txt",
                         folder);
}

int checkpoint_export(const checkpoint_settings *s) {
    checkpoint_source from;
    const char *to = s->hf ? s->hf : s->llmc;
    if (!s->hf == !s->llmc) {
        par_error_set(PAR_ERR_OPTION, "--hf and --llmc: legal: one of the two");
        return checkpoint_failed(s->command);
    }
    export files = {s, &from};
    par_status st = checkpoint_source_open(s->words[0], &from);
    from.weights.beside = copy_tokenizer;
    from.weights.beside_user = &files;
    if (st == PAR_OK && s->hf && s->tokenizer) st = check_tokenizer(s->tokenizer);
    par_dtype dtype = s->dtype < 0 ? from.weights.dtype : (par_dtype)s->dtype;
    if (st == PAR_OK)
        st = s->hf ? par_weights_write_hf(&from.weights, to, dtype, (size_t)(s->shard_gb * 1e9))
                   : par_weights_write_llmc(&from.weights, to, dtype);
    if (st == PAR_OK)
        printf("%s: %s, %.2f M parameters, %s, of %s\n", to,
               s->hf ? par_weights_family(&from.weights.config) : "llm.c",
               (double)par_transformer_n_params(&from.weights.config) / 1e6, par_dtype_name(dtype),
               from.path);
    checkpoint_source_close(&from);
    return st == PAR_OK ? EXIT_SUCCESS : checkpoint_failed(s->command);
}
