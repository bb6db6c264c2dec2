/*
 * What is below a directory of checkpoints: final names step_NNNNNNNN, temporary ones with an
 * ending behind it. Only final names count; nothing is removed under a final name, it is renamed
 * first, so that a half removed checkpoint never looks like one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

enum { NAME = 13, DIGITS = 8 }; /* "step_" and eight digits */

void par__step_name(int64_t step, char out[PAR__NAME]) {
    snprintf(out, PAR__NAME, "step_%0*" PRId64, DIGITS, step);
}

/* -1: not a step's name; *rest points behind it. */
static int64_t step_of(const char *name, const char **rest) {
    int64_t step = 0;
    if (strncmp(name, "step_", 5) != 0) return -1;
    for (int i = 5; i < NAME; i++) {
        if (name[i] < '0' || name[i] > '9') return -1;
        step = 10 * step + (name[i] - '0');
    }
    *rest = name + NAME;
    return step;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

static par_status append(int64_t **steps, int *n, int64_t step) {
    if ((*n & (*n - 1)) == 0) { /* full at powers of two */
        int64_t *more = realloc(*steps, (size_t)(*n ? 2 * *n : 1) * sizeof **steps);
        if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of checkpoints");
        *steps = more;
    }
    (*steps)[(*n)++] = step;
    return PAR_OK;
}

par_status par__list(const char *directory, int64_t **steps, int *n) {
    par_status st = PAR_OK;
    const char *rest;
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(directory);
    if (!d && errno == ENOENT) return PAR_OK;
    if (!d)
        PAR_FAIL(PAR_ERR_IO, "%s: cannot be opened: %s; legal: a directory of checkpoints",
                 directory, strerror(errno));
    for (struct dirent *e; st == PAR_OK && (e = readdir(d));) {
        int64_t step = step_of(e->d_name, &rest);
        if (step >= 0 && (!*rest || strcmp(rest, PAR__ASIDE) == 0)) st = append(steps, n, step);
    }
    closedir(d);
    if (st != PAR_OK) {
        free(*steps);
        *steps = NULL;
        return st;
    }
    if (*n) qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
    int different = 0;
    for (int i = 0; i < *n; i++)
        if (i == 0 || (*steps)[i] != (*steps)[i - 1]) (*steps)[different++] = (*steps)[i];
    *n = different;
    return PAR_OK;
}

static bool verifies(const char *directory, int64_t step) {
    char name[PAR__NAME], path[PAR__PATH], *text;
    size_t nbytes;
    par__step_name(step, name);
    if (par__path(path, directory, name) != PAR_OK ||
        par__manifest_read(path, &text, &nbytes) != PAR_OK)
        return false;
    free(text);
    return true;
}

static par_status remove_step(const char *directory, int64_t step) {
    char name[PAR__NAME], path[PAR__PATH], away[PAR__PATH];
    par__step_name(step, name);
    PAR_TRY(par__path(path, directory, name));
    strcat(name, ".tmp-old");
    PAR_TRY(par__path(away, directory, name));
    PAR_TRY(par__remove_directory(away));
    if (rename(path, away) != 0) return par__write_error(path, "renamed");
    return par__remove_directory(away);
}

/* Of saves that never came to their end. */
static void remove_temporary(const char *directory, par_problems *notes) {
    char path[PAR__PATH];
    const char *rest;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (step_of(e->d_name, &rest) < 0 || strncmp(rest, ".tmp-", 5) != 0) continue;
        if (par__path(path, directory, e->d_name) != PAR_OK ||
            par__remove_directory(path) != PAR_OK)
            par_problem(notes, "%s", par_error());
    }
    if (d) closedir(d);
}

void par__prune(const char *directory, int keep, par_problems *notes) {
    int64_t *steps = NULL;
    int n = 0, good = 0;
    remove_temporary(directory, notes);
    if (keep <= 0) return;
    if (par__list(directory, &steps, &n) != PAR_OK) par_problem(notes, "%s", par_error());
    for (int i = 0; i < n; i++) {
        if (good < keep)
            good += verifies(directory, steps[i]);
        else if (remove_step(directory, steps[i]) != PAR_OK)
            par_problem(notes, "%s", par_error());
    }
    free(steps);
}
