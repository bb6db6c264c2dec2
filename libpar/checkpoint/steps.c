/*
 * Names below a directory of checkpoints: final ones step_NNNNNNNN, with an ending behind it those
 * set aside and temporary ones, and `latest`. Temporary ones do not count.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

enum { NAME = 13, DIGITS = 8 }; /* "step_" and eight digits */

void par__step_name(int64_t step, char out[PAR__NAME]) {
    snprintf(out, PAR__NAME, "step_%0*" PRId64, DIGITS, step);
}

int64_t par__step_of(const char *name, const char **rest) {
    int64_t step = 0;
    if (strncmp(name, "step_", 5) != 0) return -1;
    for (int i = 5; i < NAME; i++) {
        if (name[i] < '0' || name[i] > '9') return -1;
        step = 10 * step + (name[i] - '0');
    }
    *rest = name + NAME;
    return step;
}

par_status par__aside_path(const char *directory, int64_t step, char out[PAR__PATH]) {
    char name[PAR__NAME];
    par__step_name(step, name);
    return par__path(out, directory, strcat(name, PAR__ASIDE));
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
    DIR *d;
    const char *name;
    if (par__list_open(directory, &d) != PAR_OK)
        PAR_FAIL(PAR_ERR_IO, "%s; legal: a directory of checkpoints", par_error());
    while (st == PAR_OK && (st = par__list_next(&d, directory, &name)) == PAR_OK && name) {
        int64_t step = par__step_of(name, &rest);
        if (step >= 0 && (!*rest || strcmp(rest, PAR__ASIDE) == 0)) st = append(steps, n, step);
    }
    if (d) closedir(d);
    if (st != PAR_OK) {
        free(*steps);
        *steps = NULL;
        *n = 0;
        return st;
    }
    if (*n) qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
    int different = 0;
    for (int i = 0; i < *n; i++)
        if (i == 0 || (*steps)[i] != (*steps)[i - 1]) (*steps)[different++] = (*steps)[i];
    *n = different;
    return PAR_OK;
}

par_status par__same_folder(const char *a, const char *b, bool *same) {
    struct stat x, y;
    bool there;
    *same = false;
    PAR_TRY(par__look(a, true, &x, &there));
    if (there) PAR_TRY(par__look(b, true, &y, &there));
    *same = there && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
    return PAR_OK;
}

/* The folder and the last part of a path. */
static bool split(const char *path, char parent[PAR__PATH], char name[PAR__PATH]) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n >= PAR__PATH) return false;
    memcpy(parent, path, n);
    parent[n] = 0;
    char *slash = strrchr(parent, '/');
    snprintf(name, PAR__PATH, "%s", slash ? slash + 1 : parent);
    if (!slash) strcpy(parent, ".");
    if (slash) slash[slash == parent] = 0;
    return true;
}

par_status par__own_step(const char *directory, const char *path, int64_t *step) {
    char parent[PAR__PATH], name[PAR__PATH], whole[PAR__PATH];
    const char *rest = "";
    struct stat info;
    bool lies_in = false, there;
    *step = -1;
    if (!split(path, parent, name)) return PAR_OK;
    int64_t named = par__step_of(name, &rest);
    if (named < 0 || (*rest && strcmp(rest, PAR__ASIDE) != 0)) return PAR_OK;
    PAR_TRY(par__same_folder(parent, directory, &lies_in));
    if (!lies_in) return PAR_OK;
    PAR_TRY(par__path(whole, directory, name));
    PAR_TRY(par__look(whole, false, &info, &there));
    if (there && S_ISDIR(info.st_mode)) *step = named;
    return PAR_OK;
}

par_status par__write_latest(const char *directory, const char *name) {
    char path[PAR__PATH], text[PAR__NAME + 1];
    PAR_TRY(par__path(path, directory, "latest"));
    return par__replace_file(path, text, (size_t)snprintf(text, sizeof text, "%s\n", name));
}
