/*
 * Stand-ins for NVIDIA's libraries, so that the whole cuda backend runs where no GPU is: the real
 * headers, the functions defined here on the host. A stream is a queue. Modes, by PAR_STANDIN:
 * "lazy" (default) runs an item when something waits for it and not before, the latest time that
 * CUDA's rules allow, so that a missing wait or event shows as a wrong result; "eager" runs it at
 * once. Both must give the same bits.
 *
 * Device memory can be read and written by items of streams alone: between them its pages are
 * closed, so that a host access ends the process. PAR_STANDIN_GPUS: the number of devices, 1 by
 * default.
 *
 * A capture keeps the calls of its streams with their arguments, and refuses what CUDA refuses: the
 * default stream, waits and questions of the host, allocations, copies from or to pageable memory,
 * an event from outside, a stream that is not joined; with PAR_STANDIN_CAPTURE=N, its N-th call. A
 * launch of the graph makes the calls again, on the streams that they were made on. Events that
 * were recorded in it belong to it alone, but for external records.
 *
 * Timed events have the moment at which the stream ran the record: by the real clock, or, with
 * PAR_STANDIN_TICK=SECONDS, by a virtual one. By that every kernel takes so long, copies, fills and
 * messages take nothing; a stream's item begins when the one before has ended, what it waits for
 * has happened, on whichever stream and by NCCL on whichever rank, and the host, as late as what it
 * last waited for, has enqueued it. All ranks begin at 0. What the host itself does takes no time,
 * and its own messages (MPI, staged) carry none, so that times after them are not comparable
 * between ranks.
 */
#ifndef PAR_TEST_STANDIN_H
#define PAR_TEST_STANDIN_H

#include <functional>

#include <cuda_runtime_api.h>

/* Put a kernel on a stream (NULL: the default one). Inside of it device memory is open. */
void standin_enqueue(cudaStream_t stream, std::function<void()> item);

/* The same for what waits for another process: it runs once it is `ready`. In eager mode neither it
 * nor what stands behind it runs at once. A question to an event polls; who waits on the host for
 * the stream waits for it too. */
void standin_defer(cudaStream_t stream, std::function<bool()> ready, std::function<void()> item);

/* What a library does with a stream in a call: done now, or when a graph is launched that the call
 * is captured in. */
void standin_call(cudaStream_t stream, std::function<void()> call);

/* Run now what the stream has. */
void standin_finish(cudaStream_t stream);

/* What waits for other processes goes on, where it is ready. */
void standin_progress();

/* For an item that runs: the virtual time at which it began; and that it does not end before a
 * moment. */
double standin_now(cudaStream_t stream);
void standin_not_before(cudaStream_t stream, double moment);

/* Whether PAR_STANDIN_BROKEN is set, now: as after a kernel's bad access every call fails that
 * reaches the device. */
bool standin_broken();
/* Ends the process, with these names, unless the bytes lie in one block of the device or of pinned
 * memory: a device reads no other. NULL and no bytes pass. */
void standin_require_device(const char *call, const char *operand, const void *begin,
                            size_t nbytes);

/* Count one of tests/cuda/acts.h. */
void standin_count(int act);

/* Whether the calling thread is inside a range of NVTX; how many there were. */
bool standin_in_range();
long standin_ranges();

/* Open and close device memory around host code that stands for the device; nests. */
void standin_open();
void standin_close();

#endif
