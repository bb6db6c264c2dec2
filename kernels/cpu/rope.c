/* Rotary position embedding in place (Su et al. 2021): par_rope in par/kernels.h. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* Columns [i, i + count) of both halves of each head: x + at is the row's first head. */
CPU_INLINE void rotate(par_dtype t, const par_rope *a, int64_t at, int64_t angle, float sign, int64_t i,
                       int64_t count) {
    pair c = pair_load_f32(a->cos, t, angle + i, count), s = pair_load_f32(a->sin, t, angle + i, count);
    for (int k = 0; k < 2; k++) s.v[k] *= sign;
    for (int64_t head = 0; head < a->heads; head++) {
        int64_t at1 = at + head * a->head_size + i, at2 = at1 + a->head_size / 2;
        pair x1 = pair_load(a->x, t, at1, count), x2 = pair_load(a->x, t, at2, count), y1, y2;
        for (int k = 0; k < 2; k++) {
            y1.v[k] = x1.v[k] * c.v[k] - x2.v[k] * s.v[k];
            y2.v[k] = x2.v[k] * c.v[k] + x1.v[k] * s.v[k];
        }
        pair_store(a->x, t, at1, count, y1);
        pair_store(a->x, t, at2, count, y2);
    }
}

CPU_INLINE void rotate_row(par_dtype t, const par_rope *a, int64_t i) {
    int64_t half = a->head_size / 2, angle = (a->first_row + i) % a->T * half;
    CPU_PAIRS(half, rotate, t, a, i * a->ldx, angle, a->inverse ? -1.0f : 1.0f);
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
