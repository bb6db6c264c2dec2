/*
 * The graphs of plan.h. An operation is a line of a table, a tensor is its form (which
 * sizes and strides) and its type. Traps, all found by building: the inference graph keeps the
 * logarithm of the sums, virtual; the probabilities before the second product have the 16-bit type;
 * delta is multiplied with a one, else the engine's workspace grows by a gigabyte; dq's accumulator
 * is a real tensor.
 */
#include <string.h>

#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/attention/status.h"

/* Real tensors keep the numbers of par__fused_tensor; those behind are virtual. */
enum {
    PRODUCT = PAR__FUSED_BOUND, /* q kᵀ */
    SCALED,
    QUERY,
    KEY,
    VISIBLE,
    MASKED,
    MAXIMUM,
    SHIFTED,
    EXPONENTIAL,
    SUM,
    LOGARITHM,
    UNUSED_LSE,
    WEIGHTS,
    O_D_O,
    O_D_O_SUM,
    P,
    P_TRANSPOSED,
    DV_HEADS,
    DP,
    DP_CENTRED,
    DS_UNSCALED,
    DS,
    DS_TRANSPOSED,
    DK_HEADS,
    K_AGAIN,
    TENSORS
};

typedef enum {
    QUERIES,       /* (B, H, T, D) rows of ld */
    KEYS,          /* (B, K, T, D) */
    KEYS_SIDEWAYS, /* (B, K, D, T): the same memory */
    SCORES,        /* (B, H, T, T) */
    SCORES_TURNED, /* (B, H, T, T), transposed by its strides */
    ROWS,          /* (B, H, T, 1) */
    HEADS,         /* (B, H, T, D), heads apart */
    ONE_NUMBER
} form;

enum { IO = -1 }; /* the type of the activations */

typedef struct {
    form form;
    int type; /* cudnnDataType_t, or IO */
} tensor;

static const tensor tensors[TENSORS] = {
    [PAR__FUSED_Q] = {QUERIES, IO},
    [PAR__FUSED_K] = {KEYS_SIDEWAYS, IO},
    [PAR__FUSED_V] = {KEYS, IO}, /* backward: sideways */
    [PAR__FUSED_O] = {QUERIES, IO},
    [PAR__FUSED_LSE] = {ROWS, CUDNN_DATA_FLOAT},
    [PAR__FUSED_D_O] = {QUERIES, IO},
    [PAR__FUSED_DQ] = {QUERIES, IO},
    [PAR__FUSED_DK] = {KEYS, IO},
    [PAR__FUSED_DV] = {KEYS, IO},
    [PAR__FUSED_DELTA] = {ROWS, CUDNN_DATA_FLOAT},
    [PAR__FUSED_DQ_SUM] = {HEADS, CUDNN_DATA_FLOAT},
    [PAR__FUSED_SCALE] = {ONE_NUMBER, CUDNN_DATA_FLOAT},
    [PAR__FUSED_MINUS_INFINITY] = {ONE_NUMBER, CUDNN_DATA_FLOAT},
    [PAR__FUSED_ONE] = {ONE_NUMBER, CUDNN_DATA_FLOAT},
    [PRODUCT] = {SCORES, CUDNN_DATA_FLOAT},
    [SCALED] = {SCORES, CUDNN_DATA_FLOAT},
    [QUERY] = {SCORES, CUDNN_DATA_INT32},
    [KEY] = {SCORES, CUDNN_DATA_INT32},
    [VISIBLE] = {SCORES, CUDNN_DATA_BOOLEAN},
    [MASKED] = {SCORES, CUDNN_DATA_FLOAT},
    [MAXIMUM] = {ROWS, CUDNN_DATA_FLOAT},
    [SHIFTED] = {SCORES, CUDNN_DATA_FLOAT},
    [EXPONENTIAL] = {SCORES, CUDNN_DATA_FLOAT},
    [SUM] = {ROWS, CUDNN_DATA_FLOAT},
    [LOGARITHM] = {ROWS, CUDNN_DATA_FLOAT},
    [UNUSED_LSE] = {ROWS, CUDNN_DATA_FLOAT},
    [WEIGHTS] = {SCORES, IO},
    [O_D_O] = {HEADS, CUDNN_DATA_FLOAT},
    [O_D_O_SUM] = {ROWS, CUDNN_DATA_FLOAT},
    [P] = {SCORES, CUDNN_DATA_FLOAT},
    [P_TRANSPOSED] = {SCORES_TURNED, IO},
    [DV_HEADS] = {HEADS, IO},
    [DP] = {SCORES, CUDNN_DATA_FLOAT},
    [DP_CENTRED] = {SCORES, CUDNN_DATA_FLOAT},
    [DS_UNSCALED] = {SCORES, CUDNN_DATA_FLOAT},
    [DS] = {SCORES, CUDNN_DATA_FLOAT},
    [DS_TRANSPOSED] = {SCORES_TURNED, IO},
    [DK_HEADS] = {HEADS, IO},
    [K_AGAIN] = {KEYS, IO},
};

