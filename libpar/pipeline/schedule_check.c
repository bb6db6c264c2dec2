/*
 * The checker: it runs the lists of all stages together under the strictest semantics that the
 * executor may meet. Messages between two stages are one FIFO without tags. A SEND holds its stage
 * until the matching RECV is posted, a reader until its message is sent. No choice of the scheduler
 * matters, for an action that can run stays able to: so one run proves all of them. Time and memory
 * are linear in the number of actions.
 */
#include "schedule_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static par_status check_shape(const par_schedule *list, const par_schedule *model, int stage,
                              int p) {
    bool same =
        list->kind == model->kind && list->m == model->m && list->v == model->v && list->p == p;
    if (!same || list->stage != stage)
        PAR_FAIL(PAR_ERR_INTERNAL,
                 "schedule list %d is of stage %d, %s, p %d, m %d, v %d; expected stage %d, %s, p "
                 "%d, m %d, v %d",
                 stage, list->stage, par_schedule_kind_name(list->kind), list->p, list->m, list->v,
                 stage, par_schedule_kind_name(model->kind), p, model->m, model->v);
    for (int c = 0; c < list->v; c++) {
        if (list->n_slots[c] < 0 || list->n_slots[c] > list->m || list->n_grad_slots[c] < 0 ||
            list->n_grad_slots[c] > list->m)
            PAR_FAIL(PAR_ERR_INTERNAL,
                     "schedule stage %d, chunk %d: %d slots, %d gradient buffers; legal: 0 to %d",
                     stage, c, list->n_slots[c], list->n_grad_slots[c], list->m);
        if (list->first_bucket[c] < 0 || list->first_bucket[c + 1] < list->first_bucket[c])
            PAR_FAIL(PAR_ERR_INTERNAL, "schedule stage %d, chunk %d: buckets %d to %d", stage, c,
                     list->first_bucket[c], list->first_bucket[c + 1]);
    }
    if (list->first_bucket[list->v] > 0 && !list->bucket_sublayer)
        PAR_FAIL(PAR_ERR_INTERNAL, "schedule stage %d: %d buckets, and no sublayers of them", stage,
                 list->first_bucket[list->v]);
    if (list->n_last_buckets < 0 || list->first_bucket[list->v] > INT16_MAX - list->n_last_buckets)
        PAR_FAIL(PAR_ERR_INTERNAL, "schedule stage %d: %d last buckets after %d", stage,
                 list->n_last_buckets, list->first_bucket[list->v]);
    return PAR_OK;
}

/* Stages without last buckets take no part in their reduction; those that have some must agree. */
static par_status check_last_buckets(par_schedule *const *schedules, int p) {
    int n = 0;
    for (int s = 0; s < p; s++) {
        int own = schedules[s]->n_last_buckets;
        if (own > 0 && n > 0 && own != n)
            PAR_FAIL(PAR_ERR_INTERNAL, "schedule stage %d: %d last buckets, another stage has %d",
                     s, own, n);
        if (own > 0) n = own;
    }
    return PAR_OK;
}

/* The numbers in an action are in range; from here on they may index. */
static par_status check_ranges(par__checker *c, int stage) {
    par__checked_stage *s = &c->stages[stage];
    const par_schedule *list = s->list;
    for (s->at = 0; s->at < list->n; s->at++) {
        const par_action *a = &list->actions[s->at];
        bool message = a->act == PAR_SEND || a->act == PAR_RECV;
        if (a->act > PAR_GATHER)
            return par__checker_complain(c, stage, "no schedule of kind %s has it",
                                         par_schedule_kind_name(list->kind));
        if (a->act == PAR_REDUCE || a->act == PAR_GATHER) {
            if (a->bucket < list->first_bucket[0] ||
                a->bucket >= list->first_bucket[c->v] + list->n_last_buckets)
                return par__checker_complain(c, stage, "legal buckets: %d to %d",
                                             list->first_bucket[0],
                                             list->first_bucket[c->v] + list->n_last_buckets - 1);
            continue;
        }
        if (a->chunk < 0 || a->chunk >= c->v || a->micro < 0 || a->micro >= c->m)
            return par__checker_complain(c, stage, "legal chunks 0 to %d, micro-batches 0 to %d",
                                         c->v - 1, c->m - 1);
        bool buffer = a->act == PAR_RECV && a->grad;
        int n = buffer ? list->n_grad_slots[a->chunk] : list->n_slots[a->chunk];
        if (a->slot < 0 || a->slot >= n)
            return par__checker_complain(c, stage, "chunk %d has %d %s", a->chunk, n,
                                         buffer ? "gradient buffers" : "slots");
        if (a->sublayer < 0)
            return par__checker_complain(c, stage, "it ends with sublayer %d; legal: 0 or more",
                                         a->sublayer);
        if (message && (a->peer < 0 || a->peer >= c->p || a->peer == stage))
            return par__checker_complain(c, stage, "wrong peer: legal are other stages, 0 to %d",
                                         c->p - 1);
    }
    s->at = 0;
    return PAR_OK;
}

