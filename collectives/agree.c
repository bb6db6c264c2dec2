/* What ranks agree on: a status with its message, and whether they were given the same values. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>

#include "collectives/internal.h"
#include "libpar/base/hash.h"
#include "par/text.h"

static const par_tag tag = {"agree", -1, -1, -1};

/* An agreement that this rank cannot take part in: its peers must not wait. */
static par_status start(par_comm *comm, const par__operation *op) {
    par_status st = par__host_start(comm, op, NULL);
    return st == PAR_ERR_UNSUPPORTED ? par_transport_abort(comm->transport, st, par_error()) : st;
}

/* n words of each rank, to comm->words of all. */
static par_status gather(par_comm *comm, const int32_t *mine, int n) {
    par__operation op = {.kind = PAR__ALL_GATHER,
                         .src = (const char *)mine,
                         .dst = (char *)comm->words,
                         .n = n,
                         .dtype = PAR_I32,
                         .tag = tag};
    return start(comm, &op);
}

static par_status broadcast(par_comm *comm, char *text, int64_t n, int root) {
    par__operation op = {.kind = PAR__BROADCAST,
                         .src = text,
                         .dst = text,
                         .n = n,
                         .dtype = PAR_U8,
                         .peer = root,
                         .tag = tag};
    return start(comm, &op);
}

/* The largest of the gathered statuses, each the first of n words; the message of the lowest rank
 * that has it moves only if there is one. */
static par_status worst_of(par_comm *comm, int n, char text[PAR_ERROR_NBYTES]) {
    int worst = 0;
    for (int j = 1; j < comm->n; j++)
        if (comm->words[j * n] > comm->words[worst * n]) worst = j;
    par_status st = (par_status)comm->words[worst * n];
    if (st == PAR_OK) return PAR_OK;
    PAR_TRY(broadcast(comm, text, PAR_ERROR_NBYTES, worst));
    return par_error_set(st, "rank %d: %s", comm->ranks[worst], text);
}

/* A status and n - 1 words more. */
static par_status agree(par_comm *comm, par_status local, int32_t words[2], int n) {
    char text[PAR_ERROR_NBYTES] = "";
    PAR_TRY(par__transport_intact(comm->transport));
    if (comm->n == 1) return local;
    if (local != PAR_OK) strncpy(text, par_error(), sizeof text - 1);
    words[0] = (int32_t)local;
    PAR_TRY(par__host_drain(comm));
    PAR_TRY(gather(comm, words, n));
    return worst_of(comm, n, text);
}

par_status par_comm_agree(par_comm *comm, par_status local) {
    int32_t words[2];
    PAR_REQUIRE(comm);
    return agree(comm, local, words, 1);
}

/* Rank 0's lines to all ranks, of which at least one has others. */
static par_status refuse(par_comm *comm, const char *what, const char *lines) {
    char first[PAR_LINES_NBYTES] = "", mine[PAR_LINES_NBYTES] = "";
    par_problems problems = {0};
    strncpy(mine, lines, sizeof mine - 1);
    memcpy(first, mine, sizeof first);
    PAR_TRY(broadcast(comm, first, sizeof first, 0));
    par_text_differences(mine, first, what, "equal on all ranks", &problems);
    return par_comm_agree(comm, par_problems_status(&problems, PAR_ERR_OPTION));
}

par_status par_comm_same(par_comm *comm, par_status local, const char *what, const char *lines) {
    int32_t words[2];
    PAR_REQUIRE(comm && what && lines);
    size_t n = strnlen(lines, PAR_LINES_NBYTES - 1);
    words[1] = (int32_t)(par__fnv32(PAR__FNV32, lines, n) >> 1);
    PAR_TRY(agree(comm, local, words, 2));
    for (int j = 1; j < comm->n; j++)
        if (comm->words[2 * j + 1] != comm->words[1]) return refuse(comm, what, lines);
    return PAR_OK;
}
