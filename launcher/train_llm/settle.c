/*
 * What follows from the options of train_llm and the world's size alone: the model, the layout,
 * micro-batches, the trainer's parameters. Every problem is a line; nothing here communicates, so
 * every rank comes to the same answer.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "observe.h"

enum { MAX_AUTO_MICRO_BATCH = 8 };

const par_transformer_config llm_small = {
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

/* What saving and resuming need, before anything runs. */
static void check_checkpoints(const llm_settings *s, bool automatic, par_problems *problems) {
    const char *missing = par_checkpoint_missing();
    if ((s->save || s->resume) && missing) par_problem(problems, "--save, --resume: %s", missing);
    const char *first = llm_resume_first(s);
    if ((s->save && !*s->save) || (s->resume && !*s->resume) || (first && !*first))
        par_problem(problems, "--save, --resume: empty; legal: a directory");
    if (!s->save && s->save_every) par_problem(problems, "--save-every: needs --save");
    if (!s->save && s->save_async) par_problem(problems, "--save-async: needs --save");
    if (!s->save_async && s->save_memory)
        par_problem(problems, "--save-memory: needs --save-async");
    if (!s->save && automatic && !first)
        par_problem(problems, "--resume auto: needs --save; legal without it: a directory");
    if (first && s->import)
        par_problem(problems, "--resume auto:DIR, --import: both say where it begins; legal: one");
    if (!s->save && (s->keep_every || s->keep_best))
        par_problem(problems, "--keep-every, --keep-best: need --save");
    if (s->keep_best && s->split <= 0)
        par_problem(problems, "--keep-best: needs a validation part; legal: --split above 0");
    if (s->save && s->steps > 99999999)
        par_problem(problems, "--steps %lld: with --save at most 99999999", (long long)s->steps);
}

/* What ends a training early. */
static void settle_end(llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    if (s->exit_after) r->exit_after_s = llm_signals_duration(s->exit_after);
    if (s->exit_after && r->exit_after_s <= 0)
        par_problem(problems, "--exit-after %s: is not a time; legal: as 3h50m, 90m, 1d12h, 45s",
                    s->exit_after);
    if (s->stop_file)
        snprintf(r->stop_file, sizeof r->stop_file, "%s", s->stop_file);
    else if (s->save)
        snprintf(r->stop_file, sizeof r->stop_file, "%s/stop", s->save);
}

static void check_sampling(const llm_settings *s, par_problems *problems) {
    if (s->sample && !s->resume && !s->import)
        par_problem(problems, "--sample: needs weights; legal: with --resume DIR or --import DIR");
    if (s->sample && s->sample_tokens == 0)
        par_problem(problems, "--sample, --sample-tokens 0: legal: 1 or more tokens, or -1");
    if (s->prompt && s->prompt_file)
        par_problem(problems, "--prompt, --prompt-file: legal: one of the two");
    if (s->sample && s->verify_parallel)
        par_problem(problems, "--sample, --verify-parallel: legal: one of the two");
}

static void check_evaluation(const llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    const struct {
        const char *name;
        bool given;
    } others[] = {{"sample", s->sample},
                  {"verify-parallel", s->verify_parallel},
                  {"save", s->save && llm_config_given(r, "save")},
                  {"log", s->log != NULL},
                  {"csv", s->csv != NULL},
                  {"tensorboard", s->tensorboard != NULL},
                  {"curve", s->curve != NULL}};
    if (!s->eval_only) return;
    if (!s->resume && !s->import)
        par_problem(problems,
                    "--eval-only: needs weights; legal: with --resume DIR or --import DIR");
    if (s->split <= 0)
        par_problem(problems, "--eval-only: needs a validation part; legal: --split above 0");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            par_problem(problems, "--eval-only, --%s: legal: one of the two", others[i].name);
}

/* A name that promises another kind of picture. */
static void check_picture(const char *option, const char *path, par_problems *problems) {
    static const char *const others[] = {".png", ".pdf", ".jpg", ".jpeg", ".html"};
    const char *suffix = path ? strrchr(path, '.') : NULL;
    for (size_t i = 0; suffix && i < sizeof others / sizeof *others; i++)
        if (strcmp(suffix, others[i]) == 0)
            par_problem(problems, "--%s %s: what is drawn is SVG; legal: a name that ends in .svg",
                        option, path);
}

