/* par diagnose memory: where the memory of a run went, of the file that it left, or of one rank
 * that runs. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par/par.h"
#include "par_tool.h"

static const char usage[] =
    "usage: par diagnose memory RUN [options]\n"
    "       par diagnose memory --pid PID [options]\n"
    "Shows what the ranks of a run took, by purpose, layer and tensor, against what was planned; "
    "what\nlies outside of libpar's ledger; and what grows from step to step.";

typedef struct {
    par_words runs;
    const char *folded, *svg;
    int64_t pid;
    bool json;
} settings;

enum { N_ROWS = 5 };

static void make_rows(settings *s, par_option rows[N_ROWS]) {
    const par_option list[N_ROWS] = {
        {.name = "RUN",
         .type = PAR_OPT_OPERANDS,
         .value = &s->runs,
         .legal = "0..1",
         .help = "the run's directory, or its memory.json"},
        {.name = "pid",
         .type = PAR_OPT_INT,
         .value = &s->pid,
         .initial = "0",
         .legal = "0..",
         .help = "ask this process of the same user on this host: a rank of train_llm that runs",
         .metavar = "PID"},
        {.name = "folded",
         .type = PAR_OPT_TEXT,
         .value = &s->folded,
         .help = "write folded stacks, for tools that draw flame graphs",
         .metavar = "FILE"},
        {.name = "svg",
         .type = PAR_OPT_TEXT,
         .value = &s->svg,
         .help = "draw a flame graph",
         .metavar = "FILE"},
        {.name = "json",
         .type = PAR_OPT_BOOL,
         .value = &s->json,
         .help = "print the findings for programs instead of the table"},
    };
    memcpy(rows, list, sizeof list);
}

static void print_line(void *user, const char *line) {
    (void)user;
    printf("%s\n", line);
}

static par_status find(const settings *s, par_memory_report **out) {
    static const double PATIENCE_S = 5;
    char path[4200], *text = NULL;
    struct stat info;
    if (s->pid) {
        PAR_TRY(par_attach_ask(s->pid, PATIENCE_S, &text));
        snprintf(path, sizeof path, "the answer of process %lld", (long long)s->pid);
        par_status st = par_memory_report_parse(text, path, out);
        free(text);
        return st;
    }
    const char *run = s->runs.words[0];
    bool directory = stat(run, &info) == 0 && S_ISDIR(info.st_mode);
    snprintf(path, sizeof path, "%s%s", run, directory ? "/memory.json" : "");
    return par_memory_report_read(path, out);
}

static par_status show(const settings *s, const par_memory_report *report) {
    if (s->folded) PAR_TRY(par_memory_report_write_folded(report, s->folded));
    if (s->svg) PAR_TRY(par_memory_report_write_svg(report, s->svg));
    if (!s->json) {
        par_memory_report_print(report, print_line, NULL);
        return PAR_OK;
    }
    char *text = par_memory_report_json(report);
    if (!text) return par_error_set(PAR_ERR_MEMORY, "no host memory for the findings");
    printf("%s\n", text);
    free(text);
    return PAR_OK;
}

int par_diagnose_memory(int argc, char **argv) {
    settings s = {0};
    par_problems problems = {0};
    par_memory_report *report = NULL;
    par_option rows[N_ROWS];
    make_rows(&s, rows);
    if (par_tool_read(rows, N_ROWS, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    if (!s.runs.n == !s.pid)
        par_problem(&problems, "%s; legal: par diagnose memory RUN, or --pid PID",
                    s.runs.n ? "RUN and --pid together" : "there is no RUN");
    par_tool_output("--folded", s.folded, PAR_OUTPUT_FOLDED, &problems);
    par_tool_output("--svg", s.svg, PAR_OUTPUT_SVG, &problems);
    int code = par_tool_refuse("diagnose memory", &problems);
    if (code) return code;
    par_status st = find(&s, &report);
    if (st == PAR_OK) st = show(&s, report);
    int differences = st == PAR_OK ? par_memory_report_differences(report) : 0;
    par_memory_report_destroy(&report);
    if (st != PAR_OK) fprintf(stderr, "par diagnose memory: %s\n", par_error());
    return st != PAR_OK ? PAR_TOOL_INPUT : differences ? EXIT_FAILURE : EXIT_SUCCESS;
}
