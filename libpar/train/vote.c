/*
 * The vote: every rank's ballot to all, one all-gather per axis from the one that varies fastest to
 * the slowest, so that the ballots end up in rank order; then the same decision from the same bits
 * everywhere (kernels/vote.h). It is enqueued like everything else of a step. What an evaluation
 * adds up is gathered on the host.
 */
#define _POSIX_C_SOURCE 200809L
#include "vote.h"

#include <stdio.h>
#include <string.h>

static const par_tag tag = {"vote", -1, -1, -1};

par_status par__vote_take(par__vote *v, const par__context *on) {
    const par_trainer_params *p = &on->params;
    void *ballots[2] = {NULL, NULL}, *device = NULL;
    size_t world = (size_t)on->mesh->size, polls = world * sizeof(par__poll);
    if (polls < sizeof((par_vote *)0)->where) polls = sizeof((par_vote *)0)->where;
    v->on = on;
    v->rules =
        (par_vote_rules){.scaler = p->scaler,
                         .nonfinite = p->nonfinite,
                         .clip = p->clip,
                         .unit = (double)par_tensor_n(&p->model->targets) * (double)p->micro_batch,
                         .beta1 = p->beta1,
                         .beta2 = p->beta2,
                         .batch = p->global_batch};
    par_scaler_init(&p->scaler, &v->scaler);
    v->upload = true;
    for (int i = 0; i < 2; i++) {
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "vote", world * sizeof(par_ballot),
                                &ballots[i]));
        v->ballots[i] = ballots[i];
    }
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "vote", sizeof *v->device, &device));
    v->device = device;
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_COMM, "vote", polls, &v->polls));
    for (int i = 0; i < PAR_STEPS_BEGUN; i++) {
        par__begun *b = &v->begun[i];
        void *ballot = NULL, *state = NULL;
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "vote", sizeof *b->ballot, &ballot));
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "vote", sizeof *b->state, &state));
        b->ballot = ballot;
        b->state = state;
        if (!par_memory_measuring(on->memory)) PAR_TRY(on->backend->event_create(&b->voted));
    }
    return PAR_OK;
}

void par__vote_free(par__vote *v) {
    for (int i = 0; i < PAR_STEPS_BEGUN; i++)
        if (v->begun[i].voted) v->on->backend->event_destroy(v->begun[i].voted);
}

par_status par__no_step_begun(const par__vote *v) {
    if (v->n_begun == v->n_ended) return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG,
             "%d steps were begun and not ended: end them first (par_trainer_step_end)",
             (int)(v->n_begun - v->n_ended));
}

par_status par__step_begun(const par__vote *v) {
    if (v->n_begun > v->n_ended) return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG, "no step was begun (par_trainer_step_begin)");
}

void par__vote_restart(par__vote *v, int64_t consumed, int64_t updates) {
    v->consumed = consumed;
    v->updates = updates;
    v->upload = true;
}

par_status par__vote_set_scaler(par__vote *v, const par_scaler *scaler) {
    PAR_TRY(par__scaler_legal(&v->on->params.scaler, scaler));
    v->scaler = *scaler;
    v->upload = true;
    return PAR_OK;
}

par_status par__vote_next(par__vote *v, par__begun **out) {
    if (v->n_begun - v->n_ended == PAR_STEPS_BEGUN)
        PAR_FAIL(PAR_ERR_ARG, "%d steps are begun: end the oldest first (par_trainer_step_end)",
                 PAR_STEPS_BEGUN);
    *out = &v->begun[v->n_begun % PAR_STEPS_BEGUN];
    (*out)->status = PAR_OK;
    return PAR_OK;
}

int64_t par__vote_first_sample(const par__vote *v) {
    return v->consumed + (v->n_begun - v->n_ended) * v->rules.batch;
}

/* Powers as the votes multiply them, so that a resumed run has the bits of the uninterrupted
 * one. */
par_status par__vote_upload(par__vote *v) {
    par_vote_state *s = v->begun[0].state; /* no step is under way that would write it */
    if (!v->upload) return PAR_OK;
    v->upload = false;
    *s = (par_vote_state){.scaler = v->scaler, .updates = v->updates, .power1 = 1, .power2 = 1};
    for (int64_t i = 0; i < v->updates; i++) {
        double before1 = s->power1, before2 = s->power2;
        s->power1 *= v->rules.beta1;
        s->power2 *= v->rules.beta2;
        if (s->power1 == before1 && s->power2 == before2) break; /* for ever, from here on */
    }
    s->step.first_sample = v->consumed;
    s->step.loss_seed = (float)(v->scaler.scale / v->rules.unit);
    return v->on->backend->copy(v->on->stream, v->device, s, sizeof *s);
}

void par__begun_fail(par__begun *b, par_status st) {
    if (st == PAR_OK || b->status != PAR_OK) return;
    b->status = st;
    snprintf(b->message, sizeof b->message, "%s", par_error());
}

