/*
 * A checkpoint of one step that takes the place of another. No two directories can change names at
 * once on every file system, so the old one is set aside first, as step_NNNNNNNN.old, where readers
 * look when the step's own name is not there or does not verify. A save that was killed on the way
 * leaves it there; the next one puts it right.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

/* Under another name first, so that a half removed checkpoint never looks like one. */
static par_status rename_away(const char *path, const char *directory, const char *name) {
    char away[PAR__PATH], away_name[300];
    snprintf(away_name, sizeof away_name, "%.200s.tmp-aside", name);
    PAR_TRY(par__path(away, directory, away_name));
    PAR_TRY(par__remove_directory(away));
    return rename(path, away) == 0 ? PAR_OK : par__write_error(path, "renamed");
}

/* The one that was set aside goes if the step's own verifies, else it gets the name again. */
static par_status settle(const char *directory, const char *aside) {
    char path[PAR__PATH], name[PAR__NAME], old[PAR__PATH], *text = NULL;
    size_t nbytes;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(aside) - strlen(PAR__ASIDE)), aside);
    PAR_TRY(par__path(path, directory, name));
    PAR_TRY(par__path(old, directory, aside));
    par_status st = par__manifest_read(path, &text, &nbytes);
    free(text);
    if (st == PAR_OK) return rename_away(old, directory, name);
    if (st != PAR_ERR_FORMAT) return st; /* it could not be read: nobody knows */
    if (par__directory_exists(path)) PAR_TRY(rename_away(path, directory, name));
    return rename(old, path) == 0 ? PAR_OK : par__write_error(old, "renamed");
}

par_status par__settle_aside(const char *directory) {
    char name[PAR__NAME];
    for (bool found = true; found;) {
        DIR *d = opendir(directory);
        if (!d) return par__write_error(directory, "opened");
        found = false;
        for (struct dirent *e; !found && (e = readdir(d));) {
            const char *rest;
            found = par__step_of(e->d_name, &rest) >= 0 && strcmp(rest, PAR__ASIDE) == 0;
            if (found) snprintf(name, sizeof name, "%.*s", PAR__NAME - 1, e->d_name);
        }
        closedir(d);
        if (found) PAR_TRY(settle(directory, name));
    }
    return PAR_OK;
}
