/*
 * A rank that fails, on the cuda stand-ins: by NCCL its peer's device waits for messages that never
 * come, call by call and in graphs, and the host polls; staged the host carries the data. The peer
 * returns within seconds with the rank and the message, its communicators are aborted after the
 * graphs that hold them are gone (the stand-in ends the process otherwise), and everything can be
 * destroyed.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "check.h"
#include "collectives/internal.h"
#include "failing_model.h"
#include "libpar/base/clock.h"

enum { WITHIN_S = 20, GRAPHS_FROM = 2 };

typedef struct {
    failing_call call;
    int n, steps; /* the n-th call behind so many steps */
    int pp, dp;
    par_link link;
    bool aborts; /* the rank breaks the transport itself in place of the next step */
    int culprit;
} setting;

static const par_backend *cuda;

/* Steps as train_llm makes them, one begun behind another; then a step, an evaluation. */
static par_status train(par_transport *transport, par_trainer *t, const setting *s, int rank,
                        const check_data *data, int64_t unit) {
    par_source source = check_source(data);
    par_vote vote;
    double loss;
    for (int i = 0; i < s->steps; i++) {
        PAR_TRY(par_trainer_step_begin(t, &source, 1e-3f, false));
        if (i > 0) PAR_TRY(par_trainer_step_end(t, &vote));
    }
    if (s->steps > 0) PAR_TRY(par_trainer_step_end(t, &vote));
    CHECK((par_trainer_no_graph(t) == NULL) == (s->link == PAR_LINK_NCCL), "graphs: %s",
          par_trainer_no_graph(t));
    failing_set(rank == s->culprit ? s->call : FAIL_NONE, s->n, PAR_ERR_DEVICE);
    if (s->aborts && rank == s->culprit)
        return par_transport_abort(transport, PAR_ERR_DEVICE, FAILING_WHY);
    PAR_TRY(par_trainer_step(t, &source, 1e-3f, false, &vote));
    return par_trainer_evaluate(t, &source, 0, 2 * unit, &loss);
}

static void check_end(par_transport *t, int culprit, par_status st, double took) {
    char expected[128] = FAILING_WHY;
    bool failed = par_transport_rank(t) == culprit;
    if (!failed) snprintf(expected, sizeof expected, "rank %d: %s", culprit, FAILING_WHY);
    CHECK(st == (failed ? PAR_ERR_DEVICE : PAR_ERR_TRANSPORT) && !strcmp(par_error(), expected),
          "rank %d: %s: \"%s\"", par_transport_rank(t), par_status_text(st), par_error());
    CHECK(took < 60, "it took %.1f s", took);
}

static void run(par_transport *transport, setting s) {
    par_transformer_config config;
    par_model *inner = NULL, model;
    par_trainer *t = NULL;
    double begin = par__seconds();
    if (!cuda) {
        harness_skip("this build has no stand-in of the cuda module");
        return;
    }
    transport->params.link = s.link;
    check_config(false, &config);
    config.layers = s.pp; /* the emulator takes its time */
    config.tokens = 4;
    CHECK_OK(par_transformer_create(&config, &inner));
    failing_model(inner, &model);
    par_trainer_params params = check_params(&model, 1, s.pp, s.dp, 1, 2 * s.pp * s.dp);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    params.device = cuda;
    CHECK_OK(check_fit(&config, &params));
    failing_set(FAIL_NONE, 0, PAR_OK);
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (harness_failed()) return;
    par_status st = train(transport, t, &s, par_transport_rank(transport), &data, s.dp);
    check_end(transport, s.culprit, st, par__seconds() - begin);
    begin = par__seconds();
    par_trainer_destroy(&t);
    CHECK(par__seconds() - begin < WITHIN_S, "destroying took %.1f s", par__seconds() - begin);
    par_transformer_destroy(&inner);
}

static void forward(par_transport *t) {
    run(t, (setting){FAIL_FORWARD, 2, 0, 1, 2, PAR_LINK_NCCL, false, 1});
}
static void backward(par_transport *t) {
    run(t, (setting){FAIL_BACKWARD, 2, 0, 2, 1, PAR_LINK_NCCL, false, 1});
}
static void capture(par_transport *t) {
    run(t, (setting){FAIL_FORWARD, 1, GRAPHS_FROM, 1, 2, PAR_LINK_NCCL, true, 1});
}
static void graph(par_transport *t) {
    run(t, (setting){FAIL_NONE, 0, GRAPHS_FROM + 1, 1, 2, PAR_LINK_NCCL, true, 1});
}
static void evaluate(par_transport *t) {
    run(t, (setting){FAIL_EVALUATE, 2, GRAPHS_FROM + 1, 2, 1, PAR_LINK_NCCL, false, 0});
}
static void staged_forward(par_transport *t) {
    run(t, (setting){FAIL_FORWARD, 2, 1, 1, 2, PAR_LINK_STAGED, false, 1});
}
static void staged_backward(par_transport *t) {
    run(t, (setting){FAIL_BACKWARD, 2, 1, 2, 1, PAR_LINK_STAGED, false, 1});
}

static void find_module(const char *program) {
    char path[1100];
    const char *slash = strrchr(program, '/'), *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - program) : 1,
             slash ? program : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    const par_device_params params = {
        .local_rank = rank ? atoi(rank) : 0, .local_size = 2, .device = -1};
    setenv("PAR_STANDIN_GPUS", "2", 1); /* NCCL wants one for each */
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "forward", .ranks = 2, .run_mpi = forward},
        {.name = "backward", .ranks = 2, .run_mpi = backward},
        {.name = "capture", .ranks = 2, .run_mpi = capture},
        {.name = "graph", .ranks = 2, .run_mpi = graph},
        {.name = "evaluate", .ranks = 2, .run_mpi = evaluate},
        {.name = "staged-forward", .ranks = 2, .run_mpi = staged_forward},
        {.name = "staged-backward", .ranks = 2, .run_mpi = staged_backward},
    };
    find_module(argv[0]);
    return harness_main_mpi("failing-cuda", cases, HARNESS_COUNT(cases), argc, argv);
}
