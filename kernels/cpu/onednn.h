/*
 * Calls of oneDNN. It takes its number of threads from its OpenMP runtime, per calling thread:
 * between onednn_begin and onednn_end that is one, and the pieces of a product run on libpar's own
 * team. OpenMP's threads wait by spinning, and so make a busy machine slower than one thread.
 *
 * The runtime is the one that oneDNN brings; a oneDNN that was built for another kind of threads
 * has none of these functions, and keeps its own threads.
 */
#ifndef PAR__CPU_ONEDNN_H
#define PAR__CPU_ONEDNN_H

#include <dnnl.h>

extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int n) __attribute__((weak));

/* Returns the calling thread's number of threads, for onednn_end. */
static inline int onednn_begin(void) {
    int before = omp_get_max_threads ? omp_get_max_threads() : 1;
    if (before > 1 && omp_set_num_threads) omp_set_num_threads(1);
    return before;
}

static inline void onednn_end(int before) {
    if (before > 1 && omp_set_num_threads) omp_set_num_threads(before);
}

#endif
