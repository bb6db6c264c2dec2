/*
 * See machine.h. A token is the number of what it stands for: the activations behind part k of
 * micro-batch i are k · m + i, the gradient in front of part k likewise; 0 to p v m - 1. Everything
 * is plain arrays, messages are moved when both ends are there.
 */
#include "machine.h"

#include <string.h>

enum {
    MAX_MICRO = 16,
    MAX_CHUNKS = 4,
    MAX_BUCKETS = 32,
    N_SUBLAYERS = 4, /* of a chunk */
    MAX_MESSAGES = 2048,
    NOTHING = -1,
    PENDING = -2
};

typedef struct {
    int x[MAX_CHUNKS][MAX_MICRO], y[MAX_CHUNKS][MAX_MICRO]; /* a slot's input and output */
    int dy[MAX_CHUNKS][MAX_MICRO];                          /* received gradients */
    int dx[2], dx_slot[2], n_dx; /* made gradients, in turn, and by whom */
    /* [forward, backward] token of what is under way, or NOTHING; its next sublayer */
    int open[2], next[2];
    int forwards[MAX_CHUNKS][MAX_MICRO], backwards[MAX_CHUNKS][MAX_MICRO];
    int gathers[MAX_BUCKETS], reduces[MAX_BUCKETS];
    int at;
} machine_stage;

/* RECVs posted on the way from one stage to another: where the token goes, and which one the reader
 * was promised. */
typedef struct {
    int *to[MAX_MESSAGES], promised[MAX_MESSAGES];
    int n, taken;
} channel;

typedef struct {
    const lists *l;
    int p, m, v;
    bool training;
    machine_stage stages[LISTS_MAX_STAGES];
    channel channels[LISTS_MAX_STAGES][LISTS_MAX_STAGES];
} machine;

enum { RAN, WAITS, BROKE };

static int token(const machine *k, int part, int micro) {
    return part * k->m + micro;
}

/* A sublayer's forward reads the chunk's buckets that begin with it or before. */
static bool read_buckets(const machine *k, const machine_stage *s, const par_schedule *list,
                         int chunk, int sublayer) {
    for (int b = list->first_bucket[chunk]; b < list->first_bucket[chunk + 1]; b++)
        if (list->bucket_sublayer[b] <= sublayer && !s->gathers[b]) return false;
    for (int b = 0; b < list->n_last_buckets; b++)
        if (!s->gathers[list->first_bucket[k->v] + b]) return false;
    return true;
}

static int run_forward(machine *k, int stage, const par_action *a) {
    machine_stage *s = &k->stages[stage];
    int part = a->chunk * k->p + stage, *x = &s->x[a->chunk][a->slot];
    int end = a->sublayer > 0 ? a->sublayer : N_SUBLAYERS;
    int input = token(k, part > 0 ? part - 1 : k->p * k->v, a->micro);
    if (s->open[1] != NOTHING) return BROKE; /* what lies between its sublayers would be spoiled */
    if (*x == PENDING) return WAITS;
    if (s->open[0] == NOTHING) {
        if (part == 0 && *x != NOTHING) return BROKE;
        if (part == 0) *x = input;
        s->open[0] = token(k, part, a->micro);
        s->next[0] = 0;
    }
    if (s->open[0] != token(k, part, a->micro) || *x != input || end <= s->next[0]) return BROKE;
    for (; s->next[0] < end; s->next[0]++)
        if (!read_buckets(k, s, k->l->stages[stage], a->chunk, s->next[0])) return BROKE;
    if (end < N_SUBLAYERS) return RAN;
    s->open[0] = NOTHING;
    s->y[a->chunk][a->slot] = token(k, part, a->micro);
    s->forwards[a->chunk][a->micro]++;
    if (!k->training && part == k->p * k->v - 1) *x = s->y[a->chunk][a->slot] = NOTHING;
    return RAN;
}

static int read_gradient(machine *k, int stage, const par_action *a) {
    for (int i = 0; i < MAX_MICRO; i++) {
        int *dy = &k->stages[stage].dy[a->chunk][i];
        if (*dy != token(k, a->chunk * k->p + stage + 1, a->micro)) continue;
        *dy = NOTHING;
        return RAN;
    }
    return WAITS;
}

/* A sublayer's backward writes the chunk's first bucket that is not complete before it. */
static bool write_bucket(const machine_stage *s, const par_schedule *list, int chunk,
                         int sublayer) {
    for (int b = list->first_bucket[chunk]; b < list->first_bucket[chunk + 1]; b++)
        if (list->bucket_sublayer[b] <= sublayer) return !s->reduces[b];
    return true;
}

static int run_backward(machine *k, int stage, const par_action *a) {
    machine_stage *s = &k->stages[stage];
    int part = a->chunk * k->p + stage, last = k->p * k->v - 1;
    int *x = &s->x[a->chunk][a->slot], *y = &s->y[a->chunk][a->slot];
    if (*x != token(k, part == 0 ? last + 1 : part - 1, a->micro) || *y != token(k, part, a->micro))
        return BROKE;
    if (s->open[0] != NOTHING) return BROKE;
    if (s->open[1] == NOTHING) {
        if (part < last && read_gradient(k, stage, a) == WAITS) return WAITS;
        if (part > 0 && s->dx[s->n_dx % 2] != NOTHING) return BROKE;
        s->open[1] = token(k, part, a->micro);
        s->next[1] = N_SUBLAYERS - 1;
    }
    if (s->open[1] != token(k, part, a->micro) || a->sublayer > s->next[1]) return BROKE;
    for (; s->next[1] >= a->sublayer; s->next[1]--)
        if (!write_bucket(s, k->l->stages[stage], a->chunk, s->next[1])) return BROKE;
    if (s->next[1] >= 0) return RAN;
    s->open[1] = NOTHING;
    if (part > 0) {
        s->dx_slot[s->n_dx % 2] = a->slot;
        s->dx[s->n_dx++ % 2] = token(k, part, a->micro);
    }
    *x = *y = NOTHING;
    s->backwards[a->chunk][a->micro]++;
    return RAN;
}

