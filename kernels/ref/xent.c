/*
 * Softmax cross-entropy over a vocabulary that is split over p ranks: par_xent in par/kernels.h.
 * A rank keeps only its columns of the logits; three numbers per row are exchanged.
 */
#include <math.h>

#include "kernels/ref/ref.h"

par_status par__ref_xent_stats(par_stream *stream, const par_xent *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++) {
        double max = -INFINITY, sum = 0;
        int64_t target = a->targets[i] < 0 ? -1 : a->targets[i] - a->begin;
        for (int64_t j = 0; j < a->valid; j++) {
            double x = ref_load(a->logits, a->dtype, i * a->ldx + j);
            if (x > max) max = x;
        }
        for (int64_t j = 0; j < a->valid; j++)
            sum += exp(ref_load(a->logits, a->dtype, i * a->ldx + j) - max);
        a->stats[3 * i] = (float)max;
        a->stats[3 * i + 1] = (float)sum;
        a->stats[3 * i + 2] = 0 <= target && target < a->valid
                                  ? (float)ref_load(a->logits, a->dtype, i * a->ldx + target)
                                  : 0;
        par__progress(stream);
    }
    return PAR_OK;
}

/* lse: log sum over ranks of sum_r exp(max_r - max), plus max; a rank without valid columns has sum
 * 0 and max -inf. */
par_status par__ref_xent_loss(par_stream *stream, const par_xent *a, void *workspace) {
    double loss = 0, rows = 0;
    for (int64_t i = 0; i < a->m; i++) {
        double max = -INFINITY, sum = 0, target = 0;
        for (int r = 0; r < a->p; r++) {
            const float *stats = a->stats + 3 * (r * a->m + i);
            if (stats[0] > max) max = stats[0];
            target += stats[2];
        }
        for (int r = 0; r < a->p; r++) {
            const float *stats = a->stats + 3 * (r * a->m + i);
            if (stats[1] != 0) sum += stats[1] * exp(stats[0] - max);
        }
        double lse = max + log(sum);
        a->lse[i] = (float)lse;
        if (a->targets[i] < 0) continue;
        loss += lse - target;
        rows += 1;
    }
    a->sums[0] = (float)(loss + (a->accumulate ? a->sums[0] : 0));
    a->sums[1] = (float)(rows + (a->accumulate ? a->sums[1] : 0));
    return PAR_OK;
}

par_status par__ref_xent_backward(par_stream *stream, const par_xent *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++) {
        int64_t target = a->targets[i] - a->begin;
        for (int64_t j = 0; j < a->n; j++) {
            double d = 0;
            if (a->targets[i] >= 0 && j < a->valid)
                d = (exp(ref_load(a->logits, a->dtype, i * a->ldx + j) - a->lse[i]) -
                     (j == target)) *
                    *a->seed;
            ref_store(a->logits, a->dtype, i * a->ldx + j, d);
        }
        par__progress(stream);
    }
    return PAR_OK;
}
