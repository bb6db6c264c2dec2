/* Checkpoints in a directory. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint_tool.h"

enum { MAX_PATH = 1024 };

static int newest_first(const void *a, const void *b) {
    return strcmp(*(char *const *)b, *(char *const *)a);
}

static par_status add_path(checkpoint_paths *list, const char *directory, const char *name) {
    size_t n = strlen(directory) + strlen(name) + 2;
    char **paths = realloc(list->paths, ((size_t)list->n + 1) * sizeof *paths);
    if (paths) list->paths = paths;
    char *path = paths ? malloc(n) : NULL;
    if (!path) return par_error_set(PAR_ERR_MEMORY, "no host memory for a list of checkpoints");
    snprintf(path, n, "%s%s%s", directory, *name ? "/" : "", name);
    list->paths[list->n++] = path;
    return PAR_OK;
}

par_status checkpoint_paths_find(const char *directory, checkpoint_paths *out) {
    char path[MAX_PATH];
    static const char *const files[] = {"manifest.json", "rank_00000.h5"};
    struct stat info;
    par_status st = PAR_OK;
    bool single = false; /* it is one, though it may lack the manifest */
    int n = (int)strlen(directory);
    while (n > 1 && directory[n - 1] == '/') n--;
    if (n > MAX_PATH - 32) return par_error_set(PAR_ERR_ARG, "%s: is too long", directory);
    for (int i = 0; i < 2 && !single; i++) {
        snprintf(path, sizeof path, "%.*s/%s", n, directory, files[i]);
        single = stat(path, &info) == 0;
        if (!single && errno != ENOENT && errno != ENOTDIR)
            return par_error_set(PAR_ERR_IO, "%s: cannot be looked at: %s", path, strerror(errno));
    }
    path[n] = 0;
    if (single) return add_path(out, path, "");
    DIR *d = opendir(path);
    if (!d)
        return par_error_set(PAR_ERR_IO,
                             "%s: cannot be opened: %s; legal: a directory of "
                             "checkpoints, or one of them",
                             directory, strerror(errno));
    for (struct dirent *e; st == PAR_OK && (errno = 0, e = readdir(d));) {
        /* "step_", eight digits, and nothing, or what one that was set aside has behind it */
        const char *name = e->d_name;
        bool is_step = strncmp(name, "step_", 5) == 0 && strspn(name + 5, "0123456789") == 8 &&
                       (!name[13] || strcmp(name + 13, ".old") == 0);
        if (is_step) st = add_path(out, path, name);
    }
    if (st == PAR_OK && errno)
        st = par_error_set(PAR_ERR_IO, "%s: cannot be listed: %s", directory, strerror(errno));
    closedir(d);
    if (out->n) qsort(out->paths, (size_t)out->n, sizeof *out->paths, newest_first);
    if (st == PAR_OK && out->n == 0)
        st = par_error_set(PAR_ERR_IO,
                           "%s: there is no checkpoint in it; legal: a directory that "
                           "--save made, or a checkpoint in it",
                           directory);
    return st;
}

par_status checkpoint_open_found(const char *path, par_checkpoint **out, char **damage) {
    char manifest[MAX_PATH + 64];
    struct stat info;
    snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    par_status st = stat(manifest, &info) == 0 ? par_checkpoint_open(path, NULL, out)
                                               : par_error_set(PAR_ERR_IO, "%s: cannot be read: %s",
                                                               manifest, strerror(errno));
    if (st != PAR_ERR_FORMAT && st != PAR_ERR_IO) return st;
    *damage = strdup(par_error());
    return *damage ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a message");
}

bool checkpoint_is_gone(const char *path) {
    struct stat info;
    return stat(path, &info) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

void checkpoint_paths_free(checkpoint_paths *list) {
    for (int i = 0; i < list->n; i++) free(list->paths[i]);
    free(list->paths);
    *list = (checkpoint_paths){0};
}
