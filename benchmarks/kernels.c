/*
 * Times every operation of a backend at a model's shapes. On the host: the median of single calls
 * with GFLOP/s or GB/s and the spread (slowest quartile over fastest quartile); with --ref, each
 * operation also runs on `ref` at a smaller shape, and the ratio of the times is printed; with
 * --dtype bf16 or fp16, runs in that type alternate with runs in fp32, and the median and quartiles
 * of their processor times' ratio are printed: other processes on the machine disturb it little.
 * Use one thread for that: two wait for each other. On a device:
 * kernels_device.c.
 *
 *     kernels [--device cpu|cuda|ref] [--model gpt2-124m] [--tokens T] [--batch B] [--dtype fp32]
 * ...
 *
 * Work and bytes: kernels_work.c.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "par/option.h"
#include "par/threads.h"

enum { MAX_RUNS = 200, MAX_TURNS = 4000, MIB = 1 << 20 };

/* Elements of the optimizer's operations: 2^27 on a device, and on the host four arrays larger than
 * caches. */
enum { DEVICE_UPDATE = 1 << 27, HOST_UPDATE = 12 << 20 };

typedef struct {
    int device, dtype; /* of the choices below */
    const char *model, *filter, *json;
    int64_t tokens, batch, vocab, cache, copy, threads;
    double seconds, peak;
    bool ref, formulas, help;
} settings;

static double processor_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* False if the backend does not do this. */
static bool prepare(const bench_case *c, const bench_set *set, void **workspace) {
    size_t nbytes = 0;
    par_status st =
        par_op_prepare_untyped(set->place->backend, c->op, &set->args, sizeof set->args, &nbytes);
    if (st == PAR_ERR_UNSUPPORTED) return false;
    bench_check(st, c->label);
    *workspace = nbytes ? bench_host_memory(nbytes) : NULL;
    return true;
}

/* Median seconds of a run; *spread is the upper quartile over the lower one. False: not
 * supported. */
static bool time_case(const bench_setup *place, const bench_case *c, double seconds, bench_set *set,
                      double *median, double *spread) {
    double times[MAX_RUNS], start = bench_now_s();
    void *workspace;
    int n = 0;
    if (!prepare(c, set, &workspace)) return false;
    do {
        double t = bench_now_s();
        bench_check(par_op_run_untyped(place->backend, c->op, NULL, &set->args, sizeof set->args,
                                       workspace),
                    c->label);
        times[n++] = bench_now_s() - t;
    } while (n < MAX_RUNS && (n < 3 || bench_now_s() - start < seconds));
    free(workspace);
    qsort(times + 1, (size_t)n - 1, sizeof *times, by_value); /* the first run warms up */
    *spread = times[1 + (n - 1) * 3 / 4] / times[1 + (n - 1) / 4];
    *median = times[1 + (n - 1) / 2];
    return true;
}

static void print_host(const bench_setup *place, const settings *s) {
    printf("%-28s %-28s %10s %16s %7s\n", "operation", "kernel", "ms", "rate", "spread");
    for (const bench_case *c = bench_cases; c->label; c++) {
        double spread, seconds;
        bench_set set;
        if (!strstr(c->label, s->filter)) continue;
        bench_build(place, c, &set);
        if (time_case(place, c, s->seconds, &set, &seconds, &spread)) {
            const char *name = place->backend->kernels[c->op].name;
            double flops = bench_flops(c->op, &set.args), nbytes = bench_nbytes(c->op, &set.args);
            printf("%-28s %-28s %10.3f %9.1f %s %7.2f\n", c->label, name, 1e3 * seconds,
                   (flops > 0 ? flops : nbytes) / seconds * 1e-9, flops > 0 ? "GFLOP/s" : "GB/s   ",
                   spread);
            bench_json_case(c->label, name,
                            (bench_figure[]){{"seconds", seconds},
                                             {"spread", spread},
                                             {"bytes", nbytes},
                                             {"flops", flops},
                                             {0}});
        } else
            printf("%-28s not supported: %s\n", c->label, par_error());
        fflush(stdout);
        bench_free(&set);
    }
}

