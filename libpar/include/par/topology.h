/*
 * The machine below a job: hosts, packages, memory nodes, caches, cores, GPUs and network adapters.
 * Where ranks are on it, which axes of a layout stay inside a host, and how fast its ranks exchange
 * data. What a host has is read through hwloc (HWLOC_XMLFILE and HWLOC_SYNTHETIC give another one),
 * NVLink through NVML where that is installed.
 */
#ifndef PAR_TOPOLOGY_H
#define PAR_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/mesh.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a component of a machine is. */
typedef enum {
    PAR_COMPONENT_HOST,
    PAR_COMPONENT_PACKAGE,
    PAR_COMPONENT_NUMA, /* a memory node */
    PAR_COMPONENT_CACHE,
    PAR_COMPONENT_CORE,
    PAR_COMPONENT_GPU,
    PAR_COMPONENT_NIC,
    PAR_COMPONENT_COUNT
} par_component_kind;

enum { PAR_COMPONENT_PEERS = 32 }; /* GPUs of a host that NVLinks are counted to */

/* A component of a machine. Numbers that are not known are 0. */
typedef struct {
    par_component_kind kind;
    int parent;          /* the component that it belongs to, which stands before it; -1: a host */
    int index;           /* from 0 among those of its kind on its host; a cache: of its level; GPUs
                            in the order of PCI addresses, which is CUDA's among equal ones */
    int level;           /* of a cache: 1, 2, 3 */
    int threads;         /* hardware threads of a core */
    int nvlinks;         /* of a GPU: NVLinks that are up */
    int to_switch;       /* of those, how many end at a switch */
    uint64_t nbytes;     /* memory of a NUMA node or a GPU, size of a cache */
    double pcie_bytes_s; /* of a GPU or NIC: bytes per second and direction over PCIe */
    double wire_bytes_s; /* of a NIC: bytes per second of its network */
    char name[64];       /* of the host, of the model of a package, GPU or NIC */
    char id[16];         /* of a GPU or NIC: its PCI address, "0000:1b:00.0" */
    char cpus[64]; /* of a NUMA node: its hardware threads by the kernel's numbers, "0-7,16-23" */
    uint8_t to_gpu[PAR_COMPONENT_PEERS]; /* NVLinks that end at the host's GPU of each index */
} par_component;

/* Where a rank is: indices of components. */
typedef struct {
    int host;
    int numa; /* -1: it is not bound to one memory node */
} par_topology_rank;

/* Hosts with their components, each behind the one that it belongs to, and ranks on them. */
typedef struct {
    int n, n_ranks;
    par_component *components; /* [n] */
    par_topology_rank *ranks;  /* [n_ranks] */
} par_topology;

/** "host", "package", "numa", "cache", "core", "gpu", "nic". Not collective. */
PAR_API const char *par_component_kind_name(par_component_kind kind);

/**
 * This host, with one rank on it: the calling process.
 * Not collective. Errors: PAR_ERR_UNSUPPORTED when libpar was built without hwloc; PAR_ERR_IO when
 * hwloc cannot read the machine, or the file or text that its environment variables name;
 * PAR_ERR_MEMORY when there is no host memory.
 */
PAR_API par_status par_topology_read(par_topology **out);

/**
 * The hosts of all ranks and where these are, from what par_topology_read gave on each of them.
 * Hosts stand in the order of their lowest ranks. Ranks with the same host name are on one host.
 * The result is whole on the lowest rank of each host; elsewhere it has ranks and no components.
 *
 * Collective: on the transport's ranks. `own` NULL: this rank could not read its host, and then all
 * return the error of the first such rank.
 * Errors: PAR_ERR_ARG [agreed] when a rank gave NULL; PAR_ERR_MEMORY [agreed] when a rank has no
 * host memory; PAR_ERR_TRANSPORT [comm] when MPI failed or a peer is gone.
 */
PAR_API par_status par_topology_gather(par_transport *, const par_topology *own,
                                       par_topology **out);

/* Ranks that are to be put on a machine. Zeros mean the defaults. */
typedef struct {
    int ranks;
    int per_host;  /* on one host; default: one per GPU, or per core where there is no GPU */
    int together;  /* ranks behind each other that share a memory node: those of a tp group, say */
    bool on_cores; /* GPUs are not used */
    const int *gpus; /* [per_host] indices of the GPUs of a host's ranks; NULL: 0, 1, 2, ... */
} par_topology_assume_params;

