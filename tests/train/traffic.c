/*
 * Every byte sent is accounted for: the recorder's totals of one step equal closed forms, an axis
 * and a purpose at a time.
 *
 * Notation: t, p, d ranks along tp, pp, dp; m micro-batches of b samples a dp rank and step; n = b
 * · T · C elements of 4 bytes, the activations of a micro-batch. Bytes are those that one rank
 * sends. Reduce-scatter and all-gather are direct: each sends (t - 1) / t of the vector, an
 * all-reduce of more than 4 KiB is both, 2 (t - 1) / t (Chan et al. 2007).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "check.h"
#include "libpar/train/trainer.h"
#include "par/mpi.h"

enum { B = 2, T = 32, C = 128, V = 256, BATCH = 8, MAX_ROWS = 64 };
static const int64_t n = (int64_t)B * T * C;

/* Vectors are multiples of 64 · t · d here, so that neither padding nor rounding enters the closed
 * forms. */
static par_transformer_config config_of(int layers) {
    return (par_transformer_config){.name = "traffic",
                                    .vocab = V,
                                    .tokens = T,
                                    .positions = T,
                                    .layers = layers,
                                    .channels = C,
                                    .heads = 8,
                                    .kv_heads = 8,
                                    .head_size = C / 8,
                                    .mlp = 256,
                                    .norm_eps = 1e-5f,
                                    .bias = true,
                                    .tied = true};
}

typedef struct {
    par_recorder_row rows[MAX_ROWS];
    int n;
    int64_t sent_to; /* over all ranks */
    int64_t n_flat;  /* elements of this rank's parameters */
} traffic;

static void record(par_transport *transport, traffic *out) {
    const par_recorder_row *rows;
    const par_recorder *recorder = par_transport_recorder(transport);
    const int64_t *to = par_recorder_sent_to(recorder);
    out->n = par_recorder_rows(recorder, &rows);
    CHECK(out->n <= MAX_ROWS, "%d rows", out->n);
    if (out->n > MAX_ROWS) out->n = MAX_ROWS;
    memcpy(out->rows, rows, (size_t)out->n * sizeof *rows);
    for (int r = 0; r < par_transport_size(transport); r++) out->sent_to += to[r];
}

static void count_params(const par_trainer *trainer, traffic *out) {
    for (int i = 0; i < par_trainer_n_params(trainer); i++) {
        const par_param *p = par_trainer_param(trainer, i);
        out->n_flat += p->local[0] * (p->ndim > 1 ? p->local[1] : 1);
    }
}

static par_status step_of(par_transport *transport, const par_trainer_params *params,
                          traffic *out) {
    const check_data data = {.vocab = V, .T = T};
    par_source source = check_source(&data);
    par_trainer *trainer = NULL;
    par_vote vote;
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    par_recorder_reset(par_transport_recorder(transport));
    par_status st = par_trainer_step(trainer, &source, 1e-3f, false, &vote);
    count_params(trainer, out);
    par_trainer_destroy(&trainer); /* waits for the gather of parameters, if there is one */
    record(transport, out);
    return st;
}

/* Rows of one step on a transport of its own: the harness's checks every collective, which is
 * traffic too. */
static void measure(par_transport *harness, int layers, par_trainer_params *params, traffic *out) {
    par_transformer_config config = config_of(layers);
    par_transport *transport = NULL;
    par_model *model = NULL;
    MPI_Comm comm = check_comm(harness);
    memset(out, 0, sizeof *out);
    CHECK_OK(par_transport_create_mpi(comm, NULL, &transport));
    CHECK_OK(par_transformer_create(&config, &model));
    params->model = model;
    CHECK_OK(check_fit(&config, params));
    CHECK_OK(step_of(transport, params, out));
    par_transformer_destroy(&model);
    par_transport_destroy(&transport);
    MPI_Comm_free(&comm);
}

static bool counts(const par_recorder_row *row, const char *axis, const char *purpose) {
    if (strcmp(row->axis, axis) != 0) return false;
    return strcmp(row->purpose, purpose ? purpose : "check") == 0 ? purpose != NULL
                                                                  : purpose == NULL;
}

/* Bytes sent on an axis for a purpose; NULL: for any but the checks of the harness. */
static int64_t sent(const traffic *t, const char *axis, const char *purpose) {
    int64_t sum = 0;
    for (int i = 0; i < t->n; i++)
        if (counts(&t->rows[i], axis, purpose)) sum += t->rows[i].sent_nbytes;
    return sum;
}

static void print_rows(const traffic *t) {
    for (int i = 0; i < t->n; i++)
        printf("# traffic: %s, %s, %s: %lld operations, %lld bytes\n", t->rows[i].axis,
               t->rows[i].purpose, t->rows[i].op, (long long)t->rows[i].n_ops,
               (long long)t->rows[i].sent_nbytes);
}

