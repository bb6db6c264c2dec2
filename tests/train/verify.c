/* Verification of a layout: a sound model agrees, and a defect of one parameter that only shows
 * with tp is named. */
#include <stdlib.h>
#include <string.h>

#include "../../examples/residual_mlp.h"
#include "../harness.h"
#include "par/verify.h"

static const residual_mlp_config config = {.channels = 8, .hidden = 40, .blocks = 5};

/* The defect: after backward, block 2's bias gradient is doubled on meshes with tp > 1. */
static par_param *spoiled;
static par_module *spoiled_module;
static const par_module_ops *sound;
static par_status (*create_sound)(const void *config, int index, par_module **out);

static par_status spoiled_build(par_module *module, par_build *build) {
    PAR_TRY(sound->build(module, build));
    par_param_spec spec = {.name = "2.b", .ndim = 1, .global = {config.channels, 1}};
    if (par_comm_size(build->mesh->axis[PAR_TP]) == 1) return PAR_OK;
    spoiled_module = module;
    return par_build_param(build, &spec, false, &spoiled);
}

static par_status spoiled_backward(par_module *module, const par_call *call, const par_tensor *x,
                                   const par_tensor *dy, par_tensor *dx) {
    PAR_TRY(sound->backward(module, call, x, dy, dx));
    for (int64_t i = 0; module == spoiled_module && i < config.channels; i++) spoiled->grad[i] *= 2;
    return PAR_OK;
}

static par_status create_spoiled(const void *c, int index, par_module **out) {
    static par_module_ops ops;
    PAR_TRY(create_sound(c, index, out));
    if (index != 2) return PAR_OK;
    sound = (*out)->ops;
    ops = *sound;
    ops.build = spoiled_build;
    ops.backward = spoiled_backward;
    (*out)->ops = &ops;
    return PAR_OK;
}

static void verify(par_transport *transport, const par_model *model, int tp, int pp, int dp,
                   par_verify_result *result) {
    par_source source = residual_mlp_source(&config);
    par_trainer_params params = {.model = model,
                                 .layout.size = {tp, 1, dp, pp},
                                 .seed = 1,
                                 .micro_batch = 2,
                                 .global_batch = 16,
                                 .schedule = PAR_SCHEDULE_1F1B,
                                 .dtype = PAR_F32,
                                 .optimizer = PAR_ADAMW,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .eps = 1e-8f,
                                 .clip = 1,
                                 .zero = 1};
    spoiled_module = NULL;
    CHECK_OK(par_verify(transport, &params, &source, 3, 1e-3f, 0, NULL, result));
}

static void run_sound(par_transport *transport) {
    par_model model;
    par_verify_result result = {0};
    residual_mlp_model(&config, &model);
    verify(transport, &model, 2, 2, 2, &result);
    CHECK(result.passed, "gradients %g (%s), losses %g, norms %g", result.gradient, result.worst,
          result.loss, result.norm);
    CHECK(result.gradient > 0, "no tensor was compared");
}

static void run_spoiled(par_transport *transport) {
    par_model model;
    par_verify_result result = {0};
    residual_mlp_model(&config, &model);
    create_sound = model.create;
    model.create = create_spoiled;
    verify(transport, &model, 2, 2, 2, &result);
    CHECK(!result.passed && strcmp(result.first_bad, "2.b") == 0, "passed %d, first bad \"%s\"",
          result.passed, result.first_bad);
    verify(transport, &model, 1, 4, 2, &result);
    CHECK(result.passed, "without tp the defect does not show, yet %s differs by %g", result.worst,
          result.gradient);
}

static const harness_case cases[] = {
    {"a-sound-model-agrees", NULL, 8, run_sound, 0},
    {"a-defect-is-named", NULL, 8, run_spoiled, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("verify", cases, HARNESS_COUNT(cases), argc, argv);
}
