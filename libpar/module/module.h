/*
 * What libpar and the cuda module, which it loads at run time, tell each other. The module is
 * libpar_cuda.so, put together in this room (open.c) of kernels/cuda and collectives/nccl, so that
 * a machine without CUDA needs none of its libraries. It exports par_cuda_contract and
 * par_cuda_open alone and links nothing of libpar: errors go through the table of host services.
 * Nothing else of it is called before its fingerprint is found equal, so that files of two builds
 * never mix.
 *
 * All that the module gives is one par_backend. How the parts meet: par_backend_get (load.c) loads
 * the module for "cuda", and asks kernels for any other name; comms find NCCL in the backend that
 * they are given (par_backend.nccl, collectives/nccl/nccl.h). So kernels and collectives, which
 * stand left of this room, need nothing of it.
 */
#ifndef PAR__MODULE_H
#define PAR__MODULE_H

#include "kernels/contract.h"

/* Services of libpar for the module. */
typedef struct {
    par_status (*fail)(par_status status, const char *text); /* as par_error_set, text complete */
} par__module_host;

/* What the module answers. */
typedef struct {
    par_backend backend; /* complete; what it points at is the module's, for ever */
} par__module;

/* Exported as "par_cuda_contract": the module's par__module_fingerprint(). */
typedef uint64_t par__module_contract(void);

/* Exported as "par_cuda_open". Called once. Errors: PAR_ERR_UNSUPPORTED with what is missing on
 * this machine. */
typedef par_status par__module_open(const par__module_host *host, const par_device_params *params,
                                    par__module *out);

/* What kernels/contract.h does, for all of it and the structs above. */
#define PAR__FIELDS_par__module_host(F, A) F(fail)
#define PAR__FIELDS_par__module(F, A)      F(backend)

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wmissing-field-initializers"
static inline uint64_t par__module_fingerprint(void) {
    uint64_t hash = par__contract();
    PAR__CONTRACT_STRUCT(par__module_host)
    PAR__CONTRACT_STRUCT(par__module)
    return hash;
}
#pragma GCC diagnostic pop

#endif
