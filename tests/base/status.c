/* Statuses, the thread's last message, collected problems; the memory of two passes and its
 * ledger. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "par/memory.h"
#include "par/status.h"

static void texts(void) {
    for (int i = 0; i < PAR_STATUS_COUNT; i++)
        for (int k = 0; k < i; k++)
            CHECK(strcmp(par_status_text((par_status)i), par_status_text((par_status)k)) != 0,
                  "%d and %d are one text", i, k);
    CHECK(par_status_text((par_status)-1) && par_status_text((par_status)1000),
          "an unknown status has no text");
}

static void nested_message(void) {
    par_status st = par_error_set(PAR_ERR_IO, "inner %d", 7);
    st = par_error_set(st, "outer: %s", par_error());
    CHECK(st == PAR_ERR_IO && strcmp(par_error(), "outer: inner 7") == 0, "\"%s\"", par_error());
}

static void *other_thread(void *user) {
    par_error_set(PAR_ERR_ARG, "of the other thread");
    return user;
}

static void message_of_a_thread(void) {
    pthread_t thread;
    par_error_set(PAR_ERR_ARG, "mine");
    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    CHECK(strcmp(par_error(), "mine") == 0, "another thread's message: \"%s\"", par_error());
}

static void problems(void) {
    par_problems p = {0};
    CHECK_OK(par_problems_status(&p, PAR_ERR_OPTION));
    par_problem(&p, "one");
    par_problem(&p, "two %d", 2);
    CHECK_FAILS(par_problems_status(&p, PAR_ERR_LAYOUT), PAR_ERR_LAYOUT, "one\ntwo 2");
    for (int i = 0; i < 10000; i++) par_problem(&p, "a line that fills the text %d", i);
    CHECK(p.n == 10002 && strnlen(p.text, sizeof p.text) < sizeof p.text, "%d problems", p.n);
}

/* An allocator that counts, and fails at the n-th block. */
static int live, fail_at;
static par_status alloc(size_t nbytes, void **out) {
    if (fail_at && --fail_at == 0) PAR_FAIL(PAR_ERR_MEMORY, "planned");
    *out = aligned_alloc(256, nbytes);
    if (!*out) PAR_FAIL(PAR_ERR_MEMORY, "none");
    memset(*out, 0, nbytes);
    live++;
    return PAR_OK;
}
static void release(void *block, size_t nbytes) {
    (void)nbytes;
    free(block);
    live--;
}
static const par_allocator allocator = {alloc, release};

/* The same takes for both passes. */
static par_status takes(par_memory *memory, void **out) {
    PAR_TRY(par_memory_take(memory, PAR_MEM_WEIGHTS, "weights", 1000, &out[0]));
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slot", 1, &out[1]));
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slot", 257, &out[2]));
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "other", 0, &out[3]));
    return par_memory_take(memory, PAR_MEM_WEIGHTS, "table", 256, &out[4]);
}

static void compare_ledgers(const par_memory *a, const par_memory *b) {
    const par_ledger_line *la, *lb;
    size_t sum[PAR_MEM_COUNT] = {0};
    int n = par_memory_ledger(a, &la);
    CHECK(n == 4 && par_memory_ledger(b, &lb) == n, "lines of the ledgers");
    if (harness_failed()) return;
    for (int i = 0; i < n; i++) {
        CHECK(la[i].kind == lb[i].kind && la[i].nbytes == lb[i].nbytes &&
                  strcmp(la[i].what, lb[i].what) == 0,
              "line %d", i);
        sum[la[i].kind] += la[i].nbytes;
    }
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        CHECK(sum[kind] == par_memory_nbytes(a, (par_memory_kind)kind), "%s: lines do not add up",
              par_memory_kind_name((par_memory_kind)kind));
}

static void two_passes(void) {
    par_memory *plan = NULL, *memory = NULL;
    void *got[5];
    CHECK_OK(par_memory_create_measuring(&plan));
    CHECK_OK(takes(plan, got));
    for (int i = 0; i < 5; i++) CHECK(!got[i], "measuring handed out memory");
    CHECK(par_memory_nbytes(plan, PAR_MEM_ACTIVATIONS) == 256 + 512, "%zu bytes",
          par_memory_nbytes(plan, PAR_MEM_ACTIVATIONS));
    CHECK_OK(par_memory_create(&allocator, &allocator, plan, &memory));
    CHECK(live == 2, "%d blocks for two kinds", live);
    CHECK_OK(takes(memory, got));
    for (int i = 0; i < 5; i++)
        CHECK(i == 3 ? !got[i] : got[i] && (uintptr_t)got[i] % 256 == 0, "take %d", i);
    compare_ledgers(plan, memory);
    const par_ledger_line *lines;
    for (int i = 0; i < par_memory_ledger(memory, &lines); i++)
        CHECK(lines[i].planned == lines[i].nbytes, "line %d: %zu bytes planned, %zu taken", i,
              lines[i].planned, lines[i].nbytes);
    CHECK_FAILS(par_memory_take(memory, PAR_MEM_WEIGHTS, "more", 1, &got[0]), PAR_ERR_INTERNAL,
                "measured");
    par_memory_destroy(&memory);
    par_memory_destroy(&plan);
    par_memory_destroy(&plan);
    CHECK(live == 0 && !memory, "%d blocks leaked", live);
}

static void out_of_memory(void) {
    par_memory *plan = NULL, *memory = NULL;
    void *got[5];
    CHECK_OK(par_memory_create_measuring(&plan));
    CHECK_OK(takes(plan, got));
    fail_at = 2;
    CHECK_FAILS(par_memory_create(&allocator, &allocator, plan, &memory), PAR_ERR_MEMORY,
                "planned");
    CHECK(strstr(par_error(), "activations") && strstr(par_error(), "768"), "kind and bytes: %s",
          par_error());
    CHECK(live == 0 && !memory, "%d blocks leaked", live);
    CHECK_FAILS(par_memory_take(plan, PAR_MEM_DATA, "all", SIZE_MAX, &got[0]), PAR_ERR_ARG,
                "requires");
    par_memory_destroy(&plan);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"texts", texts, 0, NULL, 0},
        {"nested-message", nested_message, 0, NULL, 0},
        {"message-of-a-thread", message_of_a_thread, 0, NULL, 0},
        {"problems", problems, 0, NULL, 0},
        {"memory-two-passes", two_passes, 0, NULL, 0},
        {"memory-out-of-memory", out_of_memory, 0, NULL, 0},
    };
    return harness_main("status", cases, HARNESS_COUNT(cases), argc, argv);
}