typedef enum { MATMUL, POINTWISE, REDUCE, RESHAPE } kind;
typedef enum { ALWAYS, LSE_KEPT, LSE_UNUSED, GROUPED, UNGROUPED, ATOMIC, EXACT } condition;

typedef struct {
    condition when;
    kind kind;
    int mode;     /* pointwise mode or reduction */
    int x, b, t;  /* inputs; t: the predicate */
    int y;        /* output */
    int64_t axis; /* of an index */
} operation;

static const operation forward[] = {
    {ALWAYS, MATMUL, 0, PAR__FUSED_Q, PAR__FUSED_K, 0, PRODUCT, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, PRODUCT, PAR__FUSED_SCALE, 0, SCALED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_GEN_INDEX, SCALED, 0, 0, QUERY, 2},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_GEN_INDEX, SCALED, 0, 0, KEY, 3},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_CMP_GE, QUERY, KEY, 0, VISIBLE, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_BINARY_SELECT, SCALED, PAR__FUSED_MINUS_INFINITY, VISIBLE,
     MASKED, 0},
    {ALWAYS, REDUCE, CUDNN_REDUCE_TENSOR_MAX, MASKED, 0, 0, MAXIMUM, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_SUB, MASKED, MAXIMUM, 0, SHIFTED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_EXP, SHIFTED, 0, 0, EXPONENTIAL, 0},
    {ALWAYS, REDUCE, CUDNN_REDUCE_TENSOR_ADD, EXPONENTIAL, 0, 0, SUM, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_LOG, SUM, 0, 0, LOGARITHM, 0},
    {LSE_KEPT, POINTWISE, CUDNN_POINTWISE_ADD, MAXIMUM, LOGARITHM, 0, PAR__FUSED_LSE, 0},
    {LSE_UNUSED, POINTWISE, CUDNN_POINTWISE_ADD, MAXIMUM, LOGARITHM, 0, UNUSED_LSE, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_DIV, EXPONENTIAL, SUM, 0, WEIGHTS, 0},
    {ALWAYS, MATMUL, 0, WEIGHTS, PAR__FUSED_V, 0, PAR__FUSED_O, 0},
};

