/*
 * One layout against reference results: logits, loss, gradients of the first step, the AdamW
 * trajectory, final parameters and moments, greedy continuations. A difference is norm(ours -
 * theirs) / norm(theirs), a tensor at a time.
 *
 * The bounds are those of docs/verification.md: 1e-5 is 10 to 30 times what fp32 arithmetic in
 * another order gives on these models; final parameters and moments are wider because AdamW divides
 * by sqrt(v), which turns the rounding of gradients near zero into steps of size lr. In bf16 and
 * fp16 the losses of the trajectory alone are compared, with a bound that the reference results
 * bring along. Where fp32's gradients are sent as bf16, these losses must be as near as bf16's, and
 * the gradients of step 1 within 7/512, as tests/train/precision.c derives it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "train/check.h"

typedef struct {
    const oracle_case *c;
    const oracle_options *options;
    oracle_result *result;
    par_model *model;
    par_trainer *trainer;
    check_table table;
    int rank;
    int64_t micro_batch;
    float *ours, *theirs; /* [table.total] on rank 0 */
    uint32_t *logits;     /* bits of [micro_batch, T, V], added over the ranks */
    float *all_logits;    /* [batch, T, V] on rank 0 */
    int32_t *x, *targets; /* [batch, T] */
} oracle_state;

static const struct {
    const char *name;
    double bound;
} kinds[ORACLE_KINDS] = {
    [ORACLE_LOGITS] = {"logits", 1e-5},         [ORACLE_LOSS] = {"loss", 1e-5},
    [ORACLE_GRADIENT] = {"gradients", 1e-5},    [ORACLE_TRAJECTORY_LOSS] = {"trajectory", 1e-5},
    [ORACLE_TRAJECTORY_NORM] = {"norms", 5e-5}, [ORACLE_FINAL] = {"final", 5e-5},
    [ORACLE_MOMENTS] = {"moments", 3e-4},       [ORACLE_GREEDY] = {"greedy", 0},
};

const char *oracle_kind_name(oracle_kind kind) {
    return kinds[kind].name;
}
double oracle_bound(oracle_kind kind) {
    return kinds[kind].bound;
}

/* In 16 bits: what another implementation's losses differ in that precision, largest of all steps,
 * three times. */
static double bound_of(const oracle_state *s, oracle_kind kind) {
    const json_t *all = json_object_get(s->c->reference, "largest_relative_loss_deviation");
    if (s->options->dtype == PAR_F32 && s->options->reduce_dtype == PAR_F32)
        return kinds[kind].bound;
    if (kind == ORACLE_GRADIENT) return 7.0 / 512;
    return 3 * json_number_value(json_object_get(
                   all, s->options->dtype == PAR_F16 ? "fp16_throughout" : "bf16_throughout"));
}

static void compared(oracle_state *s, oracle_kind kind, const char *what, double difference) {
    oracle_result *r = s->result;
    double bound = bound_of(s, kind);
    bool good = difference <= bound; /* false for NaN */
    if (s->rank != 0) return;
    r->compared[kind]++;
    if (!(difference <= r->largest[kind])) r->largest[kind] = difference;
    if (!good && r->failed++ == 0)
        snprintf(r->first_failure, sizeof r->first_failure, "%s %s: %.2e above %.0e",
                 kinds[kind].name, what, difference, bound);
    if (s->options->details)
        printf("%s %-10s %-44s %.2e (bound %.0e)\n", good ? "    " : "BAD ", kinds[kind].name, what,
               difference, bound);
}

static void not_compared(oracle_state *s, oracle_kind kind, const char *file) {
    if (s->rank == 0 && s->options->details)
        printf("     %-10s not compared: there is no %s\n", kinds[kind].name, file);
}

/* Every tensor of a state on rank 0 against a file; key biases, whose moments are rounding, may be
 * left out. */
static par_status compare_state(oracle_state *s, oracle_kind kind, par_state state,
                                const par_safetensors *file, const char *prefix,
                                bool skip_key_bias) {
    PAR_TRY(check_gather(s->trainer, &s->table, state, s->ours));
    if (s->rank != 0) return PAR_OK;
    for (int i = 0; i < s->table.n; i++) {
        const check_entry *e = &s->table.entries[i];
        /* the whole tensor, as a parameter of one rank would be */
        par_param p = {.ndim = e->ndim,
                       .global = {e->global[0], e->global[1]},
                       .extent = {e->global[0], e->global[1]},
                       .local = {e->global[0], e->global[1]},
                       .n_replicas = 1};
        memcpy(p.name, e->name, sizeof p.name);
        PAR_TRY(par_import_read_from(s->c->import, file, prefix, &p, s->theirs + e->first));
    }
    for (int i = 0; i < s->table.n; i++) {
        const check_entry *e = &s->table.entries[i];
        char what[128];
        if (skip_key_bias && check_is_key_bias(e->name)) continue;
        snprintf(what, sizeof what, "%s%s", prefix, e->name);
        compared(s, kind, what, check_entry_relative(&s->table, e, s->ours, s->theirs));
    }
    return PAR_OK;
}

