/*
 * Initial weights: a function of seed, name and global index, and 0 in padding, whatever number of
 * threads draws them and wherever a rank's share begins. The bits of par_random_normal itself are
 * known answers of tests/kernels/random.c.
 */
#include "../harness.h"
#include "check.h"
#include "par/random.h"
#include "par/threads.h"

static float expected(uint64_t seed, const par_param *p, int64_t i, int64_t j) {
    if (i >= p->extent[0] || j >= p->extent[1]) return 0;
    if (p->init == PAR_INIT_CONSTANT) return (float)p->init_value;
    int64_t index = (p->offset[0] + i) * p->global[1] + p->offset[1] + j;
    return (float)(p->init_value *
                   par_random_normal(seed, par_hash_name(p->name), (uint64_t)index));
}

static int64_t compare(uint64_t seed, const par_param *p) {
    const float *weight = p->weight;
    int64_t n_padding = 0;
    for (int64_t i = 0; i < p->local[0]; i++)
        for (int64_t j = 0; j < p->local[1]; j++) {
            float w = weight[i * p->local[1] + j], e = expected(seed, p, i, j);
            CHECK(w == e, "%s[%lld, %lld] is %a, not %a, with %d threads", p->name, (long long)i,
                  (long long)j, (double)w, (double)e, par_threads());
            n_padding += i >= p->extent[0] || j >= p->extent[1];
        }
    return n_padding;
}

static void run_threads(par_transport *transport) {
    static const int threads[] = {1, 2, 3, 7};
    int rank = par_transport_rank(transport);
    par_transformer_config config;
    par_model *model = NULL;
    check_config(true, &config);
    config.init_std = 0.15;
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, par_transport_size(transport), 1, 1, 1, 1);
    params.seed = 77;
    CHECK_OK(check_fit(&config, &params));
    for (int i = 0; i < HARNESS_COUNT(threads); i++) {
        par_trainer *trainer = NULL;
        int64_t n_padding = 0;
        CHECK_OK(par_threads_set(threads[i]));
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        for (int k = 0; trainer && k < par_trainer_n_params(trainer); k++)
            n_padding += compare(params.seed, par_trainer_param(trainer, k));
        if (par_transport_size(transport) > 1 && rank == par_transport_size(transport) - 1)
            CHECK(n_padding > 0, "there is no padding to compare");
        par_trainer_destroy(&trainer);
    }
    CHECK_OK(par_threads_set(0));
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"threads", NULL, 1, run_threads, 0},
    {"threads-tp4", NULL, 4, run_threads, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("weights", cases, HARNESS_COUNT(cases), argc, argv);
}
