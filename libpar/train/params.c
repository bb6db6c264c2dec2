/* A trainer's parameters: defaults, and checks that need no communication: every problem at once,
 * each with the legal values. */
#include <string.h>

#include "libpar/base/number.h"
#include "trainer.h"

static bool on_host(const par_trainer_params *p) {
    return p->device ? p->device->on_host : strcmp(p->backend, "cuda") != 0;
}

void par_trainer_defaults(par_trainer_params *p) {
    for (int a = 0; a < PAR_AXIS_COUNT; a++)
        if (p->layout.size[a] == 0) p->layout.size[a] = 1;
    if (p->layout.kv_replicas == 0) p->layout.kv_replicas = 1;
    if (!p->backend) p->backend = "cpu";
    if (p->tp_pieces == 0) p->tp_pieces = 1;
    if (p->chunks == 0) p->chunks = 1;
    if (p->bucket_n == 0) p->bucket_n = 1 << 20;
    if (p->logits_nbytes == 0) p->logits_nbytes = (size_t)(on_host(p) ? 128 : 1024) << 20;
    if (p->beta1 == 0 && p->beta2 == 0) {
        p->beta1 = 0.9;
        p->beta2 = 0.95;
    }
    if (p->eps == 0) p->eps = 1e-8f;
    par_scaler_defaults(&p->scaler);
}

static void check_batch(const par_trainer_params *p, par_problems *problems) {
    int dp = p->layout.size[PAR_DP];
    char legal[256];
    if (p->micro_batch < 1)
        par_problem(problems, "micro-batch %lld must be at least 1", (long long)p->micro_batch);
    if (p->global_batch < 1)
        par_problem(problems, "batch %lld must be at least 1", (long long)p->global_batch);
    if (p->micro_batch < 1 || p->global_batch < 1 || dp < 1) return;
    if (p->global_batch % dp != 0) {
        par_problem(
            problems,
            "batch %lld is not a multiple of dp %d; the nearest legal ones are %lld and %lld",
            (long long)p->global_batch, dp, (long long)(p->global_batch / dp * dp),
            (long long)(p->global_batch / dp * dp + dp));
        return;
    }
    int64_t per_rank = p->global_batch / dp;
    if (per_rank % p->micro_batch == 0) return;
    par__divisors(per_rank, legal, sizeof legal);
    par_problem(problems,
                "micro-batch %lld does not divide the %lld samples of a dp rank (batch %lld / dp "
                "%d); legal: %s",
                (long long)p->micro_batch, (long long)per_rank, (long long)p->global_batch, dp,
                legal);
}

static void check_interleaved(const par_trainer_params *p, par_problems *problems) {
    int pp = p->layout.size[PAR_PP];
    if (p->chunks < 2 || p->chunks > PAR_MAX_CHUNKS)
        par_problem(problems, "the interleaved schedule needs chunks 2..%d, has %d", PAR_MAX_CHUNKS,
                    p->chunks);
    if (pp < 2)
        par_problem(problems,
                    "the interleaved schedule needs pp of at least 2; with pp 1 use 1f1b");
    int64_t unit = p->micro_batch * p->layout.size[PAR_DP];
    if (pp < 2 || unit < 1 || p->global_batch % unit != 0) return;
    int64_t m = p->global_batch / unit;
    if (m % pp != 0)
        par_problem(
            problems,
            "the interleaved schedule needs micro-batches in multiples of pp %d, a step has %lld: "
            "use a batch of %lld",
            pp, (long long)m, (long long)((m + pp - 1) / pp * pp * unit));
}

static void check_schedule(const par_trainer_params *p, par_problems *problems) {
    int pp = p->layout.size[PAR_PP], parts = pp * p->chunks, sum = 0;
    if (p->schedule == PAR_SCHEDULE_INTERLEAVED)
        check_interleaved(p, problems);
    else if (p->chunks != 1)
        par_problem(problems, "chunks %d needs the interleaved schedule; %s has 1", p->chunks,
                    par_schedule_kind_name(p->schedule));
    if (parts > p->model->n_modules)
        par_problem(problems,
                    "pp %d x chunks %d makes %d pipeline parts, the model has %d modules; pp x "
                    "chunks may be "
                    "at most %d",
                    pp, p->chunks, parts, p->model->n_modules, p->model->n_modules);
    if (!p->modules_per_part || parts > p->model->n_modules) return;
    for (int i = 0; i < parts; i++) {
        sum += p->modules_per_part[i];
        if (p->modules_per_part[i] < 1)
            par_problem(problems, "pipeline part %d has %d modules, needs at least 1", i,
                        p->modules_per_part[i]);
    }
    if (sum != p->model->n_modules)
        par_problem(problems, "the pipeline parts have %d modules in all, the model has %d", sum,
                    p->model->n_modules);
}

