/* Guarded buffers, poison, and the comparison of two backends: see bench.h. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../train/allocations.h"
#include "device.h"
#include "kernels/half.h"
#include "par/threads.h"

enum { GUARD = 256, GUARD_BYTE = 0xa5 };

const par_backend *bench_subject;
bool bench_is_ref;
static const char *subject_name;
static char label[256], missing[1024];

double bench_load(const void *data, par_dtype dtype, int64_t i) {
    if (dtype == PAR_F32) return ((const float *)data)[i];
    if (dtype == PAR_U8) return ((const int8_t *)data)[i];
    uint16_t h = ((const uint16_t *)data)[i];
    return dtype == PAR_BF16 ? par__bf16_to_f32(h) : par__f16_to_f32(h);
}

void bench_store(void *data, par_dtype dtype, int64_t i, double value) {
    if (dtype == PAR_F32)
        ((float *)data)[i] = (float)value;
    else if (dtype == PAR_U8)
        ((int8_t *)data)[i] = (int8_t)value;
    else
        ((uint16_t *)data)[i] =
            dtype == PAR_BF16 ? par__f32_to_bf16((float)value) : par__f32_to_f16((float)value);
}

double bench_unit(par_dtype dtype) {
    return dtype == PAR_F32 ? 0x1p-23 : dtype == PAR_BF16 ? 0x1p-7 : 0x1p-10;
}

double bench_sum(int64_t n, double term) {
    return 4 * sqrt((double)n) * BENCH_U * (double)n * term;
}

par_step bench_step(float lr, float grad_scale, int64_t t, double b1, double b2) {
    return (par_step){.t = t,
                      .correction1 = 1 - pow(b1, (double)t),
                      .correction2 = 1 - pow(b2, (double)t),
                      .lr = lr,
                      .grad_scale = grad_scale};
}

static unsigned char *data_of(const bench_buffer *buffer) {
    return buffer->block + GUARD + (size_t)buffer->skew * par_dtype_nbytes(buffer->dtype);
}

static bench_buffer *add(bench *b, const char *name, par_dtype dtype, int64_t rows, int64_t width,
                         int64_t ld) {
    if (b->n == BENCH_BUFFERS) abort();
    bench_buffer *buffer = &b->buffers[b->n++];
    *buffer = (bench_buffer){
        .name = name, .dtype = dtype, .rows = rows, .width = width, .ld = ld, .skew = b->skew};
    /* the last row ends with its width: a gap after it is not the callee's */
    buffer->nbytes = rows > 0 ? (size_t)((rows - 1) * ld + width) * par_dtype_nbytes(dtype) : 0;
    size_t skew = (size_t)b->skew * par_dtype_nbytes(dtype);
    buffer->block = malloc(buffer->nbytes + skew + 2 * GUARD);
    buffer->before = malloc(buffer->nbytes + 1);
    if (!buffer->block || !buffer->before) abort();
    memset(buffer->block, GUARD_BYTE, buffer->nbytes + skew + 2 * GUARD);
    for (int64_t i = 0; i < (int64_t)(buffer->nbytes / par_dtype_nbytes(dtype)); i++)
        if (dtype != PAR_I32 && dtype != PAR_U8)
            bench_store(data_of(buffer), dtype, i, (double)NAN);
    return buffer;
}

static void fill(bench *b, bench_buffer *buffer, double magnitude) {
    for (int64_t i = 0; i < buffer->rows; i++)
        for (int64_t j = 0; j < buffer->width; j++)
            bench_store(data_of(buffer), buffer->dtype, i * buffer->ld + j,
                        magnitude *
                            harness_noise((uint64_t)b->n, (uint64_t)(i * buffer->width + j)));
}

static void *done(bench_buffer *buffer) {
    memcpy(buffer->before, data_of(buffer), buffer->nbytes);
    return data_of(buffer);
}

void *bench_in(bench *b, par_dtype dtype, int64_t rows, int64_t width, int64_t ld,
               double magnitude) {
    bench_buffer *buffer = add(b, "an input", dtype, rows, width, ld);
    fill(b, buffer, magnitude);
    return done(buffer);
}

void *bench_out(bench *b, const char *name, par_dtype dtype, int64_t rows, int64_t width,
                int64_t ld, double absolute) {
    bench_buffer *buffer = add(b, name, dtype, rows, width, ld);
    buffer->output = true;
    buffer->absolute = absolute;
    return done(buffer);
}

