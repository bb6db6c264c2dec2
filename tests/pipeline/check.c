/*
 * The checker finds what is planted. Each case spoils one list of a set that passes, in one way,
 * and names the message that must come: the checker must find the defect itself, not a consequence.
 */
#include <string.h>

#include "lists.h"
#include "tests/harness.h"

static lists made(par_schedule_kind kind, int p, int m, int v) {
    lists l;
    CHECK_OK(lists_create(&l, kind, p, m, v));
    CHECK_OK(par_schedule_check(l.stages, p));
    return l;
}

static par_action *at(lists *l, int stage, par_act act, bool grad, int n) {
    return &l->stages[stage]->actions[lists_find(l, stage, act, grad, n)];
}

static void rejects(lists *l, const char *text) {
    CHECK_FAILS(par_schedule_check(l->stages, l->p), PAR_ERR_INTERNAL, text);
    lists_destroy(l);
}

static void swapped(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_BACKWARD, false, 0),
               lists_find(&l, 1, PAR_FORWARD, false, 0));
    rejects(
        &l,
        "stage 1, action 4 (BACKWARD of chunk 0, micro-batch 0, slot 0): runs before its FORWARD");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_SEND, false, 0),
               lists_find(&l, 1, PAR_FORWARD, false, 0));
    rejects(&l, "to stage 2): sent before its FORWARD ran");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_SEND, true, 0),
               lists_find(&l, 1, PAR_BACKWARD, false, 0));
    rejects(&l, "sent before its BACKWARD ran");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 2, lists_find(&l, 2, PAR_RECV, false, 3),
               lists_find(&l, 2, PAR_FORWARD, false, 5));
    rejects(&l, "no RECV was posted for its input");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 0, lists_find(&l, 0, PAR_SEND, false, 0),
               lists_find(&l, 0, PAR_BACKWARD, false, 0));
    rejects(&l, "message 0 from stage 0 to stage 1 meets another one's RECV");
}

static void dropped(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 1, lists_find(&l, 1, PAR_SEND, false, 7));
    rejects(
        &l,
        "stage 2, action 47 (FORWARD of chunk 0, micro-batch 7, slot 1): deadlock: stage 1 has no "
        "SEND of its input");
    l = made(PAR_SCHEDULE_GPIPE, 2, 1, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_SEND, false, 0));
    rejects(&l, "frees slot 0 before the activations in it are sent");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 1, lists_find(&l, 1, PAR_SEND, true, 7));
    rejects(&l,
            "(BACKWARD of chunk 0, micro-batch 7, slot 3, down to sublayer 2): deadlock: stage 1 "
            "has no SEND of its input");
    l = made(PAR_SCHEDULE_FORWARD_ONLY, 2, 3, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_SEND, false, 0));
    rejects(&l, "message 0 from stage 0 to stage 1 meets another one's RECV");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 3, lists_find(&l, 3, PAR_RECV, false, 7));
    rejects(&l, "no RECV was posted for its input");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_BACKWARD, false, 7));
    rejects(&l,
            "(REDUCE of bucket 0): too early: 7 of 8 BACKWARDs of chunk 0 ran down to sublayer 2");
    l = made(PAR_SCHEDULE_FORWARD_ONLY, 4, 8, 1);
    lists_drop(&l, 3, lists_find(&l, 3, PAR_FORWARD, false, 9));
    rejects(&l, "chunk 0: 7 of 8 FORWARDs are there");
}

static void duplicated(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    *at(&l, 0, PAR_FORWARD, false, 3) = *at(&l, 0, PAR_FORWARD, false, 2);
    rejects(&l, "(FORWARD of chunk 0, micro-batch 0, slot 0): ran twice");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    *at(&l, 3, PAR_BACKWARD, false, 1) = *at(&l, 3, PAR_BACKWARD, false, 0);
    rejects(&l, "(BACKWARD of chunk 0, micro-batch 0, slot 0): ran twice");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    *at(&l, 0, PAR_SEND, false, 1) = *at(&l, 0, PAR_SEND, false, 0);
    rejects(&l, "sent twice");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    *at(&l, 1, PAR_RECV, false, 1) = *at(&l, 1, PAR_RECV, false, 0);
    rejects(&l, "posted twice");
}

