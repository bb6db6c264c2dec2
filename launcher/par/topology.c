/* par topology: the machine of this process or job, where a layout lies on it, how fast it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par_tool.h"
#include "world.h"

static const char usage[] =
    "usage: par topology [options]\n"
    "       mpirun -n RANKS par topology [options]\n"
    "Shows hosts, packages, memory nodes, caches, cores, GPUs and network adapters as a tree; "
    "under\n"
    "mpirun, srun or par run those of all hosts of the job, and where its ranks are.\n"
    "HWLOC_XMLFILE and HWLOC_SYNTHETIC in the environment show another machine.";

typedef struct {
    const char *parallel, *json, *svg, *measure;
    int64_t ranks;
    par_layout layout;
} settings;

enum { N_ROWS = 5 };

static void make_rows(settings *s, par_option rows[N_ROWS]) {
    const par_option list[N_ROWS] = {
        {.name = "parallel",
         .type = PAR_OPT_TEXT,
         .value = &s->parallel,
         .help = "a layout, tp=2,pp=4,dp=8 say: how its groups lie on the machine, and advice",
         .metavar = "AXIS=N,...",
         .also = "layout|mesh"},
        {.name = "ranks",
         .type = PAR_OPT_INT,
         .value = &s->ranks,
         .initial = "0",
         .legal = "0..1048576",
         .help = "without mpirun: place so many ranks on hosts like this one, as par run does; 0: "
                 "what --parallel multiplies to"},
        {.name = "json",
         .type = PAR_OPT_TEXT,
         .value = &s->json,
         .help = "write the machine and the places of ranks, for programs",
         .metavar = "FILE"},
        {.name = "svg",
         .type = PAR_OPT_TEXT,
         .value = &s->svg,
         .help = "draw the machine",
         .metavar = "FILE"},
        {.name = "measure",
         .type = PAR_OPT_TEXT,
         .value = &s->measure,
         .help = "under mpirun: measure latency and bandwidth between the ranks, and of "
                 "all-reduces, and write them",
         .metavar = "FILE"},
    };
    memcpy(rows, list, sizeof list);
}

static void print_line(void *user, const char *line) {
    (void)user;
    printf("%s\n", line);
}

/* What depends on the options alone, and so is the same on all ranks. */
static void check(settings *s, const par_world *w, par_problems *problems) {
    par_world_layout(s->parallel, &s->layout, problems);
    int64_t product = par_world_ranks(&s->layout);
    if (s->measure && w->size == 1)
        par_problem(problems, "--measure: there is one rank; legal: under mpirun -n N, N from 2");
    if (s->ranks && w->launched && s->ranks != w->size)
        par_problem(problems, "--ranks %lld: the launcher started %d; legal: that number, or none",
                    (long long)s->ranks, w->size);
    if (w->launched) s->ranks = w->size;
    if (!s->ranks && product <= 1048576) s->ranks = product;
    par_tool_output("--json", s->json, PAR_OUTPUT_TOPOLOGY, problems);
    par_tool_output("--svg", s->svg, PAR_OUTPUT_SVG, problems);
    par_tool_output("--measure", s->measure, PAR_OUTPUT_MEASUREMENT, problems);
    if (!s->parallel) return;
    if (product > 1048576)
        par_problem(problems, "--parallel: more than 1048576 ranks");
    else if (product != s->ranks)
        par_problem(problems, "--parallel: is of %lld ranks, and there are %lld",
                    (long long)product, (long long)s->ranks);
}

static par_status show(const settings *s, const par_topology *t) {
    PAR_TRY(par_topology_print(t, print_line, NULL));
    if (s->json) PAR_TRY(par_topology_write_json(t, s->json));
    if (s->svg) PAR_TRY(par_topology_write_svg(t, s->svg));
    return s->parallel ? par_topology_advise(t, &s->layout, print_line, NULL) : PAR_OK;
}

