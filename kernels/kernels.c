/*
 * The backends of the host and the two entries through which every kernel is called. Arguments are
 * checked here, once, above the tables; versions may rely on them. Tables are filled at the first
 * par__backend_find and constant from then. par_backend_get is libpar/module's: it adds cuda.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/backends.h"
#include "libpar/base/timeline.h"

enum { MAX_LAYERS = 2, N_BACKENDS = 2 };

/* Later layers overwrite what they do better. */
static const struct {
    const char *name;
    void (*init[MAX_LAYERS])(par_backend *);
    par_status (*check)(void); /* of the environment; may be NULL */
} recipes[N_BACKENDS] = {
    {"ref", {par__ref_init, NULL}, NULL},
    {"cpu", {par__ref_init, par__cpu_init}, par__cpu_check},
};

static par_backend backends[N_BACKENDS];
static pthread_once_t backends_once = PTHREAD_ONCE_INIT;

static void backends_fill(void) {
    for (int i = 0; i < N_BACKENDS; i++) {
        par__host_init(&backends[i]);
        for (int layer = 0; layer < MAX_LAYERS; layer++)
            if (recipes[i].init[layer]) recipes[i].init[layer](&backends[i]);
        backends[i].name = recipes[i].name;
    }
}

par_status par__backend_find(const char *name, const par_backend **out) {
    char names[256] = "";
    pthread_once(&backends_once, backends_fill);
    for (int i = 0; i < N_BACKENDS; i++) {
        size_t used = strlen(names);
        if (strcmp(name, backends[i].name) == 0) {
            if (recipes[i].check) PAR_TRY(recipes[i].check());
            *out = &backends[i];
            return PAR_OK;
        }
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", backends[i].name);
    }
    PAR_FAIL(PAR_ERR_OPTION, "backend \"%s\" is unknown: there are %s and cuda", name, names);
}

static const struct {
    const char *name;
    size_t args_nbytes;
} ops[PAR_OP_COUNT] = {
#define OP_ROW(OP, name, type) {#name, sizeof(type)},
    PAR_OP_LIST(OP_ROW)
#undef OP_ROW
};
const char *par_backend_device(const par_backend *backend) {
    return backend->device ? backend->device : "host";
}

bool par_backend_method(const par_backend *backend, int i, par_method *out) {
    return backend->method && backend->method(i, out);
}

const char *par_op_name(par_op op) {
    return (int)op >= 0 && op < PAR_OP_COUNT ? ops[op].name : NULL;
}

size_t par_op_args_nbytes(par_op op) {
    return (int)op >= 0 && op < PAR_OP_COUNT ? ops[op].args_nbytes : 0;
}

static par_status known(const par_backend *backend, par_op op, const void *args,
                        size_t args_nbytes) {
    PAR_REQUIRE(backend && args);
    if (!par_op_name(op))
        PAR_FAIL(PAR_ERR_ARG, "operation %d is unknown: they are 0 to %d", (int)op,
                 PAR_OP_COUNT - 1);
    if (args_nbytes != ops[op].args_nbytes && args_nbytes != sizeof(par_op_args))
        PAR_FAIL(PAR_ERR_ARG, "%s: the arguments have %zu bytes, must be its struct of %zu",
                 ops[op].name, args_nbytes, ops[op].args_nbytes);
    return PAR_OK;
}

par_status par_op_prepare_untyped(const par_backend *backend, par_op op, const void *args,
                                  size_t args_nbytes, size_t *workspace_nbytes) {
    PAR_TRY(known(backend, op, args, args_nbytes));
    PAR_REQUIRE(workspace_nbytes);
    PAR_TRY(par__op_check(op, args, false));
    return backend->kernels[op].prepare(args, workspace_nbytes);
}

par_status par_op_run_untyped(const par_backend *backend, par_op op, par_stream *stream,
                              const void *args, size_t args_nbytes, void *workspace) {
    PAR_TRY(known(backend, op, args, args_nbytes));
    PAR_TRY(par__op_check(op, args, true));
    par_timeline *timeline = stream ? stream->timeline : NULL;
    par_range_begin(backend, ops[op].name);
    int64_t begin = par__timeline_now(timeline);
    par_status st = backend->kernels[op].run(stream, args, workspace);
    par__timeline_add(timeline, (par__event){.begin_ns = begin,
                                             .name = ops[op].name,
                                             .kind = PAR__EVENT_KERNEL,
                                             .peer = -1,
                                             .layer = -1,
                                             .chunk = -1,
                                             .micro = -1});
    if (backend->on_host) par__progress(stream);
    par_range_end(backend);
    return st;
}