/* What belongs to one device only. */
static void check_device(const llm_settings *s, par_problems *problems) {
    const struct {
        const char *name;
        bool given;
    } cuda[] = {{"gpu", s->gpu >= 0},
                {"allow-shared-gpu", s->allow_shared_gpu},
                {"tf32", s->tf32},
                {"tune-gemm", s->tune_gemm},
                {"attention-workspace", s->attention_workspace > 0},
                {"nondeterministic-attention", s->nondeterministic_attention},
                {"no-graph", s->no_graph},
                {"strict-kernels", s->strict_kernels},
                {"plan-cache", s->plan_cache != NULL},
                {"comm", s->comm != PAR_LINK_DEFAULT}};
    for (size_t i = 0; i < sizeof cuda / sizeof *cuda && s->device != LLM_CUDA; i++)
        if (cuda[i].given)
            par_problem(problems, "--%s: needs --device cuda, this is %s", cuda[i].name,
                        par_choice_name(llm_devices, s->device));
}

/* The preset with the options' shape. A model that is not imported is whole afterwards. */
static void settle_model(llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    par_transformer_config *c = &r->config;
    const char *name = s->model;
    *c = llm_small;
    r->guessed = s->import != NULL;
    if (strcmp(name, llm_small.name) != 0 && par_transformer_preset(name, c) != PAR_OK) {
        struct stat about;
        if (stat(name, &about) == 0 && S_ISDIR(about.st_mode))
            par_problem(problems, "--model %s: is a folder; --import %s starts from its weights",
                        name, name);
        else
            par_problem(problems, "--model %s: %s, %s", name, par_error(), llm_small.name);
        *c = llm_small;
        r->guessed = true;
    }
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
    if (s->tokens && strcmp(c->name, llm_small.name) == 0) c->positions = s->tokens;
}

void llm_settle_options(llm_run *r, const llm_world *w, par_problems *problems) {
    llm_settings *s = &r->set;
    llm_trace_check(r, problems);
    int64_t after = s->steps > s->warmup ? s->steps - s->warmup : 0;
    if (s->min_lr < 0) s->min_lr = s->lr / 10;
    if (s->decay_steps < 0) s->decay_steps = s->steps / 5 < after ? s->steps / 5 : after;
    if (s->lr_schedule == LLM_LR_WSD && s->decay_steps > after)
        par_problem(problems, "--decay-steps %lld: legal: up to --steps - --warmup = %lld",
                    (long long)s->decay_steps, (long long)after);
    if (s->warmup > s->steps && s->steps > 0)
        par_problem(&r->notes, "--warmup %lld is longer than --steps %lld: the rate ends at %.2g",
                    (long long)s->warmup, (long long)s->steps, llm_settle_lr(s, s->steps));
    if (s->min_lr > s->lr) par_problem(problems, "--min-lr %g: is above --lr %g", s->min_lr, s->lr);
    if (s->import && llm_config_given(r, "model"))
        par_problem(problems, "--import %s, --model %s: one model at a time", s->import, s->model);
    if (!s->data) s->data = llm_data_default();
    llm_run_settle(r, problems);
    check_evaluation(r, problems);
    check_checkpoints(s, llm_resume_is_auto(s), problems);
    settle_end(r, problems);
    llm_cost_settle(s, problems);
    check_sampling(s, problems);
    check_device(s, problems);
    check_picture("curve", s->curve, problems);
    check_picture("comm-matrix-svg", s->comm_matrix_svg, problems);
    llm_carried_read(r, w, problems);
    if (r->carried.model && !llm_config_given(r, "model"))
        llm_carried_settle(r, problems);
    else
        settle_model(r, problems);
}

void llm_settle_import(llm_run *r, const par_import *import) {
    r->config = *par_import_config(import);
    snprintf(r->carried.kept, sizeof r->carried.kept, "%s", par_import_kept(import));
    r->guessed = false;
}

