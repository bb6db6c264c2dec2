/*
 * par checkpoint average, import: a checkpoint of weights alone. It can be sampled, exported and
 * compared; a training goes on from moments, which it has none of. An average carries the first
 * one's tokenizer, an import that of its directory.
 */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_tool.h"
#include "../train_llm/tokenizer_files.h"
#include "par_tool.h"

/* Weights in memory, as runs of one rank. */
typedef struct {
    par_checkpoint_run *runs;
    par_param *params; /* whose names the runs have */
    int n;
} model;

static void free_model(model *m) {
    for (int i = 0; i < m->n; i++) free(m->runs[i].data);
    free(m->runs);
    free(m->params);
}

/* Memory for every parameter of the configuration. */
static par_status make_model(const par_transformer_config *config, par_dtype dtype, model *m) {
    par_param p;
    int n = 0;
    while (par_weights_param(config, n, &p)) n++;
    if (n == 0)
        return par_error_set(PAR_ERR_UNSUPPORTED, "%s: is not a model of GPT-2's or Llama's kind",
                             config->name);
    m->runs = calloc((size_t)n, sizeof *m->runs);
    m->params = calloc((size_t)n, sizeof *m->params);
    if (!m->runs || !m->params)
        return par_error_set(PAR_ERR_MEMORY, "no host memory for %d parameters", n);
    for (; m->n < n; m->n++) {
        par_param *q = &m->params[m->n];
        par_weights_param(config, m->n, q);
        par_checkpoint_run r = {.kind = "weight",
                                .name = q->name,
                                .dtype = dtype,
                                .n = q->global[0] * q->global[1],
                                .ndim = q->ndim};
        for (int d = 0; d < 2; d++) r.global[d] = r.extent[d] = r.local[d] = q->global[d];
        r.data = calloc((size_t)r.n, par_dtype_nbytes(dtype));
        if (!r.data)
            return par_error_set(PAR_ERR_MEMORY, "%s: no host memory for %lld elements", q->name,
                                 (long long)r.n);
        m->runs[m->n] = r;
    }
    return PAR_OK;
}

/* A training that goes on takes the newest checkpoint in its directory, so none of weights alone
 * comes between its own. One of this step is nobody's to replace: it may be one of those that are
 * read. */
static par_status check_new(const char *directory, int64_t step) {
    char path[PATH_MAX];
    checkpoint_paths list = {0};
    par_status st = PAR_OK;
    snprintf(path, sizeof path, "%s/step_%08lld", directory, (long long)step);
    if (access(path, F_OK) == 0)
        return par_error_set(
            PAR_ERR_IO, "%s: is there already, and stays; legal: another directory (--save)", path);
    if (access(directory, F_OK) == 0) checkpoint_paths_find(directory, &list);
    for (int i = 0; st == PAR_OK && i < list.n; i++) {
        par_checkpoint *c = NULL;
        bool opens = par_checkpoint_open(list.paths[i], NULL, &c) == PAR_OK;
        if (!opens || !checkpoint_value(c, CHECKPOINT_ORIGIN))
            st = par_error_set(
                PAR_ERR_IO,
                "%s: is a training's, which could not go on from a checkpoint of weights "
                "alone beside it; legal: another directory (--save)",
                list.paths[i]);
        par_checkpoint_close(&c);
    }
    checkpoint_paths_free(&list);
    return st;
}

static par_status save(const checkpoint_settings *s, const model *m, const checkpoint_pairs *pairs,
                       int64_t step) {
    par_transport *transport = NULL;
    par_comm *world = NULL;
    const par_comm_params params = {.axis = "world"};
    const par_checkpoint_params to = {
        .directory = s->save, .step = step, .about = {.pairs = pairs->pairs, .n = pairs->n}};
    par_checkpoint_result *result = calloc(1, sizeof *result);
    const bool there = access(s->save, F_OK) == 0;
    par_status st = result ? par_transport_create_self(NULL, &transport)
                           : par_error_set(PAR_ERR_MEMORY, "no host memory for a result");
    if (st == PAR_OK) st = par_comm_create(transport, &params, NULL, &world);
    if (st == PAR_OK) st = par_checkpoint_save(world, &to, m->runs, m->n, result);
    if (st == PAR_OK) {
        char size[32];
        printf("saved %s | %s | %s\n", result->path, checkpoint_size((double)result->nbytes, size),
               pairs->values[pairs->n - 1]);
        for (const char *line = result->notes.text; *line;) {
            size_t n = strcspn(line, "\n");
            printf("note: %.*s\n", (int)n, line);
            line += n + (line[n] == '\n');
        }
    }
    if (st != PAR_OK && !there) rmdir(s->save); /* if nothing is in it */
    par_comm_destroy(&world);
    par_transport_destroy(&transport);
    free(result);
    return st;
}

