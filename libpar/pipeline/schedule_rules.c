/*
 * The rules of the checker, an action at a time: what must have happened before it, what it does to
 * slots and messages, and when it waits. A rule that can never be met later is a complaint; one
 * that another stage can still meet makes the stage wait.
 */
#include "schedule_check.h"

#include <stdarg.h>
#include <stdio.h>

void par__action_describe(const par_action *a, char *text, size_t nbytes) {
    static const char *const names[] = {"FORWARD", "BACKWARD", "SEND", "RECV", "REDUCE", "GATHER"};
    const char *name = a->act < sizeof names / sizeof *names ? names[a->act] : "unknown action";
    const char *what = a->grad ? "gradient" : "activations";
    if (a->act == PAR_REDUCE || a->act == PAR_GATHER)
        snprintf(text, nbytes, "%s of bucket %d", name, a->bucket);
    else if (a->act == PAR_SEND || a->act == PAR_RECV)
        snprintf(text, nbytes, "%s of chunk %d, micro-batch %d, %s, slot %d, %s stage %d", name,
                 a->chunk, a->micro, what, a->slot, a->act == PAR_SEND ? "to" : "from", a->peer);
    else if (a->sublayer > 0)
        snprintf(text, nbytes, "%s of chunk %d, micro-batch %d, slot %d, %s sublayer %d", name,
                 a->chunk, a->micro, a->slot, a->act == PAR_FORWARD ? "to before" : "down to",
                 a->sublayer);
    else
        snprintf(text, nbytes, "%s of chunk %d, micro-batch %d, slot %d", name, a->chunk, a->micro,
                 a->slot);
}

par_status par__checker_complain(const par__checker *c, int stage, const char *format, ...) {
    const par__checked_stage *s = &c->stages[stage];
    char cause[512], action[160] = "the end of its list";
    va_list args;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    if (s->at < s->list->n) par__action_describe(&s->list->actions[s->at], action, sizeof action);
    return par_error_set(PAR_ERR_INTERNAL, "schedule %s, stage %d, action %d (%s): %s",
                         par_schedule_kind_name(s->list->kind), stage, s->at, action, cause);
}

/* What the action is about. Activations flow to higher parts, gradients to lower ones; -1: no such
 * part. */
static int part_of(const par__checker *c, int stage, int chunk) {
    return chunk * c->p + stage;
}
static int part_after(const par__checker *c, int part, bool grad) {
    int next = grad ? part - 1 : part + 1;
    return next < c->p * c->v ? next : -1;
}
static int part_before(const par__checker *c, int part, bool grad) {
    return part_after(c, part, !grad);
}
static par__half *half_of(const par__checker *c, int stage, int chunk, int micro, bool grad) {
    return &c->stages[stage].half[grad][chunk * c->m + micro];
}
static int16_t *holder(const par__checker *c, int stage, int chunk, int slot, bool grad) {
    return &c->stages[stage].holds[grad][chunk * c->m + slot];
}
/* Which of a stage's two lists of RECVs those from `peer` are on. */
static int side(const par__checker *c, int stage, int peer) {
    return peer == (stage + 1) % c->p ? 0 : 1;
}

static par_status occupy(par__checker *c, int stage, const par_action *a, bool grad) {
    int16_t *holds = holder(c, stage, a->chunk, a->slot, grad);
    if (*holds >= 0) {
        return par__checker_complain(c, stage, "%s %d still holds micro-batch %d",
                                     grad ? "gradient buffer" : "slot", a->slot, *holds);
    }
    *holds = a->micro;
    half_of(c, stage, a->chunk, a->micro, grad)->slot = a->slot;
    return PAR_OK;
}

static void vacate(par__checker *c, int stage, const par_action *a, bool grad) {
    *holder(c, stage, a->chunk, half_of(c, stage, a->chunk, a->micro, grad)->slot, grad) = -1;
}

static par_status require_peer(const par__checker *c, int stage, const par_action *a, int part) {
    if (c->p == 1)
        return par__checker_complain(c, stage, "one stage alone sends and receives nothing");
    if (part < 0)
        return par__checker_complain(c, stage, "an end of the model has no peer on that side");
    if (part % c->p == a->peer) return PAR_OK;
    return par__checker_complain(c, stage, "wrong peer: the neighbouring part %d is on stage %d",
                                 part, part % c->p);
}

