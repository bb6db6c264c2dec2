/*
 * The trainer's state as runs of a checkpoint. Each dp rank stores its part of every bucket, with
 * and without ZeRO, so that every dp rank's copy is stored once, and loads such a part of its own
 * layout; copies along tp and tied weights on two stages are stored by the rank that counts. After
 * loading, the parts are gathered over dp as in a step. In fp32 the weights are the master: a run
 * of another type takes the one for the other. The loss scaler's state is rank 0's, as it is the
 * same on every rank; the text of what the backend timed and chose is each rank's own. A trainer
 * for inference takes weights and choices.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_about.h"
#include "libpar/base/threads.h"

typedef par_status visit_fn(void *user, const par_checkpoint_run *run);

/* One array of a segment. */
static par_status offer(const par_trainer *t, const par__segment *s, const char *kind,
                        const char *instead, par_dtype dtype, void *data, visit_fn *visit,
                        void *user) {
    const par_param *p = s->param;
    par_checkpoint_run run = {.kind = kind,
                              .name = p->name,
                              .dtype = dtype,
                              .n = s->n,
                              .data = data,
                              .staging = t->host.staging ? &t->host.checkpoint : NULL,
                              .ndim = p->ndim,
                              .first = s->first,
                              .replica = p->replica,
                              .instead = instead};
    memcpy(run.global, p->global, sizeof run.global);
    memcpy(run.offset, p->offset, sizeof run.offset);
    memcpy(run.extent, p->extent, sizeof run.extent);
    memcpy(run.local, p->local, sizeof run.local);
    return visit(user, &run);
}

/* While measuring, the same runs without their data. */
static par_status each_run(const par_trainer *t, visit_fn *visit, void *user) {
    const par__flat *f = &t->flat;
    bool trains = !t->on.params.inference, adam = t->on.params.optimizer == PAR_ADAMW;
    for (par__segment s = par__segments(f, PAR__SHARD); par__segment_next(&s);) {
        PAR_TRY(offer(t, &s, "weight", "master", f->dtype, s.weight, visit, user));
        if (!trains) continue;
        if (f->dtype != PAR_F32)
            PAR_TRY(offer(t, &s, "master", "weight", PAR_F32, s.master, visit, user));
        PAR_TRY(offer(t, &s, "m", NULL, PAR_F32, s.m, visit, user));
        if (adam) PAR_TRY(offer(t, &s, "v", NULL, PAR_F32, s.v, visit, user));
    }
    const int copy = t->on.mesh->rank > 0;
    const par_checkpoint_run blobs[] = {{.kind = "backend",
                                         .name = "choices",
                                         .dtype = PAR_U8,
                                         .n = sizeof t->choices,
                                         .data = (void *)t->choices,
                                         .optional = true},
                                        {.kind = "scaler",
                                         .name = "loss scale",
                                         .dtype = PAR_U8,
                                         .n = sizeof t->vote.scaler,
                                         .data = (void *)&t->vote.scaler,
                                         .replica = copy},
                                        {.kind = "scaler",
                                         .name = "precision",
                                         .dtype = PAR_I32,
                                         .n = 1,
                                         .data = (void *)&t->stored_dtype,
                                         .replica = copy,
                                         .optional = true}};
    const int n = t->on.params.inference ? 1 : 3; /* it scales no loss */
    for (int i = 0; i < n; i++) PAR_TRY(visit(user, &blobs[i]));
    return PAR_OK;
}

par_status par_trainer_state_runs(const par_trainer *t, visit_fn *visit, void *user) {
    PAR_REQUIRE(t && visit);
    PAR_TRY(par__no_step_begun(&t->vote));
    return each_run(t, visit, user);
}

/* The run that saved chose so: the same bits need the same choices. Those of another device are of
 * no use here. */
static par_status take_choices(par_trainer *t, par_problems *notes) {
    t->choices[sizeof t->choices - 1] = 0;
    if (!*t->choices || !t->on.backend->choose) return PAR_OK;
    if (strcmp(t->choices, t->on.backend->choices()) == 0) return PAR_OK;
    par_status st = t->on.backend->choose(t->choices);
    if (st != PAR_ERR_OPTION) return st;
    par_problem(notes, "the choices timed by the run that saved are not taken: %s", par_error());
    return PAR_OK;
}

typedef struct {
    par_checkpoint_run *runs;
    int n, max;
} list;

static par_status append(void *user, const par_checkpoint_run *run) {
    list *l = user;
    if (l->n == l->max) {
        int max = l->max ? 2 * l->max : 64;
        par_checkpoint_run *runs = realloc(l->runs, (size_t)max * sizeof *runs);
        if (!runs) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %d arrays", max);
        l->runs = runs;
        l->max = max;
    }
    l->runs[l->n++] = *run;
    return PAR_OK;
}

