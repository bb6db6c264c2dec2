/* Memory, copies and events of host backends: a call is done when it returns, so an event has
 * nothing to remember. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backends.h"
#include "libpar/base/threads.h"

enum { ALIGNMENT = 256 };

/* Zeros. Of a large block the system gives pages as they are touched, so what a run never uses
 * takes neither time nor memory. Where free wants it, the address that calloc gave stands right
 * before the block. */
static par_status host_alloc(size_t nbytes, void **out) {
    PAR_REQUIRE(out);
    size_t before = sizeof(void *) + ALIGNMENT - 1;
    if (nbytes > PTRDIFF_MAX - 2 * ALIGNMENT)
        PAR_FAIL(PAR_ERR_MEMORY, "host memory: %zu bytes are more than an object can have", nbytes);
    void *whole = calloc(1, (nbytes + before + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!whole) PAR_FAIL(PAR_ERR_MEMORY, "host memory: %zu bytes could not be allocated", nbytes);
    char *block = (char *)whole + before;
    block -= (uintptr_t)block % ALIGNMENT;
    memcpy(block - sizeof whole, &whole, sizeof whole);
    *out = block;
    return PAR_OK;
}

static void host_release(void *block, size_t nbytes) {
    void *whole;
    (void)nbytes;
    if (!block) return;
    memcpy(&whole, (char *)block - sizeof whole, sizeof whole);
    free(whole);
}

static par_status host_copy(par_stream *stream, void *dst, const void *src, size_t nbytes) {
    (void)stream;
    PAR_REQUIRE(nbytes == 0 || (dst && src));
    if (nbytes > 0) memcpy(dst, src, nbytes);
    return PAR_OK;
}

static par_status host_zero(par_stream *stream, void *dst, size_t nbytes) {
    (void)stream;
    PAR_REQUIRE(nbytes == 0 || dst);
    if (nbytes > 0) memset(dst, 0, nbytes);
    return PAR_OK;
}

static par_status host_stream_create(par_stream **out) {
    PAR_REQUIRE(out);
    *out = calloc(1, sizeof **out);
    if (!*out) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a stream");
    par__threads_hold();
    return PAR_OK;
}

static void host_stream_destroy(par_stream *stream) {
    if (stream) par__threads_release();
    free(stream);
}

/* Any address but NULL: there is nothing to remember. */
static par_status host_event_create(par_event **out) {
    static char nothing;
    PAR_REQUIRE(out);
    *out = (par_event *)(void *)&nothing;
    return PAR_OK;
}

static void host_event_destroy(par_event *event) {
    (void)event;
}

static par_status host_event(par_stream *stream, par_event *event) {
    (void)stream;
    (void)event;
    return PAR_OK;
}

static par_status host_query(par_event *event, bool *done) {
    (void)event;
    *done = true;
    return PAR_OK;
}

static par_status host_sync(par_stream *stream) {
    (void)stream;
    return PAR_OK;
}

void par__host_init(par_backend *backend) {
    backend->on_host = true;
    backend->memory = backend->host_memory = (par_allocator){host_alloc, host_release};
    backend->stream_create = host_stream_create;
    backend->stream_destroy = host_stream_destroy;
    backend->event_create = host_event_create;
    backend->event_destroy = host_event_destroy;
    backend->event_query = host_query;
    backend->copy = host_copy;
    backend->zero = host_zero;
    backend->event_record = host_event;
    backend->wait = host_event;
    backend->sync = host_sync;
}
