/* What `par run` reads of hosts, mutated: see ../mutate.h and fuzz.c. */
#include "../../launcher/par/run_map.c" /* its functions are static */

#include "../harness.h"
#include "../mutate.h"
#include "fuzz.h"

static void check_hosts(const host_list *hosts, int64_t ranks) {
    CHECK(hosts->n >= 0 && hosts->n <= NAMED, "%d hosts", hosts->n);
    CHECK(hosts->n == 0 || (int64_t)hosts->n * hosts->per_host >= ranks, "%d hosts of %d", hosts->n,
          hosts->per_host);
    for (int i = 0; i < hosts->n; i++)
        CHECK(memchr(hosts->names[i], 0, RUN_NAME), "a name without an end");
}

/* Accepted: what lies where is known. */
static int target_hostfile(const uint8_t *data, size_t n) {
    const run_settings s = {.ranks = 8, .hostfile = mutate_file("hosts", data, n)};
    static host_list hosts;
    hosts = find_hosts(&s, false);
    check_hosts(&hosts, s.ranks);
    return hosts.n > 0 ? 0 : -1;
}

static int target_hosts(const uint8_t *data, size_t n) {
    static char text[MUTATE_CAPACITY + 1];
    const run_settings s = {.ranks = 8, .hosts = text};
    static host_list hosts;
    memcpy(text, data, n);
    text[n] = 0;
    hosts = find_hosts(&s, false);
    check_hosts(&hosts, s.ranks);
    return hosts.n > 0 ? 0 : -1;
}

void fuzz_hosts(void) {
    static const char file[] = "# the job's\nnode1 slots=4\n  node2:4\n\nlocalhost\tslots=4\n";
    static const char words[] = "node1:4,node2:4,localhost:4";
    mutate_run("hostfile", target_hostfile, file, sizeof file - 1, 2000);
    mutate_run("hosts", target_hosts, words, sizeof words - 1, 2000);
    mutate_end();
}
