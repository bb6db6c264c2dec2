/*
 * cuDNN's fused attention as a graph of primitive operations, and its plans. Nothing here needs a
 * GPU: a plan is compiled for a device that is a handle's, or that a JSON text describes. cuDNN
 * matches the whole graph with one fused kernel, so operations, their order and the types between
 * them are as its patterns want them.
 */
#ifndef PAR__ATTENTION_PLAN_H
#define PAR__ATTENTION_PLAN_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/kernels.h"

typedef enum {
    PAR__FUSED_INFERENCE, /* o alone */
    PAR__FUSED_FORWARD,   /* o and lse */
    PAR__FUSED_BACKWARD,  /* dq is summed by atomics: the bits differ from run to run */
    PAR__FUSED_BACKWARD_DETERMINISTIC,
    PAR__FUSED_KINDS
} par__fused_kind;

/* All that a plan depends on: the key of the caches. Zeroed before it is filled, compared as
 * bytes. */
typedef struct {
    int64_t kind, dtype;
    int64_t B, T, H, K, D;
    int64_t ldq, ldk, ldv, ldo, ldd_o, lddq, lddk, lddv;
} par__fused_shape;

/* Of a par_attention; a forward's has no gradients. */
par__fused_shape par__fused_shape_of(const par_attention *a, par__fused_kind kind);

/* The tensors that a caller of a plan has: ids of the variant pack. K stands for both views of
 * k. */
typedef enum {
    PAR__FUSED_NONE,
    PAR__FUSED_Q,
    PAR__FUSED_K,
    PAR__FUSED_V,
    PAR__FUSED_O,
    PAR__FUSED_LSE,
    PAR__FUSED_D_O,
    PAR__FUSED_DQ,
    PAR__FUSED_DK,
    PAR__FUSED_DV,
    PAR__FUSED_DELTA,  /* fp32 [B, H, T], scratch */
    PAR__FUSED_DQ_SUM, /* fp32 [B, H, T, D], scratch; needs no zeros */
    PAR__FUSED_SCALE,  /* this and the next two: a float of the host */
    PAR__FUSED_MINUS_INFINITY,
    PAR__FUSED_ONE,
    PAR__FUSED_BOUND
} par__fused_tensor;

/* Those that the kind of plan has, in ids; their number. */
int par__fused_bindings(const par__fused_shape *shape, int64_t ids[PAR__FUSED_BOUND]);

/* Bytes that the caller provides for one of the two scratch tensors; 0 if the kind does without. */
size_t par__fused_scratch_nbytes(const par__fused_shape *shape, par__fused_tensor tensor);

/* Bytes that the plan's engine takes on sm_90, before it is built; measured, and linear in all but
 * the deterministic backward, whose second term is dS in 16 bits. */
size_t par__fused_engine_nbytes(const par__fused_shape *shape);

/* What a plan is for: a handle's device, or else a described one. */
typedef struct {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t device; /* CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR */
    const char *name;                /* a line that tells devices apart, for files */
} par__fused_target;

/* A device from its JSON description (the keys that cuDNN wants). Destroyed with
 * cudnnBackendDestroyDescriptor. */
par_status par__fused_device_create(const char *json, cudnnBackendDescriptor_t *out);

/* The finalised graph. */
par_status par__fused_graph_create(const par__fused_target *target, const par__fused_shape *shape,
                                   cudnnBackendDescriptor_t *out);

typedef struct {
    cudnnBackendDescriptor_t descriptor; /* NULL: cuDNN has none for this shape */
    size_t workspace_nbytes;             /* of its engine */
    bool from_file;
} par__fused_plan;

/* Build a plan: the first of the heuristic's configurations that compiles. Takes half a second.
 * Errors: what is not a lack of support. */
par_status par__fused_plan_create(const par__fused_target *target, const par__fused_shape *shape,
                                  par__fused_plan *out);
void par__fused_plan_destroy(par__fused_plan *plan);
/* Its text, with the compiled kernel; free() it. */
par_status par__fused_plan_text(const par__fused_plan *plan, char **text, size_t *nbytes);
/* A plan from its text. */
par_status par__fused_plan_parse(const par__fused_target *target, const char *text, size_t nbytes,
                                 par__fused_plan *out);

/* As create, through a folder of files (NULL: none): a file that is damaged, of another version,
 * device or shape is ignored and written anew; one that cannot be written is left out. */
par_status par__fused_plan_obtain(const par__fused_target *target, const char *folder,
                                  const par__fused_shape *shape, par__fused_plan *out);

#endif
