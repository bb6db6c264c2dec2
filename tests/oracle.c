/*
 * oracle: compares training with reference results, in one layout or many.
 *
 *   mpirun -n 8 build/tests/oracle DIR... --tp 2 --pp 2 --dp 2
 *   mpirun -n 8 build/tests/oracle DIR... --layouts 1,1,1:2,1,1:2,2,2      (tp,pp,dp; ranks to
 * spare wait)
 *
 * Exit status: 0 all within the bounds, 1 some above, 2 wrong options or a run that failed.
 */
#define _POSIX_C_SOURCE 200809L
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oracle.h"
#include "par/mpi.h"

enum { MAX_LAYOUTS = 64 };

typedef struct {
    int64_t tp, pp, dp, chunks, zero, micro_batch;
    int schedule, recompute, precision, reduce_dtype; /* of the library's enums */
    int device;                                       /* of `devices` */
    const char *layouts, *reference;
    bool sequence_parallel, summary, help;
    int layout[MAX_LAYOUTS][3], n_layouts;
} arguments;

static const par_choice schedules[] = {{"gpipe", PAR_SCHEDULE_GPIPE},
                                       {"1f1b", PAR_SCHEDULE_1F1B},
                                       {"eager-1f1b", PAR_SCHEDULE_EAGER_1F1B},
                                       {"interleaved", PAR_SCHEDULE_INTERLEAVED},
                                       {NULL, 0}};
static const par_choice recomputes[] = {{"none", PAR_RECOMPUTE_NONE},
                                        {"selective", PAR_RECOMPUTE_SELECTIVE},
                                        {"full", PAR_RECOMPUTE_FULL},
                                        {NULL, 0}};
static const par_choice precisions[] = {
    {"fp32", PAR_F32}, {"bf16", PAR_BF16}, {"fp16", PAR_F16}, {NULL, 0}};
static const par_choice reduce_dtypes[] = {{"fp32", PAR_F32}, {"bf16", PAR_BF16}, {NULL, 0}};
static const par_choice devices[] = {{"cpu", 0}, {"cuda", 1}, {"ref", 2}, {NULL, 0}};

/* --layouts, or the one of --tp, --pp and --dp; each must fit into the ranks. */
static void parse_layouts(arguments *a, int size, par_problems *problems) {
    const char *at = a->layouts;
    bool good = true;
    while (good && at && *at) {
        int used = 0, *l = a->layout[a->n_layouts];
        good = a->n_layouts < MAX_LAYOUTS - 1 &&
               sscanf(at, "%d,%d,%d%n", &l[0], &l[1], &l[2], &used) == 3 && l[0] >= 1 &&
               l[1] >= 1 && l[2] >= 1 && (at[used] == 0 || at[used] == ':');
        a->n_layouts += good;
        at += used + (at[used] == ':');
    }
    if (!good)
        par_problem(problems, "--layouts %s: must be TP,PP,DP:TP,PP,DP:..., at most %d", a->layouts,
                    MAX_LAYOUTS - 1);
    if (good && a->n_layouts == 0) {
        int one[3] = {(int)a->tp, (int)a->pp, (int)a->dp};
        memcpy(a->layout[0], one, sizeof one);
        a->n_layouts = 1;
    }
    for (int i = 0; i < a->n_layouts; i++) {
        const int *l = a->layout[i];
        if (l[0] * l[1] * l[2] > size)
            par_problem(problems,
                        "tp %d · pp %d · dp %d needs %d ranks, there are %d: mpirun -n %d", l[0],
                        l[1], l[2], l[0] * l[1] * l[2], size, l[0] * l[1] * l[2]);
    }
}

static void report(const oracle_case *c, const oracle_options *o, par_status st,
                   const oracle_result *r, double seconds) {
    char text[512];
    const char *in = o->dtype == PAR_BF16          ? "-bf16"
                     : o->dtype == PAR_F16         ? "-fp16"
                     : o->reduce_dtype == PAR_BF16 ? "-reduced-bf16"
                                                   : "";
    oracle_summary(r, text, sizeof text);
    if (st != PAR_OK)
        printf("FAIL oracle/%s%s-tp%d-pp%d-dp%d: %s: %s\n", c->name, in, o->tp, o->pp, o->dp,
               par_status_text(st), par_error());
    else if (r->failed)
        printf("FAIL oracle/%s%s-tp%d-pp%d-dp%d: %d above their bounds, first %s; %s\n", c->name,
               in, o->tp, o->pp, o->dp, r->failed, r->first_failure, text);
    else
        printf("ok oracle/%s%s-tp%d-pp%d-dp%d (%s; %.1f s)\n", c->name, in, o->tp, o->pp, o->dp,
               text, seconds);
    fflush(stdout);
}

static int run_layout(const oracle_case *c, const oracle_options *o) {
    const struct timespec pause = {.tv_nsec = 1000000};
    int rank, n = o->tp * o->pp * o->dp, result = 0, done = 0;
    MPI_Comm comm;
    MPI_Request all;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank < n ? 0 : MPI_UNDEFINED, rank, &comm);
    if (rank < n) {
        par_transport *transport = NULL;
        oracle_result r = {0};
        double begin = MPI_Wtime();
        par_status st = par_transport_create_mpi(comm, NULL, &transport);
        if (st == PAR_OK) st = oracle_run(transport, comm, c, o, &r);
        if (rank == 0) report(c, o, st, &r, MPI_Wtime() - begin);
        result = st != PAR_OK ? 2 : r.failed > 0;
        par_transport_destroy(&transport);
        MPI_Comm_free(&comm);
    }
    /* a rank without work sleeps until the others come, instead of taking their cores */
    MPI_Ibarrier(MPI_COMM_WORLD, &all);
    while (MPI_Test(&all, &done, MPI_STATUS_IGNORE), !done) nanosleep(&pause, NULL);
    MPI_Bcast(&result, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return result;
}

