/*
 * Where the ranks of a job lie on its hosts, and what the launcher is told for that. Ranks of a tp
 * group are behind each other, and so on one memory node, or beside GPUs that are near each other;
 * hosts are filled one after the other, so that the outer axes, dp and pp, go between them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum { NAMED = 512 };

/* The hosts of a job: n with per_host ranks each; n 0: that is not known. */
typedef struct {
    int n, per_host;
    bool here; /* this host is one of them, and so the others may be thought to be like it */
    char names[NAMED][RUN_NAME];
} host_list;

/* "node1:8" or "node1 slots=8": one host more. Hosts with other numbers of ranks, and those that
 * are there twice, are not known. Without a number it is `bare`: 0 where that is not known. */
static void add_host(host_list *hosts, const char *text, int bare, bool *equal) {
    char own[RUN_NAME] = "";
    gethostname(own, sizeof own - 1);
    int n = (int)strcspn(text, ": \t\n"), slots = bare, plain = (int)strcspn(own, ".");
    const char *number = strstr(text, " slots="), *tabbed = strstr(text, "\tslots=");
    if (!number) number = tabbed;
    if (number) slots = atoi(number + 7);
    if (!number && text[n] == ':') slots = atoi(text + n + 1);
    *equal &= slots > 0 && (hosts->n == 0 || slots == hosts->per_host);
    for (int i = 0; *equal && i < hosts->n && i < NAMED; i++)
        *equal &= strncmp(hosts->names[i], text, (size_t)n) != 0 || hosts->names[i][n];
    if (hosts->n < NAMED) snprintf(hosts->names[hosts->n], RUN_NAME, "%.*s", n, text);
    *equal &= hosts->n < NAMED;
    hosts->per_host = slots;
    hosts->here |= (n == 9 && strncmp(text, "localhost", 9) == 0) ||
                   (n >= plain && strncmp(text, own, (size_t)plain) == 0 &&
                    (n == plain || text[plain] == '.'));
    hosts->n++;
}

static host_list find_hosts(const run_settings *s, bool slurm) {
    host_list hosts = {0};
    bool equal = true;
    char line[256];
    if (s->hosts) {
        const char *text = s->hosts;
        for (int n; *text; text += n + (text[n] == ',')) {
            n = (int)strcspn(text, ",");
            snprintf(line, sizeof line, "%.*s", n, text);
            add_host(&hosts, line, 1, &equal);
        }
    } else if (s->hostfile) {
        FILE *file = fopen(s->hostfile, "r");
        while (file && fgets(line, sizeof line, file)) {
            const char *text = line + strspn(line, " \t");
            if (*text != '\n' && *text != '#') add_host(&hosts, text, 0, &equal);
        }
        if (file) fclose(file);
    } else if (slurm) { /* SLURM_TASKS_PER_NODE is "8" or "8(x2)", where hosts have equal numbers */
        const char *nodes = getenv("SLURM_JOB_NUM_NODES"), *tasks = getenv("SLURM_TASKS_PER_NODE");
        hosts.n = nodes ? atoi(nodes) : 0;
        hosts.per_host = tasks ? atoi(tasks) : 0;
        hosts.here = getenv("SLURMD_NODENAME") != NULL;
        equal = tasks && !strchr(tasks, ',');
    } else {
        hosts = (host_list){.n = 1, .per_host = (int)s->ranks, .here = true};
    }
    if (!equal || (int64_t)hosts.n * hosts.per_host < s->ranks) hosts.n = 0;
    return hosts;
}

bool run_map_is_here(const run_settings *s) {
    static host_list hosts;
    hosts = find_hosts(s, s->launcher == RUN_SLURM || getenv("SLURM_JOB_ID"));
    return hosts.here;
}

/* Hardware threads that this process may run on. */
static int own_threads(void) {
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
}

static int count_parts(const par_topology *t, par_component_kind kind) {
    int n = 0;
    for (int i = 0; i < t->n && (i == 0 || t->components[i].parent >= 0); i++)
        n += t->components[i].kind == kind;
    return n;
}

/* Cores of this host that the job has; *all: no others are there. */
static int count_cores(const par_topology *t, bool *all) {
    int own = own_threads(), threads = 0;
    *all = true;
    if (!t) return own;
    int cores = count_parts(t, PAR_COMPONENT_CORE);
    for (int i = 0; i < t->n; i++)
        if (t->components[i].kind == PAR_COMPONENT_CORE) threads += t->components[i].threads;
    /* these show another machine, of which this process has no part */
    if (getenv("HWLOC_XMLFILE") || getenv("HWLOC_SYNTHETIC")) return cores;
    *all = own >= threads;
    return own < cores ? own : cores;
}

/* Ranks of each memory node, if every host's ranks fill its nodes in their order, so that the
 * launcher's "so many per memory node" makes that map; else 0. */
