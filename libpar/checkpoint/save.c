/*
 * Saving: see the order in par/checkpoint.h. Every step ends in an agreement, so that all ranks go
 * on or all stop. What fails before the checkpoint has its name leaves a temporary directory, which
 * rank 0 removes; what fails later is taken back first, and so is the exchange with an older
 * checkpoint of the same step. From when it has been read back the checkpoint is saved: what fails
 * then is a note.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "libpar/base/checked.h"
#include "libpar/base/file.h"
#include "libpar/checkpoint/checkpoint.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};

/* Room for structure: superblock, groups, 64 KiB of alignment, and this much a data set. */
enum { FRAME_NBYTES = 1 << 17, SET_NBYTES = 2048 };

/* What lies under the final name, and under the temporary one. */
typedef enum {
    UNNAMED,  /* what was there, if anything; the new checkpoint */
    NAMED,    /* the new checkpoint; nothing */
    EXCHANGED /* the new checkpoint; an older one of the same step */
} naming;

typedef struct {
    par_comm *world;
    const par_checkpoint_params *params;
    const par_checkpoint_run *runs;
    int n_runs;
    bool first; /* rank 0 */
    char name[PAR__NAME], temporary_name[PAR__NAME];
    char final[PAR__PATH], temporary[PAR__PATH];
    naming named; /* rank 0 */
    par__shard shard;
    int64_t need;  /* bytes of all ranks, at most */
    int64_t total; /* bytes of all ranks, written */
} saving;

static par_status check_run(const par_checkpoint_run *r) {
    PAR_REQUIRE(r->kind && r->name && r->data && r->n > 0);
    if (!*r->kind || !*r->name || strchr(r->kind, '/') || strchr(r->name, '/') ||
        !par_dtype_nbytes(r->dtype))
        PAR_FAIL(PAR_ERR_ARG, "%s/%s: a run's kind and name are not empty and have no slash",
                 r->kind, r->name);
    return PAR_OK;
}

static par_status need_of(const saving *s, int64_t *need) {
    *need = FRAME_NBYTES;
    for (int i = 0; i < s->n_runs; i++) {
        int64_t nbytes;
        PAR_TRY(check_run(&s->runs[i]));
        if (!par__mul64(s->runs[i].n, (int64_t)par_dtype_nbytes(s->runs[i].dtype), &nbytes) ||
            !par__add64(*need, nbytes + SET_NBYTES, need))
            PAR_FAIL(PAR_ERR_ARG, "%s/%s: is too large", s->runs[i].kind, s->runs[i].name);
    }
    return PAR_OK;
}

/* Rank 0: the directory, room for everything in it, and the temporary directory. */
static par_status prepare(const saving *s) {
    struct statvfs fs;
    const char *directory = s->params->directory;
    PAR_TRY(par__make_directories(directory));
    PAR_TRY(par__owner_check(directory, s->params->owner));
    if (!s->params->check_only) PAR_TRY(par__check_replaced(s->params));
    if (statvfs(directory, &fs) != 0)
        return par__write_error(directory, "asked for its free space");
    double there = (double)fs.f_bavail * (double)fs.f_frsize;
    if (there < (double)s->need)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: a checkpoint takes %.1f MiB, and %.1f MiB are free; nothing was written%s",
                 directory, (double)s->need / 1048576, there / 1048576, par__write_remedy(ENOSPC));
    return par__make_directories(s->temporary);
}

