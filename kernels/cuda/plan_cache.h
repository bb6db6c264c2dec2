/*
 * Plans of the libraries' operations, by a key: a struct that was zeroed before it was filled and
 * is compared as bytes. prepare makes plans; run finds the one of its shape or refuses, so that it
 * never asks a library for one, allocates or waits. Plans stay until the process ends, at the same
 * address.
 *
 * A cache has one lock, for its plans and for what they share (a library's handle, whose stream is
 * set for each call; a plan's pointers): run holds it from par__plan_acquire to par__plan_release.
 */
#ifndef PAR__PLAN_CACHE_H
#define PAR__PLAN_CACHE_H

#include <pthread.h>
#include <stddef.h>

#include "par/kernels.h"

typedef struct {
    const char *what; /* "products": for errors */
    size_t key_nbytes, plan_nbytes;
    /* Fill a zeroed plan. On failure nothing of it is left. */
    par_status (*make)(const void *key, void *plan);
    pthread_mutex_t lock;
    struct par__planned *first; /* newest first; the cache's own */
} par__plan_cache;

/* The plan of a key, made if there is none. What make sets once may be read without the lock. */
par_status par__plan_prepare(par__plan_cache *cache, const void *key, void **plan);

/* The plan of a key, with the lock held until par__plan_release; NULL, without the lock, if prepare
 * never saw the key. */
void *par__plan_acquire(par__plan_cache *cache, const void *key);
void par__plan_release(par__plan_cache *cache);

/* f(key, plan) for all plans, under the lock, up to the first failure. */
par_status par__plan_each(par__plan_cache *cache, par_status (*f)(const void *key, void *plan));

#endif
