/* Measuring nodes: products and copies of every rank, then pairs by measure.c. See par/nodes.h. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/clock.h"
#include "nodes.h"

static const par_tag tag = {"nodes", -1, -1, -1};

enum { REPEATS = 5 };

/* Sizes that take some milliseconds. */
typedef struct {
    int64_t n; /* of a product of n x n matrices */
    size_t copied;
    int turns;
} sizes;

static const sizes of_host = {512, 32 << 20, 1}, of_device = {4096, 512 << 20, 20};

typedef struct {
    const par_backend *backend;
    par_stream *stream;
    const sizes *of;
    void *block, *workspace; /* block: three matrices, or what is copied and where to */
    size_t block_nbytes, workspace_nbytes;
    par_gemm gemm;
} bench;

typedef struct {
    char host[64];
    double products, memory;
} own_speed;

static par_status product(bench *b) {
    return par_gemm_run(b->backend, b->stream, &b->gemm, b->workspace);
}

static par_status copy(bench *b) {
    return b->backend->copy(b->stream, (char *)b->block + b->of->copied, b->block, b->of->copied);
}

/* Seconds of one call, the fastest repetition behind one that warms up: disturbances only add. */
static par_status time_of(bench *b, par_status (*call)(bench *), double *out) {
    *out = 1e30;
    for (int i = 0; i <= REPEATS; i++) {
        double begin = par__seconds();
        for (int k = 0; k < b->of->turns; k++) PAR_TRY(call(b));
        PAR_TRY(b->backend->sync(b->stream));
        double seconds = (par__seconds() - begin) / b->of->turns;
        if (i > 0 && seconds < *out) *out = seconds;
    }
    return PAR_OK;
}

static par_status measure_own(bench *b, par_dtype dtype, own_speed *out) {
    const par_backend *backend = b->backend;
    int64_t n = b->of->n;
    size_t matrix = (size_t)(n * n) * par_dtype_nbytes(dtype);
    double seconds;
    gethostname(out->host, sizeof out->host - 1);
    b->gemm = (par_gemm){.dtype = dtype,
                         .dtype_c = dtype,
                         .tb = true,
                         .m = n,
                         .n = n,
                         .k = n,
                         .lda = n,
                         .ldb = n,
                         .ldc = n};
    PAR_TRY(par_gemm_prepare(backend, &b->gemm, &b->workspace_nbytes));
    b->block_nbytes = 3 * matrix > 2 * b->of->copied ? 3 * matrix : 2 * b->of->copied;
    PAR_TRY(backend->stream_create(&b->stream));
    PAR_TRY(backend->memory.alloc(b->block_nbytes, &b->block));
    if (b->workspace_nbytes) PAR_TRY(backend->memory.alloc(b->workspace_nbytes, &b->workspace));
    b->gemm.a = b->block;
    b->gemm.b = (char *)b->block + matrix;
    b->gemm.c = (char *)b->block + 2 * matrix;
    PAR_TRY(time_of(b, product, &seconds));
    out->products = 2 * (double)n * (double)n * (double)n / seconds;
    PAR_TRY(time_of(b, copy, &seconds));
    out->memory = 2 * (double)b->of->copied / seconds;
    return PAR_OK;
}

par_status par_nodes_check(par_transport *transport, const par_backend *backend, par_dtype dtype,
                           par_node_check **out) {
    PAR_REQUIRE(transport && backend && out);
    int size = par_transport_size(transport);
    own_speed own = {.products = 0}, *all = NULL;
    bench b = {.backend = backend, .of = backend->on_host ? &of_host : &of_device};
    par_comm *world = NULL;
    par_measurement *pairs = NULL;
    par_node_check *check = NULL;
    par_status st = par_comm_create(transport, &(par_comm_params){.axis = "nodes"}, NULL, &world);
    if (st != PAR_OK) return par_transport_abort(transport, st, par_error()); /* peers wait */
    st = par__node_check_create(size, &check);
    if (st == PAR_OK && !(all = calloc((size_t)size, sizeof *all)))
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for the speed of %d ranks", size);
    PAR_TRY_GOTO(par_comm_agree(world, st), out_world);
    PAR_TRY_GOTO(par_comm_agree(world, measure_own(&b, dtype, &own)), out_world);
    PAR_TRY_GOTO(par_comm_all_gather(world, &own, all, sizeof own, PAR_U8, tag, NULL, NULL),
                 out_world);
    for (int r = 0; r < size; r++) {
        memcpy(check->hosts[r], all[r].host, sizeof check->hosts[r]);
        check->ranks[r][PAR_NODE_PRODUCTS] = all[r].products;
        check->ranks[r][PAR_NODE_MEMORY] = all[r].memory;
    }
    if (size > 1) PAR_TRY_GOTO(par_topology_measure(transport, NULL, &pairs), out_world);
    if (par_transport_rank(transport) == 0)
        st = par__node_check_judge(check, pairs ? pairs->pairs : NULL, pairs ? pairs->n_pairs : 0);
    st = par_comm_agree(world, st);
out_world:
    if (b.workspace) backend->memory.release(b.workspace, b.workspace_nbytes);
    if (b.block) backend->memory.release(b.block, b.block_nbytes);
    if (b.stream) backend->stream_destroy(b.stream);
    par_measurement_destroy(&pairs);
    par_comm_destroy(&world);
    free(all);
    if (st != PAR_OK || par_transport_rank(transport) != 0) par_node_check_destroy(&check);
    if (st == PAR_OK) *out = check;
    return st;
}