static int even_share(const run_map *m, int nodes) {
    const par_topology *t = m->machine;
    int share = 1;
    while (share < t->n_ranks && share < m->per_host && t->ranks[share].numa == t->ranks[0].numa)
        share++;
    for (int r = 0; r < t->n_ranks; r++)
        if (t->components[t->ranks[r].numa].index != r % m->per_host / share) return 0;
    /* where a host's nodes have room, the launcher would put the next host's ranks there */
    return m->hosts > 1 && share * nodes != m->per_host ? 0 : share;
}

/* The GPUs that ranks see: all, or those that CUDA_VISIBLE_DEVICES lists up to a number that is of
 * none; each of a host's ranks has --gpu's, if that is given. False: it does not list numbers. */
static bool find_gpus(const run_settings *s, run_map *m) {
    static const char name[] = "CUDA_VISIBLE_DEVICES";
    int there = count_parts(m->machine, PAR_COMPONENT_GPU), own = run_program_gpu(s);
    const char *list = getenv(name);
    for (int i = 0; i < s->environment.n; i++)
        if (strncmp(s->environment.words[i], name, sizeof name - 1) == 0 &&
            s->environment.words[i][sizeof name - 1] == '=')
            list = s->environment.words[i] + sizeof name;
    for (int k = 0; !list && k < there && k < RUN_GPUS; k++) m->gpu[m->n_gpus++] = k;
    while (there && list && *list && m->n_gpus < RUN_GPUS) {
        char *end;
        long k = strtol(list, &end, 10);
        if (end == list || (*end && *end != ',')) return false;
        if (k < 0 || k >= there) break;
        m->gpu[m->n_gpus++] = (int)k;
        list = end + (*end == ',');
    }
    for (int k = 0, one = own >= 0 && own < m->n_gpus ? m->gpu[own] : -1; k < m->n_gpus; k++)
        if (one >= 0) m->gpu[k] = one;
    return true;
}

/* Why ranks are not bound; NULL: they may be. */
static const char *why_not(const run_map *m, const host_list *hosts, int nodes, bool all) {
    if (!hosts->n) return "the hosts' numbers of ranks are not known, or not equal";
    if (!hosts->here) return "what those hosts have is not known on this one";
    if (hosts->per_host > m->cores && !m->gpus) return "they share cores";
    if (nodes < 2) return "there is one memory node";
    return all ? NULL : "this process may use only some of the cores";
}

static void place(const run_settings *s, run_map *m, const host_list *hosts) {
    bool all, host_only = run_is_train_llm(s) && !run_program_has(s, "--device", "cuda");
    int nodes = count_parts(m->machine, PAR_COMPONENT_NUMA);
    m->cores = count_cores(m->machine, &all);
    m->hosts = hosts->n;
    m->per_host = hosts->per_host;
    bool known = host_only || find_gpus(s, m);
    m->gpus = !host_only && hosts->per_host <= m->n_gpus;
    m->why = known ? why_not(m, hosts, nodes, all)
                   : "CUDA_VISIBLE_DEVICES does not list numbers of GPUs";
    if (!known || !hosts->n || !hosts->here || (hosts->per_host > m->cores && !m->gpus)) return;
    bool tp_first = m->layout.order[0] == PAR_TP;
    int tp = m->layout.size[PAR_TP];
    const par_topology_assume_params params = {.ranks = (int)s->ranks,
                                               .per_host = hosts->per_host,
                                               .together = tp_first && tp > 0 ? tp : 1,
                                               .on_cores = !m->gpus,
                                               .gpus = m->gpus ? m->gpu : NULL};
    m->placed = par_topology_assume(m->machine, &params) == PAR_OK;
    m->bound = m->placed && !m->why;
    if (!m->bound) return;
    for (int r = 0; r < m->machine->n_ranks; r++) m->bound &= m->machine->ranks[r].numa >= 0;
    if (!m->bound) m->why = "ranks do not fit into the memory nodes";
    if (m->bound) m->share = even_share(m, nodes);
}

void run_map_find(const run_settings *s, bool slurm, run_map *out) {
    static host_list hosts;
    hosts = find_hosts(s, slurm);
    *out = (run_map){0};
    run_program_layout(s, &out->layout);
    if (par_topology_read(&out->machine) != PAR_OK) {
        out->cores = own_threads();
        out->why = "this build has no hwloc, or it cannot read the machine";
        return;
    }
    place(s, out, &hosts);
}

void run_map_free(run_map *m) {
    par_topology_destroy(&m->machine);
}

/* Bytes that a memory node's threads take: each has at most 6 digits and a sign. */
enum { NODE_NBYTES = 7 * CPU_SETSIZE * 8 };

