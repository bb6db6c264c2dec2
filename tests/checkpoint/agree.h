/*
 * A manifest that agrees with another shard of a fixture's checkpoint, as who makes both has it:
 * its digests are those of the shard's bytes.
 */
#ifndef PAR_TESTS_CHECKPOINT_AGREE_H
#define PAR_TESTS_CHECKPOINT_AGREE_H

#include "fixture.h"
#include "libpar/checkpoint/checkpoint.h"

/* Where the fixture's two arrays are taken to lie. */
enum { AT = 64, A_NBYTES = FIXTURE_A * 4, B_NBYTES = FIXTURE_B * 8 };

/* Digests of a shard's bytes, as the manifest has them: of the two arrays, and of what is around
 * them. data [n] as below. */
typedef struct {
    char arrays[2][PAR__HASH], frame[PAR__HASH];
} agree_digests;
void agree_take(const char *data, size_t n, agree_digests *out);

/* data [n], with n > AT + A_NBYTES + B_NBYTES; the manifest says that the runs lie at two offsets.
 * False: the manifest has another form. */
bool agree_shard(const fixture *f, int64_t step, const char *data, size_t n, int64_t at_a,
                 int64_t at_b);

#endif
