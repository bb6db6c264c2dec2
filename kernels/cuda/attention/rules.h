/* What cuDNN's fused attention is asked for, by its version and the device: one table. Nothing here
 * calls cuDNN. */
#ifndef PAR__ATTENTION_RULES_H
#define PAR__ATTENTION_RULES_H

#include "kernels/cuda/attention/plan.h"

/* Both NULL: it is asked. */
typedef struct {
    const char *why;    /* own kernels compute it */
    const char *remedy; /* what would let cuDNN; NULL: nothing */
} par__fused_refusal;

/* version: cudnnGetVersion(); major: of the compute capability. */
par__fused_refusal par__fused_refuses(const par_attention *a, par__fused_kind kind, size_t version,
                                      int major);

/* Whether the mask may be -infinity; else it is the lowest finite number. */
bool par__fused_takes_infinity(size_t version);
/* Whether it clears the sums of dq; else the caller does. */
bool par__fused_clears_sums(size_t version);

#endif