par_status par__vote_hold(par__vote *v, par__begun *b, par_tally tally) {
    const par_backend *backend = v->on->backend;
    const par_mesh *mesh = v->on->mesh;
    par_stream *stream = v->on->stream;
    int64_t n = 1;
    int from = 0;
    tally.ballot = v->ballots[0];
    PAR_TRY(backend->copy(stream, v->ballots[0], b->ballot, sizeof *b->ballot));
    PAR_TRY(par_ballot_run(backend, stream, &tally, NULL));
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        par_comm *axis = mesh->axis[mesh->layout.order[i]];
        if (par_comm_size(axis) == 1) continue;
        PAR_TRY(par_comm_all_gather(axis, v->ballots[from], v->ballots[!from],
                                    n * (int64_t)sizeof(par_ballot), PAR_U8, tag, stream, NULL));
        n *= par_comm_size(axis);
        from = !from;
    }
    par_vote_call call = {
        .n = n, .ballots = v->ballots[from], .rules = v->rules, .state = v->device};
    return par_vote_run(backend, stream, &call, NULL);
}

par_status par__vote_fetch(par__vote *v, par__begun *b) {
    return v->on->backend->copy(v->on->stream, b->state, v->device, sizeof *v->device);
}

par_status par__vote_begun(par__vote *v, par__begun *b) {
    PAR_TRY(v->on->backend->event_record(v->on->stream, b->voted));
    v->n_begun++;
    return PAR_OK;
}

par_status par__vote_end(par__vote *v, par__begun **out) {
    par__begun *b = &v->begun[v->n_ended % PAR_STEPS_BEGUN];
    PAR_TRY(par__await(v->on, b->voted));
    v->n_ended++;
    v->scaler = b->state->scaler;
    v->updates = b->state->updates;
    v->consumed = b->state->step.first_sample;
    v->gradient_scale = b->state->outcome.gradient_scale;
    *out = b;
    return PAR_OK;
}

par_status par__vote_drop(par__vote *v) {
    for (; v->n_ended < v->n_begun; v->n_ended++)
        PAR_TRY(par__await(v->on, v->begun[v->n_ended % PAR_STEPS_BEGUN].voted));
    v->upload = true; /* without the halt */
    return PAR_OK;
}

/* "parameter on rank (n elements)" of an outcome with inf or NaN, from the rank that holds it to
 * all. Not part of the vote for who counts what a step sends: most steps have none. */
static par_status find_bad(par__vote *v, const par_outcome *o, const par_registry *registry,
                           char *where, size_t nbytes) {
    static const par_tag agrees = {"agree", -1, -1, -1};
    char *name = v->polls;
    int rank = o->bad_rank;
    if (v->on->mesh->rank == rank && o->first_bad < 0)
        snprintf(name, nbytes, "the loss on rank %d", rank);
    else if (v->on->mesh->rank == rank)
        snprintf(name, nbytes, "%s on rank %d (%d elements)", registry->params[o->first_bad]->name,
                 rank, (int)o->n_first_bad);
    PAR_TRY(par_comm_broadcast(v->on->mesh->world, name, (int64_t)nbytes, PAR_U8, rank, agrees,
                               NULL, NULL));
    snprintf(where, nbytes, "%s", name);
    return PAR_OK;
}

par_status par__vote_report(par__vote *v, const par__begun *b, const par_registry *registry,
                            par_vote *out) {
    const par_vote_state *s = b->state;
    const par_outcome *o = &s->outcome;
    char floor[512] = "";
    *out = (par_vote){.loss = o->loss,
                      .n_targets = (int64_t)o->n_targets,
                      .grad_norm = o->grad_norm,
                      .n_nonfinite = (int64_t)o->n_nonfinite,
                      .loss_scale = o->loss_scale,
                      .n_skipped = s->scaler.skipped,
                      .skipped = o->skipped != 0,
                      .stop = o->stop != 0,
                      .status = (par_status)o->status};
    /* the message of a rank that failed reaches all in an agreement, which is taken only then */
    if (out->status != PAR_OK)
        return par_comm_agree(v->on->mesh->world, b->status == PAR_OK
                                                      ? PAR_OK
                                                      : par_error_set(b->status, "%s", b->message));
    if (o->bad_rank < 0) return PAR_OK;
    PAR_TRY(find_bad(v, o, registry, out->where, sizeof out->where));
    if (!s->halted) return PAR_OK;
    if (o->floor) {
        (void)par__scaler_at_floor(&s->scaler);
        snprintf(floor, sizeof floor, "%s; in the last one ", par_error());
    }
    PAR_FAIL(PAR_ERR_NUMERIC,
             "%s%lld elements of the gradients are inf or NaN, first in %s (loss %g); weights are "
             "unchanged",
             floor, (long long)out->n_nonfinite, out->where, out->loss);
}

par_status par__poll_all(par__vote *v, par__poll *poll) {
    const par__poll mine = *poll, *all = v->polls;
    PAR_TRY(par_comm_all_gather(v->on->mesh->world, &mine, v->polls, sizeof mine, PAR_U8, tag, NULL,
                                NULL));
    *poll = (par__poll){0};
    for (int r = 0; r < v->on->mesh->size; r++) {
        poll->loss_sum += all[r].loss_sum;
        poll->n_targets += all[r].n_targets;
        if (all[r].status > poll->status) poll->status = all[r].status;
    }
    return PAR_OK;
}