static par_status do_recv(par__checker *c, int stage, const par_action *a) {
    par__checked_stage *s = &c->stages[stage];
    par__half *half = half_of(c, stage, a->chunk, a->micro, a->grad);
    int which = side(c, stage, a->peer);
    PAR_TRY(require_peer(c, stage, a, part_before(c, part_of(c, stage, a->chunk), a->grad)));
    if (half->flags & PAR__RAN) return par__checker_complain(c, stage, "its reader ran already");
    if (half->flags & PAR__POSTED) return par__checker_complain(c, stage, "posted twice");
    PAR_TRY(occupy(c, stage, a, a->grad));
    half->flags |= PAR__POSTED;
    s->recvs[which][s->n_recvs[which]++] = s->at;
    par__checker_wake(c, a->peer);
    return PAR_OK;
}

static par_status require_ready(const par__checker *c, int stage, const par_action *a) {
    const par__half *half = half_of(c, stage, a->chunk, a->micro, a->grad);
    int slot = half_of(c, stage, a->chunk, a->micro, false)->slot;
    if (!(half->flags & PAR__RAN))
        return par__checker_complain(c, stage, "sent before its %s ran",
                                     a->grad ? "BACKWARD" : "FORWARD");
    if (half->flags & PAR__SENT) return par__checker_complain(c, stage, "sent twice");
    if (a->slot != slot)
        return par__checker_complain(c, stage, "wrong slot: it lies in slot %d", slot);
    return PAR_OK;
}

/* The SEND is the k-th to that stage, and waits until the k-th RECV is posted there. */
static par_status do_send(par__checker *c, int stage, const par_action *a, bool *done) {
    int to = part_after(c, part_of(c, stage, a->chunk), a->grad);
    PAR_TRY(require_peer(c, stage, a, to));
    PAR_TRY(require_ready(c, stage, a));
    par__checked_stage *peer = &c->stages[a->peer];
    int which = side(c, a->peer, stage), k = peer->n_matched[which];
    *done = k < peer->n_recvs[which];
    if (!*done) return PAR_OK;
    const par_action *r = &peer->list->actions[peer->recvs[which][k]];
    if (r->grad != a->grad || r->micro != a->micro || r->chunk != to / c->p) {
        char text[160];
        par__action_describe(r, text, sizeof text);
        return par__checker_complain(
            c, stage,
            "message %d from stage %d to stage %d meets another one's RECV: action %d (%s)", k,
            stage, a->peer, peer->recvs[which][k], text);
    }
    peer->n_matched[which]++;
    half_of(c, a->peer, r->chunk, r->micro, r->grad)->flags |= PAR__ARRIVED;
    half_of(c, stage, a->chunk, a->micro, a->grad)->flags |= PAR__SENT;
    if (!c->training) vacate(c, stage, a, false);
    par__checker_wake(c, a->peer);
    return PAR_OK;
}

/* Its input is there, or *done is false. On a single stage it is what the neighbouring chunk left
 * in its slot. */
static par_status take_input(const par__checker *c, int stage, const par_action *a, bool grad,
                             bool *done) {
    const par__half *half = half_of(c, stage, a->chunk, a->micro, grad);
    int from = part_before(c, part_of(c, stage, a->chunk), grad);
    if (from < 0) return PAR_OK;
    if (c->p == 1) {
        if (half_of(c, stage, from, a->micro, grad)->flags & PAR__RAN) return PAR_OK;
        return par__checker_complain(c, stage, "runs before chunk %d, which makes its input", from);
    }
    if (!(half->flags & PAR__POSTED))
        return par__checker_complain(c, stage, "no RECV was posted for its input");
    *done = half->flags & PAR__ARRIVED;
    return PAR_OK;
}

/* It reads every bucket whose first sublayer it runs through, and the last buckets. Without
 * backward, a slot is in use until its output is sent, or read by the next chunk of a single
 * stage. */
