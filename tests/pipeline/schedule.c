/*
 * Schedules: every list of the generator passes the checker, holds no more than its bound, and has
 * exactly the ideal bubble, over p <= 16, m <= 64, v <= 4. Times are small integers, v divides 12
 * and 24: so sums are exact and compared with ==.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lists.h"
#include "tests/harness.h"

static const par_schedule_cost free_transfer = {.forward = 12, .backward = 24, .transfer = 0};

static int min(int a, int b) {
    return a < b ? a : b;
}

/* Micro-batches of all chunks whose FORWARD ran and whose BACKWARD did not, at most: counted from
 * the list alone. */
static int in_flight(const par_schedule *s) {
    int now = 0, most = 0;
    for (int i = 0; i < s->n; i++) {
        const par_action *a = &s->actions[i];
        now += ((a->act == PAR_FORWARD) - (a->act == PAR_BACKWARD)) * (a->sublayer == 0);
        if (now > most) most = now;
    }
    return most;
}

/*
 * GPipe holds all m; 1F1B min(m, p - stage); eager 1F1B its warm-up 2 (p - stage - 1) and one more
 * (Zhuang et al. 2022); interleaved the warm-up 2 (p - stage - 1) + (v - 1) p and one more
 * (Narayanan et al. 2021, 2.2). A slot more may wait for a posted RECV.
 */
static int in_flight_bound(const par_schedule *s) {
    int after = s->p - s->stage - 1;
    if (s->kind == PAR_SCHEDULE_GPIPE) return s->m;
    if (s->kind == PAR_SCHEDULE_EAGER_1F1B) return min(s->m, 2 * after + 1);
    if (s->v == 1) return min(s->m, after + 1);
    return min(s->m * s->v, 2 * after + (s->v - 1) * s->p + 1);
}

static void check_training_slots(const par_schedule *s) {
    int bound = in_flight_bound(s), flying = in_flight(s);
    CHECK(flying == bound, "%s p %d m %d v %d stage %d: %d micro-batches in flight, expected %d",
          par_schedule_kind_name(s->kind), s->p, s->m, s->v, s->stage, flying, bound);
    if (s->v == 1)
        CHECK(s->n_slots[0] <= min(s->m, bound + (s->stage > 0)),
              "%s p %d m %d stage %d: %d slots, bound %d + 1", par_schedule_kind_name(s->kind),
              s->p, s->m, s->stage, s->n_slots[0], bound);
    for (int c = 0; c < s->v; c++) {
        /* An interleaved chunk holds at most the groups of p that are under way, of which there are
         * two. */
        CHECK(s->v == 1 || s->n_slots[c] <= min(s->m, 2 * s->p),
              "p %d m %d v %d stage %d chunk %d: %d slots", s->p, s->m, s->v, s->stage, c,
              s->n_slots[c]);
        CHECK(s->n_grad_slots[c] <= min(s->m, 2),
              "p %d m %d v %d stage %d chunk %d: %d gradient buffers", s->p, s->m, s->v, s->stage,
              c, s->n_grad_slots[c]);
    }
}

/* Two in turn where something is sent or received; one stage alone needs one. */
static void check_forward_slots(const par_schedule *s) {
    int expected = s->p == 1 ? 1 : min(s->m, 2);
    for (int c = 0; c < s->v; c++)
        CHECK(s->n_slots[c] == expected && s->n_grad_slots[c] == 0,
              "forward: p %d m %d stage %d: %d slots", s->p, s->m, s->stage, s->n_slots[c]);
}

