/*
 * --verify-parallel: the user's configuration in fp32 against one rank, tensor by tensor. If it differs, each
 * axis is tried alone on the first ranks, which tells the axis that causes it.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "train_llm.h"
#if TRAIN_LLM_MPI
#include "par/mpi.h"
#endif

static void print_tensor(void *user, const char *name, double relative, bool passed) {
    (void)user;
    printf("  %-44s %.1e%s\n", name, relative, passed ? "" : "  OUTSIDE");
}

/* Bytes that one rank needs for itself with the model cut to `layers`. */
static par_status single_rank_nbytes(const run *r, int64_t layers, size_t *nbytes) {
    par_transformer_config config = r->config;
    par_trainer_params params = r->params;
    par_memory *plan = NULL;
    par_model *model = NULL;
    config.layers = layers;
    PAR_TRY(par_transformer_create(&config, &model));
    params.model = model;
    params.layout = (par_layout){.size = {1, 1, 1, 1}};
    params.schedule = PAR_SCHEDULE_1F1B;
    params.chunks = 1;
    params.modules_per_part = NULL;
    params.recompute = PAR_RECOMPUTE_NONE;
    params.zero = 0;
    par_status st = par_trainer_plan(&params, 1, 0, &plan);
    *nbytes = 0;
    for (int kind = 0; st == PAR_OK && kind < PAR_MEM_COUNT; kind++)
        *nbytes += par_memory_nbytes(plan, (par_memory_kind)kind);
    par_memory_destroy(&plan);
    par_transformer_destroy(&model);
    return st;
}

/* Refuse what does not fit beside the layout's own share; three quarters of what is free may be used. */
static par_status check_fits(const run *r) {
    size_t needed, room = (size_t)sysconf(_SC_AVPHYS_PAGES) / 4 * 3 * (size_t)sysconf(_SC_PAGESIZE);
    int64_t fits = 0, too_many = r->config.layers;
    PAR_TRY(single_rank_nbytes(r, r->config.layers, &needed));
    if (needed <= room) return PAR_OK;
    double whole = (double)needed;
    while (too_many - fits > 1) {
        int64_t middle = (fits + too_many) / 2;
        PAR_TRY(single_rank_nbytes(r, middle, &needed));
        *(needed <= room ? &fits : &too_many) = middle;
    }
    if (fits == 0)
        return par_fail(
            PAR_ERR_MEMORY,
            "--verify-parallel: one rank needs %.1f GiB, %.1f are free, and one layer is too much "
            "already: use a smaller --micro-batch, --tokens or --channels",
            whole / (1 << 30), (double)room / (1 << 30));
    return par_fail(PAR_ERR_MEMORY,
                    "--verify-parallel: one rank needs %.1f GiB for %lld layers, %.1f are free: use "
                    "--verify-layers %lld or less",
                    whole / (1 << 30), (long long)r->config.layers, (double)room / (1 << 30),
                    (long long)fits);
}

static void print_result(const par_verify_result *v) {
    printf(
        "  largest relative differences: gradients %.1e (%s), losses %.1e, gradient norms %.1e; bound %.1e\n",
        v->gradient, v->worst, v->loss, v->norm, v->bound);
    if (v->first_bad[0]) printf("  first tensor outside the bound: %s\n", v->first_bad);
}

/* One axis alone, on as many ranks as it has; the others wait at the next agreement. */
static par_status verify_axis(const run *r, world *w, const par_source *source, par_axis axis, bool *passed) {
    par_verify_result result = {.passed = true};
    par_status st = PAR_OK;
    *passed = true;
#if TRAIN_LLM_MPI
    int n = r->params.layout.size[axis];
    par_trainer_params params = r->params;
    par_transport *part = NULL;
    MPI_Comm comm;
    params.layout =
        (par_layout){.size = {1, 1, 1, 1}, .kv_replicas = axis == PAR_TP ? r->params.layout.kv_replicas : 1};
    params.layout.size[axis] = n;
    if (axis != PAR_PP) {
        params.schedule = PAR_SCHEDULE_1F1B;
        params.chunks = 1;
        params.modules_per_part = NULL;
    }
    MPI_Comm_split(MPI_COMM_WORLD, w->rank < n ? 0 : MPI_UNDEFINED, w->rank, &comm);
    if (w->rank < n) {
        st = par_transport_create_mpi(comm, NULL, &part);
        if (st == PAR_OK)
            st = par_verify(part, &params, source, (int)r->set.verify_steps, (float)r->set.lr, 0, NULL, NULL,
                            &result);
        par_transport_destroy(&part);
        MPI_Comm_free(&comm);
    }
#endif
    PAR_TRY(world_agree(w, st));
    *passed = result.passed;
    if (w->rank == 0) {
        printf("%s %d alone: %s\n", par_axis_name(axis), r->params.layout.size[axis],
               result.passed ? "agrees" : "DIFFERS");
        if (!result.passed) print_result(&result);
    }
    int32_t flag = *passed;
    par_tag tag = {"verify", -1, -1, -1};
    PAR_TRY(par_comm_broadcast(w->comm, &flag, 1, PAR_I32, 0, tag, NULL, NULL));
    *passed = flag != 0;
    return PAR_OK;
}

/* The first axis that differs alone. */
static par_status find_axis(const run *r, world *w, const par_source *source) {
    const char *cause = NULL;
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        bool passed;
        if (r->params.layout.size[axis] == 1) continue;
        PAR_TRY(verify_axis(r, w, source, (par_axis)axis, &passed));
        if (!passed && !cause) cause = par_axis_name((par_axis)axis);
    }
    return par_fail(PAR_ERR_NUMERIC, "this layout does not train as one rank does; axis: %s",
                    cause ? cause : "none alone, only together");
}

par_status verify_parallel(const run *r, world *w, const data *d) {
    par_verify_result result;
    par_source source = par_sampler_source(d->train);
    PAR_TRY(world_agree(w, w->rank == 0 ? check_fits(r) : PAR_OK));
    if (w->rank == 0)
        printf("verify: %lld steps in fp32, this layout against one rank; gradients of step 1, relative "
               "difference:\n",
               (long long)r->set.verify_steps);
    PAR_TRY(par_verify(w->transport, &r->params, &source, (int)r->set.verify_steps, (float)r->set.lr, 0,
                       print_tensor, NULL, &result));
    if (w->rank == 0) print_result(&result);
    if (!result.passed) return find_axis(r, w, &source);
    if (w->rank == 0) printf("verify: the layout agrees with one rank\n");
    return PAR_OK;
}
