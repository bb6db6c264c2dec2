/*
 * Checks of a transformer's configuration and of its fit to a layout, and counts of parameters and
 * FLOPs. Bounds on the sizes keep every product of them inside 64 bits and every dropout site
 * inside 16.
 */
#include <math.h>
#include <stdio.h>

#include "layers.h"

enum { MAX_LAYERS = 16000, MAX_WIDTH = 1 << 20, MAX_MLP = 1 << 22 };

static void size_between(const char *what, int64_t value, int64_t most, par_problems *problems) {
    if (value < 1 || value > most)
        par_problem(problems, "%s %lld is out of range; legal: 1 to %lld", what, (long long)value,
                    (long long)most);
}

static void check_shape(const par_transformer_config *c, par_problems *problems) {
    if (c->heads * c->head_size > MAX_WIDTH)
        par_problem(problems, "%lld heads of size %lld are %lld channels; legal: at most %d",
                    (long long)c->heads, (long long)c->head_size,
                    (long long)(c->heads * c->head_size), MAX_WIDTH);
    if (c->heads % c->kv_heads != 0)
        par_problem(problems, "%lld heads are not a multiple of %lld KV heads", (long long)c->heads,
                    (long long)c->kv_heads);
    if (c->tokens > c->positions)
        par_problem(problems,
                    "%lld tokens are more than the model's %lld positions; legal: 1 to %lld",
                    (long long)c->tokens, (long long)c->positions, (long long)c->positions);
    if (c->window > 0 && c->tokens > c->window)
        par_problem(problems,
                    "%lld tokens are more than the model's attention window of %lld, which is not "
                    "computed; legal: 1 to %lld tokens",
                    (long long)c->tokens, (long long)c->window, (long long)c->window);
    if (c->rope && c->head_size % 2 != 0)
        par_problem(problems,
                    "head size %lld is odd; rotary embedding needs an even one, such as %lld",
                    (long long)c->head_size, (long long)(c->head_size + 1));
}

static void fraction(const char *what, double value, par_problems *problems) {
    if (!(value >= 0 && value < 1))
        par_problem(problems, "%s %g is out of range; legal: 0 <= p < 1", what, value);
}

static void check_rope(const par_transformer_config *c, par_problems *problems) {
    double factor = c->rope_scaling.factor, low = c->rope_scaling.low_freq_factor;
    double high = c->rope_scaling.high_freq_factor;
    if (!(c->rope_theta > 0 && isfinite(c->rope_theta)))
        par_problem(problems, "rotary base %g must be positive and finite, such as 10000",
                    c->rope_theta);
    if (factor == 0) return;
    if (!(factor >= 1 && isfinite(factor)))
        par_problem(problems, "rotary scaling factor %g must be at least 1, or 0 for none", factor);
    if (!(low > 0 && high > low && isfinite(high)))
        par_problem(problems,
                    "rotary scaling needs 0 < low_freq_factor < high_freq_factor, has %g and %g",
                    low, high);
    if (c->rope_scaling.original_positions < 1)
        par_problem(problems, "rotary scaling needs original positions of at least 1, has %lld",
                    (long long)c->rope_scaling.original_positions);
}

static void check_numbers(const par_transformer_config *c, par_problems *problems) {
    fraction("dropout", (double)c->dropout, problems);
    if (!(c->embedding_dropout < 1))
        par_problem(problems, "embedding dropout %g is out of range; legal: p < 1, negative: none",
                    (double)c->embedding_dropout);
    fraction("attention dropout", (double)c->attention_dropout, problems);
    if (!(c->norm_eps > 0 && isfinite(c->norm_eps)))
        par_problem(problems, "norm epsilon %g must be positive and finite, such as 1e-5",
                    (double)c->norm_eps);
    if (!(c->init_std >= 0 && isfinite(c->init_std)))
        par_problem(problems, "initial standard deviation %g must be positive, or 0 for 0.02",
                    c->init_std);
    if (c->rope) check_rope(c, problems);
}

static bool tp_fits(const par_transformer_config *c, int64_t tp) {
    return c->heads % tp == 0 && (c->kv_heads % tp == 0 || tp % c->kv_heads == 0);
}

static void check_heads(const par_transformer_config *c, int tp, par_problems *problems) {
    char legal[256] = "";
    size_t used = 0;
    if (tp_fits(c, tp)) return;
    for (int64_t k = 1; k <= c->heads && used + 24 < sizeof legal; k++)
        if (tp_fits(c, k))
            used += (size_t)snprintf(legal + used, sizeof legal - used, "%s%lld", used ? ", " : "",
                                     (long long)k);
    if (c->heads % tp != 0)
        par_problem(problems, "tp %d does not divide %lld heads; legal: %s", tp,
                    (long long)c->heads, legal);
    else
        par_problem(problems, "tp %d neither divides nor is a multiple of %lld KV heads; legal: %s",
                    tp, (long long)c->kv_heads, legal);
}

