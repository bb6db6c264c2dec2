/*
 * Plans of fused attention: configurations from cuDNN's heuristic, compiled, and their text. What
 * cuDNN has no kernel for is not an error: the plan is then empty. Its workspace and scratch are
 * here too.
 */
#include "kernels/cuda/attention/plan.h"

#include "kernels/cuda/attention/status.h"

#include <stdlib.h>
#include <string.h>

par__fused_shape par__fused_shape_of(const par_attention *a, par__fused_kind kind) {
    par__fused_shape s;
    memset(&s, 0, sizeof s);
    s.kind = kind;
    s.dtype = a->dtype;
    s.B = a->B;
    s.T = a->T;
    s.H = a->H;
    s.K = a->K;
    s.D = a->D;
    s.ldq = a->ldq;
    s.ldk = a->ldk;
    s.ldv = a->ldv;
    s.ldo = a->ldo;
    if (kind < PAR__FUSED_BACKWARD) return s;
    s.ldd_o = a->ldd_o;
    s.lddq = a->lddq;
    s.lddk = a->lddk;
    s.lddv = a->lddv;
    return s;
}

size_t par__fused_scratch_nbytes(const par__fused_shape *s, par__fused_tensor tensor) {
    size_t n_rows = (size_t)(s->B * s->H * s->T);
    if (tensor == PAR__FUSED_DELTA && s->kind >= PAR__FUSED_BACKWARD) return n_rows * sizeof(float);
    if (tensor == PAR__FUSED_DQ_SUM && s->kind == PAR__FUSED_BACKWARD)
        return n_rows * (size_t)s->D * sizeof(float);
    return 0;
}

/* A few semaphores, dS, and dk and dv of every query head before they are summed over groups. */
size_t par__fused_engine_nbytes(const par__fused_shape *s) {
    bool heads = s->kind >= PAR__FUSED_BACKWARD && s->H != s->K;
    size_t queries = (size_t)(s->T + 63) / 64 * 64, keys = (size_t)(s->T + 127) / 128 * 128, ds = 0;
    if (s->kind == PAR__FUSED_BACKWARD_DETERMINISTIC)
        ds = 2 * (size_t)(s->B * s->H) * queries * keys;
    return 256 + ds + (heads ? 2 * 2 * (size_t)(s->B * s->H * s->T * s->D) : 0);
}

par_status par__fused_device_create(const char *json, cudnnBackendDescriptor_t *out) {
    cudnnBackendDescriptor_t d = NULL;
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d));
    cudnnStatus_t st = cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendFinalize(d);
    if (st != CUDNN_STATUS_SUCCESS) {
        par_status failed = par__cudnn_failed(st, "device properties from JSON");
        cudnnBackendDestroyDescriptor(d);
        return failed;
    }
    *out = d;
    return PAR_OK;
}

enum { CONFIGURATIONS = 8 }; /* there are two on sm_90 */

typedef struct {
    cudnnBackendDescriptor_t heuristic, configurations[CONFIGURATIONS];
    int64_t n;
} choice;

static par_status ask_heuristic(const par__fused_target *target, cudnnBackendDescriptor_t graph,
                                choice *c) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    PAR__CUDNN_TRY(
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &c->heuristic));
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(c->heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph));
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(c->heuristic, CUDNN_ATTR_ENGINEHEUR_MODE,
                                            CUDNN_TYPE_HEUR_MODE, 1, &mode));
    if (!target->handle)
        PAR__CUDNN_TRY(cudnnBackendSetAttribute(c->heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP,
                                                CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target->device));
    cudnnStatus_t st = cudnnBackendFinalize(c->heuristic);
    if (par__cudnn_unsupported(st)) return PAR_OK;
    if (st != CUDNN_STATUS_SUCCESS) return par__cudnn_failed(st, "cudnnBackendFinalize(heuristic)");
    for (int i = 0; i < CONFIGURATIONS; i++)
        PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                                    &c->configurations[i]));
    /* the count may be smaller than what was announced, and 0 with success: it is the one to
     * believe */
    PAR__CUDNN_TRY(cudnnBackendGetAttribute(c->heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGURATIONS, &c->n,
                                            c->configurations));
    if (c->n > CONFIGURATIONS) c->n = CONFIGURATIONS;
    return PAR_OK;
}

