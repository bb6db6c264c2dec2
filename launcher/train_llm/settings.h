/* The options of train_llm: what their values are, and the rows. */
#ifndef TRAIN_LLM_SETTINGS_H
#define TRAIN_LLM_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "par/par.h"

/* Choices of options that are not an enum of the library. */
enum { LLM_LR_COSINE, LLM_LR_LINEAR, LLM_LR_WSD, LLM_LR_CONSTANT };
enum { LLM_CPU, LLM_CUDA, LLM_REF };
enum { LLM_QUANTIZE_NONE, LLM_QUANTIZE_INT8 };
enum { LLM_DOCUMENTS_ACROSS, LLM_DOCUMENTS_APART };

/* Where a row's value is recorded: par_option.recorded. */
enum { LLM_IN_LOG = 1, LLM_IN_CHECKPOINT = 2, LLM_MAX_OPTIONS = 224 };
/*
 * What the command line says, and, once it is settled, what follows where it leaves something open
 * (layout, micro-batch, lowest learning rate ...). Samples, tokens and steps are counts; choices
 * are values of the enums that options.c names; the defaults are in its rows.
 */
typedef struct {
    const char *model, *import;
    int64_t layers, channels, heads, kv_heads, head_size, mlp, tokens, vocab;
    double dropout; /* negative: the model's own */
    int64_t tp, cp, pp, dp;
    const char *order;
    int64_t micro_batch, batch, steps, warmup, decay_steps, seed;
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip, momentum;
    int optimizer, lr_schedule, schedule, recompute, nonfinite, precision, reduce_dtype;
    double stop_at_loss; /* 0: never */
    const char *recipe;
    double loss_scale, loss_scale_init, loss_scale_min, loss_scale_max;
    int64_t loss_scale_window, loss_scale_hysteresis, max_skips;
    int64_t chunks, zero;
    int64_t logits_memory;  /* MiB; 0: the backend's */
    par_int_list pp_layers; /* blocks of each part */
    bool sequence_parallel;
    int64_t tp_pieces;
    int device, comm;
    int64_t gpu; /* -1: by the rank on its node */
    bool allow_shared_gpu, tf32, tune_gemm, nondeterministic_attention, no_graph;
    int64_t attention_workspace; /* MiB */
    const char *plan_cache;
    bool strict_kernels;
    int64_t threads;
    const char *data; /* NULL: there is none */
    int data_form;    /* par_tokens_form */
    double split;
    int documents;
    int64_t document_end; /* id; -1: the tokenizer's */
    int64_t eval_every, eval_batches, log_every;
    const char *save, *resume;
    bool save_async;
    int64_t save_memory; /* MiB; 0: what the copy takes */
    int64_t save_every, keep, keep_every, keep_best, checkpoint_memory;
    const char *stop_file, *exit_after;
    double price_per_hour, energy_price, budget; /* 0: none */
    const char *project;
    const char *run; /* directory; "none": none; NULL: one that rank 0 names */
    const char *log, *csv, *tensorboard, *curve, *comm_matrix_csv, *comm_matrix_svg; /* files */
    double peak_tflops; /* 0: the device's, if it is known */
    bool eval_only;
    const char *config;
    bool comm_matrix;
    const char *trace, *trace_file;
    int64_t trace_events; /* per rank; 0: as many as the steps need */
    int64_t ranks;
    bool bigram, check_comm, check_files, dry_run, show_mesh, gantt, help, version, other_names;
    bool verify_parallel;
    int64_t verify_layers, verify_steps;
    double stall_timeout; /* s */
    int64_t health_every, check_replicas;
    bool check_nodes;
    bool sample;
    int64_t sample_tokens; /* -1: as many as fit, up to 100 */
    int64_t sample_count, sample_seed, top_k;
    double temperature, top_p;
    const char *prompt, *prompt_file, *stop, *tokenizer;
    int quantize; /* weights that a sample is drawn with */
} llm_settings;

/* "auto", or "auto:DIR". */
static inline bool llm_resume_is_auto(const llm_settings *s) {
    return s->resume && strncmp(s->resume, "auto", 4) == 0 &&
           (!s->resume[4] || s->resume[4] == ':');
}

/* Of auto: where it begins while --save has no checkpoint; NULL: anew. */
static inline const char *llm_resume_first(const llm_settings *s) {
    return llm_resume_is_auto(s) && s->resume[4] ? s->resume + 5 : NULL;
}

/* options, elsewhere */
/* Fills the table with the rows, whose values are those settings; their number. */
int llm_options_rows(llm_settings *, par_option *table);
int llm_elsewhere_rows(par_option *table);
extern const par_choice llm_devices[], llm_precisions[], llm_recomputes[];

#endif