static const operation backward[] = {
    /* delta = sum over channels of dO · o */
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, PAR__FUSED_D_O, PAR__FUSED_O, 0, O_D_O, 0},
    {ALWAYS, REDUCE, CUDNN_REDUCE_TENSOR_ADD, O_D_O, 0, 0, O_D_O_SUM, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, O_D_O_SUM, PAR__FUSED_ONE, 0, PAR__FUSED_DELTA, 0},
    /* p = exp(mask(scale q kᵀ - lse)) */
    {ALWAYS, MATMUL, 0, PAR__FUSED_Q, PAR__FUSED_K, 0, PRODUCT, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, PRODUCT, PAR__FUSED_SCALE, 0, SCALED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_SUB, SCALED, PAR__FUSED_LSE, 0, SHIFTED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_GEN_INDEX, SHIFTED, 0, 0, QUERY, 2},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_GEN_INDEX, SHIFTED, 0, 0, KEY, 3},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_CMP_GE, QUERY, KEY, 0, VISIBLE, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_BINARY_SELECT, SHIFTED, PAR__FUSED_MINUS_INFINITY, VISIBLE,
     MASKED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_EXP, MASKED, 0, 0, P, 0},
    /* dv = pᵀ dO, summed over the heads of a group */
    {ALWAYS, RESHAPE, 0, P, 0, 0, P_TRANSPOSED, 0},
    {UNGROUPED, MATMUL, 0, P_TRANSPOSED, PAR__FUSED_D_O, 0, PAR__FUSED_DV, 0},
    {GROUPED, MATMUL, 0, P_TRANSPOSED, PAR__FUSED_D_O, 0, DV_HEADS, 0},
    {GROUPED, REDUCE, CUDNN_REDUCE_TENSOR_ADD, DV_HEADS, 0, 0, PAR__FUSED_DV, 0},
    /* ds = p (dO vᵀ - delta) scale */
    {ALWAYS, MATMUL, 0, PAR__FUSED_D_O, PAR__FUSED_V, 0, DP, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_SUB, DP, PAR__FUSED_DELTA, 0, DP_CENTRED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, DP_CENTRED, P, 0, DS_UNSCALED, 0},
    {ALWAYS, POINTWISE, CUDNN_POINTWISE_MUL, DS_UNSCALED, PAR__FUSED_SCALE, 0, DS, 0},
    /* dk = dsᵀ q, summed over the heads of a group */
    {ALWAYS, RESHAPE, 0, DS, 0, 0, DS_TRANSPOSED, 0},
    {UNGROUPED, MATMUL, 0, DS_TRANSPOSED, PAR__FUSED_Q, 0, PAR__FUSED_DK, 0},
    {GROUPED, MATMUL, 0, DS_TRANSPOSED, PAR__FUSED_Q, 0, DK_HEADS, 0},
    {GROUPED, REDUCE, CUDNN_REDUCE_TENSOR_ADD, DK_HEADS, 0, 0, PAR__FUSED_DK, 0},
    /* dq = ds k */
    {ALWAYS, RESHAPE, 0, PAR__FUSED_K, 0, 0, K_AGAIN, 0},
    {EXACT, MATMUL, 0, DS, K_AGAIN, 0, PAR__FUSED_DQ, 0},
    {ATOMIC, MATMUL, 0, DS, K_AGAIN, 0, PAR__FUSED_DQ_SUM, 0},
    {ATOMIC, POINTWISE, CUDNN_POINTWISE_IDENTITY, PAR__FUSED_DQ_SUM, 0, 0, PAR__FUSED_DQ, 0},
};

enum { OPERATIONS = sizeof backward / sizeof *backward };

static bool is_backward(const par__fused_shape *s) {
    return s->kind >= PAR__FUSED_BACKWARD;
}

static bool holds(const par__fused_shape *s, condition when) {
    switch (when) {
    case LSE_KEPT: return s->kind == PAR__FUSED_FORWARD;
    case LSE_UNUSED: return s->kind == PAR__FUSED_INFERENCE;
    case GROUPED: return s->H != s->K;
    case UNGROUPED: return s->H == s->K;
    case ATOMIC: return s->kind == PAR__FUSED_BACKWARD;
    case EXACT: return s->kind == PAR__FUSED_BACKWARD_DETERMINISTIC;
    default: return true;
    }
}

/* The operations of a kind, in order; their number. */
static int operations_of(const par__fused_shape *s, const operation *out[OPERATIONS]) {
    const operation *table = is_backward(s) ? backward : forward;
    int n = 0, size = is_backward(s) ? OPERATIONS : (int)(sizeof forward / sizeof *forward);
    for (int i = 0; i < size; i++)
        if (holds(s, table[i].when)) out[n++] = &table[i];
    return n;
}

int par__fused_bindings(const par__fused_shape *shape, int64_t ids[PAR__FUSED_BOUND]) {
    const operation *operations[OPERATIONS];
    bool used[TENSORS] = {false};
    int n = operations_of(shape, operations), n_ids = 0;
    for (int i = 0; i < n; i++) {
        const operation *o = operations[i];
        used[o->x] = used[o->b] = used[o->t] = used[o->y] = true;
    }
    for (int i = PAR__FUSED_NONE + 1; i < PAR__FUSED_BOUND; i++)
        if (used[i]) ids[n_ids++] = i;
    return n_ids;
}

typedef struct {
    int64_t dims[4], strides[4];
} layout;

/* Elements from token to token of a caller's tensor. */
static int64_t row_of(const par__fused_shape *s, int id) {
    switch (id) {
    case PAR__FUSED_Q: return s->ldq;
    case PAR__FUSED_K:
    case K_AGAIN: return s->ldk;
    case PAR__FUSED_V: return s->ldv;
    case PAR__FUSED_O: return s->ldo;
    case PAR__FUSED_D_O: return s->ldd_o;
    case PAR__FUSED_DQ: return s->lddq;
    case PAR__FUSED_DK: return s->lddk;
    default: return s->lddv;
    }
}

