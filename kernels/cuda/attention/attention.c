/*
 * Attention of the cuda backend: cuDNN's fused kernels where the type has 16 bits, nothing is
 * dropped and cuDNN has a plan for the shape; otherwise own kernels. The choice is a function of
 * the shape, the device and the library's version: all ranks of a homogeneous machine make the same
 * one. Workspace is enough for both, because pointers that are not aligned, which prepare does not
 * see, go to own kernels too.
 */
#include "kernels/cuda/attention/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/methods.h"
#include "kernels/cuda/own/own.h"

/* PAR_ATTENTION=own leaves cuDNN out, so that benchmarks can set the two beside each other. */
static bool only_own(void) {
    const char *wanted = getenv("PAR_ATTENTION");
    return wanted && strcmp(wanted, "own") == 0;
}

/* Bytes for either form; notes what computes the shape, among the methods of the backend. */
static par_status prepare_both(const par_attention *a, bool backward, size_t own,
                               size_t *workspace_nbytes) {
    par__cudnn_attention cudnn = {.why = "PAR_ATTENTION=own asks for them",
                                  .remedy = "unset PAR_ATTENTION"};
    char shape[160], slower[600];
    if (!only_own()) PAR_TRY(par__cudnn_attention_prepare(a, backward, &cudnn));
    snprintf(shape, sizeof shape, "%s in %s, B %lld T %lld H %lld K %lld D %lld%s%s",
             backward ? "backward" : "forward", par__type_name(a->dtype), (long long)a->B,
             (long long)a->T, (long long)a->H, (long long)a->K, (long long)a->D,
             a->dropout.p != 0 ? ", dropout" : "", a->apart ? ", documents apart" : "");
    if (cudnn.why) {
        snprintf(slower, sizeof slower, "%s; to have cuDNN: %s", cudnn.why,
                 cudnn.remedy ? cudnn.remedy : "");
        par__method_note("attention", cudnn.remedy ? slower : NULL, "%s: own kernels (%s)", shape,
                         cudnn.why);
    } else {
        par__method_note("attention", NULL, "%s: %s", shape, par__cudnn_attention_name(backward));
    }
    *workspace_nbytes = own > cudnn.workspace_nbytes ? own : cudnn.workspace_nbytes;
    return PAR_OK;
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    size_t own = 0;
    PAR_TRY(par__cuda_attention_own_prepare(args, &own));
    return prepare_both(args, false, own, workspace_nbytes);
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    bool usable = false;
    if (!only_own()) PAR_TRY(par__cudnn_attention_run(stream, args, false, workspace, &usable));
    return usable ? PAR_OK : par__cuda_attention_own(stream, args);
}

static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    size_t own = 0;
    PAR_TRY(par__cuda_attention_own_backward_prepare(args, &own));
    return prepare_both(args, true, own, workspace_nbytes);
}

static par_status backward_run(par_stream *stream, const void *args, void *workspace) {
    bool usable = false;
    if (!only_own()) PAR_TRY(par__cudnn_attention_run(stream, args, true, workspace, &usable));
    return usable ? PAR_OK : par__cuda_attention_own_backward(stream, args, workspace);
}

static par_status decode_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention_decode *a = args;
    par__method_note("attention", NULL,
                     "of a token over a cache of %lld in %s, B %lld H %lld K %lld D %lld: own "
                     "kernels (cuDNN is not asked for it)",
                     (long long)a->capacity, par__type_name(a->dtype), (long long)a->B,
                     (long long)a->H, (long long)a->K, (long long)a->D);
    return par__cuda_attention_decode_prepare(args, workspace_nbytes);
}

par_status par__cuda_attention_init(const par_device_params *params, par_backend *backend) {
    PAR_TRY(par__cudnn_attention_init(params));
    backend->kernels[PAR_OP_ATTENTION] = (par_kernel){"attention/cuda/cudnn+own", prepare, run};
    backend->kernels[PAR_OP_ATTENTION_BACKWARD] =
        (par_kernel){"attention_backward/cuda/cudnn+own", backward_prepare, backward_run};
    backend->kernels[PAR_OP_ATTENTION_DECODE] =
        (par_kernel){"attention_decode/cuda/own", decode_prepare, par__cuda_attention_decode};
    return PAR_OK;
}
