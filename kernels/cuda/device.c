/*
 * The device: chosen by the rank on its node, memory, pinned host memory, streams, events and
 * copies. One process uses one device. Checks of foreign calls put the call and CUDA's own text
 * into the error.
 */
#include <stdio.h>
#include <stdlib.h>

#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/recorded.h"

static par__cuda_device device;
static bool capturing; /* some stream */

const par__cuda_device *par__cuda_device_get(void) {
    return &device;
}

/* What this machine or build lacks, in contrast to a device that fails. */
static par_status class_of(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation: return PAR_ERR_MEMORY;
    case cudaErrorNotSupported:
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion: return PAR_ERR_UNSUPPORTED;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorNotReady: return PAR_ERR_ARG;
    case cudaErrorInvalidConfiguration: return PAR_ERR_INTERNAL; /* of an own kernel's launch */
    default: return PAR_ERR_DEVICE;
    }
}

par_status par__cuda_failed(cudaError_t error, const char *call) {
    PAR_FAIL(class_of(error), "CUDA device %d: %s: %s (%s)", device.device, call,
             cudaGetErrorString(error), cudaGetErrorName(error));
}

par_status par__cuda_launched(const char *kernel) {
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? PAR_OK : par__cuda_failed(error, kernel);
}

cudaStream_t par__cuda_stream(par_stream *stream) {
    return stream ? ((par__cuda_stream_of *)(void *)stream)->stream : NULL;
}

static par_status device_alloc(size_t nbytes, void **out) {
    void *block = NULL;
    PAR_REQUIRE(out);
    PAR__CUDA_TRY(cudaMalloc(&block, nbytes ? nbytes : 256));
    cudaError_t error = cudaMemset(block, 0, nbytes ? nbytes : 256);
    /* it is asynchronous, and no other stream waits for it */
    if (error == cudaSuccess) error = cudaStreamSynchronize(NULL);
    if (error != cudaSuccess) {
        (void)cudaFree(block);
        return par__cuda_failed(error, "cudaMemset");
    }
    *out = block;
    return PAR_OK;
}

static void device_release(void *block, size_t nbytes) {
    (void)nbytes;
    (void)cudaFree(block);
}

static par_status memory_used(size_t *nbytes) {
    size_t left = 0, all = 0;
    PAR_REQUIRE(nbytes);
    PAR__CUDA_TRY(cudaMemGetInfo(&left, &all));
    *nbytes = all - left;
    return PAR_OK;
}

static par_status pinned_alloc(size_t nbytes, void **out) {
    void *block = NULL;
    PAR_REQUIRE(out);
    PAR__CUDA_TRY(cudaHostAlloc(&block, nbytes ? nbytes : 256, cudaHostAllocDefault));
    for (size_t i = 0; i < nbytes; i++) ((volatile char *)block)[i] = 0;
    *out = block;
    return PAR_OK;
}

static void pinned_release(void *block, size_t nbytes) {
    (void)nbytes;
    (void)cudaFreeHost(block);
}

static par_status stream_create(par_stream **out) {
    PAR_REQUIRE(out);
    par__cuda_stream_of *s = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a stream");
    cudaError_t error = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) {
        free(s);
        return par__cuda_failed(error, "cudaStreamCreateWithFlags");
    }
    *out = &s->base;
    return PAR_OK;
}

static void stream_destroy(par_stream *stream) {
    if (!stream) return;
    (void)cudaStreamDestroy(par__cuda_stream(stream));
    free(stream);
}

static par_status create_event(unsigned flags, par_event **out) {
    PAR_REQUIRE(out);
    par_event *e = calloc(1, sizeof *e);
    if (!e) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for an event");
    cudaError_t error = cudaEventCreateWithFlags(&e->event, flags);
    if (error != cudaSuccess) {
        free(e);
        return par__cuda_failed(error, "cudaEventCreateWithFlags");
    }
    e->timed = !(flags & cudaEventDisableTiming);
    *out = e;
    return PAR_OK;
}

static par_status event_create(par_event **out) {
    return create_event(cudaEventDisableTiming, out);
}

static par_status timed_event_create(par_event **out) {
    return create_event(cudaEventDefault, out);
}

static void event_destroy(par_event *event) {
    if (!event) return;
    (void)cudaEventDestroy(event->event);
    free(event);
}

static par_status copy(par_stream *stream, void *dst, const void *src, size_t nbytes) {
    if (nbytes == 0) return PAR_OK;
    PAR_REQUIRE(dst && src);
    PAR__CUDA_TRY(cudaMemcpyAsync(dst, src, nbytes, cudaMemcpyDefault, par__cuda_stream(stream)));
    return PAR_OK;
}

static par_status zero(par_stream *stream, void *dst, size_t nbytes) {
    if (nbytes == 0) return PAR_OK;
    PAR_REQUIRE(dst);
    PAR__CUDA_TRY(cudaMemsetAsync(dst, 0, nbytes, par__cuda_stream(stream)));
    return PAR_OK;
}

void par__cuda_capturing(bool now) {
    capturing = now;
}