/* The mean of each parameter, summed up as fp32. */
static par_status average_params(const checkpoint_settings *s, const checkpoint_source *sources,
                                 model *m) {
    par_status st = PAR_OK;
    for (int k = 0; st == PAR_OK && k < m->n; k++) {
        const par_param *p = &m->params[k];
        par_checkpoint_run *r = &m->runs[k];
        float *piece = malloc((size_t)r->n * sizeof *piece), *sum = r->data;
        if (!piece)
            st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory for %lld elements", r->name,
                               (long long)r->n);
        for (int i = 0; st == PAR_OK && i < s->n; i++) {
            const checkpoint_source *from = &sources[i];
            st = s->weights_only
                     ? checkpoint_read_param(from->checkpoint, "weight", p, PAR_F32, piece)
                     : from->weights.read(from->weights.user, p, PAR_F32, piece);
            for (int64_t e = 0; st == PAR_OK && e < r->n; e++) sum[e] += piece[e];
        }
        for (int64_t i = 0; i < r->n; i++) sum[i] /= (float)s->n;
        free(piece);
    }
    return st;
}

/* The model of each must be the first one's: in what no training changes, as far as both record it,
 * and in what one may go on with another value of, and the model then computes otherwise. */
static par_status check_same(const checkpoint_settings *s, const checkpoint_source *sources) {
    static const char *const computed[] = {"window", "norm eps", "rope theta", "rope scaling"};
    par_problems problems = {0};
    int n;
    const par_checkpoint *first = sources[0].checkpoint;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(first, &n);
    for (int i = 1; i < s->n; i++) {
        const par_checkpoint *other = sources[i].checkpoint;
        for (int k = 0; k < n; k++) {
            const char *value = checkpoint_value(other, pairs[k].name);
            bool shape = pairs[k].class_of == PAR_CHECKPOINT_EQUAL &&
                         strcmp(pairs[k].name, "optimizer") != 0;
            if (shape && value && strcmp(value, pairs[k].value) != 0)
                par_problem(&problems, "%s: its %s is %s; that of %s is %s", s->words[i],
                            pairs[k].name, value, s->words[0], pairs[k].value);
        }
        for (size_t k = 0; k < sizeof computed / sizeof *computed; k++) {
            const char *value = checkpoint_value(other, computed[k]),
                       *own = checkpoint_value(first, computed[k]);
            value = value ? value : "none";
            own = own ? own : "none";
            if (strcmp(value, own) != 0)
                par_problem(&problems, "%s: its %s is %s; that of %s is %s", s->words[i],
                            computed[k], value, s->words[0], own);
        }
    }
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

/* The first one's files of the tokenizer, as further runs. */
static par_status carry_tokenizer(const par_checkpoint *c, model *m) {
    const int64_t offset[2] = {0, 0};
    int n;
    const par_checkpoint_tensor *t = par_checkpoint_tensors(c, &n);
    par_checkpoint_run *runs = realloc(m->runs, (size_t)(m->n + n) * sizeof *runs);
    if (!runs) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d runs", m->n + n);
    m->runs = runs;
    for (int i = 0; i < n; i++) {
        if (strcmp(t[i].kind, "tokenizer") != 0 || t[i].ndim != 0 || t[i].dtype != PAR_U8) continue;
        char *bytes = malloc((size_t)t[i].global[0]);
        if (!bytes) return par_error_set(PAR_ERR_MEMORY, "no host memory for %s", t[i].name);
        m->runs[m->n++] = (par_checkpoint_run){.kind = t[i].kind,
                                               .name = t[i].name,
                                               .dtype = PAR_U8,
                                               .n = t[i].global[0],
                                               .data = bytes};
        par_status st = par_checkpoint_read(c, &t[i], offset, t[i].global, PAR_U8, bytes);
        if (st != PAR_OK) return st;
    }
    return PAR_OK;
}

/* The first one's pairs, with what is no longer so left out. */
static void average_pairs(const checkpoint_settings *s, const checkpoint_source *sources,
                          checkpoint_pairs *out) {
    char origin[512] = "average of ";
    size_t used = strlen(origin);
    int n;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(sources[0].checkpoint, &n);
    *out = (checkpoint_pairs){0};
    checkpoint_pair_add(out, "precision", "fp32", PAR_CHECKPOINT_NOTED);
    for (int i = 0; i < n; i++)
        if (pairs[i].class_of != PAR_CHECKPOINT_STATED ||
            strcmp(pairs[i].name, "tokenizer file") == 0 ||
            strcmp(pairs[i].name, CHECKPOINT_KEPT) == 0 || strcmp(pairs[i].name, "end ids") == 0)
            checkpoint_pair_add(out, pairs[i].name, pairs[i].value, pairs[i].class_of);
    for (int i = 0; i < s->n; i++) {
        if (used < sizeof origin)
            used += (size_t)snprintf(origin + used, sizeof origin - used, "%s%.200s", i ? ", " : "",
                                     par_checkpoint_info(sources[i].checkpoint)->path);
    }
    checkpoint_pair_add(out, CHECKPOINT_ORIGIN, origin, PAR_CHECKPOINT_STATED);
}

static par_status average(const checkpoint_settings *s, const checkpoint_source *sources) {
    static checkpoint_pairs pairs;
    model m = {0};
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < s->n; i++)
        if (!sources[i].checkpoint)
            st = par_error_set(PAR_ERR_OPTION, "%s: legal: a checkpoint", s->words[i]);
    int64_t newest = 0;
    for (int i = 0; st == PAR_OK && i < s->n; i++) {
        int64_t step = par_checkpoint_info(sources[i].checkpoint)->step;
        if (step > newest) newest = step;
    }
    if (st == PAR_OK) st = check_same(s, sources);
    if (st == PAR_OK) st = check_new(s->save, newest);
    if (st == PAR_OK) st = make_model(&sources[0].weights.config, PAR_F32, &m);
    if (st == PAR_OK) st = average_params(s, sources, &m);
    if (st == PAR_OK) st = carry_tokenizer(sources[0].checkpoint, &m);
    if (st == PAR_OK) {
        average_pairs(s, sources, &pairs);
        st = save(s, &m, &pairs, newest);
    }
    free_model(&m);
    return st;
}

