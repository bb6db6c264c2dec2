/*
 * The files of libpar_nccl_record.so, joined: which rank each communicator's members are, and what
 * the job's traffic is between ranks. docs/diagnostics.md describes the files.
 */
#ifndef NCCL_FILES_H
#define NCCL_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "par/par.h"

/* What a member asked for with one operation, type and peer; bytes as the call names them. */
typedef struct {
    char op[16], type[16];
    int peer; /* a rank of the communicator; -1: none */
    int64_t calls, captured, nbytes;
    /* of what NCCL's profiler saw */
    char algorithm[16], protocol[16];
    int channels;
    int64_t timed; /* of the calls, those that `seconds` are about */
    double seconds;
} nccl_traffic;

/* What went through the network for one operation (traffic[row]), with one peer. */
typedef struct {
    int row, peer;
    int64_t sent, received, messages;
    double seconds; /* of the sends */
} nccl_network;

/* One rank of one communicator, as its process saw it. */
typedef struct {
    char id[17], name[64];
    int size, rank, device, file;
    bool profiled; /* NCCL's profiler saw it; else its calls were counted */
    int world;     /* rank of the job */
    int n, n_network;
    nccl_traffic *traffic; /* [n] */
    nccl_network *network; /* [n_network] */
} nccl_member;

typedef struct {
    char path[512], host[64];
    int number; /* among the files as they were read */
    int rank;   /* given by whoever started the job; -1: unknown */
    int64_t pid, version, failed, lost, n_groups, group_calls, largest_group;
    int64_t profile_lost, relayed; /* of the profiler: see docs/diagnostics.md */
    bool ended;
    bool profiled; /* NCCL's profiler saw its operations: these count, not its calls */
} nccl_file;

typedef struct {
    int n_files, n_members, n_ranks;
    nccl_file *files;     /* by rank, host and process */
    nccl_member *members; /* by communicator and rank in it */
    int *host_of;         /* [n_ranks], a file of that rank; -1: it wrote none */
    const char *numbered; /* how ranks got their numbers */
} nccl_job;

/* All rank-*.json of a folder. PAR_ERR_IO, PAR_ERR_FORMAT, PAR_ERR_MEMORY. */
par_status nccl_files_read(const char *directory, nccl_job *out);
void nccl_files_free(nccl_job *job);

/* The end of the communicator that members[begin] is of. */
int nccl_files_end(const nccl_job *job, int begin);
/* What its communicator is called in tables: the first word of its name, else its size. */
void nccl_files_axis(const nccl_job *job, const nccl_member *m, char out[16]);

#endif
