/*
 * Generation: a decoding with a cache has the logits of the whole forward; layouts give the same
 * text; the same seed repeats. What is refused: generate_refused.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "generate_fixture.h"
#include "kernels/half.h"
#include "libpar/train/generator.h"

static void describe(const setting *s, char *text, size_t nbytes) {
    static const char *const families[] = {"gpt", "llama", "qwen"};
    snprintf(text, nbytes, "%s %s tp %d pp %d dp %d v %d zero %d, %lld at once",
             families[s->family], par_dtype_name(s->dtype), s->tp, s->pp, s->dp, s->chunks, s->zero,
             (long long)s->prompt);
}

/* Logits of a sequence's last drawn token, on the rank that drew; NULL on others. */
static const float *drawn_from(const fixture *f, int64_t sequence) {
    const par_generator *g = f->generator;
    return g->rows ? g->rows + sequence * g->width : NULL;
}

typedef struct {
    float *logits; /* [B, T, V] */
    int64_t V;
} whole;

static float element(const par_tensor *t, int64_t i) {
    const uint16_t *half = t->data;
    if (t->dtype == PAR_F32) return ((const float *)t->data)[i];
    return t->dtype == PAR_BF16 ? par__bf16_to_f32(half[i]) : par__f16_to_f32(half[i]);
}

static par_status keep_logits(void *user, const par_module *last, const void *stash) {
    whole *w = user;
    par_tensor logits;
    int64_t begin, valid;
    PAR_TRY(par_transformer_logits(last, stash, &logits, &begin, &valid));
    for (int64_t row = 0; row < B * T; row++)
        for (int64_t j = 0; j < valid; j++)
            w->logits[row * w->V + j] = element(&logits, row * logits.shape[1] + j);
    return PAR_OK;
}

/*
 * Relative difference (norms) of the logits of a position, as the root of the mean square. fp32:
 * both paths add the same products in another order: the bound of layouts_run.c. 16 bits: a layer
 * stores about 9 activations; where fp32 noise tips a rounding, an element differs by one unit,
 * 2^-7 of it at most in bf16 and 2^-10 in fp16 (half of it on average over a binade). Were that
 * so for every element, with signs at random, 6 layers gave sqrt(54) / 2 units. The logits of the
 * whole forward are rounded once more.
 */
static double bound_of(par_dtype dtype) {
    double unit = dtype == PAR_BF16 ? 0x1p-7 : 0x1p-10;
    return dtype == PAR_F32 ? 1e-5 : sqrt(55.0) / 2 * unit;
}

/* Adds the squares of the differences to *squares. A single position may be off by four times what
 * all are on average; one that is computed wrongly is off by as much as it is large. */
static void compare_position(fixture *f, const whole *w, const int32_t *x, int64_t n,
                             const char *what, double bound, double *squares) {
    int32_t prompt[B * T];
    for (int64_t b = 0; b < B; b++) memcpy(prompt + b * n, x + b * T, (size_t)n * sizeof *x);
    const par_generation g = {.prompt = prompt, .n_prompt = n, .n_new = 1};
    CHECK_OK(par_generator_run(f->generator, &g, NULL));
    for (int64_t b = 0; b < f->generator->params.sequences; b++) {
        const float *forward = w->logits + (b * T + n - 1) * w->V;
        double d = harness_relative(drawn_from(f, b), forward, w->V);
        CHECK(d <= 4 * bound, "%s: sequence %lld, position %lld: logits differ by %.2e, bound %.2e",
              what, (long long)b, (long long)n - 1, d, 4 * bound);
        *squares += d * d;
    }
}

/* At all positions, with as many of the sequences as the generator takes. */
static void compare_positions(fixture *f, const whole *w, const int32_t *x, const char *what,
                              double bound) {
    int64_t sequences = f->generator->params.sequences;
    double squares = 0;
    for (int64_t n = 1; n < T && !harness_failed(); n++)
        compare_position(f, w, x, n, what, bound, &squares);
    double d = sqrt(squares / (double)(sequences * (T - 1)));
    CHECK(d <= bound, "%s, %lld sequences: logits differ by %.2e on average, bound %.2e", what,
          (long long)sequences, d, bound);
}

