/*
 * The vote against a model of the loss scaler and the step's counters that is written from the
 * comments of par/vote.h: it counts runs of steps, where the kernels keep counters that they
 * refill. The state is compared with ref's byte by byte after every vote.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "bench.h"

enum { RANKS = 130 }; /* more than two tiles of the cuda kernel */

static void vote_on(const par_backend *backend, const par_vote_call *call) {
    bench b = {.backend = backend};
    bench_vote(&b, call);
}

static bool same_double(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

typedef struct {
    par_vote_rules rules;
    par_vote_state state, ref; /* the subject's, and ref's of the same ballots */
} voter;

static par_ballot ballots[RANKS];

static par_vote_rules rules_of(double constant) {
    return (par_vote_rules){.scaler = {.constant = constant,
                                       .growth = 2,
                                       .backoff = 0.5,
                                       .min = 1,
                                       .max = 64,
                                       .interval = 3,
                                       .hysteresis = 2,
                                       .max_skips = 3},
                            .unit = 512,
                            .beta1 = 0.9,
                            .beta2 = 0.999,
                            .batch = 24};
}

static voter begin(par_vote_rules rules, double scale) {
    voter v = {.rules = rules};
    v.state.power1 = v.state.power2 = 1;
    v.state.scaler.scale = scale;
    v.state.scaler.hysteresis = rules.scaler.hysteresis;
    v.ref = v.state;
    return v;
}

/* Clean ballots of n ranks, each with 2 k + 1 targets, losses and norms of several magnitudes. */
static void clean(int64_t n, uint64_t seed) {
    for (int64_t r = 0; r < n; r++) {
        double noise = (double)harness_noise(seed, (uint64_t)r);
        ballots[r] = (par_ballot){.norm2 = exp(8 * noise), .loss_sum = 3000 + 1000 * noise};
        ballots[r].n_targets = (double)(1001 + 2 * r);
        ballots[r].lr = r == 0 ? 0.001 * (double)(1 + seed % 7) : 99;
        ballots[r].first_bad = -1;
    }
}

/* NaN has many bit patterns, and devices make different ones. */
static void check_same(const par_vote_state *subject, const par_vote_state *ref) {
    par_vote_state s = *subject;
    if (isnan(s.outcome.loss) && isnan(ref->outcome.loss)) s.outcome.loss = ref->outcome.loss;
    const unsigned char *a = (const unsigned char *)&s, *b = (const unsigned char *)ref;
    for (size_t i = 0; i < sizeof s; i++)
        CHECK(a[i] == b[i], "byte %zu of the state of update %lld is 0x%02x, ref's is 0x%02x", i,
              (long long)ref->updates, a[i], b[i]);
}

static void cast(voter *v, int64_t n) {
    const par_backend *ref = NULL;
    par_ballot before[RANKS];
    memcpy(before, ballots, sizeof before);
    CHECK_OK(par_backend_get("ref", &ref));
    vote_on(bench_subject, &(par_vote_call){n, ballots, v->rules, &v->state});
    vote_on(ref, &(par_vote_call){n, ballots, v->rules, &v->ref});
    CHECK(memcmp(before, ballots, sizeof before) == 0, "the vote changed a ballot");
    check_same(&v->state, &v->ref);
}

/* The model: how many steps, updates, clean steps and overflows there were, and in which runs. */
typedef struct {
    double scale;
    int steps, updates, skipped, clean_run, overflow_run, floor_run;
    bool halted, floor;
} model;

static void model_step(model *m, const par_vote_rules *r, bool overflow) {
    bool dynamic = r->scaler.constant == 0, at_min = m->scale <= r->scaler.min;
    m->steps++;
    m->skipped += overflow;
    m->updates += !overflow;
    m->floor = false;
    m->floor_run = overflow && at_min ? m->floor_run + 1 : 0;
    m->overflow_run = overflow ? m->overflow_run + 1 : 0;
    m->clean_run = overflow ? 0 : m->clean_run + 1;
    if (!dynamic) {
        bool stops = r->nonfinite == PAR_NONFINITE_STOP;
        m->floor = !stops && m->overflow_run >= r->scaler.max_skips;
        m->halted = stops ? overflow : m->floor;
        return;
    }
    if (overflow && m->overflow_run >= r->scaler.hysteresis)
        m->scale = fmax(m->scale * r->scaler.backoff, r->scaler.min);
    if (!overflow && m->clean_run % r->scaler.interval == 0)
        m->scale = fmin(m->scale * r->scaler.growth, r->scaler.max);
    m->floor = m->halted = m->floor_run >= r->scaler.max_skips;
}

/*
 * With u = 2^-53, a power of t products is off by t u of itself and pow by 2 u, so the corrections
 * differ by (t + 2) u / (1 - beta^t). For beta = 0.999 and t <= 100 the denominator is at least t
 * (1 - beta) / 1.06: below 4e-13, the most at t = 1.
 */
static void check_step(const voter *v, const model *m, bool overflow, double used) {
    const par_step *s = &v->state.step;
    double targets = v->state.outcome.n_targets, scale = v->rules.unit / targets / used;
    CHECK(s->skip == overflow, "step %d: skip is %d", m->steps, s->skip);
    CHECK(s->first_sample == 24 * m->steps, "step %d begins with sample %lld", m->steps,
          (long long)s->first_sample);
    CHECK(s->loss_seed == (float)(m->scale / 512), "step %d: seed %g with scale %g", m->steps,
          (double)s->loss_seed, m->scale);
    CHECK(s->lr == (float)ballots[0].lr, "step %d: lr %g", m->steps, (double)s->lr);
    CHECK(v->state.updates == m->updates && s->t == m->updates,
          "step %d: %lld updates, t %lld, not %d", m->steps, (long long)v->state.updates,
          (long long)s->t, m->updates);
    double c1 = 1 - pow(0.9, m->updates), c2 = 1 - pow(0.999, m->updates);
    if (m->updates > 0)
        CHECK(fabs(s->correction1 / c1 - 1) <= 1e-12 && fabs(s->correction2 / c2 - 1) <= 1e-12,
              "update %d: corrections %.17g, %.17g, not %.17g, %.17g", m->updates, s->correction1,
              s->correction2, c1, c2);
    double clip = v->rules.clip, norm = v->state.outcome.grad_norm;
    if (clip > 0 && norm > clip) scale *= clip / norm; /* the rule adds 1e-6 to a norm above 1 */
    if (!overflow)
        CHECK(fabs((double)s->grad_scale / scale - 1) <= 3e-6, "step %d: grad_scale %.9g, not %.9g",
              m->steps, (double)s->grad_scale, scale);
}

static void check_scaler(const voter *v, const model *m) {
    const par_scaler *s = &v->state.scaler;
    CHECK(s->scale == m->scale && s->skipped == m->skipped,
          "step %d: scale %g, skipped %lld, not %g, %d", m->steps, s->scale, (long long)s->skipped,
          m->scale, m->skipped);
    CHECK(v->state.halted == m->halted && v->state.outcome.floor == m->floor,
          "step %d: halted %d, floor %d, not %d, %d", m->steps, v->state.halted,
          v->state.outcome.floor, m->halted, m->floor);
}

static void check_outcome(const voter *v, int64_t n, bool overflow, double used) {
    const par_outcome *o = &v->state.outcome;
    double norm2 = 0, loss = 0, targets = 0, bad = 0;
    for (int64_t r = 0; r < n; r++) {
        norm2 += ballots[r].norm2;
        loss += ballots[r].loss_sum;
        targets += ballots[r].n_targets;
        bad += ballots[r].n_nonfinite;
    }
    double gradient = 512 / (targets * used);
    CHECK(same_double(o->loss, loss / targets) && o->n_targets == targets && o->n_nonfinite == bad,
          "loss %.17g of %g targets, %g bad, not %.17g of %g, %g", o->loss, o->n_targets,
          o->n_nonfinite, loss / targets, targets, bad);
    CHECK(fabs(o->gradient_scale / gradient - 1) <= 4 * DBL_EPSILON &&
              fabs(o->grad_norm / (gradient * sqrt(norm2)) - 1) <= 8 * DBL_EPSILON,
          "gradient_scale %.17g, norm %.17g, not %.17g, %.17g", o->gradient_scale, o->grad_norm,
          gradient, gradient * sqrt(norm2));
    CHECK(o->loss_scale == used && o->skipped == overflow && o->status == 0 && o->stop == 0,
          "the step used scale %g, not %g; skipped %d, status %d, stop %d", o->loss_scale, used,
          o->skipped, o->status, o->stop);
}

/* Steps with overflows about as often as not, in runs. The last bad rank sees more than the
 * first. */
static void play(par_vote_rules rules, double scale, int64_t n, uint64_t seed, int steps) {
    voter v = begin(rules, scale);
    model m = {.scale = scale};
    for (int step = 0; step < steps && !m.halted && !harness_failed(); step++) {
        bool overflow = harness_noise(seed, (uint64_t)(step / 2)) > 0.1f && step % 5 != 4;
        double used = m.scale;
        int32_t bad = (int32_t)((step * 7) % n), more = (int32_t)n - 1;
        clean(n, seed + (uint64_t)step);
        if (overflow) {
            ballots[more].n_nonfinite += 3, ballots[more].first_bad = 11,
                                            ballots[more].n_first_bad = 3;
            ballots[bad].n_nonfinite = 2, ballots[bad].first_bad = 5, ballots[bad].n_first_bad = 1;
        }
        cast(&v, n);
        model_step(&m, &rules, overflow);
        check_step(&v, &m, overflow, used);
        check_scaler(&v, &m);
        check_outcome(&v, n, overflow, used);
        const par_outcome *o = &v.state.outcome;
        CHECK(o->bad_rank == (overflow ? bad : -1) && o->first_bad == (overflow ? 5 : -1) &&
                  o->n_first_bad == (overflow ? 1 : 0),
              "step %d: %d bad elements of parameter %d on rank %d", step, o->n_first_bad,
              o->first_bad, o->bad_rank);
    }
}

static void test_vote(void) {
    static const int64_t ranks[] = {1, 3, 64, 65, RANKS};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 3; i++) {
        par_vote_rules rules = rules_of(0);
        rules.scaler.hysteresis = 1 + i % 3;
        rules.clip = i & 1 ? 2 : 0;
        play(rules, i % 4 == 0 ? 4 : 32, ranks[i % 5], (uint64_t)(100 * i), 60);
    }
    /* a constant scale: overflows are skipped until there are max_skips in a row, or the first one
     * halts */
    par_vote_rules rules = rules_of(128);
    rules.nonfinite = PAR_NONFINITE_SKIP;
    play(rules, 128, 3, 7, 100);
    rules.scaler.max_skips = 100;
    play(rules, 128, 3, 7, 100);
    rules.nonfinite = PAR_NONFINITE_STOP;
    play(rules, 128, 3, 7, 100);
}