static int no_save(const char *command) {
    par_error_set(PAR_ERR_OPTION, "--save DIR: is missing; legal: a directory for the checkpoint");
    return checkpoint_failed(command);
}

int checkpoint_average(const checkpoint_settings *s) {
    par_status st = PAR_OK;
    if (!s->save) return no_save("average");
    checkpoint_source *sources = calloc((size_t)s->n, sizeof *sources);
    if (!sources) st = par_error_set(PAR_ERR_MEMORY, "no host memory for a list");
    for (int i = 0; st == PAR_OK && i < s->n; i++)
        st = checkpoint_source_open(s->words[i], &sources[i]);
    if (st == PAR_OK) st = average(s, sources);
    for (int i = 0; sources && i < s->n; i++) checkpoint_source_close(&sources[i]);
    free(sources);
    return st == PAR_OK ? EXIT_SUCCESS : checkpoint_failed("average");
}

/* The tokenizer of --tokenizer, or of the directory, as further runs, and what it is. */
static par_status add_tokenizer(const checkpoint_settings *s, const checkpoint_source *from,
                                checkpoint_pairs *pairs, model *m) {
    static llm_tokenizer t;
    const char *place = s->tokenizer ? s->tokenizer : from->import ? from->path : NULL;
    if (place) llm_tokenizer_look(&t, place);
    if (s->tokenizer && t.n_files == 0)
        return par_error_set(PAR_ERR_IO,
                             "--tokenizer %s: there is no tokenizer in it; legal: a folder with "
                             "tokenizer.json, tokenizer.model, or vocab.json and merges.txt",
                             s->tokenizer);
    if (t.n_files == 0) {
        printf("note: no files of a tokenizer are known; --tokenizer DIR gives them\n");
        return PAR_OK;
    }
    llm_tokenizer_carry(&t);
    par_checkpoint_run *runs = realloc(m->runs, (size_t)(m->n + t.n_blobs) * sizeof *runs);
    if (runs) m->runs = runs;
    for (int i = 0; runs && i < t.n_blobs; i++) runs[m->n++] = t.blobs[i]; /* and their bytes */
    if (!runs || t.n_blobs == 0) llm_tokenizer_drop(&t);
    if (!runs) return par_error_set(PAR_ERR_MEMORY, "no host memory for the tokenizer");
    checkpoint_pair_add(pairs, "tokenizer", t.id, PAR_CHECKPOINT_EQUAL);
    checkpoint_pair_add(pairs, "tokenizer file", t.name, PAR_CHECKPOINT_STATED);
    if (t.n_blobs == 0)
        printf("note: the tokenizer has more than %d MiB and is not carried, only its place, %s\n",
               LLM_TOKENIZER_NBYTES >> 20, place);
    else
        printf("%d file%s of the tokenizer in %s\n", t.n_blobs, t.n_blobs == 1 ? "" : "s", place);
    return PAR_OK;
}

