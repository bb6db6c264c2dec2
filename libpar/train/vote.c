/*
 * The vote: one all-gather of a ballot a rank over the world, combined in rank order on every rank, so that
 * skipping, clipping, stopping and errors are the same decision everywhere.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer.h"

/* Name of the parameter that was non-finite first, from the rank that holds it to all. */
static par_status name_bad(par_trainer *t, int rank, const par__ballot *mine, par_vote *out) {
    par_tag tag = {"vote", -1, -1, -1};
    char *name = t->votes; /* the ballots have been combined */
    if (t->mesh->rank == rank && mine->first_bad < 0)
        snprintf(name, sizeof out->where, "the loss on rank %d", rank);
    else if (t->mesh->rank == rank)
        snprintf(name, sizeof out->where, "%s on rank %d (%d elements)",
                 t->registry->params[mine->first_bad]->name, rank, (int)mine->n_first_bad);
    PAR_TRY(par_comm_broadcast(t->mesh->world, name, sizeof out->where, PAR_U8, rank, tag, NULL, NULL));
    snprintf(out->where, sizeof out->where, "%s", name);
    return PAR_OK;
}

par_status par__vote(par_trainer *t, const par__ballot *mine, par_vote *out) {
    par_tag tag = {"vote", -1, -1, -1};
    par__ballot sum = {0}, *all = t->votes;
    int n = t->mesh->size, bad_rank = -1;
    double bubble = 0;
    PAR_TRY(par_comm_all_gather(t->mesh->world, mine, all, sizeof *mine, PAR_U8, tag, NULL, NULL));
    for (int r = 0; r < n; r++) {
        sum.norm2 += all[r].norm2;
        sum.loss_sum += all[r].loss_sum;
        sum.n_targets += all[r].n_targets;
        sum.n_nonfinite += all[r].n_nonfinite;
        if (all[r].n_nonfinite > 0 && bad_rank < 0) bad_rank = r;
        if (all[r].status > sum.status) sum.status = all[r].status;
        if (all[r].stop) sum.stop = 1;
        double idle = all[r].busy > 0 ? (all[r].total - all[r].busy) / all[r].busy : 0;
        if (idle > bubble) bubble = idle;
    }
    *out = (par_vote){.loss = sum.n_targets > 0 ? sum.loss_sum / sum.n_targets : 0,
                      .n_targets = (int64_t)sum.n_targets,
                      .n_nonfinite = (int64_t)sum.n_nonfinite,
                      .loss_scale = t->scaler.scale,
                      .n_skipped = t->scaler.skipped,
                      .stop = sum.stop != 0,
                      .status = (par_status)sum.status};
    t->times.bubble = bubble;
    double unit = (double)par_tensor_n(&t->params.model->targets) * (double)t->params.micro_batch;
    t->gradient_scale = sum.n_targets > 0 ? unit / sum.n_targets / t->scaler.scale : 0;
    out->grad_norm = sqrt(sum.norm2) * t->gradient_scale;
    if (bad_rank >= 0) return name_bad(t, bad_rank, mine, out);
    return PAR_OK;
}
