/*
 * Cores: see cores.h. A quota is cpu.max ("QUOTA PERIOD" or "max PERIOD") in cgroups of version 2,
 * and cpu.cfs_quota_us (-1: none) with cpu.cfs_period_us in those of version 1. A container may see
 * its own group as the root of the mount, whatever path the list names: so folders that are not
 * there are passed over.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_NBYTES = 4096 };

static bool read_line(const char *folder, const char *name, char *line, int size) {
    char path[PATH_NBYTES + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(line, size, file) != NULL;
    fclose(file);
    return read;
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

static int smaller(int a, int b) {
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* Of `folder` and the folders around it, up to the first `root` characters of the path. */
static int least_quota(char *folder, size_t root) {
    int least = quota(folder);
    while (strlen(folder) > root) {
        *strrchr(folder, '/') = 0;
        least = smaller(least, quota(folder));
    }
    return least;
}

/* A controllers' list has "cpu" among its names, between commas. */
static bool has_cpu(const char *controllers) {
    char list[256];
    snprintf(list, sizeof list, ",%s,", controllers);
    return strstr(list, ",cpu,") != NULL;
}

int par__cgroup_cores(const char *list, const char *mount) {
    char line[PATH_NBYTES], folder[2 * PATH_NBYTES];
    int least = 0;
    FILE *file = fopen(list, "r");
    if (!file) return 0;
    /* a line: "NUMBER:CONTROLLERS:/PATH"; no controllers: version 2 */
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'),
             *path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path || path[1] != '/') continue;
        *path++ = 0;
        if (controllers[0] && !has_cpu(controllers)) continue;
        const char *of = controllers[0] ? "/cpu" : "";
        snprintf(folder, sizeof folder, "%s%s%s", mount, of, strcmp(path, "/") ? path : "");
        least = smaller(least, least_quota(folder, strlen(mount) + strlen(of)));
    }
    fclose(file);
    return least;
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
