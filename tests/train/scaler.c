/*
 * The loss scaler alone: the trajectory of another implementation (tests/fixtures/grad_scaler.json:
 * scale and growth counter after each step, hysteresis 1), then what hysteresis, floor, ceiling and
 * a constant scale mean.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "par/train.h"

static double number(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void compare_case(const json_t *c, int index) {
    const json_t *steps = json_object_get(c, "steps");
    par_scaler_params params = {.init = number(c, "init_scale"),
                                .growth = number(c, "growth_factor"),
                                .backoff = number(c, "backoff_factor"),
                                .interval = (int64_t)number(c, "growth_interval"),
                                .hysteresis = (int64_t)number(c, "hysteresis"),
                                .max = 0x1p60};
    par_scaler s;
    par_scaler_init(&params, &s);
    CHECK(json_array_size(steps) > 0, "case %d has no steps", index);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        CHECK_OK(par_scaler_update(&params, &s, json_is_true(json_object_get(step, "overflow"))));
        CHECK(s.scale == number(step, "scale"), "case %d step %zu: scale %g, not %g", index, i + 1,
              s.scale, number(step, "scale"));
        CHECK(s.clean == (int64_t)number(step, "growth_tracker"),
              "case %d step %zu: %lld clean steps, not %g", index, i + 1, (long long)s.clean,
              number(step, "growth_tracker"));
    }
}

static void run_trajectory(void) {
    static const char *const places[] = {"tests/fixtures/grad_scaler.json",
                                         "../tests/fixtures/grad_scaler.json"};
    json_t *file = NULL;
    for (int i = 0; i < 2 && !file; i++) file = json_load_file(places[i], 0, NULL);
    if (!file) {
        harness_skip("there is no tests/fixtures/grad_scaler.json");
        return;
    }
    const json_t *cases = json_object_get(file, "cases");
    CHECK(json_array_size(cases) > 0, "the file has no cases");
    for (size_t i = 0; i < json_array_size(cases); i++)
        compare_case(json_array_get(cases, i), (int)i);
    json_decref(file);
}

/* Steps as text, 'x' an overflow: the scale after the last one. */
static double after(const par_scaler_params *params, const char *steps) {
    par_scaler s;
    par_scaler_init(params, &s);
    for (; *steps; steps++) CHECK_OK(par_scaler_update(params, &s, *steps == 'x'));
    return s.scale;
}

static void run_hysteresis(void) {
    const par_scaler_params two = {.init = 1024, .interval = 4},
                            three = {.init = 1024, .hysteresis = 3};
    CHECK(after(&two, "x") == 1024, "one overflow changes the scale");
    CHECK(after(&two, "xx") == 512, "two in a row do not halve it");
    CHECK(after(&two, "xxx") == 256, "a third in a row does not halve it again");
    CHECK(after(&two, "x.x.x.x.") == 1024, "a clean step does not refill the hysteresis");
    CHECK(after(&two, "xx.x") == 512, "a clean step does not refill it after the scale fell");
    CHECK(after(&two, "...x....") == 2048,
          "an overflow does not restart the window, or four clean steps do not double");
    CHECK(after(&two, "...x...") == 1024, "an overflow does not restart the window");
    CHECK(after(&two, "........") == 4096, "two windows do not double twice");
    CHECK(after(&three, "xx") == 1024 && after(&three, "xxx") == 512, "hysteresis 3");
}

static void run_limits(void) {
    const par_scaler_params low = {.init = 4, .hysteresis = 1, .max_skips = 3},
                            high = {.init = 8, .max = 20, .interval = 1};
    par_scaler s;
    CHECK(after(&low, "xxxx") == 1, "the scale falls below its smallest");
    CHECK(after(&low, "xxxx.xx.xx") == 1,
          "a clean step does not restart the count of skips at the floor");
    CHECK(after(&high, "....") == 20, "the scale rises above its largest");
    par_scaler_init(&low, &s);
    for (int i = 0; i < 4; i++) CHECK_OK(par_scaler_update(&low, &s, true));
    CHECK(s.floor_skips == 2 && s.skipped == 4, "%lld skips at the floor, %lld in all",
          (long long)s.floor_skips, (long long)s.skipped);
    CHECK_FAILS(par_scaler_update(&low, &s, true), PAR_ERR_NUMERIC, "3 steps in a row");
}

static void run_constant(void) {
    const par_scaler_params params = {.constant = 384, .interval = 1, .max_skips = 6};
    par_scaler s;
    CHECK(after(&params, "..xxxx..xxxxx.") == 384, "a constant scale moves");
    par_scaler_init(&params, &s);
    for (int i = 0; i < 5; i++) CHECK_OK(par_scaler_update(&params, &s, true));
    CHECK_FAILS(par_scaler_update(&params, &s, true), PAR_ERR_NUMERIC, "6 steps in a row");
    CHECK_OK(par_scaler_update(&params, &s, false));
    CHECK(s.floor_skips == 0 && s.skipped == 6, "%lld in a row, %lld in all",
          (long long)s.floor_skips, (long long)s.skipped);
}

static void run_bad(void) {
    const par_scaler_params bad = {.constant = -1,
                                   .init = 0.5,
                                   .growth = 0.5,
                                   .backoff = 2,
                                   .interval = -1,
                                   .hysteresis = -1,
                                   .max_skips = -1};
    par_problems problems = {0};
    par_scaler_check(&bad, &problems);
    CHECK(problems.n == 7, "%d problems, not 7: %s", problems.n, problems.text);
}

static const harness_case cases[] = {
    {"trajectory-of-another-implementation", run_trajectory, 0, NULL, 0},
    {"hysteresis", run_hysteresis, 0, NULL, 0},
    {"floor-and-ceiling", run_limits, 0, NULL, 0},
    {"constant", run_constant, 0, NULL, 0},
    {"bad-parameters", run_bad, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("scaler", cases, HARNESS_COUNT(cases), argc, argv);
}
