/*
 * All memory of a trainer comes from here. Creation runs twice through the same code: once on a
 * par_memory that only measures (every pointer it hands out is NULL), which is the plan; once on
 * one that owns a block per kind, of exactly the measured size. The ledger lists what was taken,
 * and it is the same list both times.
 */
#ifndef PAR_MEMORY_H
#define PAR_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What memory is for. */
typedef enum {
    PAR_MEM_WEIGHTS,     /* parameters as GEMMs read them */
    PAR_MEM_GRADIENTS,   /* fp32 gradients */
    PAR_MEM_OPTIMIZER,   /* fp32 master weights and moments */
    PAR_MEM_ACTIVATIONS, /* slots of the pipeline executor */
    PAR_MEM_SCRATCH,     /* shared by all modules, valid within one call */
    PAR_MEM_COMM,        /* staging of collectives, ballots; the host's */
    PAR_MEM_DATA,        /* batches, and what else the host exchanges with the device; the host's */
    PAR_MEM_COUNT
} par_memory_kind;

/* One line of the ledger: what was taken of one kind under one name. */
typedef struct {
    par_memory_kind kind;
    char what[48];  /* "slot", "gradients", ... */
    size_t nbytes;  /* rounded up to the alignment, so that lines add up to the total */
    size_t planned; /* what was measured of it before; while measuring: 0 */
} par_ledger_line;

/* What a line is made of, as far as its taker tells. Details of a line add up to it, but for what
 * lies between them: padding. */
typedef struct {
    par_memory_kind kind;
    char what[48];   /* the line's */
    char layer[48];  /* "layers.3"; "": of none */
    char tensor[64]; /* within the layer: "attention.q.weight" */
    size_t nbytes;
} par_ledger_detail;

/* Where blocks come from: a backend's device, or the host as that backend wants it. */
typedef struct {
    par_status (*alloc)(size_t nbytes, void **out); /* zero-filled, aligned to 256 bytes */
    void (*release)(void *block, size_t nbytes);
} par_allocator;

/* Blocks of every kind, or the measure of them. */
typedef struct par_memory par_memory;

/**
 * A memory that measures: par_memory_take succeeds, grows the ledger and returns NULL pointers.
 * Not collective. Errors: PAR_ERR_MEMORY [local] when there is no host memory.
 */
PAR_API par_status par_memory_create_measuring(par_memory **out);

/**
 * A memory with one block per kind, as large as `measured` says; zero-filled. PAR_MEM_COMM and
 * PAR_MEM_DATA come from `host`, the others from `device`: a backend's host_memory and memory. Not
 * collective. Errors: PAR_ERR_MEMORY [local] when a block cannot be had, with kind and bytes; those
 * of the allocators.
 */
PAR_API par_status par_memory_create(const par_allocator *device, const par_allocator *host,
                                     const par_memory *measured, par_memory **out);

/** Free the blocks; everything taken from it dies. NULL is accepted. Not collective. */
PAR_API void par_memory_destroy(par_memory **memory);

/**
 * Take nbytes, aligned to 256. Repeated takes with the same kind and `what` are one ledger line.
 * Not collective. Errors: PAR_ERR_INTERNAL [local] when more is taken than was measured;
 * PAR_ERR_MEMORY [local] when there is no host memory for the ledger.
 */
PAR_API par_status par_memory_take(par_memory *memory, par_memory_kind kind, const char *what,
                                   size_t nbytes, void **out);

/**
 * Tell what nbytes of a line are for; a note in the ledger that takes nothing. Not collective.
 * Errors: PAR_ERR_MEMORY [local] when there is no host memory for the ledger.
 */
PAR_API par_status par_memory_tell(par_memory *memory, par_memory_kind kind, const char *what,
                                   const char *layer, const char *tensor, size_t nbytes);
/** Made by par_memory_create_measuring. Not collective. */
PAR_API bool par_memory_measuring(const par_memory *memory);
/** Total bytes taken of one kind. Not collective. */
PAR_API size_t par_memory_nbytes(const par_memory *memory, par_memory_kind kind);
/** Lines of the ledger in the order of their first take. Not collective. */
PAR_API int par_memory_ledger(const par_memory *memory, const par_ledger_line **lines);
/** What was told of its lines, in the order of telling. Not collective. */
PAR_API int par_memory_details(const par_memory *memory, const par_ledger_detail **details);
/** "weights", "gradients", ... Not collective. */
PAR_API const char *par_memory_kind_name(par_memory_kind kind);

#ifdef __cplusplus
}
#endif
#endif