/* Of one sequence q, k and v are one product. */
static par_status generate_one(fixture *f) {
    par_generator_params params = f->generator->params;
    params.sequences = 1;
    par_generator_destroy(&f->generator);
    return par_generator_create(f->trainer, &params, &f->generator);
}

static void compare_with_forward(par_transport *transport, const setting *s) {
    fixture f;
    int32_t x[B * T];
    char what[96];
    describe(s, what, sizeof what);
    CHECK_OK(fixture_create(transport, s, &f));
    whole w = {.V = f.config.vocab,
               .logits = calloc((size_t)(B * T * f.config.vocab), sizeof(float))};
    for (int i = 0; i < B * T; i++)
        x[i] = (int32_t)(par_random_u64(3, 1, (uint64_t)i) % (uint64_t)w.V);
    if (!harness_failed()) CHECK_OK(par_trainer_forward(f.trainer, x, x, keep_logits, &w));
    compare_positions(&f, &w, x, what, bound_of(s->dtype));
    CHECK_OK(generate_one(&f));
    compare_positions(&f, &w, x, what, bound_of(s->dtype));
    free(w.logits);
    fixture_destroy(&f);
}

static void compare_families(par_transport *transport, int64_t prompt) {
    for (int family = CHECK_GPT; family <= CHECK_QWEN; family++)
        for (par_dtype dtype = PAR_F32; dtype <= PAR_F16 && !harness_failed(); dtype++) {
            const setting s = {.family = family,
                               .dtype = dtype,
                               .tp = 1,
                               .pp = 1,
                               .dp = 1,
                               .chunks = 1,
                               .prompt = prompt};
            compare_with_forward(transport, &s);
        }
}

static void run_cache(par_transport *transport) {
    compare_families(transport, 0);
}

/* Of prompts of 1 to 15 tokens: those at once that fill a pass, that are padded, and that have more
 * tokens behind it. */
static void run_prompts(par_transport *transport) {
    compare_families(transport, 9);
}

/* A module's calls are counted on their way to it. */
static const par_module_ops *counted;
static int n_prompts, n_tokens;

static par_status count_prompt(par_module *m, const par_call *call, int64_t sequence,
                               const par_tensor *x, par_tensor *y) {
    n_prompts++;
    return counted->prompt(m, call, sequence, x, y);
}

static par_status count_token(par_module *m, const par_call *call, int64_t position,
                              const par_tensor *x, par_tensor *y) {
    n_tokens++;
    return counted->decode(m, call, position, x, y);
}

/* What a text of one new token behind n goes through the first module in. */
static void expect_passes(fixture *f, int64_t n, int prompts_want, int tokens_want) {
    static const int32_t prompt[B * T];
    const par_generation g = {.prompt = prompt, .n_prompt = n, .n_new = 1};
    n_prompts = n_tokens = 0;
    CHECK_OK(par_generator_run(f->generator, &g, NULL));
    CHECK(n_prompts == prompts_want && n_tokens == tokens_want,
          "%lld tokens of %d sequences: %d passes of prompts, %d of tokens; wanted %d and %d",
          (long long)n, B, n_prompts, n_tokens, prompts_want, tokens_want);
}

/* One pass for each sequence, and one for what is left; none where that is more than tokens. */
static void run_passes(par_transport *transport) {
    const setting s = {CHECK_GPT, PAR_F32, 1, 1, 1, 1, 0, PAR_RECOMPUTE_NONE, 9};
    fixture f;
    CHECK_OK(fixture_create(transport, &s, &f));
    par_module *first = f.trainer->stage.chunks[0].modules[0];
    par_module_ops ops = *first->ops;
    counted = first->ops;
    ops.prompt = count_prompt;
    ops.decode = count_token;
    first->ops = &ops;
    expect_passes(&f, 2, 0, 2);
    expect_passes(&f, 3, B, 1);
    expect_passes(&f, 10, B, 1);
    expect_passes(&f, 13, B, 4);
    first->ops = counted;
    fixture_destroy(&f);
}

