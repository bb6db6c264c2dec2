/* For LD_PRELOAD, on rank TROUBLE_RANK: every product by oneDNN takes SLOW_US microseconds longer;
 * right before the comparison of replicas number FLIP_CALL, from 1, a bit of the first parameter's
 * weights flips. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "par/replicas.h"

typedef int sgemm(char, char, long, long, long, float, const float *, long, const float *, long,
                  float, float *, long);
sgemm dnnl_sgemm;

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int chosen(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return number("TROUBLE_RANK") == (rank ? atoi(rank) : 0);
}

int dnnl_sgemm(char ta, char tb, long m, long n, long k, float alpha, const float *a, long lda,
               const float *b, long ldb, float beta, float *c, long ldc) {
    static sgemm *real;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "dnnl_sgemm");
    if (chosen() && number("SLOW_US")) usleep((useconds_t)number("SLOW_US"));
    return real(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static par_trainer *trainer;

par_status par_replicas_create(par_trainer *t, par_replicas **out) {
    par_status (*real)(par_trainer *, par_replicas **);
    *(void **)&real = dlsym(RTLD_NEXT, "par_replicas_create");
    trainer = t;
    return real(t, out);
}

par_status par_replicas_check(par_replicas *replicas, par_replicas_result *out) {
    static int calls;
    par_status (*real)(par_replicas *, par_replicas_result *);
    *(void **)&real = dlsym(RTLD_NEXT, "par_replicas_check");
    if (chosen() && ++calls == number("FLIP_CALL"))
        *(unsigned char *)par_trainer_param(trainer, 0)->weight ^= 1;
    return real(replicas, out);
}
