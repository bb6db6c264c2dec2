/*
 * Whether all ranks gave a trainer the same parameters. Ranks whose parameters differ would wait
 * for each other for ever, or train what nobody asked for. What the caller's pointers lead to is
 * compared as far as the library knows it: a model's modules and ids, a transformer's whole
 * configuration, names. Of very many numbers of modules per part the last are not compared.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../model/layers.h"
#include "libpar/base/number.h"
#include "trainer.h"

enum { NBYTES = 3584 }; /* a transformer takes 2 KiB; MPI sends so few without a handshake */
typedef enum { FLAG, WORD, LONG, COUNT, SIZE, SINGLE, REAL } kind;

#define ROW(kind, field)                                                                           \
    { #field, kind, offsetof(par_trainer_params, field) }
static const struct {
    const char *name;
    kind kind;
    size_t at;
} rows[] = {ROW(WORD, layout.size[PAR_TP]),
            ROW(WORD, layout.size[PAR_CP]),
            ROW(WORD, layout.size[PAR_DP]),
            ROW(WORD, layout.size[PAR_PP]),
            ROW(WORD, layout.order[0]),
            ROW(WORD, layout.order[1]),
            ROW(WORD, layout.order[2]),
            ROW(WORD, layout.order[3]),
            ROW(WORD, layout.kv_replicas),
            ROW(WORD, dtype),
            ROW(COUNT, seed),
            ROW(LONG, micro_batch),
            ROW(LONG, global_batch),
            ROW(FLAG, no_sequence_parallel),
            ROW(WORD, tp_pieces),
            ROW(FLAG, no_graph),
            ROW(WORD, schedule),
            ROW(WORD, chunks),
            ROW(WORD, recompute),
            ROW(SIZE, logits_nbytes),
            ROW(FLAG, undrawn),
            ROW(FLAG, inference),
            ROW(FLAG, evaluates),
            ROW(FLAG, keep_logits),
            ROW(FLAG, documents_apart),
            ROW(WORD, document_end),
            ROW(WORD, zero),
            ROW(LONG, bucket_n),
            ROW(WORD, reduce_dtype),
            ROW(WORD, optimizer),
            ROW(REAL, beta1),
            ROW(REAL, beta2),
            ROW(REAL, momentum),
            ROW(SINGLE, eps),
            ROW(SINGLE, weight_decay),
            ROW(SINGLE, clip),
            ROW(SIZE, save_memory),
            ROW(WORD, nonfinite),
            ROW(REAL, scaler.constant),
            ROW(REAL, scaler.init),
            ROW(REAL, scaler.growth),
            ROW(REAL, scaler.backoff),
            ROW(REAL, scaler.min),
            ROW(REAL, scaler.max),
            ROW(LONG, scaler.interval),
            ROW(LONG, scaler.hysteresis),
            ROW(LONG, scaler.max_skips)};

typedef struct {
    char text[NBYTES]; /* a line "name \t value" each */
    size_t used;
} list;

static void add(list *l, const char *name, const char *value) {
    int n = snprintf(l->text + l->used, NBYTES - l->used, "%s\t%s\n", name, value);
    l->used += (size_t)n < NBYTES - l->used ? (size_t)n : NBYTES - l->used - 1;
}

static void add_number(list *l, const char *name, long long number) {
    char text[32];
    snprintf(text, sizeof text, "%lld", number);
    add(l, name, text);
}

static void add_count(list *l, const char *name, unsigned long long count) {
    char text[32];
    snprintf(text, sizeof text, "%llu", count);
    add(l, name, text);
}

static void add_row(list *l, int i, const void *at) {
    char text[PAR__NUMBER_NBYTES];
    switch (rows[i].kind) {
    case FLAG: add(l, rows[i].name, *(const bool *)at ? "true" : "false"); break;
    case WORD: add_number(l, rows[i].name, *(const int32_t *)at); break;
    case LONG: add_number(l, rows[i].name, *(const int64_t *)at); break;
    case COUNT: add_count(l, rows[i].name, *(const uint64_t *)at); break;
    case SIZE: add_count(l, rows[i].name, *(const size_t *)at); break;
    case SINGLE: add(l, rows[i].name, par__exact_float(text, *(const float *)at)); break;
    case REAL: add(l, rows[i].name, par__exact(text, *(const double *)at)); break;
    }
}

static void add_model(list *l, const par_model *model) {
    const par_transformer_config *config = par__transformer_config(model);
    char text[PAR__NUMBER_NBYTES];
    par_config_pairs pairs;
    add(l, "model", model->name ? model->name : "");
    add_number(l, "model: modules", model->n_modules);
    add_number(l, "model: ids", model->n_ids);
    for (int d = 0; d < model->x.ndim; d++) add_number(l, "model: x", model->x.shape[d]);
    for (int d = 0; d < model->targets.ndim; d++)
        add_number(l, "model: targets", model->targets.shape[d]);
    if (!config) return;
    par_config_pairs_of(config, &pairs);
    for (int i = 0; i < pairs.n; i++) add(l, pairs.pairs[i].name, pairs.pairs[i].value);
    add(l, "init_std", par__exact(text, config->init_std));
}

static void fill(list *l, const par_trainer_params *params) {
    par_trainer_params p = *params;
    par_trainer_defaults(&p);
    for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++)
        add_row(l, i, (const char *)&p + rows[i].at);
    add(l, "backend", p.device ? p.device->name : p.backend);
    if (!p.model) return;
    add_model(l, p.model);
    /* only a legal number of parts is there to be read */
    int64_t parts = (int64_t)p.layout.size[PAR_PP] * p.chunks;
    for (int i = 0; p.modules_per_part && parts <= p.model->n_modules && i < parts; i++)
        add_number(l, "modules_per_part", p.modules_per_part[i]);
}

par_status par__params_equal(par_comm *world, const par_trainer_params *params) {
    const par_tag tag = {"trainer parameters", -1, -1, -1};
    static const char legal[] = "equal on all ranks";
    list mine = {.used = 0};
    char first[NBYTES];
    par_problems problems = {0};
    if (params) fill(&mine, params);
    memcpy(first, mine.text, sizeof first);
    PAR_TRY(par_comm_broadcast(world, first, sizeof first, PAR_U8, 0, tag, NULL, NULL));
    const char *a = mine.text, *b = first;
    while (*a || *b) {
        int n = (int)strcspn(a, "\n"), m = (int)strcspn(b, "\n");
        int name_a = (int)strcspn(a, "\t\n"), name_b = (int)strcspn(b, "\t\n");
        bool same = name_a == name_b && memcmp(a, b, (size_t)name_a) == 0;
        if (!same) { /* one has what the other has not: further on, nothing matches */
            par_problem(&problems, "a trainer's %.*s is there on %s alone; legal: %s",
                        *b ? name_b : name_a, *b ? b : a, *b ? "rank 0" : "this rank", legal);
            break;
        }
        if (n != m || memcmp(a, b, (size_t)n) != 0)
            par_problem(&problems, "a trainer's %.*s is %.*s here, and %.*s on rank 0; legal: %s",
                        name_a, a, n - name_a - 1, a + name_a + 1, m - name_b - 1, b + name_b + 1,
                        legal);
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    return par_comm_agree(world, par_problems_status(&problems, PAR_ERR_OPTION));
}
