/*
 * The vote: every rank's ballot to all, an all-gather an axis from the one that varies fastest to
 * the slowest, so that the ballots end up in rank order; then the same decision from the same bits
 * everywhere (kernels/vote.h). It is enqueued like everything else of a step. What an evaluation
 * adds up is gathered on the host.
 */
#define _POSIX_C_SOURCE 200809L
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "trainer.h"

static const par_tag tag = {"vote", -1, -1, -1};

static par_status take_begun(par_trainer *t, par__begun *b) {
    void *ballot = NULL, *state = NULL;
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_DATA, "vote", sizeof *b->ballot, &ballot));
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_DATA, "vote", sizeof *b->state, &state));
    b->ballot = ballot;
    b->state = state;
    return par_memory_measuring(t->memory) ? PAR_OK : t->backend->event_create(&b->voted);
}

par_status par__vote_take(par_trainer *t) {
    void *ballots[2] = {NULL, NULL}, *voted = NULL;
    size_t world = (size_t)t->mesh->size, polls = world * sizeof(par__poll);
    if (polls < sizeof((par_vote *)0)->where) polls = sizeof((par_vote *)0)->where;
    for (int i = 0; i < 2; i++) {
        PAR_TRY(par_memory_take(t->memory, PAR_MEM_SCRATCH, "vote", world * sizeof(par_ballot),
                                &ballots[i]));
        t->ballots[i] = ballots[i];
    }
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_SCRATCH, "vote", sizeof *t->voted, &voted));
    t->voted = voted;
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_COMM, "vote", polls, &t->polls));
    for (int i = 0; i < PAR_STEPS_BEGUN; i++) PAR_TRY(take_begun(t, &t->begun[i]));
    return PAR_OK;
}

void par__vote_free(par_trainer *t) {
    for (int i = 0; i < PAR_STEPS_BEGUN; i++)
        if (t->begun[i].voted) t->backend->event_destroy(t->begun[i].voted);
}

static par_vote_rules rules_of(const par_trainer *t) {
    const par_trainer_params *p = &t->params;
    double unit = (double)par_tensor_n(&p->model->targets) * (double)p->micro_batch;
    return (par_vote_rules){.scaler = p->scaler,
                            .nonfinite = p->nonfinite,
                            .clip = p->clip,
                            .unit = unit,
                            .beta1 = p->beta1,
                            .beta2 = p->beta2,
                            .batch = p->global_batch};
}

/* Powers as the votes multiply them, so that a resumed run has the bits of the uninterrupted
 * one. */
par_status par__vote_upload(par_trainer *t) {
    par_vote_rules rules = rules_of(t);
    par_vote_state *s = t->begun[0].state; /* no step is under way that would write it */
    if (!t->upload) return PAR_OK;
    t->upload = false;
    *s = (par_vote_state){.scaler = t->scaler, .updates = t->updates, .power1 = 1, .power2 = 1};
    for (int64_t i = 0; i < t->updates; i++) {
        s->power1 *= rules.beta1;
        s->power2 *= rules.beta2;
    }
    s->step.first_sample = t->consumed;
    s->step.loss_seed = (float)(t->scaler.scale / rules.unit);
    return t->backend->copy(t->stream, t->voted, s, sizeof *s);
}

static par_status tally(par_trainer *t, par_ballot *out) {
    par_tally args = {.n_norms = t->registry->n_params, .norms = t->norms, .ballot = out};
    if (par__counts_loss(t)) args.losses = par__executor_losses(t->executor, &args.n_losses);
    return par_ballot_run(t->backend, t->stream, &args, NULL);
}

par_status par__vote_start(par_trainer *t, par__begun *begun) {
    const par_layout *layout = &t->mesh->layout;
    int64_t n = 1;
    int from = 0;
    PAR_TRY(t->backend->copy(t->stream, t->ballots[0], begun->ballot, sizeof *begun->ballot));
    PAR_TRY(tally(t, t->ballots[0]));
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        par_comm *axis = t->mesh->axis[layout->order[i]];
        if (par_comm_size(axis) == 1) continue;
        PAR_TRY(par_comm_all_gather(axis, t->ballots[from], t->ballots[!from],
                                    n * (int64_t)sizeof(par_ballot), PAR_U8, tag, t->stream, NULL));
        n *= par_comm_size(axis);
        from = !from;
    }
    par_vote_call call = {
        .n = n, .ballots = t->ballots[from], .rules = rules_of(t), .state = t->voted};
    return par_vote_run(t->backend, t->stream, &call, NULL);
}

par_status par__vote_fetch(par_trainer *t, par__begun *begun) {
    PAR_TRY(t->backend->copy(t->stream, begun->state, t->voted, sizeof *t->voted));
    return t->backend->record(t->stream, begun->voted);
}

par_status par__vote_await(par_trainer *t, par__begun *begun) {
    for (bool done = false;;) {
        par_status st = t->backend->query(begun->voted, &done);
        if (st == PAR_OK && done) return PAR_OK;
        if (st == PAR_OK) st = par_transport_progress(t->transport);
        if (st != PAR_OK) { /* peers wait for what this device no longer sends */
            char text[768];
            snprintf(text, sizeof text, "%s", par_error());
            PAR_FAIL(PAR_ERR_TRANSPORT, "%s", text);
        }
        sched_yield();
    }
}

par_status par__vote_where(par_trainer *t, const par_outcome *outcome, char *where, size_t nbytes) {
    char *name = t->polls;
    int rank = outcome->bad_rank;
    if (t->mesh->rank == rank && outcome->first_bad < 0)
        snprintf(name, nbytes, "the loss on rank %d", rank);
    else if (t->mesh->rank == rank)
        snprintf(name, nbytes, "%s on rank %d (%d elements)",
                 t->registry->params[outcome->first_bad]->name, rank, (int)outcome->n_first_bad);
    PAR_TRY(
        par_comm_broadcast(t->mesh->world, name, (int64_t)nbytes, PAR_U8, rank, tag, NULL, NULL));
    snprintf(where, nbytes, "%s", name);
    return PAR_OK;
}

par_status par__poll_all(par_trainer *t, par__poll *poll) {
    const par__poll mine = *poll, *all = t->polls;
    PAR_TRY(
        par_comm_all_gather(t->mesh->world, &mine, t->polls, sizeof mine, PAR_U8, tag, NULL, NULL));
    *poll = (par__poll){0};
    for (int r = 0; r < t->mesh->size; r++) {
        poll->loss_sum += all[r].loss_sum;
        poll->n_targets += all[r].n_targets;
        if (all[r].status > poll->status) poll->status = all[r].status;
    }
    return PAR_OK;
}
