/*
 * The option table of train_llm, and what follows from options and world size alone: model, layout,
 * micro-batches. Every problem is a line; nothing here communicates, so every rank comes to the
 * same answer.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

enum { MAX_OPTIONS = 128, MAX_AUTO_MICRO_BATCH = 8 };

static const char usage[] = "usage: mpirun -n RANKS ./train_llm [--tp N] [--pp N] [--dp N] "
                            "[--model NAME] [--data FILE] ...\n"
                            "Trains a transformer with tensor, pipeline and data parallelism.\n"
                            "Exit codes: 0 done, 1 failed, 2 bad options or input, 3 stopped by "
                            "non-finite numbers, 4 stopped by a "
                            "signal.";

static int model_options(settings *s, par_option *t) {
    const char *g = "Model";
    const par_option table[] = {
        {"model", PAR_OPT_TEXT, &s->model, g,
         "preset; small: a Llama of 8 layers and 128 channels on bytes", NULL, false},
        {"import", PAR_OPT_TEXT, &s->import, g, "start from this Hugging Face directory", NULL,
         false},
        {"layers", PAR_OPT_INT, &s->layers, g, "L, blocks; 0: the model's", "0..100000", false},
        {"channels", PAR_OPT_INT, &s->channels, g, "C; 0: the model's", "0..1000000", false},
        {"heads", PAR_OPT_INT, &s->heads, g, "H; 0: the model's", "0..100000", false},
        {"kv-heads", PAR_OPT_INT, &s->kv_heads, g, "K; 0: the model's, or H with --heads",
         "0..100000", false},
        {"head-size", PAR_OPT_INT, &s->head_size, g, "D; 0: the model's, or C/H if one was given",
         "0..65536", false},
        {"mlp", PAR_OPT_INT, &s->mlp, g, "F; 0: the model's, or in proportion to --channels",
         "0..10000000", false},
        {"tokens", PAR_OPT_INT, &s->tokens, g, "T, length of a sequence; 0: the model's",
         "0..10000000", false},
        {"vocab", PAR_OPT_INT, &s->vocab, g, "V; 0: the model's", "0..10000000", false},
        {"dropout", PAR_OPT_REAL, &s->dropout, g, "-1: the model's", "-1..0.99", false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int layout_options(settings *s, par_option *t) {
    const char *g = "Layout (0: what the world leaves)";
    const par_option table[] = {
        {"tp", PAR_OPT_INT, &s->tp, g, "tensor parallel ranks", "0..1000000", false},
        {"cp", PAR_OPT_INT, &s->cp, g, "context parallel ranks, 1 in this version", "0..1000000",
         false},
        {"pp", PAR_OPT_INT, &s->pp, g, "pipeline stages", "0..1000000", false},
        {"dp", PAR_OPT_INT, &s->dp, g, "data parallel ranks", "0..1000000", false},
        {"order", PAR_OPT_TEXT, &s->order, g, "axes, fastest first", NULL, false},
        {"schedule", PAR_OPT_CHOICE, &s->schedule, g, "of the pipeline", "gpipe|1f1b|interleaved",
         false},
        {"chunks", PAR_OPT_INT, &s->chunks, g, "v, parts of the model a stage (interleaved)",
         "1..16", false},
        {"pp-layers", PAR_OPT_LIST, &s->pp_layers, g, "blocks of each part; else balanced by work",
         "0..100000", false},
        {"sequence-parallel", PAR_OPT_BOOL, &s->sequence_parallel, g,
         "norms on token shards, if tp > 1", NULL, false},
        {"zero", PAR_OPT_INT, &s->zero, g, "1: optimizer state sharded over dp", "0..1", false},
        {"recompute", PAR_OPT_CHOICE, &s->recompute, g, "activations made again in backward",
         "none|selective|full", false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int training_options(settings *s, par_option *t) {
    const char *g = "Training";
    const par_option table[] = {
        {"batch", PAR_OPT_INT, &s->batch, g, "samples a step, over all ranks", "1..", false},
        {"micro-batch", PAR_OPT_INT, &s->micro_batch, g,
         "samples a rank and micro-batch; 0: up to 8 that leave pp micro-batches", "0..", false},
        {"steps", PAR_OPT_INT, &s->steps, g, "", "1..", false},
        {"optimizer", PAR_OPT_CHOICE, &s->optimizer, g, "", "adamw|sgd", false},
        {"lr", PAR_OPT_REAL, &s->lr, g, "highest learning rate", "0..", false},
        {"lr-schedule", PAR_OPT_CHOICE, &s->lr_schedule, g,
         "after the warm-up; wsd: --lr, then a line down", "cosine|linear|wsd|constant", false},
        {"min-lr", PAR_OPT_REAL, &s->min_lr, g,
         "at the last step (not constant); -1: a tenth of --lr", "-1..", false},
        {"warmup", PAR_OPT_INT, &s->warmup, g, "steps from 0 to --lr", "0..", false},
        {"decay-steps", PAR_OPT_INT, &s->decay_steps, g, "of wsd; -1: a fifth of --steps", "-1..",
         false},
        {"beta1", PAR_OPT_REAL, &s->beta1, g, "", "0..0.999999", false},
        {"beta2", PAR_OPT_REAL, &s->beta2, g, "", "0.000001..0.999999", false},
        {"eps", PAR_OPT_REAL, &s->eps, g, "", "1e-30..", false},
        {"weight-decay", PAR_OPT_REAL, &s->weight_decay, g, "of matrices", "0..", false},
        {"momentum", PAR_OPT_REAL, &s->momentum, g, "of sgd", "0..0.999999", false},
        {"clip", PAR_OPT_REAL, &s->clip, g, "global gradient norm; 0: off", "0..", false},
        {"seed", PAR_OPT_INT, &s->seed, g, "weights, dropout, order of samples", "0..", false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int precision_options(settings *s, par_option *t) {
    const char *g = "Precision (master weights, moments and gradients are fp32)";
    const par_option table[] = {
        {"precision", PAR_OPT_CHOICE, &s->precision, g, "of weights and activations",
         "fp32|bf16|fp16", false},
        {"nonfinite", PAR_OPT_CHOICE, &s->nonfinite, g,
         "a step with inf or NaN gradients; fp16 skips by itself", "stop|skip", false},
        {"loss-scale", PAR_OPT_REAL, &s->loss_scale, g, "fp16: a constant scale; 0: dynamic",
         "0..4294967296", false},
        {"loss-scale-init", PAR_OPT_REAL, &s->loss_scale_init, g, "of the first step",
         "0.000001..4294967296", false},
        {"loss-scale-window", PAR_OPT_INT, &s->loss_scale_window, g, "clean steps until it doubles",
         "1..", false},
        {"loss-scale-hysteresis", PAR_OPT_INT, &s->loss_scale_hysteresis, g,
         "overflows in a row until it halves", "1..", false},
        {"loss-scale-min", PAR_OPT_REAL, &s->loss_scale_min, g, "smallest", "0.000001..4294967296",
         false},
        {"loss-scale-max", PAR_OPT_REAL, &s->loss_scale_max, g, "largest", "0.000001..4294967296",
         false},
        {"max-skips", PAR_OPT_INT, &s->max_skips, g,
         "skips in a row, at the smallest scale if it is dynamic, that end the training", "1..",
         false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int sample_options(settings *s, par_option *t) {
    const char *g = "Sampling";
    const par_option table[] = {
        {"sample", PAR_OPT_BOOL, &s->sample, g,
         "no training: text from the weights of --resume or --import", NULL, false},
        {"sample-tokens", PAR_OPT_INT, &s->sample_tokens, g,
         "new ones, also after a training; -1: 100, or what fits; 0: no sample", "-1..10000000",
         false},
        {"sample-count", PAR_OPT_INT, &s->sample_count, g, "texts", "1..1000", false},
        {"prompt", PAR_OPT_TEXT, &s->prompt, g,
         "how the text begins; else the end of a text or a new line", NULL, false},
        {"temperature", PAR_OPT_REAL, &s->temperature, g,
         "logits are divided by it; 0: always the likeliest", "0..1000000", false},
        {"top-k", PAR_OPT_INT, &s->top_k, g, "draw among so many likeliest tokens; 0: all", "0..",
         false},
        {"sample-seed", PAR_OPT_INT, &s->sample_seed, g, "of the draws", "0..", false},
        {"tokenizer", PAR_OPT_TEXT, &s->tokenizer, g,
         "bytes, a .vocab file or a directory of par data's, a tokenizer.json; else what lies "
         "beside --data "
         "or in "
         "--import",
         NULL, false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int other_options(settings *s, par_option *t) {
    const char *d = "Data", *o = "Output", *c = "Checkpoints", *g = "Machine and diagnostics";
    const par_option table[] = {
        {"data", PAR_OPT_TEXT, &s->data, d, "token file; else quickstart's, if it is there", NULL,
         false},
        {"split", PAR_OPT_REAL, &s->split, d, "last part of the file, for validation", "0..0.9",
         false},
        {"eval-every", PAR_OPT_INT, &s->eval_every, o, "steps; 0: only at the end", "0..", false},
        {"eval-batches", PAR_OPT_INT, &s->eval_batches, o, "batches of validation at most", "1..",
         false},
        {"log-every", PAR_OPT_INT, &s->log_every, o, "steps", "1..", false},
        {"save", PAR_OPT_TEXT, &s->save, c, "directory for checkpoints; one at the end in any case",
         NULL, false},
        {"save-every", PAR_OPT_INT, &s->save_every, c, "steps; 0: only at the end and on signals",
         "0..", false},
        {"keep", PAR_OPT_INT, &s->keep, c, "newest checkpoints that stay; 0: all", "0..1000000",
         false},
        {"resume", PAR_OPT_TEXT, &s->resume, c,
         "a directory of checkpoints, or one; auto: --save's newest, if any", NULL, false},
        {"log", PAR_OPT_TEXT, &s->log, o,
         "a JSON line a step, behind what is in this file; resumed runs go on in it", NULL, false},
        {"curve", PAR_OPT_TEXT, &s->curve, o, "loss over steps as SVG, to this file", NULL, false},
        {"bigram", PAR_OPT_BOOL, &s->bigram, o, "print a bigram table's loss for comparison", NULL,
         false},
        {"device", PAR_OPT_CHOICE, &s->device, g,
         "what computes: cuda needs a GPU; ref: plain loops", "cpu|cuda|ref", false},
        {"gpu", PAR_OPT_INT, &s->gpu, g, "number of the GPU; -1: by the rank on its node",
         "-1..1023", false},
        {"comm", PAR_OPT_CHOICE, &s->comm, g,
         "cuda: between GPUs; staged: through pinned host memory and MPI, the default where GPUs "
         "are shared",
         "nccl|staged", false},
        {"allow-shared-gpu", PAR_OPT_BOOL, &s->allow_shared_gpu, g,
         "several ranks may use one GPU: for functional tests, slow", NULL, false},
        {"tune-gemm", PAR_OPT_BOOL, &s->tune_gemm, g,
         "cuda: time every product's candidates once, at start", NULL, false},
        {"tf32", PAR_OPT_BOOL, &s->tf32, g, "cuda, fp32: products round their factors to TF32",
         NULL, false},
        {"attention-workspace", PAR_OPT_INT, &s->attention_workspace, g,
         "cuda: MiB for attention's backward, which grows with T x T; 0: an eighth of the GPU",
         "0..16777216", false},
        {"nondeterministic-attention", PAR_OPT_BOOL, &s->nondeterministic_attention, g,
         "cuda: less workspace, bits that differ from run to run", NULL, false},
        {"plan-cache", PAR_OPT_TEXT, &s->plan_cache, g, "cuda: folder for compiled attention plans",
         NULL, false},
        {"threads", PAR_OPT_INT, &s->threads, g, "a rank; 0: the node's cores shared by its ranks",
         "0..4096", false},
        {"check-comm", PAR_OPT_BOOL, &s->check_comm, g, "ranks compare every collective first",
         NULL, false},
        {"comm-matrix", PAR_OPT_BOOL, &s->comm_matrix, g,
         "at the end, print who sent how much to whom, and why", NULL, false},
        {"comm-matrix-csv", PAR_OPT_TEXT, &s->comm_matrix_csv, g, "the same to this file", NULL,
         false},
        {"comm-matrix-svg", PAR_OPT_TEXT, &s->comm_matrix_svg, g,
         "the same as heat maps, to this file", NULL, false},
        {"dry-run", PAR_OPT_BOOL, &s->dry_run, g,
         "print every stage's memory plan, without data or mpirun", NULL, false},
        {"verify-parallel", PAR_OPT_BOOL, &s->verify_parallel, g,
         "compare this layout with one rank, instead of training", NULL, false},
        {"verify-layers", PAR_OPT_INT, &s->verify_layers, g,
         "blocks of the model that is compared; 0: all", "0..", false},
        {"verify-steps", PAR_OPT_INT, &s->verify_steps, g, "", "1..1000", false},
        {"show-mesh", PAR_OPT_BOOL, &s->show_mesh, g, "print the table of ranks", NULL, false},
        {"gantt", PAR_OPT_BOOL, &s->gantt, g, "print the pipeline schedule", NULL, false},
        {"help", PAR_OPT_BOOL, &s->help, g, "", NULL, false},
        {"version", PAR_OPT_BOOL, &s->version, g, "", NULL, false},
    };
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

static int options_table(settings *s, par_option *table) {
    const settings defaults = {
        .model = "small",
        .dropout = -1,
        .tp = 1,
        .cp = 1,
        .pp = 1,
        .order = "tp-cp-dp-pp",
        .batch = 32,
        .steps = 100,
        .warmup = 20,
        .seed = 1234,
        .lr = 1e-3,
        .min_lr = -1,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .weight_decay = 0.1,
        .clip = 1,
        .momentum = 0.9,
        .optimizer = "adamw",
        .lr_schedule = "cosine",
        .decay_steps = -1,
        .schedule = "1f1b",
        .recompute = "none",
        .nonfinite = "stop",
        .precision = "fp32",
        .loss_scale_init = 65536,
        .loss_scale_window = 1000,
        .loss_scale_hysteresis = 2,
        .loss_scale_min = 1,
        .loss_scale_max = 4294967296.0,
        .max_skips = 16,
        .chunks = 1,
        .sequence_parallel = true,
        .device = "cpu",
        .gpu = -1,
        .split = 0.1,
        .eval_every = 50,
        .eval_batches = 8,
        .log_every = 1,
        .verify_steps = 3,
        .keep = 3,
        .sample_tokens = -1,
        .sample_count = 1,
        .temperature = 0.8,
        .top_k = 200,
        .sample_seed = 1,
    };
    *s = defaults;
    int n = model_options(s, table);
    n += layout_options(s, table + n);
    n += training_options(s, table + n);
    n += precision_options(s, table + n);
    n += sample_options(s, table + n);
    return n + other_options(s, table + n);
}

/* What saving and resuming need, before anything runs. */
static void check_checkpoints(const settings *s, par_problems *problems) {
    const char *missing = par_checkpoint_missing();
    if ((s->save || s->resume) && missing) par_problem(problems, "--save, --resume: %s", missing);
    if ((s->save && !*s->save) || (s->resume && !*s->resume))
        par_problem(problems, "--save, --resume: empty; legal: a directory");
    if (!s->save && s->save_every) par_problem(problems, "--save-every: needs --save");
    if (!s->save && s->resume && strcmp(s->resume, "auto") == 0)
        par_problem(problems, "--resume auto: needs --save; legal without it: a directory");
    if (s->save && s->steps > 99999999)
        par_problem(problems, "--steps %lld: with --save at most 99999999", (long long)s->steps);
}