static void check_bubble(const lists *l) {
    const par_schedule *s = l->stages[0];
    double total, bubble, ideal = par_schedule_ideal_bubble(s->kind, s->p, s->m, s->v);
    /* With chunks, a last group of fewer than p micro-batches waits for itself to come round: no
     * ideal to compare with. */
    if (s->kind == PAR_SCHEDULE_FORWARD_ONLY && s->v > 1 && s->m % s->p != 0) return;
    CHECK_OK(par_schedule_simulate(l->stages, l->p, &free_transfer, &total, &bubble));
    double a_micro = s->kind == PAR_SCHEDULE_FORWARD_ONLY ? 12 : 36;
    double expected = s->m * a_micro + (s->p - 1) * a_micro / s->v;
    CHECK(total == expected, "%s p %d m %d v %d: step takes %g, expected %g",
          par_schedule_kind_name(s->kind), s->p, s->m, s->v, total, expected);
    /* One rounding of the quotient on either side. */
    CHECK(fabs(bubble - ideal) <= 4e-16 * ideal, "%s p %d m %d v %d: bubble %.17g, ideal %.17g",
          par_schedule_kind_name(s->kind), s->p, s->m, s->v, bubble, ideal);
}

static void check_one(par_schedule_kind kind, int p, int m, int v) {
    lists l;
    CHECK_OK(lists_create(&l, kind, p, m, v));
    if (harness_failed()) return;
    par_status st = par_schedule_check(l.stages, p);
    CHECK(st == PAR_OK, "p %d m %d v %d: %s", p, m, v, par_error());
    for (int s = 0; s < p && kind == PAR_SCHEDULE_FORWARD_ONLY; s++)
        check_forward_slots(l.stages[s]);
    for (int s = 0; s < p && kind != PAR_SCHEDULE_FORWARD_ONLY; s++)
        check_training_slots(l.stages[s]);
    if (st == PAR_OK) check_bubble(&l);
    lists_destroy(&l);
}

static void check_kind(par_schedule_kind kind, int max_v, bool multiples) {
    for (int p = 1; p <= 16; p++)
        for (int v = 1; v <= max_v; v++)
            for (int m = multiples ? p : 1; m <= 64 && !harness_failed(); m += multiples ? p : 1)
                check_one(kind, p, m, v);
}

static void all_gpipe(void) {
    check_kind(PAR_SCHEDULE_GPIPE, 1, false);
}
static void all_1f1b(void) {
    check_kind(PAR_SCHEDULE_1F1B, 1, false);
}
static void all_eager(void) {
    check_kind(PAR_SCHEDULE_EAGER_1F1B, 1, false);
}
static void all_interleaved(void) {
    check_kind(PAR_SCHEDULE_INTERLEAVED, 4, true);
    check_one(PAR_SCHEDULE_INTERLEAVED, 2, 6, 16);
}
static void all_forward(void) {
    check_kind(PAR_SCHEDULE_FORWARD_ONLY, 4, false);
}

/*
 * Transfers of c that run under computation, m a multiple of p, c at most a chunk's forward. 1F1B:
 * the p micro-batches in flight at stage 0 go down and up the pipeline, 2 (p - 1) c, before it may
 * start the next p: m / p rounds. Filling and draining meet the rounds of the inner stages, and add
 * 2 (p - 2) c. Interleaved and eager: rounds have slack, only one micro-batch's way through all
 * parts and back shows: 2 (p v - 1) c. The formulas of Zero Bubble (Qi et al. 2024) lie 2 c / p
 * above the first and p c below that of interleaved.
 */
static void check_transfer(par_schedule_kind kind, int p, int m, int v) {
    double total, bubble, c = 3, ideal = 36.0 * m + 36.0 * (p - 1) / v;
    double transfers =
        kind == PAR_SCHEDULE_1F1B ? 2.0 * (p - 1) * (m / p) + 2 * (p - 2) : 2.0 * (p * v - 1);
    lists l;
    CHECK_OK(lists_create(&l, kind, p, m, v));
    CHECK_OK(par_schedule_simulate(l.stages, p, &(par_schedule_cost){12, 24, c}, &total, &bubble));
    CHECK(total == ideal + transfers * c, "p %d m %d v %d: step takes %g, expected %g", p, m, v,
          total, ideal + transfers * c);
    lists_destroy(&l);
}

