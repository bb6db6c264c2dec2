/*
 * Running a generator: par/generate.h. One pass of the model's parts for each position, through the
 * modules' decode and the pipeline's point-to-point messages; before that one for the prompt of
 * each sequence, but for its last token, where that is less work. The last module runs only where a
 * token is drawn. dp indices above 0 have the same weights and only receive tokens.
 *
 * Invariant: what a rank sends and receives follows from the layout and the number of tokens alone;
 * a draw that fails is sent as token -1, so every rank learns of it in the same place.
 */
#include <math.h>
#include <string.h>

#include "generator.h"
#include "libpar/base/fields.h"
#include "libpar/base/hash.h"

static const par_tag activations_tag = {"pipeline forward", -1, -1, -1};
static const par_tag logits_tag = {"logits", -1, -1, -1};
static const par_tag tokens_tag = {"tokens", -1, -1, -1};

/* What goes through the model: the tokens at `position` of all sequences, or the first `rows` of
 * one. */
typedef struct {
    int64_t rows, position;
    int64_t sequence; /* whose prompt; -1: no prompt */
    bool drawing;     /* the last module runs */
} pass;

/* All modules of a chunk; *x is where its input lies, then where its output does. */
static par_status run_chunk(par_generator *g, int c, const pass *p, void **x) {
    par_trainer *t = g->trainer;
    const par__chunk *chunk = &t->stage.chunks[c];
    par_call call = {.stream = t->on.stream, .scratch = g->scratch, .micro = -1};
    for (int i = 0; i < chunk->n_modules; i++) {
        par_module *module = chunk->modules[i];
        bool last = par__is_last_module(g, chunk, i);
        par_tensor in = par__decode_input(chunk, i, p->rows),
                   out = par__decode_output(g, chunk, i, p->rows);
        if (last && !p->drawing) return PAR_OK;
        in.data = *x;
        out.data = last ? g->local_logits : g->buffers[*x == g->buffers[0]];
        call.stash = g->caches[c][i];
        PAR_TRY(p->sequence < 0 ? module->ops->decode(module, &call, p->position, &in, &out)
                                : module->ops->prompt(module, &call, p->sequence, &in, &out));
        *x = out.data;
    }
    return PAR_OK;
}

/* What the modules make of the weights for one run. */
static par_status begin(par_generator *g) {
    par_trainer *t = g->trainer;
    for (int c = 0; c < t->stage.n_chunks; c++)
        for (int i = 0; i < t->stage.chunks[c].n_modules; i++) {
            par_module *module = t->stage.chunks[c].modules[i];
            par_call call = {.stream = t->on.stream,
                             .stash = g->caches[c][i],
                             .scratch = g->scratch,
                             .micro = -1};
            if (module->ops->decode_begin) PAR_TRY(module->ops->decode_begin(module, &call));
        }
    return PAR_OK;
}

/* Through the parts that this rank holds. */
static par_status run_parts(par_generator *g, const pass *p) {
    par_trainer *t = g->trainer;
    int pp = par__n_stages(g), parts = pp * t->stage.n_chunks;
    par_comm *pipe = t->on.mesh->axis[PAR_PP];
    void *x = g->tokens;
    for (int part = par__stage_number(g); part < parts; part += pp) {
        const par__chunk *chunk = &t->stage.chunks[part / pp];
        par_tensor in = par__decode_input(chunk, 0, p->rows),
                   out = par__decode_output(g, chunk, chunk->n_modules - 1, p->rows);
        if (part > 0 && pp > 1) {
            x = g->buffers[0];
            PAR_TRY(par_comm_recv(pipe, x, par_tensor_n(&in), in.dtype, (part - 1) % pp,
                                  activations_tag, t->on.stream, NULL));
        }
        PAR_TRY(run_chunk(g, part / pp, p, &x));
        if (part + 1 < parts && pp > 1)
            PAR_TRY(par_comm_send(pipe, x, par_tensor_n(&out), out.dtype, (part + 1) % pp,
                                  activations_tag, t->on.stream, NULL));
    }
    return PAR_OK;
}

