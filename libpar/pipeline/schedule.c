/*
 * The generator of schedules: it takes a stage's order of computation (schedule_order.c) and adds
 * messages, slots and collectives. A chunk's last backward is cut where a bucket of gradients is
 * complete, and the REDUCE stands there; its first forward is cut at the same sublayers, where a
 * bucket's weights are read first, and the GATHER stands there. A SEND stands behind the
 * computation that made it. A RECV is posted one computation ahead of its reader (in training even
 * before the SEND in front of that), so that a transfer runs under a computation and SENDs that
 * wait for their RECVs cannot close a circle. The order of a stage's RECVs is the order in which it
 * reads; that this is each peer's order of SENDs is what the checker proves, for channels are FIFO.
 */
#include "schedule.h"

#include <stdlib.h>
#include <string.h>

/* The slots of one chunk; the one that has been free for longest is taken first, so that its SEND
 * had time. */
typedef struct {
    int n, n_free, head;
    int16_t *free; /* ring [m] */
} pool;

typedef struct {
    const par_schedule_params *params;
    par_schedule *out;
    par__compute *order;
    int n_order, n_posted;     /* computations; those whose RECV is posted or that need none */
    int16_t *slot, *grad_slot; /* [v * m] where a (chunk, micro-batch) lies */
    pool slots[PAR_MAX_CHUNKS], grad_slots[PAR_MAX_CHUNKS];
    int n_done[PAR_MAX_CHUNKS][2]; /* forwards and backwards so far */
} generator;