/* All runs and pairs of this trainer. */
static par_status describe(const par_trainer *t, const par_checkpoint_about *given, list *l,
                           par__about **about) {
    par_status st = par__about_make(t, given, about);
    if (st == PAR_OK) st = each_run(t, append, l);
    return par_comm_agree(t->on.mesh->world, st);
}

/* What a save is about, the same for both kinds of it; after an error nothing is to be freed. */
typedef struct {
    list runs;
    par__about *about;
    par_checkpoint_params params;
} state;

static void free_state(state *s) {
    free(s->about);
    free(s->runs.runs);
    *s = (state){0};
}

static par_status take_state(par_trainer *t, const par_checkpoint_params *params, state *out) {
    *out = (state){.params = *params};
    t->stored_dtype = (int32_t)t->on.params.dtype;
    memset(t->choices, 0, sizeof t->choices); /* empty where the backend times nothing */
    if (t->on.backend->choices)
        snprintf(t->choices, sizeof t->choices, "%s", t->on.backend->choices());
    par_status st = describe(t, &params->about, &out->runs, &out->about);
    if (st != PAR_OK) {
        free_state(out);
        return st;
    }
    out->params.consumed = t->vote.consumed;
    out->params.updates = t->vote.updates;
    out->params.about = out->about->about;
    return PAR_OK;
}

/* The same on all ranks. One save at a time: its end removes what others have begun. */
static par_status check_ready(const par_trainer *t, bool check_only) {
    PAR_TRY(par__no_step_begun(&t->vote));
    if (!check_only) PAR_TRY(par__trainer_ready(t, PAR__TRAINS));
    if (t->saving) PAR_FAIL(PAR_ERR_ARG, "a save is under way; legal after par_trainer_save_end");
    return PAR_OK;
}

par_status par_trainer_save(par_trainer *t, const par_checkpoint_params *params,
                            par_checkpoint_result *out) {
    state s;
    PAR_REQUIRE(t && params && out);
    PAR_TRY(check_ready(t, params->check_only));
    par__enter(&t->on, PAR__PHASE_SAVE);
    par_status st = take_state(t, params, &s);
    if (st == PAR_OK) {
        st = par_checkpoint_save(t->on.mesh->world, &s.params, s.runs.runs, s.runs.n, out);
        free_state(&s);
    }
    return par__leave(&t->on, "save", st);
}

/* ---- in the background ---- */

static size_t nbytes_of(const par_checkpoint_run *run) {
    return (size_t)run->n * par_dtype_nbytes(run->dtype);
}

/* Of what is stored, each at a line of the cache. */
static size_t room_of(const par_checkpoint_run *run) {
    return run->replica == 0 ? (nbytes_of(run) + 63) / 64 * 64 : 0;
}

static par_status add_room(void *user, const par_checkpoint_run *run) {
    *(size_t *)user += room_of(run);
    return PAR_OK;
}

par_status par__trainer_take_copy(par_trainer *t) {
    void *room = NULL;
    if (t->on.params.inference || t->on.params.save_memory == 0) return PAR_OK;
    PAR_TRY(each_run(t, add_room, &t->copy.nbytes));
    if (t->copy.nbytes > t->on.params.save_memory) return PAR_OK;
    PAR_TRY(
        par_memory_take(t->on.memory, PAR_MEM_DATA, "copy for checkpoints", t->copy.nbytes, &room));
    t->copy.room = room;
    return PAR_OK;
}

bool par_trainer_saves_behind(const par_trainer *t, size_t *nbytes) {
    *nbytes = t->copy.nbytes;
    return t->copy.room != NULL;
}

typedef struct {
    char *to;
    const char *from;
    size_t nbytes;
} host_copy;

enum { COPY_PIECE = 1 << 20 };

static void copy_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const host_copy *c = user;
    (void)slot;
    for (int64_t i = begin; i < end; i++) {
        size_t at = (size_t)i * COPY_PIECE, rest = c->nbytes - at;
        memcpy(c->to + at, c->from + at, rest < COPY_PIECE ? rest : COPY_PIECE);
    }
}

/* The runs' data is the copy's afterwards. From a device all of it is under way at once. */
static par_status copy_state(par_trainer *t, list *l) {
    char *to = t->copy.room;
    for (int i = 0; i < l->n; i++) {
        par_checkpoint_run *run = &l->runs[i];
        if (run->replica != 0) continue;
        if (run->staging)
            PAR_TRY(t->on.backend->copy(t->on.stream, to, run->data, nbytes_of(run)));
        else
            par__threads_run((int64_t)(nbytes_of(run) + COPY_PIECE - 1) / COPY_PIECE,
                             PAR_MAX_THREADS, copy_pieces,
                             &(host_copy){to, run->data, nbytes_of(run)});
        run->data = to;
        run->staging = NULL;
        to += room_of(run);
    }
    return par__sync(&t->on);
}

