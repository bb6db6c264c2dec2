/*
 * Loading: rank 0 looks for the newest checkpoint whose manifest verifies and hands the manifest to
 * all; every rank verifies the blocks that its runs need; only when all agree is anything read into
 * memory, unless the caller lets it be overwritten. If one is damaged the next older one is tried,
 * and the result's notes say why. A file that cannot be read is an error: it says nothing of what
 * is in it. Where a run goes on beside this one and removes its older checkpoints, what went since
 * the directory was listed is no error: it is listed again.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/fields.h"
#include "libpar/base/file.h"
#include "libpar/checkpoint/plan.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};
static const size_t default_memory = (size_t)1 << 30;

typedef struct {
    par_comm *world;
    const char *directory;
    const par_checkpoint_about *about;
    const par_checkpoint_run *runs;
    int n_runs, rank;
    bool single;    /* directory is one checkpoint */
    int64_t *steps; /* rank 0: those there are, newest first */
    int n_steps;
    int next;   /* of twice as many candidates: each step's, and the one that was set aside */
    char *text; /* manifest */
    size_t nbytes;
    char path[PAR__PATH];
} loading;

static par_status look(loading *l) {
    char path[PAR__PATH];
    PAR_TRY(par__path(path, l->directory, "manifest.json"));
    PAR_TRY(par__file_exists(path, &l->single));
    if (!l->single) return par__list(l->directory, &l->steps, &l->n_steps);
    l->n_steps = 1;
    return PAR_OK;
}

static void note(par_problems *notes) {
    par_problem(notes, "passed over: %s", par_error());
}

/* Rank 0: the next one whose manifest verifies, or l->text = NULL. */
static par_status find(loading *l, par_problems *notes) {
    while (l->next < 2 * l->n_steps) {
        int number = l->next++;
        if (l->single) {
            if (number > 0) continue;
            if (snprintf(l->path, PAR__PATH, "%s", l->directory) >= PAR__PATH)
                PAR_FAIL(PAR_ERR_ARG, "%s: is too long", l->directory);
        } else {
            char name[PAR__NAME];
            int64_t step = l->steps[number / 2];
            par__step_name(step, name);
            PAR_TRY(number % 2 ? par__aside_path(l->directory, step, l->path)
                               : par__path(l->path, l->directory, name));
            bool there;
            PAR_TRY(par__directory_exists(l->path, &there));
            if (!there) continue;
        }
        par_status st = par__manifest_read(l->path, &l->text, &l->nbytes);
        if (st != PAR_ERR_FORMAT) return st;
        note(notes);
    }
    return PAR_OK;
}

/* Rank 0's path and manifest to all. */
static par_status spread(loading *l) {
    int64_t size = l->text ? (int64_t)l->nbytes : -1;
    par_status st = PAR_OK;
    PAR_TRY(par_comm_broadcast(l->world, &size, 1, PAR_I64, 0, tag, NULL, NULL));
    if (size < 0) return PAR_OK;
    PAR_TRY(par_comm_broadcast(l->world, l->path, sizeof l->path, PAR_U8, 0, tag, NULL, NULL));
    if (l->rank != 0) {
        l->nbytes = (size_t)size;
        l->text = malloc(l->nbytes + 1);
        if (!l->text)
            st = par_error_set(PAR_ERR_MEMORY, "no host memory for a manifest of %zu bytes",
                               l->nbytes);
    }
    PAR_TRY(par_comm_agree(l->world, st));
    return par_comm_broadcast(l->world, l->text, size, PAR_U8, 0, tag, NULL, NULL);
}

static par_status check_memory(const loading *l, size_t takes) {
    size_t most = l->about->memory ? l->about->memory : default_memory;
    if (takes <= most) return PAR_OK;
    PAR_FAIL(PAR_ERR_OPTION,
             "%s: loading takes %.1f MiB of host memory on rank %d beside its arrays; allowed "
             "are %.1f MiB",
             l->path, (double)takes / 1048576, l->rank, (double)most / 1048576);
}

