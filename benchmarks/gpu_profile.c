/*
 * Where a training's steps spend a GPU's time: kernels summed by name, and the gaps between them.
 * The CUDA driver loads this library into any program:
 *
 *     CUDA_INJECTION64_PATH=build/benchmarks/libgpu_profile.so train_llm --device cuda ...
 *
 * A step ends with the kernel whose name holds GPU_PROFILE_MARK ("ballot": a training's last kernel
 * of a step that reads the gradients' norm). GPU_PROFILE_SKIP (5) steps at the start are left out.
 * The table goes to the file GPU_PROFILE (standard error) when the program ends. Times are the
 * GPU's, by CUPTI's activity records; launches in CUDA graphs are recorded one by one, which makes
 * them some microseconds longer.
 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <cupti.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_NBYTES = 8 << 20, MAX_NAMES = 4096, SHOWN = 60 };

typedef struct {
    uint64_t begin, end;
    const char *name;
} span;

typedef struct {
    const char *name;
    double ns;
    long n;
} total;

static span *spans;
static size_t n_spans, capacity;

static void keep(uint64_t begin, uint64_t end, const char *name) {
    if (n_spans == capacity) {
        capacity = capacity ? 2 * capacity : 1 << 16;
        spans = realloc(spans, capacity * sizeof *spans);
        if (!spans) abort();
    }
    spans[n_spans++] = (span){begin, end, name};
}

static void CUPTIAPI buffer_wanted(uint8_t **buffer, size_t *nbytes, size_t *max_records) {
    *buffer = aligned_alloc(8, BUFFER_NBYTES);
    *nbytes = *buffer ? BUFFER_NBYTES : 0;
    *max_records = 0;
}

static void CUPTIAPI buffer_filled(CUcontext context, uint32_t stream, uint8_t *buffer,
                                   size_t nbytes, size_t n_valid) {
    CUpti_Activity *record = NULL;
    (void)context, (void)stream, (void)nbytes;
    while (cuptiActivityGetNextRecord(buffer, n_valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const CUpti_ActivityKernel10 *k = (const void *)record;
            keep(k->start, k->end, strdup(k->name));
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy6 *c = (const void *)record;
            keep(c->start, c->end, "(copy)");
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            const CUpti_ActivityMemset4 *m = (const void *)record;
            keep(m->start, m->end, "(set)");
        }
    }
    free(buffer);
}

static int by_begin(const void *a, const void *b) {
    uint64_t x = ((const span *)a)->begin, y = ((const span *)b)->begin;
    return (x > y) - (x < y);
}

static int by_ns(const void *a, const void *b) {
    double x = ((const total *)a)->ns, y = ((const total *)b)->ns;
    return (x < y) - (x > y);
}

/* The spans from the end of step `skip` to the end of the last one, and their number of steps. */
static int choose(int skip, const char *mark, size_t *from, size_t *to) {
    int n = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (!strstr(spans[i].name, mark)) continue;
        n++;
        if (n == skip) *from = i + 1;
        *to = i + 1;
    }
    return n > skip && skip > 0 ? n - skip : 0;
}

/* Time in which nothing ran is the sum of gaps between what has ended and what begins. */
static void print_table(FILE *file, size_t from, size_t to, int steps) {
    static total totals[MAX_NAMES];
    int n = 0;
    double gaps = 0, sum = 0;
    uint64_t end = spans[from - 1].end;
    for (size_t i = from; i < to; i++) {
        const span *s = &spans[i];
        double ns = (double)(s->end - s->begin);
        if (s->begin > end) gaps += (double)(s->begin - end);
        if (s->end > end) end = s->end;
        sum += ns;
        int k = 0;
        while (k < n && strcmp(totals[k].name, s->name) != 0) k++;
        if (k == MAX_NAMES) continue;
        if (k == n) totals[n++].name = s->name;
        totals[k].ns += ns;
        totals[k].n++;
    }
    double all = (double)(end - spans[from - 1].end), per_step = 1e-6 / steps;
    qsort(totals, (size_t)n, sizeof *totals, by_ns);
    fprintf(file,
            "profile of %d steps: %.3f ms per step, %.3f ms of kernels, nothing ran for %.3f ms "
            "(%.1f %%), %.0f launches\n",
            steps, all * per_step, sum * per_step, gaps * per_step, 100 * gaps / all,
            (double)(to - from) / steps);
    fprintf(file, "%9s %6s %8s %9s  %s\n", "ms/step", "%", "calls", "us/call", "kernel");
    for (int i = 0; i < n && i < SHOWN; i++)
        fprintf(file, "%9.3f %6.1f %8.1f %9.1f  %.90s\n", totals[i].ns * per_step,
                100 * totals[i].ns / all, (double)totals[i].n / steps,
                1e-3 * totals[i].ns / (double)totals[i].n, totals[i].name);
}

static void at_end(void) {
    const char *path = getenv("GPU_PROFILE"), *skip = getenv("GPU_PROFILE_SKIP"),
               *mark = getenv("GPU_PROFILE_MARK");
    size_t from = 0, to = 0;
    cuptiActivityFlushAll(1);
    if (n_spans) qsort(spans, n_spans, sizeof *spans, by_begin);
    int steps = choose(skip ? atoi(skip) : 5, mark ? mark : "ballot", &from, &to);
    FILE *file = path ? fopen(path, "w") : stderr;
    if (!file) return;
    if (steps)
        print_table(file, from, to, steps);
    else
        fprintf(file, "profile: %zu kernels, too few with \"%s\" in their name to find steps\n",
                n_spans, mark ? mark : "ballot");
    if (path) fclose(file);
}

/* The driver calls this when it starts. */
__attribute__((visibility("default"))) int InitializeInjection(void);
int InitializeInjection(void) {
    static const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                               CUPTI_ACTIVITY_KIND_MEMCPY,
                                               CUPTI_ACTIVITY_KIND_MEMSET};
    bool works = cuptiActivityRegisterCallbacks(buffer_wanted, buffer_filled) == CUPTI_SUCCESS;
    for (int i = 0; i < 3 && works; i++) works = cuptiActivityEnable(kinds[i]) == CUPTI_SUCCESS;
    if (!works) fprintf(stderr, "gpu_profile: CUPTI cannot record: nothing is profiled\n");
    if (works) atexit(at_end);
    return works;
}
