/* Ranks and layouts of par's commands, see world.h. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if PAR_TOOL_MPI
#include "par/mpi.h"
#endif

/* The innermost launcher first: mpirun in a Slurm job starts its daemons through srun. */
const char *par_world_launched(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (int i = 0; i < 3; i++)
        if (getenv(names[i])) return getenv(names[i]);
    return NULL;
}

par_status par_world_begin(par_world *w) {
    const par_transport_params params = {0};
    w->launched = par_world_launched() != NULL;
    w->size = 1;
    w->cores = par_threads(); /* of this process alone, as it knows of no peers yet */
#if PAR_TOOL_MPI
    int provided;
    if (w->launched) {
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
            return par_error_set(PAR_ERR_TRANSPORT, "MPI cannot be started");
        PAR_TRY(par_transport_create_mpi(MPI_COMM_WORLD, &params, &w->transport));
    }
#endif
    if (!w->transport) PAR_TRY(par_transport_create_self(&params, &w->transport));
    w->size = par_transport_size(w->transport);
    w->rank = par_transport_rank(w->transport);
    return PAR_OK;
}

int par_world_end(par_world *w, int code) {
    fflush(NULL);
    par_transport_destroy(&w->transport);
#if PAR_TOOL_MPI
    int is_up;
    MPI_Initialized(&is_up);
    if (is_up) MPI_Finalize();
#endif
    return code;
}

void par_world_layout(const char *text, par_layout *out, par_problems *problems) {
    *out = (par_layout){.size = {1, 1, 1, 1}};
    for (int n; text && *text; text += n + (text[n] == ',')) {
        int axis = 0, name = (int)strcspn(text, "=,");
        char *end = NULL;
        n = (int)strcspn(text, ",");
        while (axis < PAR_AXIS_COUNT && (name != 2 || strncmp(text, par_axis_name(axis), 2) != 0))
            axis++;
        long value = name < n ? strtol(text + name + 1, &end, 10) : 0;
        if (axis == PAR_AXIS_COUNT || end != text + n || value < 1 || value > 1048576)
            par_problem(problems,
                        "--parallel: %.*s: legal: tp=N, dp=N and pp=N with commas between, N from "
                        "1 to 1048576",
                        n, text);
        else
            out->size[axis] = (int)value;
    }
}

int64_t par_world_ranks(const par_layout *layout) {
    int64_t ranks = 1;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (__builtin_mul_overflow(ranks, (int64_t)layout->size[i], &ranks)) return INT64_MAX;
    return ranks;
}