/* Grows by 2 every third clean step, up to its maximum; falls at the second overflow in a row, and
 * then at each; three steps skipped at the minimum end the training. */
static void test_vote_scaler(void) {
    static const struct {
        char step;
        double scale;
        int halted;
    } script[] = {{'c', 16, 0}, {'c', 16, 0}, {'c', 32, 0}, {'c', 32, 0}, {'x', 32, 0},
                  {'c', 32, 0}, {'c', 32, 0}, {'c', 64, 0}, {'c', 64, 0}, {'c', 64, 0},
                  {'c', 64, 0}, {'x', 64, 0}, {'x', 32, 0}, {'x', 16, 0}, {'c', 16, 0},
                  {'x', 16, 0}, {'x', 8, 0},  {'x', 4, 0},  {'x', 2, 0},  {'x', 1, 0},
                  {'x', 1, 0},  {'x', 1, 0},  {'c', 1, 0},  {'x', 1, 0},  {'x', 1, 0},
                  {'x', 1, 1}};
    if (!bench_ready()) return;
    voter v = begin(rules_of(0), 16);
    for (int i = 0; i < HARNESS_COUNT(script) && !harness_failed(); i++) {
        clean(2, (uint64_t)i);
        ballots[1].n_nonfinite = script[i].step == 'x';
        cast(&v, 2);
        CHECK(v.state.scaler.scale == script[i].scale && v.state.halted == script[i].halted &&
                  v.state.outcome.floor == script[i].halted &&
                  v.state.step.skip == (script[i].step == 'x'),
              "step %d (%c): scale %g, halted %d, floor %d, skip %d", i, script[i].step,
              v.state.scaler.scale, v.state.halted, v.state.outcome.floor, v.state.step.skip);
    }
    CHECK(v.state.scaler.skipped == 14 && v.state.updates == 12, "%lld skipped, %lld updates",
          (long long)v.state.scaler.skipped, (long long)v.state.updates);
}

