/* Rotary position embedding in place (Su et al. 2021): par_rope in par/kernels.h. */
#include "kernels/cpu/cpu.h"

static void rotate(float *x, int64_t half, const float *cosine, const float *sine, float sign) {
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float x1 = x[i], x2 = x[i + half], s = sign * sine[i];
        x[i] = x1 * cosine[i] - x2 * s;
        x[i + half] = x2 * cosine[i] + x1 * s;
    }
}

static par_status rope(par_stream *stream, const void *args, void *workspace) {
    const par_rope *a = args;
    if (a->dtype != PAR_F32) return par__ref_rope(stream, args, workspace);
    int64_t half = a->head_size / 2;
#pragma omp parallel for schedule(static) if (a->m * a->heads * half > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        int64_t position = (a->first_row + i) % a->T;
        float *x = (float *)a->x + i * a->ldx;
        for (int64_t h = 0; h < a->heads; h++)
            rotate(x + h * a->head_size, half, a->cos + position * half, a->sin + position * half,
                   a->inverse ? -1.0f : 1.0f);
    }
    return PAR_OK;
}

void par__cpu_rope(par_backend *backend) {
    backend->kernels[PAR_OP_ROPE] = (par_kernel){CPU_NAME("rope"), par__ref_no_workspace, rope};
}