/* One module of one rank cannot take a prompt at once: no rank does, and the text is the same. */
static void run_module_without(par_transport *transport) {
    const setting s = {CHECK_LLAMA, PAR_F32, 1, 4, 1, 1, 0, PAR_RECOMPUTE_NONE, 2};
    int32_t one[B * N_NEW] = {0}, two[B * N_NEW] = {0};
    fixture f;
    CHECK_OK(fixture_create(transport, &s, &f));
    CHECK(f.generator->prompt == 2, "prompts do not go through at once");
    CHECK_OK(greedy(&f, one));
    par_generator_params params = f.generator->params;
    par_module *first = f.trainer->stage.chunks[0].modules[0];
    const par_module_ops *given = first->ops;
    par_module_ops ops = *given;
    ops.prompt = NULL;
    if (par_transport_rank(transport) == 1) first->ops = &ops;
    par_generator_destroy(&f.generator);
    CHECK_OK(par_generator_create(f.trainer, &params, &f.generator));
    CHECK(f.generator->prompt == 0, "a rank goes on with prompts at once");
    CHECK_OK(greedy(&f, two));
    CHECK(memcmp(one, two, sizeof one) == 0, "the texts differ");
    first->ops = given;
    fixture_destroy(&f);
}

/* Right after a step with a large rate, ZeRO-1 has most weights under way: the logits must be those
 * of the new ones, as par_trainer_forward's are, which waits by itself. */
static void run_under_way(par_transport *transport) {
    const setting s = {CHECK_GPT, PAR_F32, 1, 1, 4, 1, 1, PAR_RECOMPUTE_NONE, 0};
    const check_data data = {.vocab = 131, .T = T};
    const par_source source = check_source(&data);
    int32_t x[B * T], targets[B * T];
    fixture f;
    CHECK_OK(fixture_create(transport, &s, &f));
    whole w = {.V = f.config.vocab,
               .logits = calloc((size_t)(B * T * f.config.vocab), sizeof(float))};
    CHECK_OK(source.read(source.user, 0, B, x, targets));
    for (int i = 0; i < 5; i++) {
        int32_t prompt[B * T];
        const par_generation g = {.prompt = prompt, .n_prompt = T - 1, .n_new = 1};
        par_vote vote;
        for (int b = 0; b < B; b++) memcpy(prompt + b * (T - 1), x + b * T, (T - 1) * sizeof *x);
        CHECK_OK(par_trainer_step(f.trainer, &source, 0.5f, false, &vote));
        CHECK_OK(par_generator_run(f.generator, &g, NULL));
        CHECK_OK(par_trainer_forward(f.trainer, x, targets, keep_logits, &w));
        for (int b = 0; b < B && drawn_from(&f, 0); b++) {
            double d = harness_relative(drawn_from(&f, b), w.logits + (b * T + T - 2) * w.V, w.V);
            CHECK(d <= bound_of(PAR_F32), "step %d, sequence %d: logits differ by %.2e", i, b, d);
        }
    }
    free(w.logits);
    fixture_destroy(&f);
}

/* Greedy, then sampled text. */
static par_status texts(par_transport *transport, const setting *s, int32_t ids[2][B * N_NEW]) {
    fixture f;
    par_status st = fixture_create(transport, s, &f);
    if (st == PAR_OK) st = greedy(&f, ids[0]);
    if (st == PAR_OK) st = sampled(&f, 7, ids[1]);
    fixture_destroy(&f);
    return st;
}

static void compare_layout(par_transport *transport, const setting *s) {
    int32_t one[2][B * N_NEW] = {{0}}, ids[2][B * N_NEW] = {{0}};
    const setting single = {.family = s->family, .tp = 1, .pp = 1, .dp = 1, .chunks = 1};
    par_transport *self = NULL;
    char what[96];
    describe(s, what, sizeof what);
    CHECK_OK(par_transport_create_self(NULL, &self));
    CHECK_OK(texts(self, &single, one));
    CHECK_OK(texts(transport, s, ids));
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < B * N_NEW; i++)
            CHECK(ids[kind][i] == one[kind][i], "%s: token %d of the %s text is %d, of one rank %d",
                  what, i, kind == 0 ? "greedy" : "sampled", (int)ids[kind][i], (int)one[kind][i]);
    par_transport_destroy(&self);
}

/* Tied and untied, KV heads copied (tp 4 of 2), interleaved chunks, ZeRO-1 with weights under
 * way. */
