/*
 * cuDNN's fused attention on the device: which shapes it gets, the plans of this process, and their
 * runs. prepare builds plans, run finds them by their shape, sets the stream and executes. The
 * module keeps plans and the handle until the process ends.
 *
 * The deterministic backward stores dS, T² numbers per head: where that needs more than its limit
 * prepare refuses with the figure, unless sums in any order are allowed.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/attention/rules.h"
#include "kernels/cuda/attention/status.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/plan_cache.h"

enum { ALIGNMENT = 16, ROUND = 256, REASON = 400 };

static cudnnHandle_t handle;
static size_t limit_nbytes;
static bool any_order;
static char folder[512], device_name[512];

par_status par__cudnn_attention_init(const par_device_params *params) {
    const par__cuda_device *d = par__cuda_device_get();
    limit_nbytes =
        params->attention_workspace_nbytes ? params->attention_workspace_nbytes : d->nbytes / 8;
    any_order = params->nondeterministic_attention;
    snprintf(device_name, sizeof device_name, "%s sm_%d%d, %d multiprocessors, CUDA %d", d->name,
             d->major, d->minor, d->n_multiprocessors, d->runtime);
    if (!params->plan_cache || !*params->plan_cache) return PAR_OK;
    if (strlen(params->plan_cache) >= sizeof folder ||
        access(params->plan_cache, R_OK | W_OK | X_OK) != 0)
        PAR_FAIL(PAR_ERR_OPTION,
                 "device cuda: the folder for compiled attention plans, \"%s\", must exist and be "
                 "writable "
                 "(%zu characters at most)",
                 params->plan_cache, sizeof folder - 1);
    snprintf(folder, sizeof folder, "%s", params->plan_cache);
    return PAR_OK;
}

static par__fused_kind kind_of(bool backward) {
    return !backward   ? PAR__FUSED_FORWARD
           : any_order ? PAR__FUSED_BACKWARD
                       : PAR__FUSED_BACKWARD_DETERMINISTIC;
}

static par__fused_refusal refuses(const par_attention *a, bool backward) {
    return par__fused_refuses(a, kind_of(backward), cudnnGetVersion(),
                              par__cuda_device_get()->major);
}

static par_status check_limit(const par__fused_shape *s, size_t nbytes) {
    if (s->kind != PAR__FUSED_BACKWARD_DETERMINISTIC || nbytes <= limit_nbytes) return PAR_OK;
    PAR_FAIL(
        PAR_ERR_UNSUPPORTED,
        "device cuda: the deterministic backward of attention needs %.1f MiB of workspace at B "
        "%lld, T %lld, H %lld, more than its limit of %.1f MiB: raise the limit of the "
        "attention workspace, allow nondeterministic attention (sums in any order), or work on "
        "less at a time (more tp, a smaller micro-batch)",
        (double)nbytes / (1 << 20), (long long)s->B, (long long)s->T, (long long)s->H,
        (double)limit_nbytes / (1 << 20));
}

/* What is kept of a shape: the plan, or why there is none and own kernels do it. */
typedef struct {
    par__fused_plan plan;
    char why[REASON];
} attempt;

/* cuDNN's plan, or none with the reason in `why`. */
static par_status obtain(const par__fused_shape *shape, attempt *made) {
    if (!handle) PAR__CUDNN_TRY(cudnnCreate(&handle));
    const par__fused_target target = {.handle = handle, .name = device_name};
    PAR_TRY(par__fused_plan_obtain(&target, *folder ? folder : NULL, shape, &made->plan));
    /* cuDNN has no mark for a deterministic kernel: it is the one that stores dS, in tiles whose
     * size depends on the device, so at least 16 bits of each element. */
    size_t ds_nbytes = 2 * (size_t)(shape->B * shape->H * shape->T * shape->T);
    if (!made->plan.descriptor)
        snprintf(made->why, REASON, "cuDNN has no plan for this shape here");
    else if (shape->kind == PAR__FUSED_BACKWARD_DETERMINISTIC &&
             made->plan.workspace_nbytes < ds_nbytes)
        snprintf(made->why, REASON, "cuDNN's plan is not one that is known to be deterministic");
    return PAR_OK;
}

