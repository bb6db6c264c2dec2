/*
 * The options of train_llm: a row is all there is to one. Its default, its legal values, its words
 * in --help, and whether its value is recorded in the log (IN_LOG) and in a checkpoint
 * (IN_CHECKPOINT; the library records the trainer's own there) stand in it, and nowhere else.
 */
#include <string.h>

#include "settings.h"

static const par_choice optimizers[] = {{"adamw", PAR_ADAMW}, {"sgd", PAR_SGD}, {NULL, 0}};
static const par_choice lr_schedules[] = {{"cosine", LLM_LR_COSINE},
                                          {"linear", LLM_LR_LINEAR},
                                          {"wsd", LLM_LR_WSD},
                                          {"constant", LLM_LR_CONSTANT},
                                          {NULL, 0}};
static const par_choice schedules[] = {{"gpipe", PAR_SCHEDULE_GPIPE},
                                       {"1f1b", PAR_SCHEDULE_1F1B},
                                       {"eager-1f1b", PAR_SCHEDULE_EAGER_1F1B},
                                       {"interleaved", PAR_SCHEDULE_INTERLEAVED},
                                       {NULL, 0}};
static const par_choice nonfinites[] = {
    {"stop", PAR_NONFINITE_STOP}, {"skip", PAR_NONFINITE_SKIP}, {NULL, 0}};
static const par_choice links[] = {{"nccl", PAR_LINK_NCCL}, {"staged", PAR_LINK_STAGED}, {NULL, 0}};
const par_choice llm_recomputes[] = {{"none", PAR_RECOMPUTE_NONE},
                                     {"selective", PAR_RECOMPUTE_SELECTIVE},
                                     {"full", PAR_RECOMPUTE_FULL},
                                     {NULL, 0}};
const par_choice llm_precisions[] = {
    {"fp32", PAR_F32}, {"bf16", PAR_BF16}, {"fp16", PAR_F16}, {NULL, 0}};
static const par_choice reduce_dtypes[] = {{"fp32", PAR_F32}, {"bf16", PAR_BF16}, {NULL, 0}};
const par_choice llm_devices[] = {
    {"cpu", LLM_CPU}, {"cuda", LLM_CUDA}, {"ref", LLM_REF}, {NULL, 0}};

static const par_choice quantizations[] = {
    {"none", LLM_QUANTIZE_NONE}, {"int8", LLM_QUANTIZE_INT8}, {NULL, 0}};

static const par_choice data_forms[] = {{"auto", PAR_TOKENS_KNOWN},
                                        {"megatron", PAR_TOKENS_MEGATRON},
                                        {"llm.c", PAR_TOKENS_LLMC},
                                        {"litgpt", PAR_TOKENS_LITGPT},
                                        {"u16", PAR_TOKENS_U16},
                                        {"u32", PAR_TOKENS_U32},
                                        {NULL, 0}};

static const par_choice documents[] = {
    {"across", LLM_DOCUMENTS_ACROSS}, {"apart", LLM_DOCUMENTS_APART}, {NULL, 0}};

/* One row of each type; what stands behind the help are further fields. */
#define ROW(TYPE, NAME, FIELD, HELP, ...)                                                          \
    { .name = NAME, .type = TYPE, .value = &s->FIELD, .group = g, .help = HELP, __VA_ARGS__ }
#define BOOL(NAME, FIELD, HELP, ...) ROW(PAR_OPT_BOOL, NAME, FIELD, HELP, __VA_ARGS__)
#define TEXT(NAME, FIELD, HELP, ...) ROW(PAR_OPT_TEXT, NAME, FIELD, HELP, __VA_ARGS__)
#define LIST(NAME, FIELD, LEGAL, HELP, ...)                                                        \
    ROW(PAR_OPT_LIST, NAME, FIELD, HELP, .legal = LEGAL, __VA_ARGS__)
#define INT(NAME, FIELD, INITIAL, LEGAL, HELP, ...)                                                \
    ROW(PAR_OPT_INT, NAME, FIELD, HELP, .initial = INITIAL, .legal = LEGAL, __VA_ARGS__)