static void check_sampling(const settings *s, par_problems *problems) {
    if (s->sample && !s->resume && !s->import)
        par_problem(problems, "--sample: has no weights; legal: with --resume DIR or --import DIR");
    if (s->sample && s->sample_tokens == 0)
        par_problem(problems, "--sample, --sample-tokens 0: legal: 1 or more tokens, or -1");
    if (s->sample && s->verify_parallel)
        par_problem(problems, "--sample, --verify-parallel: legal: one of the two");
}

/* What belongs to one device only. */
static void check_device(const settings *s, par_problems *problems) {
    const struct {
        const char *name;
        bool given;
    } cuda[] = {{"gpu", s->gpu >= 0},
                {"allow-shared-gpu", s->allow_shared_gpu},
                {"tf32", s->tf32},
                {"tune-gemm", s->tune_gemm},
                {"attention-workspace", s->attention_workspace > 0},
                {"nondeterministic-attention", s->nondeterministic_attention},
                {"plan-cache", s->plan_cache != NULL},
                {"comm", s->comm != NULL}};
    for (int i = 0; i < 8 && strcmp(s->device, "cuda") != 0; i++)
        if (cuda[i].given)
            par_problem(problems, "--%s: needs --device cuda, this is %s", cuda[i].name, s->device);
}