/* A vote of a halted state changes its flag to skip, and nothing else. */
static void check_frozen(voter *v) {
    par_vote_state before = v->state;
    CHECK(before.halted && before.step.skip, "halted is %d, skip %d", before.halted,
          before.step.skip);
    before.step.skip = v->state.step.skip = v->ref.step.skip = 0;
    clean(2, 40);
    cast(v, 2);
    before.step.skip = 1;
    CHECK(memcmp(&before, &v->state, sizeof before) == 0, "a vote changed a state that was halted");
}

static void test_vote_halts(void) {
    if (!bench_ready()) return;
    voter v = begin(rules_of(0), 16);
    clean(2, 1);
    cast(&v, 2);
    par_vote_state before = v.state;
    clean(3, 2);
    ballots[0].lr = 0.5;
    ballots[1].status = 2, ballots[2].status = 5, ballots[1].stop = 1;
    ballots[2].n_nonfinite = 1, ballots[2].first_bad = 6, ballots[2].n_first_bad = 1;
    cast(&v, 3);
    const par_outcome *o = &v.state.outcome;
    CHECK(o->status == 5 && o->stop == 1 && o->skipped && o->bad_rank == 2 && o->first_bad == 6 &&
              !o->floor,
          "status %d, stop %d, skipped %d, bad rank %d, parameter %d", o->status, o->stop,
          o->skipped, o->bad_rank, o->first_bad);
    CHECK(memcmp(&before.scaler, &v.state.scaler, sizeof before.scaler) == 0 &&
              v.state.step.first_sample == before.step.first_sample && v.state.updates == 1 &&
              v.state.step.t == 1,
          "a failed step went on to sample %lld, update %lld", (long long)v.state.step.first_sample,
          (long long)v.state.updates);
    check_frozen(&v);
    v = begin(rules_of(1), 1); /* PAR_NONFINITE_STOP */
    clean(2, 1);
    ballots[0].loss_sum = NAN;
    ballots[0].n_nonfinite = 1;
    cast(&v, 2);
    CHECK(isnan(v.state.outcome.loss) && v.state.outcome.bad_rank == 0 && v.state.updates == 0,
          "a NaN loss became %g, of rank %d", v.state.outcome.loss, v.state.outcome.bad_rank);
    check_frozen(&v);
}

