/*
 * cuDNN's backend API, as far as graphs of matmul, pointwise, reduction and reshape go, computed on
 * the host one operation after the other: what attention's graphs mean, by the documentation of
 * their operations, not what cuDNN's fused kernel does. Descriptors are bags of attributes. Values
 * are kept in double and rounded to a tensor's type where one is stored. PAR_STANDIN_CUDNN=90100
 * makes it that version (none: 0, too old to be used), with what older ones did differently: the
 * sums of dq are added to what is there, an infinite mask is refused, a backward whose T is no
 * multiple of 128 is wrong.
 */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <cudnn.h>

#include "kernels/half.h"
#include "tests/cuda/acts.h"
#include "tests/cuda/standin.h"

struct cudnnContext {
    cudaStream_t stream;
};

namespace {

struct descriptor;
typedef std::shared_ptr<descriptor> link;

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, std::vector<char>> values;
    std::map<int, std::vector<link>> links;

    template <typename T> T number(int attribute, T otherwise = T()) const {
        auto v = values.find(attribute);
        T out = otherwise;
        if (v != values.end()) memcpy(&out, v->second.data(), sizeof out);
        return out;
    }
    const descriptor *to(int attribute) const {
        auto l = links.find(attribute);
        return l == links.end() ? nullptr : l->second[0].get();
    }
};

std::string last_error;

cudnnStatus_t refuse(cudnnStatus_t status, const char *why) {
    last_error = why;
    return status;
}

link &of(cudnnBackendDescriptor_t d) {
    return *static_cast<link *>(d);
}

size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_INT64: return 8;
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE: return sizeof(void *);
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4; /* enumerations and INT32 */
    }
}

struct view {
    int64_t uid, dims[4], strides[4];
    cudnnDataType_t type;
    bool is_virtual, by_value;
    int64_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
    int64_t span() const {
        int64_t last = 0;
        for (int i = 0; i < 4; i++) last += (dims[i] - 1) * strides[i];
        return last + 1;
    }
};

view view_of(const descriptor *d) {
    view v{};
    v.uid = d->number<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    memcpy(v.dims, d->values.at(CUDNN_ATTR_TENSOR_DIMENSIONS).data(), sizeof v.dims);
    memcpy(v.strides, d->values.at(CUDNN_ATTR_TENSOR_STRIDES).data(), sizeof v.strides);
    v.type = d->number<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
    v.is_virtual = d->number<char>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    v.by_value = d->number<char>(CUDNN_ATTR_TENSOR_IS_BY_VALUE);
    return v;
}

/* A run: the caller's memory, the numbers by value, and the virtual tensors at their strides'
 * offsets. */
struct memory {
    std::map<int64_t, void *> real;
    std::map<int64_t, double> numbers;
    std::map<int64_t, std::vector<double>> kept;
};

double rounded(cudnnDataType_t type, double x) {
    switch (type) {
    case CUDNN_DATA_BFLOAT16: return par__bf16_to_f32(par__f32_to_bf16((float)x));
    case CUDNN_DATA_HALF: return par__f16_to_f32(par__f32_to_f16((float)x));
    case CUDNN_DATA_FLOAT: return (float)x;
    default: return x;
    }
}

double load(memory &m, const view &v, int64_t at) {
    if (v.by_value) return m.numbers.at(v.uid);
    if (v.is_virtual) return m.kept.at(v.uid)[(size_t)at];
    const void *p = m.real.at(v.uid);
    return v.type == CUDNN_DATA_BFLOAT16 ? par__bf16_to_f32(((const uint16_t *)p)[at])
           : v.type == CUDNN_DATA_HALF   ? par__f16_to_f32(((const uint16_t *)p)[at])
                                         : ((const float *)p)[at];
}

void store(memory &m, const view &v, int64_t at, double x) {
    if (v.is_virtual) {
        m.kept[v.uid][(size_t)at] = rounded(v.type, x);
        return;
    }
    void *p = m.real.at(v.uid);
    if (v.type == CUDNN_DATA_FLOAT)
        ((float *)p)[at] = (float)x;
    else
        ((uint16_t *)p)[at] =
            v.type == CUDNN_DATA_BFLOAT16 ? par__f32_to_bf16((float)x) : par__f32_to_f16((float)x);
}

void allocate(memory &m, const view &v) {
    if (v.is_virtual) m.kept[v.uid].assign((size_t)v.span(), NAN);
}

typedef int64_t index4[4];

