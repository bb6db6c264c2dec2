/*
 * The module's side: its one exported symbol, and par_error_set, the one function of libpar that its
 * sources call, over the table of host services.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "collectives/nccl/nccl.h"
#include "kernels/cuda/cuda.h"
#include "libpar/module/module.h"

static par__module_host host;

/* The module's own, hidden: the text goes to libpar. */
par_status par_error_set(par_status status, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return host.fail(status, text);
}

__attribute__((visibility("default"))) par__module_open par_cuda_open;

par_status par_cuda_open(const par__module_host *services, const par_device_params *params,
                         par__module *out) {
    host = *services;
    if (host.version != PAR__MODULE_VERSION)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: the module is of version %d, libpar of version %d: build both from "
                 "the same sources",
                 PAR__MODULE_VERSION, host.version);
    memset(out, 0, sizeof *out);
    out->version = PAR__MODULE_VERSION;
    par__nccl_environment(params);
    PAR_TRY(par__cuda_init(params, &out->backend));
    out->backend.nccl = par__nccl_open(params);
    return PAR_OK;
}