static void transfer_costs(void) {
    for (int p = 2; p <= 16; p++)
        for (int m = p; m <= 64; m += p) {
            check_transfer(PAR_SCHEDULE_1F1B, p, m, 1);
            check_transfer(PAR_SCHEDULE_EAGER_1F1B, p, m, 1);
            for (int v = 2; v <= 4; v++) check_transfer(PAR_SCHEDULE_INTERLEAVED, p, m, v);
        }
}

static void refuses(par_schedule_params params, const char *text) {
    par_schedule *s = NULL;
    CHECK_FAILS(par_schedule_create(&params, &s), PAR_ERR_LAYOUT, text);
    CHECK(s == NULL, "a refused schedule was made");
}

static void bad_params(void) {
    refuses((par_schedule_params){PAR_SCHEDULE_INTERLEAVED, 4, 6, 2, 0, NULL, NULL, 0},
            "multiples of 4 (4, 8)");
    refuses((par_schedule_params){PAR_SCHEDULE_INTERLEAVED, 4, 2, 2, 0, NULL, NULL, 0},
            "multiples of 4 (4, 8)");
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 4, 8, 2, 0, NULL, NULL, 0},
            "2 chunks per stage; legal: 1");
    refuses((par_schedule_params){PAR_SCHEDULE_GPIPE, 4, 8, 2, 0, NULL, NULL, 0},
            "2 chunks per stage; legal: 1");
    refuses((par_schedule_params){PAR_SCHEDULE_FORWARD_ONLY, 4, 8, 17, 0, NULL, NULL, 0},
            "legal: 1 to 16");
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 0, 8, 1, 0, NULL, NULL, 0}, "0 stages");
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 4, 0, 1, 0, NULL, NULL, 0}, "0 micro-batches");
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 4, 1 << 20, 1, 0, NULL, NULL, 0},
            "legal: 1 to 32767");
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 4, 8, 1, 4, NULL, NULL, 0},
            "stage 4; legal: 0 to 3");
    refuses((par_schedule_params){(par_schedule_kind)9, 4, 8, 1, 0, NULL, NULL, 0},
            "legal: gpipe, 1f1b");
    /* Every problem at once. */
    refuses((par_schedule_params){PAR_SCHEDULE_1F1B, 4, 0, 2, 9, NULL, NULL, -1}, "stage 9");
    CHECK(strstr(par_error(), "2 chunks") && strstr(par_error(), "-1 last buckets"), "only: %s",
          par_error());
    static const int first[] = {0, 2};
    static const int16_t rising[] = {1, 2}, negative[] = {1, -1};
    refuses((par_schedule_params){.kind = PAR_SCHEDULE_1F1B,
                                  .p = 1,
                                  .m = 1,
                                  .v = 1,
                                  .first_bucket = first,
                                  .bucket_sublayer = rising},
            "bucket 1 of chunk 0 is complete with sublayer 2; legal: 0 to 1");
    refuses((par_schedule_params){.kind = PAR_SCHEDULE_1F1B,
                                  .p = 1,
                                  .m = 1,
                                  .v = 1,
                                  .first_bucket = first,
                                  .bucket_sublayer = negative},
            "complete with sublayer -1; legal: 0 to 1");
    int backwards[] = {0, 3, 2};
    refuses((par_schedule_params){PAR_SCHEDULE_INTERLEAVED, 2, 2, 2, 0, backwards, NULL, 0},
            "end at 2 before they begin at 3");
}

/* The last backward of a chunk stops wherever a bucket is complete, once for two that are at the
 * same sublayer, and not behind sublayer 0. All others are whole. */
