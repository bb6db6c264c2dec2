/* What an operation is called, and what is wrong with one before anything runs. */
#include "operation.h"

const char *par__kind_name(par__kind kind) {
    static const char *const names[PAR__KINDS] = {
        [PAR__ALL_REDUCE] = "all_reduce",
        [PAR__REDUCE_SCATTER] = "reduce_scatter",
        [PAR__ALL_GATHER] = "all_gather",
        [PAR__BROADCAST] = "broadcast",
        [PAR__BARRIER] = "barrier",
        [PAR__SEND] = "send",
        [PAR__RECV] = "recv",
    };
    return (int)kind >= 0 && kind < PAR__KINDS ? names[kind] : "unknown";
}

par_status par__operation_check(const par__operation *op, const char *axis, int n_ranks) {
    const char *name = par__kind_name(op->kind);
    bool reads = op->kind != PAR__RECV && op->kind != PAR__BARRIER,
         writes = op->kind != PAR__SEND && op->kind != PAR__BARRIER;
    int64_t size = (int64_t)par_dtype_nbytes(op->dtype);
    if (op->n < 0)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: the count is %lld", name, axis, (long long)op->n);
    if (size == 0)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: %d is not an element type", name, axis,
                 (int)op->dtype);
    if ((op->kind == PAR__ALL_REDUCE || op->kind == PAR__REDUCE_SCATTER) && op->dtype == PAR_U8)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s on axis %s: uint8 cannot be added; fp32, bf16, fp16, int32 and int64 can",
                 name, axis);
    if (op->wire != PAR_F32 && op->wire != PAR_BF16)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: fp32 cannot travel as %s; legal: fp32, bf16", name,
                 axis, par_dtype_name(op->wire));
    if (op->n > INT64_MAX / size / n_ranks)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: %lld elements per rank are too many", name, axis,
                 (long long)op->n);
    if (op->n > 0 && ((reads && !op->src) || (writes && !op->dst)))
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: a buffer is NULL", name, axis);
    if (op->peer < 0 || op->peer >= n_ranks)
        PAR_FAIL(PAR_ERR_ARG, "%s on axis %s: rank %d does not exist; legal ranks are 0 to %d",
                 name, axis, op->peer, n_ranks - 1);
    return PAR_OK;
}