static void equal(const char *what, const traffic *t, int64_t ours, int64_t closed) {
    if (ours != closed && !harness_failed()) print_rows(t);
    CHECK(ours == closed, "%s: %lld bytes sent, the closed form has %lld", what, (long long)ours,
          (long long)closed);
}

/* Each of the p - 1 boundaries (v p - 1 with v chunks) carries n / t per micro-batch and way; one
 * rank has its share. */
static void run_pipeline(par_transport *transport) {
    const int64_t m = BATCH / B;
    traffic t;
    par_trainer_params params = check_params(NULL, 1, 4, 1, B, BATCH);
    int stage = par_transport_rank(transport);
    measure(transport, 4, &params, &t);
    equal("pipeline forward", &t, sent(&t, "pp", "pipeline forward"), stage < 3 ? m * n * 4 : 0);
    equal("pipeline backward", &t, sent(&t, "pp", "pipeline backward"), stage > 0 ? m * n * 4 : 0);
    equal("all of pp", &t, sent(&t, "pp", NULL) - sent(&t, "pp", "vote"),
          (stage < 3 ? m * n * 4 : 0) + (stage > 0 ? m * n * 4 : 0));
    params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.chunks = 2;
    measure(transport, 6, &params, &t);
    equal("interleaved forward", &t, sent(&t, "pp", "pipeline forward"),
          (stage < 3 ? 2 : 1) * m * n * 4);
    equal("interleaved backward", &t, sent(&t, "pp", "pipeline backward"),
          (stage > 0 ? 2 : 1) * m * n * 4);
}

/* With sequence parallel a rank sends its n / t. */
static void run_pipeline_sequence(par_transport *transport) {
    const int64_t m = BATCH / B;
    traffic t;
    par_trainer_params params = check_params(NULL, 2, 2, 1, B, BATCH);
    int stage = par_transport_rank(transport) / 2;
    measure(transport, 4, &params, &t);
    equal("sharded forward", &t, sent(&t, "pp", "pipeline forward"), stage < 1 ? m * n * 4 / 2 : 0);
    equal("sharded backward", &t, sent(&t, "pp", "pipeline backward"),
          stage > 0 ? m * n * 4 / 2 : 0);
}

/* Gradients 2 (d - 1) / d of their bytes; ZeRO-1 halves that and gathers the parameters instead,
 * and bf16 on the way halves the gradients' alone. */
static void run_data(par_transport *transport) {
    const int64_t d = 2;
    traffic t;
    par_trainer_params params = check_params(NULL, 1, 1, (int)d, B, BATCH);
    measure(transport, 2, &params, &t);
    equal("gradients", &t, sent(&t, "dp", "gradients"), 2 * (d - 1) * 4 * t.n_flat / d);
    equal("parameters without ZeRO", &t, sent(&t, "dp", "parameters"), 0);
    params.zero = 1;
    measure(transport, 2, &params, &t);
    equal("gradients of ZeRO-1", &t, sent(&t, "dp", "gradients"), (d - 1) * 4 * t.n_flat / d);
    equal("parameters of ZeRO-1", &t, sent(&t, "dp", "parameters"), (d - 1) * 4 * t.n_flat / d);
    equal("all of dp", &t, sent(&t, "dp", NULL) - sent(&t, "dp", "vote"),
          2 * (d - 1) * 4 * t.n_flat / d);
    params.reduce_dtype = PAR_BF16;
    measure(transport, 2, &params, &t);
    equal("gradients of ZeRO-1 as bf16", &t, sent(&t, "dp", "gradients"),
          (d - 1) * 2 * t.n_flat / d);
    equal("parameters beside them", &t, sent(&t, "dp", "parameters"), (d - 1) * 4 * t.n_flat / d);
    params.zero = 0;
    measure(transport, 2, &params, &t);
    equal("gradients as bf16", &t, sent(&t, "dp", "gradients"), 2 * (d - 1) * 2 * t.n_flat / d);
}

/* The tied embedding's gradient, an all-reduce of two ranks, and nothing else. */
static void run_tied(par_transport *transport) {
    traffic t;
    par_trainer_params params = check_params(NULL, 1, 4, 1, B, BATCH);
    bool holds = par_transport_rank(transport) == 0 || par_transport_rank(transport) == 3;
    measure(transport, 4, &params, &t);
    equal("tied gradients", &t, sent(&t, "tied", NULL), holds ? (int64_t)V * C * 4 : 0);
}

/* One vote a step: a rank's own ballot to its tp peer, two to its dp peer, four to its pp peer, at
 * most 128 bytes each; nothing over the world. */
