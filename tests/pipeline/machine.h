/*
 * A machine that runs lists of all stages on tokens, as the executor would run them on tensors, in
 * a random order of stages. It knows no rules: it moves tokens, spoils what is freed, and says
 * whether every token ended where it should. Against it the checker is tested.
 */
#ifndef PAR_TESTS_PIPELINE_MACHINE_H
#define PAR_TESTS_PIPELINE_MACHINE_H

#include "lists.h"

/* True if the lists, whose numbers must be in range, compute a step. `seed` chooses the order of
 * stages. */
bool machine_runs(const lists *, uint64_t seed);

#endif