#define REAL(NAME, FIELD, INITIAL, LEGAL, HELP, ...)                                               \
    ROW(PAR_OPT_REAL, NAME, FIELD, HELP, .initial = INITIAL, .legal = LEGAL, __VA_ARGS__)
#define CHOICE(NAME, FIELD, INITIAL, CHOICES, HELP, ...)                                           \
    ROW(PAR_OPT_CHOICE, NAME, FIELD, HELP, .initial = INITIAL, .choices = CHOICES, __VA_ARGS__)
#define APPEND(TABLE, ROWS)                                                                        \
    (memcpy(TABLE, ROWS, sizeof(ROWS)), (int)(sizeof(ROWS) / sizeof *(ROWS)))

enum { IN_LOG = LLM_IN_LOG, IN_CHECKPOINT = LLM_IN_CHECKPOINT, IN_BOTH = IN_LOG | IN_CHECKPOINT };

/* The log and the checkpoint describe the model that came out of these, not the options. */
static int model_rows(llm_settings *s, par_option *t) {
    const char *g = "Model";
    const par_option rows[] = {
        TEXT("model", model, "a preset of the list below, by its name here or on the hub",
             .initial = "small", .metavar = "NAME",
             .also = "model.name|model-name|preset|-e|init-from gpt2=gpt2-124m|model.flavor "
                     "8B=llama3-8b|model.flavor 70B=llama3-70b|model.flavor|"
                     "-e d12=gpt2-124m|-e d24=gpt2-355m|-e d36=gpt2-774m|-e d48=gpt2-1.5b|"
                     "model-type|config-name"),
        TEXT("import", import, "start from the weights in this Hugging Face directory",
             .metavar = "DIR",
             .also = "init-from|model-name-or-path|from-pretrained|pretrained-checkpoint|hf-path|"
                     "checkpoint.initial-load-path|hf-assets-path|initial-checkpoint-dir"),
        INT("layers", layers, "0", "0..100000", "L, blocks; 0: the model's",
            .also = "num-layers|n-layer|n-layers|num-hidden-layers|depth"),
        INT("channels", channels, "0", "0..1000000", "C, width of the model; 0: the model's",
            .also = "hidden-size|n-embd|d-model|embed-dim|dim|n-embed|hidden-dim|emb-dim"),
        INT("heads", heads, "0", "0..100000", "H, attention heads; 0: the model's",
            .also = "num-attention-heads|n-head|n-heads|num-heads"),
        INT("kv-heads", kv_heads, "0", "0..100000",
            "K, heads of keys and values; 0: the model's, or H if --heads was given",
            .also = "num-query-groups|num-key-value-heads|n-kv-heads|n-kv-head"),
        INT("head-size", head_size, "0", "0..65536",
            "D, channels of a head; 0: the model's, or C/H if one of the two was given",
            .also = "kv-channels|head-dim"),
        INT("mlp", mlp, "0", "0..10000000",
            "F, hidden units of the MLP; 0: the model's, or in proportion to --channels",
            .also = "ffn-hidden-size|intermediate-size|d-ff|n-inner"),
        INT("tokens", tokens, "0", "0..10000000", "T, length of a sequence; 0: the model's",
            .also = "seq-length|seq-len|sequence-length|block-size|max-seq-len|context-length|"
                    "max-position-embeddings|n-ctx|-t|sequence-len|max-seq-length|max-length|n-"
                    "positions|decoder-seq-length"),
        INT("vocab", vocab, "0", "0..10000000",
            "V, ids of the vocabulary; 0: the model's, or of small, that of the tokenizer beside "
            "--data",
            .also = "vocab-size|padded-vocab-size"),
        REAL("dropout", dropout, "-1", "-1..0.99",
             "share of activations and attention that is dropped; -1: the model's",
             .also =
                 "hidden-dropout|attention-dropout|resid-pdrop|attn-pdrop|embd-pdrop|no-dropout=0"),
    };
    return APPEND(t, rows);
}

