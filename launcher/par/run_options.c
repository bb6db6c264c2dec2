/* Options of par run, and the program and its words, which stand behind them. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par_tool.h"
#include "run.h"

static const char run_usage[] =
    "usage: par run -n RANKS [options] [NAME=VALUE...] [PROGRAM [WORDS...]]\n"
    "       par check -n RANKS [options] [PROGRAM [WORDS...]]\n"
    "Starts PROGRAM, by default train_llm, on RANKS ranks through the mpirun or srun that is\n"
    "there; every option in front of PROGRAM is par run's, every word behind it PROGRAM's.\n"
    "NAME=VALUE goes into the ranks' environment. The options of train_llm are checked first;\n"
    "par check does that alone, without MPI and without a GPU.\n"
    "\n"
    "Ctrl-C ends the job after its step, with a checkpoint; a second one kills it. If it fails,\n"
    "the rank that failed first is named; its exit code is par run's.";

enum { N_ROWS = 11 };

static void make_rows(run_settings *s, par_words *program, par_option rows[N_ROWS]) {
    static const par_choice launchers[] = {{"auto", RUN_AUTO},
                                           {"openmpi", RUN_OPENMPI},
                                           {"mpich", RUN_MPICH},
                                           {"srun", RUN_SLURM},
                                           {NULL, 0}};
    const par_option list[N_ROWS] = {
        {.name = "ranks",
         .type = PAR_OPT_INT,
         .value = &s->ranks,
         .initial = "0",
         .legal = "0..1048576",
         .help = "ranks to start; without it: what --parallel multiplies to",
         .letter = 'n',
         .also = "np|nproc-per-node|ntasks"},
        {.name = "parallel",
         .type = PAR_OPT_TEXT,
         .value = &s->parallel,
         .help = "the layout, tp=2,pp=4,dp=8 say: PROGRAM gets --tp 2 --pp 4 --dp 8",
         .metavar = "AXIS=N,...",
         .also = "layout|mesh"},
        {.name = "set",
         .type = PAR_OPT_TEXT,
         .value = &s->set,
         .help = "options of PROGRAM, batch=1024,lr=3e-5 say; NAME alone is a flag",
         .metavar = "NAME=VALUE,..."},
        {.name = "hosts",
         .type = PAR_OPT_TEXT,
         .value = &s->hosts,
         .help = "hosts, as the launcher takes them: a:8,b:8; without it: this one, or the "
                 "scheduler's",
         .metavar = "HOST,...",
         .also = "host|nodelist"},
        {.name = "hostfile",
         .type = PAR_OPT_TEXT,
         .value = &s->hostfile,
         .help = "a file of hosts, as the launcher takes it",
         .metavar = "FILE",
         .also = "machinefile"},
        {.name = "launcher",
         .type = PAR_OPT_CHOICE,
         .value = &s->launcher,
         .initial = "auto",
         .choices = launchers,
         .help = "auto: srun inside a Slurm job that can start this MPI, else its mpirun"},
        {.name = "run",
         .type = PAR_OPT_TEXT,
         .value = &s->run,
         .help = "folder for what the job leaves: the command, the output of every rank; without "
                 "it: a new one below runs/",
         .metavar = "DIR",
         .also = "run-dir|output-dir"},
        {.name = "restarts",
         .type = PAR_OPT_INT,
         .value = &s->restarts,
         .initial = "0",
         .legal = "0..1000000",
         .help = "start again so often after a crash; train_llm goes on from its newest checkpoint",
         .also = "max-restarts"},
        {.name = "check",
         .type = PAR_OPT_BOOL,
         .value = &s->check,
         .initial = "on",
         .help = "check the options of train_llm before anything starts"},
        {.name = "print",
         .type = PAR_OPT_BOOL,
         .value = &s->print,
         .help = "print the command, to be pasted into a shell, and end"},
        {.name = "[NAME=VALUE...] [PROGRAM [WORDS...]]",
         .type = PAR_OPT_REST,
         .value = program,
         .help = "the ranks' environment, what is started, and its own words"},
    };
    memcpy(rows, list, sizeof list);
}

/* NAME, NAME=VALUE, or with `numbers` AXIS=N, of n characters. */
static bool is_pair(const char *text, int n, bool numbers) {
    int equals = (int)strcspn(text, "=,");
    char *end = NULL;
    long value = equals < n ? strtol(text + equals + 1, &end, 10) : 0;
    return equals > 0 && (!numbers || (equals < n && end > text + equals + 1 && end == text + n &&
                                       value >= 1 && value <= 1048576));
}