/* Errors of rank 0 alone, such as a missing tensor, become everybody's. */
static par_status agree(oracle_state *s, par_status st) {
    int worst = st;
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, s->table.comm);
    if (st == PAR_OK && worst != PAR_OK)
        return par_error_set((par_status)worst, "another rank failed");
    return st;
}

static par_status take_logits(void *user, const par_module *head, const void *stash) {
    oracle_state *s = user;
    int64_t begin, valid, V = s->c->config.vocab, rows = s->micro_batch * s->c->T;
    par_tensor t;
    if (par_trainer_mesh(s->trainer)->coordinate[PAR_DP] != 0) return PAR_OK;
    PAR_TRY(par_transformer_logits(head, stash, &t, &begin, &valid));
    float *local = malloc(par_tensor_nbytes(&t));
    if (!local) PAR_FAIL(PAR_ERR_MEMORY, "no memory for logits");
    par_status st = par_trainer_copy(s->trainer, local, t.data, par_tensor_nbytes(&t));
    for (int64_t r = 0; st == PAR_OK && r < rows; r++)
        memcpy(s->logits + r * V + begin, local + r * t.shape[1], (size_t)valid * sizeof(float));
    free(local);
    return st;
}

/* Logits of one micro-batch in full on rank 0; x is equal on all ranks. */
static par_status forward(oracle_state *s, const int32_t *x, const int32_t *targets) {
    int64_t n = s->micro_batch * s->c->T * s->c->config.vocab;
    memset(s->logits, 0, (size_t)n * sizeof *s->logits);
    par_status st = agree(s, par_trainer_forward(s->trainer, x, targets, take_logits, s));
    MPI_Reduce(s->rank ? s->logits : MPI_IN_PLACE, s->logits, (int)n, MPI_UINT32_T, MPI_SUM, 0,
               s->table.comm);
    return st;
}

static par_status compare_logits(oracle_state *s) {
    const oracle_case *c = s->c;
    par_tensor theirs;
    int64_t n = c->T * c->config.vocab;
    if (!c->forward) {
        not_compared(s, ORACLE_LOGITS, "forward.safetensors");
        return PAR_OK;
    }
    par_source source = oracle_source(c);
    PAR_TRY(source.read(source.user, 0, c->batch, s->x, s->targets));
    for (int64_t b = 0; b < c->batch; b += s->micro_batch) {
        PAR_TRY(forward(s, s->x + b * c->T, s->targets + b * c->T));
        memcpy(s->all_logits + b * n, s->logits, (size_t)(s->micro_batch * n) * sizeof(float));
    }
    PAR_TRY(par_safetensors_get(c->forward, "logits", &theirs));
    if (par_tensor_n(&theirs) != c->batch * n || theirs.dtype != PAR_F32)
        PAR_FAIL(PAR_ERR_FORMAT, "forward.safetensors: logits must be fp32 [%lld, %lld, %lld]",
                 (long long)c->batch, (long long)c->T, (long long)c->config.vocab);
    double difference = 0, norm = 0;
    for (int64_t i = 0; s->rank == 0 && i < c->batch * n; i++) {
        float t;
        memcpy(&t, (const char *)theirs.data + i * 4, sizeof t);
        difference += ((double)s->all_logits[i] - t) * ((double)s->all_logits[i] - t);
        norm += (double)t * t;
    }
    compared(s, ORACLE_LOGITS, "first batch", sqrt(difference / norm));
    return PAR_OK;
}