static void run_vote(par_transport *transport) {
    traffic t;
    par_trainer_params params = check_params(NULL, 2, 2, 2, B, BATCH);
    measure(transport, 4, &params, &t);
    int64_t ballot = sent(&t, "tp", "vote");
    CHECK(ballot > 0 && ballot <= 128, "a ballot has %lld bytes", (long long)ballot);
    equal("the vote over dp", &t, sent(&t, "dp", "vote"), 2 * ballot);
    equal("the vote over pp", &t, sent(&t, "pp", "vote"), 4 * ballot);
    equal("all of world", &t, sent(&t, "world", NULL), 0);
}

/* What all rows say is what went to all ranks; over the world, what was sent was received. */
static void run_totals(par_transport *transport) {
    traffic t;
    int64_t sums[2] = {0, 0}, rows = 0;
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = check_params(NULL, 2, 2, 2, B, BATCH);
    params.zero = 1;
    measure(transport, 4, &params, &t);
    for (int i = 0; i < t.n; i++) {
        rows += t.rows[i].sent_nbytes;
        sums[0] += t.rows[i].sent_nbytes;
        sums[1] += t.rows[i].received_nbytes;
    }
    equal("rows and peers", &t, rows, t.sent_to);
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_INT64_T, MPI_SUM, comm);
    equal("sent and received", &t, sums[1], sums[0]);
    MPI_Comm_free(&comm);
}

/*
 * A layer and micro-batch, by what two more layers add. Forward two sums over tp, attention and
 * MLP, 4 (t - 1) / t of n; backward their mirror, as much. With sequence parallel a sum is a
 * reduce-scatter here and an all-gather there, the same bytes; and backward gathers the two norm
 * outputs once more, of which only shards were kept: 6 (t - 1) / t of n.
 */
static void per_layer(par_transport *transport, int t, bool sequence_parallel) {
    traffic two, four;
    par_trainer_params params = check_params(NULL, t, 1, 1, B, BATCH);
    params.no_sequence_parallel = !sequence_parallel;
    measure(transport, 2, &params, &two);
    measure(transport, 4, &params, &four);
    const int64_t unit = 2 * (BATCH / B) * n * 4 * (t - 1) / t;
    equal("tp forward, a layer", &four,
          sent(&four, "tp", "activations forward") - sent(&two, "tp", "activations forward"),
          4 * unit);
    equal("tp backward, a layer", &four,
          sent(&four, "tp", "activations backward") - sent(&two, "tp", "activations backward"),
          (sequence_parallel ? 6 : 4) * unit);
}

/* What a step waits for last is what its walk reduces last, in chunks too: the embedding's bucket
 * on the first stage, that of its first chunk's first module elsewhere. */
static void run_last_bucket(par_transport *transport) {
    par_trainer *t = NULL;
    par_vote vote;
    check_data data = {.vocab = V, .T = T};
    par_source source = check_source(&data);
    par_model *model = NULL;
    par_transformer_config config = config_of(8);
    config.tied = false;
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, 1, 2, 2, B, BATCH);
    params.chunks = 2;
    params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.bucket_n = 5000;
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (t) CHECK_OK(par_trainer_step(t, &source, 1e-3f, false, &vote));
    if (t) {
        const par__buckets *k = &t->buckets;
        int all = t->flat.registry->n_buckets, first = t->flat.registry->params[0]->bucket;
        CHECK(k->n_begun == all && all > 4, "%d of %d buckets are begun", k->n_begun, all);
        CHECK(k->begun[all - 1] == first, "bucket %d is the last, that of %s is %d",
              k->begun[all - 1], t->flat.registry->params[0]->name, first);
    }
    par_trainer_destroy(&t);
    par_transformer_destroy(&model);
}

static void run_tensor(par_transport *transport) {
    per_layer(transport, par_transport_size(transport), false);
}

static void run_tensor_sequence(par_transport *transport) {
    per_layer(transport, par_transport_size(transport), true);
}

static const harness_case cases[] = {
    {"tp2-a-layer", NULL, 2, run_tensor, 0},
    {"tp8-a-layer", NULL, 8, run_tensor, 0},
    {"tp2-a-layer-sequence-parallel", NULL, 2, run_tensor_sequence, 0},
    {"tp8-a-layer-sequence-parallel", NULL, 8, run_tensor_sequence, 0},
    {"pp", NULL, 4, run_pipeline, 0},
    {"pp-sequence-parallel", NULL, 4, run_pipeline_sequence, 0},
    {"dp", NULL, 2, run_data, 0},
    {"tied", NULL, 4, run_tied, 0},
    {"vote", NULL, 8, run_vote, 0},
    {"totals", NULL, 8, run_totals, 0},
    {"last-bucket", NULL, 4, run_last_bucket, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("traffic", cases, HARNESS_COUNT(cases), argc, argv);
}
