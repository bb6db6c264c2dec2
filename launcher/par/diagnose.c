/* par diagnose: what files tell of a run. Its subcommands by name; each gets the words behind
 * it. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par/par.h"
#include "par_tool.h"

enum { REPORT_NBYTES = 1 << 20 };

static int hang(int argc, char **argv) {
    static const char usage[] =
        "usage: par diagnose hang RUN\n"
        "Says where every rank is, and which one did not arrive. Ranks may run, stand still, or be "
        "gone.";
    static char text[REPORT_NBYTES];
    char directory[4200], path[4300];
    par_problems problems = {0};
    par_words runs;
    const par_option row = {.name = "RUN",
                            .type = PAR_OPT_OPERANDS,
                            .value = &runs,
                            .legal = "1..1",
                            .help = "the run's directory, its --log or --save, or the folder of "
                                    "pages that train_llm named"};
    if (par_tool_read(&row, 1, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    int code = par_tool_refuse("diagnose hang", &problems);
    if (code) return code;
    par_pages_find(runs.words[0], directory, sizeof directory);
    if (par_watchdog_diagnose(directory, text, sizeof text) != PAR_OK) {
        fprintf(stderr, "par diagnose hang: %s\n", par_error());
        return PAR_TOOL_INPUT;
    }
    /* what the watchdog found before the job was torn down: pages changed in that */
    snprintf(path, sizeof path, "%s/report.txt", directory);
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("%s: %s", directory, text);
        return EXIT_SUCCESS;
    }
    printf("%s: the watchdog's report:\n", directory);
    for (int c; (c = fgetc(file)) != EOF;) putchar(c);
    fclose(file);
    return EXIT_SUCCESS;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} subcommands[] = {
    {"hang", hang, "where every rank is, and which one did not arrive"},
    {"memory", par_diagnose_memory, "what took the memory of each rank, and what grows"},
    {"comm-matrix", par_diagnose_comm_matrix, "who sent what to whom, and how fast"},
    {"nccl-matrix", par_diagnose_nccl,
     "who asked NCCL to bring how much to whom, in any recorded NCCL program"},
    {"timeline", par_diagnose_timeline,
     "where the time of traced steps went, and who was waited for"},
};

enum { N = sizeof subcommands / sizeof *subcommands };

int par_diagnose(int argc, char **argv) {
    const char *names[N], *word = argc > 0 ? argv[0] : "--help";
    for (int i = 0; i < N; i++) {
        names[i] = subcommands[i].name;
        if (strcmp(word, names[i]) == 0) return subcommands[i].run(argc - 1, argv + 1);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        printf("usage: par diagnose WHAT ...; par diagnose WHAT --help says more\n");
        for (int i = 0; i < N; i++)
            printf("  %-12s %s\n", subcommands[i].name, subcommands[i].help);
        return EXIT_SUCCESS;
    }
    const char *closest = par_closest(word, names, N);
    fprintf(stderr, "par diagnose: %s: unknown%s%s; par diagnose --help lists what there is\n",
            word, closest ? "; did you mean " : "", closest ? closest : "");
    return PAR_TOOL_INPUT;
}