static layout layout_of(const par__fused_shape *s, form f, int64_t ld) {
    int64_t B = s->B, T = s->T, H = s->H, K = s->K, D = s->D;
    switch (f) {
    case QUERIES: return (layout){{B, H, T, D}, {T * ld, D, ld, 1}};
    case KEYS: return (layout){{B, K, T, D}, {T * ld, D, ld, 1}};
    case KEYS_SIDEWAYS: return (layout){{B, K, D, T}, {T * ld, D, 1, ld}};
    case SCORES: return (layout){{B, H, T, T}, {H * T * T, T * T, T, 1}};
    case SCORES_TURNED: return (layout){{B, H, T, T}, {H * T * T, T * T, 1, T}};
    case ROWS: return (layout){{B, H, T, 1}, {H * T, T, 1, 1}};
    case HEADS: return (layout){{B, H, T, D}, {H * T * D, T * D, D, 1}};
    default: return (layout){{1, 1, 1, 1}, {1, 1, 1, 1}};
    }
}

/* Everything that lives until the graph is finalised. */
typedef struct {
    const par__fused_shape *shape;
    cudnnBackendDescriptor_t tensors[TENSORS];
    cudnnBackendDescriptor_t operations[OPERATIONS], details[OPERATIONS];
    int n;
} builder;

#define SET(descriptor, attribute, type, n, values)                                                \
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(descriptor, CUDNN_ATTR_##attribute, CUDNN_TYPE_##type, \
                                            n, values))

/* The descriptor of a tensor, made when it is first asked for. */
static par_status tensor_get(builder *b, int id, cudnnBackendDescriptor_t *out) {
    form f = id == PAR__FUSED_V && is_backward(b->shape) ? KEYS_SIDEWAYS : tensors[id].form;
    cudnnDataType_t io = b->shape->dtype == PAR_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    cudnnDataType_t type = tensors[id].type == IO ? io : (cudnnDataType_t)tensors[id].type;
    const layout l = layout_of(b->shape, f, row_of(b->shape, id));
    const int64_t uid = id, alignment = 16;
    const bool yes = true; /* one byte, as cuDNN reads it */
    if (!b->tensors[id]) {
        PAR__CUDNN_TRY(
            cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &b->tensors[id]));
        SET(b->tensors[id], TENSOR_DATA_TYPE, DATA_TYPE, 1, &type);
        SET(b->tensors[id], TENSOR_DIMENSIONS, INT64, 4, l.dims);
        SET(b->tensors[id], TENSOR_STRIDES, INT64, 4, l.strides);
        SET(b->tensors[id], TENSOR_UNIQUE_ID, INT64, 1, &uid);
        SET(b->tensors[id], TENSOR_BYTE_ALIGNMENT, INT64, 1, &alignment);
        if (id >= PAR__FUSED_BOUND) SET(b->tensors[id], TENSOR_IS_VIRTUAL, BOOLEAN, 1, &yes);
        if (id >= PAR__FUSED_SCALE && id <= PAR__FUSED_ONE)
            SET(b->tensors[id], TENSOR_IS_BY_VALUE, BOOLEAN, 1, &yes);
        PAR__CUDNN_TRY(cudnnBackendFinalize(b->tensors[id]));
    }
    *out = b->tensors[id];
    return PAR_OK;
}

/* Put a tensor into an attribute of an operation; none for id 0. */
static par_status connect(builder *b, cudnnBackendDescriptor_t d,
                          cudnnBackendAttributeName_t attribute, int id) {
    cudnnBackendDescriptor_t t = NULL;
    if (id == PAR__FUSED_NONE) return PAR_OK;
    PAR_TRY(tensor_get(b, id, &t));
    PAR__CUDNN_TRY(cudnnBackendSetAttribute(d, attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t));
    return PAR_OK;
}