/* The slowest and fastest pairs, and the largest all-reduce of each axis. */
static void print_measured(const par_measurement *m) {
    const par_pair_speed *fast = &m->pairs[0], *slow = &m->pairs[0];
    for (int i = 0; i < m->n_pairs; i++) {
        if (m->pairs[i].bytes_s > fast->bytes_s) fast = &m->pairs[i];
        if (m->pairs[i].bytes_s < slow->bytes_s) slow = &m->pairs[i];
    }
    printf("pairs: fastest %d and %d, %.2f GB/s, %.1f us; slowest %d and %d, %.2f GB/s, %.1f us\n",
           fast->a, fast->b, fast->bytes_s * 1e-9, fast->latency_s * 1e6, slow->a, slow->b,
           slow->bytes_s * 1e-9, slow->latency_s * 1e6);
    for (int i = 0; i < m->n_reduces; i++)
        printf("all-reduce %-5s %4d ranks, %d group%s, %7lld bytes: %8.1f us, algbw %.3f GB/s, "
               "busbw %.3f GB/s\n",
               m->reduces[i].axis, m->reduces[i].n, m->reduces[i].groups,
               m->reduces[i].groups == 1 ? "" : "s", (long long)m->reduces[i].nbytes,
               m->reduces[i].seconds * 1e6, m->reduces[i].algbw_bytes_s * 1e-9,
               m->reduces[i].busbw_bytes_s * 1e-9);
}

static par_status measure(const settings *s, const par_world *w, const par_topology *t) {
    par_measurement *m = NULL;
    PAR_TRY(par_topology_measure(w->transport, s->parallel ? &s->layout : NULL, &m));
    if (w->rank != 0) return PAR_OK;
    par_status st = par_measurement_write(m, t, s->measure);
    if (st == PAR_OK) print_measured(m);
    par_measurement_destroy(&m);
    return st;
}

static par_status find(const settings *s, const par_world *w, par_topology **out) {
    par_topology *own = NULL;
    par_status st = par_topology_read(&own);
    if (w->size > 1) {
        st = par_topology_gather(w->transport, own, out);
        par_topology_destroy(&own);
        return st;
    }
    const par_topology_assume_params params = {.ranks = (int)s->ranks,
                                               .together = s->layout.size[PAR_TP]};
    if (st == PAR_OK && s->ranks > 1) st = par_topology_assume(own, &params);
    if (st == PAR_OK)
        *out = own;
    else
        par_topology_destroy(&own);
    return st;
}

static int run(settings *s, const par_world *w) {
    par_topology *t = NULL;
    par_status st = find(s, w, &t);
    if (st == PAR_OK && w->rank == 0) st = show(s, t);
    if (t && s->measure) {
        par_status measured = measure(s, w, t);
        if (st == PAR_OK) st = measured;
    }
    if (st != PAR_OK && w->rank == 0) fprintf(stderr, "par topology: %s\n", par_error());
    par_topology_destroy(&t);
    return st == PAR_OK ? EXIT_SUCCESS : st == PAR_ERR_IO ? PAR_TOOL_INPUT : EXIT_FAILURE;
}

int par_topology_command(int argc, char **argv) {
    settings s = {0};
    par_world w = {0};
    par_problems problems = {0};
    par_option rows[N_ROWS];
    make_rows(&s, rows);
    if (par_tool_read(rows, N_ROWS, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    if (par_world_begin(&w) != PAR_OK) {
        fprintf(stderr, "par topology: %s\n", par_error());
        return par_world_end(&w, EXIT_FAILURE);
    }
    check(&s, &w, &problems);
    if (par_problems_status(&problems, PAR_ERR_OPTION) != PAR_OK) {
        if (w.rank == 0) fprintf(stderr, "par topology: %s\n", par_error());
        return par_world_end(&w, PAR_TOOL_INPUT);
    }
    return par_world_end(&w, run(&s, &w));
}