static int layout_rows(llm_settings *s, par_option *t) {
    const char *g = "Layout (0: what the world leaves)";
    const par_option rows[] = {
        INT("tp", tp, "1", "0..1000000", "tensor parallel ranks: they share every matrix",
            .recorded = IN_LOG,
            .also = "tensor-model-parallel-size|tensor-parallel-size|tensor-parallel|tp-size|"
                    "tensor-parallel-degree"),
        INT("cp", cp, "1", "0..1000000", "context parallel ranks; 1 in this version",
            .recorded = IN_LOG,
            .also = "context-parallel-size|context-parallel|context-parallel-degree"),
        INT("pp", pp, "1", "0..1000000", "pipeline stages: they share the layers",
            .recorded = IN_LOG,
            .also = "pipeline-model-parallel-size|pipeline-parallel-size|pipeline-parallel|pp-size|"
                    "pipeline-parallel-degree"),
        INT("dp", dp, "0", "0..1000000", "data parallel ranks: they share the batch",
            .recorded = IN_LOG,
            .also = "data-parallel-size|data-parallel-replicate-degree|data-parallel-shard-degree"),
        TEXT("order", order, "axes of the ranks, the fastest first", .initial = "tp-cp-dp-pp",
             .metavar = "A-B-C-D", .recorded = IN_LOG),
        CHOICE("schedule", schedule, "1f1b", schedules,
               "order of work in the pipeline; eager-1f1b hides transfers, for more memory",
               .recorded = IN_LOG, .also = "pipeline-schedule|pipeline-parallel-schedule"),
        INT("chunks", chunks, "1", "1..16",
            "v, parts of the model that a stage holds (interleaved)", .recorded = IN_LOG,
            .also = "virtual-pipeline-size|num-virtual-stages-per-pipeline-rank|virtual-pipeline-"
                    "model-parallel-size"),
        LIST("pp-layers", pp_layers, "0..100000",
             "blocks of each part; without it they are balanced by work",
             .also = "pipeline-model-parallel-layout|decoder-first-pipeline-num-layers"),
        BOOL("sequence-parallel", sequence_parallel,
             "with tp > 1, norms and dropout run on shards of the tokens", .initial = "on",
             .recorded = IN_LOG),
        INT("tp-pieces", tp_pieces, "1", "1..16",
            "with tp > 1, a block's forward sends its rows in so many pieces, under its products",
            .recorded = IN_LOG),
        INT("zero", zero, "0", "0..1", "1: every dp rank holds a share of the optimizer state",
            .recorded = IN_LOG,
            .also = "use-distributed-optimizer=1|zero-stage|-z|fsdp=1|use-fsdp2=1|use-torch-fsdp2="
                    "1|sharded-optimizer=1"),
        CHOICE("recompute", recompute, "none", llm_recomputes,
               "activations that backward makes again instead of keeping them", .recorded = IN_LOG,
               .also =
                   "recompute-granularity|recompute-activations=selective|gradient-checkpointing="
                   "full|activation-checkpointing|recompute-method=full|-r=selective|"
                   "activation-checkpoint.mode"),
        INT("logits-memory", logits_memory, "0", "0..1048576",
            "MiB of a rank's logits at a time; 0: 1024 on a GPU, else 128", .recorded = IN_LOG),
    };
    return APPEND(t, rows);
}

