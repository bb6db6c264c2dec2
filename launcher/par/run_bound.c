/*
 * What stands in front of a rank's program where the launcher cannot say the map: this program
 * again, which binds itself to hardware threads of the rank's memory node and becomes the program.
 * What comes of it is what a launcher's own binding gives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par_tool.h"
#include "run.h"

/* "0-2,8" of the kernel, up to another character than those. */
static void read_threads(const char *list, cpu_set_t *out) {
    CPU_ZERO(out);
    for (char *end; *list >= '0' && *list <= '9'; list = end + (*end == ',')) {
        long first = strtol(list, &end, 10), last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        for (; first <= last && first < CPU_SETSIZE; first++) CPU_SET((size_t)first, out);
    }
}

/* LIST PROGRAM [WORDS...]; LIST: threads of the ranks of a host, ":" between ranks. */
int par_run_bound(int argc, char **argv) {
    const char *own = getenv("OMPI_COMM_WORLD_LOCAL_RANK"), *list = argv[0];
    cpu_set_t threads;
    if (argc < 2) return PAR_TOOL_INPUT;
    for (int left = own ? atoi(own) : 0; list && left > 0; left--) {
        list = strchr(list, ':');
        if (list) list++;
    }
    if (own && list) read_threads(list, &threads);
    if (!own || !list || sched_setaffinity(0, sizeof threads, &threads) != 0)
        fprintf(stderr, "par run-bound: rank %s of this host is not bound to %s: %s\n",
                own ? own : "?", list ? list : argv[0],
                own && list ? strerror(errno) : "it is not among the ranks of the list");
    execvp(argv[1], argv + 1);
    fprintf(stderr, "%s: cannot be started: %s\n", argv[1], strerror(errno));
    return 127;
}
