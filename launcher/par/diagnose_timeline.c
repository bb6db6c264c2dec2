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

static const char usage[] =
    "usage: par diagnose timeline RUN [options]\n"
    "Says by step: time, bubble, the slowest rank; what was waited for; what the critical path is "
    "made\nof; the kernels that took most.";

int par_diagnose_timeline(int argc, char **argv) {
    par_problems problems = {0};
    par_words runs;
    bool json;
    const par_option rows[] = {
        {.name = "RUN",
         .type = PAR_OPT_OPERANDS,
         .value = &runs,
         .legal = "1..1",
         .help =
             "a directory whose trace.json train_llm --trace STEPS has written, or such a file"},
        {.name = "json", .type = PAR_OPT_BOOL, .value = &json, .help = "print JSON"},
    };
    char path[4200];
    struct stat info;
    if (par_tool_read(rows, 2, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    int code = par_tool_refuse("diagnose timeline", &problems);
    if (code) return code;
    bool folder = stat(runs.words[0], &info) == 0 && S_ISDIR(info.st_mode);
    snprintf(path, sizeof path, "%s%s", runs.words[0], folder ? "/trace.json" : "");
    if (par_timeline_diagnose(path, json, print_line, NULL) == PAR_OK) return EXIT_SUCCESS;
    fprintf(stderr, "par diagnose timeline: %s\n", par_error());
    return PAR_TOOL_INPUT;
}