static void reductions(void) {
    static const int first[] = {0, 4};
    static const int16_t sublayers[] = {5, 2, 2, 0};
    static const struct {
        par_act act;
        int number; /* sublayer, or bucket */
    } expected[] = {{PAR_BACKWARD, 0}, {PAR_BACKWARD, 5}, {PAR_REDUCE, 0},
                    {PAR_BACKWARD, 2}, {PAR_REDUCE, 1},   {PAR_REDUCE, 2},
                    {PAR_BACKWARD, 0}, {PAR_REDUCE, 3},   {PAR_REDUCE, 4}};
    const par_schedule_params params = {.kind = PAR_SCHEDULE_GPIPE,
                                        .p = 1,
                                        .m = 2,
                                        .v = 1,
                                        .first_bucket = first,
                                        .bucket_sublayer = sublayers,
                                        .n_last_buckets = 1};
    par_schedule *s = NULL;
    int n = 0;
    CHECK_OK(par_schedule_create(&params, &s));
    CHECK_OK(par_schedule_check(&s, 1));
    for (int i = 0; i < s->n; i++) {
        const par_action *a = &s->actions[i];
        if (a->act != PAR_BACKWARD && a->act != PAR_REDUCE) continue;
        CHECK(n < 9 && a->act == expected[n].act &&
                  (a->act == PAR_REDUCE ? a->bucket : a->sublayer) == expected[n].number,
              "action %d: kind %d, sublayer %d, bucket %d", i, a->act, a->sublayer, a->bucket);
        n++;
    }
    CHECK(n == 9, "%d backwards and reductions", n);
    par_schedule_destroy(&s);
}

/* The first forward of a chunk stops before the sublayer where a bucket begins, once for two that
 * begin with the same one, and not before sublayer 0. All others are whole, and the tied bucket's
 * weights come first of all. */
static void gathers(void) {
    static const int first[] = {0, 4};
    static const int16_t sublayers[] = {5, 2, 2, 0};
    static const struct {
        par_act act;
        int number; /* sublayer, or bucket */
    } expected[] = {{PAR_GATHER, 4}, {PAR_GATHER, 3},  {PAR_FORWARD, 2},
                    {PAR_GATHER, 2}, {PAR_GATHER, 1},  {PAR_FORWARD, 5},
                    {PAR_GATHER, 0}, {PAR_FORWARD, 0}, {PAR_FORWARD, 0}};
    for (int kind = PAR_SCHEDULE_GPIPE; kind <= PAR_SCHEDULE_FORWARD_ONLY; kind++) {
        const par_schedule_params params = {.kind = (par_schedule_kind)kind,
                                            .p = 1,
                                            .m = 2,
                                            .v = 1,
                                            .first_bucket = first,
                                            .bucket_sublayer = sublayers,
                                            .n_last_buckets = 1};
        par_schedule *s = NULL;
        int n = 0;
        CHECK_OK(par_schedule_create(&params, &s));
        CHECK_OK(par_schedule_check(&s, 1));
        for (int i = 0; i < s->n; i++) {
            const par_action *a = &s->actions[i];
            if (a->act != PAR_FORWARD && a->act != PAR_GATHER) continue;
            CHECK(n < 9 && a->act == expected[n].act &&
                      (a->act == PAR_GATHER ? a->bucket : a->sublayer) == expected[n].number,
                  "kind %d, action %d: %d, sublayer %d, bucket %d", kind, i, a->act, a->sublayer,
                  a->bucket);
            n++;
        }
        CHECK(n == 9, "%d forwards and gathers", n);
        par_schedule_destroy(&s);
    }
}

static void gantt_text(void) {
    static const char *const expected = "   0 |0 1 2 ........b0  3 b1  ..b2  ..b3  \n"
                                        "   1 |..0 1 ....b0  2 b1  3 b2  ..b3  ....\n"
                                        "   2 |....0 b0  1 b1  2 b2  3 b3  ........\n";
    lists l;
    char text[1024];
    CHECK_OK(lists_create(&l, PAR_SCHEDULE_1F1B, 3, 4, 1));
    CHECK_OK(par_schedule_gantt(l.stages, 3, &free_transfer, 200, text, sizeof text));
    CHECK(strcmp(text, expected) == 0, "\n%s", text);
    CHECK_OK(par_schedule_gantt(l.stages, 3, &free_transfer, 20, text, sizeof text));
    CHECK(strstr(text, "   0 |0 1 2 .......>\n") == text, "\n%s", text);
    /* A small buffer holds narrower lines, all of them. */
    CHECK_OK(par_schedule_gantt(l.stages, 3, &free_transfer, 200, text, 3 * 18 + 1));
    CHECK(strlen(text) == 3 * 18, "%zu bytes", strlen(text));
    CHECK_FAILS(par_schedule_gantt(l.stages, 3, &free_transfer, 200, text, 40), PAR_ERR_ARG,
                "at least 16 columns, 52 bytes");
    CHECK_FAILS(
        par_schedule_gantt(l.stages, 3, &(par_schedule_cost){0, 1, 0}, 200, text, sizeof text),
        PAR_ERR_ARG, "cost of forward 0; legal: finite, above 0");
    lists_destroy(&l);
}

