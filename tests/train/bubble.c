/*
 * What a trainer on a device measures of its schedule, against what it must be. The device is the
 * stand-in of the cuda module with NCCL's, by its virtual clock: a kernel takes one tick, messages
 * take nothing, so that times are whole numbers of ticks and a schedule's bubble is the formula's,
 * to rounding (a sum of at most 2^12 exact terms, divided once: 1e-12 is generous). Modules enqueue
 * a known number of kernels and nothing else. The host, which enqueues all at once, would measure
 * something else altogether.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "check.h"

#define TICK      (1.0 / 1024)
#define TICK_TEXT "0.0009765625"

enum { C = 8, F = 2, B = 5, STEPS = 3, MAX_MODULES = 16 };

/* Kernels of a module are F forward and B backward times its factor. */
typedef struct {
    int factor[MAX_MODULES];
    int n_modules;
} counts;

typedef struct {
    par_module base;
    const counts *counts;
    int64_t n; /* elements of a micro-batch */
    bool last;
    par_param *w;
} work;

static const par_backend *cuda;

/* `times` kernels that copy n elements. */
static par_status run(const work *s, const par_call *call, const void *x, void *y, int64_t n,
                      int times) {
    par_cast args = {.dtype_x = PAR_F32, .dtype_y = PAR_F32, .n = n, .scale = 1, .x = x, .y = y};
    for (int i = 0; i < times * s->counts->factor[s->base.layer]; i++)
        PAR_TRY(par_cast_run(cuda, call->stream, &args, call->scratch));
    return PAR_OK;
}

static par_status work_build(par_module *module, par_build *build) {
    work *s = (work *)module;
    par_param_spec spec = {.ndim = 1, .global = {C, 1}};
    par_cast args = {
        .dtype_x = PAR_F32, .dtype_y = PAR_F32, .n = s->n = build->micro_batch * C, .scale = 1};
    s->last = s->base.layer == s->counts->n_modules - 1;
    build->y = s->last ? par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1) : build->x;
    build->stash_nbytes = (size_t)s->n * sizeof(float);
    PAR_TRY(par_build_prepare_cast(build, &args, &build->scratch_nbytes));
    snprintf(spec.name, sizeof spec.name, "%d.w", s->base.layer);
    return par_build_param(build, &spec, false, &s->w);
}

/* The last one's y is {1, 1} of the batch's ones. */
static par_status work_forward(par_module *module, const par_call *call, const par_tensor *x,
                               par_tensor *y) {
    const work *s = (const work *)module;
    return run(s, call, x->data, y->data, s->last ? 2 : s->n, F);
}

static par_status work_backward(par_module *module, const par_call *call, const par_tensor *x,
                                const par_tensor *dy, par_tensor *dx) {
    const work *s = (const work *)module;
    return run(s, call, dy ? dy->data : x->data, dx ? dx->data : call->stash, s->n, B);
}

static void work_destroy(par_module *module) {
    free(module);
}

static par_status create(const void *config, int index, par_module **out) {
    static const par_module_ops ops = {.build = work_build,
                                       .forward = work_forward,
                                       .backward = work_backward,
                                       .destroy = work_destroy};
    work *s = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no memory for module %d", index);
    s->base.ops = &ops;
    s->counts = config;
    *out = &s->base;
    return PAR_OK;
}

static par_status read_ones(void *user, int64_t first, int64_t n, void *x, void *targets) {
    for (int64_t i = 0; i < n * C; i++) ((float *)x)[i] = ((float *)targets)[i] = 1;
    return PAR_OK;
}

static bool ready(par_transport *t) {
    static bool asked;
    if (!asked) {
        asked = true;
        const par_device_params params = {
            .local_rank = par_transport_rank(t), .local_size = 4, .device = -1};
        if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
            cuda = NULL;
    }
    if (!cuda) harness_skip("this build has no stand-in of the cuda module");
    return cuda;
}

typedef struct {
    const char *name;
    par_schedule_kind kind;
    int m, chunks;
    par_recompute recompute;
    int last_factor; /* of the last module; 1: all equal */
} setting;

static par_status train(par_transport *t, const setting *s, par_step_times times[STEPS]) {
    int p = par_transport_size(t);
    par_tensor sample = par_tensor_make(NULL, PAR_F32, 1, C, 1, 1, 1);
    counts k = {.n_modules = p * s->chunks};
    for (int i = 0; i < k.n_modules; i++) k.factor[i] = i == k.n_modules - 1 ? s->last_factor : 1;
    const par_model model = {.name = "work",
                             .config = &k,
                             .n_modules = k.n_modules,
                             .create = create,
                             .x = sample,
                             .targets = sample};
    par_trainer_params params = check_params(&model, 1, p, 1, 1, s->m);
    par_source source = {.read = read_ones};
    par_trainer *trainer = NULL;
    params.backend = "cuda";
    params.schedule = s->kind;
    params.chunks = s->chunks;
    params.recompute = s->recompute;
    PAR_TRY(par_trainer_create(t, &params, &trainer));
    par_status st = PAR_OK;
    for (int i = 0; i < STEPS && st == PAR_OK; i++) {
        par_vote vote;
        double loss;
        st = par_trainer_step(trainer, &source, 1e-3f, false, &vote);
        times[i] = *par_trainer_times(trainer);
        if (st == PAR_OK && i == 1) st = par_trainer_evaluate(trainer, &source, 0, s->m, &loss);
    }
    par_trainer_destroy(&trainer);
    return st;
}

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-12 * fabs(b);
}