static par_status do_forward(par__checker *c, int stage, const par_action *a, bool *done) {
    par__checked_stage *s = &c->stages[stage];
    par__half *half = half_of(c, stage, a->chunk, a->micro, false);
    if (half->flags & PAR__RAN) return par__checker_complain(c, stage, "ran twice");
    bool gathered = s->n_buckets[0][c->v] == s->list->n_last_buckets;
    for (int b = s->list->first_bucket[a->chunk]; b < s->list->first_bucket[a->chunk + 1]; b++)
        if (a->sublayer == 0 || s->list->bucket_sublayer[b] < a->sublayer)
            gathered = gathered && s->buckets[b] & 1;
    if (!gathered)
        return par__checker_complain(c, stage, "a bucket that it reads is not gathered yet");
    if (!s->open) {
        PAR_TRY(take_input(c, stage, a, false, done));
        if (half->flags & PAR__POSTED && half->slot != a->slot)
            return par__checker_complain(
                c, stage, "wrong slot: its input was received into slot %d", half->slot);
        if (*done && !(half->flags & PAR__POSTED)) PAR_TRY(occupy(c, stage, a, false));
    }
    if (!*done) return PAR_OK;
    if (half->slot != a->slot)
        return par__checker_complain(c, stage, "wrong slot: it began in slot %d", half->slot);
    if (s->open && a->sublayer > 0 && a->sublayer <= s->open->sublayer)
        return par__checker_complain(c, stage, "its sublayers before %d ran already",
                                     s->open->sublayer);
    s->open = a->sublayer > 0 ? a : NULL;
    if (s->open) return PAR_OK;
    half->flags |= PAR__RAN;
    s->n_ran[0][a->chunk]++;
    if (c->training) return PAR_OK;
    par_action before = *a;
    before.chunk--;
    if (c->p == 1 && before.chunk >= 0) vacate(c, stage, &before, false);
    if (part_after(c, part_of(c, stage, a->chunk), false) < 0) vacate(c, stage, a, false);
    return PAR_OK;
}

/* The first BACKWARD of a (chunk, micro-batch). Gradients that are made for another stage lie in
 * two buffers, used in turn, until they are sent. */
static par_status begin_backward(par__checker *c, int stage, const par_action *a, bool *done) {
    par__checked_stage *s = &c->stages[stage];
    par__half *forward = half_of(c, stage, a->chunk, a->micro, false);
    par__half *gradient = half_of(c, stage, a->chunk, a->micro, true);
    int part = part_of(c, stage, a->chunk);
    bool sends = c->p > 1 && part_after(c, part, false) >= 0,
         makes = c->p > 1 && part_after(c, part, true) >= 0;
    if (!c->training) return par__checker_complain(c, stage, "a forward-only list has no backward");
    if (!(forward->flags & PAR__RAN))
        return par__checker_complain(c, stage, "runs before its FORWARD");
    if (gradient->flags & PAR__RAN) return par__checker_complain(c, stage, "ran twice");
    if (sends && !(forward->flags & PAR__SENT))
        return par__checker_complain(
            c, stage, "frees slot %d before the activations in it are sent", a->slot);
    PAR_TRY(take_input(c, stage, a, true, done));
    if (!*done || !makes) return PAR_OK;
    if (s->outgoing[0] && !(s->outgoing[0]->flags & PAR__SENT))
        return par__checker_complain(c, stage,
                                     "the gradient of the last BACKWARD but one is not sent yet");
    s->outgoing[0] = s->outgoing[1];
    s->outgoing[1] = gradient;
    return PAR_OK;
}

static par_status do_backward(par__checker *c, int stage, const par_action *a, bool *done) {
    par__checked_stage *s = &c->stages[stage];
    par__half *gradient = half_of(c, stage, a->chunk, a->micro, true);
    int slot = half_of(c, stage, a->chunk, a->micro, false)->slot;
    if (!s->open) PAR_TRY(begin_backward(c, stage, a, done));
    if (slot != a->slot)
        return par__checker_complain(c, stage, "wrong slot: its FORWARD was in slot %d", slot);
    if (s->open && a->sublayer >= s->open->sublayer)
        return par__checker_complain(c, stage, "its sublayers down to %d ran already",
                                     s->open->sublayer);
    if (!*done) return PAR_OK;
    s->open = a->sublayer > 0 ? a : NULL;
    if (s->open) return PAR_OK;
    gradient->flags |= PAR__RAN;
    vacate(c, stage, a, false);
    if (gradient->flags & PAR__POSTED) vacate(c, stage, a, true);
    s->n_ran[1][a->chunk]++;
    return PAR_OK;
}

