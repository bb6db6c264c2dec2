/* What is known of a run before it runs: the memory of its stages, the coordinates of its ranks,
 * the schedule of its pipeline. Printed on rank 0. */
#include <stdio.h>
#include <stdlib.h>

#include "train_llm.h"

/* Blocks on a stage; the first module of a model is the embedding, the last one the head. */
static int layers_of_stage(const llm_run *r, int stage) {
    const par_model *model = r->model;
    int pp = r->params.layout.size[PAR_PP], parts = pp * r->params.chunks, layers = 0;
    int first[257] = {0};
    if (!r->params.modules_per_part)
        (void)par_partition(model->work, model->n_modules, parts, first);
    for (int i = 0; i < parts && r->params.modules_per_part; i++)
        first[i + 1] = first[i] + r->params.modules_per_part[i];
    for (int part = stage; part < parts; part += pp)
        layers += first[part + 1] - first[part] - (part == 0) - (part == parts - 1);
    return layers;
}

static double report_ledger(const par_memory *memory, const llm_run *r, int stage, int rank) {
    const par_ledger_line *lines;
    int n = par_memory_ledger(memory, &lines), layers = layers_of_stage(r, stage);
    double total = 0;
    char text[32];
    for (int i = 0; i < n; i++) total += (double)lines[i].nbytes;
    printf("stage %d (rank %d): %s, %d layer%s\n", stage, rank, llm_report_bytes(total, text),
           layers, llm_report_s(layers));
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++) {
        double nbytes = (double)par_memory_nbytes(memory, (par_memory_kind)kind);
        if (nbytes == 0) continue;
        printf("  %-28s %14s\n", par_memory_kind_name((par_memory_kind)kind),
               llm_report_bytes(nbytes, text));
        for (int i = 0; i < n; i++)
            if ((int)lines[i].kind == kind && lines[i].nbytes)
                printf("    %-26s %14s\n", lines[i].what,
                       llm_report_bytes((double)lines[i].nbytes, text));
    }
    return total;
}

/* What a sample takes beside the trainer: in the run it may fail alone, so here, too. */
static double report_sample(const llm_run *r, const par_generator_params *sample, int world_size,
                            int rank) {
    const par_transport_params transport_params = llm_world_transport_params(&r->set);
    par_memory *memory = NULL;
    double total = 0;
    char text[32];
    if (sample->sequences == 0) return 0;
    if (par_generator_plan(&r->params, &transport_params, world_size, rank, sample, &memory) !=
        PAR_OK) {
        printf("  the sample is not in the plan: %s\n", par_error());
        return 0;
    }
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        total += (double)par_memory_nbytes(memory, (par_memory_kind)kind);
    printf("  %-28s %14s\n", "sample, beside these", llm_report_bytes(total, text));
    par_memory_destroy(&memory);
    return total;
}

par_status llm_report_plan(const llm_run *r, int world_size, const par_generator_params *sample) {
    const par_transport_params transport_params = llm_world_transport_params(&r->set);
    llm_report_head(r, world_size);
    if (r->set.device == LLM_CUDA) {
        /* the one that was asked, or a recorded one */
        const par_backend *backend = NULL;
        PAR_TRY(par_backend_get(r->params.backend, &backend));
        printf("device: %s\n", par_backend_device(backend));
    }
    printf("plan: memory of the first rank of every stage\n");
    int n_stages = r->params.layout.size[PAR_PP], largest = 0;
    double most = 0, sum = 0;
    char one[32], all[32];
    for (int stage = 0; stage < n_stages; stage++) {
        int coordinate[PAR_AXIS_COUNT] = {0};
        par_memory *memory = NULL;
        coordinate[PAR_PP] = stage;
        int rank = par_layout_rank(&r->params.layout, coordinate);
        PAR_TRY(par_trainer_plan(&r->params, &transport_params, world_size, rank, &memory));
        double nbytes = report_ledger(memory, r, stage, rank);
        double of_sample = report_sample(r, sample, world_size, rank);
        if (nbytes + of_sample > most) most = nbytes + of_sample, largest = stage;
        sum += nbytes + of_sample / r->params.layout.size[PAR_DP]; /* the first of dp draws */
        par_memory_destroy(&memory);
    }
    llm_report_bytes(most, one);
    if (world_size == 1)
        printf("plan: the rank takes %s\n", one);
    else
        printf("plan: the largest stage is %d, with %s per rank; %d ranks together take %s\n",
               largest, one, world_size, llm_report_bytes(sum * world_size / n_stages, all));
    return PAR_OK;
}

void llm_report_mesh(const llm_run *r, int world_size) {
    const par_layout *layout = &r->params.layout;
    printf(" rank   tp   cp   dp   pp\n");
    for (int rank = 0; rank < world_size; rank++) {
        int c[PAR_AXIS_COUNT];
        par_layout_coordinates(layout, rank, c);
        printf("%5d %4d %4d %4d %4d\n", rank, c[PAR_TP], c[PAR_CP], c[PAR_DP], c[PAR_PP]);
    }
}

/* All of it in a file, the width of a screen on one. */
par_status llm_report_gantt(const llm_run *r) {
    enum { SCREEN = 160, WHOLE = 16384 };
    const par_schedule_cost cost = {.forward = 1, .backward = 2, .transfer = 0};
    int p = r->params.layout.size[PAR_PP], width = llm_report_on_terminal() ? SCREEN : WHOLE;
    size_t nbytes = (size_t)(p + 1) * (size_t)(width + 64);
    char *text = malloc(nbytes);
    par_schedule **stages = calloc((size_t)p, sizeof *stages);
    par_schedule_params params = {
        .kind = r->params.schedule, .p = p, .m = r->n_micro, .v = r->params.chunks};
    par_status st =
        text && stages ? PAR_OK
                       : par_error_set(PAR_ERR_MEMORY, "no host memory for a text of %d stages", p);
    for (; st == PAR_OK && params.stage < p; params.stage++)
        st = par_schedule_create(&params, &stages[params.stage]);
    if (st == PAR_OK) st = par_schedule_check(stages, p);
    if (st == PAR_OK) st = par_schedule_gantt(stages, p, &cost, width, text, nbytes);
    if (st == PAR_OK) printf("schedule (backward as two forwards):\n%s\n", text);
    for (int stage = 0; stages && stage < p; stage++) par_schedule_destroy(&stages[stage]);
    free(stages);
    free(text);
    return st;
}
