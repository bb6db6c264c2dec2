/* The CUDA runtime's stand-in: memory, streams, events, properties. See standin.h. */
#include "tests/cuda/standin.h"

#include "tests/cuda/acts.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

struct capture;
/* What a stream does next, once it is ready: what waits for another stream or process polls. */
struct entry {
    std::function<bool()> ready; /* empty: at once */
    std::function<void()> run;
};
struct CUstream_st {
    capture *in = nullptr; /* the capture that it is part of */
    size_t index = 0;      /* its place there */
    std::deque<entry> items;
    size_t n_put = 0, n_done = 0;
    size_t n_deferred = 0; /* items up to the last one that waits for another process */
    double now = 0;        /* by the virtual clock: when its last item ended */
};
/* One record; waits for it keep it, as the event may be recorded again before their turn. */
struct moment {
    double seconds = 0;
};
struct CUevent_st {
    CUstream_st *stream = nullptr;
    size_t n = 0; /* items of the stream up to the record */
    bool timed = false;
    std::shared_ptr<moment> last;
    bool captured = false; /* its last record belongs to a capture, `in` */
    capture *in = nullptr;
    std::vector<size_t> seen; /* calls of each stream of the capture that the record is behind */
    cudaEvent_t inner = nullptr;
};

/* Calls that are kept instead of made, each with its arguments as they were. A launch makes them
 * again, on the streams that they were made on. */
struct CUgraph_st {
    CUstream_st *origin = nullptr;
    std::vector<std::function<void()>> calls;
    std::vector<std::unique_ptr<CUevent_st>> events; /* one for each record but the external ones */
};
struct CUgraphExec_st {
    std::shared_ptr<CUgraph_st> graph;
};
struct capture {
    std::shared_ptr<CUgraph_st> graph = std::make_shared<CUgraph_st>();
    std::vector<CUstream_st *> streams; /* the origin first */
    std::vector<std::vector<size_t>>
        seen; /* [stream][stream] calls that it is behind, its own too */
    cudaError_t bad = cudaSuccess;
};

extern "C" {
extern __attribute__((visibility("default"))) long standin_acts[STANDIN_ACTS];
long standin_acts[STANDIN_ACTS];
}

