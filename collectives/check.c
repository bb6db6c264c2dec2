/*
 * Check mode: an algorithm that runs before that of the operation. Ranks all-gather what they are
 * about to do, so that a difference is refused on every rank with both sides named, instead of a
 * hang or of wrong sums.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "libpar/base/record.h"

static int check_row(const par__task *task) {
    return par__recorder_row(task->comm->transport->recorder, task->comm->axis, "check",
                             "all_gather", -1);
}

static void describe(par__task *task) {
    const par_comm *comm = task->comm;
    const par__operation *op = &task->op;
    par__description *d = &comm->descriptions[comm->rank];
    par__recorder_op(comm->transport->recorder, check_row(task));
    memset(d, 0, sizeof *d);
    d->number = task->collective;
    d->n = op->n;
    d->window_nbytes = comm->window;
    d->kind = (int32_t)op->kind;
    d->dtype = (int32_t)op->dtype;
    d->wire = (int32_t)op->wire;
    d->root = op->peer;
    d->size = comm->n;
    strncpy(d->purpose, op->tag.purpose, sizeof d->purpose - 1);
}

/* The messages are the check's, not the operation's. */
static bool gather_descriptions(par__task *task) {
    int row = task->row;
    task->row = check_row(task);
    bool more = par__bruck(task, (char *)task->comm->descriptions, sizeof(par__description));
    task->row = row;
    return more;
}

static void print(const par__description *d, char *text, size_t nbytes) {
    int n = snprintf(text, nbytes, "collective number %lld, %s of %lld %s for \"%s\"",
                     (long long)d->number, par__kind_name((par__kind)d->kind), (long long)d->n,
                     par_dtype_name((par_dtype)d->dtype), d->purpose);
    if (d->wire != PAR_F32)
        n += snprintf(text + n, nbytes - (size_t)n, ", sent as %s",
                      par_dtype_name((par_dtype)d->wire));
    if (d->kind == PAR__BROADCAST)
        n += snprintf(text + n, nbytes - (size_t)n, ", root %d", (int)d->root);
    snprintf(text + n, nbytes - (size_t)n, " (group of %d, windows of %lld bytes)", (int)d->size,
             (long long)d->window_nbytes);
}

static par_status compare(par__task *task) {
    const par_comm *comm = task->comm;
    const par__description *all = comm->descriptions;
    char a[256], b[256];
    for (int j = 1; j < comm->n; j++) {
        if (memcmp(&all[0], &all[j], sizeof *all) == 0) continue;
        print(&all[0], a, sizeof a);
        print(&all[j], b, sizeof b);
        PAR_FAIL(PAR_ERR_ARG,
                 "ranks 0 and %d of axis \"%s\" (world ranks %d and %d) started different "
                 "operations: %s; and %s",
                 j, comm->axis, comm->ranks[0], comm->ranks[j], a, b);
    }
    return PAR_OK;
}

const par__algorithm par__check = {.name = "check",
                                   .description = "all-gather what ranks are about to do (Bruck)",
                                   .begin = describe,
                                   .step = gather_descriptions,
                                   .end = compare};
