/* For LD_PRELOAD: what happens in oneDNN's product number FAIL_CALL, from 1, of rank FAIL_RANK.
 * FAIL_HOW is memory (there is none), exit (the process ends with 0), or pause (for ever).
 * MPI_Init_thread takes MPI_START_S seconds longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int sgemm(char, char, long, long, long, float, const float *, long, const float *, long,
                  float, float *, long);
typedef int init(int *, char ***, int, int *);
sgemm dnnl_sgemm;
init MPI_Init_thread;

static int chosen(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *wanted = getenv("FAIL_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return wanted && atoi(wanted) == (rank ? atoi(rank) : 0);
}

static int fail(void) {
    enum { OUT_OF_MEMORY = 1 };
    const char *how = getenv("FAIL_HOW");
    if (strcmp(how, "exit") == 0) _exit(0);
    while (strcmp(how, "pause") == 0) pause();
    return OUT_OF_MEMORY;
}

int dnnl_sgemm(char ta, char tb, long m, long n, long k, float alpha, const float *a, long lda,
               const float *b, long ldb, float beta, float *c, long ldc) {
    static sgemm *real;
    static long calls;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "dnnl_sgemm");
    if (chosen() && ++calls == atol(getenv("FAIL_CALL"))) return fail();
    return real(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
    init *real;
    const char *seconds = getenv("MPI_START_S");
    *(void **)&real = dlsym(RTLD_NEXT, "MPI_Init_thread");
    if (seconds) sleep((unsigned)atoi(seconds));
    return real(argc, argv, required, provided);
}
