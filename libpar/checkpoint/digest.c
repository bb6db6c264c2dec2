/* XXH3-128 digests of files and their parts, as hexadecimal digits. */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "libpar/checkpoint/checkpoint.h"

struct par__digest {
    XXH3_state_t *state;
};

par_status par__digest_create(par__digest **out) {
    par__digest *d = malloc(sizeof *d);
    if (d) d->state = XXH3_createState();
    if (!d || !d->state) {
        free(d);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a digest");
    }
    XXH3_128bits_reset(d->state);
    *out = d;
    return PAR_OK;
}

void par__digest_destroy(par__digest **digest) {
    if (!*digest) return;
    XXH3_freeState((*digest)->state);
    free(*digest);
    *digest = NULL;
}

void par__digest_add(par__digest *digest, const void *data, size_t nbytes) {
    XXH3_128bits_update(digest->state, data, nbytes);
}

static void hex(XXH128_hash_t hash, char out[PAR__HASH]) {
    snprintf(out, PAR__HASH, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

void par__digest_end(par__digest *digest, char out[PAR__HASH]) {
    hex(XXH3_128bits_digest(digest->state), out);
    XXH3_128bits_reset(digest->state);
}

void par__hash(const void *data, size_t nbytes, char out[PAR__HASH]) {
    hex(XXH3_128bits(data, nbytes), out);
}