static par_status make(const void *key, void *plan) {
    const par__fused_shape *shape = key;
    attempt *made = plan;
    PAR_TRY(check_limit(shape, par__fused_engine_nbytes(shape)));
    par_status st = obtain(shape, made);
    if (st == PAR_ERR_UNSUPPORTED) {
        snprintf(made->why, REASON, "%s", par_error());
        st = PAR_OK;
    }
    if (st == PAR_OK && made->plan.descriptor && !*made->why)
        st = check_limit(shape, made->plan.workspace_nbytes);
    if (st != PAR_OK || *made->why) par__fused_plan_destroy(&made->plan);
    return st;
}

static par__plan_cache plans = {.what = "attention",
                                .key_nbytes = sizeof(par__fused_shape),
                                .plan_nbytes = sizeof(attempt),
                                .make = make,
                                .lock = PTHREAD_MUTEX_INITIALIZER};

static size_t rounded(size_t nbytes) {
    return (nbytes + ROUND - 1) / ROUND * ROUND;
}

/* Workspace: the engine's, delta, the sums of dq; each on a multiple of 256 bytes. */
static size_t offset_of(const par__fused_shape *shape, const par__fused_plan *plan,
                        par__fused_tensor tensor) {
    size_t at = rounded(plan->workspace_nbytes);
    if (tensor == PAR__FUSED_DELTA) return at;
    at += rounded(par__fused_scratch_nbytes(shape, PAR__FUSED_DELTA));
    if (tensor == PAR__FUSED_DQ_SUM) return at;
    return at + rounded(par__fused_scratch_nbytes(shape, PAR__FUSED_DQ_SUM));
}

par_status par__cudnn_attention_prepare(const par_attention *a, bool backward,
                                        par__cudnn_attention *out) {
    void *plan = NULL;
    par__fused_refusal refusal = refuses(a, backward);
    *out = (par__cudnn_attention){.why = refusal.why, .remedy = refusal.remedy};
    if (refusal.why) return PAR_OK;
    const par__fused_shape shape = par__fused_shape_of(a, kind_of(backward));
    if (par__cuda_device_get()->recorded) {
        /* by the bytes that were measured for sm_90, which the recorded device is */
        const par__fused_plan measured = {.workspace_nbytes = par__fused_engine_nbytes(&shape)};
        PAR_TRY(check_limit(&shape, measured.workspace_nbytes));
        out->workspace_nbytes = offset_of(&shape, &measured, PAR__FUSED_NONE);
        return PAR_OK;
    }
    PAR_TRY(par__plan_prepare(&plans, &shape, &plan));
    const attempt *made = plan;
    if (made->plan.descriptor) {
        out->workspace_nbytes = offset_of(&shape, &made->plan, PAR__FUSED_NONE);
        return PAR_OK;
    }
    out->why = made->why;
    out->remedy = "install a newer cuDNN, or allow nondeterministic attention if that is why";
    return PAR_OK;
}

const char *par__cudnn_attention_name(bool backward) {
    static char text[2][96];
    size_t version = cudnnGetVersion();
    snprintf(text[backward], sizeof *text, "cuDNN %zu.%zu.%zu%s", version / 10000,
             version / 100 % 100, version % 100,
             !backward   ? ""
             : any_order ? ", nondeterministic"
                         : ", deterministic");
    return text[backward];
}

static const float minus_infinity = -INFINITY, lowest = -FLT_MAX, one = 1;