static void same_order_of_micro_batches(void) {
    for (int kind = PAR_SCHEDULE_GPIPE; kind < PAR_SCHEDULE_FORWARD_ONLY; kind++) {
        lists l;
        int next[2] = {0, 0};
        CHECK_OK(lists_create(&l, (par_schedule_kind)kind, 4, 8,
                              kind == PAR_SCHEDULE_INTERLEAVED ? 2 : 1));
        const par_schedule *s = l.stages[1];
        for (int i = 0; i < s->n; i++)
            if (s->actions[i].act == PAR_BACKWARD && s->actions[i].sublayer == 0)
                CHECK(s->actions[i].micro == next[s->actions[i].chunk]++,
                      "%s: gradients are summed out of order",
                      par_schedule_kind_name((par_schedule_kind)kind));
        lists_destroy(&l);
    }
}

/* The times of all actions end where the simulation ends, and the last stage's computations stand
 * where the Gantt above draws them. */
static void action_times(void) {
    static const double begins[] = {2, 3, 5, 6, 8, 9, 11, 12};
    lists l;
    par_schedule_time times[256];
    double end = 0, total, bubble;
    int n = 0, at = 0;
    CHECK_OK(lists_create(&l, PAR_SCHEDULE_1F1B, 3, 4, 1));
    for (int stage = 0; stage < 3; stage++) n += l.stages[stage]->n;
    CHECK(n <= 256, "%d actions", n);
    CHECK_OK(par_schedule_simulate(l.stages, 3, &free_transfer, &total, &bubble));
    CHECK_OK(par_schedule_times(l.stages, 3, &free_transfer, times));
    for (int i = 0; i < n; i++) end = times[i].end > end ? times[i].end : end;
    CHECK(end == total, "%g, not %g", end, total);
    const par_schedule *last = l.stages[2];
    for (int i = 0; i < last->n; i++) {
        bool backward = last->actions[i].act == PAR_BACKWARD;
        if (!backward && last->actions[i].act != PAR_FORWARD) continue;
        const par_schedule_time *t = &times[n - last->n + i];
        if (t->end == t->begin) continue; /* the other parts of one that is cut */
        CHECK(at < 8 && t->begin == 12 * begins[at] && t->end == t->begin + 12 * (1 + backward),
              "computation %d is from %g to %g", at, t->begin, t->end);
        at++;
    }
    CHECK(at == 8, "%d computations", at);
    lists_destroy(&l);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "all gpipe", .run = all_gpipe},
        {.name = "all 1f1b", .run = all_1f1b},
        {.name = "all eager 1f1b", .run = all_eager},
        {.name = "all interleaved", .run = all_interleaved},
        {.name = "all forward-only", .run = all_forward},
        {.name = "transfer costs", .run = transfer_costs},
        {.name = "gradients in one order", .run = same_order_of_micro_batches},
        {.name = "reductions", .run = reductions},
        {.name = "gathers", .run = gathers},
        {.name = "bad parameters", .run = bad_params},
        {.name = "gantt", .run = gantt_text},
        {.name = "times", .run = action_times},
    };
    return harness_main("schedule", cases, HARNESS_COUNT(cases), argc, argv);
}
