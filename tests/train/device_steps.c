/*
 * Single steps on a device: what the host does while a step is enqueued, steps that are begun ahead
 * of their votes, skipped and halted ones, times, the plan. device.c says what the device is.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "allocations.h"
#include "device.h"
#include "far.h"
#include "par/verify.h"

enum { AHEAD_STEPS = 12 };

/* A weight that is inf: the same parameter is named with the same count, and the step is
 * skipped. */
static par_status overflow(experiment *e, const par_backend *backend, par_vote votes[2]) {
    static const uint16_t inf = 0x7c00;
    par_trainer_params params = device_on(e, backend);
    par_trainer *t = NULL;
    par_source source = check_source(&e->data);
    uint16_t kept;
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    void *weight = par_trainer_param(t, par_trainer_n_params(t) - 1)->weight;
    par_status st = par_trainer_copy(t, &kept, weight, sizeof kept);
    if (st == PAR_OK) st = par_trainer_copy(t, weight, &inf, sizeof inf);
    if (st == PAR_OK) st = par_trainer_step(t, &source, 1e-2f, false, &votes[0]);
    if (st == PAR_OK) st = par_trainer_copy(t, weight, &kept, sizeof kept);
    if (st == PAR_OK) st = par_trainer_step(t, &source, 1e-2f, false, &votes[1]);
    par_trainer_destroy(&t);
    return st;
}

void device_run_overflow(par_transport *transport) {
    const setting set = {"fp16", true, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0};
    experiment e;
    par_vote cpu[2] = {{0}}, far[2] = {{0}};
    device_begin(&e, transport, &set);
    CHECK_OK(overflow(&e, NULL, cpu));
    CHECK_OK(overflow(&e, far_backend(false), far));
    CHECK(far[0].skipped && far[0].n_nonfinite == cpu[0].n_nonfinite &&
              !strcmp(far[0].where, cpu[0].where),
          "skipped %d, %lld and %lld non-finite, \"%s\" and \"%s\"", far[0].skipped,
          (long long)far[0].n_nonfinite, (long long)cpu[0].n_nonfinite, far[0].where, cpu[0].where);
    CHECK(!far[1].skipped && far[1].loss == cpu[1].loss, "then loss %.17g and %.17g", far[1].loss,
          cpu[1].loss);
    device_end(&e);
}

/* The host's part of a step in steady state: no wait, no question, all copies with pinned memory,
 * no allocation, and with one step begun before it its calls are those of two steps ago in every
 * byte (buffers of micro-batches change in turn), as a recording of them that is played again
 * needs. */
static void check_begin(int step, uint64_t traces[]) {
    far_counts c = far_counts_get();
    CHECK(c.syncs == 0, "step %d: the host waited %lld times", step, (long long)c.syncs);
    CHECK(c.queries == 0, "step %d: the host polled %lld times", step, (long long)c.queries);
    CHECK(c.unpinned == 0, "step %d: %lld copies of %lld with memory that is not pinned", step,
          (long long)c.unpinned, (long long)c.copies);
    /* 8 micro-batches of 6 blocks, and the update: nothing was run in between */
    CHECK(c.most_queued > 1000, "step %d: at most %lld items were queued", step,
          (long long)c.most_queued);
    traces[step] = c.trace;
    if (step == 3 && !c.trace)
        printf("# this compiler leaves padding in arguments: they are not compared\n");
    if (step >= 3)
        CHECK(traces[step] == traces[step - 2], "steps %d and %d enqueue other calls", step - 2,
              step);
}

void device_run_waits(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 1, 1, 1, 0};
    experiment e;
    par_trainer *t = NULL;
    par_vote vote;
    uint64_t traces[8];
    device_begin(&e, transport, &set);
    par_source source = check_source(&e.data);
    par_trainer_params params = device_on(&e, far_backend(false));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    for (int i = 0; i < 8 && t; i++) {
        allocations_count allocated = {0};
        far_counts_reset();
        allocations_begin();
        CHECK_OK(par_trainer_step_begin(t, &source, 1e-3f / (float)(i + 1), false));
        check_begin(i, traces);
        if (i > 0) CHECK_OK(par_trainer_step_end(t, &vote));
        allocations_end(&allocated);
        CHECK(far_counts_get().syncs == 0, "step %d: its end waited for all of the stream", i);
        CHECK(allocated.n[BY_LIBPAR] == 0, "step %d: libpar allocated %lld times", i,
              (long long)allocated.n[BY_LIBPAR]);
    }
    if (t) CHECK_OK(par_trainer_step_end(t, &vote));
    par_trainer_destroy(&t);
    CHECK(far_alive() == 0, "%d blocks, streams or events left", far_alive());
    device_end(&e);
}

