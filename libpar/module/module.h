/*
 * What libpar and the cuda module, which it loads at run time, tell each other. The module is
 * libpar_cuda.so, put together in this room (open.c) of kernels/cuda and collectives/nccl, so that
 * a machine without CUDA needs none of its libraries. It exports par_cuda_open alone and links
 * nothing of libpar: errors go through the table of host services. Its version is checked first, so
 * that files of two builds never mix.
 *
 * All that the module gives is one par_backend. How the parts meet: par_backend_get (load.c) loads
 * the module for "cuda", and asks kernels for any other name; comms find NCCL in the backend that
 * they are given (par_backend.nccl, collectives/nccl/nccl.h). So kernels and collectives, which
 * stand left of this room, need nothing of it.
 */
#ifndef PAR__MODULE_H
#define PAR__MODULE_H

#include "par/kernels.h"

/* Raised with every change of what is below, of par_backend, or of an argument struct. */
enum { PAR__MODULE_VERSION = 7 };

/* Services of libpar for the module. */
typedef struct {
    int version;
    par_status (*fail)(par_status status, const char *text); /* as par_error_set, text complete */
} par__module_host;

/* What the module answers. */
typedef struct {
    int version;
    par_backend backend; /* complete; what it points at is the module's, for ever */
} par__module;

/* Exported as "par_cuda_open". Called once. Errors: PAR_ERR_UNSUPPORTED with what is missing on
 * this machine. */
typedef par_status par__module_open(const par__module_host *host, const par_device_params *params,
                                    par__module *out);

#endif
