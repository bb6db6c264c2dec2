/*
 * Check mode: before a collective, ranks all-gather what they are about to do, so that a difference
 * is refused on every rank with both sides named, instead of a hang or of wrong sums.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "libpar/base/record.h"

static void describe(const par__op *op, par__description *d) {
    memset(d, 0, sizeof *d);
    d->number = op->collective;
    d->n = op->n;
    d->window_nbytes = op->comm->window;
    d->kind = (int32_t)op->kind;
    d->dtype = (int32_t)op->dtype;
    d->root = op->peer;
    d->size = op->comm->n;
    strncpy(d->purpose, op->purpose, sizeof d->purpose - 1);
}

bool par__check_step(par__op *op) {
    par_comm *comm = op->comm;
    int row = op->row;
    op->row = par__recorder_row(comm->transport->recorder, comm->axis, "check", "all_gather");
    if (op->phase == 0) {
        par__recorder_op(comm->transport->recorder, op->row);
        describe(op, &comm->descriptions[comm->rank]);
    }
    bool more = par__bruck(op, (char *)comm->descriptions, sizeof(par__description), op->phase);
    op->row = row;
    return more;
}

static void print(const par__description *d, char *text, size_t nbytes) {
    int n = snprintf(text, nbytes, "collective number %lld, %s of %lld %s for \"%s\"",
                     (long long)d->number, par__kind_name((par__kind)d->kind), (long long)d->n,
                     par_dtype_name((par_dtype)d->dtype), d->purpose);
    if (d->kind == PAR__BROADCAST)
        n += snprintf(text + n, nbytes - (size_t)n, ", root %d", (int)d->root);
    snprintf(text + n, nbytes - (size_t)n, " (group of %d, windows of %lld bytes)", (int)d->size,
             (long long)d->window_nbytes);
}

par_status par__check_compare(par__op *op) {
    const par_comm *comm = op->comm;
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
