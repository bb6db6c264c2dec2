/*
 * NCCL's stand-in: the real nccl.h, messages as files in a folder that the communicator's id names,
 * so that any processes of one machine can meet. What a rank sends is read and written when its
 * stream gets there (NCCL's buffers, without an end), and what it receives comes then, also in
 * eager mode, as a kernel that waits for its peer must not stop the host. Such streams go on in
 * every question and wait of the host, and when a communicator is polled. Sums are in rank order
 * with one rounding: for values that are exact in every order, as tests of NCCL have to use, they
 * are NCCL's.
 *
 * A message begins with the virtual time at which it was sent; what arrives is not there before it.
 *
 * After an abort what waits for a message ends without it. NCCL's abort waits for graphs that hold
 * calls of the communicator, so that whoever aborts before he destroys them waits for ever: here
 * that ends the process, with a message.
 *
 * PAR_STANDIN_NCCL=error makes every communicator report an asynchronous error.
 *
 * The plugin that NCCL_PROFILER_PLUGIN names is told of operations as NCCL 2.28 tells it, of those
 * in a graph with every launch. Their kernels take 1000 s by the GPU's clock.
 */
#include "tests/cuda/standin.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <nccl.h>

#include "kernels/half.h"
#include "launcher/nccl_record/profiler_abi.h"

struct ncclComm {
    void *context = nullptr; /* the plugin's */
    std::string folder;
    int n = 0, rank = 0;
    bool connecting = true;
    std::vector<size_t> n_sent, n_received; /* messages with each rank */
    std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
    std::shared_ptr<int> held = std::make_shared<int>(0); /* by calls, those in graphs too */
};

namespace {

size_t size_of(ncclDataType_t type) {
    switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclFloat32: return 4;
    default: return 8;
    }
}

const profiler_v5 *profiler() {
    static const profiler_v5 *found = [] {
        const char *path = getenv("NCCL_PROFILER_PLUGIN");
        void *file = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
        return file ? (const profiler_v5 *)dlsym(file, "ncclProfiler_v5") : nullptr;
    }();
    return found;
}

void *tell_start(void *context, profiler_event event) {
    void *handle = nullptr;
    profiler()->start(context, &handle, &event);
    return handle;
}

void tell_stop(void *handle) {
    if (handle) profiler()->stop(handle);
}

/* A call's operation: what starts when the call is made, or its graph launched, and its kernel,
 * which ends when the stream gets there. */
struct told {
    void *context;
    profiler_event event = {};
    void start(cudaStream_t stream) const {
        static uint64_t gpu_ns = 1;
        if (!profiler()) return;
        void *operation = tell_start(context, event);
        tell_stop(operation);
        standin_defer(stream, nullptr, [context = context, operation] {
            profiler_event kernel = {};
            kernel.type = PROFILER_KERNEL_CHANNEL;
            kernel.parent = operation;
            kernel.kernel_channel.time_ns = gpu_ns += 5;
            void *channel = tell_start(context, kernel);
            profiler_state end = {};
            end.kernel_channel.time_ns = gpu_ns += 1000000000000;
            if (channel) profiler()->record(channel, PROFILER_CHANNEL_STOP, &end);
            tell_stop(channel);
        });
    }
};

const char *name_of(ncclDataType_t type) {
    return type == ncclFloat32    ? "ncclFloat32"
           : type == ncclBfloat16 ? "ncclBfloat16"
           : type == ncclFloat16  ? "ncclFloat16"
           : type == ncclInt64    ? "ncclInt64"
           : type == ncclInt32    ? "ncclInt32"
                                  : "Unknown";
}

void tell_call(told *t, uint64_t type) {
    profiler_event call = {};
    if (!profiler()) return;
    call.type = type;
    t->event.parent = tell_start(t->context, call);
    tell_stop(t->event.parent);
}

told collective(const ncclComm *c, const char *function, size_t n, ncclDataType_t type) {
    told t = {c->context};
    t.event.type = PROFILER_COLL;
    t.event.rank = c->rank;
    t.event.coll.function = function;
    t.event.coll.n = n;
    t.event.coll.datatype = name_of(type);
    t.event.coll.n_channels = 1;
    t.event.coll.algorithm = "RING";
    t.event.coll.protocol = "SIMPLE";
    tell_call(&t, PROFILER_COLL_CALL);
    return t;
}

told pair(const ncclComm *c, const char *function, size_t n, ncclDataType_t type, int peer) {
    told t = {c->context};
    t.event.type = PROFILER_P2P;
    t.event.rank = c->rank;
    t.event.p2p.function = function;
    t.event.p2p.n = n;
    t.event.p2p.datatype = name_of(type);
    t.event.p2p.peer = peer;
    t.event.p2p.n_channels = 1;
    tell_call(&t, PROFILER_P2P_CALL);
    return t;
}

std::string name_of(const ncclComm *c, int from, int to, size_t k) {
    return c->folder + "/" + std::to_string(from) + "-" + std::to_string(to) + "-" +
           std::to_string(k);
}

