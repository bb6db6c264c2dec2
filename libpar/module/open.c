/*
 * The module's side: its two exported symbols, and par_error_set and par_error, the functions of
 * libpar that its sources call, over the table of host services.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "collectives/nccl/nccl.h"
#include "kernels/cuda/cuda.h"
#include "libpar/module/module.h"

static par__module_host host;

static _Thread_local char text[1024]; /* the message of this thread */

/* The module's own, hidden: the text goes to libpar too. */
par_status par_error_set(par_status status, const char *format, ...) {
    char next[sizeof text]; /* a part of the message may be the one before */
    va_list args;
    va_start(args, format);
    vsnprintf(next, sizeof next, format, args);
    va_end(args);
    memcpy(text, next, sizeof text);
    return host.fail(status, text);
}

const char *par_error(void) {
    return text;
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