static void run_layouts(par_transport *transport) {
    static const setting layouts[] = {
        {CHECK_GPT, PAR_F32, 2, 1, 2, 1, 0, PAR_RECOMPUTE_NONE, 0},
        {CHECK_GPT, PAR_F32, 1, 2, 2, 1, 1, PAR_RECOMPUTE_NONE, 0},
        {CHECK_GPT, PAR_F32, 1, 1, 4, 1, 1, PAR_RECOMPUTE_FULL, 0},
        {CHECK_GPT, PAR_F32, 2, 2, 1, 1, 0, PAR_RECOMPUTE_SELECTIVE, 0},
        {CHECK_LLAMA, PAR_F32, 4, 1, 1, 1, 0, PAR_RECOMPUTE_SELECTIVE, 0},
        {CHECK_LLAMA, PAR_F32, 2, 2, 1, 2, 0, PAR_RECOMPUTE_NONE, 0},
        {CHECK_LLAMA, PAR_F32, 1, 4, 1, 2, 0, PAR_RECOMPUTE_FULL, 0},
        {CHECK_LLAMA, PAR_F32, 2, 1, 2, 1, 1, PAR_RECOMPUTE_NONE, 0},
        {CHECK_QWEN, PAR_F32, 4, 1, 1, 1, 0, PAR_RECOMPUTE_NONE, 0},
        {CHECK_GPT, PAR_F32, 2, 2, 1, 1, 0, PAR_RECOMPUTE_NONE, 2},
        {CHECK_LLAMA, PAR_F32, 4, 1, 1, 1, 0, PAR_RECOMPUTE_SELECTIVE, 2},
        {CHECK_LLAMA, PAR_F32, 1, 2, 2, 2, 1, PAR_RECOMPUTE_NONE, 2},
    };
    for (int i = 0; i < HARNESS_COUNT(layouts); i++) compare_layout(transport, &layouts[i]);
}

/* A matrix becomes what 8 bits say of it, by ref. The embedding is read as it is. */
static par_status round_to_int8(void *user, const par_param *p, float *dst) {
    static int8_t q[200 * 100];
    static float scales[200];
    const par_backend *ref;
    int64_t m = p->local[0], n = p->local[1];
    PAR_TRY(par_backend_get("ref", &ref));
    memmove(dst, p->weight, (size_t)(m * n) * sizeof *dst);
    if (p->ndim != 2 || strncmp(p->name, "embedding.", 10) == 0) return PAR_OK;
    PAR_REQUIRE(m <= 200 && n <= 100); /* a group has a row */
    const par_quantize args = {
        .dtype = PAR_F32, .m = m, .n = n, .x = dst, .ldx = n, .q = q, .scales = scales};
    PAR_TRY(par_quantize_run(ref, NULL, &args, NULL));
    for (int64_t i = 0; i < m * n; i++) dst[i] = scales[i / n] * (float)q[i];
    return PAR_OK;
}

/* The logits behind the prompts in `to`, where they are drawn. */
static par_status prompt_logits(fixture *f, bool int8, float *to) {
    const par_generator_params wanted = {.sequences = B,
                                         .capacity = T,
                                         .prompt = f->generator->params.prompt,
                                         .vocab = f->config.vocab,
                                         .int8 = int8};
    const par_generation g = {.prompt = prompts, .n_prompt = N_PROMPT, .n_new = 1};
    par_generator_destroy(&f->generator);
    PAR_TRY(par_generator_create(f->trainer, &wanted, &f->generator));
    PAR_TRY(par_generator_run(f->generator, &g, NULL));
    for (int b = 0; drawn_from(f, 0) && b < B; b++)
        memcpy(to + b * f->config.vocab, drawn_from(f, b), (size_t)f->config.vocab * sizeof *to);
    return PAR_OK;
}

/* Products with 8-bit copies of the weights are those of weights that were rounded to 8 bits, of
 * each rank's own shares; the bound of fp32, which both compute in. The untied families, as the
 * embedding is not rounded. */