/**
 * Put ranks on hosts like the one that `t` has, as par run does. Hosts are filled one after the
 * other, and are added as they are needed. Where ranks use GPUs, each has the memory node of its
 * GPU. Else a host's ranks fill its memory nodes that have cores, in their order, with as equal
 * numbers of groups of `together` ranks as there can be. Where these do not fit into the cores of a
 * node, it is as equal numbers of ranks. Ranks that do not fit either are not bound.
 * Not collective. Errors: PAR_ERR_ARG [local] when `t` has not exactly one host, or ranks < 1;
 * PAR_ERR_MEMORY when there is no host memory.
 */
PAR_API par_status par_topology_assume(par_topology *t, const par_topology_assume_params *params);

/** Free it. NULL is accepted. Not collective. */
PAR_API void par_topology_destroy(par_topology **topology);

/**
 * The machine as a tree of lines, and where ranks are if there are several; equal ones beside each
 * other are one line with their number. Not collective. Errors: none but those of its arguments.
 */
PAR_API par_status par_topology_print(const par_topology *,
                                      void (*print)(void *user, const char *line), void *user);

/** Write it as JSON: {"hosts": [...], "ranks": [...]}, in the form that docs/topology.md describes,
 * durably and at once. Not collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY. */
PAR_API par_status par_topology_write_json(const par_topology *, const char *path);

/** Write it as a page of SVG without external resources; equal hosts are drawn once. Not
 * collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY. */
PAR_API par_status par_topology_write_svg(const par_topology *, const char *path);

/* How the groups of an axis lie on the machine. Groups of one rank are not counted. */
typedef struct {
    int groups;      /* that the axis has */
    int within_numa; /* all ranks bound to one memory node */
    int within_host; /* on one host, and not within_numa */
    int across;      /* on several hosts */
} par_axis_placement;

/**
 * How the groups of each axis of a layout lie on the machine; of t->n_ranks ranks.
 * Not collective. Errors: PAR_ERR_LAYOUT [agreed] when the layout is not one of that many ranks.
 */
PAR_API par_status par_topology_axes(const par_topology *t, const par_layout *layout,
                                     par_axis_placement out[PAR_AXIS_COUNT]);

/**
 * The same in words, a line at a time, with advice. It says which axis belongs inside a host or a
 * memory node, and what to change where it does not lie there.
 * Not collective. Errors: as par_topology_axes.
 */
PAR_API par_status par_topology_advise(const par_topology *t, const par_layout *layout,
                                       void (*print)(void *user, const char *line), void *user);

/* What two ranks reach between them, nobody else sending. */
typedef struct {
    int a, b;         /* world ranks, a < b */
    double latency_s; /* of a message of 8 bytes, one way */
    double bytes_s;   /* of messages of PAR_MEASURE_NBYTES, one way, with the latency */
} par_pair_speed;

/* What an all-reduce takes. n ranks; algbw = nbytes / seconds, busbw = algbw · 2 (n - 1) / n
 * (nccl-tests, doc/PERFORMANCE.md). */
typedef struct {
    char axis[8]; /* "world", "tp", "dp", "pp"; all groups of an axis at the same time */
    int n, groups;
    int64_t nbytes;
    double seconds; /* of the slowest rank, the fastest of the repetitions */
    double algbw_bytes_s, busbw_bytes_s;
} par_reduce_speed;

enum { PAR_MEASURE_NBYTES = 4 << 20, PAR_MEASURE_REDUCES = 32 };

/* What was measured; on rank 0 alone. */
typedef struct {
    int n_ranks, n_pairs, n_reduces;
    par_pair_speed *pairs; /* [n_pairs] */
    par_reduce_speed reduces[PAR_MEASURE_REDUCES];
} par_measurement;

/**
 * Measure the transport with data in host memory: each pair of ranks, one after the other, and
 * all-reduces of 1 KiB, 64 KiB and 4 MiB. Those go over all ranks, and over the groups of each axis
 * of `layout` (NULL: none). Above PAR_MEASURE_ALL ranks, of each rank only the pairs with r + 1, r
 * + 2, r + 4, ... Takes some 20 ms per pair between hosts with 1 GB/s.
 * Collective: on the transport's ranks. Errors: PAR_ERR_LAYOUT [agreed] when the layout is not
 * possible; PAR_ERR_MEMORY [agreed] when a rank has no host memory; PAR_ERR_TRANSPORT [comm] when
 * MPI failed or a peer is gone.
 */
PAR_API par_status par_topology_measure(par_transport *, const par_layout *layout,
                                        par_measurement **out);

enum { PAR_MEASURE_ALL = 64 };

/** Write what was measured, and where the ranks were, as JSON, in the form that docs/topology.md
 * describes. Not collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY. */
PAR_API par_status par_measurement_write(const par_measurement *, const par_topology *,
                                         const char *path);

/** Free it. NULL is accepted. Not collective. */
PAR_API void par_measurement_destroy(par_measurement **measurement);

#ifdef __cplusplus
}
#endif
#endif
