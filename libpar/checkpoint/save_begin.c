/* The beginning of a save, before a byte of data is written: what, whether it may be, and where. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "libpar/base/checked.h"
#include "libpar/base/clock.h"
#include "libpar/base/file.h"
#include "libpar/checkpoint/save.h"

static const par_tag tag = {"checkpoint", -1, -1, -1};

/* Room for structure: superblock, groups, 64 KiB of alignment, and this much a data set. */
enum { FRAME_NBYTES = 1 << 17, SET_NBYTES = 2048 };

static par_status select_some(par__saving *s, const par_checkpoint_run *runs, int n) {
    for (int i = 0; i < n; i++) {
        PAR_REQUIRE(runs[i].data);
        PAR_TRY(par__run_check(&runs[i]));
        par_checkpoint_run plain = par__run_plain(&runs[i]);
        if (runs[i].replica == 0 && par__run_count(&plain) > 0)
            s->runs[s->n_runs++] = runs[i];
        else
            *--s->left_out = runs[i], s->n_left_out++;
    }
    return PAR_OK;
}

static int by_name(const void *a, const void *b) {
    const par_checkpoint_run *x = *(par_checkpoint_run *const *)a;
    const par_checkpoint_run *y = *(par_checkpoint_run *const *)b;
    int order = strcmp(x->kind, y->kind);
    return order ? order : strcmp(x->name, y->name);
}

/* A file has one data set of a name. */
static par_status check_names(const par__saving *s) {
    size_t n = (size_t)s->n_runs;
    const par_checkpoint_run **order = malloc((n + 1) * sizeof *order);
    par_status st = PAR_OK;
    if (!order) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %zu runs", n);
    for (size_t i = 0; i < n; i++) order[i] = &s->runs[i];
    qsort(order, n, sizeof *order, by_name);
    for (size_t i = 1; st == PAR_OK && i < n; i++)
        if (by_name(&order[i - 1], &order[i]) == 0)
            st = par_error_set(PAR_ERR_ARG, "%s/%s: is twice among a rank's runs; legal: once",
                               order[i]->kind, order[i]->name);
    free(order);
    return st;
}

par_status par__save_select(par__saving *s, const par_checkpoint_run *runs, int n) {
    const int n_blobs = s->first ? s->params.n_blobs : 0;
    s->runs = malloc(((size_t)n + (size_t)n_blobs + 1) * sizeof *s->runs);
    if (!s->runs) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %d runs", n + n_blobs);
    s->left_out = s->runs + n + n_blobs + 1;
    PAR_TRY(select_some(s, runs, n));
    PAR_TRY(select_some(s, s->params.blobs, n_blobs));
    return check_names(s);
}

/* A copy of a text behind others. */
static const char *keep(char **at, const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = memcpy(*at, text, n);
    *at += n;
    return copy;
}

par_status par__save_copy_params(par__saving *s, const par_checkpoint_params *p) {
    const par_checkpoint_about *about = &p->about;
    size_t n_pairs = (size_t)about->n * sizeof *about->pairs;
    size_t nbytes = n_pairs + strlen(p->directory) + 1;
    for (int i = 0; i < about->n; i++)
        nbytes += strlen(about->pairs[i].name) + strlen(about->pairs[i].value) + 2;
    s->texts = malloc(nbytes);
    if (!s->texts) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d pairs", about->n);
    par_checkpoint_pair *pairs = (par_checkpoint_pair *)(void *)s->texts;
    char *at = s->texts + n_pairs;
    s->params = *p;
    s->params.directory = keep(&at, p->directory);
    for (int i = 0; i < about->n; i++) {
        const char *name = keep(&at, about->pairs[i].name);
        const char *value = keep(&at, about->pairs[i].value);
        pairs[i] = (par_checkpoint_pair){name, value, about->pairs[i].class_of};
    }
    s->params.about.pairs = pairs;
    return PAR_OK;
}

static par_status need_of(const par__saving *s, int64_t *need) {
    *need = FRAME_NBYTES;
    for (int i = 0; i < s->n_runs; i++) {
        int64_t nbytes;
        if (!par__mul64(s->runs[i].n, (int64_t)par_dtype_nbytes(s->runs[i].dtype), &nbytes) ||
            !par__add64(*need, nbytes + SET_NBYTES, need))
            PAR_FAIL(PAR_ERR_ARG, "%s/%s: is too large", s->runs[i].kind, s->runs[i].name);
    }
    return PAR_OK;
}

/* Some file systems do not tell: all numbers are 0, or there is no such call. The check says so,
 * and the saves after it do not say it again. */