static par_status stage_init(const par__checker *c, const par_schedule *list,
                             par__checked_stage *s) {
    size_t n = (size_t)c->v * (size_t)c->m;
    s->list = list;
    s->buckets = calloc((size_t)list->first_bucket[c->v] + (size_t)list->n_last_buckets + 1, 1);
    for (int k = 0; k < 2; k++) {
        s->half[k] = calloc(n, sizeof *s->half[k]);
        s->holds[k] = malloc(n * sizeof *s->holds[k]);
        s->recvs[k] = malloc(((size_t)list->n + 1) * sizeof *s->recvs[k]);
        if (!s->half[k] || !s->holds[k] || !s->recvs[k] || !s->buckets)
            PAR_FAIL(PAR_ERR_MEMORY, "no host memory to check a schedule of %d actions", list->n);
        memset(s->holds[k], -1, n * sizeof *s->holds[k]);
    }
    return PAR_OK;
}

static void checker_free(par__checker *c) {
    for (int s = 0; c->stages && s < c->p; s++) {
        for (int k = 0; k < 2; k++) {
            free(c->stages[s].half[k]);
            free(c->stages[s].holds[k]);
            free(c->stages[s].recvs[k]);
        }
        free(c->stages[s].buckets);
    }
    free(c->stages);
    free(c->queue);
}

/* Run until no stage can go on. */
static par_status run(par__checker *c) {
    for (int s = c->p - 1; s >= 0; s--) par__checker_wake(c, s);
    while (c->n_queue > 0) {
        int stage = c->queue[--c->n_queue];
        par__checked_stage *s = &c->stages[stage];
        bool done = true;
        s->queued = false;
        while (done && s->at < s->list->n) PAR_TRY(par__checker_step(c, stage, &done));
    }
    return PAR_OK;
}

/* The other end of what a waiting stage waits for. */
static int awaited(const par__checker *c, int stage) {
    const par__checked_stage *s = &c->stages[stage];
    const par_action *a = &s->list->actions[s->at];
    if (a->act == PAR_SEND) return a->peer;
    return (stage + (a->act == PAR_FORWARD ? c->p - 1 : 1)) % c->p;
}

/* Whether a stage's list has the other end of a message: a SEND that a reader awaits, a RECV that a
 * SEND awaits. */
static bool has_other_end(const par__checker *c, int stage, const par_action *a, int other) {
    bool send = a->act == PAR_SEND, grad = send ? a->grad : a->act == PAR_BACKWARD;
    int part = a->chunk * c->p + stage + (send != grad ? 1 : -1);
    const par_schedule *list = c->stages[other].list;
    for (int i = 0; i < list->n; i++) {
        const par_action *b = &list->actions[i];
        if (b->act == (send ? PAR_RECV : PAR_SEND) && b->grad == grad && b->micro == a->micro &&
            b->chunk == part / c->p)
            return true;
    }
    return false;
}

/* All stages wait, or are at their end. A message with one end only is the cause, and other stages
 * wait in consequence; else follow who waits for whom from the first that waits. */
