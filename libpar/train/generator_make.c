/*
 * Making a generator: what each module of this rank answers to decode_build, first on memory that
 * measures, then on memory of that size. Ranks of dp indices above 0 only receive tokens and take
 * no more than those.
 */
#include <stdlib.h>

#include "generator.h"
#include "libpar/base/fields.h"
#include "libpar/base/threads.h"

static bool same_shape(const par_tensor *a, const par_tensor *b) {
    bool same = a->dtype == b->dtype && a->ndim == b->ndim;
    for (int i = 0; i < 4; i++) same = same && a->shape[i] == b->shape[i];
    return same;
}

/* A module asked for its part, what it answered, and its cache. */
static par_status build_module(par_generator *g, par_memory *memory, int c, int i) {
    const par_trainer *t = g->trainer;
    const par__chunk *chunk = &t->stage.chunks[c];
    par_module *module = chunk->modules[i];
    int number = chunk->first_index + i;
    bool last = par__is_last_module(g, chunk, i);
    par_build build = {.mesh = t->on.mesh,
                       .backend = t->on.backend,
                       .memory = memory,
                       .dtype = t->on.params.dtype,
                       .micro_batch = g->params.sequences,
                       .int8 = g->params.int8,
                       .prompt = g->prompt,
                       .seed = t->on.params.seed,
                       .chunk = (int16_t)c,
                       .x = par__decode_input(chunk, i, g->params.sequences)};
    if (!module->ops->decode_build || !module->ops->decode)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "module %d of model %s cannot generate: its par_module_ops has no decode", number,
                 t->on.params.model->name);
    PAR_TRY(module->ops->decode_build(module, &build, g->params.capacity));
    if (last) g->logits = build.y;
    if (last &&
        (build.y.dtype != PAR_F32 || build.y.ndim != 2 || build.y.shape[0] != g->params.sequences))
        PAR_FAIL(PAR_ERR_ARG,
                 "module %d's logits are not fp32 with a row for each of %lld sequences", number,
                 (long long)g->params.sequences);
    par_tensor y = par__decode_output(g, chunk, i, g->params.sequences),
               largest = par__decode_output(g, chunk, i, par__most_rows(g));
    if (!same_shape(&y, &build.y))
        PAR_FAIL(PAR_ERR_ARG,
                 "module %d decodes to another shape than in training, apart from the rows",
                 number);
    if (par_tensor_nbytes(&largest) > g->buffer_nbytes && !last)
        g->buffer_nbytes = par_tensor_nbytes(&largest);
    if (build.scratch_nbytes > g->scratch_nbytes) g->scratch_nbytes = build.scratch_nbytes;
    return par_memory_take(memory, PAR_MEM_ACTIVATIONS, "keys and values", build.stash_nbytes,
                           &g->caches[c][i]);
}

/* Logits of one position, of all tp ranks; the vocabulary must be among them. */
static par_status take_logits(par_generator *g, par_memory *memory) {
    const par_mesh *mesh = g->trainer->on.mesh;
    size_t nbytes = par_tensor_nbytes(&g->logits);
    int p = par_comm_size(mesh->axis[PAR_TP]);
    if (g->params.vocab > g->logits.shape[1] * p)
        PAR_FAIL(PAR_ERR_ARG, "a vocabulary of %lld to draw from; legal: 1 to the model's %lld",
                 (long long)g->params.vocab, (long long)g->logits.shape[1] * p);
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "logits", nbytes, &g->local_logits));
    g->gathered = g->local_logits;
    return p == 1 ? PAR_OK
                  : par_memory_take(memory, PAR_MEM_ACTIVATIONS, "logits", nbytes * (size_t)p,
                                    &g->gathered);
}