void *bench_inout(bench *b, const char *name, par_dtype dtype, int64_t rows, int64_t width,
                  int64_t ld, double magnitude, double absolute) {
    void *data = bench_out(b, name, dtype, rows, width, ld, absolute);
    if (!isnan(magnitude)) fill(b, &b->buffers[b->n - 1], magnitude);
    return data;
}

int32_t *bench_ids(bench *b, int64_t n, int64_t low, int64_t high) {
    bench_buffer *buffer = add(b, "the ids", PAR_I32, 1, n, n);
    int32_t *ids = (int32_t *)(void *)data_of(buffer);
    for (int64_t i = 0; i < n; i++) {
        double u = (harness_noise((uint64_t)b->n, (uint64_t)i) + 1) / 2;
        ids[i] = (int32_t)(low + (int64_t)(u * (double)(high - low)));
        if (ids[i] >= high) ids[i] = (int32_t)high - 1;
    }
    return done(buffer);
}

static bench_buffer *buffer_of(bench *b, const void *data) {
    for (int i = 0; i < b->n; i++)
        if (data_of(&b->buffers[i]) == data) return &b->buffers[i];
    abort();
}

void bench_offset(bench *b, const void *data, double offset) {
    bench_buffer *buffer = buffer_of(b, data);
    for (int64_t i = 0; i < buffer->rows; i++)
        for (int64_t j = 0; j < buffer->width; j++) {
            int64_t at = i * buffer->ld + j;
            double x = bench_load(data, buffer->dtype, at);
            bench_store(data_of(buffer), buffer->dtype, at, x + offset);
        }
    done(buffer);
}

static bool all(const unsigned char *bytes, size_t n, unsigned char value) {
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != value) return false;
    return true;
}

static device_range find(void *user, const void *data) {
    const bench *b = user;
    for (int i = 0; i < b->n; i++) {
        bench_buffer x = b->buffers[i];
        const unsigned char *begin = data_of(&x), *at = data;
        if (at >= begin && at < begin + x.nbytes)
            return (device_range){x.block, (size_t)(begin - x.block) + x.nbytes + GUARD};
    }
    return (device_range){0};
}

static void call_device(bench *b, par_op op, const void *args) {
    bool intact = true;
    CHECK_OK(device_call(b->backend, op, args, find, b, &intact));
    CHECK(intact, "%s: %s wrote outside its workspace or its operands", label, par_op_name(op));
}

bench *bench_alone(void) {
    static bench alone;
    alone.backend = bench_subject;
    return &alone;
}

void bench_run_untyped(bench *b, par_op op, const void *args) {
    size_t nbytes = 0, args_nbytes = par_op_args_nbytes(op);
    if (harness_failed()) return;
    if (!b->backend->on_host) {
        call_device(b, op, args);
        return;
    }
    CHECK_OK(par_op_prepare_untyped(b->backend, op, args, args_nbytes, &nbytes));
    if (harness_failed()) return;
    /* aligned as an arena's blocks are; NaN in all types: a workspace has no contents */
    unsigned char *block = aligned_alloc(256, (nbytes + 255) / 256 * 256 + 2 * GUARD);
    if (!block) abort();
    memset(block, GUARD_BYTE, nbytes + 2 * GUARD);
    memset(block + GUARD, 0xff, nbytes);
    allocations_count taken;
    allocations_begin();
    par_status st =
        par_op_run_untyped(b->backend, op, NULL, args, args_nbytes, nbytes ? block + GUARD : NULL);
    allocations_end(&taken);
    CHECK_OK(st);
    CHECK(!allocations_can_count() || taken.n[BY_LIBPAR] == 0,
          "%s: %s on %s allocated %lld times, first at %p", label, par_op_name(op),
          b->backend->name, (long long)taken.n[BY_LIBPAR], taken.first_libpar);
    CHECK(all(block, GUARD, GUARD_BYTE) && all(block + GUARD + nbytes, GUARD, GUARD_BYTE),
          "%s: %s wrote outside its workspace of %zu bytes", label, par_op_name(op), nbytes);
    free(block);
}

