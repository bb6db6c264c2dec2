/*
 * The checker against a machine that runs the lists on tokens (machine.h): lists spoiled at random,
 * with one to four changes, are accepted by both or by neither. Many changes are harmless (a RECV
 * posted earlier, two computations that do not depend on each other), so both answers occur often,
 * which is tested too.
 */
#include <string.h>

#include "lists.h"
#include "machine.h"
#include "tests/harness.h"

static uint64_t random_below(uint64_t *state, int n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % (uint64_t)n;
}

/* Another value in range for one number of an action. */
static void change_number(par_schedule *s, par_action *a, uint64_t *state) {
    bool bucket = a->act == PAR_REDUCE || a->act == PAR_GATHER,
         message = a->act == PAR_SEND || a->act == PAR_RECV;
    int n_slots = 0;
    if (bucket) {
        a->bucket = (int16_t)random_below(state, s->first_bucket[s->v] + s->n_last_buckets);
        return;
    }
    switch (random_below(state, 4)) {
    case 0: a->micro = (int16_t)random_below(state, s->m); return;
    case 1:
        n_slots = a->act == PAR_RECV && a->grad ? s->n_grad_slots[a->chunk] : s->n_slots[a->chunk];
        a->slot = (int16_t)random_below(state, n_slots);
        return;
    case 2:
        if (!message) a->sublayer = (int16_t)random_below(state, 4);
        return;
    default:
        if (message && s->p > 2)
            a->peer = (int16_t)((s->stage + 1 + (int)random_below(state, s->p - 1)) % s->p);
    }
}

static void spoil(lists *l, uint64_t *state) {
    int stage = (int)random_below(state, l->p);
    par_schedule *s = l->stages[stage];
    int at = (int)random_below(state, s->n), to = at + (int)random_below(state, 7) - 3;
    if (to < 0) to = 0;
    if (to >= s->n) to = s->n - 1;
    switch (random_below(state, 8)) {
    case 0: lists_drop(l, stage, at); return;
    case 1: s->actions[at] = s->actions[to]; return;
    case 2: change_number(s, &s->actions[at], state); return;
    case 3: lists_move(l, stage, at, (int)random_below(state, s->n)); return;
    default: lists_move(l, stage, at, to); return;
    }
}

static void fuzz(par_schedule_kind kind, int max_v) {
    int accepted = 0, rejected = 0;
    for (uint64_t seed = 1; seed <= 3000 && !harness_failed(); seed++) {
        uint64_t state = seed * 0x9e3779b97f4a7c15u;
        int p = 2 + (int)random_below(&state, 4),
            v = max_v > 1 ? 1 + (int)random_below(&state, max_v) : 1;
        int m = kind == PAR_SCHEDULE_INTERLEAVED ? p * (1 + (int)random_below(&state, 2))
                                                 : 1 + (int)random_below(&state, 6);
        lists l;
        CHECK_OK(lists_create(&l, kind, p, m, v));
        CHECK(machine_runs(&l, seed), "p %d m %d v %d: the machine rejects an unspoiled list", p, m,
              v);
        for (int n = 1 + (int)random_below(&state, 4); n > 0; n--) spoil(&l, &state);
        bool runs = machine_runs(&l, seed), passes = par_schedule_check(l.stages, p) == PAR_OK;
        CHECK(runs == passes, "seed %d, p %d m %d v %d: the machine %s, the checker %s: %s",
              (int)seed, p, m, v, runs ? "runs it" : "breaks", passes ? "accepts" : "rejects",
              passes ? "" : par_error());
        accepted += passes;
        rejected += !passes;
        lists_destroy(&l);
    }
    CHECK(accepted > 150 && rejected > 150, "one-sided: %d accepted, %d rejected", accepted,
          rejected);
}

static void fuzz_gpipe(void) {
    fuzz(PAR_SCHEDULE_GPIPE, 1);
}
static void fuzz_1f1b(void) {
    fuzz(PAR_SCHEDULE_1F1B, 1);
}
static void fuzz_eager(void) {
    fuzz(PAR_SCHEDULE_EAGER_1F1B, 1);
}
static void fuzz_interleaved(void) {
    fuzz(PAR_SCHEDULE_INTERLEAVED, 3);
}
static void fuzz_forward(void) {
    fuzz(PAR_SCHEDULE_FORWARD_ONLY, 3);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "gpipe", .run = fuzz_gpipe},
        {.name = "1f1b", .run = fuzz_1f1b},
        {.name = "eager-1f1b", .run = fuzz_eager},
        {.name = "interleaved", .run = fuzz_interleaved},
        {.name = "forward-only", .run = fuzz_forward},
    };
    return harness_main("schedule_fuzz", cases, HARNESS_COUNT(cases), argc, argv);
}
