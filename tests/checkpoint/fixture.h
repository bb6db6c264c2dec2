/*
 * What the serial suites of checkpoints share: a world of one rank, a temporary directory (in
 * TMPDIR, else in memory where /dev/shm is there), and two small arrays whose contents depend on
 * the step and on the fixture's version.
 */
#ifndef PAR_TESTS_CHECKPOINT_FIXTURE_H
#define PAR_TESTS_CHECKPOINT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../harness.h"
#include "par/par.h"

enum { FIXTURE_A = 37, FIXTURE_B = 11, FIXTURE_RUNS = 2 };

typedef struct {
    par_transport *transport;
    par_comm *world;
    char directory[512];
    int version;                           /* of the contents: saves of one step can differ */
    bool behind;                           /* saves go on in the background */
    float a[FIXTURE_A], copy_a[FIXTURE_A]; /* the copies: what is saved in the background */
    int64_t b[FIXTURE_B], copy_b[FIXTURE_B];
    par_checkpoint_run runs[FIXTURE_RUNS]; /* a and b */
    par_checkpoint_result result;
} fixture;

/* This build saves no checkpoints: the case is skipped. Here, as power_replay has no harness. */
static inline bool fixture_cannot(void) {
    const char *missing = par_checkpoint_missing();
    if (missing) harness_skip("%s", missing);
    return missing != NULL;
}

void fixture_open(fixture *f);
void fixture_close(fixture *f);     /* and removes the directory */
void fixture_reconnect(fixture *f); /* a new world, after a broken one */
void fixture_fill(fixture *f, int64_t step);
void fixture_poison(fixture *f);
/* The contents of the step in this version. */
bool fixture_holds(const fixture *f, int64_t step, int version);
bool fixture_poisoned(const fixture *f);

/* Fill, save as `step`, keep as said; behind: the arrays are overwritten while it is under way. */
par_status fixture_save(fixture *f, int64_t step, int keep);
par_status fixture_load(fixture *f);
par_status fixture_load_any(fixture *f); /* also what was saved without fixture_save */

/* The directory's owner; from: what it goes on from, or NULL. */
par_status fixture_claim(const fixture *f, const char *from, double beat_s, par_owner **out);
/* A child that claims the directory and waits to be killed; -1: it could not. */
pid_t fixture_start_owner(const fixture *f);
void fixture_end(pid_t child);
/* Save as the owner does, who keeps as said. */
par_status fixture_keep(fixture *f, const par_owner *owner, int64_t step, int keep,
                        int64_t keep_every, int keep_best, double validation);

/* Load `path`, if there is one, for the owner; the notes are those of what was set aside. */
par_status fixture_resume(fixture *f, const char *path, par_owner *owner);

/* "DIRECTORY/step_STEP/NAME"; and "DIRECTORY/NAME"; a ring of buffers. */
const char *fixture_path(const fixture *f, int64_t step, const char *name);
const char *fixture_in(const fixture *f, const char *name);
/* "1 3 7": the steps that are there, below 100. */
const char *fixture_steps(const fixture *f);
#define FIXTURE_CHECK_STEPS(f, want)                                                               \
    CHECK(strcmp(fixture_steps(f), want) == 0, "steps %s are there instead of %s",                 \
          fixture_steps(f), want)
/* Entries of the directory whose names contain `part`. */
int fixture_count(const fixture *f, const char *part);
bool fixture_has(const fixture *f, int64_t step);
char *fixture_read(const char *path, size_t *nbytes);
void fixture_write(const char *path, const void *data, size_t nbytes);

#endif