/* The manifest, twice, and what its longest line becomes while it is parsed: objects in memory that
 * take up to 16 times its bytes. */
static size_t memory_to_parse(const loading *l) {
    enum { PER_BYTE = 16 };
    size_t longest = 0;
    for (size_t at = 0; at < l->nbytes;) {
        const char *end = memchr(l->text + at, '\n', l->nbytes - at);
        size_t n = end ? (size_t)(end - l->text) + 1 - at : l->nbytes - at;
        if (n > longest) longest = n;
        at += n;
    }
    return 2 * l->nbytes + PER_BYTE * longest;
}

/* Do the pairs allow it, does it have all runs, is there enough memory, and are the blocks whole?
 * The manifest's text is not needed once it is parsed; all ranks have it until then. */
static par_status verify(const loading *l, par_checkpoint **c, par__plan *plan,
                         par_checkpoint_result *out) {
    size_t to_parse = memory_to_parse(l);
    par_problems refused = {0}, ignored = {0};
    PAR_TRY(check_memory(l, to_parse));
    PAR_TRY(par__contents_parse(l->path, l->text, l->nbytes, c));
    par__contents_compare(*c, l->about, &refused, l->rank == 0 ? &out->notes : &ignored);
    PAR_TRY(par_problems_status(&refused, PAR_ERR_OPTION));
    PAR_TRY(
        par__plan_make(*c, l->runs, l->n_runs, l->rank, par_comm_size(l->world), &refused, plan));
    PAR_TRY(par_problems_status(&refused, PAR_ERR_OPTION));
    plan->overwrite = l->about->overwrite;
    out->memory = l->nbytes + par__plan_memory(plan);
    if (out->memory < to_parse) out->memory = to_parse;
    PAR_TRY(check_memory(l, out->memory));
    return par__plan_verify(plan, &out->nbytes);
}