static int training_rows(llm_settings *s, par_option *t) {
    const char *g = "Training";
    const par_option rows[] = {
        INT("batch", batch, "32", "1..", "samples per step, over all ranks", .recorded = IN_LOG,
            .also = "+batch-size|global-batch-size|train-batch-size"),
        INT("micro-batch", micro_batch, "0", "0..",
            "samples that a rank works on at a time; 0: up to 8 that leave 4 pp micro-batches",
            .recorded = IN_LOG,
            .also = "micro-batch-size|per-device-train-batch-size|per-gpu-train-batch-size|local-"
                    "batch-size|device-batch-size|-b|pipeline-parallel-microbatch-size"),
        INT("steps", steps, "100", "1..", "optimizer steps", .recorded = IN_BOTH,
            .also = "train-iters|max-iters|max-steps|num-iterations|iterations|num-steps|train-"
                    "steps|total-steps|training-steps|-x"),
        TEXT("recipe", recipe,
             "published hyperparameters, of the list below; what it sets is printed, and options "
             "win over it",
             .metavar = "NAME", .recorded = IN_LOG),
        CHOICE("optimizer", optimizer, "adamw", optimizers, "what updates the weights",
               .recorded = IN_LOG, .also = "optim|optimizer.name"),
        REAL("lr", lr, "0.001", "0..", "the highest learning rate", .recorded = IN_BOTH,
             .also = "learning-rate|max-lr|-l|peak-lr"),
        CHOICE(
            "lr-schedule", lr_schedule, "cosine", lr_schedules,
            "learning rate after the warm-up; wsd: --lr, then a line down", .recorded = IN_BOTH,
            .also =
                "lr-decay-style|lr-scheduler-type|lr-scheduler|decay-lr|lr-decay-style WSD=wsd|-k|"
                "lr-scheduler.decay-type"),
        REAL("min-lr", min_lr, "-1", "-1..",
             "learning rate of the last step (not constant); -1: a tenth of --lr",
             .recorded = IN_BOTH, .also = "final-lr"),
        INT("warmup", warmup, "20", "0..", "steps in which the learning rate rises from 0 to --lr",
            .recorded = IN_BOTH,
            .also =
                "lr-warmup-iters|warmup-iters|warmup-steps|num-warmup-steps|-u|lr-warmup-steps"),
        INT("decay-steps", decay_steps, "-1", "-1..",
            "length of the line down of wsd, in steps; -1: a fifth of --steps", .recorded = IN_BOTH,
            .also = "lr-wsd-decay-iters"),
        REAL("stop-at-loss", stop_at_loss, "0", "0..",
             "end once a validation's loss (without one: a step's) is at most this; 0: never",
             .recorded = IN_BOTH, .also = "target-loss|target-val-loss"),
        REAL("beta1", beta1, "0.9", "0..0.999999", "adamw: decay of the first moment",
             .recorded = IN_LOG, .also = "adam-beta1"),
        REAL("beta2", beta2, "0.95", "0.000001..0.999999", "adamw: decay of the second moment",
             .recorded = IN_LOG, .also = "adam-beta2"),
        REAL("eps", eps, "1e-8", "1e-30..", "adamw: added to the root of the second moment",
             .recorded = IN_LOG, .also = "adam-eps|adam-epsilon|adamw-eps"),
        REAL("weight-decay", weight_decay, "0.1", "0..", "decay of matrices; vectors have none",
             .recorded = IN_LOG, .also = "-c|wd"),
        REAL("momentum", momentum, "0.9", "0..0.999999", "sgd: decay of its moment",
             .recorded = IN_LOG, .also = "sgd-momentum"),
        REAL("clip", clip, "1", "0..", "largest norm of all gradients together; 0: no limit",
             .recorded = IN_LOG,
             .also = "clip-grad|grad-clip|max-grad-norm|gradient-clip-val|clip-norm|max-norm|clip-"
                     "grad-norm"),
        INT("seed", seed, "1234", "0..",
            "of random numbers: initial weights, dropout, order of the samples", .recorded = IN_LOG,
            .also = "random-seed|data-seed"),
    };
    return APPEND(t, rows);
}

