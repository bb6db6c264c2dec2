/* FNV-1a (Fowler, Noll, Vo), byte by byte from a first value or from the hash of what came before.
 * It needs nothing of the library, so that the loadable module has it too. */
#ifndef PAR__HASH_H
#define PAR__HASH_H

#include <stddef.h>
#include <stdint.h>

#define PAR__FNV64 UINT64_C(0xcbf29ce484222325)
#define PAR__FNV32 UINT32_C(2166136261)

static inline uint64_t par__fnv64(uint64_t hash, const void *data, size_t n) {
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}
static inline uint32_t par__fnv32(uint32_t hash, const void *data, size_t n) {
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * UINT32_C(16777619);
    return hash;
}

#endif