/* The first axis of 0 in the order dp, tp, pp, cp gets what is left of the world, others 1. */
static void settle_layout(llm_settings *s, int world_size, int size[PAR_AXIS_COUNT]) {
    static const par_axis order[] = {PAR_DP, PAR_TP, PAR_PP, PAR_CP};
    int64_t *const sizes[] = {
        [PAR_TP] = &s->tp, [PAR_CP] = &s->cp, [PAR_DP] = &s->dp, [PAR_PP] = &s->pp};
    int64_t product = 1;
    for (int i = 0; i < PAR_AXIS_COUNT; i++)
        if (*sizes[i] && product <= world_size) product *= *sizes[i];
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        int64_t *axis = sizes[order[i]];
        if (*axis) continue;
        *axis = product <= world_size && world_size % product == 0 ? world_size / product : 1;
        product = world_size;
    }
    for (int i = 0; i < PAR_AXIS_COUNT; i++) size[i] = (int)*sizes[i];
}

/* Up to 8 samples, if they leave a multiple of pp micro-batches, with pp of 2 and more at least
 * 4 pp of them (Huang et al. 2019, GPipe: the bubble hardly matters then); 1 otherwise. */
static int64_t auto_micro_batch(int64_t batch, const par_layout *layout) {
    int64_t share = batch / layout->size[PAR_DP], pp = layout->size[PAR_PP];
    for (int64_t b = MAX_AUTO_MICRO_BATCH; b > 1; b--)
        if (share % b == 0 && share / b % pp == 0 && (pp == 1 || share / b >= 4 * pp)) return b;
    return 1;
}

static void settle_parts(llm_run *r, par_problems *problems) {
    const par_int_list *list = &r->set.pp_layers;
    int parts = r->params.layout.size[PAR_PP] * (int)r->set.chunks;
    int before = problems->n;
    int64_t sum = 0;
    if (list->n == 0) return;
    for (int i = 0; i < list->n; i++) sum += r->modules_per_part[i] = list->values[i];
    if (list->n != parts)
        par_problem(problems, "--pp-layers: has %d number%s; legal: one per part, pp · chunks = %d",
                    list->n, llm_report_s(list->n), parts);
    if (sum != r->config.layers && !r->guessed)
        par_problem(problems, "--pp-layers: adds up to %lld blocks; legal: the model's %lld",
                    (long long)sum, (long long)r->config.layers);
    if (r->guessed || problems->n > before) return;
    r->modules_per_part[0]++;
    r->modules_per_part[list->n - 1]++;
    r->params.modules_per_part = r->modules_per_part;
}

static void settle_params(const llm_settings *s, par_trainer_params *p) {
    p->schedule = (par_schedule_kind)s->schedule;
    p->recompute = (par_recompute)s->recompute;
    p->logits_nbytes = (size_t)s->logits_memory << 20;
    p->dtype = (par_dtype)s->precision;
    p->reduce_dtype = (par_dtype)s->reduce_dtype;
    p->optimizer = (par_optimizer)s->optimizer;
    p->nonfinite = (par_nonfinite)s->nonfinite;
    p->backend = par_choice_name(llm_devices, s->device);
    p->scaler = (par_scaler_params){.constant = s->loss_scale,
                                    .init = s->loss_scale_init,
                                    .min = s->loss_scale_min,
                                    .max = s->loss_scale_max,
                                    .interval = s->loss_scale_window,
                                    .hysteresis = s->loss_scale_hysteresis,
                                    .max_skips = s->max_skips};
    p->seed = (uint64_t)s->seed;
    p->undrawn = (s->import || s->resume) && !s->verify_parallel;
    p->inference = s->sample || s->eval_only;
    p->evaluates = s->eval_only;
    p->documents_apart = s->documents == LLM_DOCUMENTS_APART && !s->sample;
    p->document_end = s->document_end > 0 ? (int32_t)s->document_end : 0;
    if (s->save_async && !s->verify_parallel)
        p->save_memory = s->save_memory ? (size_t)s->save_memory << 20 : SIZE_MAX;
    p->global_batch = s->batch;
    p->no_sequence_parallel = !s->sequence_parallel;
    p->tp_pieces = (int)s->tp_pieces;
    p->no_graph = s->no_graph;
    p->chunks = (int)s->chunks;
    p->zero = (int)s->zero;
    p->beta1 = s->beta1;
    p->beta2 = s->beta2;
    p->eps = (float)s->eps;
    p->weight_decay = (float)s->weight_decay;
    p->momentum = s->momentum;
    p->clip = (float)s->clip;
}