/* Hydra's own maps go round the memory nodes with each rank, so it gets every rank's threads. */
static void hydra_words(const run_map *m, run_words *words) {
    int n = m->machine->n_ranks < m->per_host ? m->machine->n_ranks : m->per_host;
    size_t nbytes = 16 + (size_t)n * NODE_NBYTES;
    char *text = calloc(1, nbytes);
    if (!text) {
        run_word(words, "none");
        return;
    }
    snprintf(text, nbytes, "user:");
    for (int r = 0; r < n; r++) { /* "0-2,8" of the kernel as 0+1+2+8 */
        const char *list = m->machine->components[m->machine->ranks[r].numa].cpus;
        const char *before = r > 0 ? "," : "";
        for (char *end; *list; list = end + (*end == ',')) {
            long first = strtol(list, &end, 10), last = first;
            if (*end == '-') last = strtol(end + 1, &end, 10);
            for (long cpu = first; cpu <= last; cpu++, before = "+") {
                size_t used = strlen(text);
                snprintf(text + used, nbytes - used, "%s%ld", before, cpu);
            }
        }
    }
    run_word(words, "%s", text);
    free(text);
}

/* Open MPI has no words for a map like this one, so a rank is bound before its program starts. */
static void binder_words(const run_map *m, run_words *binder) {
    int n = m->machine->n_ranks < m->per_host ? m->machine->n_ranks : m->per_host;
    char self[RUN_PATH], *text = calloc((size_t)n, sizeof m->machine->components->cpus + 1);
    for (int r = 0, used = 0; text && r < n; r++)
        used += sprintf(text + used, "%s%s", r > 0 ? ":" : "",
                        m->machine->components[m->machine->ranks[r].numa].cpus);
    run_self(self);
    run_word(binder, "%s", self);
    run_word(binder, "run-bound");
    run_word(binder, "%s", text ? text : "");
    free(text);
}

void run_map_words(run_map *m, int mpi, run_words *words, run_words *binder) {
    bool counts = m->bound && m->share > 0 && mpi == RUN_OPENMPI; /* a number per node says it */
    for (int r = 0; m->bound && !counts && r < m->machine->n_ranks; r++)
        if (!*m->machine->components[m->machine->ranks[r].numa].cpus) {
            m->bound = false;
            m->why = "the hardware threads of a memory node are not known";
        }
    if (mpi == RUN_OPENMPI) {
        if (counts) {
            run_word(words, "--map-by");
            run_word(words, "ppr:%d:numa", m->share);
        }
        run_word(words, "--bind-to");
        run_word(words, counts ? "numa" : "none");
        if (m->bound && !counts) binder_words(m, binder);
    } else {
        run_word(words, "-bind-to");
        if (m->bound)
            hydra_words(m, words);
        else
            run_word(words, "none");
    }
}

static void print_ranks(const run_map *m, int first, int last, FILE *file) {
    const par_topology *t = m->machine;
    const par_topology_rank *r = &t->ranks[first];
    fprintf(file, first == last ? "  rank %d" : "  ranks %d to %d", first, last);
    if (m->hosts > 1)
        fprintf(file, ": host %d", t->components[r->host].index + 1);
    else
        fprintf(file, ": this host");
    if (r->numa >= 0) fprintf(file, ", NUMA node %d", t->components[r->numa].index);
    if (!m->gpus) {
        fprintf(file, "\n");
        return;
    }
    const int *gpu = m->gpu + first % m->per_host;
    fprintf(file, first == last ? ", GPU %d" : ", GPUs %d to %d", *gpu, gpu[last - first]);
    for (int i = 0; i < t->n; i++)
        if (t->components[i].kind == PAR_COMPONENT_GPU && t->components[i].nvlinks) {
            fprintf(file, ", each with %d NVLinks", t->components[i].nvlinks);
            break;
        }
    fprintf(file, "\n");
}

/* Lines on axes alone: the table above them is par topology's. */
static void print_advice(void *user, const char *line) {
    FILE *file = user;
    if (line[2] == ':') fprintf(file, "  %s\n", line);
}

/* Whether the rank behind this one is at the same place, with the next GPU. */
static bool goes_on(const run_map *m, int rank) {
    const par_topology_rank *r = &m->machine->ranks[rank];
    int k = rank % m->per_host;
    return r[1].host == r->host && r[1].numa == r->numa &&
           (!m->gpus || m->gpu[k + 1] == m->gpu[k] + 1);
}

void run_map_print(const run_map *m, FILE *file) {
    enum { SHOWN = 16 };
    const par_topology *t = m->machine;
    int lines = 0;
    if (!m->placed || (!m->bound && m->hosts < 2)) return;
    for (int r = 0, last; r < t->n_ranks; r = last + 1) {
        for (last = r; last + 1 < t->n_ranks && goes_on(m, last);) last++;
        if (lines++ == SHOWN) {
            fprintf(file, "  and so on to rank %d\n", t->n_ranks - 1);
            break;
        }
        print_ranks(m, r, last, file);
    }
    if (m->layout.size[PAR_TP]) par_topology_advise(t, &m->layout, print_advice, file);
}