static par_status build(par_generator *g, par_memory *memory) {
    size_t ids = (size_t)par__most_rows(g) * sizeof(int32_t);
    g->buffer_nbytes = g->scratch_nbytes = 0;
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "tokens", ids, &g->tokens));
    if (!par__works(g)) return PAR_OK;
    for (int c = 0; c < g->trainer->stage.n_chunks; c++) {
        const par__chunk *chunk = &g->trainer->stage.chunks[c];
        par_tensor x = par__decode_input(chunk, 0, par__most_rows(g));
        if (par_tensor_nbytes(&x) > g->buffer_nbytes) g->buffer_nbytes = par_tensor_nbytes(&x);
        for (int i = 0; i < chunk->n_modules; i++) PAR_TRY(build_module(g, memory, c, i));
    }
    if (par__is_last_stage(&g->trainer->on)) PAR_TRY(take_logits(g, memory));
    for (int i = 0; i < 2; i++)
        PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "activations", g->buffer_nbytes,
                                &g->buffers[i]));
    return par_memory_take(memory, PAR_MEM_SCRATCH, "modules", g->scratch_nbytes, &g->scratch);
}

/* Host arrays: of the rank that draws, and the tokens of a pass. */
static par_status take_host(par_generator *g) {
    const par_trainer *t = g->trainer;
    size_t B = (size_t)g->params.sequences, width = 1;
    if (par__draws(g))
        width = (size_t)g->logits.shape[1] * (size_t)par_comm_size(t->on.mesh->axis[PAR_TP]);
    g->ids = calloc((size_t)par__most_rows(g), sizeof *g->ids);
    if (par__draws(g)) {
        g->parts = calloc(B * width, sizeof *g->parts);
        g->rows = g->gathered == g->local_logits ? g->parts : calloc(B * width, sizeof *g->rows);
        g->candidates = calloc(width, sizeof *g->candidates);
        g->width = (int64_t)width;
    }
    if (!g->ids || (par__draws(g) && (!g->parts || !g->rows || !g->candidates)))
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the logits of %zu sequences of %zu", B, width);
    return PAR_OK;
}

/* The lists of caches, and the memory that they and the rest will take. */
static par_status measure(par_generator *g, par_memory **measured) {
    const par__stage *stage = &g->trainer->stage;
    for (int c = 0; c < stage->n_chunks; c++) {
        g->caches[c] = calloc((size_t)stage->chunks[c].n_modules + 1, sizeof(void *));
        if (!g->caches[c]) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of caches");
    }
    PAR_TRY(par_memory_create_measuring(measured));
    return build(g, *measured);
}

static par_status create_local(par_generator *g) {
    par_status st = PAR_OK;
    const par_trainer *t = g->trainer;
    par_memory *measured = NULL;
    PAR_TRY_GOTO(measure(g, &measured), out);
    PAR_TRY_GOTO(par_memory_create(&t->on.backend->memory, &t->on.backend->host_memory, measured,
                                   &g->memory),
                 out);
    PAR_TRY_GOTO(build(g, g->memory), out);
    st = take_host(g);
out:
    par_memory_destroy(&measured);
    return st;
}

/* What depends on the arguments alone. */
static par_status check_params(const par_trainer *t, const par_generator_params *p) {
    if (t->generator)
        PAR_FAIL(PAR_ERR_ARG, "the trainer has a generator already: destroy that one first");
    if (p->sequences < 1 || p->sequences > INT64_C(1) << 20)
        PAR_FAIL(PAR_ERR_ARG, "%lld sequences to generate; legal: 1 to 1048576",
                 (long long)p->sequences);
    if (p->capacity < 1)
        PAR_FAIL(PAR_ERR_ARG, "a capacity of %lld tokens; legal: 1 or more",
                 (long long)p->capacity);
    if (p->prompt < 0 || p->prompt > p->capacity)
        PAR_FAIL(PAR_ERR_ARG, "%lld tokens of a prompt at once; legal: 0 to the capacity of %lld",
                 (long long)p->prompt, (long long)p->capacity);
    if (p->vocab < 1 || p->vocab > INT32_MAX)
        PAR_FAIL(PAR_ERR_ARG, "a vocabulary of %lld to draw from; legal: 1 to the model's",
                 (long long)p->vocab);
    return PAR_OK;
}