static int precision_rows(llm_settings *s, par_option *t) {
    const char *g = "Precision (master weights, moments and gradients are fp32)";
    const par_option rows[] = {
        CHOICE(
            "precision", precision, "fp32", llm_precisions, "type of weights and activations",
            .recorded = IN_LOG,
            .also =
                "bf16=bf16|fp16=fp16|fp32=fp32|dtype bfloat16=bf16|dtype float16=fp16|dtype "
                "float32=fp32|dtype|torch-dtype bfloat16=bf16|torch-dtype float16=fp16|torch-dtype "
                "float32=fp32|torch-dtype|mixed-precision no=fp32|mixed-precision|params-dtype|"
                "mixed-precision-param bfloat16=bf16|mixed-precision-param float32=fp32|"
                "precision bfloat16=bf16|precision bf16-*=bf16|precision float16=fp16|"
                "precision 16-*=fp16|precision float32=fp32|precision 32*=fp32"),
        CHOICE("reduce-dtype", reduce_dtype, "fp32", reduce_dtypes,
               "of gradients on their way over dp, which are added in fp32; bf16 halves the bytes",
               .recorded = IN_LOG,
               .also = "grad-reduce-in-bf16=bf16|accumulate-allreduce-grads-in-fp32=fp32|"
                       "grad-reduce-dtype|communication-data-type"),
        CHOICE("nonfinite", nonfinite, "stop", nonfinites,
               "at a step with inf or NaN in the gradients; fp16 skips by itself",
               .recorded = IN_BOTH),
        REAL("loss-scale", loss_scale, "0", "0..4294967296",
             "fp16: a constant scale of the loss; 0: a dynamic one", .recorded = IN_LOG),
        REAL("loss-scale-init", loss_scale_init, "65536", "0.000001..4294967296",
             "fp16: the dynamic scale of the first step", .recorded = IN_LOG,
             .also = "initial-loss-scale"),
        INT("loss-scale-window", loss_scale_window, "1000", "1..",
            "fp16: clean steps after which the scale is doubled", .recorded = IN_LOG),
        INT("loss-scale-hysteresis", loss_scale_hysteresis, "2", "1..",
            "fp16: overflows in a row after which the scale is halved", .recorded = IN_LOG,
            .also = "hysteresis"),
        REAL("loss-scale-min", loss_scale_min, "1", "0.000001..4294967296",
             "fp16: the smallest dynamic scale", .recorded = IN_LOG, .also = "min-loss-scale"),
        REAL("loss-scale-max", loss_scale_max, "4294967296", "0.000001..4294967296",
             "fp16: the largest dynamic scale", .recorded = IN_LOG),
        INT("max-skips", max_skips, "16", "1..",
            "steps skipped in a row that end the training; with a dynamic scale, at its smallest",
            .recorded = IN_LOG),
    };
    return APPEND(t, rows);
}

static int sample_rows(llm_settings *s, par_option *t) {
    const char *g = "Sampling";
    const par_option rows[] = {
        BOOL("sample", sample, "do not train: write text with the weights of --resume or --import",
             .also = "generate|inference"),
        INT("sample-tokens", sample_tokens, "-1", "-1..10000000",
            "tokens to draw, also after a training; -1: 100, or what fits; 0: no sample",
            .also = "max-new-tokens|num-tokens-to-generate|genmax|-g|max-generated-tokens|length"),
        INT("sample-count", sample_count, "1", "1..1000", "texts to draw",
            .also = "num-samples|num-return-sequences"),
        TEXT("prompt", prompt,
             "how the text begins; without it: as after the end of a text, or of "
             "a line",
             .also = "start"),
        TEXT("prompt-file", prompt_file,
             "a prompt per line; in a line \\n is a new one; or objects of JSON with a \"prompt\"",
             .metavar = "FILE", .also = "start FILE:*=FILE (a prompt per line)"),
        TEXT(
            "stop", stop,
            "a text ends before one of these strings, parted by |; \\n, \\t, \\| and \\\\ are read",
            .metavar = "STRING|...", .also = "stop-sequences|stop-strings|stop-token"),
        REAL("temperature", temperature, "0.8", "0..1000000",
             "logits are divided by it; 0: the likeliest token always"),
        INT("top-k", top_k, "200", "0..", "draw among this many likeliest tokens; 0: among all",
            .also = "k"),
        REAL(
            "top-p", top_p, "1", "0..1",
            "of these, draw among the fewest that have this probability together; 1: among all; 0: "
            "the likeliest",
            .also = "nucleus|p"),
        CHOICE("quantize", quantize, "none", quantizations,
               "weights that a sample is drawn with: as they are, or as 8-bit integers",
               .also = "load-in-8bit|int8|quantization"),
        INT("sample-seed", sample_seed, "1", "0..", "of the draws' random numbers"),
        TEXT("tokenizer", tokenizer,
             "bytes, a .vocab file or a directory that par data made, or a tokenizer.json; without "
             "it: what lies beside --data or in --import",
             .metavar = "FILE|DIR",
             .also = "tokenizer-model|vocab-file|tokenizer-name|tokenizer-dir|"
                     "tokenizer-name-or-path"),
    };
    return APPEND(t, rows);
}