static par_status check_space(par__saving *s) {
    struct statvfs fs;
    const char *directory = s->params.directory;
    bool told = statvfs(directory, &fs) == 0;
    if (!told && errno != ENOSYS && errno != EOPNOTSUPP)
        return par__write_error(directory, "asked for its free space");
    if (!told || fs.f_blocks == 0) {
        if (s->params.check_only)
            par_problem(&s->result.notes,
                        "%s: does not tell its free space; a checkpoint takes %.1f MiB", directory,
                        (double)s->need / 1048576);
        return PAR_OK;
    }
    double there = (double)fs.f_bavail * (double)fs.f_frsize;
    if (there >= (double)s->need) return PAR_OK;
    PAR_FAIL(PAR_ERR_IO,
             "%s: a checkpoint takes %.1f MiB, and %.1f MiB are free; nothing was written%s",
             directory, (double)s->need / 1048576, there / 1048576, par__write_remedy(ENOSPC));
}

/* ---- one save of a directory at a time: it would remove the other's files ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static par__saving *under_way; /* from their beginnings to their ends, which free them */

static par_status enter(par__saving *s) {
    const char *directory = s->params.directory;
    pthread_mutex_lock(&mutex);
    const par__saving *other = under_way;
    bool same = false;
    par_status st = PAR_OK;
    for (; other && st == PAR_OK; other = other->next) {
        st = par__same_folder(other->params.directory, directory, &same);
        if (same) break;
    }
    int64_t step = other ? other->params.step : 0;
    if (st == PAR_OK && !same) s->next = under_way, under_way = s;
    pthread_mutex_unlock(&mutex);
    PAR_TRY(st);
    if (!same) return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG,
             "%s: a save of step %lld is under way there, and goes on; legal: to end it first "
             "(par_checkpoint_save_end, par_trainer_save_end), or another directory",
             directory, (long long)step);
}

void par__save_leave(par__saving *s) {
    pthread_mutex_lock(&mutex);
    par__saving **at = &under_way;
    while (*at && *at != s) at = &(*at)->next;
    if (*at) *at = s->next;
    pthread_mutex_unlock(&mutex);
}

/* Rank 0: the directory, without what saves left that never came to their end; room for everything
 * in it; and the temporary directory. */
static par_status prepare(par__saving *s) {
    PAR_TRY(par__make_directories(s->params.directory));
    PAR_TRY(enter(s));
    PAR_TRY(par__owner_check(s->params.directory, s->params.owner));
    if (!s->params.check_only) {
        PAR_TRY(par__settle_aside(s->params.directory, NULL, &s->pulse));
        PAR_TRY(par__check_replaced(&s->params));
    }
    if (s->params.owner || !s->params.check_only)
        par__remove_temporary(s->params.directory, true, &s->result.notes);
    PAR_TRY(check_space(s));
    return par__make_directories(s->temporary);
}

/* A check leaves the step's own name alone: both its names are those of temporary directories. */
static par_status set_names(par__saving *s) {
    const par_checkpoint_params *p = &s->params;
    par__step_name(p->step, s->name);
    snprintf(s->temporary_name, sizeof s->temporary_name, "%.13s.tmp-%lx-%llx", s->name,
             (long)getpid(), (unsigned long long)par__date_nanoseconds());
    PAR_TRY(par_comm_broadcast(s->world, s->temporary_name, sizeof s->temporary_name, PAR_U8, 0,
                               tag, NULL, NULL));
    if (p->check_only) snprintf(s->name, sizeof s->name, "%.55s-check", s->temporary_name);
    PAR_TRY(par__path(s->final, p->directory, s->name));
    PAR_TRY(par__aside_path(p->directory, p->step, s->aside));
    return par__path(s->temporary, p->directory, s->temporary_name);
}

/* A check does all that a save does, with one element of each rank. */
par_status par__save_shard(par__saving *s) {
    char name[PAR__NAME];
    int rank = par_comm_rank(s->world);
    if (s->params.check_only) {
        s->check_element = (float)rank;
        s->n_runs = 1;
        s->n_left_out = 0;
        s->runs[0] =
            (par_checkpoint_run){.kind = "check", /* there is room for one more than needed */
                                 .name = "check",
                                 .dtype = PAR_F32,
                                 .n = 1,
                                 .data = &s->check_element,
                                 .ndim = 1,
                                 .global = {par_comm_size(s->world), 1},
                                 .offset = {rank, 0},
                                 .extent = {1, 1},
                                 .local = {1, 1}};
    }
    par__shard_name(rank, name);
    PAR_TRY(par__path(s->shard_path, s->temporary, name));
    return par__shard_begin(s->shard_path, s->runs, s->n_runs, &s->shard);
}

par_status par__save_begin(par__saving *s) {
    PAR_TRY(par_comm_agree(s->world, need_of(s, &s->need)));
    PAR_TRY(par_comm_all_reduce(s->world, &s->need, &s->need, 1, PAR_I64, tag, NULL, NULL));
    PAR_TRY(set_names(s));
    PAR_TRY(par_comm_agree(s->world, s->first ? prepare(s) : PAR_OK));
    return par_comm_agree(s->world, s->jobs_lay_out ? PAR_OK : par__save_shard(s));
}