/* Stop and bubble: the largest idle share; ranks without a measurement do not count. Clipping to
 * the letter: sums of squares 9 + 16 = 25 in units of 1 / (targets · scale) = 1 / 512. */
static void test_vote_details(void) {
    if (!bench_ready()) return;
    par_vote_rules rules = rules_of(1);
    rules.clip = 2.5;
    voter v = begin(rules, 1);
    ballots[0] = (par_ballot){.norm2 = 9, .loss_sum = 512, .n_targets = 256, .busy = 4, .total = 5};
    ballots[1] =
        (par_ballot){.norm2 = 16, .loss_sum = 1024, .n_targets = 256, .busy = 4, .total = 7};
    ballots[2] = (par_ballot){.total = 100};
    ballots[2].stop = 1;
    ballots[0].lr = 0.125, ballots[1].lr = 3;
    cast(&v, 3);
    const par_outcome *o = &v.state.outcome;
    CHECK(o->loss == 3 && o->grad_norm == 5 && o->gradient_scale == 1 && o->bubble == 0.75 &&
              o->stop == 1,
          "loss %g, norm %g, scale %g, bubble %g, stop %d", o->loss, o->grad_norm,
          o->gradient_scale, o->bubble, o->stop);
    CHECK(!v.state.halted && v.state.step.skip == 0 && v.state.step.lr == 0.125f,
          "halted %d, skip %d, lr %g", v.state.halted, v.state.step.skip, (double)v.state.step.lr);
    CHECK(v.state.step.grad_scale == (float)(2.5 / (5 + 1e-6)),
          "clipping 5 to 2.5 is a factor of %.9g", (double)v.state.step.grad_scale);
    /* below the bound nothing is scaled; without targets there is no gradient */
    ballots[0].norm2 = 1, ballots[1].norm2 = 0;
    cast(&v, 3);
    CHECK(v.state.step.grad_scale == 1 && o->grad_norm == 1, "a norm of %g is scaled by %.9g",
          o->grad_norm, (double)v.state.step.grad_scale);
    ballots[0].n_targets = ballots[1].n_targets = 0;
    cast(&v, 3);
    CHECK(o->loss == 0 && o->grad_norm == 0 && v.state.step.grad_scale == 0 &&
              v.state.step.skip == 0,
          "no targets: loss %g, norm %g, scale %g, skip %d", o->loss, o->grad_norm,
          (double)v.state.step.grad_scale, v.state.step.skip);
}

const harness_case vote_cases[] = {
    {.name = "vote", .run = test_vote},
    {.name = "vote_scaler", .run = test_vote_scaler},
    {.name = "vote_halts", .run = test_vote_halts},
    {.name = "vote_details", .run = test_vote_details},
};
const int n_vote_cases = HARNESS_COUNT(vote_cases);