static int32_t largest_logit(const oracle_state *s, int64_t row) {
    int64_t V = s->c->config.vocab, best = 0;
    const float *logits = (const float *)s->logits + row * V;
    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* Continue up to micro_batch prompts; tokens behind the last are 0, which causal attention does not
 * see. */
static par_status compare_greedy_group(oracle_state *s, const json_t *prompts,
                                       const json_t *sequences, int64_t first) {
    int64_t T = s->c->T, n = (int64_t)json_array_size(prompts) - first;
    if (n > s->micro_batch) n = s->micro_batch;
    memset(s->x, 0, (size_t)(s->micro_batch * T) * sizeof *s->x);
    memset(s->targets, 0, (size_t)(s->micro_batch * T) * sizeof *s->targets);
    int64_t begin = (int64_t)json_array_size(json_array_get(prompts, (size_t)first));
    int64_t end = (int64_t)json_array_size(json_array_get(sequences, (size_t)first));
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < begin; t++)
            s->x[i * T + t] = (int32_t)json_integer_value(
                json_array_get(json_array_get(prompts, (size_t)(first + i)), (size_t)t));
    for (int64_t t = begin; t < end && t < T; t++) {
        PAR_TRY(forward(s, s->x, s->targets));
        for (int64_t i = 0; i < n && s->rank == 0; i++)
            s->x[i * T + t] = largest_logit(s, i * T + t - 1);
        MPI_Bcast(s->x, (int)(s->micro_batch * T), MPI_INT32_T, 0, s->table.comm);
    }
    for (int64_t i = 0; i < n; i++) {
        const json_t *theirs = json_array_get(sequences, (size_t)(first + i));
        char what[32];
        int different = 0;
        for (int64_t t = begin; t < end && t < T; t++)
            different += s->x[i * T + t] != json_integer_value(json_array_get(theirs, (size_t)t));
        snprintf(what, sizeof what, "prompt %lld, tokens that differ", (long long)(first + i));
        compared(s, ORACLE_GREEDY, what, different);
    }
    return PAR_OK;
}

static par_status compare_trajectory(oracle_state *s) {
    const json_t *trajectory = json_object_get(s->c->reference, "trajectory");
    par_source source = oracle_source(s->c);
    for (size_t i = 0; i < json_array_size(trajectory); i++) {
        const json_t *step = json_array_get(trajectory, i);
        double lr = json_number_value(json_object_get(step, "lr"));
        char what[32];
        par_vote vote;
        PAR_TRY(par_trainer_step(s->trainer, &source, (float)lr, false, &vote));
        if (vote.skipped)
            PAR_FAIL(PAR_ERR_NUMERIC, "step %zu was skipped at loss scale %g: %s", i + 1,
                     vote.loss_scale, vote.where);
        snprintf(what, sizeof what, "step %zu", i + 1);
        compared(s, ORACLE_TRAJECTORY_LOSS, what,
                 check_relative(vote.loss, json_number_value(json_object_get(step, "loss"))));
        if (s->options->dtype != PAR_F32) continue;
        if (s->options->reduce_dtype == PAR_F32)
            compared(s, ORACLE_TRAJECTORY_NORM, what,
                     check_relative(vote.grad_norm,
                                    json_number_value(json_object_get(step, "grad_norm"))));
        if (i == 0 && s->c->gradients)
            PAR_TRY(agree(s, compare_state(s, ORACLE_GRADIENT, PAR_STATE_GRADIENT, s->c->gradients,
                                           "", false)));
        if (i == 0 && !s->c->gradients) not_compared(s, ORACLE_GRADIENT, "gradients.safetensors");
    }
    return PAR_OK;
}

static par_status compare_end(oracle_state *s) {
    bool gpt = s->c->config.bias;
    if (s->c->final)
        PAR_TRY(agree(s, compare_state(s, ORACLE_FINAL, PAR_STATE_WEIGHT, s->c->final, "", gpt)));
    else
        not_compared(s, ORACLE_FINAL, "final.safetensors");
    if (!s->c->moments) {
        not_compared(s, ORACLE_MOMENTS, "moments.safetensors");
        return PAR_OK;
    }
    PAR_TRY(agree(s, compare_state(s, ORACLE_MOMENTS, PAR_STATE_M, s->c->moments, "m.", gpt)));
    return agree(s, compare_state(s, ORACLE_MOMENTS, PAR_STATE_V, s->c->moments, "v.", gpt));
}

static par_status read_weight(void *user, const par_param *param, float *dst) {
    return par_import_read(user, param, dst);
}