static int data_rows(llm_settings *s, par_option *t) {
    const char *g = "Data";
    const par_option rows[] = {
        TEXT("data", data,
             "file of tokens, or several with weights: 0.7:FILE,0.3:FILE; without it: the one of "
             "./quickstart, if it is there",
             .metavar = "FILE", .recorded = IN_LOG,
             .also = "data-path|dataset|train-data|input-bin|-i|data-dir|dataset-dir|train-files|"
                     "train-file|train-data-path|dataset-path|data-args-path"),
        CHOICE("data-form", data_form, "auto", data_forms,
               "what the bytes of --data mean, where neither a magic, an index nor a stamp says it",
               .recorded = IN_BOTH, .also = "data-dtype"),
        REAL("split", split, "0.1", "0..0.9", "share of the file, at its end, for validation",
             .also = "validation-split|val-split|"
                     "split *,*=0.05 where Megatron has 949,50,1 (no part for tests)"),
        CHOICE("documents", documents, "across", documents,
               "of a sample; apart: no token attends to one of an earlier document",
               .recorded = IN_LOG,
               .also = "reset-attention-mask=apart|use-doc-masking=apart|attn-mask-type "
                       "block_causal=apart|attn-mask-type causal=across"),
        INT("document-end", document_end, "-1", "-1..10000000",
            "with --documents apart: the id that ends a document; -1: the tokenizer's",
            .recorded = IN_LOG, .also = "eod-id"),
    };
    return APPEND(t, rows);
}

static int output_rows(llm_settings *s, par_option *t) {
    const char *g = "Output";
    const par_option rows[] = {
        INT("eval-every", eval_every, "50", "0..",
            "validate every this many steps, and at the end; 0: at the end alone",
            .recorded = IN_BOTH,
            .also = "eval-interval|eval-steps|eval.interval|val-loss-every|-v|"
                    "validation-freq|validation-interval|validation.freq"),
        BOOL("eval-only", eval_only,
             "do not train: print the validation loss of the weights of --resume or --import",
             .also = "eval|do-eval|skip-train"),
        INT("eval-batches", eval_batches, "8", "1..", "validate on at most this many batches",
            .recorded = IN_BOTH,
            .also = "eval-iters|val-max-steps|-m|eval-iter|validation-steps|max-eval-samples|"
                    "validation.steps"),
        INT("log-every", log_every, "1", "1..", "print every this many steps",
            .also = "log-interval|logging-steps|logging-interval|log-freq|print-interval"),
        TEXT("run", run,
             "directory for what the run leaves: options, log, curve, checkpoints; none: no "
             "directory; without it: a new one below runs/, and --save decides on checkpoints",
             .metavar = "DIR", .also = "run-dir|work-dir"),
        TEXT("log", log, "append a JSON line per step to this file; a resumed run goes on in it",
             .metavar = "FILE", .also = "output-log-dir|log-file|log-dir"),
        TEXT("csv", csv, "append steps and validations to this table; a resumed run goes on in it",
             .metavar = "FILE"),
        TEXT("tensorboard", tensorboard,
             "event files for TensorBoard in this directory; a resumed run goes on in the newest",
             .metavar = "DIR",
             .also = "tensorboard-dir|tensorboard-log-dir|logging-dir|"
                     "metrics.enable-tensorboard|save-tb-folder"),
        REAL("peak-tflops", peak_tflops, "0", "0..",
             "TFLOP/s of a rank's device, for MFU; 0: its data sheet's, where it is known",
             .also = "gpu-peak-flops|peak-flops"),
        TEXT("curve", curve, "draw the loss over the steps, as SVG, to this file",
             .metavar = "FILE"),
        BOOL("bigram", bigram, "print the loss of a table of all pairs of tokens, to compare with"),
    };
    return APPEND(t, rows);
}

static int cost_rows(llm_settings *s, par_option *t) {
    const char *g = "Cost";
    const par_option rows[] = {
        REAL("price-per-hour", price_per_hour, "0", "0..",
             "of one rank's device, its GPU or its share of the cores, in any currency: what the "
             "run costs is logged; 0: not known",
             .also = "hourly-price|gpu-price"),
        REAL("energy-price", energy_price, "0", "0..",
             "of a kWh, where the hosts' meters can be read; 0: energy costs nothing more"),
        REAL("budget", budget, "0", "0..",
             "warn when 80 % of it are spent, save and end before all is; 0: no limit",
             .also = "max-cost"),
        TEXT("project", project, "what par cost analyze adds the run up under", .metavar = "NAME",
             .recorded = IN_LOG),
    };
    return APPEND(t, rows);
}