static par_status require_reduce(const par__checker *c, int stage, const par_action *a, int chunk) {
    const par__checked_stage *s = &c->stages[stage];
    int first = s->list->first_bucket[c->v], done = s->n_buckets[1][c->v];
    int sublayer = chunk < c->v ? s->list->bucket_sublayer[a->bucket] : 0;
    if (!c->training) return par__checker_complain(c, stage, "a forward-only list reduces nothing");
    for (int k = chunk < c->v ? chunk : 0; k < (chunk < c->v ? chunk + 1 : c->v); k++) {
        bool open = s->open && s->open->act == PAR_BACKWARD && s->open->chunk == k;
        int n = s->n_ran[1][k] + (open && s->open->sublayer <= sublayer);
        if (n < c->m)
            return par__checker_complain(
                c, stage, "too early: %d of %d BACKWARDs of chunk %d ran down to sublayer %d", n,
                c->m, k, sublayer);
    }
    if (chunk < c->v || a->bucket == first + done) return PAR_OK;
    return par__checker_complain(
        c, stage, "last buckets are reduced in rising order; next is bucket %d", first + done);
}

/* A chunk's buckets may be gathered at any time: each FORWARD requires those that it reads. The
 * last buckets, which several stages read, all gather first of all, in rising order. */
static par_status do_bucket(par__checker *c, int stage, const par_action *a) {
    par__checked_stage *s = &c->stages[stage];
    const int *first = s->list->first_bucket;
    bool reduce = a->act == PAR_REDUCE;
    int chunk = 0, flag = reduce ? 2 : 1; /* the chunk that owns it; v: a last bucket */
    while (chunk < c->v && a->bucket >= first[chunk + 1]) chunk++;
    if (s->buckets[a->bucket] & flag)
        return par__checker_complain(c, stage, reduce ? "reduced twice" : "gathered twice");
    bool in_order = s->at == s->n_buckets[0][chunk] && a->bucket == first[c->v] + s->at;
    if (reduce)
        PAR_TRY(require_reduce(c, stage, a, chunk));
    else if (chunk == c->v && !in_order)
        return par__checker_complain(c, stage,
                                     "last buckets are gathered first of all, in rising order");
    s->buckets[a->bucket] |= (uint8_t)flag;
    s->n_buckets[reduce][chunk]++;
    return PAR_OK;
}

par_status par__checker_step(par__checker *c, int stage, bool *done) {
    par__checked_stage *s = &c->stages[stage];
    const par_action *a = &s->list->actions[s->at], *open = s->open;
    bool last_reduce = a->act == PAR_REDUCE && a->bucket >= s->list->first_bucket[c->v];
    bool computes = a->act == PAR_FORWARD || a->act == PAR_BACKWARD;
    *done = true;
    /* They join stages: whatever stood behind them would wait for stages that wait for this one. */
    if (s->n_buckets[1][c->v] > 0 && !last_reduce)
        return par__checker_complain(c, stage, "comes after the reduction of a last bucket");
    /* Computations are cut for buckets alone: what lies between sublayers is kept for one at a
     * time. */
    if (computes && open &&
        (a->act != open->act || a->chunk != open->chunk || a->micro != open->micro))
        return par__checker_complain(
            c, stage, "the %s of chunk %d, micro-batch %d is not through: it ran %s sublayer %d",
            open->act == PAR_FORWARD ? "FORWARD" : "BACKWARD", open->chunk, open->micro,
            open->act == PAR_FORWARD ? "to before" : "down to", open->sublayer);
    switch (a->act) {
    case PAR_FORWARD: PAR_TRY(do_forward(c, stage, a, done)); break;
    case PAR_BACKWARD: PAR_TRY(do_backward(c, stage, a, done)); break;
    case PAR_SEND: PAR_TRY(do_send(c, stage, a, done)); break;
    case PAR_RECV: PAR_TRY(do_recv(c, stage, a)); break;
    default: PAR_TRY(do_bucket(c, stage, a)); break;
    }
    if (*done) s->at++;
    return PAR_OK;
}
