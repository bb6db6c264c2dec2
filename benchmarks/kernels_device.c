/*
 * Times on a device: k calls are enqueued back to back on one stream and waited for once, k grown
 * until they take the wanted time, three times; the median counts. The calls go round copies of the
 * case's buffers, so that what a call reads has left the device's cache. What an operation must
 * move at least over the time is set beside the bandwidth of a large copy on the same device in the
 * same run.
 */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SETS = 64, REPEATS = 3 };

typedef struct {
    const par_backend *backend;
    par_stream *stream;
    par_op op;
    int n; /* copies of the buffers */
    bench_set sets[MAX_SETS];
    void *workspace;
    size_t workspace_nbytes;
} runner;

static par_status one_call(runner *r, int64_t i) {
    if (r->op == PAR_OP_COUNT) { /* the copy */
        const bench_set *s = &r->sets[0];
        return r->backend->copy(r->stream, s->blocks[0].data, s->blocks[1].data,
                                s->blocks[0].nbytes);
    }
    const par_op_args *args = &r->sets[i % r->n].args;
    return par_op_run_untyped(r->backend, r->op, r->stream, args, sizeof *args, r->workspace);
}

/* Seconds of k calls. */
static double run_calls(runner *r, int64_t k) {
    double begin = bench_now_s();
    for (int64_t i = 0; i < k; i++) bench_check(one_call(r, i), "run");
    bench_check(r->backend->sync(r->stream), "sync");
    return bench_now_s() - begin;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a call; *spread is the slowest of the three over the fastest. */
static double time_calls(runner *r, double seconds, double *spread) {
    double times[REPEATS], part = seconds / REPEATS;
    int64_t k = 1;
    run_calls(r, r->n); /* warms up, and touches every copy */
    for (double t = run_calls(r, k); t < part; t = run_calls(r, k)) {
        double wanted =
            t > 0 ? 1.1 * part / t : 8; /* by at most 8, as the first calls tell little */
        k = (int64_t)((double)k * (wanted < 8 ? wanted : 8)) + 1;
    }
    for (int i = 0; i < REPEATS; i++) times[i] = run_calls(r, k) / (double)k;
    qsort(times, REPEATS, sizeof *times, by_value);
    *spread = times[REPEATS - 1] / times[0];
    return times[REPEATS / 2];
}

/* Bytes read and written per second by a copy of `nbytes` on the device. */
static double copy_bandwidth(const bench_setup *place, const bench_device_params *p,
                             par_stream *stream) {
    double spread;
    runner r = {.backend = place->backend, .stream = stream, .op = PAR_OP_COUNT, .n = 1};
    bench_set *set = &r.sets[0];
    set->place = place;
    for (; set->n_blocks < 2; set->n_blocks++) {
        void **data = &set->blocks[set->n_blocks].data;
        bench_check(place->backend->memory.alloc(p->copy, data), "memory");
        set->blocks[set->n_blocks].nbytes = p->copy;
        bench_check(place->backend->zero(stream, *data, p->copy), "zero");
    }
    double s = time_calls(&r, p->seconds, &spread);
    bench_free(set);
    return 2 * (double)p->copy / s;
}

static void print_line(const bench_setup *place, const bench_case *c, const bench_device_params *p,
                       const runner *r, double s, double spread, double bandwidth) {
    const par_op_args *args = &r->sets[0].args;
    double flops = bench_flops(c->op, args), nbytes = bench_nbytes(c->op, args);
    bool cached = (double)r->n * (double)r->sets[0].nbytes < (double)p->cache;
    printf("%-28s %10.2f %14.0f %8.1f %6.1f%s", c->label, 1e6 * s, nbytes, nbytes / s * 1e-9,
           100 * nbytes / s / bandwidth, cached ? "*" : " ");
    char rate[32] = "-", share[32] = "-";
    if (flops > 0) snprintf(rate, sizeof rate, "%.1f", flops / s * 1e-12);
    if (flops > 0 && p->peak_tflops > 0)
        snprintf(share, sizeof share, "%.1f", flops / s * 1e-10 / p->peak_tflops);
    printf(" %8s %6s", rate, share);
    printf(" %6.2f  %s\n", spread, place->backend->kernels[c->op].name);
    bench_json_case(c->label, place->backend->kernels[c->op].name,
                    (bench_figure[]){{"seconds", s},
                                     {"spread", spread},
                                     {"bytes", nbytes},
                                     {"flops", flops},
                                     {"share_of_copy", nbytes / s / bandwidth},
                                     {0}});
}

static void device_case(const bench_setup *place, const bench_case *c, const bench_device_params *p,
                        par_stream *stream, double bandwidth) {
    runner *r = bench_host_memory(sizeof *r);
    double spread = 1;
    memset(r, 0, sizeof *r);
    r->backend = place->backend, r->stream = stream, r->op = c->op;
    /* enough copies that they exceed the cache; what remains below it is marked */
    bench_build(place, c, &r->sets[0]);
    size_t wanted = (p->cache + r->sets[0].nbytes - 1) / r->sets[0].nbytes;
    int n = wanted > MAX_SETS ? MAX_SETS : (int)wanted;
    for (r->n = 1; r->n < n; r->n++) bench_build(place, c, &r->sets[r->n]);
    par_status st = par_op_prepare_untyped(place->backend, c->op, &r->sets[0].args,
                                           sizeof r->sets[0].args, &r->workspace_nbytes);
    if (st == PAR_ERR_UNSUPPORTED)
        printf("%-28s not supported: %s\n", c->label, par_error());
    else {
        bench_check(st, c->label);
        if (r->workspace_nbytes)
            bench_check(place->backend->memory.alloc(r->workspace_nbytes, &r->workspace),
                        "workspace");
        double s = time_calls(r, p->seconds, &spread);
        print_line(place, c, p, r, s, spread, bandwidth);
        if (r->workspace) place->backend->memory.release(r->workspace, r->workspace_nbytes);
    }
    for (int i = 0; i < r->n; i++) bench_free(&r->sets[i]);
    free(r);
    fflush(stdout);
}

double bench_device(const bench_setup *place, const bench_device_params *p) {
    par_stream *stream = NULL;
    bench_check(place->backend->stream_create(&stream), "stream");
    double bandwidth = copy_bandwidth(place, p, stream);
    printf("device     %s\n", par_backend_device(place->backend));
    printf("shapes     %s, %lld samples of %lld tokens, %s\n", place->config->name,
           (long long)place->B, (long long)place->T, par_dtype_name(place->dtype));
    printf("copy       %.1f GB/s (read + written, %zu bytes)\n", bandwidth * 1e-9, p->copy);
    printf("working set at least %zu bytes; * less than that\n\n", p->cache);
    printf("%-28s %10s %14s %8s %6s  %8s %6s %6s  %s\n", "operation", "us", "bytes", "GB/s",
           "copy%", "TFLOP/s", "peak%", "spread", "kernel");
    for (const bench_case *c = bench_cases; c->label; c++)
        if (strstr(c->label, p->filter)) device_case(place, c, p, stream, bandwidth);
    if (p->formulas) {
        printf("\nbytes: every operand once; s is the size of an element\n");
        for (int op = 0; op < PAR_OP_COUNT; op++)
            printf("%-20s %s\n", par_op_name((par_op)op), bench_formula((par_op)op));
    }
    place->backend->stream_destroy(stream);
    return bandwidth;
}
