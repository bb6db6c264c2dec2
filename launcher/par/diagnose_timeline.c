/* par diagnose timeline: where the time of a run's steps went. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par/par.h"
#include "par_tool.h"

static void print_line(void *user, const char *line) {
    (void)user;
    puts(line);
}

static int usage(bool asked) {
    fprintf(asked ? stdout : stderr,
            "usage: par diagnose timeline [--json] RUN\n"
            "RUN: the run's directory, whose trace.json train_llm --trace STEPS has written, or "
            "such a file.\n"
            "It says by step: time, bubble, the slowest rank; what was waited for; what the "
            "critical path is made of; the kernels that took most.\n");
    return asked ? EXIT_SUCCESS : PAR_TOOL_INPUT;
}

int par_diagnose_timeline(int argc, char **argv) {
    char path[4200];
    struct stat info;
    bool json = argc > 0 && strcmp(argv[0], "--json") == 0;
    const char *run = argc == 1 + json ? argv[json] : NULL;
    if (!run || *run == '-') return usage(run && strcmp(run, "--help") == 0);
    bool folder = stat(run, &info) == 0 && S_ISDIR(info.st_mode);
    snprintf(path, sizeof path, "%s%s", run, folder ? "/trace.json" : "");
    if (par_timeline_diagnose(path, json, print_line, NULL) == PAR_OK) return EXIT_SUCCESS;
    fprintf(stderr, "par diagnose timeline: %s\n", par_error());
    return PAR_TOOL_INPUT;
}
