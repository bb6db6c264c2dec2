/* Plans in a list; there are as many as a model has shapes. See plan_cache.h. */
#include "kernels/cuda/plan_cache.h"

#include <stdlib.h>
#include <string.h>

struct par__planned {
    struct par__planned *next;
    void *key, *plan; /* behind this struct */
};

static struct par__planned *find(const par__plan_cache *cache, const void *key) {
    for (struct par__planned *p = cache->first; p; p = p->next)
        if (memcmp(p->key, key, cache->key_nbytes) == 0) return p;
    return NULL;
}

static size_t rounded(size_t nbytes) {
    return (nbytes + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
}

static par_status add(par__plan_cache *cache, const void *key, struct par__planned **out) {
    size_t head = rounded(sizeof **out), plan = rounded(cache->plan_nbytes);
    struct par__planned *p = calloc(1, head + plan + cache->key_nbytes);
    if (!p) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a plan of %s", cache->what);
    p->plan = (char *)p + head;
    p->key = (char *)p + head + plan;
    memcpy(p->key, key, cache->key_nbytes);
    par_status st = cache->make(p->key, p->plan);
    if (st != PAR_OK) {
        free(p);
        return st;
    }
    p->next = cache->first;
    cache->first = p;
    *out = p;
    return PAR_OK;
}

par_status par__plan_prepare(par__plan_cache *cache, const void *key, void **plan) {
    par_status st = PAR_OK;
    pthread_mutex_lock(&cache->lock);
    struct par__planned *p = find(cache, key);
    if (!p) st = add(cache, key, &p);
    if (st == PAR_OK) *plan = p->plan;
    pthread_mutex_unlock(&cache->lock);
    return st;
}

void *par__plan_acquire(par__plan_cache *cache, const void *key) {
    pthread_mutex_lock(&cache->lock);
    struct par__planned *p = find(cache, key);
    if (p) return p->plan;
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

void par__plan_release(par__plan_cache *cache) {
    pthread_mutex_unlock(&cache->lock);
}

par_status par__plan_each(par__plan_cache *cache, par_status (*f)(const void *key, void *plan)) {
    par_status st = PAR_OK;
    pthread_mutex_lock(&cache->lock);
    for (struct par__planned *p = cache->first; p && st == PAR_OK; p = p->next)
        st = f(p->key, p->plan);
    pthread_mutex_unlock(&cache->lock);
    return st;
}
