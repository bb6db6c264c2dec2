/*
 * The test harness. A suite is one program with a table of cases; each case prints one line: "ok
 * suite/case", "FAIL suite/case: why" or "skip suite/case: why". tests/run adds them up.
 *
 * Arguments choose cases: a whole name with its slash, or a part of one; --list prints the names of
 * a serial suite's.
 *
 * A serial suite defines cases with `run`. An MPI suite defines them with `run_mpi` and a number of
 * ranks; the harness gives each case a transport over a split communicator of that many ranks (rank
 * 0's group first), with create and destroy in every case; the other ranks wait. A case that passes
 * its deadline ends the suite and prints each rank's last operations. Failures on any rank fail the
 * case. A world smaller than the case's ranks is a skip.
 */
#ifndef PAR_TESTS_HARNESS_H
#define PAR_TESTS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"

/* Long enough for ranks that crowd two cores beside other work: a deadline finds hangs, it measures
 * nothing. */
enum { HARNESS_DEADLINE_S = 180 };

typedef struct {
    const char *name;
    void (*run)(void);
    int ranks;
    void (*run_mpi)(par_transport *);
    int deadline_s; /* 0: HARNESS_DEADLINE_S */
} harness_case;

int harness_main(const char *suite, const harness_case *cases, int n, int argc, char **argv);
/* MPI suites link tests/harness_mpi.c and call this. */
int harness_main_mpi(const char *suite, const harness_case *cases, int n, int argc, char **argv);

/* Record a failure of the running case; the first one's text is printed. */
__attribute__((format(printf, 3, 4))) void harness_fail(const char *file, int line,
                                                        const char *format, ...);
/* Mark the running case as skipped, visibly. Return from the case after it. */
__attribute__((format(printf, 1, 2))) void harness_skip(const char *format, ...);
bool harness_failed(void);
/* From here on jansson has memory of its own, which free cannot free, as a host may have it. */
void harness_foreign_json(void);

/* norm(a - b) / norm(b), in double; norm(a) if b is zero. */
double harness_relative(const float *a, const float *b, int64_t n);
/* Deterministic small noise in (-1, 1). */
float harness_noise(uint64_t seed, uint64_t i);

/* Path of the folder with shared reference results (environment PAR_SHARED, else ../shared), or
 * NULL. */
const char *harness_shared(void);

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) harness_fail(__FILE__, __LINE__, __VA_ARGS__);                                \
    } while (0)
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        par_status st_ = (call);                                                                   \
        if (st_ != PAR_OK)                                                                         \
            harness_fail(__FILE__, __LINE__, "%s: %s: %s", #call, par_status_text(st_),            \
                         par_error());                                                             \
    } while (0)
/* The call must fail with this status and its message must contain `text`. */
#define CHECK_FAILS(call, status, text)                                                            \
    do {                                                                                           \
        par_status st_ = (call);                                                                   \
        if (st_ != (status) || !strstr(par_error(), (text)))                                       \
            harness_fail(__FILE__, __LINE__, "%s: %s: \"%s\" lacks \"%s\"", #call,                 \
                         par_status_text(st_), par_error(), text);                                 \
    } while (0)

#define HARNESS_COUNT(cases) (int)(sizeof(cases) / sizeof *(cases))

#endif
