/* Rotary position embedding in place (Su et al. 2021): par_rope in par/kernels.h. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* A row: its first head begins at x + at, its angles at `angle`. */
typedef struct {
    void *x;
    int64_t at, heads, head_size, half, angle;
    const float *cos, *sin;
    float sign;
} row;

/* Columns [i, i + PAIR) of both halves of each head. */
CPU_INLINE void rotate_pair(par_dtype t, const row *r, int64_t i) {
    pair c = pair_load_f32(r->cos, t, r->angle + i, PAIR),
         s = pair_load_f32(r->sin, t, r->angle + i, PAIR);
    for (int k = 0; k < 2; k++) s.v[k] *= r->sign;
    for (int64_t head = 0; head < r->heads; head++) {
        int64_t at1 = r->at + i + head * r->head_size, at2 = at1 + r->half;
        pair x1 = pair_load(r->x, t, at1, PAIR), x2 = pair_load(r->x, t, at2, PAIR), y1, y2;
        for (int k = 0; k < 2; k++) {
            y1.v[k] = x1.v[k] * c.v[k] - x2.v[k] * s.v[k];
            y2.v[k] = x2.v[k] * c.v[k] + x1.v[k] * s.v[k];
        }
        pair_store(r->x, t, at1, PAIR, y1);
        pair_store(r->x, t, at2, PAIR, y2);
    }
}

/* Columns [begin + i, begin + i + count), count <= LANES. */
CPU_INLINE void rotate_rest(par_dtype t, const row *r, int64_t begin, int64_t i, int64_t count) {
    vec c = vec_load(r->cos, PAR_F32, r->angle + begin + i, count);
    vec s = r->sign * vec_load(r->sin, PAR_F32, r->angle + begin + i, count);
    for (int64_t head = 0; head < r->heads; head++) {
        int64_t at1 = r->at + begin + i + head * r->head_size, at2 = at1 + r->half;
        vec x1 = vec_load(r->x, t, at1, count), x2 = vec_load(r->x, t, at2, count);
        vec_store(r->x, t, at1, count, x1 * c - x2 * s);
        vec_store(r->x, t, at2, count, x2 * c + x1 * s);
    }
}

CPU_INLINE void rotate_row(par_dtype t, const par_rope *a, int64_t i) {
    row r = {.x = a->x,
             .at = i * a->ldx,
             .heads = a->heads,
             .head_size = a->head_size,
             .half = a->head_size / 2,
             .cos = a->cos,
             .sin = a->sin,
             .sign = a->inverse ? -1.0f : 1.0f};
    int64_t begin = 0;
    r.angle = (a->first_row + i) % a->T * r.half;
    for (; begin + PAIR <= r.half; begin += PAIR) rotate_pair(t, &r, begin);
    CPU_VECTORS(r.half - begin, rotate_rest, t, &r, begin);
}

static void rotate_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const par_rope *a = user;
    for (int64_t i = begin; i < end; i++) CPU_BY_TYPE(a->dtype, rotate_row, a, i);
}

static par_status rope(par_stream *stream, const void *args, void *workspace) {
    const par_rope *a = args;
    cpu_loop(a->m, a->m * a->heads * a->head_size / 2, rotate_rows, a);
    return PAR_OK;
}

void par__cpu_rope(par_backend *backend) {
    backend->kernels[PAR_OP_ROPE] = (par_kernel){CPU_NAME("rope"), par__ref_no_workspace, rope};
}