static par_status read_workspace(par__fused_plan *plan) {
    int64_t count = 0, nbytes = 0;
    PAR__CUDNN_TRY(cudnnBackendGetAttribute(plan->descriptor,
                                            CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                            CUDNN_TYPE_INT64, 1, &count, &nbytes));
    plan->workspace_nbytes = (size_t)nbytes;
    return PAR_OK;
}

/* The first configuration that compiles, each in half a second. Each may lack support; the last
 * other failure is an error. */
static par_status compile_first(const par__fused_target *target, const choice *c,
                                par__fused_plan *plan) {
    cudnnStatus_t failed = CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < c->n && !plan->descriptor; i++) {
        cudnnBackendDescriptor_t d = NULL;
        cudnnStatus_t st =
            cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &d);
        if (st == CUDNN_STATUS_SUCCESS && target->handle)
            st = cudnnBackendSetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                          &target->handle);
        if (st == CUDNN_STATUS_SUCCESS)
            st = cudnnBackendSetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->configurations[i]);
        if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendFinalize(d);
        if (st == CUDNN_STATUS_SUCCESS)
            plan->descriptor = d;
        else if (d)
            cudnnBackendDestroyDescriptor(d);
        if (st != CUDNN_STATUS_SUCCESS && !par__cudnn_unsupported(st)) failed = st;
    }
    if (plan->descriptor) return read_workspace(plan);
    return failed == CUDNN_STATUS_SUCCESS
               ? PAR_OK
               : par__cudnn_failed(failed, "compiling a plan of attention");
}

par_status par__fused_plan_create(const par__fused_target *target, const par__fused_shape *shape,
                                  par__fused_plan *out) {
    cudnnBackendDescriptor_t graph = NULL;
    par__fused_plan plan = {0};
    choice c = {0};
    PAR_TRY(par__fused_graph_create(target, shape, &graph));
    par_status st = ask_heuristic(target, graph, &c);
    if (st == PAR_OK) st = compile_first(target, &c, &plan);
    for (int i = 0; i < CONFIGURATIONS; i++)
        if (c.configurations[i]) cudnnBackendDestroyDescriptor(c.configurations[i]);
    if (c.heuristic) cudnnBackendDestroyDescriptor(c.heuristic);
    cudnnBackendDestroyDescriptor(graph);
    if (st == PAR_OK)
        *out = plan;
    else
        par__fused_plan_destroy(&plan);
    return st;
}

void par__fused_plan_destroy(par__fused_plan *plan) {
    if (plan->descriptor) cudnnBackendDestroyDescriptor(plan->descriptor);
    *plan = (par__fused_plan){0};
}

par_status par__fused_plan_text(const par__fused_plan *plan, char **text, size_t *nbytes) {
    int64_t n = 0;
    PAR__CUDNN_TRY(cudnnBackendGetAttribute(plan->descriptor,
                                            CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                            CUDNN_TYPE_CHAR, 0, &n, NULL));
    char *block = malloc((size_t)n + 1);
    if (!block)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %lld bytes of a plan's text", (long long)n);
    cudnnStatus_t st =
        cudnnBackendGetAttribute(plan->descriptor, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, n, &n, block);
    if (st != CUDNN_STATUS_SUCCESS) {
        free(block);
        return par__cudnn_failed(st, "reading a plan's JSON");
    }
    block[n] = '\0';
    *text = block;
    *nbytes = strlen(block);
    return PAR_OK;
}

par_status par__fused_plan_parse(const par__fused_target *target, const char *text, size_t nbytes,
                                 par__fused_plan *out) {
    par__fused_plan plan = {.from_file = true};
    PAR__CUDNN_TRY(
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan.descriptor));
    /* A device must be set: without one cuDNN 9.19 crashes. */
    cudnnStatus_t st =
        target->handle
            ? cudnnBackendSetAttribute(plan.descriptor, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                                       CUDNN_TYPE_HANDLE, 1, &target->handle)
            : cudnnBackendSetAttribute(plan.descriptor, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target->device);
    if (st == CUDNN_STATUS_SUCCESS)
        st =
            cudnnBackendSetAttribute(plan.descriptor, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                     CUDNN_TYPE_CHAR, (int64_t)nbytes, text);
    if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendFinalize(plan.descriptor);
    par_status read = st == CUDNN_STATUS_SUCCESS ? read_workspace(&plan)
                                                 : par__cudnn_failed(st, "a plan from its JSON");
    if (read == PAR_OK)
        *out = plan;
    else
        par__fused_plan_destroy(&plan);
    return read;
}