static par_status add_matmul(builder *b, const operation *o) {
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t *detail = &b->details[b->n], *d = &b->operations[b->n];
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_MATMUL_DESCRIPTOR, detail));
    SET(*detail, MATMUL_COMP_TYPE, DATA_TYPE, 1, &precision);
    PAR__CUDNN_TRY(cudnnBackendFinalize(*detail));
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, d));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, o->x));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, o->b));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, o->y));
    SET(*d, OPERATION_MATMUL_DESC, BACKEND_DESCRIPTOR, 1, detail);
    return PAR_OK;
}

static par_status add_pointwise(builder *b, const operation *o) {
    const cudnnPointwiseMode_t mode = (cudnnPointwiseMode_t)o->mode;
    const cudnnDataType_t precision =
        mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t *detail = &b->details[b->n], *d = &b->operations[b->n];
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, detail));
    SET(*detail, POINTWISE_MODE, POINTWISE_MODE, 1, &mode);
    SET(*detail, POINTWISE_MATH_PREC, DATA_TYPE, 1, &precision);
    if (mode == CUDNN_POINTWISE_GEN_INDEX) SET(*detail, POINTWISE_AXIS, INT64, 1, &o->axis);
    PAR__CUDNN_TRY(cudnnBackendFinalize(*detail));
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, d));
    SET(*d, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, detail);
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, o->x));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, o->b));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, o->t));
    return connect(b, *d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, o->y);
}

/* Which dimension is reduced follows from the shapes. */
static par_status add_reduction(builder *b, const operation *o) {
    const cudnnReduceTensorOp_t reduction = (cudnnReduceTensorOp_t)o->mode;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t *detail = &b->details[b->n], *d = &b->operations[b->n];
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, detail));
    SET(*detail, REDUCTION_COMP_TYPE, DATA_TYPE, 1, &precision);
    SET(*detail, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, &reduction);
    PAR__CUDNN_TRY(cudnnBackendFinalize(*detail));
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, d));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, o->x));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, o->y));
    SET(*d, OPERATION_REDUCTION_DESC, BACKEND_DESCRIPTOR, 1, detail);
    return PAR_OK;
}

static par_status add_reshape(builder *b, const operation *o) {
    cudnnBackendDescriptor_t *d = &b->operations[b->n];
    PAR__CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, d));
    PAR_TRY(connect(b, *d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, o->x));
    return connect(b, *d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, o->y);
}

static par_status add_operation(builder *b, const operation *o) {
    static par_status (*const add[])(builder *, const operation *) = {[MATMUL] = add_matmul,
                                                                      [POINTWISE] = add_pointwise,
                                                                      [REDUCE] = add_reduction,
                                                                      [RESHAPE] = add_reshape};
    PAR_TRY(add[o->kind](b, o));
    PAR__CUDNN_TRY(cudnnBackendFinalize(b->operations[b->n]));
    b->n++;
    return PAR_OK;
}

static par_status finish(const builder *b, const par__fused_target *target,
                         cudnnBackendDescriptor_t graph) {
    SET(graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, b->n, b->operations);
    if (target->handle) SET(graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &target->handle);
    PAR__CUDNN_TRY(cudnnBackendFinalize(graph));
    return PAR_OK;
}

par_status par__fused_graph_create(const par__fused_target *target, const par__fused_shape *shape,
                                   cudnnBackendDescriptor_t *out) {
    const operation *operations[OPERATIONS];
    builder b = {.shape = shape};
    cudnnBackendDescriptor_t graph = NULL;
    int n = operations_of(shape, operations);
    par_status st = PAR_OK;
    for (int i = 0; i < n && st == PAR_OK; i++) st = add_operation(&b, operations[i]);
    if (st == PAR_OK) {
        cudnnStatus_t made =
            cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph);
        if (made != CUDNN_STATUS_SUCCESS)
            st = par__cudnn_failed(made, "cudnnBackendCreateDescriptor");
    }
    if (st == PAR_OK) st = finish(&b, target, graph);
    /* a finalised graph keeps what it needs */
    for (int i = 0; i < TENSORS; i++)
        if (b.tensors[i]) cudnnBackendDestroyDescriptor(b.tensors[i]);
    for (int i = 0; i < OPERATIONS; i++) {
        if (b.operations[i]) cudnnBackendDestroyDescriptor(b.operations[i]);
        if (b.details[i]) cudnnBackendDestroyDescriptor(b.details[i]);
    }
    if (st != PAR_OK && graph) cudnnBackendDestroyDescriptor(graph);
    if (st == PAR_OK) *out = graph;
    return st;
}
