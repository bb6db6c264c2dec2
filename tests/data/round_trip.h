/*
 * What every tokenizer must do: give the ids of a reference, and the same bytes back.
 */
#ifndef PAR_TESTS_DATA_ROUND_TRIP_H
#define PAR_TESTS_DATA_ROUND_TRIP_H

#include <stddef.h>
#include <stdint.h>

#include "par/tokenizer.h"

/* A tokenizer of the shared folder; NULL, with a visible skip, where it is not there. */
par_tokenizer *round_trip_open(const char *path);
/* Encode, compare with `ids` unless NULL, decode, compare with the text. Returns the number of
 * ids. */
size_t round_trip(par_tokenizer *t, const void *text, size_t n, const int32_t *ids,
                  size_t n_expected);
/* Random bytes mixed with characters, spaces and what RFC 3629 forbids. */
void round_trip_random(par_tokenizer *t);
/* Texts and ids of a file {"cases": [{"text", "ids"}]}; a visible skip where it is not there. */
void round_trip_cases(par_tokenizer *t, const char *path);
/* Below n; the same numbers in every run. */
unsigned round_trip_draw(unsigned n);

#endif