static void check_rows(const par_transformer_config *c, int tp, int64_t micro_batch,
                       par_problems *problems) {
    int64_t step = 1; /* smallest micro-batch that fits */
    if (micro_batch < 1 || micro_batch > INT32_MAX || micro_batch * c->tokens % tp == 0) return;
    while (step * c->tokens % tp != 0) step++;
    par_problem(problems,
                "sequence parallel splits micro-batch %lld · %lld tokens = %lld rows, which tp %d "
                "does not divide; legal: micro-batch in multiples of %lld, or no sequence parallel",
                (long long)micro_batch, (long long)c->tokens, (long long)(micro_batch * c->tokens),
                tp, (long long)step);
}

static void note_padding(const char *what, int64_t n, int64_t multiple, int tp,
                         par_problems *notes) {
    int64_t local = par__split_padded(NULL, n, multiple, tp, 0).local;
    if (n != local * tp)
        par_problem(notes, "%s %lld is padded with zeros to %lld: %lld on each of %d tp ranks",
                    what, (long long)n, (long long)(local * tp), (long long)local, tp);
}

void par_transformer_check(const par_transformer_config *config, par_layout *layout,
                           int64_t micro_batch, bool sequence_parallel, par_problems *problems,
                           par_problems *notes) {
    int before = problems->n, tp = layout->size[PAR_TP] > 0 ? layout->size[PAR_TP] : 1;
    size_between("vocabulary", config->vocab, INT32_MAX, problems);
    size_between("tokens", config->tokens, INT32_MAX, problems);
    size_between("positions", config->positions, INT32_MAX, problems);
    size_between("layers", config->layers, MAX_LAYERS, problems);
    size_between("channels", config->channels, MAX_WIDTH, problems);
    size_between("heads", config->heads, MAX_WIDTH, problems);
    size_between("KV heads", config->kv_heads, MAX_WIDTH, problems);
    size_between("head size", config->head_size, MAX_WIDTH, problems);
    size_between("MLP width", config->mlp, MAX_MLP, problems);
    check_numbers(config, problems);
    if (problems->n > before) return; /* the rest divides by the sizes */
    check_shape(config, problems);
    check_heads(config, tp, problems);
    if (sequence_parallel && tp > 1) check_rows(config, tp, micro_batch, problems);
    if (problems->n > before) return;
    layout->kv_replicas = tp > config->kv_heads ? (int)(tp / config->kv_heads) : 1;
    if (!notes) return;
    note_padding("vocabulary", config->vocab, PAR__VOCAB_MULTIPLE, tp, notes);
    note_padding("MLP width", config->mlp, 1, tp, notes);
    if (tp > config->kv_heads)
        par_problem(notes, "each of %lld KV heads is held by %lld tp ranks",
                    (long long)config->kv_heads, (long long)(tp / config->kv_heads));
}

/* Weights of the linear layers of one block. */
static int64_t block_weights(const par_transformer_config *c) {
    int64_t q = c->heads * c->head_size, kv = c->kv_heads * c->head_size;
    return c->channels * (2 * q + 2 * kv + (c->swiglu ? 3 : 2) * c->mlp);
}

/* Biases and the norms of q and k. */
static int64_t block_vectors(const par_transformer_config *c) {
    int64_t q = c->heads * c->head_size, kv = c->kv_heads * c->head_size;
    return (c->bias || c->qkv_bias ? q + 2 * kv : 0) +
           (c->bias ? (c->swiglu ? 2 : 1) * c->mlp + 2 * c->channels : 0) +
           (c->qk_norm ? 2 * c->head_size : 0);
}

int64_t par_transformer_n_params(const par_transformer_config *config) {
    int64_t C = config->channels, norm = config->bias && !config->rmsnorm ? 2 * C : C;
    int64_t block = block_weights(config) + 2 * norm + block_vectors(config);
    int64_t tables =
        config->vocab * (config->tied ? 1 : 2) + (config->rope ? 0 : config->positions);
    return tables * C + config->layers * block + norm;
}

double par_transformer_flops_per_token(const par_transformer_config *config) {
    double matmul = (double)config->layers * (double)block_weights(config) +
                    (double)config->vocab * (double)config->channels;
    double width = (double)(config->heads * config->head_size);
    return 6 * matmul + 12 * (double)config->layers * width * (double)config->tokens;
}