/* What the variant pack wants for an id: device pointers, and the host's address of a number. */
static const void *pointer_of(const par__fused_shape *shape, const par__fused_plan *plan,
                              const par_attention *a, char *workspace, int64_t id) {
    switch ((par__fused_tensor)id) {
    case PAR__FUSED_Q: return a->q;
    case PAR__FUSED_K: return a->k;
    case PAR__FUSED_V: return a->v;
    case PAR__FUSED_O: return a->o;
    case PAR__FUSED_LSE: return a->lse;
    case PAR__FUSED_D_O: return a->d_o;
    case PAR__FUSED_DQ: return a->dq;
    case PAR__FUSED_DK: return a->dk;
    case PAR__FUSED_DV: return a->dv;
    case PAR__FUSED_SCALE: return &a->scale;
    case PAR__FUSED_MINUS_INFINITY:
        return par__fused_takes_infinity(cudnnGetVersion()) ? &minus_infinity : &lowest;
    case PAR__FUSED_ONE: return &one;
    default: return workspace + offset_of(shape, plan, (par__fused_tensor)id);
    }
}

static par_status fill_pack(cudnnBackendDescriptor_t pack, const int64_t *ids,
                            void *const *pointers, int n, void *workspace) {
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                            CUDNN_TYPE_INT64, n, ids));
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                            CUDNN_TYPE_VOID_PTR, n, pointers));
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                            CUDNN_TYPE_VOID_PTR, 1, &workspace));
    PAR__CUDNN_TRY(cudnnBackendFinalize(pack));
    return PAR_OK;
}

/* usable: false if a pointer is not on 16 bytes; nothing is run then. The pack is new for each run,
 * as cuDNN lets nobody change a finalised one: some bytes of host memory, and the one allocation
 * that a run of this backend makes. */
static par_status run_plan(par_stream *stream, const par_attention *a,
                           const par__fused_shape *shape, const par__fused_plan *plan,
                           char *workspace, bool *usable) {
    int64_t ids[PAR__FUSED_BOUND];
    void *pointers[PAR__FUSED_BOUND];
    cudnnBackendDescriptor_t pack = NULL;
    int n = par__fused_bindings(shape, ids);
    *usable = true;
    for (int i = 0; i < n; i++) {
        pointers[i] = (void *)(uintptr_t)pointer_of(shape, plan, a, workspace, ids[i]);
        if (ids[i] < PAR__FUSED_SCALE && (uintptr_t)pointers[i] % ALIGNMENT != 0) *usable = false;
    }
    if (!*usable) return PAR_OK;
    /* the sums of dq, where cuDNN adds to what is there */
    size_t sums_nbytes = par__fused_scratch_nbytes(shape, PAR__FUSED_DQ_SUM);
    if (sums_nbytes > 0 && !par__fused_clears_sums(cudnnGetVersion()))
        PAR__CUDA_TRY(cudaMemsetAsync(workspace + offset_of(shape, plan, PAR__FUSED_DQ_SUM), 0,
                                      sums_nbytes, par__cuda_stream(stream)));
    PAR__CUDNN_TRY(cudnnSetStream(handle, par__cuda_stream(stream)));
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    par_status st = fill_pack(pack, ids, pointers, n, workspace);
    if (st == PAR_OK) {
        cudnnStatus_t done = cudnnBackendExecute(handle, plan->descriptor, pack);
        if (done != CUDNN_STATUS_SUCCESS)
            st = par__cudnn_failed(done, "cudnnBackendExecute(attention)");
    }
    cudnnBackendDestroyDescriptor(pack);
    return st;
}

par_status par__cudnn_attention_run(par_stream *stream, const par_attention *a, bool backward,
                                    void *workspace, bool *usable) {
    *usable = false;
    if (refuses(a, backward).why) return PAR_OK;
    const par__fused_shape shape = par__fused_shape_of(a, kind_of(backward));
    const attempt *made = par__plan_acquire(&plans, &shape);
    if (!made)
        PAR_FAIL(PAR_ERR_ARG, "device cuda: attention of B %lld, T %lld, H %lld was not prepared",
                 (long long)a->B, (long long)a->T, (long long)a->H);
    par_status st = made->plan.descriptor
                        ? run_plan(stream, a, &shape, &made->plan, workspace, usable)
                        : PAR_OK;
    par__plan_release(&plans);
    return st;
}