void post(const std::string &name, const void *data, size_t nbytes, double moment) {
    std::string part = name + ".part";
    FILE *file = fopen(part.c_str(), "wb");
    if (!file || fwrite(&moment, sizeof moment, 1, file) != 1 ||
        fwrite(data, 1, nbytes, file) != nbytes || fclose(file) != 0) {
        fprintf(stderr, "stand-in of NCCL: %zu bytes at %p to %s: %s\n", nbytes, data, part.c_str(),
                strerror(errno));
        abort();
    }
    rename(part.c_str(), name.c_str());
}

/* What a message is received from: all files are there, or the communicator is aborted. */
struct arrival {
    std::vector<std::string> names;
    std::shared_ptr<bool> aborted;
    bool operator()() const {
        if (*aborted) return true;
        for (auto &name : names)
            if (access(name.c_str(), R_OK) != 0) return false;
        return true;
    }
};

void take(const std::string &name, void *data, size_t nbytes, cudaStream_t stream) {
    double moment = 0;
    FILE *file = fopen(name.c_str(), "rb");
    if (!file) {
        fprintf(stderr, "stand-in of NCCL: %s: %s\n", name.c_str(), strerror(errno));
        abort();
    }
    bool begun = fread(&moment, sizeof moment, 1, file) == 1;
    size_t n = fread(data, 1, nbytes, file);
    bool longer = fgetc(file) != EOF;
    fclose(file);
    unlink(name.c_str());
    standin_not_before(stream, moment);
    if (!begun || n != nbytes || longer) {
        fprintf(stderr, "stand-in of NCCL: %s has other than %zu bytes\n", name.c_str(), nbytes);
        abort();
    }
}

std::string expect(ncclComm *c, int from) {
    return name_of(c, from, c->rank, c->n_received[(size_t)from]++);
}

/* Put a message to rank `to` on the stream. */
void send_later(ncclComm *c, int to, const void *data, size_t nbytes, cudaStream_t stream) {
    std::string name = name_of(c, c->rank, to, c->n_sent[(size_t)to]++);
    standin_defer(stream, nullptr, [=, aborted = c->aborted] {
        if (!*aborted) post(name, data, nbytes, standin_now(stream));
    });
}

double get(ncclDataType_t type, const void *data, size_t i) {
    switch (type) {
    case ncclFloat32: return ((const float *)data)[i];
    case ncclBfloat16: return par__bf16_to_f32(((const uint16_t *)data)[i]);
    case ncclFloat16: return par__f16_to_f32(((const uint16_t *)data)[i]);
    default: return 0;
    }
}

void add(ncclDataType_t type, void *dst, const std::vector<std::vector<char>> &all, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        int64_t whole = 0;
        for (auto &x : all) {
            if (type == ncclInt32)
                whole += ((const int32_t *)(const void *)x.data())[i];
            else if (type == ncclInt64)
                whole += ((const int64_t *)(const void *)x.data())[i];
            else
                sum += (float)get(type, x.data(), i);
        }
        switch (type) {
        case ncclFloat32: ((float *)dst)[i] = sum; break;
        case ncclBfloat16: ((uint16_t *)dst)[i] = par__f32_to_bf16(sum); break;
        case ncclFloat16: ((uint16_t *)dst)[i] = par__f32_to_f16(sum); break;
        case ncclInt32: ((int32_t *)dst)[i] = (int32_t)whole; break;
        default: ((int64_t *)dst)[i] = whole; break;
        }
    }
}

/* Send pieces of src, piece j to rank j, `stride` bytes apart, oneself included; names of what
 * comes. */
arrival exchange(ncclComm *c, const void *src, size_t nbytes, size_t stride, cudaStream_t stream) {
    arrival from = {{}, c->aborted};
    standin_require_device("an NCCL collective", "the source", src, nbytes);
    for (int j = 0; j < c->n; j++)
        send_later(c, j, (const char *)src + (size_t)j * stride, nbytes, stream);
    for (int j = 0; j < c->n; j++) from.names.push_back(expect(c, j));
    return from;
}

void reduce_later(arrival from, void *dst, size_t n, ncclDataType_t type, cudaStream_t stream) {
    standin_require_device("an NCCL collective", "the destination", dst, n * size_of(type));
    standin_defer(stream, from, [=] {
        if (*from.aborted) return;
        std::vector<std::vector<char>> all;
        for (auto &name : from.names) {
            all.emplace_back(n * size_of(type));
            take(name, all.back().data(), all.back().size(), stream);
        }
        add(type, dst, all, n);
    });
}

} // namespace