par_status par_trainer_save_begin(par_trainer *t, const par_checkpoint_params *params) {
    state s;
    PAR_REQUIRE(t && params && !params->check_only);
    PAR_TRY(check_ready(t, false));
    par_status st =
        t->copy.room ? PAR_OK
                     : par_error_set(PAR_ERR_ARG,
                                     "a copy of the state takes %zu bytes; save_memory allows %zu",
                                     t->copy.nbytes, t->on.params.save_memory);
    PAR_TRY(par_comm_agree(t->on.mesh->world, st));
    par__enter(&t->on, PAR__PHASE_SAVE);
    st = take_state(t, params, &s);
    if (st == PAR_OK) {
        st = par__fatal(&t->on, copy_state(t, &s.runs));
        if (st == PAR_OK)
            st = par_checkpoint_save_begin(t->on.mesh->world, &s.params, s.runs.runs, s.runs.n,
                                           &t->saving);
        free_state(&s);
    }
    return par__leave(&t->on, "save", st);
}

par_status par_trainer_save_poll(par_trainer *t, bool *ended) {
    PAR_REQUIRE(t && ended);
    *ended = true;
    if (!t->saving) return PAR_OK;
    par__enter(&t->on, PAR__PHASE_SAVE);
    return par__leave(&t->on, "save", par_checkpoint_save_poll(t->saving, ended));
}

par_status par_trainer_save_end(par_trainer *t, par_checkpoint_result *out) {
    PAR_REQUIRE(t && out);
    if (!t->saving) PAR_FAIL(PAR_ERR_ARG, "no save is under way");
    par__enter(&t->on, PAR__PHASE_SAVE);
    return par__leave(&t->on, "save", par_checkpoint_save_end(&t->saving, out));
}

/* ---- resuming ---- */

/* The stored state of the loss scaler goes on if it is one of this precision and these options;
 * else the scale begins anew, and what was skipped still counts. */
static par_status take_scaler(par_trainer *t, const par_scaler *before, par_problems *notes) {
    const par_scaler stored = t->vote.scaler;
    t->vote.scaler = *before;
    if (t->stored_dtype == (int32_t)t->on.params.dtype &&
        par__vote_set_scaler(&t->vote, &stored) == PAR_OK)
        return PAR_OK;
    par_scaler anew;
    par_scaler_init(&t->on.params.scaler, &anew);
    anew.skipped = stored.skipped > 0 ? stored.skipped : 0;
    if (t->on.params.dtype == PAR_F16)
        par_problem(notes, "state of the loss scale: was %g, begins anew with %g", stored.scale,
                    anew.scale);
    return par__vote_set_scaler(&t->vote, &anew);
}

par_status par_trainer_resume(par_trainer *t, const char *directory,
                              const par_checkpoint_about *given, par_checkpoint_result *out) {
    list l = {0};
    par__about *about = NULL;
    PAR_REQUIRE(t && directory && given && out);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__fatal(&t->on, par__buckets_settle(&t->buckets)));
    const par_scaler before = t->vote.scaler;
    t->stored_dtype = (int32_t)t->on.params.dtype;
    memset(t->choices, 0, sizeof t->choices);
    par__enter(&t->on, PAR__PHASE_LOAD);
    par_status st = describe(t, given, &l, &about);
    if (st == PAR_OK) {
        about->about.overwrite = !t->has_weights;
        st = par_checkpoint_load(t->on.mesh->world, directory, &about->about, l.runs, l.n, out);
    }
    free(about);
    free(l.runs);
    if (st != PAR_OK && !t->has_weights) { /* what was overwritten is as it was made */
        t->vote.scaler = before;
        (void)par__trainer_zero_moments(t);
    }
    (void)par__leave(&t->on, "load", st);
    if (st != PAR_OK || !*out->path) return st;
    st = take_scaler(t, &before, &out->notes);
    par__vote_restart(&t->vote, out->consumed, out->updates);
    bool same_ranks = out->n_ranks == par_comm_size(t->on.mesh->world);
    if (st == PAR_OK && same_ranks) st = take_choices(t, &out->notes);
    PAR_TRY(par_comm_agree(t->on.mesh->world, st));
    PAR_TRY(par__fatal(&t->on, par__buckets_share(&t->buckets)));
    t->has_weights = true;
    return PAR_OK;
}
