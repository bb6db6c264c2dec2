/* The device's memory as the host gets at it between steps. */
#include "host.h"

static par_status copy(void *host, void *dst, const void *src, size_t nbytes) {
    return par__host_copy(host, dst, src, nbytes);
}

par_status par__host_take(par__host *h, const par__context *on) {
    void *staging = NULL;
    h->on = on;
    if (on->backend->on_host) return PAR_OK;
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_DATA, "staging", PAR__STAGING, &staging));
    h->staging = staging;
    h->checkpoint = (par_checkpoint_staging){copy, h, staging, PAR__STAGING};
    return PAR_OK;
}

par_status par__host_copy(const par__host *h, void *dst, const void *src, size_t nbytes) {
    PAR_TRY(h->on->backend->copy(h->on->stream, dst, src, nbytes));
    return par__sync(h->on);
}

int64_t par__host_piece(const par__host *h, int64_t n, size_t size) {
    int64_t piece = (int64_t)(PAR__STAGING / size);
    return h->staging && n > piece ? piece : n;
}

par_status par__host_view(const par__host *h, const void *device, size_t nbytes, const void **out) {
    *out = h->staging ? h->staging : device;
    if (h->staging) return par__host_copy(h, h->staging, device, nbytes);
    return par__sync(h->on);
}

void *par__host_room(const par__host *h, void *device) {
    return h->staging ? h->staging : device;
}

par_status par__host_store(const par__host *h, void *device, size_t nbytes) {
    return h->staging ? par__host_copy(h, device, h->staging, nbytes) : PAR_OK;
}