/* With every stage equal: its own kernels are its busy time, the bubble is the ideal one; a step's
 * vote has that of the step before. Stage 0 has it whole; the clock of stage r of p ends its first
 * step when its last backward has, r backwards earlier. */
static void equal_stages(par_transport *t, const setting *s) {
    int p = par_transport_size(t), r = par_transport_rank(t);
    par_step_times times[STEPS] = {{0}};
    double f = F * TICK, b = (B + (s->recompute == PAR_RECOMPUTE_FULL ? F : 0)) * TICK;
    CHECK_OK(train(t, s, times));
    for (int i = 0; i < STEPS && !harness_failed(); i++) {
        const par_step_times *x = &times[i];
        double ideal = (p - 1.0) / (s->m * s->chunks), measured = i ? ideal : 0;
        CHECK(near(x->forward, s->m * s->chunks * f),
              "%s, step %d: forward takes %.6f ticks, not %d", s->name, i, x->forward / TICK,
              s->m * s->chunks * F);
        CHECK(near(x->backward, s->m * s->chunks * b),
              "%s, step %d: backward takes %.6f ticks, not %.0f", s->name, i, x->backward / TICK,
              s->m * s->chunks * b / TICK);
        CHECK(near(x->ideal_bubble, ideal) && near(x->bubble, measured),
              "%s, step %d: bubble %.9f, ideal %.9f", s->name, i, x->bubble, ideal);
        if (i == 0)
            CHECK(near(x->wait_pipeline, (p - 1) * (f + b) - r * b),
                  "%s: stage %d waits for %.6f ticks, not %.6f", s->name, r,
                  x->wait_pipeline / TICK, ((p - 1) * (f + b) - r * b) / TICK);
    }
}

static void run_equal(par_transport *t) {
    const setting settings[] = {
        {"gpipe", PAR_SCHEDULE_GPIPE, 4, 1, PAR_RECOMPUTE_NONE, 1},
        {"1f1b", PAR_SCHEDULE_1F1B, 6, 1, PAR_RECOMPUTE_NONE, 1},
        {"1f1b, full recompute", PAR_SCHEDULE_1F1B, 4, 1, PAR_RECOMPUTE_FULL, 1},
        {"interleaved", PAR_SCHEDULE_INTERLEAVED, 8, 2, PAR_RECOMPUTE_NONE, 1},
    };
    if (!ready(t)) return;
    for (int i = 0; i < HARNESS_COUNT(settings) && !harness_failed(); i++)
        equal_stages(t, &settings[i]);
}

/* GPipe on two stages, the second k times as slow: it begins after a forward of the first and never
 * stops; the first ends a backward after it. So the first takes F + m k (F + B) + B, of which m (F
 * + B) are its own: the bubble, the larger of the two, is (1 + m (k - 1)) / m. The third step
 * follows an evaluation, which the stages' clocks leave at other times, and the vote between, by
 * MPI, does not bring them together. */
static void run_uneven(par_transport *t) {
    const setting s = {"uneven", PAR_SCHEDULE_GPIPE, 4, 1, PAR_RECOMPUTE_NONE, 3};
    par_step_times times[STEPS] = {{0}};
    if (!ready(t)) return;
    CHECK_OK(train(t, &s, times));
    double factor = par_transport_rank(t) ? 3 : 1, bubble = (1.0 + s.m * (s.last_factor - 1)) / s.m;
    for (int i = 0; i < 2 && !harness_failed(); i++) {
        CHECK(near(times[i].forward, factor * s.m * F * TICK), "step %d: forward takes %.6f ticks",
              i, times[i].forward / TICK);
        CHECK(near(times[i + 1].bubble, bubble), "step %d: bubble %.9f, not %.9f", i,
              times[i + 1].bubble, bubble);
    }
}

static const harness_case cases[] = {
    {"two-stages-are-ideal", NULL, 2, run_equal, 0},
    {"four-stages-are-ideal", NULL, 4, run_equal, 0},
    {"uneven-stages", NULL, 2, run_uneven, 0},
};

int main(int argc, char **argv) {
    char path[1024];
    const char *slash = strrchr(argv[0], '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    setenv("PAR_STANDIN_TICK", TICK_TEXT, 1);
    setenv("PAR_STANDIN_GPUS", "4", 1);
    return harness_main_mpi("bubble", cases, HARNESS_COUNT(cases), argc, argv);
}
