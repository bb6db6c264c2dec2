/*
 * Weights as 8-bit integers: par_quantize in par/kernels.h, with the bits that it specifies. Rows
 * are independent; it is bound by the memory that they come from.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* n elements of fp32, which are a group; their scale. */
static float quantize_group(const float *x, int64_t n, int8_t *q) {
    float max = 0, none = 0;
#pragma omp simd reduction(max : max) reduction(+ : none)
    for (int64_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        max = size > max ? size : max;
        none += size * 0.0f; /* NaN if one is inf or NaN */
    }
    if (isnan(none) || max < 0x1p-100f) {
        memset(q, 0, (size_t)n);
        return isnan(none) ? NAN : 0;
    }
    float inverse = 127 / max;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)(int32_t)nearbyintf(x[i] * inverse);
    return max / 127;
}

static void rows(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_quantize *a = call->args;
    int64_t groups = par_int8_groups(a->n);
    cpu_buffer buffer;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = g * PAR_INT8_GROUP, n = cpu_min(PAR_INT8_GROUP, a->n - at);
            const float *x = cpu_read(a->x, a->dtype, i * a->ldx + at, n, buffer);
            a->scales[i * groups + g] = quantize_group(x, n, a->q + i * a->n + at);
        }
        cpu_progress(call->stream, slot);
    }
}

static par_status quantize(par_stream *stream, const void *args, void *workspace) {
    const par_quantize *a = args;
    const cpu_call call = {.args = a, .stream = stream};
    (void)workspace;
    cpu_loop(a->m, a->m * a->n, rows, &call);
    return PAR_OK;
}

void par__cpu_quantize(par_backend *backend) {
    backend->kernels[PAR_OP_QUANTIZE] =
        (par_kernel){CPU_NAME("quantize"), par__ref_no_workspace, quantize};
}