static par_status check_deadlock(const par__checker *c) {
    char text[768] = "", action[160];
    size_t used = 0;
    int first = 0;
    while (first < c->p && c->stages[first].at == c->stages[first].list->n) first++;
    if (first == c->p) return PAR_OK;
    for (int stage = first; stage < c->p; stage++) {
        const par__checked_stage *s = &c->stages[stage];
        if (s->at == s->list->n) continue;
        const par_action *a = &s->list->actions[s->at];
        if (!has_other_end(c, stage, a, awaited(c, stage)))
            return par__checker_complain(c, stage, "deadlock: stage %d has no %s",
                                         awaited(c, stage),
                                         a->act == PAR_SEND ? "RECV of it" : "SEND of its input");
    }
    for (int n = 0, stage = awaited(c, first); n < 3 && stage != first;
         n++, stage = awaited(c, stage)) {
        const par__checked_stage *s = &c->stages[stage];
        if (s->at == s->list->n) break;
        par__action_describe(&s->list->actions[s->at], action, sizeof action);
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "; stage %d waits in action %d (%s)", stage, s->at, action);
    }
    return par__checker_complain(c, first, "deadlock: waits for stage %d%s", awaited(c, first),
                                 text);
}

/* Every list ended: nothing may be missing. */
static par_status check_complete(const par__checker *c, int stage) {
    const par__checked_stage *s = &c->stages[stage];
    const int *first = s->list->first_bucket;
    static const char *const computes[] = {"FORWARD", "BACKWARD"}, *const collectives[] = {
                                                                       "gathered", "reduced"};
    for (int k = 0; k < 1 + c->training; k++) {
        for (int chunk = 0; chunk < c->v; chunk++)
            if (s->n_ran[k][chunk] < c->m)
                return par__checker_complain(c, stage, "chunk %d: %d of %d %ss are there", chunk,
                                             s->n_ran[k][chunk], c->m, computes[k]);
        for (int b = first[0]; b < first[c->v] + s->list->n_last_buckets; b++)
            if (!(s->buckets[b] & (k + 1)))
                return par__checker_complain(c, stage, "bucket %d is not %s", b, collectives[k]);
    }
    for (int k = 0; k < 2; k++)
        if (s->n_recvs[k] > s->n_matched[k])
            return par__checker_complain(c, stage, "action %d (RECV) gets no message",
                                         s->recvs[k][s->n_matched[k]]);
    return PAR_OK;
}

par_status par_schedule_check(par_schedule *const *schedules, int p) {
    par_status st = PAR_OK;
    PAR_REQUIRE(schedules && p > 0);
    for (int s = 0; s < p; s++) PAR_REQUIRE(schedules[s]);
    const par_schedule *model = schedules[0];
    if (model->v < 1 || model->v > PAR_MAX_CHUNKS || model->m < 1 || model->m > INT16_MAX)
        PAR_FAIL(PAR_ERR_INTERNAL, "schedule: m %d, v %d; legal: m 1 to %d, v 1 to %d", model->m,
                 model->v, INT16_MAX, PAR_MAX_CHUNKS);
    for (int s = 0; s < p; s++) PAR_TRY(check_shape(schedules[s], model, s, p));
    PAR_TRY(check_last_buckets(schedules, p));
    par__checker c = {
        .p = p, .m = model->m, .v = model->v, .training = model->kind != PAR_SCHEDULE_FORWARD_ONLY};
    c.stages = calloc((size_t)p, sizeof *c.stages);
    c.queue = malloc((size_t)p * sizeof *c.queue);
    if (!c.stages || !c.queue) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory to check %d stages", p);
        goto out_checker;
    }
    for (int s = 0; s < p; s++) {
        PAR_TRY_GOTO(stage_init(&c, schedules[s], &c.stages[s]), out_checker);
        PAR_TRY_GOTO(check_ranges(&c, s), out_checker);
    }
    PAR_TRY_GOTO(run(&c), out_checker);
    PAR_TRY_GOTO(check_deadlock(&c), out_checker);
    for (int s = 0; s < p; s++) PAR_TRY_GOTO(check_complete(&c, s), out_checker);
out_checker:
    checker_free(&c);
    return st;
}
