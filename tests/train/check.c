/* Gathering and comparing state over layouts, tiny models and synthetic data: see check.h for what
 * each proves. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

MPI_Comm check_comm(const par_transport *transport) {
    int n = par_transport_size(transport), range[1][3] = {{0, n - 1, 1}};
    MPI_Group world, group;
    MPI_Comm comm;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_range_incl(world, 1, range, &group);
    MPI_Comm_create_group(MPI_COMM_WORLD, group, 77, &comm);
    MPI_Group_free(&group);
    MPI_Group_free(&world);
    return comm;
}

static par_status list_tensors(const par_trainer *trainer, check_table *table) {
    table->n = par_trainer_n_params(trainer);
    table->entries = calloc((size_t)table->n, sizeof *table->entries);
    if (!table->entries) PAR_FAIL(PAR_ERR_MEMORY, "no memory for %d tensors", table->n);
    for (int i = 0; i < table->n; i++) {
        const par_param *p = par_trainer_param(trainer, i);
        check_entry *e = &table->entries[i];
        memcpy(e->name, p->name, sizeof e->name);
        e->ndim = p->ndim;
        e->global[0] = p->global[0];
        e->global[1] = p->ndim > 1 ? p->global[1] : 1;
        e->first = table->total;
        e->n = e->global[0] * e->global[1];
        table->total += e->n;
    }
    return PAR_OK;
}

/* The same model on one rank: every tensor is whole there. */
static par_status single_table(const par_trainer_params *params, check_table *table) {
    par_trainer_params single = *params;
    par_transport *self = NULL;
    par_trainer *trainer = NULL;
    memset(&single.layout, 0, sizeof single.layout);
    single.schedule = PAR_SCHEDULE_1F1B;
    single.chunks = 1;
    single.modules_per_part = NULL;
    PAR_TRY(par_transport_create_self(NULL, &self));
    par_status st = par_trainer_create(self, &single, &trainer);
    if (st == PAR_OK) st = list_tensors(trainer, table);
    par_trainer_destroy(&trainer);
    par_transport_destroy(&self);
    return st;
}

par_status check_table_create(const par_trainer_params *params, MPI_Comm comm, check_table *out) {
    check_table table = {.comm = comm};
    MPI_Comm_rank(comm, &table.rank);
    MPI_Comm_size(comm, &table.size);
    par_status st = table.rank == 0 ? single_table(params, &table) : PAR_OK;
    int status = st;
    MPI_Bcast(&status, 1, MPI_INT, 0, comm);
    if (status != PAR_OK)
        return table.rank == 0 ? st
                               : par_error_set((par_status)status, "rank 0 failed to list tensors");
    MPI_Bcast(&table.n, 1, MPI_INT, 0, comm);
    MPI_Bcast(&table.total, 1, MPI_INT64_T, 0, comm);
    size_t nbytes = (size_t)table.n * sizeof *table.entries;
    if (table.rank != 0) table.entries = malloc(nbytes);
    table.bits = malloc((size_t)table.total * sizeof *table.bits);
    table.count = malloc((size_t)table.total * sizeof *table.count);
    if (!table.entries || !table.bits || !table.count)
        PAR_FAIL(PAR_ERR_MEMORY, "no memory for gathering");
    MPI_Bcast(table.entries, (int)nbytes, MPI_BYTE, 0, comm);
    *out = table;
    return PAR_OK;
}

void check_table_destroy(check_table *table) {
    free(table->entries);
    free(table->bits);
    free(table->count);
    memset(table, 0, sizeof *table);
}

const check_entry *check_find(const check_table *table, const char *name) {
    for (int i = 0; i < table->n; i++)
        if (strcmp(table->entries[i].name, name) == 0) return &table->entries[i];
    return NULL;
}

static par_status place_run(void *user, const par_param *p, int64_t first, int64_t n,
                            const float *values) {
    check_table *table = user;
    const check_entry *e = check_find(table, p->name);
    int64_t width = p->ndim > 1 ? p->local[1] : 1, column0 = p->ndim > 1 ? p->offset[1] : 0;
    int64_t columns = p->ndim > 1 ? p->extent[1] : 1;
    if (!e) PAR_FAIL(PAR_ERR_INTERNAL, "tensor %s is not in the single-rank model", p->name);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = (first + i) / width, column = (first + i) % width;
        if (row >= p->extent[0] || column >= columns) continue;
        int64_t at = (p->offset[0] + row) * e->global[1] + column0 + column;
        if (at < 0 || at >= e->n)
            PAR_FAIL(PAR_ERR_INTERNAL, "%s: element %lld lies outside", p->name, (long long)at);
        memcpy(&table->bits[e->first + at], &values[i], sizeof *values);
        table->count[e->first + at]++;
    }
    return PAR_OK;
}

static par_status check_counts(const check_table *table) {
    for (int i = 0; i < table->n; i++) {
        const check_entry *e = &table->entries[i];
        for (int64_t k = 0; k < e->n; k++)
            if (table->count[e->first + k] != 1)
                return par_error_set(PAR_ERR_INTERNAL,
                                     "%s: element %lld came from %u ranks, not one", e->name,
                                     (long long)k, (unsigned)table->count[e->first + k]);
    }
    return PAR_OK;
}

static void sum_to_first(const check_table *table, uint32_t *data) {
    MPI_Reduce(table->rank ? data : MPI_IN_PLACE, data, (int)table->total, MPI_UINT32_T, MPI_SUM, 0,
               table->comm);
}