/* Logits of all tp ranks to the one that draws, each sequence's in the order of ids. */
static par_status collect(par_generator *g) {
    par_trainer *t = g->trainer;
    int64_t B = g->params.sequences, n = g->logits.shape[1];
    int p = par_comm_size(t->on.mesh->axis[PAR_TP]);
    if (p > 1)
        PAR_TRY(par_comm_all_gather(t->on.mesh->axis[PAR_TP], g->local_logits, g->gathered, B * n,
                                    PAR_F32, logits_tag, t->on.stream, NULL));
    if (!par__draws(g)) return PAR_OK;
    PAR_TRY(t->on.backend->copy(t->on.stream, g->parts, g->gathered,
                                (size_t)(p * B * n) * sizeof(float)));
    PAR_TRY(par__sync(&t->on));
    for (int r = 0; p > 1 && r < p; r++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < n; i++)
                g->rows[b * p * n + r * n + i] = g->parts[(r * B + b) * n + i];
    return PAR_OK;
}

static par_status put_tokens(par_generator *g, int64_t n) {
    par_trainer *t = g->trainer;
    PAR_TRY(t->on.backend->copy(t->on.stream, g->tokens, g->ids, (size_t)n * sizeof *g->ids));
    return par__sync(&t->on);
}

/* The same answer on every rank. */
static par_status check_drawn(const par_generator *g, int64_t position) {
    for (int64_t b = 0; b < g->params.sequences; b++)
        if (g->ids[b] < 0)
            PAR_FAIL(PAR_ERR_NUMERIC,
                     "the logits of sequence %lld for its token %lld hold NaN or infinity",
                     (long long)b, (long long)position);
    return PAR_OK;
}

/* One pass, from the tokens at `position` to those behind it, if they are drawn: on one rank, then
 * in g->ids and g->tokens of all. */
static par_status go_on(par_generator *g, const par_generation *what, int64_t position,
                        bool drawing) {
    par_trainer *t = g->trainer;
    int64_t B = g->params.sequences;
    if (position < what->n_prompt) {
        for (int64_t b = 0; b < B; b++) g->ids[b] = what->prompt[b * what->n_prompt + position];
        PAR_TRY(put_tokens(g, B));
    }
    const pass p = {B, position, -1, drawing};
    if (par__works(g)) PAR_TRY(run_parts(g, &p));
    if (!drawing) return PAR_OK;
    const par__draw_params params = {what->temperature, what->top_k, what->top_p};
    if (par__works(g) && par__is_last_stage(&t->on)) PAR_TRY(collect(g));
    for (int64_t b = 0; par__draws(g) && b < B; b++)
        g->ids[b] = par__draw(g->rows + b * g->width, (int32_t)g->params.vocab, &params,
                              par__draw_uniform(what->seed, b, position + 1), g->candidates);
    /* the world's communicator carries host data */
    PAR_TRY(
        par_comm_broadcast(t->on.mesh->world, g->ids, B, PAR_I32, g->root, tokens_tag, NULL, NULL));
    return put_tokens(g, B);
}

/* The first n tokens of each sequence, which are of its prompt. */
static par_status take_prompts(par_generator *g, const par_generation *what, int64_t n) {
    for (int64_t b = 0; par__works(g) && b < g->params.sequences; b++) {
        const pass p = {.rows = g->prompt, .sequence = b};
        memcpy(g->ids, what->prompt + b * what->n_prompt, (size_t)n * sizeof *g->ids);
        memset(g->ids + n, 0, (size_t)(g->prompt - n) * sizeof *g->ids);
        PAR_TRY(put_tokens(g, g->prompt));
        PAR_TRY(run_parts(g, &p));
    }
    return PAR_OK;
}

