/*
 * Whether a training fits into the memory of its nodes, before it takes any: a process that takes
 * more than its cgroup allows is killed without a word.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "train_llm.h"

static const double GiB = 1 << 30;

typedef struct {
    uint64_t host;        /* hash of its name */
    double needs, memory; /* bytes of this rank; that its node has left */
    double limit;         /* of its cgroups; 0: none */
} rank_memory;

/* Of a plan for the host; on other devices the host's part is small. */
static par_status look(const llm_run *r, const llm_world *w, rank_memory *out) {
    const par_transport_params transport_params = llm_world_transport_params(&r->set);
    par_machine machine;
    par_memory *plan = NULL;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    par_machine_look(&machine);
    *out = (rank_memory){.host = par_hash_name(host),
                         .memory = (double)machine.memory,
                         .limit = (double)machine.limit};
    if (r->set.device == LLM_CUDA) return PAR_OK;
    PAR_TRY(par_trainer_plan(&r->params, &transport_params, w->size, w->rank, &plan));
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        out->needs += (double)par_memory_nbytes(plan, (par_memory_kind)kind);
    par_memory_destroy(&plan);
    return PAR_OK;
}

/* The node of rank i, unless an earlier rank was of it. */
static void warn_of_node(const rank_memory *all, int n, int i) {
    double needs = 0;
    int ranks = 0;
    for (int k = 0; k < n; k++) {
        if (all[k].host != all[i].host) continue;
        if (k < i) return;
        needs += all[k].needs;
        ranks++;
    }
    if (all[i].memory <= 0 || needs <= all[i].memory) return;
    printf("warning: the %d rank%s of rank %d's node take %.2f GiB, and %.2f can be taken there",
           ranks, llm_report_s(ranks), i, needs / GiB, all[i].memory / GiB);
    if (all[i].limit > 0) printf(" (the cgroup's limit is %.2f)", all[i].limit / GiB);
    printf(": they may be killed; --dry-run shows what takes how much\n");
}

par_status llm_limits_warn(const llm_run *r, const llm_world *w) {
    static const par_tag tag = {"memory", -1, -1, -1};
    rank_memory own = {0}, *all = calloc((size_t)w->size, sizeof *all);
    par_status st =
        all ? look(r, w, &own)
            : par_error_set(PAR_ERR_MEMORY, "no host memory for a list of %d ranks", w->size);
    st = par_comm_agree(w->comm, st);
    if (st == PAR_OK)
        st = par_comm_all_gather(w->comm, &own, all, sizeof own, PAR_U8, tag, NULL, NULL);
    for (int i = 0; st == PAR_OK && w->rank == 0 && i < w->size; i++) warn_of_node(all, w->size, i);
    free(all);
    return st;
}

void llm_limits_print(void) {
    par_machine machine;
    par_machine_look(&machine);
    printf("here: %d core%s and %.2f GiB of memory can be taken", machine.cores,
           llm_report_s(machine.cores), (double)machine.memory / GiB);
    if (machine.quota || machine.limit) printf(", within the limits of its cgroups");
    printf("\n");
}
