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

struct CUstream_st {
    std::deque<std::function<void()>> items;
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
std::map<char *, size_t> device_blocks, pinned_blocks;
int n_open;
cudaError_t last_error = cudaSuccess;
double host_now; /* by the virtual clock: the latest moment that the host has seen */

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

void run_until(CUstream_st *s, size_t n) {
    while (s->n_done < n) {
        std::function<void()> item = std::move(s->items.front());
        s->items.pop_front();
        item();
        s->n_done++;
    }
}

/* No item begins before the host has put it there. */
void put(CUstream_st *s, std::function<void()> item, double takes = 0, bool later = false) {
    s->items.push_back([=, from = host_now, item = std::move(item)] {
        s->now = std::max(s->now, from);
        item();
        s->now += takes;
    });
    s->n_put++;
    if (later) s->n_deferred = s->n_put;
    if (eager() && s->n_done >= s->n_deferred) run_until(s, s->n_put);
}

std::function<void()> opened(std::function<void()> item) {
    return [item = std::move(item)] {
        standin_open();
        item();
        standin_close();
    };
}

/* Copies and fills take no time by the virtual clock. */
void put_copy(cudaStream_t stream, std::function<void()> item) {
    put(of(stream), opened(std::move(item)));
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

cudaError_t failed(cudaError_t error) {
    last_error = error;
    return error;
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
    put(of(stream), opened(std::move(item)), tick());
}
void standin_defer(cudaStream_t stream, std::function<void()> item) {
    put(of(stream), opened(std::move(item)), 0, true);
}
double standin_now(cudaStream_t stream) {
    return std::max(of(stream)->now, host_now);
}
void standin_not_before(cudaStream_t stream, double moment) {
    of(stream)->now = std::max(of(stream)->now, moment);
}
void standin_finish(cudaStream_t stream) {
    run_until(of(stream), of(stream)->n_put);
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
    snprintf(p->name, sizeof p->name, "stand-in %d", device);
    p->major = 9;
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
    standin_count(STANDIN_ALLOCATES);
    size_t free_nbytes, total;
    cudaMemGetInfo(&free_nbytes, &total);
    if (nbytes > free_nbytes) return failed(cudaErrorMemoryAllocation);
    void *p = mmap(nullptr, pages(nbytes), n_open ? PROT_READ | PROT_WRITE : PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return failed(cudaErrorMemoryAllocation);
    standin_open();
    mprotect(p, pages(nbytes), PROT_READ | PROT_WRITE);
    memset(p, 0xff, nbytes); /* NaN: nothing on a device is zero by itself */
    device_blocks[(char *)p] = nbytes;
    standin_close();
    *out = p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    standin_count(STANDIN_ALLOCATES);
    if (!p) return cudaSuccess;
    auto b = device_blocks.find((char *)p);
    if (b == device_blocks.end()) return failed(cudaErrorInvalidValue);
    munmap(p, pages(b->second));
    device_blocks.erase(b);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **out, size_t nbytes, unsigned) {
    standin_count(STANDIN_ALLOCATES);
    *out = aligned_alloc(4096, pages(nbytes));
    if (!*out) return failed(cudaErrorMemoryAllocation);
    memset(*out, 0xff, nbytes);
    pinned_blocks[(char *)*out] = nbytes;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    standin_count(STANDIN_ALLOCATES);
    pinned_blocks.erase((char *)p);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t nbytes) {
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
    put_copy(s, [=] { memmove(dst, src, nbytes); });
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind, cudaStream_t s) {
    put_copy(s, [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t nbytes, cudaStream_t s) {
    standin_require_device("cudaMemsetAsync", "the destination", p, nbytes);
    put_copy(s, [=] { memset(p, value, nbytes); });
    return cudaSuccess;
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
    standin_finish(s);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    standin_count(STANDIN_WAITS);
    standin_finish(s);
    host_saw(of(s)->now);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
    return cudaStreamSynchronize(nullptr);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    CUstream_st *stream = e->stream, *waiting = of(s);
    size_t n = e->n;
    if (stream)
        put(waiting, [=, last = e->last] {
            run_until(stream, n);
            waiting->now = std::max(waiting->now, last->seconds);
        });
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
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    CUstream_st *stream = of(s);
    auto last = std::make_shared<moment>();
    put(stream, [=] { last->seconds = clock_of(stream); });
    e->stream = stream;
    e->n = stream->n_put;
    e->last = last;
    return cudaSuccess;
}
/* Each question lets one item run, so that somebody who polls gets there. */
cudaError_t cudaEventQuery(cudaEvent_t e) {
    if (e->stream && e->stream->n_done < e->n) run_until(e->stream, e->stream->n_done + 1);
    if (e->stream && e->stream->n_done < e->n) return cudaErrorNotReady;
    if (e->stream && tick() > 0) host_saw(e->last->seconds);
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    standin_count(STANDIN_WAITS);
    if (!e->stream) return cudaSuccess;
    run_until(e->stream, e->n);
    if (tick() > 0) host_saw(e->last->seconds);
    return cudaSuccess;
}
/* As CUDA: both with timing, recorded, and done; in steps of half a microsecond by a real clock. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
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
}