void options_parse(settings *s, int argc, char **argv, par_problems *problems) {
    par_option table[MAX_OPTIONS];
    int n = options_table(s, table);
    par_options_parse(table, n, argc - 1, argv + 1, problems);
    for (int i = 0; i < n; i++)
        if (strcmp(table[i].name, "sequence-parallel") == 0)
            s->sequence_parallel_set = table[i].set;
    if (s->min_lr < 0) s->min_lr = s->lr / 10;
    int64_t after = s->steps > s->warmup ? s->steps - s->warmup : 0;
    if (s->decay_steps < 0) s->decay_steps = s->steps / 5 < after ? s->steps / 5 : after;
    if (strcmp(s->lr_schedule, "wsd") == 0 && s->decay_steps > after)
        par_problem(problems, "--decay-steps %lld: legal: up to --steps - --warmup = %lld",
                    (long long)s->decay_steps, (long long)after);
    if (s->min_lr > s->lr) par_problem(problems, "--min-lr %g: is above --lr %g", s->min_lr, s->lr);
    if (s->import && strcmp(s->model, "small") != 0)
        par_problem(problems, "--import %s, --model %s: one model at a time", s->import, s->model);
    check_checkpoints(s, problems);
    check_sampling(s, problems);
    check_device(s, problems);
}

