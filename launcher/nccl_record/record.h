/*
 * What the recorder keeps: communicators, and for each what was asked for, counted by operation,
 * peer and type. wrap.c stands before NCCL's functions and tells record.c of each call; write.c
 * makes a file of it; kept.c holds it, real.c knows NCCL's own functions. It links nothing of
 * libpar, as it is loaded into other people's programs.
 *
 * A call takes no lock and no memory, but for the first one of an operation on a communicator.
 */
#ifndef NCCL_RECORD_H
#define NCCL_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "abi.h"

/* The operations from BROADCAST on have a peer: a root, a receiver or a sender. */
typedef enum {
    ALL_REDUCE,
    REDUCE_SCATTER,
    ALL_GATHER,
    ALL_TO_ALL,
    BROADCAST,
    REDUCE,
    GATHER,
    SCATTER,
    SEND,
    RECV,
    PUT, /* into a window of the peer, which asks for nothing */
    N_OPS
} record_op;

enum { N_TYPES = 16, ID_NBYTES = 17, NAME_NBYTES = 64 }; /* NCCL has 12 types */

typedef struct {
    _Atomic uint64_t calls, nbytes;
    _Atomic uint64_t captured; /* of the calls: those that a CUDA graph was made of */
} record_cell;

/* One rank of a communicator; kept after its end. */
typedef struct record_comm {
    struct record_comm *next;   /* the one that was made before */
    _Atomic(ncclComm_t) handle; /* NULL: not yet, or no longer */
    char id[ID_NBYTES],
        parent[ID_NBYTES]; /* the same on all its ranks; parent: "" if it has none */
    char name[NAME_NBYTES];
    _Atomic int n, rank, device; /* n 0: to be asked of NCCL; device -1: not known */
    _Atomic bool settled;        /* NCCL was asked */
    _Atomic int n_children;
    _Atomic(record_cell *) cells[N_OPS]; /* [peers or 1, N_TYPES]; NULL: never called */
} record_comm;

typedef struct {
    _Atomic uint64_t n, calls, largest; /* outermost groups; calls in all, and in the largest */
} record_groups;

/* kept.c */
extern _Atomic(record_comm *) record_comms; /* the newest */
extern record_groups record_all_groups;
extern _Atomic uint64_t record_failed, record_lost; /* calls: refused by NCCL; not counted */
const char *record_op_name(int op);
const char *record_type_name(int type);
uint64_t record_type_nbytes(int type);
bool record_wanted(void); /* this process records */
/* "name": "value", with a comma behind it */
void record_put_text(FILE *out, const char *name, const char *value);

/* record.c */
/* A communicator that is being made; NULL if there is no memory. */
record_comm *record_begin(const char *id, int n, int rank, const ncclConfig_t *config);
void record_made(record_comm *comm, ncclComm_t handle);
void record_closed(ncclComm_t handle);
/* For a call that is about to be made: NULL if there is no memory. */
record_comm *record_open(ncclComm_t handle);
/* NULL: not known. */
record_comm *record_find(ncclComm_t handle);
/* An identity out of bytes that all ranks of a communicator know. */
void record_id(const char *kind, const void *data, size_t nbytes, char out[ID_NBYTES]);
/* A call that NCCL took, on what record_open gave. */
void record_call(record_comm *comm, record_op op, int peer, size_t n, int type,
                 cudaStream_t stream);

/* real.c */
/* A function of NCCL, for the code at `caller` (NULL: anybody's); NULL: there is none. */
void *record_real(const char *name, const void *caller);
/* The same, kept in `place` once it is known; NULL, and said: there is none. */
void *record_real_kept(_Atomic(void *) *place, const char *name, const void *caller);
/* A function of CUDA's driver, where the process has one. */
void *record_driver(const char *name);

/* write.c: the file, again; `ended`: the process is about to end. */
void record_write(bool ended);
/* Have it written every few seconds from now on. */
void record_keep_writing(void);

#endif
