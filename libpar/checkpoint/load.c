/*
 * Loading: rank 0 looks for the newest checkpoint whose manifest verifies and hands the manifest to
 * all; every rank verifies every byte of its own file; only when all agree is anything read into
 * memory. Else the next older one is tried, and the result's notes say why.
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/checkpoint/checkpoint.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};

typedef struct {
    par_comm *world;
    const char *directory;
    const par_checkpoint_about *about;
    const par_checkpoint_run *runs;
    int n_runs, rank;
    bool single;    /* directory is one checkpoint */
    int64_t *steps; /* rank 0: those there are, newest first */
    int n_steps, next;
    char *text; /* manifest */
    size_t nbytes;
    char path[PAR__PATH];
} loading;

static par_status look(loading *l) {
    char path[PAR__PATH];
    PAR_TRY(par__path(path, l->directory, "manifest.json"));
    l->single = access(path, F_OK) == 0;
    if (!l->single) return par__list(l->directory, &l->steps, &l->n_steps);
    l->n_steps = 1;
    return PAR_OK;
}

static par_status candidate(const loading *l, char path[PAR__PATH]) {
    char name[PAR__NAME];
    if (l->single) {
        if (snprintf(path, PAR__PATH, "%s", l->directory) >= PAR__PATH)
            PAR_FAIL(PAR_ERR_ARG, "%s: is too long", l->directory);
        return PAR_OK;
    }
    par__step_name(l->steps[l->next], name);
    return par__path(path, l->directory, name);
}

static void note(par_problems *notes) {
    par_problem(notes, "passed over: %s", par_error());
}

/* Rank 0: the next one whose manifest verifies, or l->text = NULL. */
static par_status find(loading *l, par_problems *notes) {
    for (; l->next < l->n_steps; l->next++) {
        PAR_TRY(candidate(l, l->path));
        par_status st = par__manifest_read(l->path, &l->text, &l->nbytes);
        if (st == PAR_OK) {
            l->next++;
            return PAR_OK;
        }
        if (st != PAR_ERR_FORMAT && st != PAR_ERR_IO) return st;
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

/* This rank's file, verified; it must be this run's. */
static par_status verify(const loading *l, char file[PAR__PATH], par__shard *shard,
                         par_checkpoint_result *out) {
    char name[PAR__NAME];
    json_t *root = NULL;
    PAR_TRY(par__manifest_parse(l->path, l->text, l->nbytes, &root));
    par_status st = par__manifest_about(root, l->path, l->about, par_comm_size(l->world), out);
    if (st == PAR_OK) st = par__manifest_get(root, l->path, l->rank, l->runs, l->n_runs, shard);
    json_decref(root);
    PAR_TRY(st);
    par__shard_name(l->rank, name);
    PAR_TRY(par__path(file, l->path, name));
    return par__shard_verify(file, shard);
}

static par_status try_one(loading *l, par_checkpoint_result *out) {
    char file[PAR__PATH] = "";
    par__shard shard = {0};
    par_status st = par_comm_agree(l->world, verify(l, file, &shard, out));
    if (st == PAR_OK) {
        st = par_comm_agree(l->world, par__shard_read(file, &shard, l->runs));
        /* Memory may hold half of it: there is nothing to fall back to. */
        if (st != PAR_OK)
            st = par_error_set(PAR_ERR_INTERNAL, "%s: changed while it was read", par_error());
    }
    if (st == PAR_OK) {
        memcpy(out->path, l->path, sizeof out->path);
        if (l->rank == 0 && strcmp(out->options, l->about->options) != 0)
            par_problem(&out->notes, "saved with \"%s\"; this run has \"%s\"", out->options,
                        l->about->options);
        out->nbytes = shard.nbytes;
        st = par_comm_all_reduce(l->world, &out->nbytes, &out->nbytes, 1, PAR_I64, tag, NULL, NULL);
    }
    par__shard_free(&shard);
    return st;
}

static par_status load(loading *l, par_checkpoint_result *out) {
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
        if (st != PAR_ERR_FORMAT && st != PAR_ERR_IO) return st;
        if (l->rank == 0) note(&out->notes);
        free(l->text);
        l->text = NULL;
    }
}

par_status par_checkpoint_load(par_comm *world, const char *directory,
                               const par_checkpoint_about *about, const par_checkpoint_run *runs,
                               int n_runs, par_checkpoint_result *out) {
    PAR_REQUIRE(world && directory && *directory && out && n_runs >= 0 && (runs || n_runs == 0));
    PAR_REQUIRE(about && about->model && about->layout && about->options);
    loading l = {
        .world = world, .directory = directory, .about = about, .runs = runs, .n_runs = n_runs};
    l.rank = par_comm_rank(world);
    *out = (par_checkpoint_result){0};
    par_status st = load(&l, out);
    free(l.text);
    free(l.steps);
    return st;
}