/* 32 tokens, 512 entries of vocabulary: `ref` is slow */
static void print_ratios(const bench_setup *place, const char *filter) {
    par_transformer_config config = *place->config;
    config.vocab = 512;
    bench_setup here = *place, there;
    here.dtype = PAR_F32, here.config = &config, here.B = 2, here.T = 16, here.m = 32,
    here.max_update = 4096;
    there = here;
    bench_check(par_backend_get("ref", &there.backend), "ref");
    printf("\n32 tokens, 512 entries of vocabulary\n%-28s %10s %10s %8s\n", "operation", "us",
           "ref us", "ratio");
    for (const bench_case *c = bench_cases; c->label; c++) {
        double spread, s, s_ref;
        bench_set set;
        if (!strstr(c->label, filter)) continue;
        bench_build(&here, c, &set);
        if (time_case(&here, c, 0.02, &set, &s, &spread) &&
            time_case(&there, c, 0.02, &set, &s_ref, &spread)) {
            printf("%-28s %10.1f %10.1f %8.1f\n", c->label, 1e6 * s, 1e6 * s_ref, s_ref / s);
            bench_json_case(
                c->label, here.backend->kernels[c->op].name,
                (bench_figure[]){{"seconds_small", s}, {"seconds_small_ref", s_ref}, {0}});
        }
        bench_free(&set);
    }
}

/* Two types of an operation in turns, so that caches hold the other type's operands when one
 * begins: medians of the processor seconds, and quartiles of the turns' ratios. What slows the
 * machine down for longer than a turn slows both. */
typedef struct {
    double wide, narrow, lower, median, upper;
} pair_times;

/* Sorts n times. */
static double quantile(double *times, int n, double q) {
    qsort(times, (size_t)n, sizeof *times, by_value);
    return times[(int)(q * (n - 1))];
}

static bool time_pair(const bench_case *c, bench_set pair[2], double seconds, pair_times *out) {
    double times[2][MAX_TURNS], ratios[MAX_TURNS], start = bench_now_s();
    void *workspace[2] = {NULL, NULL};
    int n = 0;
    bool done = prepare(c, &pair[0], &workspace[0]) && prepare(c, &pair[1], &workspace[1]);
    for (int turn = -1; done && n < MAX_TURNS && (n < 5 || bench_now_s() - start < seconds);
         turn++) {
        for (int i = 0; i < 2; i++) {
            double t = processor_s();
            bench_check(par_op_run_untyped(pair[i].place->backend, c->op, NULL, &pair[i].args,
                                           sizeof pair[i].args, workspace[i]),
                        c->label);
            times[i][n] = processor_s() - t;
        }
        ratios[n] = times[1][n] / times[0][n];
        n += turn >= 0; /* the first turn warms up */
    }
    if (done)
        *out = (pair_times){quantile(times[0], n, 0.5), quantile(times[1], n, 0.5),
                            quantile(ratios, n, 0.25), quantile(ratios, n, 0.5),
                            quantile(ratios, n, 0.75)};
    free(workspace[0]);
    free(workspace[1]);
    return done;
}

static void print_types(const bench_setup *narrow, const settings *s) {
    bench_setup wide = *narrow;
    wide.dtype = PAR_F32;
    printf("%-28s %12s %9s ms %10s %12s\n", "operation", "fp32 ms", par_dtype_name(narrow->dtype),
           "over fp32", "quartiles");
    for (const bench_case *c = bench_cases; c->label; c++) {
        pair_times t;
        bench_set pair[2];
        if (!strstr(c->label, s->filter)) continue;
        bench_build(&wide, c, &pair[0]);
        bench_build(narrow, c, &pair[1]);
        if (time_pair(c, pair, 2 * s->seconds, &t)) {
            printf("%-28s %12.3f %12.3f %10.2f %5.2f - %.2f\n", c->label, 1e3 * t.wide,
                   1e3 * t.narrow, t.median, t.lower, t.upper);
            bench_json_case(c->label, narrow->backend->kernels[c->op].name,
                            (bench_figure[]){{"processor_seconds_fp32", t.wide},
                                             {"processor_seconds", t.narrow},
                                             {"over_fp32_lower", t.lower},
                                             {"over_fp32", t.median},
                                             {"over_fp32_upper", t.upper},
                                             {0}});
        } else
            printf("%-28s not supported: %s\n", c->label, par_error());
        fflush(stdout);
        bench_free(&pair[0]);
        bench_free(&pair[1]);
    }
}

static const par_choice devices[] = {{"cpu", 0}, {"cuda", 1}, {"ref", 2}, {NULL, 0}};
static const par_choice dtypes[] = {
    {"fp32", PAR_F32}, {"bf16", PAR_BF16}, {"fp16", PAR_F16}, {NULL, 0}};

