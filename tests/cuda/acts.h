/*
 * What the stand-ins count from the process's start, for tests of what an operation's run must not
 * do. A test finds `standin_acts`, long [STANDIN_ACTS], in the module that was loaded; with
 * PAR_STANDIN_ACTS=FILE the process writes the counts there when it ends, a line each: of all, and
 * of those inside of ranges (of an operation's run, of a step); and the number of ranges.
 */
#ifndef PAR_TEST_ACTS_H
#define PAR_TEST_ACTS_H

enum {
    STANDIN_ALLOCATES, /* cudaMalloc, cudaHostAlloc, cudaFree, cudaFreeHost */
    STANDIN_WAITS,     /* of the host, for a stream, an event or the device */
    STANDIN_PLANS,     /* a question to a heuristic, a plan or a product's description made */
    STANDIN_LAUNCHES,  /* kernels, products and messages that are not a graph's */
    STANDIN_GRAPHS,    /* launches of graphs */
    STANDIN_ACTS
};

#endif
