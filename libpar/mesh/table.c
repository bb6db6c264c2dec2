/* The table of ranks: where each rank runs and what it may use, gathered on the world
 * communicator. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par/mesh.h"

typedef struct {
    char host[64];
    char cores[56]; /* "0-3,8" */
    int64_t pid;
} process;

/* The cores this process may run on, as ranges; cut with "..." where they do not fit. */
static void list_cores(char *text, size_t nbytes) {
    cpu_set_t set;
    size_t used = 0;
    CPU_ZERO(&set);
    snprintf(text, nbytes, "unknown");
    if (sched_getaffinity(0, sizeof set, &set) != 0) return;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        int last = i;
        if (!CPU_ISSET(i, &set)) continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) last++;
        if (used + 24 > nbytes) {
            snprintf(text + used, nbytes - used, ",...");
            return;
        }
        used += (size_t)snprintf(text + used, nbytes - used, last > i ? "%s%d-%d" : "%s%d",
                                 used ? "," : "", i, last);
        i = last;
    }
}

par_status par_mesh_print(const par_mesh *mesh, void (*print)(void *user, const char *line),
                          void *user) {
    PAR_REQUIRE(mesh && print);
    const par_tag tag = {"mesh", -1, -1, -1};
    process mine = {.pid = getpid()};
    process *all = malloc((size_t)mesh->size * sizeof *all);
    par_status st = par_comm_agree(
        mesh->world,
        all ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for the table of ranks"));
    if (gethostname(mine.host, sizeof mine.host - 1) != 0)
        snprintf(mine.host, sizeof mine.host, "unknown");
    list_cores(mine.cores, sizeof mine.cores);
    if (st == PAR_OK)
        st = par_comm_all_gather(mesh->world, &mine, all, sizeof mine, PAR_U8, tag, NULL, NULL);
    if (st == PAR_OK && mesh->rank == 0) {
        print(user, " rank   tp   cp   dp   pp  host                      pid  cores");
        for (int rank = 0; rank < mesh->size; rank++) {
            char line[256];
            int c[PAR_AXIS_COUNT];
            par_layout_coordinates(&mesh->layout, rank, c);
            snprintf(line, sizeof line, "%5d %4d %4d %4d %4d  %-20s %8lld  %s", rank, c[PAR_TP],
                     c[PAR_CP], c[PAR_DP], c[PAR_PP], all[rank].host, (long long)all[rank].pid,
                     all[rank].cores);
            print(user, line);
        }
    }
    free(all);
    return st;
}
