/*
 * What cuDNN's fused attention is asked for: the shapes that it has kernels for, and what its
 * versions and devices except from them. The exceptions are those of cudnn-frontend 1.23 and of its
 * earlier releases (node/sdpa_support_surface.h, node/scaled_dot_product_flash_attention.h), for
 * causal attention without padding over dense tensors; versions are CUDNN_VERSION. cuDNN may still
 * refuse: the heuristic of the device has the last word.
 *
 * Some of these plans would be built and be wrong. Below 9.15.1 a backward whose T is no multiple
 * of 128 needs a padding mask, which this graph does not have.
 */
#include "kernels/cuda/attention/rules.h"

enum { ALIGNMENT = 16, LATEST = 999999, ANY_DEVICE = 99 };

enum {
    FORWARD = 1 << PAR__FUSED_INFERENCE | 1 << PAR__FUSED_FORWARD,
    DETERMINISTIC = 1 << PAR__FUSED_BACKWARD_DETERMINISTIC,
    BACKWARD = 1 << PAR__FUSED_BACKWARD | DETERMINISTIC,
    ALL = FORWARD | BACKWARD
};

/* Versions [from, below) on compute capability [first, last] want T a multiple, and D no larger; 0:
 * they want nothing of it. A row without either is a refusal. No remedy: own kernels are the best
 * there is for the shape and device. */
typedef struct {
    size_t from, below;
    int first, last;
    int kinds;
    int multiple, largest;
    const char *why, *remedy;
} rule;

static const rule rules[] = {
    {0, LATEST, 0, 7, ALL, 0, 0, "cuDNN's needs compute capability 8.0", NULL},
    {0, 90000, 0, ANY_DEVICE, ALL, 0, 0, "this cuDNN is older than 9.0", "install 9.15.1 or later"},
    {91000, 91002, 0, ANY_DEVICE, ALL, 0, 0, "cuDNN 9.10.0 and 9.10.1 have known defects in it",
     "install 9.10.2 or later, best 9.15.1 or later"},
    {0, 90700, 10, ANY_DEVICE, ALL, 0, 0, "cuDNN before 9.7 has none for compute capability 10",
     "install 9.18 or later"},
    {0, 91501, 8, ANY_DEVICE, BACKWARD, 128, 0,
     "cuDNN before 9.15.1 needs T to be a multiple of 128 in backward",
     "install 9.15.1 or later, or choose such a T"},
    {0, 91800, 10, ANY_DEVICE, DETERMINISTIC, 0, 0,
     "cuDNN before 9.18 has no deterministic backward for compute capability 10",
     "install 9.18 or later, or allow nondeterministic attention"},
    {0, 91000, 8, 8, FORWARD, 0, 128, "cuDNN before 9.10 has heads of up to 128 channels here",
     "install 9.10.2 or later"},
    {0, 90500, 9, 9, BACKWARD, 0, 128,
     "cuDNN before 9.5 has heads of up to 128 channels in backward", "install 9.15.1 or later"},
    {0, 90900, 10, 10, FORWARD, 0, 128, "cuDNN before 9.9 has heads of up to 128 channels here",
     "install 9.9 or later"},
    {0, LATEST, 8, 8, BACKWARD, 0, 128,
     "cuDNN's backward has heads of up to 128 channels on compute capability 8", NULL},
    {0, LATEST, 10, ANY_DEVICE, BACKWARD, 0, 128,
     "cuDNN's backward has heads of up to 128 channels on compute capability 10 and later", NULL},
};

static bool whole(int64_t ld) {
    return ld * 2 % ALIGNMENT == 0;
}

/* What no version and no device has: NULL if the shape is none of that. */
static const char *never(const par_attention *a, par__fused_kind kind) {
    bool rows = whole(a->ldq) && whole(a->ldk) && whole(a->ldv) && whole(a->ldo);
    if (kind >= PAR__FUSED_BACKWARD)
        rows = rows && whole(a->ldd_o) && whole(a->lddq) && whole(a->lddk) && whole(a->lddv);
    bool heads = (a->D >= 64 && a->D <= 128 && a->D % 8 == 0) || a->D == 256;
    if (a->apart) return "cuDNN's is not told where documents begin";
    if (a->dtype == PAR_F32) return "cuDNN's is for 16-bit types";
    if (a->dropout.p != 0) return "cuDNN's has no dropout that repeats libpar's elements";
    if (!heads) return "cuDNN's is for heads of 64 to 128 channels, a multiple of 8, and of 256";
    if (!rows) return "cuDNN's is for rows of whole 16 bytes";
    if (a->B <= 0 || a->H <= 0 || a->T <= 1) return "cuDNN's is for more than one token";
    return NULL;
}

par__fused_refusal par__fused_refuses(const par_attention *a, par__fused_kind kind, size_t version,
                                      int major) {
    const char *why = never(a, kind);
    if (why) return (par__fused_refusal){.why = why};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const rule *r = &rules[i];
        bool applies = version >= r->from && version < r->below && major >= r->first &&
                       major <= r->last && r->kinds >> kind & 1;
        bool broken = (r->multiple == 0 && r->largest == 0) ||
                      (r->multiple && a->T % r->multiple != 0) || (r->largest && a->D > r->largest);
        if (applies && broken) return (par__fused_refusal){r->why, r->remedy};
    }
    return (par__fused_refusal){0};
}

bool par__fused_takes_infinity(size_t version) {
    return version >= 91000;
}

bool par__fused_clears_sums(size_t version) {
    return version >= 90600;
}
