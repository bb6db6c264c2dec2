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

#include "libpar/base/clock.h"
#include "libpar/base/fields.h"
#include "libpar/base/file.h"
#include "libpar/base/threads.h"
#include "libpar/checkpoint/owner.h"

static const par_tag tag = {"owner", -1, -1, -1};

/* ---- what holds ---- */

/* Somebody who watched may have taken it for dead: not renewed for so long, by the clock that says
 * more, as one may stand still while a machine sleeps and the other may jump. */
static bool seemed_dead(const par_owner *o) {
    double clock = par__seconds() - o->written;
    double date = 1e-9 * (double)(par__date_nanoseconds() - o->written_date);
    return (clock > date ? clock : date) >= PAR__BEATS * o->self.beat_s;
}

/*
 * The file is this one's, and no other claim is as high. One that a person has removed is made
 * again, but not one that a successor may have removed, who has ended since. A higher one is a
 * successor's, who removes this one's, or of one who sees that it was wrong and goes: which of them
 * shows within a second. With the mutex.
 */
static par_status still_holds(par_owner *o, bool *holds) {
    enum { LOOKS = 50 };
    const double pause = (o->self.beat_s < 1 ? o->self.beat_s : 1) / LOOKS;
    const struct timespec wait = {(time_t)pause, (long)(1e9 * (pause - (double)(time_t)pause))};
    char text[PAR__CLAIM_TEXT];
    par__claimant found;
    bool there;
    int number, n;
    *holds = false;
    for (int look = 0; look < LOOKS; look++) {
        PAR_TRY(par__claim_highest(o->directory, &number, &n));
        if (number == 0 && seemed_dead(o)) return PAR_OK;
        if (number == 0) PAR_TRY(par__claim_create(o->path, &o->self, holds));
        if (*holds) return PAR_OK;
        PAR_TRY(par__claim_read(o->path, &there, text, &found));
        bool own = there && strcmp(found.token, o->self.token) == 0;
        *holds = own && number <= o->number;
        if (*holds || !own) return PAR_OK;
        nanosleep(&wait, NULL);
    }
    return PAR_OK;
}

/* Who holds the directory, for a message. */
static par_status held_by_another(const char *directory) {
    char path[PAR__PATH], text[PAR__CLAIM_TEXT], who[320];
    par__claimant c;
    bool there;
    int number, n;
    PAR_TRY(par__claim_highest(directory, &number, &n));
    if (number == 0)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: this run did not renew its claim for so long that another one may have been "
                 "its owner meanwhile; nothing was saved; legal: to resume from there, or another "
                 "directory",
                 directory);
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

static par_status renew(par_owner *o) {
    /* whoever watches sees it from here on, at the earliest */
    const double begun = par__seconds();
    const int64_t begun_date = par__date_nanoseconds();
    PAR_TRY(par__claim_renew(o->path, &o->self));
    o->written = begun;
    o->written_date = begun_date;
    return PAR_OK;
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
        if (!holds || renew(o) == PAR_OK || told) continue;
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
    bool own = false;
    int64_t step = -1;
    if (p->from) PAR_TRY(par__same_folder(p->from, p->directory, &own));
    if (p->from && !own) PAR_TRY(par__own_step(p->directory, p->from, &step));
    if (own || step >= 0) return PAR_OK;
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

enum { MOST_DEAD = 64 };

/* The claims of a directory that were found dead. */
typedef struct {
    int highest, n, numbers[MOST_DEAD];
    char texts[MOST_DEAD][PAR__CLAIM_TEXT];
} dead_claims;

/* Of all claims; *alive: one is, and `who` it is. */
static par_status judge_all(const par_owner_params *p, dead_claims *dead, bool *alive,
                            par__claimant *who) {
    int n;
    char path[PAR__PATH];
    *alive = false;
    dead->n = 0;
    PAR_TRY(par__claim_highest(p->directory, &dead->highest, &n));
    if (n > MOST_DEAD)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: holds %d files of owners (owner.*); legal: to remove those whose runs have "
                 "ended, all but %d",
                 p->directory, n, MOST_DEAD);
    for (int i = dead->highest; n > 0 && i > 0 && !*alive; i--) {
        par__life life;
        bool there;
        PAR_TRY(par__claim_path(p->directory, i, path));
        PAR_TRY(par__file_exists(path, &there));
        if (!there) continue;
        n--;
        PAR_TRY(par__claim_judge(path, p, &life, dead->texts[dead->n], who));
        *alive = life == PAR__ALIVE;
        if (life == PAR__DEAD) dead->numbers[dead->n++] = i;
    }
    return PAR_OK;
}

