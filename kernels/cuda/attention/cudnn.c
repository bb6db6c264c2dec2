/*
 * cuDNN's fused attention on the device: which shapes it gets, the plans of this process, and their
 * runs. prepare builds plans, run finds them by their shape, sets the stream and executes. The
 * module keeps plans and the handle until the process ends.
 *
 * The deterministic backward stores dS, T² numbers per head: where that needs more than its limit
 * prepare refuses with the figure, unless sums in any order are allowed.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/attention/status.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/plan_cache.h"

/* Older ones need a padding mask where 128 does not divide T, or have known defects. */
enum { OLDEST = 91600, ALIGNMENT = 16, ROUND = 256 };

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

static bool whole(int64_t ld) {
    return ld * 2 % ALIGNMENT == 0;
}

/* Whether a shape is one for cuDNN, before it is asked: 16 bits, no dropout, and rows of whole 16
 * bytes. */
static bool eligible(const par_attention *a, bool backward) {
    bool heads = (a->D >= 64 && a->D <= 128 && a->D % 8 == 0) || a->D == 256;
    bool rows = whole(a->ldq) && whole(a->ldk) && whole(a->ldv) && whole(a->ldo);
    if (backward)
        rows = rows && whole(a->ldd_o) && whole(a->lddq) && whole(a->lddk) && whole(a->lddv);
    return a->dtype != PAR_F32 && a->dropout.p == 0 && heads && rows && a->B > 0 && a->H > 0 &&
           a->T > 1 && par__cuda_device_get()->major >= 8 && cudnnGetVersion() >= OLDEST;
}

static par__fused_shape shape_of(const par_attention *a, bool backward) {
    return par__fused_shape_of(a, !backward   ? PAR__FUSED_FORWARD
                                  : any_order ? PAR__FUSED_BACKWARD
                                              : PAR__FUSED_BACKWARD_DETERMINISTIC);
}

static par_status check_limit(const par__fused_shape *s, size_t nbytes) {
    if (s->kind != PAR__FUSED_BACKWARD_DETERMINISTIC || nbytes <= limit_nbytes) return PAR_OK;
    PAR_FAIL(
        PAR_ERR_UNSUPPORTED,
        "device cuda: the deterministic backward of attention needs %.2f GiB of workspace at B "
        "%lld, T "
        "%lld, %lld heads, more than its limit of %.2f GiB: allow more (--attention-workspace), "
        "allow sums in any order (--nondeterministic-attention), or split heads or sequence (tp, a "
        "smaller "
        "micro-batch)",
        (double)nbytes / (1 << 30), (long long)s->B, (long long)s->T, (long long)s->H,
        (double)limit_nbytes / (1 << 30));
}

/* cuDNN has no mark for a deterministic kernel: it is the one that stores dS. */
static bool keeps_promise(const par__fused_shape *s, const par__fused_plan *plan) {
    return plan->workspace_nbytes >= par__fused_ds_nbytes(s);
}

/* An empty plan (no descriptor): own kernels do this shape. */
static par_status make(const void *key, void *plan) {
    const par__fused_shape *shape = key;
    par__fused_plan *made = plan;
    PAR_TRY(check_limit(shape, par__fused_engine_nbytes(shape)));
    if (!handle) PAR__CUDNN_TRY(cudnnCreate(&handle));
    const par__fused_target target = {.handle = handle, .name = device_name};
    PAR_TRY(par__fused_plan_obtain(&target, *folder ? folder : NULL, shape, made));
    par_status st = made->descriptor ? check_limit(shape, made->workspace_nbytes) : PAR_OK;
    if (st != PAR_OK || !keeps_promise(shape, made)) par__fused_plan_destroy(made);
    return st;
}

static par__plan_cache plans = {.what = "attention",
                                .key_nbytes = sizeof(par__fused_shape),
                                .plan_nbytes = sizeof(par__fused_plan),
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

par_status par__cudnn_attention_prepare(const par_attention *a, bool backward, bool *usable,
                                        size_t *workspace_nbytes) {
    void *plan = NULL;
    *usable = false;
    *workspace_nbytes = 0;
    if (!eligible(a, backward)) return PAR_OK;
    const par__fused_shape shape = shape_of(a, backward);
    PAR_TRY(par__plan_prepare(&plans, &shape, &plan));
    *usable = ((const par__fused_plan *)plan)->descriptor != NULL;
    if (*usable) *workspace_nbytes = offset_of(&shape, plan, PAR__FUSED_NONE);
    return PAR_OK;
}

static const float minus_infinity = -INFINITY, one = 1;

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
    case PAR__FUSED_MINUS_INFINITY: return &minus_infinity;
    case PAR__FUSED_ONE: return &one;
    default: return workspace + offset_of(shape, plan, (par__fused_tensor)id);
    }
}

static bool aligned(const int64_t *ids, void *const *pointers, int n) {
    for (int i = 0; i < n; i++)
        if (ids[i] < PAR__FUSED_SCALE && (uintptr_t)pointers[i] % ALIGNMENT != 0) return false;
    return true;
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

/* The pack is new for each run, as cuDNN lets nobody change a finalised one: some bytes of host
 * memory, and the one allocation that a run of this backend makes. */
static par_status execute(par_stream *stream, const par__fused_plan *plan, const int64_t *ids,
                          void *const *pointers, int n, void *workspace) {
    cudnnBackendDescriptor_t pack = NULL;
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
    int64_t ids[PAR__FUSED_BOUND];
    void *pointers[PAR__FUSED_BOUND];
    par_status st = PAR_OK;
    *usable = false;
    if (!eligible(a, backward)) return PAR_OK;
    const par__fused_shape shape = shape_of(a, backward);
    const par__fused_plan *plan = par__plan_acquire(&plans, &shape);
    if (!plan)
        PAR_FAIL(PAR_ERR_ARG, "device cuda: attention of B %lld, T %lld, H %lld was not prepared",
                 (long long)a->B, (long long)a->T, (long long)a->H);
    if (plan->descriptor) {
        int n = par__fused_bindings(&shape, ids);
        for (int i = 0; i < n; i++)
            pointers[i] = (void *)(uintptr_t)pointer_of(&shape, plan, a, workspace, ids[i]);
        *usable = aligned(ids, pointers, n);
        if (*usable) st = execute(stream, plan, ids, pointers, n, workspace);
    }
    par__plan_release(&plans);
    return st;
}