/* Weights that overflow in fp16 in some steps and not in others: the loss scale falls from 2^28. */
static par_status run_ahead(experiment *e, const par_backend *backend, int ahead,
                            par_vote votes[]) {
    par_trainer *t = NULL;
    par_source source = check_source(&e->data);
    par_trainer_params params = device_on(e, backend);
    params.scaler.init = 0x1p28;
    params.scaler.hysteresis = 1;
    params.scaler.interval = 3;
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    par_status st = PAR_OK;
    for (int begun = 0, ended = 0; ended < AHEAD_STEPS && st == PAR_OK;) {
        bool more = begun < AHEAD_STEPS && begun - ended <= ahead;
        begun += more;
        if (more)
            st = par_trainer_step_begin(t, &source, 1e-2f / (float)begun, begun == 7);
        else
            st = par_trainer_step_end(t, &votes[ended++]);
    }
    if (st == PAR_OK && par_trainer_consumed(t) != AHEAD_STEPS * e->set->batch)
        st = par_error_set(PAR_ERR_INTERNAL, "%lld samples were consumed",
                           (long long)par_trainer_consumed(t));
    par_trainer_destroy(&t);
    return st;
}

static bool votes_differ(const par_vote *a, const par_vote *b) {
    return a->loss != b->loss || a->grad_norm != b->grad_norm || a->loss_scale != b->loss_scale ||
           a->n_skipped != b->n_skipped || a->skipped != b->skipped || a->stop != b->stop ||
           a->n_nonfinite != b->n_nonfinite || strcmp(a->where, b->where) != 0;
}

/* The vote lies on the device, so a step behind one that overflows is right before the host knows
 * of it. */
void device_run_ahead_of_votes(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 2, 2, 1, 1, 0};
    par_vote cpu[AHEAD_STEPS] = {0}, far[AHEAD_STEPS] = {0};
    experiment e;
    int skipped = 0;
    device_begin(&e, transport, &set);
    CHECK_OK(run_ahead(&e, NULL, 0, cpu));
    CHECK_OK(run_ahead(&e, far_backend(false), 1, far));
    for (int i = 0; i < AHEAD_STEPS; i++) {
        skipped += cpu[i].skipped;
        CHECK(!votes_differ(&cpu[i], &far[i]), "step %d: loss %.17g and %.17g, scale %g and %g", i,
              cpu[i].loss, far[i].loss, cpu[i].loss_scale, far[i].loss_scale);
    }
    CHECK(skipped > 2 && skipped < AHEAD_STEPS - 2, "%d of %d steps were skipped", skipped,
          AHEAD_STEPS);
    CHECK(far[6].stop && !far[5].stop, "the wish to stop is in step 7's vote");
    device_end(&e);
}

/* A step that ends the training, with another begun behind it: that one changes nothing, everything
 * but steps was refused, and afterwards both backends go on alike. */
static par_status halted(experiment *e, const par_backend *backend, par_vote votes[3]) {
    par_trainer *t = NULL;
    double loss;
    par_source source = check_source(&e->data);
    par_trainer_params params = device_on(e, backend);
    params.scaler.constant = 0x1p31; /* overflows, and the policy is to stop */
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    CHECK_OK(par_trainer_step_begin(t, &source, 1e-2f, false));
    CHECK_FAILS(par_trainer_evaluate(t, &source, 0, 8, &loss), PAR_ERR_ARG, "1 steps were begun");
    if (backend) CHECK_OK(par_trainer_step_begin(t, &source, 1e-2f, false));
    if (backend)
        CHECK_FAILS(par_trainer_step_begin(t, &source, 1, false), PAR_ERR_ARG, "2 steps are begun");
    CHECK_FAILS(par_trainer_step_end(t, &votes[0]), PAR_ERR_NUMERIC, "weights are unchanged");
    CHECK_FAILS(par_trainer_step_end(t, &votes[1]), PAR_ERR_ARG, "no step was begun");
    CHECK(par_trainer_consumed(t) == e->set->batch, "%lld samples were consumed",
          (long long)par_trainer_consumed(t));
    CHECK_FAILS(par_trainer_step(t, &source, 1e-2f, false, &votes[1]), PAR_ERR_NUMERIC,
                "unchanged");
    par_status st = par_trainer_evaluate(t, &source, 0, 8, &votes[2].loss);
    par_trainer_destroy(&t);
    return st;
}

void device_run_halted(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 2, 1, 1, 0};
    par_vote cpu[3] = {0}, far[3] = {0};
    experiment e;
    device_begin(&e, transport, &set);
    CHECK_OK(halted(&e, NULL, cpu));
    CHECK_OK(halted(&e, far_backend(false), far));
    for (int i = 0; i < 3; i++)
        CHECK(!votes_differ(&cpu[i], &far[i]), "%d: loss %.17g and %.17g", i, cpu[i].loss,
              far[i].loss);
    device_end(&e);
}

