/* What a rank's load reads: see plan.h. */
#include "libpar/checkpoint/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kind that the run asks for in its own type, else the one it takes instead, else the first in
 * a type that converts. */
static int choose(const par_checkpoint *c, const par_checkpoint_run *r, int rank) {
    int own = par__contents_find(c, r->kind, r->name, rank);
    if (own >= 0 && c->tensors[own].dtype == r->dtype) return own;
    int other = r->instead ? par__contents_find(c, r->instead, r->name, rank) : -1;
    return other >= 0 ? other : own;
}

static bool has_kind(const par_checkpoint *c, const char *kind) {
    int i = 0;
    while (i < c->n_tensors && strcmp(c->tensors[i].kind, kind) != 0) i++;
    return i < c->n_tensors;
}

/* What the checkpoint has not: runs one by one, but for kinds that it has not at all. */
static void refuse_missing(const par__plan *plan, par_problems *refused) {
    const par_checkpoint *c = plan->from;
    char kinds[256] = "", listed[300];
    for (int i = 0; i < plan->n; i++) {
        const par_checkpoint_run *r = plan->wants[i].run;
        if (plan->wants[i].tensor >= 0 || r->optional) continue;
        if (has_kind(c, r->kind)) {
            par_problem(refused, "%s: has no %s/%s, which this run has", c->info.path, r->kind,
                        r->name);
            continue;
        }
        snprintf(listed, sizeof listed, " %s,", r->kind);
        if (!strstr(kinds, listed) && strlen(kinds) + strlen(listed) < sizeof kinds)
            strcat(kinds, listed);
    }
    if (*kinds)
        par_problem(refused,
                    "%s: has no%s which this run needs to go on; of weights alone a training "
                    "begins (par checkpoint export --hf DIR, then train_llm --import DIR)",
                    c->info.path, kinds);
}

static void check_want(const par_checkpoint *c, const par_checkpoint_run *run, int tensor,
                       par_problems *refused) {
    const par_checkpoint_tensor *t = &c->tensors[tensor];
    par_checkpoint_run r = par__run_plain(run);
    if ((t->ndim > 0) != (r.ndim > 0) || t->global[0] != r.global[0] || t->global[1] != r.global[1])
        par_problem(refused, "%s: its %s/%s is %s[%lld, %lld]; this run's is %s[%lld, %lld]",
                    c->info.path, r.kind, r.name, t->ndim ? "" : "a blob ", (long long)t->global[0],
                    (long long)t->global[1], r.ndim ? "" : "a blob ", (long long)r.global[0],
                    (long long)r.global[1]);
    else if (!par__converts(t->dtype, r.dtype))
        par_problem(refused, "%s: its %s/%s is %s; this run's is %s, to which it does not convert",
                    c->info.path, r.kind, r.name, par_dtype_name(t->dtype),
                    par_dtype_name(r.dtype));
}

static int by_tensor(const void *a, const void *b) {
    const par__want *x = a, *y = b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return (x->run > y->run) - (x->run < y->run);
}

par_status par__plan_make(const par_checkpoint *from, const par_checkpoint_run *runs, int n,
                          int rank, int size, par_problems *refused, par__plan *out) {
    par__plan plan = {.from = from, .n = n, .rank = rank, .size = size};
    plan.wants = malloc(((size_t)n + 1) * sizeof *plan.wants);
    if (!plan.wants) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %d runs", n);
    for (int i = 0; i < n; i++) {
        plan.wants[i] = (par__want){&runs[i], choose(from, &runs[i], rank)};
        if (plan.wants[i].tensor >= 0) check_want(from, &runs[i], plan.wants[i].tensor, refused);
    }
    refuse_missing(&plan, refused);
    qsort(plan.wants, (size_t)n, sizeof *plan.wants, by_tensor);
    *out = plan;
    return PAR_OK;
}

void par__plan_free(par__plan *plan) {
    free(plan->wants);
    plan->wants = NULL;
}

size_t par__plan_memory(const par__plan *plan) {
    return par__contents_memory(plan->from) + (size_t)plan->from->block +
           (size_t)plan->n * sizeof *plan->wants;
}

static int first_want(const par__plan *plan, int tensor) {
    int low = 0, high = plan->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (plan->wants[middle].tensor < tensor)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Filled as it is verified: nobody misses what the run held before. */
static bool early(const par__plan *plan, const par_checkpoint_run *run) {
    return plan->overwrite && !run->optional;
}

/* In the order of the files: first all is verified, and what is early filled; later the rest is
 * filled. */
static par_status walk(const par__plan *plan, bool later, int64_t *nbytes) {
    par__reader reader;
    for (int i = 0; i < plan->n; i++)
        if (plan->wants[i].tensor >= 0 && early(plan, plan->wants[i].run) != later)
            PAR_TRY(par__clear_padding(plan->wants[i].run));
    PAR_TRY(par__reader_open(plan->from, &reader));
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < plan->from->n_stored; i++) {
        const par__stored *s = &plan->from->stored[i];
        if (s->run.replica > 0) continue;
        for (int k = first_want(plan, s->tensor);
             st == PAR_OK && k < plan->n && plan->wants[k].tensor == s->tensor; k++) {
            const par_checkpoint_run *run = plan->wants[k].run;
            if (later && early(plan, run)) continue;
            st = par__reader_take(&reader, s, run, later || early(plan, run));
        }
    }
    *nbytes = reader.total;
    par__reader_close(&reader);
    return st;
}

par_status par__plan_verify(const par__plan *plan, int64_t *nbytes) {
    for (int file = plan->rank; file < plan->from->n_files; file += plan->size) {
        char path[PAR__PATH], name[PAR__NAME];
        par__shard shard;
        par__shard_name(file, name);
        PAR_TRY(par__path(path, plan->from->info.path, name));
        PAR_TRY(par__contents_shard(plan->from, file, &shard));
        par_status st = par__shard_verify_frame(path, &shard);
        par__shard_free(&shard);
        PAR_TRY(st);
    }
    return walk(plan, false, nbytes);
}

par_status par__plan_fill(const par__plan *plan) {
    int64_t nbytes;
    return walk(plan, true, &nbytes);
}