static void check_untouched(const bench *b, const bench_buffer *x) {
    size_t size = par_dtype_nbytes(x->dtype);
    CHECK(all(x->block, GUARD, GUARD_BYTE), "%s: %s wrote before %s", label, b->backend->name,
          x->name);
    CHECK(all(data_of(x) + x->nbytes, GUARD, GUARD_BYTE), "%s: %s wrote behind %s", label,
          b->backend->name, x->name);
    if (!x->output)
        CHECK(memcmp(x->before, data_of(x), x->nbytes) == 0, "%s: %s changed an input", label,
              b->backend->name);
    for (int64_t i = 0; i + 1 < x->rows; i++) {
        size_t at = (size_t)(i * x->ld + x->width) * size, n = (size_t)(x->ld - x->width) * size;
        CHECK(memcmp(x->before + at, data_of(x) + at, n) == 0,
              "%s: %s wrote between rows %lld and %lld of %s", label, b->backend->name,
              (long long)i, (long long)i + 1, x->name);
    }
}

static bool close_enough(const bench_buffer *r, double subject, double ref) {
    if (r->absolute < 0) return subject == ref;
    double subnormal = r->dtype == PAR_F16 ? 0x1p-24 : 0;
    double unit = r->dtype == PAR_F32 ? 2 * bench_unit(PAR_F32) : bench_unit(r->dtype);
    return isinf(ref) ? subject == ref
                      : fabs(subject - ref) <= r->absolute + subnormal + unit * fabs(ref);
}

static void compare_buffer(const bench_buffer *r, const bench_buffer *s) {
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t j = 0; j < r->width; j++) {
            double ref = bench_load(data_of(r), r->dtype, i * r->ld + j);
            double subject = bench_load(data_of(s), s->dtype, i * s->ld + j);
            CHECK(!isnan(ref), "%s: ref left NaN in %s[%lld,%lld]", label, r->name, (long long)i,
                  (long long)j);
            CHECK(close_enough(r, subject, ref),
                  "%s: %s[%lld,%lld] is %.9g, ref has %.9g, allowed %.3g + units", label, r->name,
                  (long long)i, (long long)j, subject, ref, r->absolute);
        }
}

void bench_destroy(bench *b) {
    for (int i = 0; i < b->n; i++) {
        free(b->buffers[i].block);
        free(b->buffers[i].before);
    }
}

void bench_compare(void (*build)(bench *, const void *), const void *variant, const char *format,
                   ...) {
    bench ref = {0}, subject = {.backend = bench_subject};
    va_list args;
    if (harness_failed()) return;
    va_start(args, format);
    vsnprintf(label, sizeof label, format, args);
    va_end(args);
    CHECK_OK(par_backend_get("ref", &ref.backend));
    build(&ref, variant);
    build(&subject, variant);
    for (int i = 0; i < ref.n && !harness_failed(); i++) {
        check_untouched(&ref, &ref.buffers[i]);
        check_untouched(&subject, &subject.buffers[i]);
        if (ref.buffers[i].output) compare_buffer(&ref.buffers[i], &subject.buffers[i]);
    }
    bench_destroy(&ref);
    bench_destroy(&subject);
}

bool bench_ready(void) {
    if (!bench_subject) harness_skip("no backend \"%s\": %s", subject_name, missing);
    return bench_subject != NULL;
}

bool bench_ready_for(par_op op) {
    if (!bench_ready()) return false;
    if (strncmp(bench_subject->kernels[op].name, "none", 4) != 0) return true;
    harness_skip("backend \"%s\" has no %s", subject_name, par_op_name(op));
    return false;
}

int bench_main(const char *backend, int argc, char **argv) {
    static const struct {
        const harness_case *cases;
        const int *n;
    } topics[] = {
#define TOPIC(name) {name##_cases, &n_##name##_cases},
        BENCH_TOPICS(TOPIC)
#undef TOPIC
    };
    harness_case cases[64];
    char suite[64];
    int n = 0;
    for (int i = 0; i < HARNESS_COUNT(topics); i++)
        for (int j = 0; j < *topics[i].n; j++) cases[n++] = topics[i].cases[j];
    subject_name = backend;
    if (par_threads_set(7) != PAR_OK) return 1; /* more than cores: any order of ranges */
    bench_is_ref = strcmp(backend, "ref") == 0;
    if (par_backend_get(backend, &bench_subject) != PAR_OK) {
        snprintf(missing, sizeof missing, "%s", par_error());
        bench_subject = NULL;
    }
    snprintf(suite, sizeof suite, "kernels_%s", backend);
    return harness_main(suite, cases, n, argc, argv);
}
