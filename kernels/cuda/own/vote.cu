/*
 * A rank's ballot and the decision of a vote, par_tally and par_vote_call in par/kernels.h, by the
 * rules of kernels/vote.h. Sums are in order, by one thread of a block, so that the bits are the
 * host's; the others bring what it adds to shared memory, a tile at a time, where it waits for an
 * addition and not for a load.
 */
#include "kernels/cuda/own/device.cuh"
#include "kernels/vote.h"

enum { THREADS = 256, TILE = 512, RANKS = 64 };

/* `shared` [2 TILE] = pairs [first, first + TILE) of `from` [n, 2]; their number. Two barriers. */
template <typename T>
__device__ static inline int load_pairs(T *shared, const T *from, int64_t first, int64_t n) {
    int count = n - first < TILE ? (int)(n - first) : (int)TILE;
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * count; i += THREADS) shared[i] = from[2 * first + i];
    __syncthreads();
    return count;
}

__global__ void __launch_bounds__(THREADS) ballot_fill(par_tally a) {
    __shared__ double norms[2 * TILE];
    __shared__ float losses[2 * TILE];
    par_ballot sum;
    par__ballot_begin(&sum);
    for (int64_t first = 0; first < a.n_norms; first += TILE) {
        int count = load_pairs(norms, a.norms, first, a.n_norms);
        for (int i = 0; threadIdx.x == 0 && i < count; i++)
            par__ballot_norm(&sum, first + i, norms[2 * i], norms[2 * i + 1]);
    }
    for (int64_t first = 0; first < a.n_losses; first += TILE) {
        int count = load_pairs(losses, a.losses, first, a.n_losses);
        for (int i = 0; threadIdx.x == 0 && i < count; i++)
            par__ballot_loss(&sum, losses[2 * i], losses[2 * i + 1]);
    }
    if (threadIdx.x > 0) return;
    par__ballot_end(&sum);
    a.ballot->norm2 = sum.norm2;
    a.ballot->loss_sum = sum.loss_sum;
    a.ballot->n_targets = sum.n_targets;
    a.ballot->n_nonfinite = sum.n_nonfinite;
    a.ballot->first_bad = sum.first_bad;
    a.ballot->n_first_bad = sum.n_first_bad;
}

/* Every thread reads `halted` before the first barrier, thread 0 writes it after the last. */
__global__ void __launch_bounds__(THREADS) vote_decide(par_vote_call a) {
    enum { WORDS = sizeof(par_ballot) / sizeof(double) };
    static_assert(sizeof(par_ballot) % sizeof(double) == 0, "whole words");
    __shared__ par_ballot ballots[RANKS];
    par_ballot sum;
    par_outcome out;
    if (threadIdx.x == 0) a.state->step.skip = 1;
    if (a.state->halted) return;
    par__ballots_begin(&sum, &out);
    for (int64_t first = 0; first < a.n; first += RANKS) {
        int count = a.n - first < RANKS ? (int)(a.n - first) : (int)RANKS;
        const double *from = (const double *)(a.ballots + first);
        __syncthreads();
        for (int i = threadIdx.x; i < count * WORDS; i += THREADS) ((double *)ballots)[i] = from[i];
        __syncthreads();
        for (int i = 0; threadIdx.x == 0 && i < count; i++)
            par__ballots_add(&sum, &out, first + i, &ballots[i]);
    }
    if (threadIdx.x == 0) par__vote_conclude(&a.rules, a.state, &sum, &out, a.ballots[0].lr);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status run_ballot(par_stream *stream, const void *args, void *workspace) {
    (void)workspace;
    PAR_LAUNCH((ballot_fill), dim3(1), dim3(THREADS), 0, stream, *(const par_tally *)args);
    return par__cuda_launched("ballot");
}

static par_status run_vote(par_stream *stream, const void *args, void *workspace) {
    (void)workspace;
    PAR_LAUNCH((vote_decide), dim3(1), dim3(THREADS), 0, stream, *(const par_vote_call *)args);
    return par__cuda_launched("vote");
}

extern "C" void par__cuda_vote_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_BALLOT] = {"ballot/cuda/own", prepare, run_ballot};
    k[PAR_OP_VOTE] = {"vote/cuda/own", prepare, run_vote};
}
