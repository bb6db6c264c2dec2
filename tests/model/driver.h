/*
 * A model on one pipeline stage, driven module by module without a trainer: built twice, on
 * measuring and on real memory, with weights that are functions of name and global index, so that
 * every layout starts alike.
 */
#ifndef PAR_TESTS_MODEL_DRIVER_H
#define PAR_TESTS_MODEL_DRIVER_H

#include "libpar/model/registry.h"
#include "par/transformer.h"

enum { DRIVER_MAX_MODULES = 8 };

typedef struct {
    par_transformer_config config;
    int tp;
    bool sequence_parallel;
    par_recompute recompute;
    size_t logits_nbytes; /* 0: no bound */
    int64_t B;
    const par_backend *backend; /* NULL: ref */
} driver_params;

typedef struct {
    driver_params params;
    par_memory *memory;
    par_mesh *mesh;
    par_registry *registry;
    par_model *model;
    const par_backend *backend;
    par_module *modules[DRIVER_MAX_MODULES];
    par_tensor x[DRIVER_MAX_MODULES + 1];  /* activations; x[i] goes into module i; owned */
    par_tensor dx[DRIVER_MAX_MODULES + 1]; /* their gradients; owned */
    void *stash[DRIVER_MAX_MODULES];
    void *scratch;
    int32_t *ids, *targets; /* [B, T] */
    float *weights, *grads; /* flat */
    par_stream stream;
} driver;

/* Fails the running case and answers false. */
bool driver_create(par_transport *transport, const driver_params *params, driver *d);
/* The status of building the modules, on measuring memory alone. */
par_status driver_measure(par_transport *transport, const driver_params *params);
void driver_destroy(driver *d);
par_call driver_call(const driver *d, int module, bool training);
/* x[i + 1] from x[i]; dx[i] from dx[i + 1]. */
bool driver_forward(driver *d, int module, bool training);
bool driver_backward(driver *d, int module);
bool driver_backward_sublayer(driver *d, int module, int sublayer);
/* Forget gradients: the next writer overwrites NaNs. */
void driver_clear(driver *d);
/* Add partial gradients over their groups, as the trainer does. */
bool driver_sum(driver *d);
/* All modules forward and backward and the sum, after driver_clear. */
bool driver_step(driver *d);
par_param *driver_find(const driver *d, const char *name);

/* Tiny models: "gpt" tied, learned positions, 12 heads; "llama" with `kv_heads`. V 131, T 12, C 48,
 * F 88. */
par_transformer_config driver_gpt(void);
par_transformer_config driver_llama(int kv_heads);
par_transformer_config driver_qwen(int kv_heads); /* with biases and norms of q and k */

#endif
