/*
 * Documents that are apart, in own attention kernels: which keys a query sees, and where walks over
 * tiles begin and end. Tiles that no query sees are not walked; in the others scores are masked.
 */
#ifndef PAR__ATTENTION_DOCUMENTS_CUH
#define PAR__ATTENTION_DOCUMENTS_CUH

#include "par/kernels.h"

/* The first key that query t of sequence b sees; of one behind the last, what that one sees. */
__device__ static inline int64_t first_key(const par_attention &a, int64_t b, int64_t t) {
    return a.apart ? a.documents[b * a.T + (t < a.T ? t : a.T - 1)] : 0;
}

/* Behind the last query that sees `key` or one before it: documents do not fall. */
__device__ static inline int64_t queries_end(const par_attention &a, int64_t b, int64_t key) {
    int64_t last = key, end = a.T;
    while (a.apart && end - last > 1) {
        int64_t middle = (last + end) / 2;
        if (a.documents[b * a.T + middle] <= key)
            last = middle;
        else
            end = middle;
    }
    return end;
}

#endif