static par_status set_names(saving *s) {
    struct timespec now;
    const par_checkpoint_params *p = s->params;
    clock_gettime(CLOCK_REALTIME, &now);
    par__step_name(p->step, s->name);
    snprintf(s->temporary_name, sizeof s->temporary_name, "%.13s.tmp-%lx-%llx", s->name,
             (long)getpid(),
             (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec);
    PAR_TRY(par_comm_broadcast(s->world, s->temporary_name, sizeof s->temporary_name, PAR_U8, 0,
                               tag, NULL, NULL));
    PAR_TRY(par__path(s->final, p->directory, s->name));
    return par__path(s->temporary, p->directory, s->temporary_name);
}

static par_status begin(saving *s) {
    par_status st = need_of(s, &s->need);
    if (st == PAR_OK && !s->params->check_only) st = par__check_finite(s->runs, s->n_runs);
    PAR_TRY(par_comm_agree(s->world, st));
    PAR_TRY(par_comm_all_reduce(s->world, &s->need, &s->need, 1, PAR_I64, tag, NULL, NULL));
    PAR_TRY(set_names(s));
    return par_comm_agree(s->world, s->first ? prepare(s) : PAR_OK);
}

static par_status write_shard(saving *s) {
    char name[PAR__NAME], path[PAR__PATH];
    par__shard_name(par_comm_rank(s->world), name);
    PAR_TRY(par__path(path, s->temporary, name));
    return par__shard_write(path, s->runs, s->n_runs, &s->shard);
}

/* Rank 0 gets every rank's part of the manifest; parts [p]. */
static par_status exchange(saving *s, char *mine, int64_t *sizes, char **parts) {
    int64_t size = (int64_t)strlen(mine) + 1;
    par_status bad = PAR_OK;
    PAR_TRY(par_comm_all_gather(s->world, &size, sizes, 1, PAR_I64, tag, NULL, NULL));
    if (s->first) parts[0] = mine;
    for (int r = 1; s->first && r < par_comm_size(s->world); r++) {
        parts[r] = malloc((size_t)sizes[r]);
        if (!parts[r])
            bad = par_error_set(PAR_ERR_MEMORY, "no host memory for rank %d's part of the manifest",
                                r);
    }
    PAR_TRY(par_comm_agree(s->world, bad));
    if (!s->first) return par_comm_send(s->world, mine, size, PAR_U8, 0, tag, NULL, NULL);
    for (int r = 1; r < par_comm_size(s->world); r++) {
        PAR_TRY(par_comm_recv(s->world, parts[r], sizes[r], PAR_U8, r, tag, NULL, NULL));
        parts[r][sizes[r] - 1] = 0;
    }
    return PAR_OK;
}

static par_status write_manifest(const saving *s, char *const *parts) {
    char path[PAR__PATH], *text = NULL;
    PAR_TRY(par__path(path, s->temporary, "manifest.json"));
    PAR_TRY(par__manifest_make(s->params, par_comm_size(s->world), parts, &text));
    par_status st = par__write_file(path, text, strlen(text));
    free(text);
    return st;
}

static par_status manifest(saving *s) {
    int p = par_comm_size(s->world);
    char *mine = NULL, **parts = calloc((size_t)p, sizeof *parts);
    int64_t *sizes = calloc((size_t)p, sizeof *sizes);
    par_status st =
        parts && sizes ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d ranks", p);
    if (st == PAR_OK) st = par__manifest_shard(&s->shard, s->runs, par_comm_rank(s->world), &mine);
    st = par_comm_agree(s->world, st);
    if (st == PAR_OK) st = exchange(s, mine, sizes, parts);
    if (st == PAR_OK) st = par_comm_agree(s->world, s->first ? write_manifest(s, parts) : PAR_OK);
    for (int r = 1; parts && r < p; r++) free(parts[r]);
    free(parts);
    free(sizes);
    free(mine);
    return st;
}

/* Rank 0. The files are synced; now their names, then the directory's own. */
static par_status commit(saving *s) {
    PAR_TRY(par__sync_directory(s->temporary));
    PAR_TRY(par__owner_check(s->params->directory, s->params->owner));
    if (rename(s->temporary, s->final) == 0) {
        s->named = NAMED;
    } else {
        if (errno != ENOTEMPTY && errno != EEXIST)
            return par__write_error(s->final, "given its name");
        /* There is one of this step: one exchange of names, so that there always is one. */
        if (renameat2(AT_FDCWD, s->temporary, AT_FDCWD, s->final, RENAME_EXCHANGE) != 0)
            return par__write_error(s->final, "replaced by the new checkpoint");
        s->named = EXCHANGED;
    }
    return par__sync_directory(s->params->directory);
}

/* Every rank reads back what it wrote, rank 0 the manifest too. */
static par_status read_back(const saving *s) {
    char name[PAR__NAME], path[PAR__PATH], *text = NULL;
    size_t nbytes;
    par__shard_name(par_comm_rank(s->world), name);
    PAR_TRY(par__path(path, s->final, name));
    PAR_TRY(par__shard_verify(path, &s->shard));
    if (!s->first) return PAR_OK;
    PAR_TRY(par__manifest_read(s->final, &text, &nbytes));
    free(text);
    return PAR_OK;
}

static par_status write_all(saving *s) {
    PAR_TRY(begin(s));
    PAR_TRY(par_comm_agree(s->world, write_shard(s)));
    PAR_TRY(manifest(s));
    PAR_TRY(par_comm_agree(s->world, s->first ? commit(s) : PAR_OK));
    return par_comm_agree(s->world, read_back(s));
}

/* Rank 0: final names mean again what they meant before this save, and the rest goes. */
static par_status withdraw(const saving *s, par_status st) {
    char why[PAR__TEXT];
    int failed = 0;
    if (!*s->temporary) return st;
    snprintf(why, sizeof why, "%s", par_error());
    if (s->named == NAMED) failed = rename(s->final, s->temporary);
    if (s->named == EXCHANGED)
        failed = renameat2(AT_FDCWD, s->temporary, AT_FDCWD, s->final, RENAME_EXCHANGE);
    if (failed) {
        const char *cause = strerror(errno);
        PAR_FAIL(st, "%s\nand %s could not be withdrawn: %s; remove it%s%s", why, s->final, cause,
                 s->named == EXCHANGED ? ", and give its name to the older one in " : "",
                 s->named == EXCHANGED ? s->temporary : "");
    }
    if (s->named != UNNAMED) par__sync_directory(s->params->directory);
    par__remove_directory(s->temporary);
    PAR_FAIL(
        st, "%s\nthe checkpoint of step %lld (%.1f MiB) was not saved; older ones are as they were",
        why, (long long)s->params->step, (double)s->need / 1048576);
}

static par_status save(saving *s, par_checkpoint_result *out) {
    par_status st = write_all(s);
    if (st != PAR_OK) return s->first ? withdraw(s, st) : st;
    if (s->first) {
        if (par__write_latest(s->params->directory, s->name) != PAR_OK)
            par_problem(&out->notes, "%s", par_error());
        par__prune(s->params, &out->notes);
    }
    /* It also holds the other ranks until rank 0 is done. */
    s->total = s->shard.nbytes;
    return par_comm_all_reduce(s->world, &s->total, &s->total, 1, PAR_I64, tag, NULL, NULL);
}

/* As far as a save comes before it writes; then each rank makes a file where its own would be. */
static par_status check_only(saving *s) {
    char name[PAR__NAME], path[PAR__PATH], why[PAR__TEXT];
    par_status st = begin(s);
    if (st == PAR_OK) {
        par__shard_name(par_comm_rank(s->world), name);
        st = par__path(path, s->temporary, name);
        if (st == PAR_OK) st = par__write_file(path, "", 0);
        st = par_comm_agree(s->world, st);
    }
    snprintf(why, sizeof why, "%s", par_error());
    if (s->first && *s->temporary) par__remove_directory(s->temporary);
    return st == PAR_OK ? st : par_error_set(st, "%s", why);
}

static par_status check_params(const par_checkpoint_params *p) {
    PAR_REQUIRE(p && p->directory && *p->directory && p->about.model && p->about.layout &&
                p->about.options);
    PAR_REQUIRE(p->step >= 0 && p->step <= 99999999 && p->keep >= 0 && p->consumed >= 0 &&
                p->updates >= 0 && p->keep_every >= 0 && p->keep_best >= 0);
    if (!isfinite(p->loss))
        PAR_FAIL(PAR_ERR_NUMERIC, "step %lld: its loss is %g: not saved, older checkpoints stay",
                 (long long)p->step, p->loss);
    return PAR_OK;
}

par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                               const par_checkpoint_run *runs, int n_runs,
                               par_checkpoint_result *out) {
    PAR_REQUIRE(world && out && n_runs >= 0 && (runs || n_runs == 0));
    PAR_TRY(check_params(params));
    saving s = {.world = world, .params = params, .runs = runs, .n_runs = n_runs};
    s.first = par_comm_rank(world) == 0;
    *out = (par_checkpoint_result){0};
    par_status st = params->check_only ? check_only(&s) : save(&s, out);
    par__shard_free(&s.shard);
    if (st != PAR_OK) return st;
    if (params->check_only) return PAR_OK;
    memcpy(out->path, s.final, sizeof out->path);
    out->step = params->step;
    out->consumed = params->consumed;
    out->updates = params->updates;
    out->loss = params->loss;
    out->nbytes = s.total;
    snprintf(out->options, sizeof out->options, "%s", params->about.options);
    return PAR_OK;
}

const char *par_checkpoint_missing(void) {
    return NULL;
}
