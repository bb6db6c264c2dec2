/*
 * Options that other programs have and train_llm has not; a refusal says what to do instead. Counts
 * and rates that have another unit elsewhere are among them, since the same number would mean
 * something else. What has an option here, under another name, stands in that option's row (`also`
 * in options.c).
 */
#include <string.h>

#include "settings.h"

int llm_elsewhere_rows(par_option *t) {
#define ABSENT(NAME, HELP, ...)                                                                    \
    { .name = NAME, .type = PAR_OPT_ABSENT, .help = HELP, __VA_ARGS__ }
    const par_option rows[] = {
        ABSENT("gradient-accumulation-steps",
               "it follows: --batch is over all ranks and micro-batches; give --micro-batch",
               .also = "grad-accum-steps|gradient-accumulation"),
        ABSENT("total-batch-size",
               "that one counts tokens; --batch counts samples: divide by --tokens",
               .also = "total-batch-tokens|-d"),
        ABSENT("num-train-epochs",
               "--steps counts optimizer steps; an epoch has tokens / (--batch "
               "x --tokens) of them",
               .also = "epochs|num-epochs|max-epochs|max-tokens|target-param-data-ratio"),
        ABSENT("train-samples", "--steps counts optimizer steps: divide by --batch"),
        ABSENT("lr-warmup-fraction", "--warmup counts steps: multiply by --steps",
               .also = "warmup-ratio|warmup-frac"),
        ABSENT("lr-warmup-samples", "--warmup counts steps: divide by --batch"),
        ABSENT("decay-ratio", "--decay-steps counts steps: multiply by --steps"),
        ABSENT("learning-rate-decay-frac", "--min-lr is a rate: multiply by --lr",
               .also = "-q|min-lr-ratio|min-lr-frac|min-lr-factor"),
        ABSENT("lr-decay-iters",
               "the rate comes down to --min-lr at the last step; with "
               "--lr-schedule wsd over the last --decay-steps",
               .also = "lr-decay-steps|lr-decay-samples"),
        ABSENT("num-layers-per-virtual-pipeline-stage",
               "--chunks counts the parts of a stage: layers / (pp x that number)"),
        ABSENT("tokenizer-type", "the tokenizer lies beside --data, or --tokenizer FILE|DIR"),
        ABSENT("validation-split-percentage", "--split is a share: divide by 100"),
        ABSENT("valid-data-path",
               "--split X takes the validation part from the end of --data; --eval-only measures "
               "another file",
               .also = "test-data-path|input-val-bin|-j|validation-file|val-data-path|"
                       "validation.dataset"),
        ABSENT("max-train-samples", "--steps x --batch is how many samples are seen"),
        ABSENT("dataset-name",
               "nothing is fetched: par data makes tokens of text, JSON Lines and folders",
               .also = "dataset-config-name|streaming"),
        ABSENT("per-device-eval-batch-size", "validation runs in micro-batches as the training",
               .also = "eval-accumulation-steps"),
        ABSENT("do-train", "a training is what a run is; --eval-only and --sample are others"),
        ABSENT("eval-strategy",
               "--eval-every, --save-every and --log-every count steps; 0 as they say",
               .also = "evaluation-strategy|save-strategy|logging-strategy|logging-first-step"),
        ABSENT("sample-every", "a text is drawn at the end (--sample-tokens), or with --sample",
               .also = "-s"),
        ABSENT("do-sample", "--temperature 0 draws the likeliest token always"),
        ABSENT("reset-position-ids",
               "positions count in the sample; rotary embedding sees distances alone, so that "
               "--documents apart is enough for it"),
        ABSENT("eod-mask-loss", "every target counts, also the one behind a document's end",
               .also = "mask-eod-loss"),
        ABSENT("num-workers", "token files are mapped and read as they are; nothing to set",
               .also = "dataloader-num-workers|num-dataset-builder-threads|data-cache-path|"
                       "no-mmap-bin-files|no-create-attention-mask-in-dataloader|"
                       "dataloader-type|dataloader-pin-memory"),
        ABSENT("use-mcore-models",
               "there is one implementation, with what can be fused fused; nothing to set",
               .also = "transformer-impl|no-masked-softmax-fusion|no-bias-gelu-fusion|"
                       "no-bias-swiglu-fusion|no-bias-dropout-fusion|no-rope-fusion|"
                       "no-gradient-accumulation-fusion|cross-entropy-loss-fusion|"
                       "attention-softmax-in-fp32|optimizer.fused|tp-comm-overlap|"
                       "enable-async-tensor-parallel|manual-gc|manual-gc-interval|"
                       "empty-unused-memory-level|low-cpu-mem-usage|half-precision-backend|"
                       "ddp-find-unused-parameters"),
        ABSENT("calculate-per-token-loss", "every token counts the same; nothing to set"),
        ABSENT("num-experts", "models are dense, without experts",
               .also = "expert-model-parallel-size|moe-router-topk|moe-grouped-gemm|"
                       "expert-parallel-degree"),
        ABSENT("fp8-format", "--precision is fp32, bf16 or fp16",
               .also = "fp8-amax-history-len|fp8-amax-compute-algo|fp8-recipe|load-in-4bit|"
                       "enable-fsdp-float8-all-gather"),
        ABSENT("recompute-num-layers", "--recompute is the same for all layers",
               .also = "recompute-modules|selective-ac-option"),
        ABSENT("log-throughput",
               "tokens per second, times and memory are always printed and logged",
               .also = "log-timers-to-tensorboard|log-memory-to-tensorboard|timing-log-level|"
                       "log-params-norm|log-validation-ppl-to-tensorboard"),
        ABSENT("push-to-hub", "par checkpoint export --hf DIR makes the folder to upload"),
        ABSENT("compile", "nothing is compiled at run time; nothing to set",
               .also = "torch-compile|use-compile|compile.enable|jit-fuser"),
        ABSENT("use-flash-attn", "attention is fused wherever it can be; nothing to set",
               .also =
                   "flash-attn|attn-implementation|use-flash-attention|attention-backend|flash"),
        ABSENT("nproc-per-node", "mpirun -n RANKS starts the ranks",
               .also = "nnodes|master-addr|master-port|node-rank|world-size|-np"),
        ABSENT("rampup-batch-size", "--batch is the same in every step"),
        ABSENT("make-vocab-size-divisible-by",
               "the vocabulary is padded to what the ranks and the products need; nothing to set"),
        ABSENT("mock-data", "par data makes tokens of any text; ./quickstart finds one"),
        ABSENT("repetition-penalty", "--temperature, --top-k and --top-p shape a sample",
               .also = "num-beams|no-repeat-ngram-size|frequency-penalty|presence-penalty|"
                       "min-new-tokens"),
        ABSENT("ckpt-format", "checkpoints have one form; par checkpoint export --hf makes others",
               .also = "dist-ckpt-format|save-safetensors|ckpt-fully-parallel-save|"
                       "auto-detect-ckpt-format|use-dist-ckpt|save-only-model|"
                       "last-save-model-only"),
        ABSENT("always-save-checkpoint",
               "--save-every N saves, and --keep-best N keeps those of the best validations"),
        ABSENT("overwrite-output-dir",
               "--save never replaces another run's checkpoints: another directory, or --resume"),
        ABSENT("override-opt-param-scheduler",
               "options of a resumed run win over those of its checkpoint",
               .also = "override-opt_param-scheduler|use-checkpoint-opt-param-scheduler|"
                       "use-checkpoint-opt_param-scheduler"),
        ABSENT("wandb-project",
               "--log FILE, --csv FILE, --tensorboard DIR and --curve FILE keep "
               "a run",
               .also = "wandb|wandb-log|wandb-run-name|report-to|enable-wandb"),
        ABSENT("swiglu",
               "--model NAME says it: llama-nano and the Llama, Mistral and Qwen presets have "
               "RMSNorm, "
               "SwiGLU and rotary positions, those of GPT-2 LayerNorm, GELU and learned ones",
               .also = "normalization|position-embedding-type|use-rotary-position-embeddings|"
                       "disable-bias-linear|untie-embeddings-and-output-weights|bias|"
                       "add-qkv-bias|qk-layernorm|apply-layernorm-1p|rotary-percent|"
                       "config-overrides"),
        ABSENT("group-query-attention", "--kv-heads N alone says it"),
        ABSENT("merge-file", "--tokenizer DIR: the folder of vocab.json and merges.txt"),
        ABSENT("rotary-base", "--model NAME or --import DIR brings the model's own",
               .also = "rope-theta|norm-epsilon|layernorm-epsilon|init-method-std"),
        ABSENT("finetune",
               "--import DIR starts from weights alone; par checkpoint export --hf makes DIR of a "
               "checkpoint",
               .also = "no-load-optim|no-load-rng"),
        ABSENT("overlap-grad-reduce", "gradients always travel under backward; nothing to set",
               .also = "overlap-param-gather"),
        ABSENT("exit-duration-in-mins", "--exit-after TIME takes minutes as 90m"),
        ABSENT("distributed-timeout-minutes", "--stall-timeout counts seconds: multiply by 60"),
        ABSENT("auto-find-batch-size", "--dry-run says what a --micro-batch takes"),
        ABSENT("optim-args", "--beta1, --beta2, --eps and --weight-decay stand alone"),
        ABSENT("write-tensors",
               "to look for faults: --verify-parallel compares a layout with one rank, --eval-only "
               "measures weights",
               .also = "overfit-single-batch|inference-only|core-metric-every"),
        ABSENT("exit-interval", "--steps is where a run ends; --exit-after TIME ends it earlier"),
        ABSENT("deepspeed", "--config FILE takes options of this program; --zero 1 shards the "
                            "optimizer"),
    };
    memcpy(t, rows, sizeof rows);
    return (int)(sizeof rows / sizeof *rows);
}
