/*
 * Verification of a layout. Rank 0 trains alone beside the world; after step 1 it broadcasts one
 * logical tensor at a time, every rank compares the runs that it contributes, and the sums of
 * squares are added in rank order.
 */
#include "par/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const par_tag tag = {"verify", -1, -1, -1};

typedef struct {
    par_trainer *trainer;   /* of the layout */
    par_transport *self;    /* rank 0 */
    par_trainer *reference; /* rank 0 */
    par_comm *world;
    int rank;
    float *tensor;    /* one logical tensor of the reference */
    double *sums;     /* [2 · world size] */
    int64_t n_tensor; /* the largest */
} verifier;

/* What rank 0 says of the tensor that follows. */
typedef struct {
    char name[96];
    int64_t n; /* elements */
} header;

/* Sums of squares of one tensor: its own runs, and what they should be. */
typedef struct {
    const header *head;
    const float *values;
    double difference2, reference2;
} comparison;

/* Element of the local array -> element of the logical tensor; -1: padding. */
static int64_t global_index(const par_param *p, int64_t local) {
    int64_t i = local / p->local[1], j = local % p->local[1];
    if (i >= p->extent[0] || j >= p->extent[1]) return -1;
    return (p->offset[0] + i) * p->global[1] + p->offset[1] + j;
}

static par_status compare_run(void *user, const par_param *p, int64_t first, int64_t n,
                              const float *values) {
    comparison *c = user;
    if (strcmp(p->name, c->head->name) != 0) return PAR_OK;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = global_index(p, first + i);
        if (at < 0) continue;
        double difference = (double)values[i] - c->values[at];
        c->difference2 += difference * difference;
        c->reference2 += (double)c->values[at] * c->values[at];
    }
    return PAR_OK;
}

typedef struct {
    const char *name;
    float *out;
} collection;

static par_status collect_run(void *user, const par_param *p, int64_t first, int64_t n,
                              const float *values) {
    collection *c = user;
    if (strcmp(p->name, c->name) != 0) return PAR_OK;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = global_index(p, first + i);
        if (at >= 0) c->out[at] = values[i];
    }
    return PAR_OK;
}

static par_status compare_tensor(verifier *v, const header *head, double floor2, double *relative) {
    comparison c = {.head = head, .values = v->tensor};
    collection own = {head->name, v->tensor};
    par_status st = PAR_OK;
    if (v->rank == 0) st = par_trainer_visit(v->reference, PAR_STATE_GRADIENT, collect_run, &own);
    PAR_TRY(par_comm_agree(v->world, st));
    PAR_TRY(par_comm_broadcast(v->world, v->tensor, head->n, PAR_F32, 0, tag, NULL, NULL));
    st = par_trainer_visit(v->trainer, PAR_STATE_GRADIENT, compare_run, &c);
    PAR_TRY(par_comm_agree(v->world, st));
    double mine[2] = {c.difference2, c.reference2}, difference2 = 0, reference2 = 0;
    PAR_TRY(par_comm_all_gather(v->world, mine, v->sums, sizeof mine, PAR_U8, tag, NULL, NULL));
    for (int r = 0; r < par_comm_size(v->world); r++) {
        difference2 += v->sums[2 * r];
        reference2 += v->sums[2 * r + 1];
    }
    *relative = sqrt(difference2 / fmax(fmax(reference2, floor2), 1e-300));
    return PAR_OK;
}

/* Not `<=`: a NaN is outside. */
static bool inside(double relative, double bound) {
    return relative <= bound;
}

static par_status compare_gradients(verifier *v, double norm, const par_verify_report *report,
                                    par_verify_result *result) {
    int n = v->rank == 0 ? par_trainer_n_params(v->reference) : 0;
    PAR_TRY(par_comm_broadcast(v->world, &n, sizeof n, PAR_U8, 0, tag, NULL, NULL));
    for (int i = 0; i < n; i++) {
        header head = {.name = ""};
        double relative;
        if (v->rank == 0) {
            const par_param *p = par_trainer_param(v->reference, i);
            memcpy(head.name, p->name, sizeof head.name);
            head.n = p->global[0] * p->global[1];
        }
        PAR_TRY(par_comm_broadcast(v->world, &head, sizeof head, PAR_U8, 0, tag, NULL, NULL));
        PAR_TRY(compare_tensor(v, &head, 1e-12 * norm * norm, &relative));
        bool passed = inside(relative, result->bound);
        if (!passed && !result->first_bad[0])
            memcpy(result->first_bad, head.name, sizeof head.name);
        if (i == 0 || !(relative <= result->gradient)) {
            result->gradient = relative;
            memcpy(result->worst, head.name, sizeof head.name);
        }
        if (v->rank == 0 && report->tensor)
            report->tensor(report->user, head.name, relative, passed);
    }
    return PAR_OK;
}