void options_help(char *text, size_t nbytes) {
    settings s;
    par_option table[MAX_OPTIONS];
    int n = options_table(&s, table);
    par_options_help(table, n, usage, text, nbytes);
}

/* A Llama: small enough for 64 ranks on a laptop, deep enough for 8 stages. */
static const par_transformer_config small = {
    .name = "small",
    .vocab = 256,
    .tokens = 128,
    .positions = 128,
    .layers = 8,
    .channels = 128,
    .heads = 4,
    .kv_heads = 4,
    .head_size = 32,
    .mlp = 352,
    .rmsnorm = true,
    .norm_eps = 1e-5f,
    .rope = true,
    .rope_theta = 10000,
    .swiglu = true,
    .tied = true,
};

static void override_model(const settings *s, par_transformer_config *c) {
    if (s->channels) {
        if (!s->mlp) c->mlp = c->mlp * s->channels / c->channels;
        c->channels = s->channels;
    }
    if (s->heads) c->kv_heads = c->heads = s->heads;
    if (s->kv_heads) c->kv_heads = s->kv_heads;
    if ((s->channels || s->heads) && c->heads) c->head_size = c->channels / c->heads;
    if (s->head_size) c->head_size = s->head_size;
    if (s->mlp) c->mlp = s->mlp;
    if (s->layers) c->layers = s->layers;
    if (s->verify_parallel && s->verify_layers) c->layers = s->verify_layers;
    if (s->vocab) c->vocab = s->vocab;
}