/* Modules of this rank that cannot take a prompt in one pass. */
static int32_t without_prompt(const par_trainer *t) {
    int32_t n = 0;
    for (int c = 0; c < t->stage.n_chunks; c++)
        for (int i = 0; i < t->stage.chunks[c].n_modules; i++) {
            const par__chunk *chunk = &t->stage.chunks[c];
            bool last = chunk->first_index + i == t->on.params.model->n_modules - 1;
            n += !last && !chunk->modules[i]->ops->prompt;
        }
    return n;
}

/* Rows of the pass that takes a prompt: none if a module of any rank cannot take it so. */
static par_status agree_on_prompt(const par_trainer *t, const par_generator_params *params,
                                  int64_t *prompt) {
    int32_t cannot = without_prompt(t);
    *prompt = 0;
    if (params->prompt < 2) return PAR_OK;
    PAR_TRY(par_comm_all_reduce(t->on.mesh->world, &cannot, &cannot, 1, PAR_I32,
                                (par_tag){"agree", -1, -1, -1}, NULL, NULL));
    if (cannot == 0) *prompt = params->prompt;
    return PAR_OK;
}

par_status par_generator_plan(const par_trainer_params *params,
                              const par_transport_params *transport_params, int world_size,
                              int rank, const par_generator_params *generator, par_memory **out) {
    par_generator g = {0};
    par__planned p;
    par_memory *measured = NULL;
    PAR_REQUIRE(generator && out);
    par__threads_plan(world_size);
    par_status st = par__planned_begin(params, transport_params, world_size, rank, &p);
    if (st == PAR_OK) st = check_params(p.trainer, generator);
    if (st == PAR_OK) {
        g.trainer = p.trainer;
        g.params = *generator;
        g.prompt = generator->prompt < 2 || without_prompt(p.trainer) ? 0 : generator->prompt;
        st = measure(&g, &measured);
        for (int c = 0; c < p.trainer->stage.n_chunks; c++) free(g.caches[c]);
    }
    par__planned_end(&p);
    par__threads_plan(0);
    if (st == PAR_OK)
        *out = measured;
    else
        par_memory_destroy(&measured);
    return st;
}

const par_memory *par_generator_memory(const par_generator *g) {
    return g ? g->memory : NULL;
}

#define ROW(type, field) PAR__FIELD(par_generator_params, PAR__##type, field)
static const par__field rows[] = {ROW(INT64, sequences), ROW(INT64, capacity), ROW(INT64, prompt),
                                  ROW(INT64, vocab), ROW(BOOL, int8)};

par_status par_generator_create(par_trainer *t, const par_generator_params *params,
                                par_generator **out) {
    PAR_REQUIRE(t && params && out);
    par__lines given = {.used = 0};
    int64_t prompt;
    PAR_TRY(par__no_step_begun(&t->vote));
    par__lines_fields(&given, rows, (int)(sizeof rows / sizeof *rows), params);
    PAR_TRY(par_comm_same(t->on.mesh->world, PAR_OK, "the generator's ", given.text));
    PAR_TRY(check_params(t, params));
    PAR_TRY(agree_on_prompt(t, params, &prompt));
    par_generator *g = calloc(1, sizeof *g);
    par_status st = g ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a generator");
    if (g) {
        int last[PAR_AXIS_COUNT] = {0};
        g->trainer = t;
        g->params = *params;
        g->prompt = prompt;
        last[PAR_PP] = par__n_stages(g) - 1;
        g->root = par_layout_rank(&t->on.mesh->layout, last);
        t->generator = g;
        st = create_local(g);
    }
    st = par_comm_agree(t->on.mesh->world, st);
    if (st != PAR_OK) {
        par_generator_destroy(&g);
        return st;
    }
    *out = g;
    return PAR_OK;
}

void par_generator_destroy(par_generator **handle) {
    if (!handle || !*handle) return;
    par_generator *g = *handle;
    g->trainer->generator = NULL;
    (void)g->trainer->on.backend->sync(g->trainer->on.stream); /* a run that failed left work */
    for (int c = 0; c < g->trainer->stage.n_chunks; c++) free(g->caches[c]);
    free(g->ids);
    if (g->rows != g->parts) free(g->rows);
    free(g->parts);
    free(g->candidates);
    par_memory_destroy(&g->memory);
    free(g);
    *handle = NULL;
}
