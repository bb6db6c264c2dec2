/*
 * Saving: see the order in par/checkpoint.h. It goes in stages. Each is a job of files
 * (save_jobs.c), on a thread where the caller goes on meanwhile; when the job has ended on every
 * rank, the ranks agree, so that all go on or all stop, and do what needs communication: that is
 * always the caller's thread. So is libhdf5, unless it was built for threads, as Debian's is. What
 * fails before the checkpoint has its name leaves a temporary directory, which rank 0 removes; what
 * fails later is taken back first, and an older checkpoint of the same step gets its name back.
 * From when it has been read back the checkpoint is saved: what fails then is a note.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collectives/internal.h"
#include "libpar/base/fields.h"
#include "libpar/base/flight.h"
#include "libpar/base/record.h"
#include "libpar/base/threads.h"
#include "libpar/base/utf8.h"
#include "libpar/checkpoint/save.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};

/* ---- between the jobs ---- */

/* Rank 0 gets every rank's part of the manifest. */
static par_status exchange(par__saving *s, char *mine, int64_t size, int64_t *sizes) {
    par_status bad = PAR_OK;
    PAR_TRY(par_comm_all_gather(s->world, &size, sizes, 1, PAR_I64, tag, NULL, NULL));
    for (int r = 1; s->first && r < par_comm_size(s->world); r++) {
        s->parts[r] = malloc((size_t)sizes[r]);
        if (!s->parts[r])
            bad = par_error_set(PAR_ERR_MEMORY, "no host memory for rank %d's part of the manifest",
                                r);
    }
    PAR_TRY(par_comm_agree(s->world, bad));
    if (!s->first) return par_comm_send(s->world, mine, size, PAR_U8, 0, tag, NULL, NULL);
    for (int r = 1; r < par_comm_size(s->world); r++) {
        PAR_TRY(par_comm_recv(s->world, s->parts[r], sizes[r], PAR_U8, r, tag, NULL, NULL));
        s->parts[r][sizes[r] - 1] = 0;
    }
    return PAR_OK;
}

/* Each rank's part of the manifest, with its copies behind it, to rank 0. */
static par_status gather_parts(par__saving *s) {
    int p = par_comm_size(s->world);
    char *mine = NULL;
    size_t size = 0;
    int64_t *sizes = calloc((size_t)p, sizeof *sizes);
    s->parts = calloc((size_t)p, sizeof *s->parts);
    par_status st = s->parts && sizes
                        ? PAR_OK
                        : par_error_set(PAR_ERR_MEMORY, "no host memory for %d ranks", p);
    if (st == PAR_OK) st = par__manifest_shard(&s->shard, s->runs, par_comm_rank(s->world), &mine);
    if (st == PAR_OK) st = par__copies_add(s->left_out, s->n_left_out, &mine, &size);
    st = par_comm_agree(s->world, st);
    if (st == PAR_OK) st = exchange(s, mine, (int64_t)size, sizes);
    if (st == PAR_OK && s->first) s->parts[0] = mine, mine = NULL;
    free(sizes);
    free(mine);
    return st;
}

/* Every rank's file is on the disk. */
static par_status gather(par__saving *s) {
    PAR_TRY(gather_parts(s));
    bool mine = s->first && !s->jobs_lay_out;
    return par_comm_agree(s->world, mine ? par__save_index(s) : PAR_OK);
}

static void free_parts(par__saving *s) {
    for (int r = 0; s->parts && r < par_comm_size(s->world); r++) free(s->parts[r]);
    free(s->parts);
    s->parts = NULL;
}

/* What a save finds when all data is written: whether the ranks' runs make whole tensors. */
static par_status check_runs(par__saving *s) {
    par_checkpoint *contents = NULL;
    par_status st = par_comm_agree(s->world, par__shard_declare(s->runs, s->n_runs, &s->shard));
    if (st == PAR_OK) st = gather_parts(s);
    if (st == PAR_OK)
        st = par_comm_agree(s->world, s->first ? par__save_contents(s, &contents) : PAR_OK);
    par_checkpoint_close(&contents);
    free_parts(s);
    par__shard_free(&s->shard);
    return st;
}

static par_status tell_tidies(par__saving *s) {
    return par_comm_broadcast(s->world, &s->tidies, 1, PAR_I32, 0, tag, NULL, NULL);
}

/* It also holds the other ranks until rank 0 is done. */
static par_status count(par__saving *s) {
    s->total = s->shard.nbytes;
    return par_comm_all_reduce(s->world, &s->total, &s->total, 1, PAR_I64, tag, NULL, NULL);
}

/* ---- the stages ---- */