static void check_numbers(const par_trainer_params *p, par_problems *problems) {
    if (p->dtype != PAR_F32 && p->dtype != PAR_BF16 && p->dtype != PAR_F16)
        par_problem(problems, "precision %s: legal are fp32, bf16, fp16", par_dtype_name(p->dtype));
    if (p->reduce_dtype != PAR_F32 && p->reduce_dtype != PAR_BF16)
        par_problem(problems, "reduce type %s: legal are fp32, bf16",
                    par_dtype_name(p->reduce_dtype));
    if (p->dtype == PAR_F16) par_scaler_check(&p->scaler, problems);
    if (p->tp_pieces < 1 || p->tp_pieces > PAR_MAX_TP_PIECES)
        par_problem(problems, "tp pieces %d: legal are 1 to %d", p->tp_pieces, PAR_MAX_TP_PIECES);
    if (p->zero < 0 || p->zero > 1) par_problem(problems, "zero %d: legal are 0 and 1", p->zero);
    if (!(p->clip >= 0))
        par_problem(problems, "clip %g must be 0 (off) or positive", (double)p->clip);
    if (!(p->weight_decay >= 0))
        par_problem(problems, "weight decay %g must not be negative", (double)p->weight_decay);
    if (p->bucket_n < 0)
        par_problem(problems, "bucket size %lld must be positive", (long long)p->bucket_n);
    if (p->optimizer == PAR_SGD) {
        if (!(p->momentum >= 0 && p->momentum < 1))
            par_problem(problems, "momentum %g must be in [0, 1)", p->momentum);
        return;
    }
    if (!(p->beta1 >= 0 && p->beta1 < 1))
        par_problem(problems, "AdamW's beta1 %g must be in [0, 1)", p->beta1);
    if (!(p->beta2 > 0 && p->beta2 < 1))
        par_problem(problems, "AdamW's beta2 %g must be in (0, 1)", p->beta2);
    if (!(p->eps > 0)) par_problem(problems, "AdamW's eps %g must be positive", (double)p->eps);
}

void par_trainer_check(const par_trainer_params *params, int world_size, par_problems *problems) {
    par_trainer_params p = *params;
    const par_backend *backend;
    par_trainer_defaults(&p);
    if (!p.model || p.model->n_modules < 1) {
        par_problem(problems, "a trainer needs a model with at least one module");
        return;
    }
    par_layout_check(&p.layout, world_size, problems);
    for (int a = 0; a < PAR_AXIS_COUNT; a++)
        if (p.layout.size[a] < 1) return; /* what follows divides by them */
    check_batch(&p, problems);
    check_schedule(&p, problems);
    if (p.documents_apart && p.model->n_ids == 0)
        par_problem(problems, "documents apart: this model's input is not ids, of which one ends a "
                              "document");
    else if (p.documents_apart && (p.document_end < 0 || p.document_end >= p.model->n_ids))
        par_problem(problems, "document end %d: legal are 0 to %lld, ids of the model's vocabulary",
                    (int)p.document_end, (long long)p.model->n_ids - 1);
    check_numbers(&p, problems);
    if (p.dtype != PAR_F16 && params->scaler.constant != 0)
        par_problem(problems, "loss scale %g: precision %s has none; legal with fp16",
                    params->scaler.constant, par_dtype_name(p.dtype));
    /* That a GPU is missing is a rank's own affair, agreed on at create. */
    if (!p.device && strcmp(p.backend, "cuda") != 0 &&
        par_backend_get(p.backend, &backend) != PAR_OK)
        par_problem(problems, "%s", par_error());
}
