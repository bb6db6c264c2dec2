/*
 * Generation: text from a trainer's weights, one token of each sequence at a time, in the trainer's
 * own layout, with keys and values of earlier tokens kept (a cache). A prompt may go through the
 * model in one pass.
 *
 * Every rank of dp index 0 takes part as in training. One rank draws, in double, from the gathered
 * logits of one position, and sends the tokens to all ranks of the world. A draw is a function of
 * (seed, sequence, position) and of the logits. Layouts differ in the logits' rounding alone, so
 * they give the same text unless two candidates are closer to each other, or to the random number,
 * than that.
 */
#ifndef PAR_GENERATE_H
#define PAR_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/memory.h"
#include "par/status.h"
#include "par/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How large a generator is: the most that a run may ask for. */
typedef struct {
    int64_t sequences; /* B: texts made together */
    int64_t capacity;  /* tokens of a prompt and its text together, at most the model's T */
    int64_t prompt;    /* tokens of a prompt that go through the model in one pass, at most the
                          capacity; 0 and 1: each has a pass of its own. Best is what the longest
                          prompt has, less one: its last token is the first that is decoded */
    int64_t vocab;     /* tokens are 0 .. vocab - 1; logits behind them (padding, or ids that no
                          tokenizer has) are never drawn */
    bool int8;         /* matrices are read as 8-bit integers with a scale per 128 elements
                          (PAR_OP_QUANTIZE), of which each run makes copies in the generator's
                          memory; activations, the embedding, norms and biases stay as they are */
} par_generator_params;

/* One generation; equal on all ranks. */
typedef struct {
    const int32_t *prompt; /* [B, n_prompt] */
    int64_t n_prompt;      /* at least 1 */
    int64_t n_new;         /* n_prompt + n_new <= capacity */
    double
        temperature; /* logits are divided by it; 0: the largest logit, of equals the lowest id */
    int64_t top_k; /* drawn among so many of the largest logits, of equals the lowest ids; 0: all */
    double top_p;  /* of these, drawn among the fewest of the largest that together have this
                     probability (Holtzman et al. 2020); 0 and 1: all */
    uint64_t seed;
    /* Called on every rank with new token i of each sequence, [B]; may be NULL. False: that was the
     * last one. The answer must be the same on all ranks: a function of the ids. */
    bool (*token)(void *user, int64_t i, const int32_t *ids);
    void *user;
} par_generation;

/* Caches and activations for texts of a trainer's model. */
typedef struct par_generator par_generator;

/**
 * Measure what the generator of one rank takes beside the trainer, without MPI, data or weights, as
 * par_trainer_plan measures the trainer. A prompt is taken in one pass if this rank's modules can.
 *
 * Not collective. Errors: as par_trainer_plan; PAR_ERR_ARG when the generator's parameters are
 * impossible; PAR_ERR_UNSUPPORTED when a module has no `decode`, or the backend no 8-bit products.
 */
PAR_API par_status par_generator_plan(const par_trainer_params *,
                                      const par_transport_params *transport_params, int world_size,
                                      int rank, const par_generator_params *, par_memory **out);

/**
 * Measures, then allocates all that runs will need: caches, activations of `prompt` tokens,
 * workspace, logits of one position. Between steps of the trainer, which must outlive it; one
 * generator per trainer at a time.
 *
 * Collective: on world. Errors: PAR_ERR_ARG [agreed] when the parameters are impossible or a step
 * is under way; PAR_ERR_OPTION [agreed] with each that a rank has otherwise than rank 0;
 * PAR_ERR_UNSUPPORTED [agreed] when a module of the model has no `decode`, or the
 * backend no 8-bit products; PAR_ERR_MEMORY [agreed]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_generator_create(par_trainer *, const par_generator_params *,
                                        par_generator **out);
/** Where its bytes go; it stays the generator's. NULL is accepted: NULL. Not collective. */
PAR_API const par_memory *par_generator_memory(const par_generator *);
/** NULL is accepted. Not collective. */
PAR_API void par_generator_destroy(par_generator **generator);

/**
 * ids [B, n_new] (may be NULL) on every rank, with the weights as they are between steps. Nothing
 * is kept from one run to the next. Where `token` ended it, later ids are left as they were.
 *
 * Collective: on world. Errors: PAR_ERR_ARG [agreed] when the arguments are impossible or a step is
 * under way, the latter without communication; PAR_ERR_OPTION [agreed] with each number that a rank
 * has otherwise than rank 0, and if its prompts are others; PAR_ERR_NUMERIC [agreed] when no logit
 * is finite or one is NaN; what a module, a kernel or the device returned, [comm];
 * PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_generator_run(par_generator *, const par_generation *, int32_t *ids);

#ifdef __cplusplus
}
#endif
#endif