/* Whether a line has the words, whole. */
static bool has_words(const char *line, const char *words) {
    size_t n = strlen(words);
    for (const char *at = line; (at = strstr(at, words)); at += n)
        if ((at == line || at[-1] == ' ') && !isalnum((unsigned char)at[n]) && at[n] != '-')
            return true;
    return false;
}

void llm_settle_option_names(const char *line, char *text, size_t nbytes) {
    static const struct {
        const char *words, *option;
    } fields[] = {{"tp", "--tp"},
                  {"cp", "--cp"},
                  {"dp", "--dp"},
                  {"pp", "--pp"},
                  {"chunks", "--chunks"},
                  {"batch", "--batch"},
                  {"micro-batch", "--micro-batch"},
                  {"heads", "--heads"},
                  {"positions", "--tokens"},
                  {"attention window", "--tokens"},
                  {"no sequence parallel", "--no-sequence-parallel"},
                  {"clip", "--clip"},
                  {"zero", "--zero"},
                  {"reduce type", "--reduce-dtype"},
                  {"weight decay", "--weight-decay"},
                  {"first loss scale", "--loss-scale-init, --loss-scale-min, --loss-scale-max"},
                  {"smallest and largest loss scale", "--loss-scale-min, --loss-scale-max"},
                  {"loss scale", "--loss-scale"},
                  {"document end", "--document-end"},
                  {"attention workspace", "--attention-workspace"},
                  {"nondeterministic attention", "--nondeterministic-attention"},
                  {"such a T", "--tokens"},
                  {"staged link", "--comm"}};
    const char *longest = ""; /* of the words that were found, with others in them */
    size_t used = 0;
    text[0] = 0;
    if (strncmp(line, "--", 2) == 0) return; /* the program's own */
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!has_words(line, fields[i].words) || strstr(longest, fields[i].words)) continue;
        longest = fields[i].words;
        used += (size_t)snprintf(text + used, nbytes - used, "%s%s", used ? ", " : " (",
                                 fields[i].option);
    }
    if (used > 0) snprintf(text + used, nbytes - used, ")");
}

/* Whether a line is about a value that another one refuses: of the options named, " (--tp, --dp)".
 * Then it is about a default that stands there instead. */
static bool is_of_refused(const char *options, const par_problems *problems) {
    char start[64];
    for (const char *at = options; (at = strstr(at, "--")); at += 2) {
        int n = (int)strcspn(at, ",)");
        snprintf(start, sizeof start, "%.*s ", n < 60 ? n : 60, at);
        for (const char *line = problems->text; line; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (strncmp(line, start, strlen(start)) == 0) return true;
        }
    }
    return false;
}

/* Checks of two places may name the same problem: the first of equal lines stays. */
static void tidy(par_problems *problems) {
    par_problems once = {0};
    const par_problems all = *problems;
    for (char *line = strtok(problems->text, "\n"); line; line = strtok(NULL, "\n")) {
        char options[256];
        llm_settle_option_names(line, options, sizeof options);
        if (!strstr(once.text, line) && !is_of_refused(options, &all))
            par_problem(&once, "%s%s", line, options);
    }
    *problems = once;
}

/* In place of a model that is not known, or cannot be: so much of it as the checks of all else
 * need. What is not known is as deep as the layout asks for. */
static par_transformer_config stand_in(const llm_run *r) {
    enum { MOST = 16000 }; /* layers that a model may have */
    par_transformer_config c = llm_small;
    int64_t parts = (int64_t)r->params.layout.size[PAR_PP] * r->set.chunks;
    bool known = !r->guessed && r->config.layers >= 1 && r->config.layers <= MOST;
    c.layers = known ? r->config.layers : parts < 1 ? 1 : parts < MOST ? parts : MOST;
    c.vocab = INT32_MAX;
    return c;
}

