/*
 * Threads of this process that kernels on the host use: one team per process, which all trainers,
 * generators and single calls share. The host's own thread counts, affinity and OpenMP settings
 * stay as they are.
 *
 * Without par_threads_set a process takes the cores that it may use: those of its affinity mask,
 * bounded by its cgroup's CPU quota. Once an MPI transport has been made, they are divided by the
 * ranks of this node that share them.
 *
 * Several host threads may call kernels at once: the team serves one of them at a time, and the
 * others run theirs alone. A team on a busy machine is used only while that is faster than the
 * calling thread alone.
 */
#ifndef PAR_THREADS_H
#define PAR_THREADS_H

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PAR_MAX_THREADS = 256 };

/**
 * Let kernels use `n` threads, the calling one among them: 1 to PAR_MAX_THREADS; 0: the default.
 * Set it before operations are prepared and trainers are created. Workspaces are made for the
 * number that holds then; a larger one later leaves attention at that number. No kernel may be
 * running; ranks may differ.
 *
 * Not collective. Errors: PAR_ERR_ARG [local] when n is negative or above PAR_MAX_THREADS.
 */
PAR_API par_status par_threads_set(int n);

/** The number that holds now: at least 1. Not collective. */
PAR_API int par_threads(void);

#ifdef __cplusplus
}
#endif
#endif