static double constant(const oracle_state *s, const char *name, double otherwise) {
    const json_t *value = json_object_get(json_object_get(s->c->reference, "optimizer"), name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static par_trainer_params trainer_params(oracle_state *s) {
    const oracle_options *o = s->options;
    const json_t *betas = json_object_get(json_object_get(s->c->reference, "optimizer"), "betas");
    par_trainer_params params =
        check_params(s->model, o->tp, o->pp, o->dp, s->micro_batch, s->c->batch);
    params.backend = o->device ? o->device : "cpu";
    params.dtype = o->dtype;
    params.reduce_dtype = o->reduce_dtype;
    /* The reference's own scale: a step that a dynamic scale skips would move all later ones to
     * other samples. */
    if (o->dtype == PAR_F16) params.scaler.constant = 1024;
    params.no_sequence_parallel = o->no_sequence_parallel;
    params.schedule = o->schedule;
    params.chunks = o->chunks ? o->chunks : 1;
    params.recompute = o->recompute;
    params.keep_logits = true;
    params.zero = o->zero;
    if (json_array_size(betas) == 2) {
        params.beta1 = json_number_value(json_array_get(betas, 0));
        params.beta2 = json_number_value(json_array_get(betas, 1));
    }
    params.eps = (float)constant(s, "eps", 1e-8);
    params.weight_decay = (float)constant(s, "weight_decay", 0.1);
    params.clip = (float)constant(s, "clip_global_norm", 1.0);
    return params;
}

/* Two micro-batches per stage if the batch has them, else one. */
static int64_t micro_batch(const oracle_case *c, const oracle_options *o) {
    if (o->micro_batch) return o->micro_batch;
    for (int64_t per_stage = 2; per_stage > 0; per_stage--)
        if (c->batch % (o->dp * o->pp * per_stage) == 0)
            return c->batch / (o->dp * o->pp * per_stage);
    return 1;
}

static par_status allocate(oracle_state *s) {
    size_t total = (size_t)s->table.total, row = (size_t)(s->c->T * s->c->config.vocab);
    size_t tokens =
        (size_t)((s->c->batch > s->micro_batch ? s->c->batch : s->micro_batch) * s->c->T);
    s->ours = malloc(total * sizeof(float));
    s->theirs = malloc(total * sizeof(float));
    s->logits = malloc((size_t)s->micro_batch * row * sizeof(uint32_t));
    s->all_logits = malloc((size_t)(s->c->batch + s->micro_batch) * row * sizeof(float));
    s->x = malloc(tokens * sizeof(int32_t));
    s->targets = malloc(tokens * sizeof(int32_t));
    if (!s->ours || !s->theirs || !s->logits || !s->all_logits || !s->x || !s->targets)
        PAR_FAIL(PAR_ERR_MEMORY, "no memory to compare %zu parameters", total);
    return PAR_OK;
}

static par_status create(oracle_state *s, par_transport *transport, MPI_Comm comm) {
    par_trainer_params params = trainer_params(s);
    PAR_TRY(check_fit(&s->c->config, &params));
    PAR_TRY(par_trainer_create(transport, &params, &s->trainer));
    PAR_TRY(check_table_create(&params, comm, &s->table));
    PAR_TRY(agree(s, allocate(s)));
    return par_trainer_load(s->trainer, read_weight, s->c->import);
}

static par_status compare_all(oracle_state *s) {
    const json_t *reference = s->c->reference, *greedy = json_object_get(reference, "greedy");
    const json_t *prompts = json_object_get(greedy, "prompts"),
                 *sequences = json_object_get(greedy, "sequences");
    double loss, theirs = json_number_value(json_object_get(reference, "loss"));
    par_source source = oracle_source(s->c);
    if (s->options->dtype != PAR_F32 || s->options->reduce_dtype != PAR_F32) {
        if (bound_of(s, ORACLE_TRAJECTORY_LOSS) == 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "reference.json has no \"largest_relative_loss_deviation\" in %s",
                     par_dtype_name(s->options->dtype));
        return compare_trajectory(s);
    }
    PAR_TRY(compare_logits(s));
    PAR_TRY(par_trainer_evaluate(s->trainer, &source, 0, s->c->batch, &loss));
    compared(s, ORACLE_LOSS, "first batch, evaluated", check_relative(loss, theirs));
    if (!prompts) not_compared(s, ORACLE_GREEDY, "\"greedy\" in reference.json");
    for (int64_t i = 0; i < (int64_t)json_array_size(prompts); i += s->micro_batch)
        PAR_TRY(compare_greedy_group(s, prompts, sequences, i));
    PAR_TRY(compare_trajectory(s));
    return compare_end(s);
}

par_status oracle_run(par_transport *transport, MPI_Comm comm, const oracle_case *c,
                      const oracle_options *options, oracle_result *result) {
    oracle_state s = {
        .c = c, .options = options, .result = result, .micro_batch = micro_batch(c, options)};
    memset(result, 0, sizeof *result);
    MPI_Comm_rank(comm, &s.rank);
    par_status st = par_transformer_create(&c->config, &s.model);
    if (st == PAR_OK) st = create(&s, transport, comm);
    if (st == PAR_OK) st = compare_all(&s);
    if (st == PAR_OK) MPI_Bcast(result, (int)sizeof *result, MPI_BYTE, 0, comm);
    free(s.ours);
    free(s.theirs);
    free(s.logits);
    free(s.all_logits);
    free(s.x);
    free(s.targets);
    check_table_destroy(&s.table);
    par_trainer_destroy(&s.trainer);
    par_transformer_destroy(&s.model);
    return st;
}

void oracle_summary(const oracle_result *result, char *text, size_t nbytes) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < ORACLE_KINDS && used < nbytes; i++)
        if (result->compared[i])
            used += (size_t)snprintf(text + used, nbytes - used, "%s%s %.1e", used ? ", " : "",
                                     kinds[i].name, result->largest[i]);
}
