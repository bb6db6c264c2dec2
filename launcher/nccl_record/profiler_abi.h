/*
 * What the recorder needs of NCCL's profiler interface: how structs lie in memory, and numbers.
 * NCCL opens the library that NCCL_PROFILER_PLUGIN names and takes the newest table in it that it
 * knows: NCCL 2.27 ncclProfiler_v4, NCCL 2.28 to 2.30 ncclProfiler_v5 (2.29 looks for v6 before,
 * which only adds events of copy engines). Older ones find neither, and go on without.
 *
 * The facts are those of NCCL 2.27.7 to 2.30.7. What of them matters here:
 * - An operation (COLL, P2P) starts when it is given to the device: with every launch of a graph
 *   that it was captured in, then on a thread of CUDA's, as long as KERNEL_CHANNEL is asked for. It
 *   stops at once, before what it is made of begins.
 * - What it is made of names it as parent, and comes from threads that move data (proxies): the
 *   kernel on each of its channels, with the GPU's clock, and what goes through the network, in
 *   steps. A proxy may work for another process of its host; then context and parent are addresses
 *   in that one.
 * - A CALL (v5 alone) is what the program called, once; its handle is the parent of the operations
 *   of all launches. It is told whether it is asked for or not.
 */
#ifndef NCCL_PROFILER_ABI_H
#define NCCL_PROFILER_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Kinds of events, and bits of the mask that `init` answers with. */
enum {
    PROFILER_GROUP = 1 << 0,
    PROFILER_COLL = 1 << 1,
    PROFILER_P2P = 1 << 2,
    PROFILER_PROXY_OP = 1 << 3,
    PROFILER_PROXY_STEP = 1 << 4,
    PROFILER_KERNEL_CHANNEL = 1 << 6,
    PROFILER_GROUP_CALL = 1 << 8,
    PROFILER_COLL_CALL = 1 << 9,
    PROFILER_P2P_CALL = 1 << 10
};

/* What record tells. */
enum {
    PROFILER_SEND_WAIT = 9,     /* step: its bytes were given to the network */
    PROFILER_RECEIVED = 11,     /* step: its bytes came from the network */
    PROFILER_CHANNEL_STOP = 22, /* the kernel has ended on this channel */
};

typedef struct {
    union {
        uint8_t type_v4; /* the bytes behind it are not set */
        uint64_t type;
    };
    void *parent;
    int rank; /* of the communicator */
    union {
        struct { /* names: "AllReduce", "ncclFloat32", "RING", "SIMPLE" */
            uint64_t number;
            const char *function;
            const void *src;
            void *dst;
            size_t n;
            int root;
            const char *datatype; /* "ncclInt8" of all-gathers and broadcasts, n in bytes */
            uint8_t n_channels, n_warps;
            const char *algorithm, *protocol;
        } coll;
        struct {
            const char *function; /* "Send", "Recv" */
            void *data;
            const char *datatype;
            size_t n;
            int peer;
            uint8_t n_channels;
        } p2p;
        struct {
            pid_t pid; /* whose operation it is */
            uint8_t channel;
            int peer; /* rank of the communicator */
            int n_steps, chunk_nbytes, is_send;
        } proxy_op;
        struct {
            int number;
        } proxy_step;
        struct {
            uint8_t channel;
            uint64_t time_ns; /* the GPU's clock: the kernel's begin on this channel */
        } kernel_channel;
    };
} profiler_event;

typedef union {
    struct {
        size_t nbytes;
    } proxy_step; /* what goes over the wire, with flags of LL protocols */
    struct {
        uint64_t time_ns;
    } kernel_channel; /* the kernel's end on this channel */
} profiler_state;

typedef void profiler_logger(int level, unsigned long flags, const char *file, int line,
                             const char *format, ...);

/* Functions return ncclSuccess, 0. */
typedef struct {
    const char *name;
    int (*init)(void **context, int *mask, const char *name, uint64_t id, int n_hosts, int n,
                int rank, profiler_logger *log);
    int (*start)(void *context, void **handle, profiler_event *event);
    int (*stop)(void *handle);
    int (*record)(void *handle, int state, profiler_state *told);
    int (*finalize)(void *context);
} profiler_v4;

typedef struct {
    const char *name;
    int (*init)(void **context, uint64_t id, int *mask, const char *name, int n_hosts, int n,
                int rank, profiler_logger *log);
    int (*start)(void *context, void **handle, profiler_event *event);
    int (*stop)(void *handle);
    int (*record)(void *handle, int state, profiler_state *told);
    int (*finalize)(void *context);
} profiler_v5;

#endif
