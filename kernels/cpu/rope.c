/* Rotary position embedding in place (Su et al. 2021): par_rope in par/kernels.h. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* The halves of a head at x + at, with the row's angles. */
typedef struct {
    void *x;
    int64_t at, half;
    const float *cosine, *sine;
    float sign;
} head;

CPU_INLINE void rotate(par_dtype t, const head *h, int64_t i, int64_t count) {
    vec x1 = vec_load(h->x, t, h->at + i, count), x2 = vec_load(h->x, t, h->at + h->half + i, count);
    vec c = vec_load(h->cosine, PAR_F32, i, count), s = h->sign * vec_load(h->sine, PAR_F32, i, count);
    vec_store(h->x, t, h->at + i, count, x1 * c - x2 * s);
    vec_store(h->x, t, h->at + h->half + i, count, x2 * c + x1 * s);
}

CPU_INLINE void rotate_row(par_dtype t, const par_rope *a, int64_t i) {
    int64_t half = a->head_size / 2, position = (a->first_row + i) % a->T * half;
    head h = {.x = a->x, .half = half, .cosine = a->cos + position, .sine = a->sin + position};
    h.sign = a->inverse ? -1.0f : 1.0f;
    for (int64_t k = 0; k < a->heads; k++) {
        h.at = i * a->ldx + k * a->head_size;
        CPU_VECTORS(half, rotate, t, &h);
    }
}

static par_status rope(par_stream *stream, const void *args, void *workspace) {
    const par_rope *a = args;
#pragma omp parallel for schedule(static) if (a->m * a->heads * a->head_size / 2 > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) CPU_BY_TYPE(a->dtype, rotate_row, a, i);
    return PAR_OK;
}

void par__cpu_rope(par_backend *backend) {
    backend->kernels[PAR_OP_ROPE] = (par_kernel){CPU_NAME("rope"), par__ref_no_workspace, rope};
}
