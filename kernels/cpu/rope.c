/* Rotary position embedding in place (Su et al. 2021): par_rope in par/kernels.h. 16-bit heads of more than
 * CPU_BLOCK channels go to the reference. */
#include "kernels/cpu/cpu.h"

static void rotate(float *x, int64_t half, const float *cosine, const float *sine, float sign) {
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float x1 = x[i], x2 = x[i + half], s = sign * sine[i];
        x[i] = x1 * cosine[i] - x2 * s;
        x[i + half] = x2 * cosine[i] + x1 * s;
    }
}

/* n heads of row i from head h; 16-bit ones fit a block. */
static void heads(const par_rope *a, int64_t i, int64_t h, int64_t n) {
    cpu_buffer buffer;
    int64_t D = a->head_size, at = i * a->ldx + h * D, position = (a->first_row + i) % a->T * (D / 2);
    float *x = cpu_place(a->x, a->dtype, at, buffer);
    if (a->dtype != PAR_F32) par__cpu_widen(a->x, a->dtype, at, n * D, x);
    for (int64_t k = 0; k < n; k++)
        rotate(x + k * D, D / 2, a->cos + position, a->sin + position, a->inverse ? -1.0f : 1.0f);
    cpu_write(x, a->x, a->dtype, at, n * D);
}

static par_status rope(par_stream *stream, const void *args, void *workspace) {
    const par_rope *a = args;
    if (a->dtype != PAR_F32 && a->head_size > CPU_BLOCK) return par__ref_rope(stream, args, workspace);
    int64_t fit = a->head_size > 0 && a->head_size <= CPU_BLOCK ? CPU_BLOCK / a->head_size : 1;
#pragma omp parallel for schedule(static) if (a->m * a->heads * a->head_size / 2 > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t h = 0; h < a->heads; h += fit) heads(a, i, h, cpu_min(fit, a->heads - h));
    return PAR_OK;
}

void par__cpu_rope(par_backend *backend) {
    backend->kernels[PAR_OP_ROPE] = (par_kernel){CPU_NAME("rope"), par__ref_no_workspace, rope};
}