static int run_recv(machine *k, int stage, const par_action *a) {
    machine_stage *s = &k->stages[stage];
    channel *c = &k->channels[a->peer][stage];
    int *to = a->grad ? &s->dy[a->chunk][a->slot] : &s->x[a->chunk][a->slot];
    if (*to != NOTHING || c->n == MAX_MESSAGES) return BROKE;
    *to = PENDING;
    c->promised[c->n] = token(k, a->chunk * k->p + stage + (a->grad ? 1 : -1), a->micro);
    c->to[c->n++] = to;
    return RAN;
}

static int *made_gradient(machine_stage *s, int wanted, int slot) {
    for (int i = 0; i < 2; i++)
        if (s->dx[i] == wanted && s->dx_slot[i] == slot) return &s->dx[i];
    return NULL;
}

static int run_send(machine *k, int stage, const par_action *a) {
    machine_stage *s = &k->stages[stage];
    channel *c = &k->channels[stage][a->peer];
    int wanted = token(k, a->chunk * k->p + stage, a->micro);
    int *from = a->grad ? made_gradient(s, wanted, a->slot) : &s->y[a->chunk][a->slot];
    if (!from || *from != wanted) return BROKE;
    if (c->taken == c->n) return WAITS;
    if (c->promised[c->taken] != wanted) return BROKE;
    *c->to[c->taken++] = *from;
    if (a->grad) *from = NOTHING;
    if (!k->training) s->x[a->chunk][a->slot] = s->y[a->chunk][a->slot] = NOTHING;
    return RAN;
}

/* Last buckets join stages: the first and the last actions of a list, in rising order. */
static bool last_in_place(const machine *k, int stage, const par_action *a) {
    const par_schedule *list = k->l->stages[stage];
    int i = a->bucket - list->first_bucket[k->v], at = k->stages[stage].at;
    if (i < 0) return true;
    return at == (a->act == PAR_GATHER ? i : list->n - list->n_last_buckets + i);
}

static int run_bucket(machine *k, int stage, const par_action *a) {
    machine_stage *s = &k->stages[stage];
    if (!last_in_place(k, stage, a)) return BROKE;
    (a->act == PAR_GATHER ? s->gathers : s->reduces)[a->bucket]++;
    return RAN;
}

static int run_action(machine *k, int stage) {
    const par_action *a = &k->l->stages[stage]->actions[k->stages[stage].at];
    switch (a->act) {
    case PAR_FORWARD: return run_forward(k, stage, a);
    case PAR_BACKWARD: return run_backward(k, stage, a);
    case PAR_SEND: return run_send(k, stage, a);
    case PAR_RECV: return run_recv(k, stage, a);
    default: return run_bucket(k, stage, a);
    }
}

static bool complete(const machine *k, int stage) {
    const machine_stage *s = &k->stages[stage];
    const par_schedule *list = k->l->stages[stage];
    for (int c = 0; c < k->v; c++)
        for (int i = 0; i < k->m; i++)
            if (s->forwards[c][i] != 1 || s->backwards[c][i] != k->training) return false;
    for (int b = list->first_bucket[0]; b < list->first_bucket[k->v] + list->n_last_buckets; b++)
        if (s->gathers[b] != 1 || s->reduces[b] != k->training) return false;
    for (int peer = 0; peer < k->p; peer++)
        if (k->channels[peer][stage].taken < k->channels[peer][stage].n) return false;
    return s->at == list->n && s->open[0] == NOTHING && s->open[1] == NOTHING;
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Stages in random order, one action each time, until none can go on. */
static bool run(machine *k, uint64_t seed) {
    for (int waiting = 0; waiting < 64 * k->p;) {
        int stage = (int)(next_random(&seed) % (uint64_t)k->p), result = WAITS;
        if (k->stages[stage].at < k->l->stages[stage]->n) result = run_action(k, stage);
        if (result == BROKE) return false;
        waiting = result == WAITS ? waiting + 1 : 0;
        if (result == RAN) k->stages[stage].at++;
    }
    for (int s = 0; s < k->p; s++)
        if (!complete(k, s)) return false;
    return true;
}

bool machine_runs(const lists *l, uint64_t seed) {
    static machine k;
    const par_schedule *first = l->stages[0];
    memset(&k, 0, sizeof k);
    k.l = l;
    k.p = l->p;
    k.m = first->m;
    k.v = first->v;
    k.training = first->kind != PAR_SCHEDULE_FORWARD_ONLY;
    for (int s = 0; s < k.p; s++) {
        k.stages[s].open[0] = k.stages[s].open[1] = NOTHING;
        memset(k.stages[s].x, NOTHING, sizeof k.stages[s].x);
        memset(k.stages[s].y, NOTHING, sizeof k.stages[s].y);
        memset(k.stages[s].dy, NOTHING, sizeof k.stages[s].dy);
        memset(k.stages[s].dx, NOTHING, sizeof k.stages[s].dx);
    }
    return run(&k, seed);
}
