/*
 * A checkpoint of one step that takes the place of another. No two directories can change names at
 * once on every file system, so the old one is set aside first, as step_NNNNNNNN.old, where readers
 * look when the step's own name is not there or does not verify. A save that was killed on the way
 * leaves it there; the next one puts it right, and reads all of the step's own for that: nothing
 * says otherwise whether it was read back, and it may be all that the run has.
 */
#define _GNU_SOURCE
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

/* Every byte of it. PAR_ERR_FORMAT: it is damaged, or not there. */
static par_status verify(const char *path, par__pulse *pulse) {
    char *text = NULL;
    size_t nbytes;
    par_checkpoint *c = NULL;
    PAR_TRY(par__manifest_read(path, &text, &nbytes));
    par_status st = par__contents_parse(path, text, nbytes, &c);
    free(text);
    for (int rank = 0; st == PAR_OK && rank < c->n_files; rank++)
        st = par__verify_part(c, rank, pulse);
    if (st == PAR_OK) st = par__index_verify_digest(c);
    par_checkpoint_close(&c);
    return st;
}

/* The one that was set aside goes if the step's own is whole, else it gets the name again. */
static par_status settle(const char *directory, const char *aside, bool whole, par__pulse *pulse) {
    char path[PAR__PATH], name[PAR__NAME], old[PAR__PATH];
    bool there;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(aside) - strlen(PAR__ASIDE)), aside);
    PAR_TRY(par__path(path, directory, name));
    PAR_TRY(par__path(old, directory, aside));
    par_status st = whole ? PAR_OK : verify(path, pulse);
    if (st == PAR_OK) return rename_away(old, directory, name);
    if (st != PAR_ERR_FORMAT) return st; /* it could not be read: nobody knows */
    PAR_TRY(par__directory_exists(path, &there));
    if (there) PAR_TRY(rename_away(path, directory, name));
    return rename(old, path) == 0 ? PAR_OK : par__write_error(old, "renamed");
}

par_status par__settle_aside(const char *directory, const char *whole, par__pulse *pulse) {
    char aside[PAR__NAME];
    const char *name, *rest;
    DIR *d;
    for (bool found = true; found;) {
        par_status st = PAR_OK;
        found = false;
        PAR_TRY(par__list_open(directory, &d));
        while (!found && (st = par__list_next(&d, directory, &name)) == PAR_OK && name) {
            found = par__step_of(name, &rest) >= 0 && strcmp(rest, PAR__ASIDE) == 0;
            if (found) snprintf(aside, sizeof aside, "%.*s", PAR__NAME - 1, name);
        }
        if (d) closedir(d);
        PAR_TRY(st);
        bool read_back = found && whole && strncmp(aside, whole, strlen(whole)) == 0;
        if (found) PAR_TRY(settle(directory, aside, read_back, pulse));
    }
    return PAR_OK;
}