static int checkpoint_rows(llm_settings *s, par_option *t) {
    const char *g = "Checkpoints";
    const par_option rows[] = {
        TEXT(
            "save", save,
            "directory for checkpoints; one is saved at the end in any case; none: no checkpoints, "
            "also with --run",
            .metavar = "DIR",
            .also = "out-dir|output-dir|checkpoint-dir|save-dir|-o|dump-folder|checkpoint-path|"
                    "checkpoint-folder|checkpoint.enable|checkpoint.folder"),
        INT("save-every", save_every, "0", "0..",
            "save every this many steps; 0: at the end and on signals alone",
            .also = "save-interval|save-steps|checkpoint-every|-n|checkpoint-interval|save-freq|"
                    "checkpointing-steps|checkpoint.interval"),
        INT("keep", keep, "3", "0..1000000", "newest checkpoints that stay; 0: all",
            .also = "save-total-limit|keep-latest-k|max-checkpoints"),
        INT("keep-every", keep_every, "0", "0..",
            "besides those, checkpoints of every this many steps stay; 0: none"),
        INT("keep-best", keep_best, "0", "0..1000000",
            "besides those, so many with the lowest validation loss stay",
            .also = "load-best-model-at-end"),
        BOOL("save-async", save_async,
             "train on while a checkpoint is written, from a copy of the state in host memory",
             .also = "async-save|async-checkpointing|checkpoint.async-mode"),
        INT("save-memory", save_memory, "0", "0..16777216",
            "with --save-async: MiB of host memory that a rank may take for the copy, else it is "
            "saved without one; 0: what it takes"),
        INT("checkpoint-memory", checkpoint_memory, "1024", "1..1048576",
            "MiB of host memory that a rank may take beside its arrays to load a checkpoint"),
        TEXT("resume", resume,
             "go on from the newest checkpoint in this directory, or from this one; auto: from the "
             "newest of --save, if any; auto:DIR: from that, else from DIR",
             .metavar = "DIR|auto|auto:DIR",
             .also = "load|load-dir|resume-from-checkpoint|-y=auto|resume-from|load-checkpoint|"
                     "init-from resume=auto"),
        TEXT("stop-file", stop_file,
             "when this file is there: finish the step, save, end; without it: stop in --save's "
             "directory",
             .metavar = "FILE"),
        TEXT("exit-after", exit_after,
             "save and end before this much time since the start: 3h50m, 90m, 1d12h, 45s",
             .metavar = "TIME", .also = "max-time"),
    };
    return APPEND(t, rows);
}

static int machine_rows(llm_settings *s, par_option *t) {
    const char *g = "Machine";
    const par_option rows[] = {
        CHOICE("device", device, "cpu", llm_devices,
               "what computes; cuda needs a GPU; ref is plain loops, slow", .recorded = IN_LOG,
               .also = "backend|use-cpu=cpu|use-cuda=cuda|no-cuda=cpu|device-type|device gpu=cuda|"
                       "device cuda:*=cuda (--gpu N chooses one)"),
        INT("threads", threads, "0", "0..4096",
            "threads per rank; 0: the node's cores shared by its ranks",
            .also = "num-threads|omp-num-threads|cpu-threads"),
        INT("gpu", gpu, "-1", "-1..1023", "cuda: number of the GPU; -1: by the rank on its node",
            .also = "local-rank|device-id"),
        CHOICE("comm", comm, NULL, links,
               "cuda: what carries data between GPUs; staged: pinned host memory and MPI, the "
               "default where ranks share GPUs",
               .also = "distributed-backend|backend nccl=nccl"),
        BOOL("allow-shared-gpu", allow_shared_gpu,
             "cuda: several ranks may use one GPU; for tests of the function, slow"),
        BOOL("tune-gemm", tune_gemm, "cuda: time every product's candidates once, at the start"),
        BOOL("tf32", tf32, "cuda, fp32: products round their factors to TF32",
             .recorded = IN_CHECKPOINT, .also = "allow-tf32|tensorcores|-f"),
        INT("attention-workspace", attention_workspace, "0", "0..16777216",
            "cuda: MiB for attention's backward, which grows with T x T; 0: an eighth of the GPU"),
        BOOL("nondeterministic-attention", nondeterministic_attention,
             "cuda: less workspace for attention, and bits that differ from run to run",
             .recorded = IN_CHECKPOINT),
        BOOL("no-graph", no_graph, "cuda: run steps call by call, not as captured graphs"),
        BOOL("strict-kernels", strict_kernels,
             "cuda: a slower kernel or link than the best that this build has is an error, not a "
             "warning"),
        TEXT("plan-cache", plan_cache, "cuda: keep compiled plans of attention in this folder",
             .metavar = "DIR"),
    };
    return APPEND(t, rows);
}

