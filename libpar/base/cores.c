/*
 * Cores and memory: see cores.h. A quota of cores is cpu.max ("QUOTA PERIOD" or "max PERIOD") in
 * cgroups of version 2, and cpu.cfs_quota_us (-1: none) with cpu.cfs_period_us in those of
 * version 1. A limit of memory is memory.max ("max": none), and memory.limit_in_bytes (2^63 or so:
 * none). A container may see its own group as the root of the mount, whatever path the list names:
 * so folders that are not there are passed over.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cores.h"

#include <fcntl.h>
#include <float.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par/machine.h"

enum { PATH_NBYTES = 4096 };

static bool read_line(const char *folder, const char *name, char *line, size_t size) {
    char path[PATH_NBYTES + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, line, size - 1);
    close(fd);
    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    return n > 0;
}

/* Whole cores of the quota of the group in `folder`; 0: none. */
static int quota(const char *folder) {
    char text[64], period_text[64];
    double limit = 0, period = 0;
    if (read_line(folder, "cpu.max", text, sizeof text)) {
        if (sscanf(text, "%lf %lf", &limit, &period) != 2) return 0;
    } else if (read_line(folder, "cpu.cfs_quota_us", text, sizeof text) &&
               read_line(folder, "cpu.cfs_period_us", period_text, sizeof period_text)) {
        limit = strtod(text, NULL);
        period = strtod(period_text, NULL);
    }
    if (limit <= 0 || period <= 0) return 0;
    return limit < period ? 1 : limit / period < 1e6 ? (int)(limit / period) : 0;
}

/* Bytes of a file that holds one number; 0: none, or "max". */
static double bytes_of(const char *folder, const char *name) {
    char text[64];
    return read_line(folder, name, text, sizeof text) ? strtod(text, NULL) : 0;
}

/* Of memory.stat: files in memory that were not used lately; of version 1 with groups below. */
static double droppable(const char *folder) {
    char path[PATH_NBYTES + 32], line[256];
    double own = 0, total = 0;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "inactive_file %lf", &own);
        sscanf(line, "total_inactive_file %lf", &total);
    }
    if (file) fclose(file);
    return total > 0 ? total : own;
}

/* What the limits of groups come to; no limit is the largest double. */
typedef struct {
    int cores; /* 0: no limit */
    double memory, left;
} limits;

/* By the group in `folder`. */
typedef void narrow(limits *l, const char *folder);

static void narrow_cores(limits *l, const char *folder) {
    int cores = quota(folder);
    if (cores > 0 && (l->cores == 0 || cores < l->cores)) l->cores = cores;
}

static void narrow_memory(limits *l, const char *folder) {
    const char *used = "memory.current";
    double limit = bytes_of(folder, "memory.max");
    if (limit <= 0) {
        limit = bytes_of(folder, "memory.limit_in_bytes");
        used = "memory.usage_in_bytes";
    }
    if (limit <= 0 || limit > 1e18) return;
    double left = limit - bytes_of(folder, used) + droppable(folder);
    if (left < 0) left = 0;
    if (left > limit) left = limit;
    if (limit < l->memory) l->memory = limit;
    if (left < l->left) l->left = left;
}

/* By `folder` and the folders around it, up to the first `root` characters of the path. */
static void narrow_all(limits *l, narrow *by, char *folder, size_t root) {
    if (access(folder, F_OK) == 0) by(l, folder);
    while (strlen(folder) > root) {
        *strrchr(folder, '/') = 0;
        if (access(folder, F_OK) == 0) by(l, folder);
    }
}

/* What `by` finds for the controller. A line of the list is "NUMBER:CONTROLLERS:/PATH"; no
 * controllers: version 2. */
static limits limits_of(const char *list, const char *mount, const char *controller, narrow *by) {
    char line[PATH_NBYTES], folder[2 * PATH_NBYTES], names[256], name[32];
    limits l = {.memory = DBL_MAX, .left = DBL_MAX};
    snprintf(name, sizeof name, ",%s,", controller);
    FILE *file = fopen(list, "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path || path[1] != '/') continue;
        *path++ = 0;
        const char *below = strcmp(path, "/") ? path : "";
        if (!controllers[0]) {
            snprintf(folder, sizeof folder, "%s%s", mount, below);
            narrow_all(&l, by, folder, strlen(mount));
        }
        snprintf(names, sizeof names, ",%s,", controllers);
        if (!strstr(names, name)) continue;
        snprintf(folder, sizeof folder, "%s/%s%s", mount, controller, below);
        narrow_all(&l, by, folder, strlen(mount) + 1 + strlen(controller));
    }
    if (file) fclose(file);
    return l;
}

int par__cgroup_cores(const char *list, const char *mount) {
    return limits_of(list, mount, "cpu", narrow_cores).cores;
}

size_t par__cgroup_memory(const char *list, const char *mount, size_t *limit) {
    limits l = limits_of(list, mount, "memory", narrow_memory);
    *limit = l.memory < DBL_MAX ? (size_t)l.memory : 0;
    return l.left < DBL_MAX ? (size_t)l.left : 0;
}

void par__core_list(int32_t cores[PAR__MAX_CORES]) {
    cpu_set_t mask;
    bool known = sched_getaffinity(0, sizeof mask, &mask) == 0;
    for (int i = 0; i < PAR__MAX_CORES; i++)
        cores[i] = known && i < CPU_SETSIZE && CPU_ISSET(i, &mask);
}

int par__cores(void) {
    cpu_set_t mask;
    int cores = 1, most = par__cgroup_cores(PAR__CGROUPS);
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
        cores = CPU_COUNT(&mask);
    } else { /* more CPUs than a cpu_set_t has */
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cores = online > 0 ? (int)online : 1;
    }
    return most > 0 && most < cores ? most : cores;
}

void par_machine_look(par_machine *out) {
    *out = (par_machine){.cores = par__cores(), .quota = par__cgroup_cores(PAR__CGROUPS)};
    size_t left = par__cgroup_memory(PAR__CGROUPS, &out->limit);
    unsigned long long kib = 0;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && kib == 0 && fgets(line, sizeof line, file))
        sscanf(line, "MemAvailable: %llu kB", &kib);
    if (file) fclose(file);
    long pages = sysconf(_SC_AVPHYS_PAGES);
    if (kib)
        out->memory = (size_t)kib * 1024;
    else if (pages > 0) /* the system does not say what new data may use: what nothing uses */
        out->memory = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
    if (out->limit && (left < out->memory || out->memory == 0)) out->memory = left;
}