static void run_int8(par_transport *transport) {
    static float plain[B * 160], copied[B * 160], rounded[B * 160];
    static const setting layouts[] = {{CHECK_LLAMA, PAR_F32, 2, 2, 1, 1, 0, PAR_RECOMPUTE_NONE, 0},
                                      {CHECK_QWEN, PAR_F32, 2, 1, 2, 1, 1, PAR_RECOMPUTE_NONE, 2}};
    for (int i = 0; i < HARNESS_COUNT(layouts); i++) {
        fixture f;
        char what[96];
        describe(&layouts[i], what, sizeof what);
        CHECK_OK(fixture_create(transport, &layouts[i], &f));
        int64_t n = B * f.config.vocab;
        CHECK(n <= B * 160, "a vocabulary of %lld", (long long)f.config.vocab);
        CHECK_OK(prompt_logits(&f, false, plain));
        CHECK_OK(prompt_logits(&f, true, copied));
        CHECK_OK(par_trainer_load(f.trainer, round_to_int8, NULL));
        CHECK_OK(prompt_logits(&f, false, rounded));
        if (drawn_from(&f, 0)) {
            double d = harness_relative(copied, rounded, n);
            double bits = harness_relative(copied, plain, n);
            CHECK(d <= bound_of(PAR_F32), "%s: logits differ by %.2e", what, d);
            CHECK(bits > 1e-4 && bits < 0.1, "%s: 8 bits change the logits by %.2e", what, bits);
        }
        fixture_destroy(&f);
    }
}

typedef struct {
    int32_t ids[B * N_NEW];
    int64_t n, enough; /* 0: never */
} heard;

static bool hear(void *user, int64_t i, const int32_t *ids) {
    heard *h = user;
    for (int b = 0; b < B; b++) h->ids[b * N_NEW + i] = ids[b];
    return ++h->n != h->enough;
}

static void run_repeat(par_transport *transport) {
    const setting s = {CHECK_LLAMA, PAR_BF16, 2, 2, 1, 1, 0, PAR_RECOMPUTE_NONE, 0};
    int32_t a[B * N_NEW], b[B * N_NEW], other[B * N_NEW], cold[B * N_NEW], most[B * N_NEW];
    fixture f;
    heard h = {.n = 0};
    CHECK_OK(fixture_create(transport, &s, &f));
    par_generation g = {
        .prompt = prompts, .n_prompt = N_PROMPT, .n_new = N_NEW, .temperature = 1, .seed = 7};
    g.token = hear;
    g.user = &h;
    CHECK_OK(par_generator_run(f.generator, &g, a));
    CHECK(h.n == N_NEW && memcmp(h.ids, a, sizeof a) == 0,
          "the callback heard %lld tokens, or others", (long long)h.n);
    h.n = 0, h.enough = 3;
    for (int i = 0; i < B * N_NEW; i++) b[i] = -7;
    CHECK_OK(par_generator_run(f.generator, &g, b));
    CHECK(h.n == 3 && b[0] == a[0] && b[2] == a[2] && b[3] == -7,
          "after %lld tokens it was not at its end", (long long)h.n);
    g.token = NULL;
    g.seed = 8;
    CHECK_OK(par_generator_run(f.generator, &g, other));
    g.seed = 7;
    CHECK_OK(par_generator_run(f.generator, &g, b));
    CHECK(memcmp(a, b, sizeof a) == 0, "the same seed gave another text");
    CHECK(memcmp(a, other, sizeof a) != 0, "another seed gave the same text");
    /* one of the largest, or a temperature near 0, is the greedy text */
    g.top_k = 1;
    CHECK_OK(par_generator_run(f.generator, &g, most));
    g.top_k = 0, g.temperature = 1e-30;
    CHECK_OK(par_generator_run(f.generator, &g, cold));
    CHECK_OK(greedy(&f, b));
    CHECK(memcmp(most, b, sizeof b) == 0 && memcmp(cold, b, sizeof b) == 0,
          "top-k 1 or temperature 1e-30 differ from the greedy text");
    fixture_destroy(&f);
}

static const harness_case cases[] = {
    {"cache-equals-forward", NULL, 1, run_cache, 0},
    {"prompt-equals-forward", NULL, 1, run_prompts, 0},
    {"prompt-passes", NULL, 1, run_passes, 0},
    {"module-without-prompt", NULL, 4, run_module_without, 0},
    {"weights-under-way", NULL, 4, run_under_way, 0},
    {"layouts-agree", NULL, 4, run_layouts, 0},
    {"int8", NULL, 4, run_int8, 0},
    {"seed-repeats", NULL, 4, run_repeat, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("generate", cases, HARNESS_COUNT(cases), argc, argv);
}