static int run_case(const char *directory, const arguments *a, int rank) {
    oracle_case c;
    int worst = 0;
    par_status st = oracle_open(directory, a->reference, &c);
    if (st != PAR_OK) {
        if (rank == 0)
            printf("FAIL oracle/%s: %s: %s\n", directory, par_status_text(st), par_error());
        return 2;
    }
    for (int i = 0; i < a->n_layouts; i++) {
        oracle_options o = {.tp = a->layout[i][0],
                            .pp = a->layout[i][1],
                            .dp = a->layout[i][2],
                            .schedule = (par_schedule_kind)a->schedule,
                            .chunks = (int)a->chunks,
                            .zero = (int)a->zero,
                            .recompute = (par_recompute)a->recompute,
                            .no_sequence_parallel = !a->sequence_parallel,
                            .details = !a->summary,
                            .device = par_choice_name(devices, a->device),
                            .dtype = (par_dtype)a->precision,
                            .reduce_dtype = (par_dtype)a->reduce_dtype,
                            .micro_batch = a->micro_batch};
        int result = run_layout(&c, &o);
        if (result > worst) worst = result;
    }
    oracle_close(&c);
    return worst;
}

static int run(int argc, char **argv, int rank, int size) {
    arguments a = {0};
    const char *const layout = "layout", *const pipeline = "pipeline", *const how = "run";
#define ROW(NAME, TYPE, FIELD, GROUP, HELP, ...)                                                   \
    {.name = NAME, .type = TYPE, .value = &a.FIELD, .group = GROUP, .help = HELP, __VA_ARGS__}
    par_option options[] = {
        ROW("tp", PAR_OPT_INT, tp, layout, "tensor-parallel ranks", .initial = "1", .legal = "1.."),
        ROW("pp", PAR_OPT_INT, pp, layout, "pipeline stages", .initial = "1", .legal = "1.."),
        ROW("dp", PAR_OPT_INT, dp, layout, "data-parallel ranks", .initial = "1", .legal = "1.."),
        ROW("layouts", PAR_OPT_TEXT, layouts, layout,
            "several layouts in one run, TP,PP,DP:TP,PP,DP:..."),
        ROW("sequence-parallel", PAR_OPT_BOOL, sequence_parallel, layout,
            "shard norms along tokens when tp > 1", .initial = "on"),
        ROW("schedule", PAR_OPT_CHOICE, schedule, pipeline, "pipeline schedule", .initial = "1f1b",
            .choices = schedules),
        ROW("chunks", PAR_OPT_INT, chunks, pipeline, "chunks per stage, for interleaved",
            .initial = "1", .legal = "1..16"),
        ROW("micro-batch", PAR_OPT_INT, micro_batch, pipeline,
            "samples that a rank works on at a time; 0: chosen", .initial = "0", .legal = "0.."),
        ROW("recompute", PAR_OPT_CHOICE, recompute, how, "activations made again in backward",
            .initial = "none", .choices = recomputes),
        ROW("zero", PAR_OPT_INT, zero, how, "1: shard the optimizer state over dp", .initial = "0",
            .legal = "0..1"),
        ROW("device", PAR_OPT_CHOICE, device, how, "what computes", .initial = "cpu",
            .choices = devices),
        ROW("precision", PAR_OPT_CHOICE, precision, how, "type of weights and activations",
            .initial = "fp32", .choices = precisions),
        ROW("reduce-dtype", PAR_OPT_CHOICE, reduce_dtype, how, "type of gradients sent over dp",
            .initial = "fp32", .choices = reduce_dtypes),
        ROW("reference", PAR_OPT_TEXT, reference, how, "directory of the results, if not DIR",
            .metavar = "DIR"),
        ROW("summary", PAR_OPT_BOOL, summary, how, "print one line per layout"),
        ROW("help", PAR_OPT_BOOL, help, how, "print this text and end"),
    };
#undef ROW
    static par_problems problems;
    int n_options = (int)(sizeof options / sizeof *options), n_dirs = 0, worst = 0;
    while (n_dirs + 1 < argc && strncmp(argv[n_dirs + 1], "--", 2) != 0) n_dirs++;
    par_options_parse(options, n_options, argc - 1 - n_dirs, argv + 1 + n_dirs, &problems);
    if (a.help) {
        static char text[8192];
        par_options_help(options, n_options, "oracle DIR... [options]", text, sizeof text);
        if (rank == 0) fputs(text, stdout);
        return 0;
    }
    if (n_dirs == 0) par_problem(&problems, "no directory was given: oracle DIR... [options]");
    parse_layouts(&a, size, &problems);
    if (problems.n) {
        if (rank == 0) fprintf(stderr, "%s\n", problems.text);
        return 2;
    }
    for (int i = 0; i < n_dirs; i++) {
        int result = run_case(argv[i + 1], &a, rank);
        if (result > worst) worst = result;
    }
    return worst;
}

int main(int argc, char **argv) {
    int provided, rank, size;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int result = run(argc, argv, rank, size);
    MPI_Finalize();
    return result;
}