const char *par_schedule_kind_name(par_schedule_kind kind) {
    static const char *const names[] = {"gpipe", "1f1b", "interleaved", "eager-1f1b", "forward"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

double par_schedule_ideal_bubble(par_schedule_kind kind, int p, int m, int v) {
    if (kind != PAR_SCHEDULE_INTERLEAVED && kind != PAR_SCHEDULE_FORWARD_ONLY) v = 1;
    return (double)(p - 1) / ((double)v * m);
}

static void check_bucket_sublayers(const par_schedule_params *s, par_problems *problems) {
    for (int c = 0; s->bucket_sublayer && c < s->v; c++)
        for (int b = s->first_bucket[c]; b < s->first_bucket[c + 1]; b++) {
            int most = b > s->first_bucket[c] ? s->bucket_sublayer[b - 1] : INT16_MAX;
            if (s->bucket_sublayer[b] < 0 || s->bucket_sublayer[b] > most)
                par_problem(
                    problems,
                    "schedule: bucket %d of chunk %d is complete with sublayer %d; legal: 0 "
                    "to %d, that of the bucket before it",
                    b, c, s->bucket_sublayer[b], most);
        }
}

static void check_buckets(const par_schedule_params *s, par_problems *problems) {
    int n = s->n_last_buckets, before = problems->n;
    if (s->n_last_buckets < 0)
        par_problem(problems, "schedule: %d last buckets; legal: 0 or more", s->n_last_buckets);
    if (s->first_bucket) {
        if (s->first_bucket[0] < 0)
            par_problem(problems, "schedule: first bucket %d; legal: 0 or more",
                        s->first_bucket[0]);
        for (int c = 0; c < s->v; c++)
            if (s->first_bucket[c + 1] < s->first_bucket[c])
                par_problem(problems,
                            "schedule: buckets of chunk %d end at %d before they begin at %d", c,
                            s->first_bucket[c + 1], s->first_bucket[c]);
        if (problems->n == before) check_bucket_sublayers(s, problems);
        n = s->first_bucket[s->v] > INT16_MAX - n ? INT16_MAX + 1 : s->first_bucket[s->v] + n;
    }
    if (n > INT16_MAX)
        par_problem(problems, "schedule: too many buckets; legal: up to %d", INT16_MAX);
}

static void check_kind(const par_schedule_params *s, par_problems *problems) {
    bool interleaved = s->kind == PAR_SCHEDULE_INTERLEAVED;
    if ((unsigned)s->kind > PAR_SCHEDULE_FORWARD_ONLY) {
        par_problem(problems,
                    "schedule: kind %d; legal: gpipe, 1f1b, interleaved, eager-1f1b, forward",
                    (int)s->kind);
        return;
    }
    if (s->v > 1 && !interleaved && s->kind != PAR_SCHEDULE_FORWARD_ONLY)
        par_problem(problems, "schedule %s: %d chunks per stage; legal: 1 (more with interleaved)",
                    par_schedule_kind_name(s->kind), s->v);
    if (interleaved && s->p > 0 && s->m % s->p != 0)
        par_problem(
            problems,
            "schedule interleaved: %d micro-batches on %d stages; legal: multiples of %d (%d, %d)",
            s->m, s->p, s->p, s->m < s->p ? s->p : s->m / s->p * s->p,
            s->m < s->p ? 2 * s->p : (s->m / s->p + 1) * s->p);
}

static par_status check_params(const par_schedule_params *s) {
    par_problems problems = {0};
    if (s->p < 1 || s->p > PAR__SCHEDULE_MAX_STAGES)
        par_problem(&problems, "schedule: %d stages; legal: 1 to %d", s->p,
                    PAR__SCHEDULE_MAX_STAGES);
    else if (s->stage < 0 || s->stage >= s->p)
        par_problem(&problems, "schedule: stage %d; legal: 0 to %d", s->stage, s->p - 1);
    if (s->m < 1 || s->m > PAR__SCHEDULE_MAX_MICRO)
        par_problem(&problems, "schedule: %d micro-batches; legal: 1 to %d", s->m,
                    PAR__SCHEDULE_MAX_MICRO);
    if (s->v < 1 || s->v > PAR_MAX_CHUNKS)
        par_problem(&problems, "schedule: %d chunks per stage; legal: 1 to %d", s->v,
                    PAR_MAX_CHUNKS);
    else
        check_buckets(s, &problems);
    check_kind(s, &problems);
    return par_problems_status(&problems, PAR_ERR_LAYOUT);
}

static int16_t pool_take(pool *q, int m) {
    if (q->n_free == 0) return (int16_t)q->n++;
    int16_t slot = q->free[q->head];
    q->head = (q->head + 1) % m;
    q->n_free--;
    return slot;
}

static void pool_give(pool *q, int16_t slot, int m) {
    q->free[(q->head + q->n_free++) % m] = slot;
}

static par_action *emit(generator *g, par_act act) {
    par_action *a = &g->out->actions[g->out->n++];
    *a = (par_action){
        .act = (uint8_t)act, .chunk = -1, .micro = -1, .slot = -1, .peer = -1, .bucket = -1};
    return a;
}

static void emit_about(generator *g, par_act act, const par__compute *c, int slot, int peer) {
    par_action *a = emit(g, act);
    a->grad = c->backward && (act == PAR_SEND || act == PAR_RECV);
    a->chunk = c->chunk;
    a->micro = c->micro;
    a->slot = (int16_t)slot;
    a->peer = (int16_t)peer;
}

static void emit_last_buckets(generator *g, par_act act) {
    int first = g->out->first_bucket[g->params->v], end = first + g->params->n_last_buckets;
    for (int b = first; b < end; b++) emit(g, act)->bucket = (int16_t)b;
}

static int16_t *slot_of(const generator *g, int16_t *slots, const par__compute *c) {
    return &slots[c->chunk * g->params->m + c->micro];
}

/* The stage that makes what c reads (step -1) or reads what c makes (step 1); -1: none, or this
 * stage. */
static int neighbour(const generator *g, const par__compute *c, int step) {
    const par_schedule_params *s = g->params;
    int part = c->chunk * s->p + s->stage + (c->backward ? -step : step);
    return part < 0 || part >= s->p * s->v || s->p == 1 ? -1 : part % s->p;
}

/* Post RECVs up to and including computation `last`, and take the slots that they fill. */
static void post(generator *g, int last) {
    for (; g->n_posted <= last && g->n_posted < g->n_order; g->n_posted++) {
        const par__compute *c = &g->order[g->n_posted];
        int peer = neighbour(g, c, -1), m = g->params->m;
        if (peer < 0) continue;
        int16_t *at = slot_of(g, c->backward ? g->grad_slot : g->slot, c);
        *at = pool_take(c->backward ? &g->grad_slots[c->chunk] : &g->slots[c->chunk], m);
        emit_about(g, PAR_RECV, c, *at, peer);
    }
}

/*
 * The SEND of a computation's result. In training, the RECV of the computation after the next is
 * posted before it: with chunks, all stages may send to the next one in a circle, which only opens
 * if each has room for what comes.
 */
static void send(generator *g, const par__compute *c, int next) {
    int to = neighbour(g, c, 1);
    if (g->params->kind != PAR_SCHEDULE_FORWARD_ONLY) post(g, next + 1);
    if (to >= 0) emit_about(g, PAR_SEND, c, *slot_of(g, g->slot, c), to);
    if (g->params->kind == PAR_SCHEDULE_FORWARD_ONLY) {
        pool_give(&g->slots[c->chunk], *slot_of(g, g->slot, c), g->params->m);
        post(g, next + 1);
    }
}

static void emit_part(generator *g, const par__compute *c, int16_t slot, int16_t sublayer) {
    emit_about(g, c->backward ? PAR_BACKWARD : PAR_FORWARD, c, slot, -1);
    g->out->actions[g->out->n - 1].sublayer = sublayer;
}

/* The first of a chunk's forwards stops before the first sublayer of a bucket, whose GATHER
 * follows, and goes on. Buckets count from the last sublayer to the first. */
static void forward(generator *g, const par__compute *c) {
    const par_schedule *out = g->out;
    int16_t *slot = slot_of(g, g->slot, c), reached = 0;
    int first = out->first_bucket[c->chunk], end = out->first_bucket[c->chunk + 1];
    if (neighbour(g, c, -1) < 0) *slot = pool_take(&g->slots[c->chunk], g->params->m);
    for (int b = end - 1; g->n_done[c->chunk][0] == 0 && b >= first; b--) {
        int16_t sublayer = out->bucket_sublayer[b];
        if (sublayer > reached) emit_part(g, c, *slot, sublayer);
        reached = sublayer;
        emit(g, PAR_GATHER)->bucket = (int16_t)b;
    }
    emit_part(g, c, *slot, 0);
}

/* The last of a chunk's backwards ends where a bucket is complete, is followed by the REDUCE, and
 * goes on. */
static void backward(generator *g, const par__compute *c) {
    int16_t slot = *slot_of(g, g->slot, c), reached = INT16_MAX;
    int m = g->params->m;
    const par_schedule *out = g->out;
    bool last = g->n_done[c->chunk][1] == m - 1;
    for (int b = out->first_bucket[c->chunk]; last && b < out->first_bucket[c->chunk + 1]; b++) {
        int16_t sublayer = out->bucket_sublayer[b];
        if (sublayer < reached) emit_part(g, c, slot, sublayer);
        reached = sublayer;
        emit(g, PAR_REDUCE)->bucket = (int16_t)b;
    }
    if (reached > 0) emit_part(g, c, slot, 0);
    pool_give(&g->slots[c->chunk], slot, m);
    if (neighbour(g, c, -1) >= 0)
        pool_give(&g->grad_slots[c->chunk], *slot_of(g, g->grad_slot, c), m);
}

static void generate(generator *g) {
    par_schedule *out = g->out;
    bool training = out->kind != PAR_SCHEDULE_FORWARD_ONLY;
    par__schedule_order(g->params, g->order);
    /* Forward-only lists free a slot at its SEND, which goes on after the list: at least two slots
     * in turn, so that the executor need not wait for it. One stage alone sends nothing: a second
     * slot would only cost memory. */
    for (int c = 0; !training && out->p > 1 && c < out->v; c++)
        while (g->slots[c].n < 2 && g->slots[c].n < out->m)
            pool_give(&g->slots[c], (int16_t)g->slots[c].n++, out->m);
    emit_last_buckets(g, PAR_GATHER);
    post(g, 1);
    for (int i = 0; i < g->n_order; i++) {
        const par__compute *c = &g->order[i];
        if (c->backward)
            backward(g, c);
        else
            forward(g, c);
        send(g, c, i + 1);
        g->n_done[c->chunk][c->backward]++;
    }
    if (training) emit_last_buckets(g, PAR_REDUCE);
    for (int c = 0; c < out->v; c++) {
        out->n_slots[c] = g->slots[c].n;
        out->n_grad_slots[c] = g->grad_slots[c].n;
    }
}

/* An empty list with room for everything. */
static par_status schedule_new(const par_schedule_params *s, par_schedule **out) {
    int n_chunk_buckets = s->first_bucket ? s->first_bucket[s->v] : 0;
    int n = 3 * par__schedule_n_computes(s);
    par_schedule *schedule = calloc(1, sizeof *schedule);
    if (!schedule) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a schedule");
    *schedule = (par_schedule){.kind = s->kind, .p = s->p, .m = s->m, .v = s->v, .stage = s->stage};
    if (s->first_bucket)
        memcpy(schedule->first_bucket, s->first_bucket,
               ((size_t)s->v + 1) * sizeof *s->first_bucket);
    schedule->n_last_buckets = s->n_last_buckets;
    n += 4 * n_chunk_buckets + 2 * s->n_last_buckets; /* GATHER, REDUCE, and a cut for each */
    schedule->bucket_sublayer = calloc((size_t)n_chunk_buckets + 1, sizeof(int16_t));
    schedule->actions = malloc((size_t)n * sizeof *schedule->actions);
    if (schedule->bucket_sublayer && s->bucket_sublayer)
        memcpy(schedule->bucket_sublayer, s->bucket_sublayer,
               (size_t)n_chunk_buckets * sizeof(int16_t));
    if (!schedule->bucket_sublayer || !schedule->actions) {
        par_schedule_destroy(&schedule);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a schedule of %d actions", n);
    }
    *out = schedule;
    return PAR_OK;
}

/* The generator's own tables: two maps and two rings of free slots, each [v * m]. */
static par_status generator_run(generator *g) {
    const par_schedule_params *s = g->params;
    size_t n = (size_t)s->m * (size_t)s->v;
    int16_t *tables = malloc(4 * n * sizeof *tables);
    g->n_order = par__schedule_n_computes(s);
    g->order = malloc((size_t)g->n_order * sizeof *g->order);
    if (tables && g->order) {
        g->slot = tables;
        g->grad_slot = tables + n;
        for (int c = 0; c < s->v; c++) {
            g->slots[c].free = tables + 2 * n + (size_t)c * (size_t)s->m;
            g->grad_slots[c].free = tables + 3 * n + (size_t)c * (size_t)s->m;
        }
        generate(g);
    }
    bool made = tables && g->order;
    free(tables);
    free(g->order);
    if (!made)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory to make a schedule of %d computations",
                 g->n_order);
    return PAR_OK;
}

par_status par_schedule_create(const par_schedule_params *params, par_schedule **out) {
    par_status st = PAR_OK;
    generator g = {.params = params};
    PAR_REQUIRE(params && out);
    PAR_TRY(check_params(params));
    PAR_TRY(schedule_new(params, &g.out));
    PAR_TRY_GOTO(generator_run(&g), out_schedule);
    *out = g.out;
    return PAR_OK;
out_schedule:
    par_schedule_destroy(&g.out);
    return st;
}

void par_schedule_destroy(par_schedule **schedule) {
    if (!schedule || !*schedule) return;
    free((*schedule)->actions);
    free((*schedule)->bucket_sublayer);
    free(*schedule);
    *schedule = NULL;
}