static void wrong_slots(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_FORWARD, false, 3)->slot = 0;
    rejects(&l, "wrong slot: its input was received into slot 1");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_FORWARD, false, 3)->slot = 0;
    rejects(&l, "slot 0 still holds micro-batch 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_RECV, false, 2)->slot = 0;
    rejects(&l, "slot 0 still holds micro-batch 0");
    l = made(PAR_SCHEDULE_GPIPE, 2, 4, 1);
    at(&l, 0, PAR_RECV, true, 1)->slot = 0;
    rejects(&l, "gradient buffer 0 still holds micro-batch 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 3, PAR_BACKWARD, false, 0)->slot = 1;
    rejects(&l, "wrong slot: its FORWARD was in slot 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_SEND, false, 1)->slot = 0;
    rejects(&l, "wrong slot: it lies in slot 1");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 3, PAR_FORWARD, false, 0)->slot = 2;
    rejects(&l, "chunk 0 has 2 slots");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    l.stages[0]->n_slots[0] = 3;
    rejects(&l, "chunk 0 has 3 slots");
}

static void wrong_numbers(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_SEND, false, 0)->peer = 3;
    rejects(&l, "wrong peer: the neighbouring part 2 is on stage 2");
    l = made(PAR_SCHEDULE_INTERLEAVED, 4, 8, 2);
    at(&l, 3, PAR_RECV, true, 0)->peer = 2;
    rejects(&l, "wrong peer: the neighbouring part 4 is on stage 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_RECV, false, 0)->peer = 4;
    rejects(&l, "wrong peer: legal are other stages, 0 to 3");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_SEND, false, 0)->grad = true;
    rejects(&l, "wrong peer: the neighbouring part 0 is on stage 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_FORWARD, false, 0)->micro = 8;
    rejects(&l, "legal chunks 0 to 0, micro-batches 0 to 7");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_FORWARD, false, 0)->act = PAR_GATHER + 1;
    rejects(&l, "no schedule of kind 1f1b has it");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    l.stages[2]->m = 7;
    rejects(&l, "schedule list 2 is of stage 2, 1f1b, p 4, m 7");
    l = made(PAR_SCHEDULE_1F1B, 2, 8, 1);
    par_schedule *kept = l.stages[0];
    l.stages[0] = l.stages[1];
    l.stages[1] = kept;
    rejects(&l, "schedule list 0 is of stage 1");
}

static void collectives(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_REDUCE, false, 0),
               lists_find(&l, 1, PAR_BACKWARD, false, 7));
    rejects(&l,
            "(REDUCE of bucket 0): too early: 7 of 8 BACKWARDs of chunk 0 ran down to sublayer 2");
    l = made(PAR_SCHEDULE_INTERLEAVED, 2, 4, 2);
    lists_move(&l, 0, lists_find(&l, 0, PAR_REDUCE, false, 4),
               lists_find(&l, 0, PAR_REDUCE, false, 1));
    rejects(&l, "(REDUCE of bucket 4): too early");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_REDUCE, false, 3),
               lists_find(&l, 1, PAR_REDUCE, false, 2));
    rejects(&l, "last buckets are reduced in rising order; next is bucket 2");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 3, lists_find(&l, 3, PAR_REDUCE, false, 1), l.stages[3]->n - 1);
    rejects(&l, "comes after the reduction of a last bucket");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 3, lists_find(&l, 3, PAR_REDUCE, false, 1));
    rejects(&l, "bucket 1 is not reduced");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_GATHER, false, 2));
    rejects(&l, "a bucket that it reads is not gathered yet");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 0, lists_find(&l, 0, PAR_GATHER, false, 0),
               lists_find(&l, 0, PAR_GATHER, false, 2));
    rejects(&l, "last buckets are gathered first of all");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    *at(&l, 0, PAR_REDUCE, false, 1) = *at(&l, 0, PAR_REDUCE, false, 0);
    rejects(&l, "reduced twice");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_REDUCE, false, 1)->bucket = 4;
    rejects(&l, "legal buckets: 0 to 3");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    l.stages[3]->n_last_buckets = 1;
    rejects(&l, "stage 3: 1 last buckets, another stage has 2");
}

/* The last backward is BACKWARD to sublayer 2, REDUCE 0, to sublayer 1, REDUCE 1, to 0. */
static void cuts(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_REDUCE, false, 1),
               lists_find(&l, 1, PAR_BACKWARD, false, 8));
    rejects(&l,
            "(REDUCE of bucket 1): too early: 7 of 8 BACKWARDs of chunk 0 ran down to sublayer 1");
    l = made(PAR_SCHEDULE_1F1B, 1, 8, 1);
    at(&l, 0, PAR_BACKWARD, false, 0)->sublayer = 1;
    rejects(&l,
            "(FORWARD of chunk 0, micro-batch 1, slot 0): the BACKWARD of chunk 0, micro-batch 0 "
            "is not through: it ran down to sublayer 1");
    l = made(PAR_SCHEDULE_GPIPE, 1, 8, 1);
    at(&l, 0, PAR_BACKWARD, false, 0)->sublayer = 1;
    rejects(&l, "(BACKWARD of chunk 0, micro-batch 1, slot 1): the BACKWARD of chunk 0, "
                "micro-batch 0 is not through: it ran down to sublayer 1");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 3, PAR_BACKWARD, false, 8)->sublayer = 2;
    rejects(&l, "down to sublayer 2): its sublayers down to 2 ran already");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_BACKWARD, false, 8)->slot ^= 1;
    rejects(&l, "down to sublayer 1): wrong slot: its FORWARD was in slot");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 1, lists_find(&l, 1, PAR_BACKWARD, false, 9));
    rejects(&l, "sent before its BACKWARD ran");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_BACKWARD, false, 9));
    rejects(&l,
            "(REDUCE of bucket 2): too early: 7 of 8 BACKWARDs of chunk 0 ran down to sublayer 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_BACKWARD, false, 8)->sublayer = -1;
    rejects(&l, "it ends with sublayer -1; legal: 0 or more");
}