/* Beside `o` there are dead claims alone, each as it was when it was judged. */
static par_status is_alone(const par_owner *o, const dead_claims *dead, bool *alone) {
    char path[PAR__PATH], text[PAR__CLAIM_TEXT];
    par__claimant who;
    int highest, n, same = 0;
    PAR_TRY(par__claim_highest(o->directory, &highest, &n));
    for (int i = 0; i < dead->n; i++) {
        bool there;
        PAR_TRY(par__claim_path(o->directory, dead->numbers[i], path));
        PAR_TRY(par__claim_read(path, &there, text, &who));
        same += there && strcmp(text, dead->texts[i]) == 0;
    }
    *alone = highest == o->number && n == same + 1;
    return PAR_OK;
}

/* They have names that nobody will take again. */
static void remove_dead(const par_owner *o, const dead_claims *dead) {
    char path[PAR__PATH], temporary[PAR__PATH + 8];
    for (int i = 0; i < dead->n; i++) {
        if (par__claim_path(o->directory, dead->numbers[i], path) != PAR_OK) continue;
        snprintf(temporary, sizeof temporary, "%s" PAR__TEMPORARY, path);
        unlink(temporary);
        unlink(path);
    }
}

/* Once: *mine, *alive (`who`), or neither: others were at it at the same time. */
static par_status try_to_take(par_owner *o, const par_owner_params *p, dead_claims *dead,
                              bool *mine, bool *alive, par__claimant *who) {
    *mine = false;
    PAR_TRY(judge_all(p, dead, alive, who));
    if (*alive) return PAR_OK;
    o->number = dead->highest + 1;
    PAR_TRY(par__claim_path(p->directory, o->number, o->path));
    o->written = par__seconds();
    o->written_date = par__date_nanoseconds();
    PAR_TRY(par__claim_create(o->path, &o->self, mine));
    if (!*mine) return PAR_OK;
    par_status st = is_alone(o, dead, mine);
    if (st != PAR_OK || !*mine) unlink(o->path);
    return st;
}

/* Rank 0. */
static par_status take(par_owner *o, const par_owner_params *p) {
    char who_text[320];
    par__claimant who;
    bool mine = false, alive = false;
    par_status st = PAR_OK;
    PAR_TRY(par__random_id(o->run));
    par__claimant_self(&o->self);
    PAR_TRY(par__random_id(o->self.token));
    o->self.beat_s = p->beat_s;
    PAR_TRY(par__make_directories(p->directory));
    PAR_TRY(check_checkpoints(p));
    dead_claims *dead = calloc(1, sizeof *dead);
    if (!dead) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the claims of %s", p->directory);
    for (int tries = 0; tries < 100 && st == PAR_OK && !mine && !alive; tries++)
        st = try_to_take(o, p, dead, &mine, &alive, &who);
    if (mine) remove_dead(o, dead);
    free(dead);
    if (!mine) o->path[0] = 0;
    PAR_TRY(st);
    if (!mine) {
        PAR_FAIL(PAR_ERR_IO,
                 "%s: another run is its owner (%s); legal: to wait for it, or another directory",
                 p->directory,
                 alive ? par__claimant_text(&who, who_text) : "several began at once");
    }
    PAR_TRY(renew(o)); /* as every beat does */
    /* what another run saved since the first look, before it ended */
    PAR_TRY(check_checkpoints(p));
    return start_beating(o);
}

static par_status check_params(const par_owner_params *p) {
    PAR_REQUIRE(p->directory && *p->directory && p->beat_s >= 0);
    if (strlen(p->directory) < PAR__PATH) return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG, "%s: is too long", p->directory);
}

par_status par_owner_claim(par_comm *world, const par_owner_params *params, par_owner **out) {
    PAR_REQUIRE(world && out);
    par_owner_params p = params ? *params : (par_owner_params){.directory = NULL};
    if (p.beat_s == 0) p.beat_s = 10;
    par_owner *o = calloc(1, sizeof *o);
    par_status st =
        o ? check_params(&p) : par_error_set(PAR_ERR_MEMORY, "no host memory for an owner");
    if (o) {
        pthread_mutex_init(&o->mutex, NULL);
        o->first = par_comm_rank(world) == 0;
        o->print = p.print;
        o->user = p.user;
    }
    par__lines given = {.used = 0};
    par__lines_add(&given, "directory", "%s", p.directory ? p.directory : "");
    st = par_comm_same(world, st, "the owner's ", given.text);
    if (st == PAR_OK) strcpy(o->directory, p.directory);
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