/* By the device's clock a training step's forward is the kernels of as many micro-batches evaluated
 * but for the head's four of each, which are the backward's: norm, logits, statistics, loss. A
 * recomputed forward is the backward's, too, and one rank stands still for nobody. Without dropout,
 * as evaluation has none. */
void device_run_times(par_transport *transport) {
    setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 1, 1, 1, 0};
    par_step_times times[2] = {{0}};
    double forward = 0;
    for (int full = 0; full < 2 && !harness_failed(); full++) {
        experiment e;
        par_trainer *t = NULL;
        par_vote vote;
        double loss;
        set.recompute = full ? PAR_RECOMPUTE_FULL : PAR_RECOMPUTE_NONE;
        device_begin(&e, transport, &set);
        par_transformer_destroy(&e.model);
        e.config.dropout = 0;
        CHECK_OK(par_transformer_create(&e.config, &e.model));
        e.params.model = e.model;
        par_source source = check_source(&e.data);
        par_trainer_params params = device_on(&e, far_backend(false));
        CHECK_OK(par_trainer_create(transport, &params, &t));
        far_counts_reset();
        CHECK_OK(par_trainer_evaluate(t, &source, 0, set.batch, &loss));
        forward = FAR_KERNEL_S * (double)(far_counts_get().kernels - 4 * par_trainer_n_micro(t));
        CHECK_OK(par_trainer_step(t, &source, 1e-3f, false, &vote));
        times[full] = *par_trainer_times(t);
        CHECK(times[full].forward == forward, "forward takes %g kernels, evaluated %g",
              times[full].forward / FAR_KERNEL_S, forward / FAR_KERNEL_S);
        CHECK(times[full].wait_pipeline == 0 && times[full].bubble == 0,
              "one stage waits for %g kernels", times[full].wait_pipeline / FAR_KERNEL_S);
        par_trainer_destroy(&t);
        device_end(&e);
    }
    CHECK(times[0].backward > forward && times[1].backward == times[0].backward + forward,
          "backward takes %g kernels, with a recomputed forward of %g %g",
          times[0].backward / FAR_KERNEL_S, forward / FAR_KERNEL_S,
          times[1].backward / FAR_KERNEL_S);
}

/* What the host reads and writes is the host's; the rest, the device's, and as much as planned,
 * with whatever pieces the transport has: the staging of the staged link and of the pipeline are
 * made of those. */
void device_run_plan(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 2, 1, 1, 0};
    const par_transport_params settings[] = {{.link = PAR_LINK_STAGED},
                                             {.link = PAR_LINK_STAGED, .piece_nbytes = 8192}};
    size_t comm[2] = {0};
    experiment e;
    device_begin(&e, transport, &set);
    for (int i = 0; i < 2; i++) {
        par_transport *own = NULL;
        par_trainer *t = NULL;
        par_memory *plan = NULL;
        par_trainer_params params = device_on(&e, far_backend(false));
        CHECK_OK(par_transport_create_mpi(e.comm, &settings[i], &own));
        CHECK_OK(par_trainer_plan(&params, &settings[i], 2, par_transport_rank(own), &plan));
        CHECK_OK(par_trainer_create(own, &params, &t));
        for (int kind = 0; kind < PAR_MEM_COUNT && t; kind++) {
            size_t planned = par_memory_nbytes(plan, (par_memory_kind)kind);
            size_t taken = par_memory_nbytes(par_trainer_memory(t), (par_memory_kind)kind);
            CHECK(planned == taken, "%s: %zu bytes planned, %zu taken",
                  par_memory_kind_name((par_memory_kind)kind), planned, taken);
        }
        comm[i] = plan ? par_memory_nbytes(plan, PAR_MEM_COMM) : 0;
        par_memory_destroy(&plan);
        par_trainer_destroy(&t);
        par_transport_destroy(&own);
    }
    CHECK(comm[1] < comm[0], "staging does not depend on chunks: %zu and %zu bytes", comm[0],
          comm[1]);
    device_end(&e);
}

void device_run_verify(par_transport *transport) {
    const setting set = {"llama", true, false, PAR_F32, PAR_RECOMPUTE_FULL, 0, 8, 1, 1, 1, 1, 1};
    experiment e;
    par_verify_result result = {0};
    device_begin(&e, transport, &set);
    par_source source = check_source(&e.data);
    par_trainer_params params = device_on(&e, far_backend(false));
    CHECK_OK(par_verify(transport, &params, &source, 2, 1e-2f, 0, NULL, &result));
    CHECK(result.passed && result.gradient < 1e-6, "gradients differ by %g at %s", result.gradient,
          result.worst);
    device_end(&e);
}
