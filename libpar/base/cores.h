/* The cores and the memory that this process may use. */
#ifndef PAR__CORES_H
#define PAR__CORES_H

#include <stddef.h>
#include <stdint.h>

/* Cores of the affinity mask of the calling thread, bounded by the CPU quota of the process's
 * cgroup and of those around it; at least 1. */
int par__cores(void);

/* The smallest CPU quota, in whole cores (at least 1), of the cgroups that `list`, a file like
 * /proc/self/cgroup, names below `mount`, and of those around them; 0: none. */
int par__cgroup_cores(const char *list, const char *mount);
#define PAR__CGROUPS "/proc/self/cgroup", "/sys/fs/cgroup"

/* The least that the memory limits of these cgroups leave: of a limit, what is used, without files
 * that the kernel can drop. *limit: the smallest of the limits itself. Bytes; both 0: no limit. */
size_t par__cgroup_memory(const char *list, const char *mount, size_t *limit);

/* 1 for each core of the calling thread's affinity mask, else 0; cores from PAR__MAX_CORES on are
 * left out. */
enum { PAR__MAX_CORES = 1024 };
void par__core_list(int32_t cores[PAR__MAX_CORES]);

#endif