/* In a graph a timed event is recorded by every launch, any other is an order of the graph's. */
static par_status record(par_stream *stream, par_event *event) {
    unsigned flags = event->timed && capturing ? cudaEventRecordExternal : cudaEventRecordDefault;
    PAR__CUDA_TRY(cudaEventRecordWithFlags(event->event, par__cuda_stream(stream), flags));
    return PAR_OK;
}

static par_status wait(par_stream *stream, par_event *event) {
    PAR__CUDA_TRY(cudaStreamWaitEvent(par__cuda_stream(stream), event->event, 0));
    return PAR_OK;
}

static par_status query(par_event *event, bool *done) {
    cudaError_t error = cudaEventQuery(event->event);
    *done = error == cudaSuccess;
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* not an error to find later */
        return PAR_OK;
    }
    return error == cudaSuccess ? PAR_OK : par__cuda_failed(error, "cudaEventQuery");
}

static par_status sync(par_stream *stream) {
    PAR__CUDA_TRY(cudaStreamSynchronize(par__cuda_stream(stream)));
    return PAR_OK;
}

/* In steps of half a microsecond, and a float of milliseconds has 24 bits: 1e-7 of it. */
static par_status elapsed(par_event *from, par_event *to, double *seconds) {
    float ms = 0;
    cudaError_t error = cudaEventElapsedTime(&ms, from->event, to->event);
    if (error != cudaSuccess) {
        (void)cudaGetLastError(); /* not an error to find later */
        return par__cuda_failed(error, "cudaEventElapsedTime");
    }
    *seconds = 1e-3 * (double)ms;
    return PAR_OK;
}

/* Ranges that Nsight Systems shows (NVTX); nothing happens without it. */
static void range_begin(const char *name) {
    (void)nvtxRangePushA(name);
}

static void range_end(void) {
    (void)nvtxRangePop();
}

/* The rank's device among the visible ones. */
static par_status choose(const par_device_params *params, int n) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int wanted = params->device >= 0 ? params->device : params->local_rank;
    if (params->device < 0 && params->shared) wanted %= n;
    if (wanted >= n)
        PAR_FAIL(
            PAR_ERR_UNSUPPORTED,
            "device cuda: rank %d of %d on this node asks for GPU %d, but there are %d%s%s; start "
            "at most as many ranks per node as it has GPUs, choose a GPU, or let ranks share one "
            "(for functional tests, slow)",
            params->local_rank, params->local_size, wanted, n,
            visible ? " with CUDA_VISIBLE_DEVICES=" : "", visible ? visible : "");
    device.device = wanted;
    return PAR_OK;
}

static par_status describe(void) {
    struct cudaDeviceProp p;
    PAR__CUDA_TRY(cudaGetDeviceProperties(&p, device.device));
    PAR__CUDA_TRY(cudaDriverGetVersion(&device.driver));
    PAR__CUDA_TRY(cudaRuntimeGetVersion(&device.runtime));
    PAR__CUDA_TRY(cudaDeviceGetPCIBusId(device.bus_id, (int)sizeof device.bus_id, device.device));
    device.major = p.major;
    device.minor = p.minor;
    device.n_multiprocessors = p.multiProcessorCount;
    device.nbytes = p.totalGlobalMem;
    snprintf(device.name, sizeof device.name, "%s", p.name);
    return PAR_OK;
}

/* Of a recorded device, which has no memory. */
static par_status recorded_alloc(size_t nbytes, void **out) {
    PAR_FAIL(PAR_ERR_UNSUPPORTED,
             "device cuda: %zu bytes of a GPU that is only recorded, for plans", nbytes);
}

par_status par__cuda_device_init(const par_device_params *params, par_backend *backend) {
    int n = 0, driver = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    (void)cudaDriverGetVersion(&driver); /* 0: none */
    if (params->plan_only && (error != cudaSuccess || n == 0)) {
        /* Only operations are prepared, so only memory is ever asked for by mistake. */
        device = par__cuda_recorded;
        backend->name = "cuda";
        backend->on_host = false;
        backend->memory = backend->host_memory = (par_allocator){recorded_alloc, device_release};
        return PAR_OK;
    }
    if (error != cudaSuccess || n == 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: no GPU can be used on this machine: %s; install NVIDIA's driver "
                 "(nvidia-smi must list a GPU), check CUDA_VISIBLE_DEVICES, or use device cpu",
                 driver == 0            ? "there is no driver (libcuda.so.1)"
                 : error != cudaSuccess ? cudaGetErrorString(error)
                                        : "the driver lists none");
    PAR_TRY(choose(params, n));
    PAR__CUDA_TRY(cudaSetDevice(device.device));
    PAR_TRY(describe());
    backend->name = "cuda";
    backend->on_host = false;
    backend->memory = (par_allocator){device_alloc, device_release};
    backend->host_memory = (par_allocator){pinned_alloc, pinned_release};
    backend->memory_used = memory_used;
    backend->stream_create = stream_create;
    backend->stream_destroy = stream_destroy;
    backend->event_create = event_create;
    backend->event_destroy = event_destroy;
    backend->copy = copy;
    backend->zero = zero;
    backend->event_record = record;
    backend->wait = wait;
    backend->event_query = query;
    backend->sync = sync;
    backend->timed_event_create = timed_event_create;
    backend->elapsed = elapsed;
    backend->range_begin = range_begin;
    backend->range_end = range_end;
    return PAR_OK;
}