/* What is told by a name for it must be that. */
static par_status open_model(const checkpoint_settings *s, checkpoint_source *out) {
    *out = (checkpoint_source){0};
    if (s->n + !!s->hf + !!s->llmc != 1)
        return par_error_set(PAR_ERR_OPTION, "MODEL, --hf DIR, --llmc FILE: legal: one of these");
    return s->hf     ? checkpoint_source_open_hf(s->hf, out)
           : s->llmc ? checkpoint_source_open_llmc(s->llmc, out)
                     : checkpoint_source_open(s->words[0], out);
}

int checkpoint_import(const checkpoint_settings *s) {
    static checkpoint_pairs pairs;
    char origin[512], ends[12 * PAR_WEIGHTS_ENDS] = "";
    size_t used = 0;
    checkpoint_source from;
    model m = {0};
    if (!s->save) return no_save("import");
    par_status st = open_model(s, &from);
    if (st == PAR_OK) st = check_new(s->save, 0);
    if (st == PAR_OK) st = make_model(&from.weights.config, from.weights.dtype, &m);
    for (int i = 0; st == PAR_OK && i < m.n; i++)
        st = from.weights.read(from.weights.user, &m.params[i], m.runs[i].dtype, m.runs[i].data);
    if (st == PAR_OK) {
        checkpoint_pairs_of(&from.weights.config, &pairs);
        checkpoint_pair_add(&pairs, "precision", par_dtype_name(from.weights.dtype),
                            PAR_CHECKPOINT_NOTED);
        for (int i = 0; i < from.weights.n_ends; i++) /* as a training records them */
            used += (size_t)snprintf(ends + used, sizeof ends - used, "%s%d", i ? "," : "",
                                     (int)from.weights.ends[i]);
        if (used > 0) checkpoint_pair_add(&pairs, "end ids", ends, PAR_CHECKPOINT_STATED);
        const char *kept = from.weights.kept;
        if (kept && *kept)
            checkpoint_pair_add(&pairs, CHECKPOINT_KEPT, kept, PAR_CHECKPOINT_STATED);
        st = add_tokenizer(s, &from, &pairs, &m);
    }
    if (st == PAR_OK) {
        snprintf(origin, sizeof origin, "import of %s", from.path);
        checkpoint_pair_add(&pairs, CHECKPOINT_ORIGIN, origin, PAR_CHECKPOINT_STATED);
        st = save(s, &m, &pairs, 0);
    }
    if (st == PAR_OK && from.import)
        printf("It has weights alone: to train from them, train_llm --import %s\n", from.path);
    else if (st == PAR_OK)
        printf("It has weights alone: to train from them, par checkpoint export %s --hf DIR, then "
               "train_llm --import DIR\n",
               s->save);
    free_model(&m);
    checkpoint_source_close(&from);
    return st == PAR_OK ? EXIT_SUCCESS : checkpoint_failed("import");
}