par_status check_gather(const par_trainer *trainer, check_table *table, par_state state,
                        float *out) {
    memset(table->bits, 0, (size_t)table->total * sizeof *table->bits);
    memset(table->count, 0, (size_t)table->total * sizeof *table->count);
    par_status st = par_trainer_visit(trainer, state, place_run, table);
    sum_to_first(table, table->bits);
    sum_to_first(table, table->count);
    if (st == PAR_OK && table->rank == 0) st = check_counts(table);
    if (table->rank == 0) memcpy(out, table->bits, (size_t)table->total * sizeof *out);
    int worst = st;
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, table->comm);
    if (st == PAR_OK && worst != PAR_OK)
        return par_error_set((par_status)worst, "gathering failed on another rank");
    return st;
}

static double norm2(const float *a, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * a[i];
    return sum;
}

static double difference2(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

bool check_is_key_bias(const char *name) {
    const char *at = strstr(name, ".attention.k.bias");
    return at && at[strlen(".attention.k.bias")] == 0;
}

/* Norm² of the biases of queries, keys and values of the layer that this key bias belongs to. */
static double qkv_norm2(const check_table *table, const check_entry *key, const float *b) {
    char name[sizeof key->name];
    size_t at = strlen(key->name) - strlen("k.bias");
    double sum = 0;
    memcpy(name, key->name, sizeof name);
    for (const char *c = "qkv"; *c; c++) {
        name[at] = *c;
        const check_entry *e = check_find(table, name);
        if (e) sum += norm2(b + e->first, e->n);
    }
    return sum;
}

double check_entry_relative(const check_table *table, const check_entry *e, const float *a,
                            const float *b) {
    double difference = difference2(a + e->first, b + e->first, e->n);
    double norm = check_is_key_bias(e->name) ? qkv_norm2(table, e, b) : norm2(b + e->first, e->n);
    if (!isfinite(difference)) return INFINITY;
    if (norm == 0) return sqrt(difference);
    return sqrt(difference / norm);
}

double check_largest(const check_table *table, const float *a, const float *b, const char **where) {
    double largest = -1;
    for (int i = 0; i < table->n; i++) {
        double d = check_entry_relative(table, &table->entries[i], a, b);
        if (d <= largest) continue;
        largest = d;
        *where = table->entries[i].name;
    }
    return largest;
}

double check_relative(double a, double b) {
    double d = fabs(a - b);
    if (!isfinite(d)) return INFINITY;
    return b != 0 ? d / fabs(b) : d;
}

void check_config(int family, par_transformer_config *out) {
    par_transformer_config c = {.vocab = 131,
                                .tokens = 16,
                                .positions = 24,
                                .layers = 6,
                                .channels = 32,
                                .heads = 8,
                                .kv_heads = 8,
                                .head_size = 4,
                                .mlp = 90,
                                .norm_eps = 1e-5f,
                                .bias = true,
                                .tied = true};
    strcpy(c.name, "tiny-gpt");
    if (family != CHECK_GPT) {
        strcpy(c.name, family == CHECK_QWEN ? "tiny-qwen" : "tiny-llama");
        c.rmsnorm = c.rope = c.swiglu = true;
        c.bias = c.tied = false;
        c.kv_heads = 2;
        c.head_size = 6; /* heads · head size is not C */
        c.rope_theta = 10000;
        c.qkv_bias = c.qk_norm = family == CHECK_QWEN;
    }
    *out = c;
}

/* Token t of a sample: half of them follow from the one before, so that there is something to
 * learn. */
static int64_t next_token(const check_data *data, int64_t before, uint64_t u) {
    if (before >= 0 && (u & 1)) return (before * 7 + 3) % data->vocab;
    return (int64_t)((u >> 1) % (uint64_t)data->vocab);
}

static par_status read_samples(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const check_data *data = user;
    for (int64_t i = 0; i < n; i++) {
        int32_t *ids = (int32_t *)x + i * data->T, *next = (int32_t *)targets + i * data->T;
        int64_t token = -1;
        for (int64_t t = 0; t <= data->T; t++) {
            uint64_t u = par_random_u64(5, (uint64_t)(first + i), (uint64_t)t);
            token = next_token(data, token, u);
            if (t < data->T) ids[t] = (int32_t)token;
            if (t > 0)
                next[t - 1] =
                    data->ignore && (u >> 32) % (unsigned)data->ignore == 0 ? -1 : (int32_t)token;
        }
    }
    return PAR_OK;
}

par_source check_source(const check_data *data) {
    return (par_source){.read = read_samples, .user = (void *)data};
}

par_trainer_params check_params(const par_model *model, int tp, int pp, int dp, int64_t micro_batch,
                                int64_t batch) {
    par_trainer_params params = {.model = model,
                                 .backend = "cpu",
                                 .dtype = PAR_F32,
                                 .seed = 1234,
                                 .micro_batch = micro_batch,
                                 .global_batch = batch,
                                 .schedule = PAR_SCHEDULE_1F1B,
                                 .chunks = 1,
                                 .optimizer = PAR_ADAMW,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .eps = 1e-8f,
                                 .weight_decay = 0.1f,
                                 .momentum = 0.9f,
                                 .clip = 1.0f};
    params.layout.size[PAR_TP] = tp;
    params.layout.size[PAR_CP] = 1;
    params.layout.size[PAR_DP] = dp;
    params.layout.size[PAR_PP] = pp;
    return params;
}

par_status check_fit(const par_transformer_config *config, par_trainer_params *params) {
    par_problems problems = {0};
    bool sequence_parallel = params->layout.size[PAR_TP] > 1 && !params->no_sequence_parallel;
    par_transformer_check(config, &params->layout, params->micro_batch, sequence_parallel,
                          &problems, NULL);
    return par_problems_status(&problems, PAR_ERR_LAYOUT);
}