static par_status check_run(const par_generator *g, const par_generation *what) {
    int64_t B = g->params.sequences;
    if (what->n_prompt < 1 || what->n_new < 0 || what->n_new > g->params.capacity ||
        what->n_prompt > g->params.capacity - what->n_new)
        PAR_FAIL(PAR_ERR_ARG,
                 "a prompt of %lld tokens and %lld new ones; legal: 1 or more and 0 or more, "
                 "together up to "
                 "the generator's capacity of %lld",
                 (long long)what->n_prompt, (long long)what->n_new, (long long)g->params.capacity);
    if (!(what->temperature >= 0) || isinf(what->temperature))
        PAR_FAIL(PAR_ERR_ARG, "temperature %g; legal: 0 (the largest logit) or a positive number",
                 what->temperature);
    if (what->top_k < 0)
        PAR_FAIL(PAR_ERR_ARG, "top-k %lld; legal: 0 (all) or more", (long long)what->top_k);
    if (!(what->top_p >= 0 && what->top_p <= 1))
        PAR_FAIL(PAR_ERR_ARG, "top-p %g; legal: 0 to 1; 0 and 1: all", what->top_p);
    for (int64_t i = 0; i < B * what->n_prompt; i++)
        if (what->prompt[i] < 0 || what->prompt[i] >= g->params.vocab)
            PAR_FAIL(PAR_ERR_ARG, "token %lld of the prompts is %d; legal: 0 to %lld", (long long)i,
                     (int)what->prompt[i], (long long)g->params.vocab - 1);
    return PAR_OK;
}

static par_status generate(par_generator *g, const par_generation *what, int32_t *ids) {
    enum { PADDING = 16 };
    int64_t B = g->params.sequences, end = what->n_prompt + what->n_new;
    const par__context *on = &g->trainer->on;
    /* Tokens of each prompt that go through the model at once; 0: none, as one pass for each
     * sequence would be more than one for each token, or as a prompt is so much shorter than the
     * pass that the rows it is padded with would take longer than it does token by token. */
    int64_t taken = what->n_prompt - 1 < g->prompt ? what->n_prompt - 1 : g->prompt;
    if (taken <= 1 || taken < B || taken * PADDING < g->prompt) taken = 0;
    PAR_TRY(par__fatal(on, par__buckets_settle(&g->trainer->buckets)));
    if (par__works(g)) PAR_TRY(par__fatal(on, begin(g)));
    if (taken > 0) PAR_TRY(par__fatal(on, take_prompts(g, what, taken)));
    for (int64_t position = taken; position + 1 < end; position++) {
        bool drawing = position + 1 >= what->n_prompt;
        PAR_TRY(par__fatal(on, go_on(g, what, position, drawing)));
        if (!drawing) continue;
        PAR_TRY(check_drawn(g, position + 1));
        int64_t i = position + 1 - what->n_prompt;
        for (int64_t b = 0; ids && b < B; b++) ids[b * what->n_new + i] = g->ids[b];
        if (what->token && !what->token(what->user, i, g->ids)) return PAR_OK;
    }
    return PAR_OK;
}

#define ROW(type, field) PAR__FIELD(par_generation, PAR__##type, field)
static const par__field rows[] = {ROW(INT64, n_prompt),     ROW(INT64, n_new),  ROW(INT64, top_k),
                                  ROW(DOUBLE, temperature), ROW(DOUBLE, top_p), ROW(UINT64, seed)};

/* Of the prompts a hash, of as many as there may be. */
static par_status same_run(const par_generator *g, const par_generation *what) {
    par__lines given = {.used = 0};
    par__lines_fields(&given, rows, (int)(sizeof rows / sizeof *rows), what);
    if (what->n_prompt > 0 && what->n_prompt <= g->params.capacity) {
        size_t n = (size_t)(g->params.sequences * what->n_prompt) * sizeof *what->prompt;
        par__lines_add(&given, "prompt, hash", "%016llx",
                       (unsigned long long)par__fnv64(PAR__FNV64, what->prompt, n));
    }
    return par_comm_same(g->trainer->on.mesh->world, PAR_OK, "the generation's ", given.text);
}

par_status par_generator_run(par_generator *g, const par_generation *what, int32_t *ids) {
    PAR_REQUIRE(g && what && what->prompt);
    PAR_TRY(par__no_step_begun(&g->trainer->vote));
    PAR_TRY(par__trainer_ready(g->trainer, PAR__WEIGHTS));
    PAR_TRY(same_run(g, what));
    PAR_TRY(check_run(g, what));
    par__enter(&g->trainer->on, PAR__PHASE_GENERATE);
    return par__leave(&g->trainer->on, "generate", generate(g, what, ids));
}
