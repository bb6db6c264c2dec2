/* An owner goes on from a checkpoint: later ones are not on its line, and are set aside. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/owner.h"

static const par_tag tag = {"owner", -1, -1, -1};

static par_status move(const char *from, const char *to) {
    bool there;
    PAR_TRY(par__directory_exists(from, &there));
    if (!there) return PAR_OK;
    return rename(from, to) == 0 ? PAR_OK : par__write_error(from, "set aside");
}

/* steps [n], newest first, all later than the one at which the run goes on: each one's own
 * checkpoint, and one that a save which was killed has left beside it. */
static par_status set_aside(const par_owner *o, const int64_t *steps, int n, int64_t from,
                            par_problems *notes) {
    char aside[PAR__PATH], newest[PAR__NAME], name[PAR__NAME], old[PAR__PATH], to[PAR__PATH];
    if (n == 0) return PAR_OK;
    PAR_TRY(par__owner_check(o->directory, o));
    int made = -1;
    for (int i = 1; made != 0; i++) {
        snprintf(name, sizeof name, "aside.%08d", i);
        PAR_TRY(par__path(aside, o->directory, name));
        made = mkdir(aside, 0777);
        if (made != 0 && errno != EEXIST) return par__write_error(aside, "made");
    }
    for (int i = 0; i < n; i++) {
        par__step_name(steps[i], name);
        PAR_TRY(par__path(old, o->directory, name));
        PAR_TRY(par__path(to, aside, name));
        PAR_TRY(move(old, to));
        PAR_TRY(par__aside_path(o->directory, steps[i], old));
        PAR_TRY(par__aside_path(aside, steps[i], to));
        PAR_TRY(move(old, to));
    }
    PAR_TRY(par__sync_directory(aside));
    PAR_TRY(par__sync_directory(o->directory));
    par__step_name(steps[0], newest);
    par__step_name(from, name);
    par_problem(notes, "set aside in %s: %d checkpoint%s later than %s, up to %s", aside, n,
                n == 1 ? "" : "s", name, newest);
    if (par__write_latest(o->directory, name) != PAR_OK) par_problem(notes, "%s", par_error());
    return PAR_OK;
}

static par_status go_on(par_owner *o, const char *path, par_problems *notes) {
    int64_t *steps = NULL;
    int n, later = 0;
    int64_t step;
    PAR_TRY(par__own_step(o->directory, path, &step));
    if (step < 0) return PAR_OK;
    PAR_TRY(par__list(o->directory, &steps, &n));
    while (later < n && steps[later] > step) later++;
    par_status st = set_aside(o, steps, later, step, notes);
    free(steps);
    return st;
}

par_status par_owner_resumed(par_comm *world, par_owner *owner, const char *path, const char *run,
                             bool goes_on, bool *own, par_problems *notes) {
    PAR_REQUIRE(world && owner && own && notes);
    par_status st = PAR_OK;
    if (!path || !run || strlen(run) >= PAR_RUN_ID)
        st = par_error_set(PAR_ERR_ARG, "a resumed run needs the checkpoint's path and run");
    PAR_TRY(par_comm_agree(world, st));
    int64_t step = -1;
    if (owner->first && goes_on) st = go_on(owner, path, notes);
    if (owner->first && st == PAR_OK) st = par__own_step(owner->directory, path, &step);
    PAR_TRY(par_comm_agree(world, st));
    int32_t inside = step >= 0;
    PAR_TRY(par_comm_broadcast(world, &inside, 1, PAR_I32, 0, tag, NULL, NULL));
    *own = inside != 0;
    if (*run) strcpy(*own ? owner->run : owner->parent, run);
    return PAR_OK;
}
