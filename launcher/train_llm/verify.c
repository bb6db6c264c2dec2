/*
 * --verify-parallel: the user's configuration in fp32 against one rank, tensor by tensor. If it
 * differs, each axis is tried alone on the first ranks, which tells the axis that causes it.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"
#if TRAIN_LLM_MPI
#include "par/mpi.h"
#endif

static void print_tensor(void *user, const char *name, double relative, bool passed) {
    (void)user;
    printf("  %-44s %.1e%s\n", name, relative, passed ? "" : "  OUTSIDE");
}

/* Bytes that one rank needs, of par_trainer_plan. */
static par_status planned_nbytes(const par_trainer_params *params,
                                 const par_transport_params *transport_params, int world_size,
                                 int rank, size_t *nbytes) {
    par_memory *plan = NULL;
    *nbytes = 0;
    PAR_TRY(par_trainer_plan(params, transport_params, world_size, rank, &plan));
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        *nbytes += par_memory_nbytes(plan, (par_memory_kind)kind);
    par_memory_destroy(&plan);
    return PAR_OK;
}

/* The layout's shares of the first n ranks, each with room for the largest tensor, and all of it on
 * one rank. */
static par_status add_shares(const par_trainer_params *layout,
                             const par_transport_params *transport_params, int world_size, int n,
                             size_t tensor_nbytes, size_t *nbytes) {
    par_trainer_params alone = *layout;
    alone.layout = (par_layout){.size = {1, 1, 1, 1}};
    alone.schedule = PAR_SCHEDULE_1F1B;
    alone.chunks = 1;
    alone.modules_per_part = NULL;
    alone.recompute = PAR_RECOMPUTE_NONE;
    alone.zero = 0;
    PAR_TRY(planned_nbytes(&alone, NULL, 1, 0, nbytes));
    for (int rank = 0; rank < n; rank++) {
        size_t share;
        PAR_TRY(planned_nbytes(layout, transport_params, world_size, rank, &share));
        *nbytes += share + tensor_nbytes;
    }
    return PAR_OK;
}

/* Bytes that rank 0's node needs with the model cut to `layers`. mpirun fills a node before the
 * next: its ranks are the first ones. */
static par_status node_nbytes(const llm_run *r, const llm_world *w, int64_t layers,
                              size_t *nbytes) {
    par_transformer_config config = r->config;
    par_trainer_params params = r->params;
    par_model *model = NULL;
    config.layers = layers;
    if (layers < r->config.layers) params.modules_per_part = NULL;
    PAR_TRY(par_transformer_create(&config, &model));
    params.model = model;
    params.dtype = params.reduce_dtype = PAR_F32;
    int64_t widest =
        config.vocab > config.mlp ? config.vocab : config.mlp; /* rows of the largest tensor */
    const par_transport_params transport_params = llm_world_transport_params(&r->set);
    par_status st = add_shares(&params, &transport_params, w->size, w->local_size,
                               (size_t)widest * (size_t)config.channels * sizeof(float), nbytes);
    par_transformer_destroy(&model);
    return st;
}

/* Refuse what does not fit; a tenth of what is available is left to MPI, oneDNN and others. */
static par_status check_fits(const llm_run *r, const llm_world *w) {
    par_machine machine;
    par_machine_look(&machine);
    size_t needed, room = machine.memory / 10 * 9;
    int64_t fits = 0, too_many = r->config.layers;
    PAR_TRY(node_nbytes(r, w, r->config.layers, &needed));
    if (needed <= room) return PAR_OK;
    double whole = (double)needed;
    while (too_many - fits > 1) { /* too few layers for the layout are not too many */
        int64_t middle = (fits + too_many) / 2;
        *(node_nbytes(r, w, middle, &needed) != PAR_OK || needed <= room ? &fits : &too_many) =
            middle;
    }
    bool none = fits == 0 || node_nbytes(r, w, fits, &needed) != PAR_OK;
    char remedy[128] = "the fewest layers are too much already: use a smaller --micro-batch, "
                       "--tokens or --channels";
    if (!none) snprintf(remedy, sizeof remedy, "use --verify-layers %lld or less", (long long)fits);
    return par_error_set(
        PAR_ERR_MEMORY,
        "--verify-parallel: the layout's %d ranks on this node and one rank with the "
        "whole model need %.1f GiB for %lld layers, %.1f are free: %s",
        w->local_size, whole / (1 << 30), (long long)r->config.layers, (double)room / (1 << 30),
        remedy);
}

static void print_result(const par_verify_result *v) {
    printf("  largest relative differences: gradients %.1e (%s), losses %.1e, gradient norms %.1e; "
           "bound %.1e\n",
           v->gradient, v->worst, v->loss, v->norm, v->bound);
    if (v->first_bad[0]) printf("  first tensor outside the bound: %s\n", v->first_bad);
}

/* One axis alone, on as many ranks as it has; the others wait at the next agreement. */
static par_status verify_axis(const llm_run *r, llm_world *w, const par_source *source,
                              par_axis axis, bool *passed) {
    par_verify_result result = {.passed = true};
    par_status st = PAR_OK;
    *passed = true;
#if TRAIN_LLM_MPI
    int n = r->params.layout.size[axis];
    par_trainer_params params = r->params;
    par_transport *part = NULL;
    MPI_Comm comm;
    params.layout = (par_layout){.size = {1, 1, 1, 1},
                                 .kv_replicas = axis == PAR_TP ? r->params.layout.kv_replicas : 1};
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
            st = par_verify(part, &params, source, (int)r->set.verify_steps, (float)r->set.lr, 0,
                            NULL, &result);
        par_transport_destroy(&part);
        MPI_Comm_free(&comm);
    }
#endif
    PAR_TRY(llm_world_agree(w, st));
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

typedef struct {
    llm_run *run;
    llm_world *world;
} verified;

/* What computes what, as before a training. */
static par_status begin(void *user, const par_trainer *trainer) {
    const verified *v = user;
    PAR_TRY(llm_methods_report(v->run, v->world, trainer));
    v->run->began = true;
    return PAR_OK;
}

par_status llm_verify(llm_run *r, llm_world *w, const llm_data *d) {
    verified v = {r, w};
    const par_verify_report report = {begin, print_tensor, &v};
    par_verify_result result;
    par_source source = d->train;
    PAR_TRY(llm_world_agree(w, w->rank == 0 ? check_fits(r, w) : PAR_OK));
    if (w->rank == 0)
        printf("verify: %lld steps in fp32, this layout against one rank; gradients of step 1, "
               "relative difference:\n",
               (long long)r->set.verify_steps);
    PAR_TRY(par_verify(w->transport, &r->params, &source, (int)r->set.verify_steps,
                       (float)r->set.lr, 0, &report, &result));
    if (w->rank == 0) print_result(&result);
    if (result.passed) {
        if (w->rank == 0) printf("verify: the layout agrees with one rank\n");
        return PAR_OK;
    }
    const char *cause = NULL; /* the first axis that differs alone */
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        bool passed;
        if (r->params.layout.size[axis] == 1) continue;
        PAR_TRY(verify_axis(r, w, &source, (par_axis)axis, &passed));
        if (!passed && !cause) cause = par_axis_name((par_axis)axis);
    }
    return par_error_set(PAR_ERR_NUMERIC, "this layout does not train as one rank does; axis: %s",
                         cause ? cause : "none alone, only together");
}