/* "tp=2,pp=4" as --tp 2 --pp 4, without what is no pair. */
static void add_pairs(run_words *list, const char *text, bool numbers) {
    while (text && *text) {
        int n = (int)strcspn(text, ","), name = (int)strcspn(text, "=,");
        if (is_pair(text, n, numbers)) {
            run_word(list, "--%.*s", name, text);
            if (name < n) run_word(list, "%.*s", n - name - 1, text + name + 1);
        }
        text += n + (text[n] == ',');
    }
}

/* A program's name without a slash is looked for here, beside par, then in PATH as by a shell. */
static void take_program(run_settings *s, int argc, const char *const *argv) {
    char beside[RUN_PATH];
    /* the folder of par has train_llm, too, in a build and where it is installed */
    ssize_t length = readlink("/proc/self/exe", beside, sizeof beside - 16);
    while (length > 0 && beside[length - 1] != '/') length--;
    memcpy(beside + (length > 0 ? length : 0), "train_llm", 10);
    for (; argc > 0; argc--) {
        size_t n = strcspn(*argv, "=");
        bool assigns = (*argv)[n] && n &&
                       strspn(*argv, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
                                     "0123456789") == n;
        if (!assigns) break;
        run_word(&s->environment, "%s", *argv++);
    }
    if (argc == 0 || (strcmp(*argv, "train_llm") == 0 && access(beside, X_OK) == 0))
        run_word(&s->program, "%s", beside);
    else if (!strchr(*argv, '/') && access(*argv, X_OK) == 0)
        run_word(&s->program, "./%s", *argv);
    else
        run_word(&s->program, "%s", *argv);
    add_pairs(&s->program, s->parallel, true);
    add_pairs(&s->program, s->set, false);
    for (int i = 1; i < argc; i++) run_word(&s->program, "%s", argv[i]);
}

static void check_pairs(const char *name, const char *text, bool numbers, par_problems *problems) {
    while (text && *text) {
        int n = (int)strcspn(text, ",");
        if (!is_pair(text, n, numbers))
            par_problem(problems, "--%s: %.*s: legal: %s", name, n, text,
                        numbers ? "AXIS=N, 1 to 1048576" : "NAME=VALUE with commas between");
        text += n + (text[n] == ',');
    }
}

bool run_options_read(run_settings *s, int argc, char **argv, par_problems *problems) {
    par_option rows[N_ROWS];
    par_words program;
    make_rows(s, &program, rows);
    if (par_tool_read(rows, N_ROWS, run_usage, argc, argv, problems)) return true;
    check_pairs("parallel", s->parallel, true, problems);
    check_pairs("set", s->set, false, problems);
    bool product = s->ranks == 0 && s->parallel; /* dp is open where it is not among them */
    if (product) {
        s->ranks = 1;
        for (const char *at = s->parallel; *at; at += strcspn(at, ","), at += *at == ',') {
            bool good = is_pair(at, (int)strcspn(at, ","), true);
            if (good && s->ranks <= 1048576) s->ranks *= atoll(at + strcspn(at, "=") + 1);
        }
    }
    if (s->ranks == 0 && !product)
        par_problem(problems,
                    "-n: is missing; legal: a number of ranks, or --parallel tp=2,pp=4,dp=8");
    if (s->hosts && s->hostfile)
        par_problem(problems, "--hosts and --hostfile: legal: one of the two");
    take_program(s, program.n, program.words);
    return false;
}