/* To be seen by the loader, as NCCL's are: a recorder may stand before them. */
#pragma GCC visibility push(default)
extern "C" {

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclSuccess       ? "no error"
           : result == ncclRemoteError ? "remote process exited"
                                       : "failed";
}
const char *ncclGetLastError(ncclComm_t) {
    return "told by the stand-in";
}
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static std::atomic<int> count;
    const char *folder = getenv("TMPDIR");
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "%s/par-nccl-%ld-%d-XXXXXX",
             folder ? folder : "/tmp", (long)getpid(), count++);
    return mkdtemp(id->internal) ? ncclSuccess : ncclSystemError;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    if (config->blocking != 0 || !config->commName) return ncclInvalidArgument;
    *out = new ncclComm;
    (*out)->folder = id.internal;
    (*out)->n = n;
    (*out)->rank = rank;
    (*out)->n_sent.resize((size_t)n);
    (*out)->n_received.resize((size_t)n);
    int mask = 0;
    uint64_t hash = std::hash<std::string>()((*out)->folder);
    if (profiler())
        profiler()->init(&(*out)->context, hash, &mask, config->commName, 1, n, rank, nullptr);
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    const char *mode = getenv("PAR_STANDIN_NCCL");
    standin_progress();
    *state = c->connecting ? ncclInProgress : ncclSuccess;
    c->connecting = false;
    if (mode && !strcmp(mode, "error")) *state = ncclRemoteError;
    return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t c) {
    c->connecting = true;
    return ncclInProgress;
}
/* The last rank that leaves takes the folder with it: one that is empty may still get messages. */
ncclResult_t ncclCommDestroy(ncclComm_t c) {
    std::error_code ignored;
    *c->aborted = true;
    if (profiler() && c->context) profiler()->finalize(c->context);
    FILE *left = fopen((c->folder + "/left-" + std::to_string(c->rank)).c_str(), "w");
    if (left) fclose(left);
    int n_left = 0;
    for (auto &entry : std::filesystem::directory_iterator(c->folder, ignored))
        n_left += entry.path().filename().string().rfind("left-", 0) == 0;
    if (n_left == c->n) std::filesystem::remove_all(c->folder, ignored);
    delete c;
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t c) {
    if (c->held.use_count() > 1) {
        fprintf(stderr, "stand-in of NCCL: aborted while a graph has its calls: this never ends\n");
        abort();
    }
    return ncclCommDestroy(c);
}

ncclResult_t ncclAllReduce(const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t c, cudaStream_t stream) {
    standin_call(stream, [=, held = c->held, told = collective(c, "AllReduce", n, type)] {
        reduce_later(exchange(c, src, n * size_of(type), 0, stream), dst, n, type, stream);
        told.start(stream);
    });
    return ncclSuccess;
}
ncclResult_t ncclReduceScatter(const void *src, void *dst, size_t n, ncclDataType_t type,
                               ncclRedOp_t, ncclComm_t c, cudaStream_t stream) {
    size_t nbytes = n * size_of(type);
    standin_call(stream, [=, held = c->held, told = collective(c, "ReduceScatter", n, type)] {
        reduce_later(exchange(c, src, nbytes, nbytes, stream), dst, n, type, stream);
        told.start(stream);
    });
    return ncclSuccess;
}
ncclResult_t ncclAllGather(const void *src, void *dst, size_t n, ncclDataType_t type, ncclComm_t c,
                           cudaStream_t stream) {
    size_t nbytes = n * size_of(type);
    standin_call(stream, [=, held = c->held, told = collective(c, "AllGather", nbytes, ncclInt8)] {
        arrival from = exchange(c, src, nbytes, 0, stream);
        standin_require_device("ncclAllGather", "the destination", dst, nbytes * from.names.size());
        standin_defer(stream, from, [=] {
            if (*from.aborted) return;
            for (size_t j = 0; j < from.names.size(); j++)
                take(from.names[j], (char *)dst + j * nbytes, nbytes, stream);
        });
        told.start(stream);
    });
    return ncclSuccess;
}
ncclResult_t ncclSend(const void *src, size_t n, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream) {
    standin_require_device("ncclSend", "the source", src, n * size_of(type));
    standin_call(stream, [=, held = c->held, told = pair(c, "Send", n, type, peer)] {
        send_later(c, peer, src, n * size_of(type), stream);
        told.start(stream);
    });
    return ncclSuccess;
}
ncclResult_t ncclRecv(void *dst, size_t n, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream) {
    standin_require_device("ncclRecv", "the destination", dst, n * size_of(type));
    standin_call(stream, [=, held = c->held, told = pair(c, "Recv", n, type, peer)] {
        arrival from = {{expect(c, peer)}, c->aborted};
        standin_defer(stream, from, [=] {
            if (!*from.aborted) take(from.names[0], dst, n * size_of(type), stream);
        });
        told.start(stream);
    });
    return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void *src, void *dst, size_t n, ncclDataType_t type, int root,
                           ncclComm_t c, cudaStream_t stream) {
    for (int j = 0; c->rank == root && j < c->n; j++)
        if (j != root) ncclSend(src, n, type, j, c, stream);
    return c->rank == root ? ncclSuccess : ncclRecv(dst, n, type, root, c, stream);
}
}
#pragma GCC visibility pop
