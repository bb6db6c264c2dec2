/*
 * Ownership: see par/owner.h. Rank 0 holds the claim, and a thread of it renews the file. Whoever
 * writes to the directory looks whether the claim still holds: at every beat, before a save begins,
 * and before the new checkpoint gets its name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/base/threads.h"
#include "libpar/checkpoint/owner.h"

static const par_tag tag = {"owner", -1, -1, -1};

/* ---- what holds ---- */

/* No other claim is as high, and the file is this one's. One that a person has removed is made
 * again. With the mutex. */
static par_status still_holds(const par_owner *o, bool *holds) {
    char text[PAR__CLAIM_TEXT];
    par__claimant found;
    bool there;
    int number, n;
    *holds = false;
    PAR_TRY(par__claim_highest(o->directory, &number, &n));
    if (number == 0) return par__claim_create(o->path, &o->self, holds);
    if (number != o->number) return PAR_OK;
    PAR_TRY(par__claim_read(o->path, &there, text, &found));
    *holds = there && strcmp(found.token, o->self.token) == 0;
    return PAR_OK;
}

/* Who holds the directory, for a message. */
static par_status held_by_another(const char *directory) {
    char path[PAR__PATH], text[PAR__CLAIM_TEXT], who[320];
    par__claimant c;
    bool there;
    int number, n;
    PAR_TRY(par__claim_highest(directory, &number, &n));
    PAR_TRY(par__claim_path(directory, number, path));
    PAR_TRY(par__claim_read(path, &there, text, &c));
    PAR_FAIL(PAR_ERR_IO,
             "%s: another run is its owner (%s: %s); nothing was saved; legal: to wait for it, or "
             "another directory",
             directory, path, par__claimant_text(&c, who));
}

static par_status check_unclaimed(const char *directory) {
    char path[PAR__PATH], text[PAR__CLAIM_TEXT];
    par__claimant c;
    bool there;
    int number, n;
    PAR_TRY(par__claim_highest(directory, &number, &n));
    if (number == 0) return PAR_OK;
    PAR_TRY(par__claim_path(directory, number, path));
    PAR_TRY(par__claim_read(path, &there, text, &c));
    return !there || par__claimant_dead(&c) ? PAR_OK : held_by_another(directory);
}

par_status par__owner_check(const char *directory, const par_owner *owner) {
    bool holds;
    if (!owner) return check_unclaimed(directory);
    par_owner *o = (par_owner *)owner; /* its mutex */
    pthread_mutex_lock(&o->mutex);
    par_status st = still_holds(o, &holds);
    pthread_mutex_unlock(&o->mutex);
    PAR_TRY(st);
    return holds ? PAR_OK : held_by_another(directory);
}

/* ---- the thread ---- */

/* Whoever watches the file from another machine takes its owner for dead. */
static void tell_not_renewed(const par_owner *o) {
    char line[PAR_ERROR_NBYTES + 256];
    if (!o->print) return;
    snprintf(line, sizeof line,
             "%s; it is tried again every %g s; a run on another machine may take the directory "
             "over before it succeeds",
             par_error(), o->self.beat_s);
    o->print(o->user, line);
}

static void *beat(void *owner) {
    par_owner *o = owner;
    bool holds = true, told = false;
    struct timespec next;
    pthread_mutex_lock(&o->mutex);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!o->end && holds) {
        int64_t ns = next.tv_nsec + (int64_t)(1e9 * o->self.beat_s);
        next.tv_sec += (time_t)(ns / 1000000000);
        next.tv_nsec = (long)(ns % 1000000000);
        while (!o->end && pthread_cond_timedwait(&o->ends, &o->mutex, &next) == 0) {
        }
        if (o->end) break;
        /* what cannot be written now may be at the next beat; a save looks for itself */
        if (still_holds(o, &holds) != PAR_OK) holds = true;
        o->self.beat++;
        if (!holds || par__claim_renew(o->path, &o->self) == PAR_OK || told) continue;
        tell_not_renewed(o);
        told = true;
    }
    pthread_mutex_unlock(&o->mutex);
    return NULL;
}

static par_status start_beating(par_owner *o) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&o->ends, &attributes);
    pthread_condattr_destroy(&attributes);
    int error = par__thread_start(&o->thread, beat, o);
    o->beating = error == 0;
    if (error) PAR_FAIL(PAR_ERR_MEMORY, "no thread to renew %s: %s", o->path, strerror(error));
    return PAR_OK;
}

/* ---- claiming ---- */

static par_status check_checkpoints(const par_owner_params *p) {
    int64_t *steps = NULL;
    char newest[PAR__NAME];
    int n;
    if (p->from &&
        (par__same_folder(p->from, p->directory) || par__own_step(p->directory, p->from) >= 0))
        return PAR_OK;
    PAR_TRY(par__list(p->directory, &steps, &n));
    if (n > 0) par__step_name(steps[0], newest);
    free(steps);
    if (n == 0) return PAR_OK;
    PAR_FAIL(PAR_ERR_OPTION,
             "%s: holds %d checkpoint%s of another run, up to %s; nothing was changed; legal: to "
             "resume from there (from a step by its own name), another directory, or to move them "
             "away",
             p->directory, n, n == 1 ? "" : "s", newest);
}