int64_t offset(const view &v, const index4 i) {
    return i[0] * v.strides[0] + i[1] * v.strides[1] + i[2] * v.strides[2] + i[3] * v.strides[3];
}

template <typename F> void each(const view &v, F f) {
    index4 i;
    for (i[0] = 0; i[0] < v.dims[0]; i[0]++)
        for (i[1] = 0; i[1] < v.dims[1]; i[1]++)
            for (i[2] = 0; i[2] < v.dims[2]; i[2]++)
                for (i[3] = 0; i[3] < v.dims[3]; i[3]++) f(i);
}

/* x at y's index, where x's dimensions divide y's: a broadcast, and a group's head. */
int64_t broadcast(const view &x, const view &y, const index4 i) {
    index4 j;
    for (int d = 0; d < 4; d++) j[d] = i[d] * x.dims[d] / y.dims[d];
    return offset(x, j);
}

void matmul(memory &m, const descriptor *o) {
    view a = view_of(o->to(CUDNN_ATTR_OPERATION_MATMUL_ADESC));
    view b = view_of(o->to(CUDNN_ATTR_OPERATION_MATMUL_BDESC));
    view c = view_of(o->to(CUDNN_ATTR_OPERATION_MATMUL_CDESC));
    /* the one real product in fp32: the sums of dq */
    bool adds = cudnnGetVersion() < 90600 && !c.is_virtual && c.type == CUDNN_DATA_FLOAT;
    allocate(m, c);
    each(c, [&](const index4 i) {
        int64_t head_a = i[1] * a.dims[1] / c.dims[1], head_b = i[1] * b.dims[1] / c.dims[1];
        double sum = adds ? load(m, c, offset(c, i)) : 0;
        for (int64_t k = 0; k < a.dims[3]; k++) {
            index4 p = {i[0], head_a, i[2], k}, q = {i[0], head_b, k, i[3]};
            sum += load(m, a, offset(a, p)) * load(m, b, offset(b, q));
        }
        store(m, c, offset(c, i), sum);
    });
}

double apply(cudnnPointwiseMode_t mode, double x, double b, double t) {
    switch (mode) {
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_EXP: return std::exp(x);
    case CUDNN_POINTWISE_LOG: return std::log(x);
    case CUDNN_POINTWISE_IDENTITY: return x;
    case CUDNN_POINTWISE_CMP_GE: return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT: return t != 0 ? x : b;
    default:
        fprintf(stderr, "stand-in of cuDNN: pointwise mode %d is not known\n", (int)mode);
        abort();
    }
}

