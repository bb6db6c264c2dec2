/*
 * What the tests of training share: tiny models, data that is a function of the sample's number,
 * and a trainer's state gathered to global shape on rank 0 of a group.
 *
 * Gathering adds bit patterns, of which every rank contributes its own runs and zeros elsewhere,
 * and how often each element was contributed, which must be once: a copy too many or a hole is an
 * error, not a tolerance.
 */
#ifndef PAR_TESTS_CHECK_H
#define PAR_TESTS_CHECK_H

#include <mpi.h>

#include "par/par.h"

/* One logical tensor and its place in the vector of all of them. */
typedef struct {
    char name[96];
    int ndim;
    int64_t global[2];
    int64_t first, n;
} check_entry;

/* All tensors of a model, the same on every rank of comm. */
typedef struct {
    int n;
    int64_t total;
    check_entry *entries;
    MPI_Comm comm;
    int rank, size;
    uint32_t *bits, *count; /* [total] */
} check_table;

/* The ranks of a harness case as an MPI communicator. Collective on the case's ranks; free with
 * MPI_Comm_free. */
MPI_Comm check_comm(const par_transport *transport);

/* Collective on comm: rank 0 lists the tensors of a single-rank trainer with these parameters, the
 * others receive it. */
par_status check_table_create(const par_trainer_params *params, MPI_Comm comm, check_table *out);
void check_table_destroy(check_table *table);
const check_entry *check_find(const check_table *table, const char *name);

/*
 * A state of the trainer in global shape into out [total] on rank 0 (elsewhere unused). Collective
 * on the table's comm. PAR_ERR_INTERNAL on every rank if an element came from no rank or from
 * several, with its tensor.
 */
par_status check_gather(const par_trainer *trainer, check_table *table, par_state state,
                        float *out);

/*
 * The largest over all tensors of norm(a - b) / norm(b), and the tensor where it is. The gradient
 * of a key bias is zero by construction (softmax does not change when all scores of a query move by
 * q·b), so what is there is rounding: its difference is divided by the norm of the query, key and
 * value biases together.
 */
double check_largest(const check_table *table, const float *a, const float *b, const char **where);
/* The difference of one tensor on that scale. */
double check_entry_relative(const check_table *table, const check_entry *entry, const float *a,
                            const float *b);
bool check_is_key_bias(const char *name);

double check_relative(double a, double b);

/* Tiny models whose vocabulary and MLP no tp divides: GPT (tied, biases), Llama (grouped queries,
 * untied), Qwen (Llama with biases and norms of q and k). Of settings with `bool llama` the first
 * two. */
enum { CHECK_GPT, CHECK_LLAMA, CHECK_QWEN };
void check_config(int family, par_transformer_config *out);

/* Samples for a transformer: tokens and targets of `vocab`; every `ignore`-th target is ignored (0:
 * none). */
typedef struct {
    int64_t vocab, T;
    int ignore;
} check_data;
par_source check_source(const check_data *data);

/* fp32, cpu backend, AdamW's usual constants: what a test changes, it changes after. */
par_trainer_params check_params(const par_model *model, int tp, int pp, int dp, int64_t micro_batch,
                                int64_t batch);

/* Fit a transformer to the layout: sets kv_replicas; PAR_ERR_LAYOUT with all problems. */
par_status check_fit(const par_transformer_config *config, par_trainer_params *params);

#endif
