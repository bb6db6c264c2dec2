/*
 * Whether jansson has memory enough. It does not say so: its reader leaves out a byte of a text
 * that it cannot store, or calls the text bad. So its allocations, which are malloc's or the host's
 * own, are called through a function that remembers, and the host's are put back. Other threads
 * that use jansson meanwhile get the same memory as before.
 */
#include <jansson.h>
#include <pthread.h>

#include "libpar/checkpoint/checkpoint.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* from begin to end */
static json_malloc_t host_malloc;
static json_free_t host_free;
static _Thread_local bool failed;

static void *take(size_t nbytes) {
    void *block = host_malloc(nbytes);
    if (!block) failed = true;
    return block;
}

void par__json_begin(void) {
    pthread_mutex_lock(&lock);
    json_get_alloc_funcs(&host_malloc, &host_free);
    json_set_alloc_funcs(take, host_free);
    failed = false;
}

bool par__json_end(void) {
    bool enough = !failed;
    json_set_alloc_funcs(host_malloc, host_free);
    pthread_mutex_unlock(&lock);
    return enough;
}