static const struct {
    bool first_alone; /* a job of rank 0 */
    par_status (*job)(par__saving *s);
    par_status (*then)(par__saving *s); /* of all ranks together; NULL: nothing */
} stages[] = {{false, par__save_write, gather},   {true, par__save_commit, NULL},
              {false, par__save_read_back, NULL}, {true, par__save_tidy, tell_tidies},
              {false, par__save_empty, NULL},     {true, par__save_remove, count}};
/* From the beginning of stage SAVED on, the checkpoint is saved. */
enum { STAGES = sizeof stages / sizeof *stages, SAVED = 3 };

static void *run_job(void *saving) {
    par__saving *s = saving;
    s->status = stages[s->stage].job(s);
    if (s->status != PAR_OK) snprintf(s->why, sizeof s->why, "%s", par_error());
    atomic_store(&s->ended, true);
    return NULL;
}

static par__flight *flight_of(const par__saving *s) {
    return par__recorder_flight(par_transport_recorder(s->world->transport));
}

/* The stage's job: on a thread, or, where there is none to have, here. */
static void start(par__saving *s) {
    s->status = PAR_OK;
    atomic_store(&s->ended, false);
    bool mine = s->first || !stages[s->stage].first_alone;
    s->running = mine && s->background && par__thread_start(&s->thread, run_job, s) == 0;
    if (!mine) atomic_store(&s->ended, true);
    if (!mine || s->running) return;
    s->pulse.progress = &flight_of(s)->progress;
    run_job(s);
    s->pulse.progress = NULL;
}

/* Until the job has ended. Meanwhile this rank hears of peers that are gone; what the thread gets
 * done counts as this rank's progress, so that a slow disk is not taken for a rank that stands. */
static void await_job(par__saving *s) {
    par_transport *transport = s->world->transport;
    const struct timespec pause = {.tv_nsec = 500000};
    int64_t seen = -1;
    while (s->running && !atomic_load(&s->ended)) {
        if (par_transport_broken(transport) || par_transport_progress(transport) != PAR_OK)
            atomic_store(&s->pulse.stop, true);
        int64_t n = atomic_load(&s->pulse.n);
        flight_of(s)->progress += n != seen;
        seen = n;
        nanosleep(&pause, NULL);
    }
    if (s->running) pthread_join(s->thread, NULL);
    s->running = false;
}

/* Wait for the job, agree, begin the next. */
static void advance(par__saving *s) {
    await_job(s);
    par_status st = s->status == PAR_OK ? PAR_OK : par_error_set(s->status, "%s", s->why);
    st = par_comm_agree(s->world, st);
    if (st == PAR_OK && stages[s->stage].then) st = stages[s->stage].then(s);
    if (st == PAR_OK) {
        if (++s->stage < STAGES) start(s);
        return;
    }
    /* Older checkpoints may be gone where the new one is saved: then it stays. */
    if (s->stage >= SAVED && !s->params.check_only)
        st = par_error_set(st, "%s\nthe checkpoint of step %lld is saved: %s", par_error(),
                           (long long)s->params.step, s->final);
    else if (s->first)
        st = par__save_withdraw(s, st);
    s->status = st;
    snprintf(s->why, sizeof s->why, "%s", par_error());
    s->stage = STAGES;
}

/* ---- the public calls ---- */

static par_status check_pairs(const par_checkpoint_about *about) {
    PAR_REQUIRE(about->n >= 0 && (about->pairs || about->n == 0));
    for (int i = 0; i < about->n; i++) {
        const par_checkpoint_pair *p = &about->pairs[i];
        PAR_REQUIRE(p->name && p->value && (unsigned)p->class_of <= PAR_CHECKPOINT_STATED);
        if (!par__is_plain(p->name) || !par__is_plain(p->value))
            PAR_FAIL(PAR_ERR_ARG,
                     "%s: what is said of the checkpoint is not UTF-8 without control characters; "
                     "par_utf8_clean makes it so",
                     p->name);
    }
    return PAR_OK;
}

static par_status check_params(const par_checkpoint_params *p) {
    PAR_REQUIRE(p && p->directory && *p->directory);
    PAR_REQUIRE(p->step >= 0 && p->step <= PAR__STEP_MAX && p->keep >= 0 && p->consumed >= 0 &&
                p->updates >= 0 && p->keep_every >= 0 && p->keep_best >= 0 && p->n_blobs >= 0);
    PAR_TRY(check_pairs(&p->about));
    if (!isfinite(p->loss))
        PAR_FAIL(PAR_ERR_NUMERIC, "step %lld: its loss is %g: not saved, older checkpoints stay",
                 (long long)p->step, p->loss);
    return PAR_OK;
}

static void destroy(par__saving *s) {
    par__save_leave(s);
    free_parts(s);
    par__shard_free(&s->shard);
    free(s->texts);
    free(s->runs);
    free(s);
}

