/*
 * The module's two exported symbols, and the few functions of libpar that its sources use, over the
 * table of host services.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/contract.h"
#include "kernels/cuda/cuda.h"

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

static par_status unsupported_prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "device cuda has no kernel for this operation");
}

static par_status unsupported_run(par_stream *stream, const void *args, void *workspace) {
    (void)stream;
    (void)args;
    (void)workspace;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "device cuda has no kernel for this operation");
}

static par_status fill(const par_device_params *params, par_backend *backend) {
    for (int op = 0; op < PAR_OP_COUNT; op++)
        backend->kernels[op] = (par_kernel){"none", unsupported_prepare, unsupported_run};
    par__cuda_norm_init(backend);
    par__cuda_rope_init(backend);
    par__cuda_activation_init(backend);
    par__cuda_residual_init(backend);
    par__cuda_column_sum_init(backend);
    par__cuda_embedding_init(backend);
    par__cuda_xent_init(backend);
    par__cuda_update_init(backend);
    par__cuda_vote_init(backend);
    PAR_TRY(par__cuda_gemm_init(params, backend));
    return par__cuda_attention_init(params, backend);
}

/* Linux's number of the memory node that the GPU is attached to; -1: not told. */
static int numa_node(const char *bus_id) {
    char path[128], lower[32] = "";
    int node = -1;
    for (size_t i = 0; bus_id[i] && i + 1 < sizeof lower; i++) {
        char c = bus_id[i];
        lower[i] = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    }
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", lower);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (fscanf(file, "%d", &node) != 1) node = -1;
    fclose(file);
    return node;
}

static const char *describe(void) {
    static char text[512];
    const par__cuda_device *d = par__cuda_device_get();
    snprintf(
        text, sizeof text,
        "GPU %d: %s, %s, NUMA node %d, %.1f GiB, sm_%d%d, driver for CUDA %d.%d, runtime %d.%d",
        d->device, d->name, d->bus_id, numa_node(d->bus_id), (double)d->nbytes / (1 << 30),
        d->major, d->minor, d->driver / 1000, d->driver % 1000 / 10, d->runtime / 1000,
        d->runtime % 1000 / 10);
    return text;
}

__attribute__((visibility("default"))) par__module_contract par_cuda_contract;
__attribute__((visibility("default"))) par__module_open par_cuda_open;

uint64_t par_cuda_contract(void) {
    return par__contract();
}

par_status par_cuda_open(const par__module_host *services, const par_device_params *params,
                         par__module *out) {
    host = *services;
    memset(out, 0, sizeof *out);
    par__cuda_environment(params);
    PAR_TRY(par__cuda_device_init(params, &out->backend));
    PAR_TRY(fill(params, &out->backend));
    out->device = describe();
    out->link = par__cuda_link(params);
    return PAR_OK;
}