void options_model(const settings *s, par_transformer_config *c, par_problems *problems) {
    *c = small;
    if (strcmp(s->model, "small") != 0 && par_transformer_preset(s->model, c) != PAR_OK) {
        par_problem(problems, "--model %s: %s, small", s->model, par_error());
        *c = small;
    }
    override_model(s, c);
    if (s->tokens && strcmp(c->name, "small") == 0) c->positions = s->tokens;
}

/* What applies to presets and imports alike. */
static void common_model(const settings *s, par_transformer_config *c, par_problems *problems) {
    if (s->import &&
        (s->layers || s->channels || s->heads || s->kv_heads || s->head_size || s->mlp || s->vocab))
        par_problem(problems, "--import %s: its shape is given; legal with it: --tokens, --dropout",
                    s->import);
    if (s->tokens) c->tokens = s->tokens;
    if (s->dropout >= 0) c->dropout = c->attention_dropout = (float)s->dropout;
}

/* The first axis of 0 in the order dp, tp, pp, cp gets what is left of the world, others 1. */
static void derive_layout(const settings *s, int world_size, int size[PAR_AXIS_COUNT]) {
    static const par_axis order[] = {PAR_DP, PAR_TP, PAR_PP, PAR_CP};
    int64_t product = 1;
    size[PAR_TP] = (int)s->tp;
    size[PAR_CP] = (int)s->cp;
    size[PAR_DP] = (int)s->dp;
    size[PAR_PP] = (int)s->pp;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (size[i] && product <= world_size) product *= size[i];
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        if (size[order[i]]) continue;
        size[order[i]] =
            product <= world_size && world_size % product == 0 ? (int)(world_size / product) : 1;
        product = world_size;
    }
}

