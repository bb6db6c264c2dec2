/*
 * The ranks' clocks. Rank 0 asks each rank for its time, some times in a row. An answer t of a
 * rank, asked at a and here at b, says that its clock was t at a moment between a and b: so it is
 * ahead by t - (a + b) / 2, wrong by (b - a) / 2 at most. Of all answers that with the shortest
 * trip counts (Cristian 1989).
 *
 * Processes of one system have one monotonic clock. Where the system's number of its start is rank
 * 0's, and an offset of 0 is possible, it is 0 exactly: unless they are in time namespaces, which
 * shows as an offset that is not possible.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>

#include "par/random.h"
#include "timeline.h"

enum { TRIPS = 40, TRIPS_OF_ONE_SYSTEM = 4 };
static const par_tag tag = {"clock", -1, -1, -1};

typedef struct {
    int64_t ns, system;
} answer;

/* The number that Linux draws when it starts; 0: not known. */
static int64_t number_of_system(void) {
    char text[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!file) return 0;
    if (!fgets(text, sizeof text, file)) text[0] = 0;
    fclose(file);
    return *text ? (int64_t)par_hash_name(text) : 0;
}

/* Until rank 0 says that this was the last one. */
static par_status answer_all(par_comm *comm, int64_t (*clock)(void)) {
    int32_t last = 0;
    const int64_t system = number_of_system();
    while (!last) {
        PAR_TRY(par_comm_recv(comm, &last, 1, PAR_I32, 0, tag, NULL, NULL));
        const answer a = {clock(), system};
        PAR_TRY(par_comm_send(comm, &a, sizeof a, PAR_U8, 0, tag, NULL, NULL));
    }
    return PAR_OK;
}

static par_status ask(par_comm *comm, int rank, int64_t (*clock)(void), par__clock_reading *best) {
    const int64_t system = number_of_system();
    int64_t shortest = INT64_MAX;
    for (int i = 0, last = 0; !last; i++) {
        answer a;
        bool near = shortest < INT64_MAX && best->error_ns == 0;
        last = i + 1 >= (near ? TRIPS_OF_ONE_SYSTEM : TRIPS);
        const int32_t word = last;
        int64_t begin = clock();
        PAR_TRY(par_comm_send(comm, &word, 1, PAR_I32, rank, tag, NULL, NULL));
        PAR_TRY(par_comm_recv(comm, &a, sizeof a, PAR_U8, rank, tag, NULL, NULL));
        int64_t end = clock(), trip = end - begin;
        if (trip >= shortest) continue;
        shortest = trip;
        *best = (par__clock_reading){a.ns, a.ns - begin - trip / 2, trip / 2 + 1};
        bool possible = best->offset_ns <= best->error_ns && -best->offset_ns <= best->error_ns;
        if (system && a.system == system && possible) best->offset_ns = best->error_ns = 0;
    }
    return PAR_OK;
}

par_status par__clocks_compare(par_comm *comm, int64_t (*clock)(void), par__clock_reading *out) {
    if (par_comm_rank(comm) != 0) return answer_all(comm, clock);
    out[0] = (par__clock_reading){.at_ns = clock()};
    for (int r = 1; r < par_comm_size(comm); r++) PAR_TRY(ask(comm, r, clock, &out[r]));
    return PAR_OK;
}

int64_t par__clock_convert(const par__clock_reading *before, const par__clock_reading *after,
                           int64_t ns) {
    double offset = (double)after->offset_ns;
    if (before->at_ns && after->at_ns > before->at_ns)
        offset += (double)(after->offset_ns - before->offset_ns) *
                  ((double)(ns - after->at_ns) / (double)(after->at_ns - before->at_ns));
    return ns - (int64_t)offset;
}
