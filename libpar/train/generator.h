/* What a generator holds: generator_make.c makes it, generator_run.c runs it. */
#ifndef PAR__GENERATOR_H
#define PAR__GENERATOR_H

#include "draw.h"
#include "par/generate.h"
#include "trainer.h"

struct par_generator {
    par_trainer *trainer;
    par_generator_params params;
    par_memory *memory;
    int root;       /* world rank that draws: first of tp and dp, last stage */
    int64_t prompt; /* rows of the pass that takes a prompt; 0: there is none */

    void **caches[PAR_MAX_CHUNKS]; /* [n_modules] of each chunk */
    void *buffers[2];              /* between modules, used in turn */
    size_t buffer_nbytes, scratch_nbytes;
    void *scratch, *tokens; /* tokens int32 [most rows of a pass] */
    par_tensor logits;      /* of this tp rank; shape alone, last stage */
    void *local_logits, *gathered;

    int32_t *ids;        /* host, as tokens */
    float *parts, *rows; /* host, on root: logits as gathered, and [B, width] in the order of ids:
                            the same where one rank has all */
    par__draw_candidate *candidates; /* host, on root: [width] */
    int64_t width;
};

static inline int par__n_stages(const par_generator *g) {
    return g->trainer->on.params.layout.size[PAR_PP];
}
static inline int par__stage_number(const par_generator *g) {
    return g->trainer->on.mesh->coordinate[PAR_PP];
}
/* A rank that runs the model. */
static inline bool par__works(const par_generator *g) {
    return g->trainer->on.mesh->coordinate[PAR_DP] == 0;
}
static inline bool par__draws(const par_generator *g) {
    return g->trainer->on.mesh->rank == g->root;
}
static inline bool par__is_last_module(const par_generator *g, const par__chunk *chunk, int i) {
    return chunk->first_index + i == g->trainer->on.params.model->n_modules - 1;
}

/* Rows of the largest pass: a token of each sequence, or a prompt. */
static inline int64_t par__most_rows(const par_generator *g) {
    return g->prompt > g->params.sequences ? g->prompt : g->params.sequences;
}

/* Between modules: as in training, with so many rows. */
static inline par_tensor par__decode_rows(par_tensor trained, int64_t rows) {
    trained.data = NULL;
    trained.shape[0] = rows;
    return trained;
}

static inline par_tensor par__decode_input(const par__chunk *chunk, int i, int64_t rows) {
    if (chunk->first_index + i == 0) return par_tensor_make(NULL, PAR_I32, 1, rows, 1, 1, 1);
    return par__decode_rows(chunk->x[i], rows);
}

static inline par_tensor par__decode_output(const par_generator *g, const par__chunk *chunk, int i,
                                            int64_t rows) {
    return par__is_last_module(g, chunk, i) ? g->logits : par__decode_rows(chunk->x[i + 1], rows);
}

#endif