/* Keep the larger of *worst and the relative difference; a NaN stays. */
static void widen(double *worst, double a, double b) {
    double relative = fabs(a - b) / fmax(fabs(b), 1e-300);
    if (!(relative <= *worst) && !isnan(*worst)) *worst = relative;
}

/* Each step on both; rank 0's figures of the reference reach all. */
static par_status run(verifier *v, const par_source *source, int steps, float lr,
                      const par_verify_report *report, par_verify_result *result) {
    if (report->begin) PAR_TRY(report->begin(report->user, v->trainer));
    for (int i = 0; i < steps; i++) {
        par_vote vote, reference = {0};
        par_status st = PAR_OK;
        PAR_TRY(par_trainer_step(v->trainer, source, lr, false, &vote));
        if (v->rank == 0) st = par_trainer_step(v->reference, source, lr, false, &reference);
        PAR_TRY(par_comm_agree(v->world, st));
        double figures[2] = {reference.loss, reference.grad_norm};
        PAR_TRY(par_comm_broadcast(v->world, figures, sizeof figures, PAR_U8, 0, tag, NULL, NULL));
        widen(&result->loss, vote.loss, figures[0]);
        widen(&result->norm, vote.grad_norm, figures[1]);
        if (i == 0) PAR_TRY(compare_gradients(v, figures[1], report, result));
    }
    result->passed = !result->first_bad[0] && inside(result->loss, result->bound) &&
                     inside(result->norm, result->bound);
    return PAR_OK;
}

/* The same training on one rank. */
static par_status create_reference(verifier *v, const par_trainer_params *params) {
    par_trainer_params alone = *params;
    alone.layout = (par_layout){.size = {1, 1, 1, 1}};
    alone.schedule = PAR_SCHEDULE_1F1B;
    alone.chunks = 1;
    alone.modules_per_part = NULL;
    alone.recompute = PAR_RECOMPUTE_NONE;
    alone.zero = 0;
    PAR_TRY(par_transport_create_self(NULL, &v->self));
    return par_trainer_create(v->self, &alone, &v->reference);
}

static par_status create(verifier *v, par_transport *transport, const par_trainer_params *params) {
    par_status st = PAR_OK;
    PAR_TRY(par_trainer_create(transport, params, &v->trainer));
    v->world = par_trainer_mesh(v->trainer)->world;
    v->rank = par_transport_rank(transport);
    if (v->rank == 0) st = create_reference(v, params);
    PAR_TRY(par_comm_agree(v->world, st));
    for (int i = 0; v->rank == 0 && i < par_trainer_n_params(v->reference); i++) {
        const par_param *p = par_trainer_param(v->reference, i);
        int64_t n = p->global[0] * p->global[1];
        if (n > v->n_tensor) v->n_tensor = n;
    }
    PAR_TRY(
        par_comm_broadcast(v->world, &v->n_tensor, sizeof v->n_tensor, PAR_U8, 0, tag, NULL, NULL));
    v->tensor = calloc((size_t)v->n_tensor + 1, sizeof *v->tensor);
    v->sums = calloc(2 * (size_t)par_comm_size(v->world), sizeof *v->sums);
    if (!v->tensor || !v->sums)
        st = par_error_set(PAR_ERR_MEMORY, "no memory for a tensor of %lld elements",
                           (long long)v->n_tensor);
    return par_comm_agree(v->world, st);
}

par_status par_verify(par_transport *transport, const par_trainer_params *params,
                      const par_source *source, int steps, float lr, double bound,
                      const par_verify_report *report, par_verify_result *result) {
    static const par_verify_report silent;
    verifier v = {0};
    PAR_REQUIRE(transport && params && source && result && steps > 0 && bound >= 0);
    *result = (par_verify_result){.bound = bound > 0 ? bound : 1e-5};
    par_trainer_params single = *params;
    single.dtype = single.reduce_dtype = PAR_F32;
    par_status st = create(&v, transport, &single);
    if (st == PAR_OK) st = run(&v, source, steps, lr, report ? report : &silent, result);
    par_trainer_destroy(&v.reference);
    par_transport_destroy(&v.self);
    par_trainer_destroy(&v.trainer);
    free(v.tensor);
    free(v.sums);
    return st;
}
