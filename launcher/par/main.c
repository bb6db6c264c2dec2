/* par: the tool beside train_llm; its commands by name. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../train_llm/process.h"
#include "par/par.h"
#include "par_tool.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", par_run, "start a job on many ranks, and say what went wrong if it fails"},
    {"check", par_check, "check a job's options without starting it"},
    {"checkpoint", par_checkpoint_command,
     "look into checkpoints, verify, compare, average and export them"},
    {"compare", par_compare, "several runs over each other: curves, options, numbers"},
    {"cost", par_cost, "add up what runs took, by project, user, model or day"},
    {"data", par_data, "make a token file of texts or JSON Lines"},
    {"diagnose", par_diagnose, "what a run waits for and sends, where its time and memory went"},
    {"doctor", par_doctor, "look for what would disturb a training on this machine"},
    {"report", par_report, "one page of HTML on a run"},
    {"topology", par_topology_command,
     "show the machine, where a layout lies on it, and how fast it is"},
    {"run-rank", par_run_rank, NULL /* what par run starts on each rank */},
    {"run-bound", par_run_bound, NULL /* and where ranks are bound by it */}};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int run(int argc, char **argv) {
    const char *names[N_COMMANDS], *word = argc > 1 ? argv[1] : "--help";
    for (int i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(word, names[i]) == 0) return commands[i].run(argc - 2, argv + 2);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        printf("usage: par COMMAND [options]; par COMMAND --help says more\n");
        for (int i = 0; i < N_COMMANDS && commands[i].help; i++)
            printf("  %-11s %s\n", commands[i].name, commands[i].help);
        return EXIT_SUCCESS;
    }
    if (strcmp(word, "--version") == 0) {
        printf("par (libpar) %s\n", PAR_TOOL_VERSION);
        return EXIT_SUCCESS;
    }
    const char *closest = par_closest(word, names, N_COMMANDS);
    fprintf(stderr, "par: %s: unknown command%s%s; par --help lists them\n", word,
            closest ? "; did you mean " : "", closest ? closest : "");
    return PAR_TOOL_INPUT;
}

int main(int argc, char **argv) {
    /* a file at the limit of its size is an error of write, with a message */
    signal(SIGXFSZ, SIG_IGN);
    par_guard_files();
    int code = run(argc, argv);
    bool printed = process_printed("par");
    return code == EXIT_SUCCESS && !printed ? EXIT_FAILURE : code;
}