/* From the configuration on; again where it has changed. What is wrong with one option hides
 * nothing that is wrong with others. PAR_ERR_MEMORY, on this rank alone, is no problem of the
 * options. */
static par_status create_model(llm_run *r, int world_size, par_problems *problems) {
    par_trainer_params *p = &r->params;
    int before = problems->n;
    r->notes = r->early_notes;
    par_transformer_destroy(&r->model);
    if (!r->guessed)
        par_transformer_check(&r->config, &p->layout, p->micro_batch, r->set.sequence_parallel,
                              problems, &r->notes);
    const par_transformer_config other = stand_in(r);
    bool sound = !r->guessed && problems->n == before;
    settle_parts(r, problems);
    par_status st = par_transformer_create(sound ? &r->config : &other, &r->model);
    if (st == PAR_ERR_MEMORY) return st;
    if (st != PAR_OK) par_problem(problems, "%s", par_error());
    p->model = r->model;
    if (r->model) par_trainer_check(p, world_size, problems);
    tidy(problems);
    return PAR_OK;
}

bool llm_settle_vocab_is_open(const llm_run *r) {
    return !r->set.import && !r->carried.model && !r->set.vocab &&
           strcmp(r->config.name, llm_small.name) == 0;
}

par_status llm_settle_vocab(llm_run *r, int world_size, int64_t vocab) {
    par_problems problems = {0};
    if (vocab == 0 || vocab == r->config.vocab) return PAR_OK;
    r->set.vocab = r->config.vocab = vocab;
    par_problem(&r->early_notes, "--vocab is %lld, as the tokenizer beside --data has it",
                (long long)vocab);
    PAR_TRY(create_model(r, world_size, &problems));
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

par_status llm_settle(llm_run *r, int world_size, par_problems *problems) {
    llm_settings *s = &r->set;
    par_trainer_params *p = &r->params;
    if (s->import &&
        (s->layers || s->channels || s->heads || s->kv_heads || s->head_size || s->mlp || s->vocab))
        par_problem(problems, "--import %s: its shape is given; legal with it: --tokens, --dropout",
                    s->import);
    if (s->tokens) r->config.tokens = s->tokens;
    if (s->dropout >= 0) {
        r->config.dropout = r->config.attention_dropout = (float)s->dropout;
        r->config.embedding_dropout = 0;
    }
    settle_params(s, p);
    settle_layout(s, world_size, p->layout.size);
    if (par_layout_parse_order(s->order, p->layout.order) != PAR_OK)
        par_problem(problems, "--order %s: %s", s->order, par_error());
    par_layout_check(&p->layout, world_size, problems);
    if (!s->micro_batch) s->micro_batch = auto_micro_batch(s->batch, &p->layout);
    p->micro_batch = s->micro_batch;
    if (p->layout.size[PAR_TP] == 1) {
        if (s->sequence_parallel && llm_config_given(r, "sequence-parallel"))
            par_problem(problems, "--sequence-parallel: needs --tp of at least 2");
        if (s->tp_pieces > 1)
            par_problem(problems, "--tp-pieces %lld: needs --tp of at least 2",
                        (long long)s->tp_pieces);
        s->sequence_parallel = false;
    }
    if (s->document_end >= 0 && s->documents != LLM_DOCUMENTS_APART)
        par_problem(problems, "--document-end %lld: needs --documents apart",
                    (long long)s->document_end);
    r->early_notes = r->notes;
    PAR_TRY(create_model(r, world_size, problems));
    r->n_micro = problems->n ? 0 : (int)(p->global_batch / p->micro_batch / p->layout.size[PAR_DP]);
    return par_problems_status(problems, PAR_ERR_OPTION);
}

double llm_settle_lr(const llm_settings *s, int64_t step) {
    switch (s->lr_schedule) {
    case LLM_LR_LINEAR: return par_lr_linear(step, s->lr, s->min_lr, s->warmup, s->steps);
    case LLM_LR_WSD: return par_lr_wsd(step, s->lr, s->min_lr, s->warmup, s->steps, s->decay_steps);
    case LLM_LR_CONSTANT: return par_lr_constant(step, s->lr, s->warmup);
    default: return par_lr_cosine(step, s->lr, s->min_lr, s->warmup, s->steps);
    }
}
