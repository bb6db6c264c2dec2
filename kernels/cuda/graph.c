/*
 * Graphs: what is put on a stream, kept once and launched again. Captures are of this thread alone
 * (cudaStreamCaptureModeThreadLocal), so that threads of NCCL may go on with theirs. CUDA itself
 * refuses what would make a graph wrong: a wait of the host, a question to an event, an allocation,
 * a stream that is not joined again. A refused call ends the capture, and its error names it.
 */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"

struct par_graph {
    cudaGraphExec_t exec;
};

static par_status capture_begin(par_stream *stream) {
    PAR__CUDA_TRY(
        cudaStreamBeginCapture(par__cuda_stream(stream), cudaStreamCaptureModeThreadLocal));
    par__cuda_capturing(true);
    return PAR_OK;
}

/* Made ready for the device here, so that its first launch is as quick as the others. */
static par_status instantiate(cudaGraph_t graph, cudaStream_t stream, par_graph **out) {
    par_graph *g = calloc(1, sizeof *g);
    if (!g) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a graph");
    cudaError_t error = cudaGraphInstantiateWithFlags(&g->exec, graph, 0);
    if (error == cudaSuccess) error = cudaGraphUpload(g->exec, stream);
    if (error == cudaSuccess) {
        *out = g;
        return PAR_OK;
    }
    if (g->exec) (void)cudaGraphExecDestroy(g->exec);
    free(g);
    return par__cuda_failed(error, "cudaGraphInstantiate");
}

static par_status capture_end(par_stream *stream, par_graph **out) {
    cudaGraph_t graph = NULL;
    par__cuda_capturing(false);
    cudaError_t error = cudaStreamEndCapture(par__cuda_stream(stream), &graph);
    (void)cudaGetLastError(); /* not an error to find later */
    par_status st = PAR_OK;
    if (out && error != cudaSuccess) st = par__cuda_failed(error, "cudaStreamEndCapture");
    if (out && st == PAR_OK) st = instantiate(graph, par__cuda_stream(stream), out);
    if (graph) (void)cudaGraphDestroy(graph);
    return st;
}

static par_status graph_launch(par_graph *graph, par_stream *stream) {
    PAR__CUDA_TRY(cudaGraphLaunch(graph->exec, par__cuda_stream(stream)));
    return PAR_OK;
}

static void graph_destroy(par_graph *graph) {
    if (!graph) return;
    (void)cudaGraphExecDestroy(graph->exec);
    free(graph);
}

void par__cuda_graph_init(par_backend *backend) {
    backend->capture_begin = capture_begin;
    backend->capture_end = capture_end;
    backend->graph_launch = graph_launch;
    backend->graph_destroy = graph_destroy;
}
