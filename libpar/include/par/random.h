/*
 * Random numbers as functions of their coordinates: nothing has a state, so every layout and
 * machine draws the same bits. Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as
 * easy as 1, 2, 3"). Nothing here fails or exchanges a message.
 */
#ifndef PAR_RANDOM_H
#define PAR_RANDOM_H

#include <stdint.h>

#include "par/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The four words of counter c under key k. Not collective. */
PAR_API void par_philox(const uint32_t c[4], const uint32_t k[2], uint32_t out[4]);

/** 64-bit hash of a name (FNV-1a with a finalizer): the stream of a tensor. Not
 * collective. */
PAR_API uint64_t par_hash_name(const char *name);

/** Uniform 64 bits of (seed, stream, index). Not collective. */
PAR_API uint64_t par_random_u64(uint64_t seed, uint64_t stream, uint64_t index);

/**
 * Standard normal of (seed, stream, index), in double from + - * / and sqrt only, so that the bits
 * do not depend on libm. Inverse normal distribution function, Wichura's AS 241 (1988), on 53
 * uniform bits. Not collective.
 */
PAR_API double par_random_normal(uint64_t seed, uint64_t stream, uint64_t index);

/**
 * Keyed bijection of [0, n): a Feistel network walked until it lands inside. O(1). The order of
 * samples in an epoch. Not collective.
 */
PAR_API uint64_t par_random_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index);

#ifdef __cplusplus
}
#endif
#endif
