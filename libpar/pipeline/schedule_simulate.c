/*
 * The simulation: when every action of a checked schedule runs if computations take given times.
 * SEND and RECV take no time of their stage; a message leaves when its SEND ran and its RECV is
 * posted, and arrives `transfer` later. As in the executor, a FORWARD waits until its slot's
 * earlier SEND is through, a BACKWARD until the gradient of the last but one is. Of a backward that
 * is cut the first part takes all the time, of a forward the last one, since a list does not say
 * how many sublayers there are, and collectives take none. A stage is simulated until it needs a
 * time that another stage has not found yet.
 */
#include "schedule.h"

#include <math.h>
#include <stdlib.h>

/* Times at which a SEND ran and its RECV was posted; NAN: not known yet. */
typedef struct {
    double sent, posted;
} message;

typedef struct {
    const par_schedule *list;
    par__interval *times;
    int at;
    bool queued, in_backward; /* of one that is cut, the first part ran */
    double clock;
    message *in[2]; /* [n] from the next stage, from the one before (p = 2: all from the next) */
    int n_sent[2], n_posted[2];
    const message **reads[2];   /* [v * m] what a FORWARD, BACKWARD waits for; NULL: nothing */
    const message **slot_send;  /* [v * m] a slot's last SEND */
    const message *outgoing[2]; /* the last two gradients; [0] the older */
} sim_stage;

typedef struct {
    int p, m;
    double duration[2], transfer; /* of a chunk: forward, backward */
    sim_stage *stages;
    int *queue, n_queue;
} simulation;

static void wake(simulation *sim, int stage) {
    if (sim->stages[stage].queued) return;
    sim->stages[stage].queued = true;
    sim->queue[sim->n_queue++] = stage;
}

/* Raise *t to the time of arrival; false if it is not known yet. */
static bool wait_for(const simulation *sim, const message *msg, double *t) {
    if (!msg) return true;
    if (isnan(msg->sent) || isnan(msg->posted)) return false;
    *t = fmax(*t, fmax(msg->sent, msg->posted) + sim->transfer);
    return true;
}

static bool do_compute(simulation *sim, sim_stage *s, const par_action *a) {
    bool backward = a->act == PAR_BACKWARD;
    double begin = s->clock;
    s->times[s->at] = (par__interval){s->clock, s->clock};
    if (!backward && a->sublayer > 0) return true;
    if (s->in_backward) {
        s->in_backward = a->sublayer > 0;
        return true;
    }
    if (!wait_for(sim, s->reads[backward][a->chunk * sim->m + a->micro], &begin)) return false;
    if (!wait_for(sim, backward ? s->outgoing[0] : s->slot_send[a->chunk * sim->m + a->slot],
                  &begin))
        return false;
    s->clock = begin + sim->duration[backward];
    s->times[s->at] = (par__interval){begin, s->clock};
    s->in_backward = backward && a->sublayer > 0;
    return true;
}

static int side(const simulation *sim, int stage, int peer) {
    return peer == (stage + 1) % sim->p ? 0 : 1;
}

static void do_send(simulation *sim, int stage, const par_action *a) {
    sim_stage *s = &sim->stages[stage], *peer = &sim->stages[a->peer];
    int which = side(sim, a->peer, stage);
    message *msg = &peer->in[which][peer->n_sent[which]++];
    msg->sent = s->clock;
    if (a->grad) {
        s->outgoing[0] = s->outgoing[1];
        s->outgoing[1] = msg;
    } else {
        s->slot_send[a->chunk * sim->m + a->slot] = msg;
    }
    wake(sim, a->peer);
}

static bool step(simulation *sim, int stage) {
    sim_stage *s = &sim->stages[stage];
    const par_action *a = &s->list->actions[s->at];
    if (a->act == PAR_FORWARD || a->act == PAR_BACKWARD) return do_compute(sim, s, a);
    s->times[s->at] = (par__interval){s->clock, s->clock};
    if (a->act == PAR_SEND) do_send(sim, stage, a);
    if (a->act == PAR_RECV) {
        int which = side(sim, stage, a->peer);
        message *msg = &s->in[which][s->n_posted[which]++];
        msg->posted = s->clock;
        s->reads[a->grad][a->chunk * sim->m + a->micro] = msg;
        wake(sim, a->peer);
    }
    return true;
}

