/*
 * The device's memory as the host gets at it between steps: initial weights, visits, checkpoints.
 * Where the device's memory is the host's own, nothing is copied; else everything goes through one
 * pinned piece of PAR__STAGING bytes, so that nothing is allocated and no address of the device is
 * read by the host.
 */
#include "trainer.h"

par_status par__trainer_backend(const par_trainer_params *params, const par_backend **out) {
    if (!params->device) return par_backend_get(params->backend ? params->backend : "cpu", out);
    *out = params->device;
    return PAR_OK;
}

par_status par_trainer_copy(const par_trainer *t, void *dst, const void *src, size_t nbytes) {
    PAR_REQUIRE(t && (nbytes == 0 || (dst && src)));
    PAR_TRY(t->backend->copy(t->stream, dst, src, nbytes));
    return t->backend->sync(t->stream);
}

int64_t par__host_piece(const par_trainer *t, int64_t n, size_t size) {
    int64_t piece = (int64_t)(PAR__STAGING / size);
    return t->staging && n > piece ? piece : n;
}

par_status par__host_view(const par_trainer *t, const void *device, size_t nbytes,
                          const void **out) {
    *out = t->staging ? t->staging : device;
    if (t->staging) return par_trainer_copy(t, t->staging, device, nbytes);
    return t->backend->sync(t->stream);
}

void *par__host_room(const par_trainer *t, void *device) {
    return t->staging ? t->staging : device;
}

par_status par__host_store(const par_trainer *t, void *device, size_t nbytes) {
    return t->staging ? par_trainer_copy(t, device, t->staging, nbytes) : PAR_OK;
}
