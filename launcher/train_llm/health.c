/*
 * Whether ranks do what is expected of them: figures of the nodes before a training
 * (--check-nodes), times of all ranks during it (--health-every), and replicas that are still equal
 * (--check-replicas).
 */
#include <stdio.h>
#include <string.h>

#include "observe.h"

static struct {
    par_health *health;
    par_replicas *replicas;
    int64_t rounds;
} kept;

/* Ranks that take turns on cores are slow by turns, too: nobody is named. */
static void print_figures(void *user, const char *line) {
    int *left_out = user;
    if (strncmp(line, "warning: ", 9) == 0)
        ++*left_out;
    else
        llm_report_line(NULL, line);
}

par_status llm_health_nodes(const llm_run *r, const llm_world *w) {
    int left_out = 0;
    const par_backend *backend = NULL;
    par_node_check *check = NULL;
    if (!r->set.check_nodes) return PAR_OK;
    PAR_TRY(par_comm_agree(w->comm, par_backend_get(r->params.backend, &backend)));
    PAR_TRY(par_nodes_check(w->transport, backend, r->params.dtype, &check));
    if (check && llm_report_takes_turns(r, w))
        par_node_check_print(check, print_figures, &left_out);
    else if (check)
        par_node_check_print(check, llm_report_line, NULL);
    if (left_out)
        printf("note: nodes: %d of the figures behind these %s far from them; ranks that share "
               "cores are slow by turns, so none is named\n",
               left_out, left_out == 1 ? "lies" : "lie");
    par_node_check_destroy(&check);
    return PAR_OK;
}

par_status llm_health_begin(const llm_run *r, llm_world *w, par_trainer *trainer) {
    if (r->set.health_every && w->size > 1)
        PAR_TRY(par_health_create(w->comm, &r->params.layout, 0, 0, &kept.health));
    if (r->set.check_replicas) PAR_TRY(par_replicas_create(trainer, &kept.replicas));
    return PAR_OK;
}

par_status llm_health_step(const llm_run *r, const llm_world *w, llm_observer *o, int64_t step,
                           const par_step_times *times) {
    par_health_round round;
    if (!kept.health) return PAR_OK;
    /* Where the host computes, forward and backward hold the waits of tensor parallelism. */
    double inside = times->exposed[PAR_TP] + times->exposed[PAR_CP];
    double wait = times->wait_pipeline + times->wait_dp + inside;
    double work = times->forward + times->backward - inside;
    const double seconds[PAR_HEALTH_TIMES] = {[PAR_HEALTH_STEP] = times->total,
                                              [PAR_HEALTH_FORWARD] = times->forward,
                                              [PAR_HEALTH_BACKWARD] = times->backward,
                                              [PAR_HEALTH_WAIT] = wait,
                                              [PAR_HEALTH_WORK] = work > 0 ? work : 0};
    par_health_add(kept.health, seconds);
    if (step % r->set.health_every != 0) return PAR_OK;
    PAR_TRY(par_health_gather(kept.health, step, &round));
    kept.rounds++;
    if (w->rank != 0) return PAR_OK;
    bool tells = round.news && !llm_report_takes_turns(r, w);
    if (tells) llm_report_progress_clear();
    for (int i = 0; tells && i < round.n_slow && i < PAR_HEALTH_SLOW; i++) {
        const par_health_slow *s = &round.slow[i];
        printf(
            "warning: rank %d on %s is slow: its forward and backward take %.1f times the median "
            "of its stage, in %d rounds of %lld steps in a row\n",
            s->rank, par_health_host(kept.health, s->rank), s->factor, s->rounds,
            (long long)round.n_steps);
    }
    llm_observer_health(o, &round, kept.health);
    return PAR_OK;
}

bool llm_health_checks(const llm_run *r, int64_t step) {
    return r->set.check_replicas && step % r->set.check_replicas == 0;
}

par_status llm_health_replicas(int64_t step) {
    par_replicas_result found;
    char ranks[256];
    PAR_TRY(par_replicas_check(kept.replicas, &found));
    if (found.n_ranks == 0) return PAR_OK;
    size_t n = 0;
    for (int i = 0; i < found.n_ranks && i < PAR_REPLICAS_RANKS && n < sizeof ranks; i++)
        n += (size_t)snprintf(ranks + n, sizeof ranks - n, "%s%d", i ? ", " : "", found.ranks[i]);
    if (found.n_ranks > PAR_REPLICAS_RANKS && n < sizeof ranks)
        snprintf(ranks + n, sizeof ranks - n, " and %d more", found.n_ranks - PAR_REPLICAS_RANKS);
    if (found.majority)
        return par_error_set(
            PAR_ERR_NUMERIC,
            "step %lld: replicas differ: rank %s has other weights than most copies, first of %s "
            "(%lld of %lld copies); its memory, its device or its code computes wrong. Nothing is "
            "saved of this step; --show-mesh shows where the rank is",
            (long long)step, ranks, found.param, (long long)found.n_differ,
            (long long)found.n_copies);
    return par_error_set(
        PAR_ERR_NUMERIC,
        "step %lld: replicas differ: ranks %s have not the same weights, first in %s (%lld of %lld "
        "copies); there is no majority, so it cannot be told which of them is right. Nothing is "
        "saved of this step; --show-mesh shows where the ranks are",
        (long long)step, ranks, found.param, (long long)found.n_differ, (long long)found.n_copies);
}

void llm_health_print(void) {
    if (kept.health && kept.rounds) par_health_print(kept.health, llm_report_line, NULL);
}

void llm_health_end(void) {
    par_replicas_destroy(&kept.replicas);
    par_health_destroy(&kept.health);
}
