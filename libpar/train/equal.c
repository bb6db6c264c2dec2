/*
 * A trainer's parameters as lines, of which all ranks must have the same: ranks whose parameters
 * differ would wait for each other for ever, or train what nobody asked for. What the caller's
 * pointers lead to is compared as far as the library knows it: a model's modules and ids, a
 * transformer's whole configuration, names.
 */
#include "../model/layers.h"
#include "libpar/base/fields.h"
#include "libpar/base/number.h"
#include "trainer.h"

#define ROW(type, field) PAR__FIELD(par_trainer_params, PAR__##type, field)
static const par__field rows[] = {ROW(INT32, layout.size[PAR_TP]),
                                  ROW(INT32, layout.size[PAR_CP]),
                                  ROW(INT32, layout.size[PAR_DP]),
                                  ROW(INT32, layout.size[PAR_PP]),
                                  ROW(INT32, layout.order[0]),
                                  ROW(INT32, layout.order[1]),
                                  ROW(INT32, layout.order[2]),
                                  ROW(INT32, layout.order[3]),
                                  ROW(INT32, layout.kv_replicas),
                                  ROW(INT32, dtype),
                                  ROW(UINT64, seed),
                                  ROW(INT64, micro_batch),
                                  ROW(INT64, global_batch),
                                  ROW(BOOL, no_sequence_parallel),
                                  ROW(INT32, tp_pieces),
                                  ROW(BOOL, no_graph),
                                  ROW(INT32, schedule),
                                  ROW(INT32, chunks),
                                  ROW(INT32, recompute),
                                  ROW(SIZE, logits_nbytes),
                                  ROW(BOOL, undrawn),
                                  ROW(BOOL, inference),
                                  ROW(BOOL, evaluates),
                                  ROW(BOOL, keep_logits),
                                  ROW(BOOL, documents_apart),
                                  ROW(INT32, document_end),
                                  ROW(INT32, zero),
                                  ROW(INT64, bucket_n),
                                  ROW(INT32, reduce_dtype),
                                  ROW(INT32, optimizer),
                                  ROW(DOUBLE, beta1),
                                  ROW(DOUBLE, beta2),
                                  ROW(DOUBLE, momentum),
                                  ROW(FLOAT, eps),
                                  ROW(FLOAT, weight_decay),
                                  ROW(FLOAT, clip),
                                  ROW(SIZE, save_memory),
                                  ROW(INT32, nonfinite),
                                  ROW(DOUBLE, scaler.constant),
                                  ROW(DOUBLE, scaler.init),
                                  ROW(DOUBLE, scaler.growth),
                                  ROW(DOUBLE, scaler.backoff),
                                  ROW(DOUBLE, scaler.min),
                                  ROW(DOUBLE, scaler.max),
                                  ROW(INT64, scaler.interval),
                                  ROW(INT64, scaler.hysteresis),
                                  ROW(INT64, scaler.max_skips)};

static void add_model(par__lines *l, const par_model *model) {
    const par_transformer_config *config = par__transformer_config(model);
    char text[PAR__NUMBER_NBYTES];
    par_config_pairs pairs;
    par__lines_add(l, "model", "%s", model->name ? model->name : "");
    par__lines_add(l, "model: modules", "%d", model->n_modules);
    par__lines_add(l, "model: ids", "%lld", (long long)model->n_ids);
    for (int d = 0; d < model->x.ndim; d++)
        par__lines_add(l, "model: x", "%lld", (long long)model->x.shape[d]);
    for (int d = 0; d < model->targets.ndim; d++)
        par__lines_add(l, "model: targets", "%lld", (long long)model->targets.shape[d]);
    if (!config) return;
    par_config_pairs_of(config, &pairs);
    for (int i = 0; i < pairs.n; i++)
        par__lines_add(l, pairs.pairs[i].name, "%s", pairs.pairs[i].value);
    par__lines_add(l, "init_std", "%s", par__exact(text, config->init_std));
}

par_status par__params_equal(par_comm *world, const par_trainer_params *params) {
    par__lines l = {.used = 0};
    par_trainer_params p = {0};
    if (params) {
        p = *params;
        par_trainer_defaults(&p);
        par__lines_fields(&l, rows, (int)(sizeof rows / sizeof *rows), &p);
        par__lines_add(&l, "backend", "%s", p.device ? p.device->name : p.backend);
    }
    if (p.model) add_model(&l, p.model);
    /* only a legal number of parts is there to be read */
    int64_t parts = (int64_t)p.layout.size[PAR_PP] * p.chunks;
    if (!p.model || !p.modules_per_part || parts > p.model->n_modules) parts = 0;
    for (int i = 0; i < parts; i++)
        par__lines_add(&l, "modules_per_part", "%d", p.modules_per_part[i]);
    return par_comm_same(world, PAR_OK, "the trainer's ", l.text);
}