/* Up to 8 samples, if they leave a multiple of pp micro-batches; 1 otherwise. */
static int64_t derive_micro_batch(int64_t batch, const par_layout *layout) {
    int64_t share = batch / layout->size[PAR_DP];
    for (int64_t b = MAX_AUTO_MICRO_BATCH; b > 1; b--)
        if (share % b == 0 && share / b % layout->size[PAR_PP] == 0) return b;
    return 1;
}

static void resolve_parts(run *r, par_problems *problems) {
    const par_int_list *list = &r->set.pp_layers;
    int parts = r->params.layout.size[PAR_PP] * (int)r->set.chunks;
    int64_t sum = 0;
    if (list->n == 0) return;
    for (int i = 0; i < list->n; i++) sum += r->modules_per_part[i] = list->values[i];
    if (list->n != parts)
        par_problem(problems, "--pp-layers: has %d numbers; legal: one a part, pp · chunks = %d",
                    list->n, parts);
    if (sum != r->config.layers)
        par_problem(problems, "--pp-layers: adds up to %lld blocks; legal: the model's %lld",
                    (long long)sum, (long long)r->config.layers);
    r->modules_per_part[0]++;
    r->modules_per_part[list->n - 1]++;
    r->params.modules_per_part = r->modules_per_part;
}

