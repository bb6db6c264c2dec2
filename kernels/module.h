/*
 * What libpar and a module that it loads at run time tell each other. A module exports
 * par_cuda_contract and par_cuda_open alone and links nothing of libpar: errors go through the
 * table of host services. Nothing else of a module is called before its fingerprint (contract.h)
 * is found equal, so that files of two builds never mix.
 */
#ifndef PAR__MODULE_H
#define PAR__MODULE_H

#include "par/kernels.h"

/* Services of libpar for the module. */
typedef struct {
    par_status (*fail)(par_status status, const char *text); /* as par_error_set, text complete */
} par__module_host;

/* What the module answers. */
typedef struct {
    par_backend backend; /* complete */
    const char *device;  /* a line; the module's, for ever */
    const void *link;    /* const par__nccl * (collectives/nccl/nccl.h); NULL: none */
} par__module;

/* Exported as "par_cuda_contract": the module's par__contract(). */
typedef uint64_t par__module_contract(void);

/* Exported as "par_cuda_open". Called once. Errors: PAR_ERR_UNSUPPORTED with what is missing on
 * this machine. */
typedef par_status par__module_open(const par__module_host *host, const par_device_params *params,
                                    par__module *out);

/* The loaded module behind a backend; NULL for those of this library. */
const par__module *par__backend_module(const par_backend *backend);

#endif
