/*
 * Which checkpoints stay. What goes is of the owner's own run, older than the checkpoint that was
 * just read back, and verifies: whatever else lies in the directory is not touched. Nothing is
 * removed under a final name: rank 0 gives it a temporary one first, so that a half removed
 * checkpoint never looks like one; then every rank removes its part of the files, since large ones
 * take a while, and rank 0 what is left.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

/* What a manifest says of its checkpoint. */
typedef struct {
    int64_t step;
    bool own, best;
    double validation; /* 0: not known */
} entry;

/* PAR_ERR_FORMAT: it is not there, or does not verify. */
static par_status look(const par_checkpoint_params *p, int64_t step, entry *out) {
    char name[PAR__NAME], path[PAR__PATH], *text;
    const char *own = p->owner ? par_owner_run(p->owner) : "";
    par_checkpoint *head = NULL;
    size_t nbytes;
    *out = (entry){.step = step};
    par__step_name(step, name);
    PAR_TRY(par__path(path, p->directory, name));
    PAR_TRY(par__manifest_read(path, &text, &nbytes));
    /* one that verifies and cannot be parsed is of a later version: somebody else's */
    par_status st = par__contents_parse_head(path, text, nbytes, &head);
    if (st == PAR_OK) {
        /* not what is linked from here: that lies elsewhere, and is kept there */
        int64_t here;
        st = par__own_step(p->directory, path, &here);
        out->own = strcmp(head->info.run, own) == 0 && here >= 0;
        out->validation = head->info.validation;
    }
    par_checkpoint_close(&head);
    free(text);
    return st == PAR_ERR_MEMORY || st == PAR_ERR_IO ? st : PAR_OK;
}

par_status par__check_replaced(const par_checkpoint_params *p) {
    entry e;
    par_status st = look(p, p->step, &e);
    if (st == PAR_ERR_FORMAT) return PAR_OK;
    PAR_TRY(st);
    if (e.own) return PAR_OK;
    PAR_FAIL(PAR_ERR_IO,
             "%s: its checkpoint of step %lld is another run's, and is not replaced; legal: "
             "another directory",
             p->directory, (long long)p->step);
}

/* Of those with a validation loss, the `n` lowest; of equal ones, the newest. */
static void choose_best(entry *entries, int n_entries, int n) {
    for (int k = 0; k < n; k++) {
        entry *best = NULL;
        for (entry *e = entries; e < entries + n_entries; e++)
            if (e->own && !e->best && e->validation > 0 &&
                (!best || e->validation < best->validation))
                best = e;
        if (!best) return;
        best->best = true;
    }
}

static par_status rename_step(const char *directory, int64_t step) {
    char name[PAR__NAME], path[PAR__PATH], away[PAR__PATH];
    par__step_name(step, name);
    PAR_TRY(par__path(path, directory, name));
    strcat(name, ".tmp-old");
    PAR_TRY(par__path(away, directory, name));
    PAR_TRY(par__remove_directory(away));
    return rename(path, away) == 0 ? PAR_OK : par__write_error(path, "renamed");
}

/* The path of the next temporary directory; false: there is none. Not `all`: of checkpoints that a
 * save renamed, none in which one may be writing. */
static bool next_temporary(DIR **d, const char *directory, bool all, char path[PAR__PATH]) {
    const char *rest, *name;
    while (par__list_next(d, directory, &name) == PAR_OK && name) {
        if (par__step_of(name, &rest) < 0 || strncmp(rest, ".tmp-", 5) != 0) continue;
        if (!all && strcmp(rest, ".tmp-old") != 0 && strcmp(rest, ".tmp-aside") != 0) continue;
        if (par__path(path, directory, name) == PAR_OK) return true;
    }
    return false;
}

void par__empty_renamed(const char *directory, int rank, int n_ranks) {
    char path[PAR__PATH], name[PAR__NAME];
    DIR *d = opendir(directory);
    while (next_temporary(&d, directory, false, path)) {
        int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        for (int k = rank, gone = folder >= 0; gone; k += n_ranks) {
            par__shard_name(k, name);
            gone = unlinkat(folder, name, 0) == 0;
        }
        if (folder >= 0) close(folder);
    }
}

void par__remove_temporary(const char *directory, bool all, par_problems *notes) {
    char path[PAR__PATH];
    DIR *d = opendir(directory);
    while (next_temporary(&d, directory, all, path))
        if (par__remove_directory(path) != PAR_OK) par_problem(notes, "%s", par_error());
}

void par__prune(const par_checkpoint_params *p, par_problems *notes) {
    int64_t *steps = NULL;
    int n = 0, n_entries = 0;
    if (p->keep <= 0) return;
    if (par__list(p->directory, &steps, &n) != PAR_OK) par_problem(notes, "%s", par_error());
    entry *entries = calloc((size_t)n + 1, sizeof *entries);
    if (!entries) par_problem(notes, "no host memory for a list of checkpoints: none is removed");
    for (int i = 0; entries && i < n; i++)
        if (steps[i] <= p->step && look(p, steps[i], &entries[n_entries]) == PAR_OK) n_entries++;
    if (entries) choose_best(entries, n_entries, p->keep_best);
    /* Newest first, up to the one that was just saved. */
    for (int i = 0, n_own = 0; i < n_entries; i++) {
        const entry *e = &entries[i];
        if (!e->own || n_own++ < p->keep || e->step == p->step || e->best ||
            (p->keep_every > 0 && e->step % p->keep_every == 0))
            continue;
        if (rename_step(p->directory, e->step) != PAR_OK) par_problem(notes, "%s", par_error());
    }
    free(entries);
    free(steps);
}