namespace {

/* Writes the counts when the process ends. */
long in_ranges[STANDIN_ACTS];
struct report {
    ~report() {
        const char *path = getenv("PAR_STANDIN_ACTS");
        FILE *file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        fprintf(file, "allocates %ld %ld\nwaits %ld %ld\nplans %ld %ld\n",
                standin_acts[STANDIN_ALLOCATES], in_ranges[STANDIN_ALLOCATES],
                standin_acts[STANDIN_WAITS], in_ranges[STANDIN_WAITS], standin_acts[STANDIN_PLANS],
                in_ranges[STANDIN_PLANS]);
        fprintf(file, "ranges %ld 0\n", standin_ranges());
        fclose(file);
    }
} at_end;

CUstream_st default_stream;
std::vector<CUstream_st *> waiting; /* streams with items that wait for another process */
std::map<char *, size_t> device_blocks, pinned_blocks;
int n_open;
cudaError_t last_error = cudaSuccess;
capture *capturing; /* of the one thread that there is; NULL: none */
bool replaying;     /* calls are a graph's */
double host_now;    /* by the virtual clock: the latest moment that the host has seen */

bool eager() {
    static const char *mode = getenv("PAR_STANDIN");
    return mode && !strcmp(mode, "eager");
}

/* Seconds that a kernel takes by the virtual clock; 0: the real one. */
double tick() {
    static const char *text = getenv("PAR_STANDIN_TICK");
    static double seconds = text ? atof(text) : 0;
    return seconds;
}

double clock_of(const CUstream_st *s) {
    if (tick() > 0) return s->now;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

CUstream_st *of(cudaStream_t s) {
    return s ? s : &default_stream;
}

/* The next item, if it is ready; false: it is not. */
bool advance(CUstream_st *s) {
    if (s->items.empty()) return false; /* it is inside its last item */
    if (s->items.front().ready && !s->items.front().ready()) return false;
    std::function<void()> run = std::move(s->items.front().run);
    s->items.pop_front();
    run();
    s->n_done++;
    return true;
}

void run_until(CUstream_st *s, size_t n) {
    while (s->n_done < n)
        if (!advance(s)) {
            standin_progress();
            usleep(50);
        }
}

/* As far as nothing has to be waited for. */
bool reaches(CUstream_st *s, size_t n) {
    while (s->n_done < n)
        if (!advance(s)) return false;
    return true;
}

/* No item begins before the host has put it there. */
void put(CUstream_st *s, std::function<void()> item, double takes = 0,
         std::function<bool()> ready = nullptr, bool later = false) {
    s->items.push_back({std::move(ready), [=, from = host_now, item = std::move(item)] {
                            s->now = std::max(s->now, from);
                            item();
                            s->now += takes;
                        }});
    s->n_put++;
    if (later) s->n_deferred = s->n_put;
    if (later && std::find(waiting.begin(), waiting.end(), s) == waiting.end())
        waiting.push_back(s);
    if (eager() && s->n_done >= s->n_deferred) run_until(s, s->n_put);
}

cudaError_t failed(cudaError_t error) {
    last_error = error;
    return error;
}

/* What CUDA refuses in the thread that captures: the capture is of no use any more. */
cudaError_t refused_in_capture(cudaError_t error) {
    if (!capturing) return cudaSuccess;
    if (capturing->bad == cudaSuccess) capturing->bad = error;
    return failed(error);
}
#define REFUSE_IN_CAPTURE()                                                                        \
    do {                                                                                           \
        if (capturing) return refused_in_capture(cudaErrorStreamCaptureUnsupported);               \
    } while (0)

/* PAR_STANDIN_CAPTURE=N: a capture is refused at its N-th call. */
size_t most_calls() {
    const char *n = getenv("PAR_STANDIN_CAPTURE");
    return n ? (size_t)atol(n) : SIZE_MAX;
}

/* Keep a call if its stream is part of a capture. The default stream waits for all others. */
bool keep(CUstream_st *s, std::function<void()> call, cudaError_t *error) {
    *error = cudaSuccess;
    if (!capturing || replaying) return false;
    if (s == &default_stream) *error = refused_in_capture(cudaErrorStreamCaptureImplicit);
    if (s == &default_stream || !s->in) return *error != cudaSuccess;
    if (s->in->graph->calls.size() >= most_calls()) s->in->bad = cudaErrorStreamCaptureUnsupported;
    if (s->in->bad != cudaSuccess)
        *error = failed(cudaErrorStreamCaptureInvalidated);
    else
        s->in->graph->calls.push_back(std::move(call));
    s->in->seen[s->index][s->index]++;
    return true;
}

std::function<void()> opened(std::function<void()> item) {
    return [item = std::move(item)] {
        standin_open();
        item();
        standin_close();
    };
}

/* Copies and fills take no time by the virtual clock. */
cudaError_t put_copy(cudaStream_t stream, std::function<void()> item) {
    cudaError_t error;
    if (!keep(
            of(stream), [=] { put(of(stream), opened(item)); }, &error))
        put(of(stream), opened(std::move(item)));
    return error;
}

/* Pageable memory: a copy from it or to it cannot be captured. */
bool pageable(const void *p) {
    for (auto blocks : {&device_blocks, &pinned_blocks}) {
        auto b = blocks->upper_bound((char *)(uintptr_t)p);
        if (b == blocks->begin()) continue;
        --b;
        if ((char *)(uintptr_t)p < b->first + b->second) return false;
    }
    return true;
}

/* The host waited for what ended then. */
void host_saw(double moment) {
    host_now = std::max(host_now, moment);
}

size_t pages(size_t nbytes) {
    return (nbytes + 4095) / 4096 * 4096;
}

void protect(int protection) {
    for (auto &b : device_blocks) mprotect(b.first, pages(b.second), protection);
}

} // namespace

static bool holds(const std::map<char *, size_t> &blocks, const char *begin, size_t nbytes) {
    auto next = blocks.upper_bound((char *)begin);
    if (next == blocks.begin()) return false;
    auto block = std::prev(next);
    return begin + nbytes <= block->first + block->second;
}
void standin_require_device(const char *call, const char *operand, const void *begin,
                            size_t nbytes) {
    if (!begin || nbytes == 0 || holds(device_blocks, (const char *)begin, nbytes) ||
        holds(pinned_blocks, (const char *)begin, nbytes))
        return;
    fprintf(stderr, "stand-in: %s: %s, %zu bytes at %p, is not in the device's memory\n", call,
            operand, nbytes, begin);
    abort();
}
void standin_count(int act) {
    standin_acts[act]++;
    if (standin_in_range()) in_ranges[act]++;
}
void standin_open() {
    if (n_open++ == 0) protect(PROT_READ | PROT_WRITE);
}
void standin_close() {
    if (--n_open == 0) protect(PROT_NONE);
}
void standin_enqueue(cudaStream_t stream, std::function<void()> item) {
    cudaError_t error;
    if (keep(
            of(stream), [=] { standin_enqueue(stream, item); }, &error))
        return;
    if (!replaying) standin_count(STANDIN_LAUNCHES);
    put(of(stream), opened(std::move(item)), tick());
}
void standin_call(cudaStream_t stream, std::function<void()> call) {
    cudaError_t error;
    if (keep(of(stream), call, &error)) return;
    if (!replaying) standin_count(STANDIN_LAUNCHES);
    call();
}
void standin_defer(cudaStream_t stream, std::function<bool()> ready, std::function<void()> item) {
    put(of(stream), opened(std::move(item)), 0, std::move(ready), true);
}
/* Not into itself: an item that is not ready may ask for another stream. */
void standin_progress() {
    static bool within;
    if (within || capturing) return;
    within = true;
    for (size_t i = 0; i < waiting.size(); i++) reaches(waiting[i], waiting[i]->n_deferred);
    for (size_t i = waiting.size(); i-- > 0;)
        if (waiting[i]->n_done >= waiting[i]->n_deferred) waiting.erase(waiting.begin() + (long)i);
    within = false;
}
double standin_now(cudaStream_t stream) {
    return of(stream)->now;
}
void standin_not_before(cudaStream_t stream, double moment) {
    of(stream)->now = std::max(of(stream)->now, moment);
}
void standin_finish(cudaStream_t stream) {
    run_until(of(stream), of(stream)->n_put);
}

bool standin_broken() {
    return getenv("PAR_STANDIN_BROKEN");
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *n) {
    const char *count = getenv("PAR_STANDIN_GPUS");
    *n = count ? atoi(count) : 1;
    return *n > 0 ? cudaSuccess : failed(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    int n = 0;
    cudaGetDeviceCount(&n);
    return device >= 0 && device < n ? cudaSuccess : failed(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    memset(p, 0, sizeof *p);
    const char *name = getenv("PAR_STANDIN_NAME");
    if (name)
        snprintf(p->name, sizeof p->name, "%s", name);
    else
        snprintf(p->name, sizeof p->name, "stand-in %d", device);
    const char *major = getenv("PAR_STANDIN_MAJOR");
    p->major = major ? atoi(major) : 9;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = (size_t)8 << 30;
    p->sharedMemPerBlockOptin = 232448;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    (void)device;
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 4
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 232448
             : attribute == cudaDevAttrComputeCapabilityMajor       ? 9
                                                                    : 0;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int nbytes, int device) {
    snprintf(text, (size_t)nbytes, "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_nbytes, size_t *total) {
    size_t used = 0;
    for (auto &b : device_blocks) used += b.second;
    *total = (size_t)8 << 30;
    *free_nbytes = *total - used;
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess         ? "no error"
           : error == cudaErrorNoDevice ? "no CUDA-capable device is detected"
                                        : "stand-in error";
}
const char *cudaGetErrorName(cudaError_t error) {
    static char name[32];
    snprintf(name, sizeof name, "cudaError %d", (int)error);
    return name;
}
cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

cudaError_t cudaMalloc(void **out, size_t nbytes) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_ALLOCATES);
    if (standin_broken()) return failed(cudaErrorIllegalAddress);
    size_t free_nbytes, total;
    cudaMemGetInfo(&free_nbytes, &total);
    if (nbytes > free_nbytes) return failed(cudaErrorMemoryAllocation);
    void *p = mmap(nullptr, pages(nbytes), n_open ? PROT_READ | PROT_WRITE : PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return failed(cudaErrorMemoryAllocation);
    madvise(p, pages(nbytes), MADV_HUGEPAGE); /* less to map, and to protect at each call */
    standin_open();
    mprotect(p, pages(nbytes), PROT_READ | PROT_WRITE);
    memset(p, 0xff, nbytes); /* NaN: nothing on a device is zero by itself */
    device_blocks[(char *)p] = nbytes;
    standin_close();
    *out = p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_ALLOCATES);
    if (!p) return cudaSuccess;
    auto b = device_blocks.find((char *)p);
    if (b == device_blocks.end()) return failed(cudaErrorInvalidValue);
    munmap(p, pages(b->second));
    device_blocks.erase(b);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **out, size_t nbytes, unsigned) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_ALLOCATES);
    *out = aligned_alloc(4096, pages(nbytes));
    if (!*out) return failed(cudaErrorMemoryAllocation);
    memset(*out, 0xff, nbytes);
    pinned_blocks[(char *)*out] = nbytes;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_ALLOCATES);
    pinned_blocks.erase((char *)p);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t nbytes) {
    REFUSE_IN_CAPTURE();
    standin_require_device("cudaMemset", "the destination", p, nbytes);
    auto b = device_blocks.find((char *)p);
    standin_open();
    /* whole blocks become zero by giving their pages back: opening and closing an absent page costs
     * nothing */
    if (value != 0 || b == device_blocks.end() || b->second != nbytes ||
        madvise(p, pages(nbytes), MADV_DONTNEED) != 0)
        memset(p, value, nbytes);
    standin_close();
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t nbytes, enum cudaMemcpyKind) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_WAITS);
    standin_finish(nullptr);
    standin_open();
    memmove(dst, src, nbytes);
    standin_close();
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t nbytes, enum cudaMemcpyKind,
                            cudaStream_t s) {
    /* From pageable memory CUDA may return before or after it was read; both happen here, by
     * mode. */
    if (capturing && (pageable(dst) || pageable(src)))
        return refused_in_capture(cudaErrorStreamCaptureUnsupported);
    return put_copy(s, [=] { memmove(dst, src, nbytes); });
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind, cudaStream_t s) {
    return put_copy(s, [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    });
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t nbytes, cudaStream_t s) {
    standin_require_device("cudaMemsetAsync", "the destination", p, nbytes);
    return put_copy(s, [=] { memset(p, value, nbytes); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    *out = new CUstream_st;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return cudaStreamCreateWithFlags(out, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    REFUSE_IN_CAPTURE();
    standin_finish(s);
    waiting.erase(std::remove(waiting.begin(), waiting.end(), s), waiting.end());
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    REFUSE_IN_CAPTURE();
    standin_count(STANDIN_WAITS);
    standin_finish(s);
    host_saw(of(s)->now);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
    return cudaStreamSynchronize(nullptr);
}
/* A stream that waits for a record of a capture becomes part of it. */
cudaError_t wait_captured(CUstream_st *waiting, cudaEvent_t e) {
    if (!capturing || e->in != capturing) return failed(cudaErrorCapturedEvent);
    if (!waiting->in) {
        waiting->in = capturing;
        waiting->index = capturing->streams.size();
        capturing->streams.push_back(waiting);
        for (auto &x : capturing->seen) x.resize(capturing->streams.size());
        capturing->seen.emplace_back(capturing->streams.size());
    }
    std::vector<size_t> &seen = capturing->seen[waiting->index];
    for (size_t i = 0; i < e->seen.size(); i++) seen[i] = std::max(seen[i], e->seen[i]);
    cudaError_t error;
    cudaEvent_t inner = e->inner;
    keep(
        waiting, [=] { cudaStreamWaitEvent(waiting, inner, 0); }, &error);
    return error;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    CUstream_st *stream = e->stream, *waiting = of(s);
    size_t n = e->n;
    if (!replaying && e->captured) return wait_captured(waiting, e);
    if (!replaying && waiting->in && stream)
        return refused_in_capture(cudaErrorStreamCaptureIsolation);
    if (stream)
        put(
            waiting, [=, last = e->last] { waiting->now = std::max(waiting->now, last->seconds); },
            0, [=] { return reaches(stream, n); });
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    *out = new CUevent_st;
    (*out)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
void record_now(cudaEvent_t e, CUstream_st *stream) {
    auto last = std::make_shared<moment>();
    put(stream, [=] { last->seconds = clock_of(stream); });
    e->stream = stream;
    e->n = stream->n_put;
    e->last = last;
    e->captured = false;
}
/* In a capture: an event of the graph's own, and what it is behind. */
cudaError_t record_captured(cudaEvent_t e, CUstream_st *stream) {
    cudaError_t error;
    CUgraph_st *graph = stream->in->graph.get();
    graph->events.push_back(std::make_unique<CUevent_st>());
    cudaEvent_t inner = graph->events.back().get();
    keep(
        stream, [=] { record_now(inner, stream); }, &error);
    e->captured = true;
    e->in = stream->in;
    e->seen = stream->in->seen[stream->index];
    e->inner = inner;
    return error;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned flags) {
    CUstream_st *stream = of(s);
    cudaError_t error;
    bool external = flags & cudaEventRecordExternal;
    if (external && !stream->in) return failed(cudaErrorIllegalState);
    if (stream->in && !external) return record_captured(e, stream);
    if (!keep(
            stream, [=] { record_now(e, stream); }, &error))
        record_now(e, stream);
    return error;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    return cudaEventRecordWithFlags(e, s, cudaEventRecordDefault);
}
/* Each question lets one item run, so that somebody who polls gets there. */
cudaError_t cudaEventQuery(cudaEvent_t e) {
    REFUSE_IN_CAPTURE();
    if (e->captured) return failed(cudaErrorCapturedEvent);
    if (e->stream && e->stream->n_done < e->n && !advance(e->stream)) standin_progress();
    if (e->stream && e->stream->n_done < e->n) return cudaErrorNotReady;
    if (e->stream && tick() > 0) host_saw(e->last->seconds);
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    REFUSE_IN_CAPTURE();
    if (e->captured) return failed(cudaErrorCapturedEvent);
    standin_count(STANDIN_WAITS);
    if (!e->stream) return cudaSuccess;
    run_until(e->stream, e->n);
    if (tick() > 0) host_saw(e->last->seconds);
    return cudaSuccess;
}
/* As CUDA: both with timing, recorded, and done; in steps of half a microsecond by a real clock. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    for (cudaEvent_t e : {from, to})
        if (e->captured) return failed(cudaErrorCapturedEvent);
    for (cudaEvent_t e : {from, to})
        if (!e->timed || !e->stream) return failed(cudaErrorInvalidResourceHandle);
    for (cudaEvent_t e : {from, to})
        if (e->stream->n_done < e->n) return failed(cudaErrorNotReady);
    *ms = (float)(1e3 * (to->last->seconds - from->last->seconds));
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int) {
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    if (capturing || of(s) == &default_stream) return failed(cudaErrorStreamCaptureUnsupported);
    if (mode != cudaStreamCaptureModeThreadLocal) return failed(cudaErrorInvalidValue);
    capturing = new capture;
    capturing->graph->origin = s;
    capturing->streams = {s};
    capturing->seen = {{0}};
    s->in = capturing;
    s->index = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out) {
    capture *c = capturing;
    *out = nullptr;
    if (!c || c->streams[0] != s) return failed(cudaErrorIllegalState);
    cudaError_t error = c->bad == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
    for (size_t i = 1; i < c->streams.size(); i++)
        if (error == cudaSuccess && c->seen[0][i] < c->seen[i][i])
            error = cudaErrorStreamCaptureUnjoined;
    for (CUstream_st *stream : c->streams) stream->in = nullptr;
    capturing = nullptr;
    if (error == cudaSuccess) *out = new CUgraph_st(std::move(*c->graph));
    delete c;
    return error == cudaSuccess ? cudaSuccess : failed(error);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long) {
    *out = new CUgraphExec_st{std::shared_ptr<CUgraph_st>(new CUgraph_st(std::move(*graph)))};
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    return cudaSuccess;
}
/* The stand-in has the streams of the capture alone. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    REFUSE_IN_CAPTURE();
    if (exec->graph->origin != s) return failed(cudaErrorInvalidValue);
    standin_count(STANDIN_GRAPHS);
    replaying = true;
    for (auto &call : exec->graph->calls) call();
    replaying = false;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
}