static bool stage_init(sim_stage *s, const par_schedule *list, par__interval *times) {
    size_t n = (size_t)list->v * (size_t)list->m;
    s->list = list;
    s->times = times;
    s->slot_send = calloc(n, sizeof *s->slot_send);
    for (int k = 0; k < 2; k++) {
        s->reads[k] = calloc(n, sizeof *s->reads[k]);
        s->in[k] = malloc(((size_t)list->n + 1) * sizeof *s->in[k]);
        if (!s->reads[k] || !s->in[k]) return false;
        for (int i = 0; i <= list->n; i++) s->in[k][i] = (message){NAN, NAN};
    }
    return s->slot_send != NULL;
}

static bool init(simulation *sim, par_schedule *const *schedules, par__interval *times) {
    sim->stages = calloc((size_t)sim->p, sizeof *sim->stages);
    sim->queue = malloc((size_t)sim->p * sizeof *sim->queue);
    if (!sim->stages || !sim->queue) return false;
    for (int s = 0; s < sim->p; s++) {
        if (!stage_init(&sim->stages[s], schedules[s], times)) return false;
        times += schedules[s]->n;
    }
    return true;
}

static void simulation_free(simulation *sim) {
    for (int s = 0; sim->stages && s < sim->p; s++) {
        for (int k = 0; k < 2; k++) {
            free(sim->stages[s].in[k]);
            free(sim->stages[s].reads[k]);
        }
        free(sim->stages[s].slot_send);
    }
    free(sim->stages);
    free(sim->queue);
}

par_status par__schedule_times(par_schedule *const *schedules, int p, const par_schedule_cost *cost,
                               par__interval *times) {
    PAR_REQUIRE(cost && times);
    const double costs[] = {cost->forward, cost->backward, cost->transfer};
    static const char *const names[] = {"forward", "backward", "transfer"};
    for (int i = 0; i < 3; i++)
        if (!isfinite(costs[i]) || costs[i] < 0 || (i == 0 && costs[i] == 0))
            PAR_FAIL(PAR_ERR_ARG, "schedule: cost of %s %g; legal: finite, %s 0", names[i],
                     costs[i], i == 0 ? "above" : "at least");
    simulation sim = {
        .p = p,
        .m = schedules[0]->m,
        .duration = {cost->forward / schedules[0]->v, cost->backward / schedules[0]->v},
        .transfer = cost->transfer};
    bool made = init(&sim, schedules, times);
    for (int s = p - 1; made && s >= 0; s--) wake(&sim, s);
    while (made && sim.n_queue > 0) {
        int stage = sim.queue[--sim.n_queue];
        sim_stage *s = &sim.stages[stage];
        s->queued = false;
        while (s->at < s->list->n && step(&sim, stage)) s->at++;
    }
    simulation_free(&sim);
    if (!made) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to simulate %d stages", p);
    return PAR_OK;
}

size_t par__schedule_n_actions(par_schedule *const *schedules, int p) {
    size_t n = 0;
    for (int s = 0; s < p; s++) n += (size_t)schedules[s]->n;
    return n;
}

par_status par_schedule_times(par_schedule *const *schedules, int p, const par_schedule_cost *cost,
                              par_schedule_time *times) {
    PAR_REQUIRE(cost && times);
    PAR_TRY(par_schedule_check(schedules, p));
    return par__schedule_times(schedules, p, cost, times);
}

par_status par_schedule_simulate(par_schedule *const *schedules, int p,
                                 const par_schedule_cost *cost, double *total, double *bubble) {
    par_status st = PAR_OK;
    PAR_REQUIRE(total && bubble && cost);
    PAR_TRY(par_schedule_check(schedules, p));
    size_t n = par__schedule_n_actions(schedules, p);
    par__interval *times = malloc(n * sizeof *times);
    if (!times) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to simulate %zu actions", n);
    PAR_TRY_GOTO(par__schedule_times(schedules, p, cost, times), out_times);
    double end = 0;
    for (size_t i = 0; i < n; i++) end = fmax(end, times[i].end);
    /* Every stage computes for the same time, so all have the same bubble. */
    bool training = schedules[0]->kind != PAR_SCHEDULE_FORWARD_ONLY;
    double busy = schedules[0]->m * (cost->forward + (training ? cost->backward : 0));
    *total = end;
    *bubble = (end - busy) / busy;
out_times:
    free(times);
    return st;
}
