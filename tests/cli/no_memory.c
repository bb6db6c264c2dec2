/* For LD_PRELOAD: oneDNN's product number FAIL_CALL, from 1, of rank FAIL_RANK has no memory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

typedef int sgemm(char, char, long, long, long, float, const float *, long, const float *, long,
                  float, float *, long);
sgemm dnnl_sgemm;

static int chosen(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *wanted = getenv("FAIL_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return wanted && atoi(wanted) == (rank ? atoi(rank) : 0);
}

int dnnl_sgemm(char ta, char tb, long m, long n, long k, float alpha, const float *a, long lda,
               const float *b, long ldb, float beta, float *c, long ldc) {
    enum { OUT_OF_MEMORY = 1 };
    static sgemm *real;
    static long calls;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "dnnl_sgemm");
    if (chosen() && ++calls == atol(getenv("FAIL_CALL"))) return OUT_OF_MEMORY;
    return real(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
