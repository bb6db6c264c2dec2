/* The cores that this process may use. */
#ifndef PAR__CORES_H
#define PAR__CORES_H

#include <stdint.h>

/* Cores of the affinity mask of the calling thread, bounded by the CPU quota of the process's
 * cgroup and of those around it; at least 1. */
int par__cores(void);

/* The smallest CPU quota, in whole cores (at least 1), of the cgroups that `list`, a file like
 * /proc/self/cgroup, names below `mount`, and of those around them; 0: none. */
int par__cgroup_cores(const char *list, const char *mount);
#define PAR__CGROUPS "/proc/self/cgroup", "/sys/fs/cgroup"

/* 1 for each core of the calling thread's affinity mask, else 0; cores from PAR__MAX_CORES on are
 * left out. */
enum { PAR__MAX_CORES = 1024 };
void par__core_list(int32_t cores[PAR__MAX_CORES]);

#endif
