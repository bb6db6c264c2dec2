/* A model that fails. See failing_model.h. */
#define _POSIX_C_SOURCE 200809L
#include "failing_model.h"

#include <time.h>

#include "libpar/base/clock.h"

enum { MAX_KINDS = 8 };

/* One kind of module; a module's ops point to the first member. */
typedef struct {
    par_module_ops ops;
    const par_module_ops *real;
} kind;

static kind kinds[MAX_KINDS];
static int n_kinds;
static const par_model *inner_model;
static par_status (*inner_gemm)(par_stream *, const void *, void *);
static par_status (*inner_sync)(par_stream *);
static failing_call wanted;
static par_status with;
static int left;
static double slow;
static bool busy;
static double moment;

void failing_slow(failing_call call, int n, double seconds, bool computes) {
    failing_set(call, n, PAR_OK);
    slow = seconds;
    busy = computes;
}

void failing_set(failing_call call, int n, par_status status) {
    wanted = call;
    left = n;
    with = status;
    moment = 0;
}

double failing_moment(void) {
    return moment;
}

static par_status fail_here(failing_call call) {
    const struct timespec pause = {.tv_nsec = 30000000};
    if (call != wanted || --left != 0) return PAR_OK;
    for (double end = par__seconds() + slow; with == PAR_OK && par__seconds() < end;)
        if (!busy) nanosleep(&pause, NULL);
    if (with == PAR_OK) return PAR_OK;
    nanosleep(&pause, NULL);
    moment = par__seconds();
    return par_error_set(with, FAILING_WHY);
}

static const par_module_ops *real_of(const par_module *module) {
    return ((const kind *)(const void *)module->ops)->real;
}

static par_status forward(par_module *m, const par_call *call, const par_tensor *x, par_tensor *y) {
    PAR_TRY(fail_here(call->training ? FAIL_FORWARD : FAIL_EVALUATE));
    return real_of(m)->forward(m, call, x, y);
}

static par_status backward(par_module *m, const par_call *call, const par_tensor *x,
                           const par_tensor *dy, par_tensor *dx) {
    PAR_TRY(fail_here(FAIL_BACKWARD));
    return real_of(m)->backward(m, call, x, dy, dx);
}

static par_status decode(par_module *m, const par_call *call, int64_t position, const par_tensor *x,
                         par_tensor *y) {
    PAR_TRY(fail_here(FAIL_DECODE));
    return real_of(m)->decode(m, call, position, x, y);
}

static par_status create(const void *config, int index, par_module **out) {
    int i = 0;
    PAR_TRY(inner_model->create(config, index, out));
    while (i < n_kinds && kinds[i].real != (*out)->ops) i++;
    if (i == MAX_KINDS) return par_error_set(PAR_ERR_INTERNAL, "more than %d kinds", MAX_KINDS);
    if (i == n_kinds) {
        kinds[n_kinds++] = (kind){.ops = *(*out)->ops, .real = (*out)->ops};
        kinds[i].ops.forward = forward;
        kinds[i].ops.backward = backward;
        kinds[i].ops.decode = kinds[i].real->decode ? decode : NULL;
    }
    (*out)->ops = &kinds[i].ops;
    return PAR_OK;
}

void failing_model(const par_model *inner, par_model *out) {
    inner_model = inner;
    *out = *inner;
    out->create = create;
}

static par_status gemm(par_stream *stream, const void *args, void *workspace) {
    PAR_TRY(fail_here(FAIL_GEMM));
    return inner_gemm(stream, args, workspace);
}

static par_status sync_stream(par_stream *stream) {
    PAR_TRY(fail_here(FAIL_SYNC));
    return inner_sync(stream);
}

void failing_backend(const par_backend *inner, par_backend *out) {
    *out = *inner;
    inner_gemm = inner->kernels[PAR_OP_GEMM].run;
    inner_sync = inner->sync;
    out->kernels[PAR_OP_GEMM].run = gemm;
    out->sync = sync_stream;
}
