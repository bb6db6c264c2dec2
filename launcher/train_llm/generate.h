/* What a sample holds: generate.c makes it, generate_text.c draws and prints. */
#ifndef TRAIN_LLM_SAMPLE_H
#define TRAIN_LLM_SAMPLE_H

#include <stddef.h>

#include "train_llm.h"

enum { LLM_MAX_PROMPTS = 1000, LLM_MAX_STOPS = 16, LLM_MAX_ENDS = 40 };

/* One prompt, from which `count` texts are drawn. */
typedef struct {
    char *text; /* owned; NULL: none was given */
    int32_t *ids;
    int64_t n, n_new;
} llm_prompt;

/* One text while it is drawn, and after. */
typedef struct {
    int64_t n;       /* new tokens, without the one that ends it */
    size_t cut;      /* bytes of theirs that are shown; SIZE_MAX: all */
    const char *why; /* it ended before its last token; NULL: it did not */
} llm_text;

struct llm_generation {
    par_tokenizer *tokenizer;
    char name[4096]; /* of the tokenizer */
    llm_prompt *prompts;
    int n_prompts;
    char *stops[LLM_MAX_STOPS];
    int n_stops;
    int32_t ends[LLM_MAX_ENDS]; /* tokens that end a text */
    int n_ends;
    int64_t count, vocab, capacity;
    int32_t *batch;  /* [count, n] of the prompt that is drawn from */
    int32_t *ids;    /* [count, n_new] */
    llm_text *texts; /* [count] */
    par_generator *generator;
    char why[1024]; /* why there will be no sample; empty: there will */
};

#endif