static void resolve_kinds(const settings *s, par_trainer_params *p) {
    p->schedule = strcmp(s->schedule, "gpipe") == 0  ? PAR_SCHEDULE_GPIPE
                  : strcmp(s->schedule, "1f1b") == 0 ? PAR_SCHEDULE_1F1B
                                                     : PAR_SCHEDULE_INTERLEAVED;
    p->recompute = strcmp(s->recompute, "none") == 0        ? PAR_RECOMPUTE_NONE
                   : strcmp(s->recompute, "selective") == 0 ? PAR_RECOMPUTE_SELECTIVE
                                                            : PAR_RECOMPUTE_FULL;
    p->dtype = strcmp(s->precision, "fp32") == 0   ? PAR_F32
               : strcmp(s->precision, "bf16") == 0 ? PAR_BF16
                                                   : PAR_F16;
    p->optimizer = strcmp(s->optimizer, "adamw") == 0 ? PAR_ADAMW : PAR_SGD;
    p->nonfinite = strcmp(s->nonfinite, "stop") == 0 ? PAR_NONFINITE_STOP : PAR_NONFINITE_SKIP;
}

static void resolve_numbers(const settings *s, par_trainer_params *p) {
    p->backend = s->device;
    p->scaler = (par_scaler_params){.constant = s->loss_scale,
                                    .init = s->loss_scale_init,
                                    .min = s->loss_scale_min,
                                    .max = s->loss_scale_max,
                                    .interval = s->loss_scale_window,
                                    .hysteresis = s->loss_scale_hysteresis,
                                    .max_skips = s->max_skips};
    p->seed = (uint64_t)s->seed;
    p->global_batch = s->batch;
    p->no_sequence_parallel = !s->sequence_parallel;
    p->chunks = (int)s->chunks;
    p->zero = (int)s->zero;
    p->beta1 = s->beta1;
    p->beta2 = s->beta2;
    p->eps = (float)s->eps;
    p->weight_decay = (float)s->weight_decay;
    p->momentum = s->momentum;
    p->clip = (float)s->clip;
}

/* Checks of two places may name the same problem: keep the first of equal lines. */
static void drop_repeated(par_problems *problems) {
    par_problems once = {0};
    for (char *line = strtok(problems->text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(once.text, line)) par_problem(&once, "%s", line);
    *problems = once;
}

void options_resolve(run *r, int world_size, par_problems *problems) {
    const settings *s = &r->set;
    par_trainer_params *p = &r->params;
    common_model(s, &r->config, problems);
    resolve_kinds(s, p);
    resolve_numbers(s, p);
    derive_layout(s, world_size, p->layout.size);
    if (par_layout_parse_order(s->order, p->layout.order) != PAR_OK)
        par_problem(problems, "--order %s: %s", s->order, par_error());
    par_layout_check(&p->layout, world_size, problems);
    p->micro_batch = s->micro_batch ? s->micro_batch : derive_micro_batch(s->batch, &p->layout);
    if (s->sequence_parallel_set && s->sequence_parallel && p->layout.size[PAR_TP] == 1)
        par_problem(problems, "--sequence-parallel: needs --tp of at least 2");
    bool sequence_parallel = s->sequence_parallel && p->layout.size[PAR_TP] > 1;
    par_transformer_check(&r->config, &p->layout, p->micro_batch, sequence_parallel, problems,
                          &r->notes);
    resolve_parts(r, problems);
    if (problems->n == 0 && par_transformer_create(&r->config, &r->model) != PAR_OK)
        par_problem(problems, "%s", par_error());
    p->model = r->model;
    if (r->model) par_trainer_check(p, world_size, problems);
    drop_repeated(problems);
    r->n_micro = problems->n ? 0 : (int)(p->global_batch / p->micro_batch / p->layout.size[PAR_DP]);
}

double options_lr(const settings *s, int64_t step) {
    if (strcmp(s->lr_schedule, "linear") == 0)
        return par_lr_linear(step, s->lr, s->min_lr, s->warmup, s->steps);
    if (strcmp(s->lr_schedule, "wsd") == 0)
        return par_lr_wsd(step, s->lr, s->min_lr, s->warmup, s->steps, s->decay_steps);
    if (strcmp(s->lr_schedule, "constant") == 0) return par_lr_constant(step, s->lr, s->warmup);
    return par_lr_cosine(step, s->lr, s->min_lr, s->warmup, s->steps);
}

void run_destroy(run *r) {
    par_transformer_destroy(&r->model);
}