void pointwise(memory &m, const descriptor *o) {
    const descriptor *detail = o->to(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const descriptor *second = o->to(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    const descriptor *third = o->to(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
    auto mode = detail->number<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    auto axis = detail->number<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, -1);
    view x = view_of(o->to(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    view y = view_of(o->to(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    view b = second ? view_of(second) : x, t = third ? view_of(third) : x;
    allocate(m, y);
    each(y, [&](const index4 i) {
        double value = mode == CUDNN_POINTWISE_GEN_INDEX
                           ? (double)i[axis]
                           : apply(mode, load(m, x, broadcast(x, y, i)),
                                   load(m, b, broadcast(b, y, i)), load(m, t, broadcast(t, y, i)));
        store(m, y, offset(y, i), value);
    });
}

void reduction(memory &m, const descriptor *o) {
    const descriptor *detail = o->to(CUDNN_ATTR_OPERATION_REDUCTION_DESC);
    bool max = detail->number<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) ==
               CUDNN_REDUCE_TENSOR_MAX;
    view x = view_of(o->to(CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
    view y = view_of(o->to(CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
    std::vector<double> sums((size_t)y.span(), max ? -INFINITY : 0);
    each(x, [&](const index4 i) {
        double &sum = sums[(size_t)broadcast(y, x, i)], value = load(m, x, offset(x, i));
        sum = max ? std::fmax(sum, value) : sum + value;
    });
    allocate(m, y);
    each(y, [&](const index4 i) { store(m, y, offset(y, i), sums[(size_t)offset(y, i)]); });
}

/* The same memory under other strides. */
void reshape(memory &m, const descriptor *o) {
    view x = view_of(o->to(CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
    view y = view_of(o->to(CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
    bool wrong = cudnnGetVersion() < 91501 && y.dims[2] % 128 != 0 && y.dims[2] == y.dims[3];
    allocate(m, y);
    each(y, [&](const index4 i) {
        store(m, y, offset(y, i), wrong ? NAN : load(m, x, offset(y, i)));
    });
}

void run(const descriptor *graph, memory m) {
    for (const link &o : graph->links.at(CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
        if (o->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) matmul(m, o.get());
        if (o->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) pointwise(m, o.get());
        if (o->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) reduction(m, o.get());
        if (o->type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) reshape(m, o.get());
    }
}

/* The graph that a configuration, or a plan's configuration, was made of. */
const descriptor *graph_of(const descriptor *d) {
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        d = d->to(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    return d->to(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
}

/* As on sm_90 for the deterministic backward: what is turned is stored, in tiles of 64 x 128. */
int64_t workspace_of(const descriptor *graph) {
    int64_t nbytes = 256;
    for (const link &o : graph->links.at(CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
        if (o->type != CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) continue;
        view y = view_of(o->to(CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
        nbytes += 2 * y.dims[0] * y.dims[1] * ((y.dims[2] + 63) / 64 * 64) *
                  ((y.dims[3] + 127) / 128 * 128);
    }
    return nbytes;
}

} // namespace

extern "C" {

size_t cudnnGetVersion(void) {
    const char *wish = getenv("PAR_STANDIN_CUDNN");
    return wish ? strtoul(wish, nullptr, 10) : CUDNN_VERSION;
}
const char *cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "a stand-in's error";
}
void cudnnGetLastErrorString(char *message, size_t max_size) {
    snprintf(message, max_size, "%s", last_error.c_str());
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *out) {
    *out = new cudnnContext{};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out) {
    auto d = std::make_shared<descriptor>();
    d->type = type;
    *out = new link(d);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
    delete static_cast<link *>(d);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n,
                                       const void *values) {
    if (of(d)->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalised");
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        auto *list = static_cast<cudnnBackendDescriptor_t const *>(values);
        std::vector<link> links;
        for (int64_t i = 0; i < n; i++) {
            if (!of(list[i])->finalized)
                return refuse(CUDNN_STATUS_BAD_PARAM, "a part is not finalised");
            links.push_back(of(list[i]));
        }
        of(d)->links[name] = links;
        return CUDNN_STATUS_SUCCESS;
    }
    auto *bytes = static_cast<const char *>(values);
    of(d)->values[name].assign(bytes, bytes + (size_t)n * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
    if (of(d)->finalized)
        return refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalised already");
    if (of(d)->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) standin_count(STANDIN_PLANS);
    if (of(d)->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && standin_broken())
        return refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER, "an illegal address was read");
    of(d)->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t wanted, int64_t *n,
                                       void *values) {
    if (!of(d)->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is not finalised");
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS && wanted > 0) {
        const link &out = of(static_cast<cudnnBackendDescriptor_t *>(values)[0]);
        out->links[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
            of(d)->links.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        out->finalized = true;
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *static_cast<int64_t *>(values) = workspace_of(graph_of(of(d).get()));
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "an attribute that the stand-in does not know");
}

/* Numbers of the host are read now, the device's memory when the stream comes to it. */
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    const auto &ids = of(pack)->values.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto *id = reinterpret_cast<const int64_t *>(ids.data());
    const auto *pointer = reinterpret_cast<void *const *>(
        of(pack)->values.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).data());
    const descriptor *graph = graph_of(of(plan).get());
    memory m;
    for (size_t i = 0; i < ids.size() / sizeof *id; i++) m.real[id[i]] = pointer[i];
    for (const link &o : graph->links.at(CUDNN_ATTR_OPERATIONGRAPH_OPS))
        for (const auto &part : o->links)
            for (const link &t : part.second) {
                if (t->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
                view v = view_of(t.get());
                if (!v.is_virtual && !m.real.count(v.uid))
                    return refuse(CUDNN_STATUS_BAD_PARAM, "the variant pack lacks a tensor");
                if (v.by_value)
                    m.numbers[v.uid] = *static_cast<const float *>(m.real.at(v.uid));
                else if (!v.is_virtual)
                    standin_require_device("cudnnBackendExecute", "a tensor", m.real.at(v.uid), 1);
                if (v.by_value && std::isinf(m.numbers[v.uid]) && cudnnGetVersion() < 91000)
                    return refuse(CUDNN_STATUS_BAD_PARAM, "the mask is infinite");
            }
    link kept = of(plan);
    standin_enqueue(handle->stream, [=] { run(graph_of(kept.get()), m); });
    return CUDNN_STATUS_SUCCESS;
}
}
