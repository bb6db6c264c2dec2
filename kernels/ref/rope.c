/* Rotary position embedding in half-split form (Su et al. 2021, arXiv 2104.09864): par_rope in
 * par/kernels.h. */
#include "kernels/ref/ref.h"

par_status par__ref_rope(par_stream *stream, const par_rope *a, void *workspace) {
    int64_t half = a->head_size / 2;
    for (int64_t r = 0; r < a->m; r++) {
        int64_t position = (a->first_row + r) % a->T;
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < half; i++) {
                int64_t first = r * a->ldx + h * a->head_size + i, second = first + half;
                double cosine = a->cos[position * half + i], sine = a->sin[position * half + i];
                double x1 = ref_load(a->x, a->dtype, first), x2 = ref_load(a->x, a->dtype, second);
                if (a->inverse) sine = -sine;
                ref_store(a->x, a->dtype, first, x1 * cosine - x2 * sine);
                ref_store(a->x, a->dtype, second, x2 * cosine + x1 * sine);
            }
    }
    return PAR_OK;
}