static int diagnostic_rows(llm_settings *s, par_option *t) {
    const char *g = "Diagnostics";
    const par_option rows[] = {
        BOOL("dry-run", dry_run, "print the memory of every stage and end; no data, no mpirun"),
        INT("ranks", ranks, "0", "0..1048576",
            "with --dry-run: ranks of the job; 0: what the layout multiplies to"),
        BOOL("check-files", check_files,
             "with --dry-run: the files of --data, --tokenizer, --prompt-file and --resume must be "
             "here, and the model must have all ids of --data, as par run looks before it starts "
             "ranks"),
        BOOL("show-mesh", show_mesh, "print the table of ranks and end"),
        BOOL("gantt", gantt, "print the schedule of the pipeline and end"),
        BOOL("verify-parallel", verify_parallel,
             "do not train: compare this layout with one rank, tensor by tensor"),
        INT("verify-layers", verify_layers, "0", "0..",
            "with --verify-parallel: blocks of the model that is compared; 0: all"),
        INT("verify-steps", verify_steps, "3", "1..1000",
            "with --verify-parallel: steps whose losses are compared"),
        BOOL("check-comm", check_comm, "before every collective, ranks compare what they start"),
        TEXT("trace", trace,
             "write a timeline of these steps, as 10 or 10-12,20, for ui.perfetto.dev and par "
             "diagnose timeline",
             .metavar = "STEPS", .also = "profile|enable-profiling|use-pytorch-profiler"),
        TEXT("trace-file", trace_file,
             "with --trace: this file (default: trace.json in the run's directory)",
             .metavar = "FILE"),
        INT("trace-events", trace_events, "0", "0..100000000",
            "with --trace: events that a rank keeps, the newest; 0: as many as the steps need, up "
            "to 2^20 of all ranks"),
        BOOL("check-nodes", check_nodes,
             "before the training, measure products, memory and messages of all ranks, and name "
             "those that are far below the median"),
        INT("check-replicas", check_replicas, "0", "0..",
            "every this many steps, compare the weights of all replicas; a rank that differs is "
            "named and ends the run; 0: never"),
        INT("health-every", health_every, "100", "0..",
            "every this many steps, compare the times of all ranks, log them, and name slow ranks; "
            "0: never"),
        REAL("stall-timeout", stall_timeout, "30", "0..",
             "seconds without any progress after which the run ends, with the rank that did not "
             "arrive; 0: never"),
        BOOL("comm-matrix", comm_matrix, "at the end, print who sent how much to whom, and why"),
        TEXT("comm-matrix-csv", comm_matrix_csv, "the same as a table, to this file",
             .metavar = "FILE"),
        TEXT("comm-matrix-svg", comm_matrix_svg, "the same as pictures, to this file",
             .metavar = "FILE"),
        TEXT("config", config,
             "options from this file, a line \"key = value\" each; the command line wins over it",
             .metavar = "FILE", .also = "config-file|yaml-cfg|job.config-file"),
        BOOL("other-names", other_names,
             "print what options of other programs are called here, and end"),
        BOOL("help", help, "print this text and end"),
        BOOL("version", version, "print the version and end"),
    };
    return APPEND(t, rows);
}

int llm_options_rows(llm_settings *s, par_option *table) {
    static int (*const groups[])(llm_settings *, par_option *) = {
        model_rows,  layout_rows, training_rows,   precision_rows, sample_rows,    data_rows,
        output_rows, cost_rows,   checkpoint_rows, machine_rows,   diagnostic_rows};
    int n = 0;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) n += groups[i](s, table + n);
    return n + llm_elsewhere_rows(table + n);
}