/* All claims up to `highest` are dead; *alive: one is not, and `who` it is. */
static par_status judge_all(const par_owner_params *p, int *highest, bool *alive,
                            par__claimant *who) {
    int n;
    char path[PAR__PATH];
    *alive = false;
    PAR_TRY(par__claim_highest(p->directory, highest, &n));
    for (int i = *highest; n > 0 && i > 0 && !*alive; i--) {
        PAR_TRY(par__claim_path(p->directory, i, path));
        if (!par__file_exists(path)) continue;
        n--;
        *alive = par__claim_judge(path, p, who) == PAR__ALIVE;
    }
    return PAR_OK;
}

/* Those below `o`, all of them judged; a name that nobody will take again. */
static void remove_dead(const par_owner *o) {
    char path[PAR__PATH], temporary[PAR__PATH + 8];
    int highest, n;
    if (par__claim_highest(o->directory, &highest, &n) != PAR_OK) return;
    for (int i = o->number - 1; n > 1 && i > 0; i--) {
        if (par__claim_path(o->directory, i, path) != PAR_OK || !par__file_exists(path)) continue;
        snprintf(temporary, sizeof temporary, "%s" PAR__TEMPORARY, path);
        unlink(temporary);
        unlink(path);
        n--;
    }
}

/* Once: *mine, *alive (`who`), or neither: others were at it at the same time. */
static par_status try_to_take(par_owner *o, const par_owner_params *p, bool *mine, bool *alive,
                              par__claimant *who) {
    int highest, now, n, before;
    *mine = false;
    PAR_TRY(judge_all(p, &highest, alive, who));
    if (*alive) return PAR_OK;
    PAR_TRY(par__claim_highest(p->directory, &now, &before));
    if (now != highest && now != 0) return PAR_OK;
    o->number = highest + 1;
    PAR_TRY(par__claim_path(p->directory, o->number, o->path));
    PAR_TRY(par__claim_create(o->path, &o->self, mine));
    if (!*mine) return PAR_OK;
    PAR_TRY(par__claim_highest(p->directory, &now, &n));
    *mine = now == o->number && n <= before + 1;
    if (!*mine) unlink(o->path);
    return PAR_OK;
}

/* Rank 0. */
static par_status take(par_owner *o, const par_owner_params *p) {
    char who_text[320];
    par__claimant who;
    bool mine = false, alive = false;
    PAR_TRY(par__random_id(o->run));
    par__claimant_self(&o->self);
    PAR_TRY(par__random_id(o->self.token));
    o->self.beat_s = p->beat_s;
    PAR_TRY(par__make_directories(p->directory));
    PAR_TRY(check_checkpoints(p));
    for (int tries = 0; tries < 100 && !mine && !alive; tries++)
        PAR_TRY(try_to_take(o, p, &mine, &alive, &who));
    if (!mine) {
        o->path[0] = 0;
        PAR_FAIL(PAR_ERR_IO,
                 "%s: another run is its owner (%s); legal: to wait for it, or another directory",
                 p->directory,
                 alive ? par__claimant_text(&who, who_text) : "several began at once");
    }
    remove_dead(o);
    PAR_TRY(par__claim_renew(o->path, &o->self)); /* as every beat does */
    /* what another run saved since the first look, before it ended */
    PAR_TRY(check_checkpoints(p));
    return start_beating(o);
}

par_status par_owner_claim(par_comm *world, const par_owner_params *params, par_owner **out) {
    PAR_REQUIRE(world && params && out && params->directory && *params->directory &&
                params->beat_s >= 0);
    par_owner_params p = *params;
    if (p.beat_s == 0) p.beat_s = 10;
    par_owner *o = calloc(1, sizeof *o);
    par_status st = o ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for an owner");
    if (o) {
        pthread_mutex_init(&o->mutex, NULL);
        o->first = par_comm_rank(world) == 0;
        o->print = p.print;
        o->user = p.user;
        if (snprintf(o->directory, sizeof o->directory, "%s", p.directory) >= PAR__PATH)
            st = par_error_set(PAR_ERR_ARG, "%s: is too long", p.directory);
    }
    st = par_comm_agree(world, st);
    if (st == PAR_OK) st = par_comm_agree(world, o->first ? take(o, &p) : PAR_OK);
    if (st == PAR_OK)
        st = par_comm_broadcast(world, o->run, sizeof o->run, PAR_U8, 0, tag, NULL, NULL);
    if (st != PAR_OK) {
        par_owner_release(&o);
        return st;
    }
    *out = o;
    return PAR_OK;
}

void par_owner_release(par_owner **owner) {
    if (!owner || !*owner) return;
    par_owner *o = *owner;
    char why[PAR_ERROR_NBYTES];
    snprintf(why, sizeof why, "%s", par_error());
    if (o->beating) {
        pthread_mutex_lock(&o->mutex);
        o->end = true;
        pthread_cond_signal(&o->ends);
        pthread_mutex_unlock(&o->mutex);
        pthread_join(o->thread, NULL);
        pthread_cond_destroy(&o->ends);
    }
    bool holds = false; /* the file is this one's still */
    if (*o->path && still_holds(o, &holds) == PAR_OK && holds) unlink(o->path);
    pthread_mutex_destroy(&o->mutex);
    free(o);
    *owner = NULL;
    par_error_set(PAR_OK, "%s", why); /* the caller's message stays */
}

const char *par_owner_run(const par_owner *owner) {
    return owner->run;
}

const char *par_owner_parent(const par_owner *owner) {
    return owner->parent;
}