/* Of all ranks: bytes read in sum, the most memory. */
static par_status sum_up(const loading *l, par_checkpoint_result *out) {
    int p = par_comm_size(l->world);
    int64_t *sizes = calloc((size_t)p, sizeof *sizes), memory = (int64_t)out->memory;
    par_status st = par_comm_agree(
        l->world,
        sizes ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d numbers", p));
    if (st == PAR_OK)
        st = par_comm_all_gather(l->world, &memory, sizes, 1, PAR_I64, tag, NULL, NULL);
    for (int r = 0; st == PAR_OK && r < p; r++)
        if (sizes[r] > memory) memory = sizes[r];
    free(sizes);
    out->memory = (size_t)memory;
    PAR_TRY(st);
    return par_comm_all_reduce(l->world, &out->nbytes, &out->nbytes, 1, PAR_I64, tag, NULL, NULL);
}

/* Notes of a checkpoint that is then passed over go with it. */
static par_status try_one(loading *l, par_checkpoint_result *out) {
    par_checkpoint *c = NULL;
    par__plan plan = {0};
    int notes = out->notes.n;
    size_t text = strlen(out->notes.text);
    par_status st = par_comm_agree(l->world, verify(l, &c, &plan, out));
    if (st != PAR_OK) {
        out->notes.n = notes;
        out->notes.text[text] = 0;
    } else {
        st = par_comm_agree(l->world, par__plan_fill(&plan));
        /* Memory may hold half of it: there is nothing to fall back to. */
        if (st == PAR_ERR_FORMAT)
            st = par_error_set(PAR_ERR_INTERNAL, "%s: changed while it was read", par_error());
        if (st == PAR_OK) st = sum_up(l, out);
    }
    if (st == PAR_OK) {
        memcpy(out->path, c->info.path, sizeof out->path);
        out->step = c->info.step;
        out->consumed = c->info.consumed;
        out->updates = c->info.updates;
        out->loss = c->info.loss;
        out->validation = c->info.validation;
        memcpy(out->run, c->info.run, sizeof out->run);
        memcpy(out->parent, c->info.parent, sizeof out->parent);
        out->n_ranks = c->info.n_ranks;
    }
    par__plan_free(&plan);
    par_checkpoint_close(&c);
    return st;
}

/* Rank 0: one of those that were listed is not there any more. */
static bool any_is_gone(const loading *l) {
    char name[PAR__NAME], path[PAR__PATH], aside[PAR__PATH];
    bool gone = false;
    for (int i = 0; i < l->n_steps && !l->single && !gone; i++) {
        bool own, old;
        par__step_name(l->steps[i], name);
        gone = par__path(path, l->directory, name) == PAR_OK &&
               par__aside_path(l->directory, l->steps[i], aside) == PAR_OK &&
               par__directory_exists(path, &own) == PAR_OK && !own &&
               par__directory_exists(aside, &old) == PAR_OK && !old;
    }
    return gone;
}

static void forget(loading *l) {
    free(l->text);
    free(l->steps);
    l->text = NULL;
    l->steps = NULL;
    l->n_steps = l->next = 0;
}

static par_status load_listed(loading *l, par_checkpoint_result *out) {
    PAR_TRY(par_comm_agree(l->world, l->rank == 0 ? look(l) : PAR_OK));
    for (;;) {
        PAR_TRY(par_comm_agree(l->world, l->rank == 0 ? find(l, &out->notes) : PAR_OK));
        PAR_TRY(spread(l));
        if (!l->text) {
            bool bad = l->rank == 0 && l->n_steps > 0;
            return par_comm_agree(l->world,
                                  bad ? par_error_set(PAR_ERR_FORMAT,
                                                      "%s: no checkpoint in it verifies\n%s",
                                                      l->directory, out->notes.text)
                                      : PAR_OK);
        }
        par_status st = try_one(l, out);
        if (st != PAR_ERR_FORMAT) return st;
        if (l->rank == 0) note(&out->notes);
        free(l->text);
        l->text = NULL;
    }
}

static par_status load(loading *l, par_checkpoint_result *out) {
    enum { LOOKS = 10 };
    bool touched = false; /* memory may hold half of one */
    for (int i = 1;; i++) {
        par_status st = load_listed(l, out);
        touched = touched || st == PAR_ERR_INTERNAL;
        if (touched && st == PAR_ERR_FORMAT)
            st = par_error_set(PAR_ERR_INTERNAL, "%s", par_error());
        bool unread = st == PAR_ERR_FORMAT || st == PAR_ERR_IO || st == PAR_ERR_INTERNAL;
        if (!unread || i == LOOKS) return st; /* the same on all ranks */
        int32_t again = l->rank == 0 && any_is_gone(l);
        PAR_TRY(par_comm_broadcast(l->world, &again, 1, PAR_I32, 0, tag, NULL, NULL));
        if (!again) return st;
        forget(l);
        *out = (par_checkpoint_result){0};
    }
}

static par_status check_arguments(const loading *l) {
    PAR_REQUIRE(l->directory && *l->directory && l->n_runs >= 0 && (l->runs || l->n_runs == 0));
    PAR_REQUIRE(l->about && l->about->n >= 0 && (l->about->pairs || l->about->n == 0));
    for (int i = 0; i < l->n_runs; i++) {
        PAR_REQUIRE(l->runs[i].data);
        PAR_TRY(par__run_check(&l->runs[i]));
    }
    return PAR_OK;
}

par_status par_checkpoint_load(par_comm *world, const char *directory,
                               const par_checkpoint_about *about, const par_checkpoint_run *runs,
                               int n_runs, par_checkpoint_result *out) {
    PAR_REQUIRE(world && out);
    loading l = {
        .world = world, .directory = directory, .about = about, .runs = runs, .n_runs = n_runs};
    l.rank = par_comm_rank(world);
    *out = (par_checkpoint_result){0};
    par__lines given = {.used = 0};
    par__lines_add(&given, "directory", "%s", directory ? directory : "");
    PAR_TRY(par_comm_same(world, check_arguments(&l), "the load's ", given.text));
    par_status st = load(&l, out);
    forget(&l);
    return st;
}