/* The first forward is FORWARD to before sublayer 1, GATHER 1, to before 2, GATHER 0, to the
 * end. */
static void forward_cuts(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_GATHER, false, 3),
               lists_find(&l, 1, PAR_FORWARD, false, 2));
    rejects(&l, "(FORWARD of chunk 0, micro-batch 0, slot 0): a bucket that it reads is not");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_move(&l, 2, lists_find(&l, 2, PAR_GATHER, false, 2),
               lists_find(&l, 2, PAR_FORWARD, false, 1));
    rejects(&l, "to before sublayer 2): a bucket that it reads is not gathered yet");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 1, PAR_FORWARD, false, 1)->sublayer = 1;
    rejects(&l, "to before sublayer 1): its sublayers before 1 ran already");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_FORWARD, false, 1)->slot = 1;
    rejects(&l, "to before sublayer 2): wrong slot: it began in slot 0");
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    at(&l, 0, PAR_FORWARD, false, 2)->sublayer = 3;
    rejects(&l, "to stage 1): sent before its FORWARD ran");
    l = made(PAR_SCHEDULE_GPIPE, 1, 8, 1);
    at(&l, 0, PAR_FORWARD, false, 2)->sublayer = 3;
    rejects(&l, "(FORWARD of chunk 0, micro-batch 1, slot 1): the FORWARD of chunk 0, "
                "micro-batch 0 is not through: it ran to before sublayer 3");
    /* What was cut for a bucket that is there already may also run in one go. */
    l = made(PAR_SCHEDULE_1F1B, 4, 8, 1);
    lists_drop(&l, 0, lists_find(&l, 0, PAR_FORWARD, false, 0));
    CHECK_OK(par_schedule_check(l.stages, l.p));
    lists_destroy(&l);
}

/* Each stage posts its RECV behind its own SEND: the two SENDs wait for each other. */
static void mutual_sends(void) {
    lists l = made(PAR_SCHEDULE_1F1B, 2, 2, 1);
    lists_move(&l, 0, lists_find(&l, 0, PAR_RECV, true, 0), lists_find(&l, 0, PAR_SEND, false, 1));
    lists_move(&l, 0, lists_find(&l, 0, PAR_RECV, true, 0), lists_find(&l, 0, PAR_RECV, true, 1));
    lists_move(&l, 1, lists_find(&l, 1, PAR_RECV, false, 1), lists_find(&l, 1, PAR_SEND, true, 0));
    rejects(&l, "deadlock: waits for stage 1; stage 1 waits in action 9 (SEND of chunk 0, "
                "micro-batch 0, gradient");
}

/* A third gradient would overwrite one that is not sent. */
static void unsent_gradients(void) {
    lists l = made(PAR_SCHEDULE_GPIPE, 2, 4, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_SEND, true, 0), lists_find(&l, 1, PAR_SEND, true, 1));
    rejects(&l, "meets another one's RECV");
    l = made(PAR_SCHEDULE_GPIPE, 2, 4, 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_SEND, true, 1),
               lists_find(&l, 1, PAR_SEND, true, 3) - 1);
    lists_move(&l, 1, lists_find(&l, 1, PAR_SEND, true, 0),
               lists_find(&l, 1, PAR_BACKWARD, false, 2));
    rejects(&l, "the gradient of the last BACKWARD but one is not sent yet");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "swapped", .run = swapped},
        {.name = "dropped", .run = dropped},
        {.name = "duplicated", .run = duplicated},
        {.name = "wrong slots", .run = wrong_slots},
        {.name = "wrong numbers", .run = wrong_numbers},
        {.name = "collectives", .run = collectives},
        {.name = "cuts", .run = cuts},
        {.name = "cuts of forwards", .run = forward_cuts},
        {.name = "mutual sends", .run = mutual_sends},
        {.name = "unsent gradients", .run = unsent_gradients},
    };
    return harness_main("schedule_check", cases, HARNESS_COUNT(cases), argc, argv);
}
