/*
 * Fuzzing: a target gets a sound file and mutations of it. A series of mutations follows from the
 * target's name, so a short run is the beginning of a long one. Targets abort, or fail the case,
 * when a promise is broken; under a sanitizer every bad access and every overflow is found too.
 *
 * PAR_FUZZ_RUNS: executions per sound file, for the long form; 0 lists the targets. PAR_SEED:
 * another series, 0 by default. Each series prints its executions, how many inputs were accepted,
 * and its speed.
 *
 * PAR_FUZZ_GUIDED="TARGET FOLDER FLAG...": in a build of scripts/fuzz, libFuzzer runs this target
 * alone, whose corpus lies in the folder, and ends the process.
 */
#ifndef PAR_TESTS_MUTATE_H
#define PAR_TESTS_MUTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MUTATE_CAPACITY = 1 << 15 }; /* bytes of a sound file and of what it becomes */

/* 0: accepted; -1: refused, as libFuzzer's LLVMFuzzerTestOneInput has it. The block has n bytes: a
 * sanitizer sees a read past either end. */
typedef int mutate_target(const uint8_t *data, size_t n);

/* The target gets the sound file, which it must accept, then mutations: `runs` of them without
 * PAR_FUZZ_RUNS. Some must be accepted and some refused. */
void mutate_run(const char *name, mutate_target *target, const void *sound, size_t n, long runs);

/* The target's answer to the sound file with another text in each place of one. */
int mutate_replaced(mutate_target *target, const void *sound, size_t n, const char *from,
                    const char *to);

/* Whether an input that was accepted is to be shown in every form, too, which may take ten times as
 * long as reading it: always, but with PAR_FUZZ_SHOWN=N for one input in N, by its hash. */
bool mutate_shows(const uint8_t *data, size_t n);

/* A folder of this process alone, in memory where /dev/shm is there; mutate_end removes it. */
const char *mutate_folder(void);
/* "FOLDER/NAME"; a ring of buffers. */
const char *mutate_path(const char *name);
/* Write a whole file, of the folder unless the name is a path from the root on; returns its path,
 * until eight others are written. */
const char *mutate_file(const char *name, const void *data, size_t n);
/* The same for one of several files that are only read: one that stays as it is is not written. */
const char *mutate_part(const char *name, const void *data, size_t n);
void mutate_end(void);

#endif