static void parse(settings *s, int argc, char **argv) {
    const char *g = "Options";
#define ROW(NAME, TYPE, FIELD, HELP, ...)                                                          \
    {.name = NAME, .type = TYPE, .value = &s->FIELD, .group = g, .help = HELP, __VA_ARGS__}
    par_option table[] = {
        ROW("device", PAR_OPT_CHOICE, device, "backend whose kernels run", .initial = "cpu",
            .choices = devices, .also = "backend"),
        ROW("model", PAR_OPT_TEXT, model, "preset whose shapes are used", .initial = "gpt2-124m"),
        ROW("tokens", PAR_OPT_INT, tokens, "T; 0: the model's on a device, else 256",
            .initial = "0", .legal = "0..10000000"),
        ROW("batch", PAR_OPT_INT, batch, "samples; 0: 16384 tokens on a device, else 1024",
            .initial = "0", .legal = "0..1000000"),
        ROW("vocab", PAR_OPT_INT, vocab, "V; 0: the model's", .initial = "0",
            .legal = "0..10000000"),
        ROW("threads", PAR_OPT_INT, threads, "threads on the host; 0: all cores", .initial = "0",
            .legal = "0..256"),
        ROW("dtype", PAR_OPT_CHOICE, dtype, "type of activations and weights", .initial = "fp32",
            .choices = dtypes),
        ROW("seconds", PAR_OPT_REAL, seconds, "how long each operation is measured",
            .initial = "0.3", .legal = "0.."),
        ROW("filter", PAR_OPT_TEXT, filter, "operations whose names contain this", .initial = ""),
        ROW("ref", PAR_OPT_BOOL, ref, "compare with ref too, at a small shape (not cuda)"),
        ROW("peak", PAR_OPT_REAL, peak, "TFLOP/s of the device, for shares; 0: none",
            .initial = "0", .legal = "0.."),
        ROW("cache", PAR_OPT_INT, cache, "MiB of buffers that the calls go round, on a device",
            .initial = "256", .legal = "0..1000000"),
        ROW("copy", PAR_OPT_INT, copy, "MiB of the copy that measures the device's bandwidth",
            .initial = "1024", .legal = "1..1000000"),
        ROW("formulas", PAR_OPT_BOOL, formulas, "print how bytes are counted, on a device"),
        ROW("json", PAR_OPT_TEXT, json, "write the results to this file too, as JSON",
            .initial = ""),
        ROW("help", PAR_OPT_BOOL, help, "print this text and end"),
    };
#undef ROW
    const int n = (int)(sizeof table / sizeof *table);
    par_problems problems = {0};
    par_options_parse(table, n, argc - 1, argv + 1, &problems);
    if (s->help) {
        static char text[8192];
        par_options_help(table, n, "usage: kernels [--device cpu|cuda|ref] [--model NAME] ...",
                         text, sizeof text);
        fputs(text, stdout);
        exit(0);
    }
    if (problems.n == 0) return;
    fprintf(stderr, "kernels: %s\n", problems.text);
    exit(2);
}

int main(int argc, char **argv) {
    settings s = {0};
    par_transformer_config config;
    parse(&s, argc, argv);
    bench_check(par_transformer_preset(s.model, &config), "--model");
    bench_setup place = {.config = &config, .dtype = (par_dtype)s.dtype};
    bench_check(par_backend_get(par_choice_name(devices, s.device), &place.backend), "--device");
    bench_check(par_threads_set((int)s.threads), "--threads");
    bool on_host = place.backend->on_host;
    int64_t rows = on_host ? 1024 : 16384;
    if (s.vocab) config.vocab = s.vocab;
    place.T = s.tokens ? s.tokens : on_host && config.tokens > 256 ? 256 : config.tokens;
    place.B = s.batch ? s.batch : place.T < rows ? rows / place.T : 1;
    place.m = place.B * place.T;
    place.max_update = on_host ? HOST_UPDATE : DEVICE_UPDATE;
    const bench_device_params device = {.seconds = s.seconds,
                                        .peak_tflops = s.peak,
                                        .cache = (size_t)s.cache * MIB,
                                        .copy = (size_t)s.copy * MIB,
                                        .filter = s.filter,
                                        .formulas = s.formulas};
    double copy_bandwidth = 0;
    if (*s.json) bench_json_begin(s.json, &place);
    if (!on_host)
        copy_bandwidth = bench_device(&place, &device);
    else if (place.dtype == PAR_F32)
        print_host(&place, &s);
    else
        print_types(&place, &s);
    if (s.ref && on_host) print_ratios(&place, s.filter);
    bench_json_end(copy_bandwidth);
    return 0;
}