static par_status check_memory(const par_checkpoint_run *runs, int n) {
    for (int i = 0; i < n; i++)
        if (runs[i].staging)
            PAR_FAIL(PAR_ERR_ARG, "%s/%s: is not host memory; legal in the background: a copy",
                     runs[i].kind, runs[i].name);
    return PAR_OK;
}

/* What may fail on one rank alone; *out also then, unless the parameters are wrong or there is no
 * memory for it. */
static par_status make(par_comm *world, const par_checkpoint_params *params,
                       const par_checkpoint_run *runs, int n_runs, bool background,
                       par__saving **out) {
    PAR_REQUIRE(n_runs >= 0 && (runs || n_runs == 0));
    PAR_TRY(check_params(params));
    if (background && params->check_only)
        PAR_FAIL(PAR_ERR_ARG, "a check writes nothing in the background; legal: "
                              "par_checkpoint_save, or check_only false");
    const char *missing = par_checkpoint_missing(); /* on this rank's node */
    if (missing) PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", missing);
    par__saving *s = *out = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a save");
    s->world = world;
    s->background = background;
    s->jobs_lay_out = background && par__hdf5_for_threads();
    s->first = par_comm_rank(world) == 0;
    if (background) PAR_TRY(check_memory(runs, n_runs));
    if (background && s->first) PAR_TRY(check_memory(params->blobs, params->n_blobs));
    PAR_TRY(par__save_copy_params(s, params));
    return par__save_select(s, runs, n_runs);
}

#define ROW(type, field) PAR__FIELD(par_checkpoint_params, PAR__##type, field)
static const par__field rows[] = {
    ROW(STRING, directory),  ROW(INT32, keep),     ROW(INT64, keep_every), ROW(INT32, keep_best),
    ROW(DOUBLE, validation), ROW(INT64, step),     ROW(INT64, consumed),   ROW(INT64, updates),
    ROW(DOUBLE, loss),       ROW(BOOL, check_only)};

static par_status begin(par_comm *world, const par_checkpoint_params *params,
                        const par_checkpoint_run *runs, int n_runs, bool background,
                        par__saving **out) {
    PAR_REQUIRE(world);
    par__saving *s = NULL;
    par__lines given = {.used = 0};
    if (params) par__lines_fields(&given, rows, (int)(sizeof rows / sizeof *rows), params);
    par_status st = par_comm_same(world, make(world, params, runs, n_runs, background, &s),
                                  "the checkpoint's ", given.text);
    if (st == PAR_OK && params->check_only) st = check_runs(s);
    if (st == PAR_OK) st = par__save_begin(s);
    if (st == PAR_OK) {
        start(s);
        *out = s;
        return PAR_OK;
    }
    if (s && s->first) st = par__save_withdraw(s, st);
    if (s) destroy(s);
    return st;
}

par_status par_checkpoint_save_begin(par_comm *world, const par_checkpoint_params *params,
                                     const par_checkpoint_run *runs, int n_runs,
                                     par_checkpoint_saving **out) {
    PAR_REQUIRE(out);
    return begin(world, params, runs, n_runs, true, out);
}

par_status par_checkpoint_save_poll(par_checkpoint_saving *s, bool *ended) {
    PAR_REQUIRE(s && ended);
    if (s->stage < STAGES) {
        int32_t busy = !atomic_load(&s->ended);
        PAR_TRY(par_comm_all_reduce(s->world, &busy, &busy, 1, PAR_I32, tag, NULL, NULL));
        if (busy == 0) advance(s);
    }
    *ended = s->stage == STAGES;
    return PAR_OK;
}

par_status par_checkpoint_save_end(par_checkpoint_saving **saving, par_checkpoint_result *out) {
    PAR_REQUIRE(saving && *saving && out);
    par__saving *s = *saving;
    while (s->stage < STAGES) advance(s);
    *saving = NULL;
    par_status st = s->status;
    if (st != PAR_OK) {
        par_error_set(st, "%s", s->why);
        destroy(s);
        return st;
    }
    *out = s->result;
    if (!s->params.check_only) {
        memcpy(out->path, s->final, sizeof out->path);
        out->step = s->params.step;
        out->consumed = s->params.consumed;
        out->updates = s->params.updates;
        out->loss = s->params.loss;
        out->n_ranks = par_comm_size(s->world);
        out->nbytes = s->total;
    }
    destroy(s);
    return PAR_OK;
}

par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                               const par_checkpoint_run *runs, int n_runs,
                               par_checkpoint_result *out) {
    par__saving *s = NULL;
    PAR_REQUIRE(out);
    *out = (par_checkpoint_result){0};
    PAR_TRY(begin(world, params, runs, n_runs, false, &s));
    return par_checkpoint_save_end(&s, out);
}

const char *par_checkpoint_missing(void) {
    return par__hdf5_missing();
}
