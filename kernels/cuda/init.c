/* The cuda backend: the device's functions and a table of kernels, operations that none fills
 * refused. */
#include <stdio.h>

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/methods.h"
#include "kernels/cuda/own/own.h"

static par_status unsupported_prepare(const void *args, size_t *workspace_nbytes) {
    *workspace_nbytes = 0;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "device cuda has no kernel for this operation");
}

static par_status unsupported_run(par_stream *stream, const void *args, void *workspace) {
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "device cuda has no kernel for this operation");
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
    if (d->recorded)
        snprintf(text, sizeof text,
                 "%s as recorded, %.0f GiB, sm_%d%d: there is no GPU here to ask", d->name,
                 (double)d->nbytes / (1 << 30), d->major, d->minor);
    else
        snprintf(
            text, sizeof text,
            "GPU %d: %s, %s, NUMA node %d, %.1f GiB, sm_%d%d, driver for CUDA %d.%d, runtime %d.%d",
            d->device, d->name, d->bus_id, numa_node(d->bus_id), (double)d->nbytes / (1 << 30),
            d->major, d->minor, d->driver / 1000, d->driver % 1000 / 10, d->runtime / 1000,
            d->runtime % 1000 / 10);
    return text;
}

/* Products as a whole, then what prepare noted. */
static bool method(int i, par_method *out) {
    if (i != 0) return par__method_get(i - 1, out);
    *out = (par_method){.work = "products", .what = par__gemm_method()};
    return true;
}

/* Own kernels know nothing of methods: it is noted for them. */
static par_kernel own_int8;

static par_status int8_prepare(const void *args, size_t *workspace_nbytes) {
    par__method_note("products", NULL, "with 8-bit weights: own kernels");
    return own_int8.prepare(args, workspace_nbytes);
}

par_status par__cuda_init(const par_device_params *params, par_backend *backend) {
    PAR_TRY(par__cuda_device_init(params, backend));
    par__cuda_graph_init(backend);
    backend->device = describe();
    backend->method = method;
    for (int op = 0; op < PAR_OP_COUNT; op++)
        backend->kernels[op] = (par_kernel){"none", unsupported_prepare, unsupported_run};
    par__cuda_norm_init(backend);
    par__cuda_norm_backward_init(backend);
    par__cuda_rope_init(backend);
    par__cuda_activation_init(backend);
    par__cuda_residual_init(backend);
    par__cuda_column_sum_init(backend);
    par__cuda_embedding_init(backend);
    par__cuda_xent_init(backend);
    par__cuda_update_init(backend);
    par__cuda_vote_init(backend);
    par__cuda_quantize_init(backend);
    par__cuda_gemm_int8_init(backend);
    own_int8 = backend->kernels[PAR_OP_GEMM_INT8];
    backend->kernels[PAR_OP_GEMM_INT8].prepare = int8_prepare;
    PAR_TRY(par__cuda_gemm_init(params, backend));
    return par__cuda_attention_init(params, backend);
}
