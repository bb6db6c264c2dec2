/*
 * The machine of a job, see par/topology.h. topology.c has the components and ranks; they come
 * from hwloc (topology_hwloc.c) with NVLink from NVML (topology_nvml.c), and from other hosts
 * (topology_gather.c). They are written as text, JSON and SVG, and measured (measure.c).
 */
#ifndef PAR__OBSERVE_TOPOLOGY_H
#define PAR__OBSERVE_TOPOLOGY_H

#include <jansson.h>
#include <stdbool.h>

#include "par/topology.h"

/* Room for n components and n_ranks ranks, all zero. */
par_status par__topology_create(int n, int n_ranks, par_topology **out);
/* Adds a copy, under t->components[parent]; its index there in *out, which may be NULL.
 * Its `index` counts those of its kind on its host. */
par_status par__topology_add(par_topology *t, par_component component, int parent, int *out);
/* The host that a component is of or in. */
int par__topology_host(const par_topology *t, int component);
/* The first child of a component behind `after` (-1: the first one); -1: there is none. */
int par__topology_child(const par_topology *t, int parent, int after);
/* Parts of a kind at or below one. */
int par__topology_count(const par_topology *t, int component, par_component_kind kind);
/* Whether two components with all below are equal but for the numbers, and the names of hosts. */
bool par__topology_same(const par_topology *t, int a, int b);
/* The host behind `host` that is equal to no earlier one; -1: there is none. */
int par__topology_next_kind(const par_topology *t, int host);
/* "node1, node2 to node7 (7 hosts)": a host and those that are equal to it. */
void par__topology_hosts(const par_topology *t, int host, char *text, size_t nbytes);
/* A component in words: "NUMA node 1: 64 GiB"; `many` of them: without a number. */
void par__component_text(const par_component *component, bool many, char text[160]);
/* "0 to 3, 8": the ranks on a host or a memory node; "": there are none. */
void par__topology_ranks(const par_topology *t, int component, char text[160]);
/* What NVML knows of the GPUs: memory, model, NVLinks. Nothing changes where there is no NVML. */
void par__topology_nvml(par_topology *t);
/* Write a JSON value, which is taken, and refuse NULL: there was no memory for it. */
par_status par__json_write(json_t *value, const char *path);
/* The rank's place for files: {"host": "node1", "numa": 0}. */
json_t *par__json_rank(const par_topology *t, int rank);

#endif
