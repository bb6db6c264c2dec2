/*
 * The module's side: its two exported symbols, and par_error_set, the one function of libpar that
 * its sources call, over the table of host services.
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

__attribute__((visibility("default"))) par__module_contract par_cuda_contract;
__attribute__((visibility("default"))) par__module_open par_cuda_open;

uint64_t par_cuda_contract(void) {
    return par__module_fingerprint();
}

par_status par_cuda_open(const par__module_host *services, const par_device_params *params,
                         par__module *out) {
    host = *services;
    memset(out, 0, sizeof *out);
    par__nccl_environment(params);
    PAR_TRY(par__cuda_init(params, &out->backend));
    out->backend.nccl = par__nccl_open(params);
    return PAR_OK;
}
