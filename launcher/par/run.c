/* par run and par check: options, the program's words, the job, its restarts. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
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

static int run_rows(run_settings *s, par_option *t) {
    static const par_choice launchers[] = {{"auto", RUN_AUTO},
                                           {"openmpi", RUN_OPENMPI},
                                           {"mpich", RUN_MPICH},
                                           {"srun", RUN_SLURM},
                                           {NULL, 0}};
    const par_option rows[] = {
        {.name = "ranks",
         .type = PAR_OPT_INT,
         .value = &s->ranks,
         .initial = "0",
         .legal = "0..1048576",
         .help = "ranks to start, also -n; without it: what --parallel multiplies to",
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
        {.name = "help",
         .type = PAR_OPT_BOOL,
         .value = &s->help,
         .help = "print this text and end"},
    };
    const int n = (int)(sizeof rows / sizeof *rows);
    memcpy(t, rows, sizeof rows);
    for (int i = 0; i < n; i++) t[i].group = "Options";
    return n;
}

static bool takes_value(const par_option *table, int n, const char *word) {
    for (int i = 0; i < n; i++)
        if (strcmp(word + 2, table[i].name) == 0) return table[i].type != PAR_OPT_BOOL;
    return strcmp(word, "-n") == 0;
}

/* How many words belong to par run: up to the first that is neither an option nor its value. -n N
 * is --ranks N. */
static int own_words(const par_option *table, int n, int argc, char **argv) {
    static char ranks[] = "--ranks";
    int i = 0;
    while (i < argc && argv[i][0] == '-') {
        bool value = takes_value(table, n, argv[i]);
        if (strcmp(argv[i], "-n") == 0) argv[i] = ranks;
        i += value ? 2 : 1;
    }
    return i < argc ? i : argc;
}

static bool is_assignment(const char *word) {
    size_t n = strcspn(word, "=");
    return word[n] && n &&
           strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
                        "0123456789") == n;
}

/* "tp=2,pp=4" as --tp 2 --pp 4. */
static void add_pairs(run_words *list, const char *text) {
    while (text && *text) {
        int n = (int)strcspn(text, ","), name = (int)strcspn(text, "=,");
        run_word(list, "--%.*s", name, text);
        if (name < n) run_word(list, "%.*s", n - name - 1, text + name + 1);
        text += n + (text[n] == ',');
    }
}

/* The folder that this program is in has train_llm, too, in a build and where it is installed. */
static void default_program(char out[RUN_PATH]) {
    ssize_t n = readlink("/proc/self/exe", out, RUN_PATH - 16);
    while (n > 0 && out[n - 1] != '/') n--;
    memcpy(out + (n > 0 ? n : 0), "train_llm", 10);
}

static bool is_train_llm(const run_settings *s) {
    const char *name = strrchr(s->program.words[0], '/');
    return strcmp(name ? name + 1 : s->program.words[0], "train_llm") == 0;
}

/* A program's name without a slash is looked for here, beside par, then in PATH as by a shell. */
static void take_program(run_settings *s, int argc, char **argv) {
    char beside[RUN_PATH];
    default_program(beside);
    while (argc > 0 && is_assignment(*argv)) {
        run_word(&s->environment, "%s", *argv++);
        argc--;
    }
    if (argc == 0 || (strcmp(*argv, "train_llm") == 0 && access(beside, X_OK) == 0))
        run_word(&s->program, "%s", beside);
    else if (!strchr(*argv, '/') && access(*argv, X_OK) == 0)
        run_word(&s->program, "./%s", *argv);
    else
        run_word(&s->program, "%s", *argv);
    add_pairs(&s->program, s->parallel);
    add_pairs(&s->program, s->set);
    for (int i = 1; i < argc; i++) run_word(&s->program, "%s", argv[i]);
}

static void check_pairs(const char *name, const char *text, bool numbers, par_problems *problems) {
    while (text && *text) {
        int n = (int)strcspn(text, ","), equals = (int)strcspn(text, "=,");
        char *end;
        long value = equals < n ? strtol(text + equals + 1, &end, 10) : 0;
        if (equals == 0)
            par_problem(problems, "--%s: %.*s: legal: NAME=VALUE with commas between", name, n,
                        text);
        else if (numbers && (equals == n || end != text + n || value < 1 || value > 1048576))
            par_problem(problems, "--%s: %.*s: legal: AXIS=N, 1 to 1048576", name, n, text);
        text += n + (text[n] == ',');
    }
}

/* The product of --parallel; dp is open where it is not among them. */
static int64_t product(const char *text) {
    int64_t ranks = 1;
    for (; text && *text; text += strcspn(text, ","), text += *text == ',') {
        int64_t n = atoll(text + strcspn(text, "=") + 1);
        if (n > 0 && ranks <= 1048576) ranks *= n;
    }
    return ranks;
}

static void check_settings(run_settings *s, par_problems *problems) {
    check_pairs("parallel", s->parallel, true, problems);
    check_pairs("set", s->set, false, problems);
    if (s->ranks == 0 && s->parallel) s->ranks = product(s->parallel);
    if (s->ranks == 0)
        par_problem(problems,
                    "-n: is missing; legal: a number of ranks, or --parallel tp=2,pp=4,dp=8");
    if (s->hosts && s->hostfile)
        par_problem(problems, "--hosts and --hostfile: legal: one of the two");
}

/* Runs words to their end, what they print in a file, or here if that is NULL. */
static int run_words_to_end(const run_words *words, const char *file) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
        if (fd >= 0) dup2(fd, STDOUT_FILENO);
        if (fd >= 0) dup2(fd, STDERR_FILENO);
        execvp(words->words[0], words->words);
        fprintf(stderr, "par run: %s: cannot be started: %s\n", words->words[0], strerror(errno));
        fflush(stderr);
        _exit(127);
    }
    if (child > 0) waitpid(child, &status, 0);
    return child < 0 ? EXIT_FAILURE : WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

/* train_llm itself says what is wrong with its options, all at once. */
static int check_program(const run_settings *s, const char *file) {
    run_words words = {0};
    for (int i = 0; i < s->program.n; i++) run_word(&words, "%s", s->program.words[i]);
    run_word(&words, "--dry-run");
    run_word(&words, "--ranks");
    run_word(&words, "%lld", (long long)s->ranks);
    int code = run_words_to_end(&words, file);
    run_words_free(&words);
    return code;
}

static void copy_to_stderr(const char *path) {
    char piece[4096];
    size_t n;
    FILE *file = fopen(path, "r");
    while (file && (n = fread(piece, 1, sizeof piece, file)) > 0) fwrite(piece, 1, n, stderr);
    if (file) fclose(file);
}

/* A folder that is there is taken, and the next number of an attempt in it. */
static par_status make_run(const run_settings *s, char directory[RUN_PATH]) {
    char stamp[RUN_NAME];
    time_t t = time(NULL);
    struct tm local;
    if (s->run) {
        snprintf(directory, RUN_PATH, "%.800s", s->run);
        if (mkdir(directory, 0777) == 0 || errno == EEXIST) return PAR_OK;
        return par_error_set(PAR_ERR_IO, "--run %s: cannot be made: %s", s->run, strerror(errno));
    }
    mkdir("runs", 0777);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime_r(&t, &local));
    for (int i = 1; i < 1000; i++) {
        snprintf(directory, RUN_PATH, i == 1 ? "runs/%s" : "runs/%s-%d", stamp, i);
        if (mkdir(directory, 0777) == 0) return PAR_OK;
        if (errno != EEXIST) break;
    }
    return par_error_set(PAR_ERR_IO, "%s: cannot be made: %s; legal: --run DIR", directory,
                         strerror(errno));
}

static par_status make_attempt(const char *directory, char attempt[RUN_PATH]) {
    for (int i = 1; i < 1000000; i++) {
        snprintf(attempt, RUN_PATH, "%.900s/attempt-%d", directory, i);
        if (mkdir(attempt, 0777) == 0) return PAR_OK;
        if (errno != EEXIST) break;
    }
    return par_error_set(PAR_ERR_IO, "%s: cannot be made: %s", attempt, strerror(errno));
}

static volatile sig_atomic_t asked;

static void on_signal(int number) {
    (void)number;
    asked = asked + 1;
}

/* The launcher in a process group of its own, so that Ctrl-C comes here alone. Its own messages go
 * to a file; its status is returned. */
static int start_and_wait(const run_launch *l, const run_words *words, const char *attempt,
                          int ranks) {
    int status = 0, sent = 0;
    char file[RUN_PATH];
    const struct timespec pause = {.tv_nsec = 50000000};
    run_output *o = run_output_create(attempt, ranks);
    snprintf(file, sizeof file, "%.900s/launcher.err", attempt);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666), in = open("/dev/null", O_RDONLY);
        setpgid(0, 0);
        if (in >= 0) dup2(in, STDIN_FILENO);
        if (fd >= 0) dup2(fd, STDOUT_FILENO);
        if (fd >= 0) dup2(fd, STDERR_FILENO);
        execvp(words->words[0], words->words);
        fprintf(stderr, "%s: cannot be started: %s\n", words->words[0], strerror(errno));
        fflush(stderr);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, WNOHANG) == 0) {
        if (o) run_output_show(o, false);
        if (sent < asked) {
            fprintf(stderr, "par run: %s\n",
                    sent == 0
                        ? "asked to end: after this step, with a checkpoint; Ctrl-C once more "
                          "kills"
                        : "killing the job");
            kill(child, sent++ == 0 ? l->stop : l->kill);
        }
        nanosleep(&pause, NULL);
    }
    if (o) run_output_show(o, true);
    run_output_destroy(&o);
    return child < 0 ? EXIT_FAILURE << 8 : status;
}

/* LAUNCHER par run-rank ATTEMPT [NAME=VALUE...] -- PROGRAM WORDS */
static void whole_command(const run_settings *s, const run_launch *l, const char *attempt,
                          run_words *out) {
    char self[RUN_PATH] = "par", where[RUN_PATH];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) self[n] = 0;
    if (!realpath(attempt, where)) snprintf(where, sizeof where, "%s", attempt);
    for (int i = 0; i < l->words.n; i++) run_word(out, "%s", l->words.words[i]);
    run_word(out, "%s", self);
    run_word(out, "run-rank");
    run_word(out, "%s", where);
    for (int i = 0; i < s->environment.n; i++) run_word(out, "%s", s->environment.words[i]);
    run_word(out, "--");
    for (int i = 0; i < s->program.n; i++) run_word(out, "%s", s->program.words[i]);
}

/* As a user would type it. */
static char *plain_command(const run_settings *s, const run_launch *l) {
    run_words words = {0};
    for (int i = 0; i < l->words.n; i++) run_word(&words, "%s", l->words.words[i]);
    if (s->environment.n) run_word(&words, "env");
    for (int i = 0; i < s->environment.n; i++) run_word(&words, "%s", s->environment.words[i]);
    for (int i = 0; i < s->program.n; i++) run_word(&words, "%s", s->program.words[i]);
    char *text = run_quote(words.words, words.n);
    run_words_free(&words);
    return text;
}

static void note_command(const char *directory, const char *command) {
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%.900s/command", directory);
    FILE *file = fopen(path, "a");
    if (file) fprintf(file, "%s\n", command);
    if (file) fclose(file);
}

static bool has_word(const run_words *list, const char *word) {
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->words[i], word) == 0) return true;
    return false;
}

/* A job that may start again needs checkpoints to go on from. */
static void prepare_restarts(run_settings *s, const char *directory) {
    if (!s->restarts || !is_train_llm(s)) return;
    if (!has_word(&s->program, "--save")) {
        run_word(&s->program, "--save");
        run_word(&s->program, "%s/checkpoints", directory);
        fprintf(stderr, "par run: checkpoints for --restarts go to %s/checkpoints\n", directory);
    }
    if (!has_word(&s->program, "--resume")) {
        run_word(&s->program, "--resume");
        run_word(&s->program, "auto");
    }
}

/* Bad options or input, inf and NaN, and a signal's end are not mended by starting again. */
static bool is_crash(int code) {
    return code != 0 && code != PAR_TOOL_INPUT && code != 3 && code != RUN_STOPPED;
}

static int start_job(run_settings *s, const run_launch *l, const char *directory) {
    const struct sigaction action = {.sa_handler = on_signal};
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    char attempt[RUN_PATH];
    int code = EXIT_FAILURE;
    for (int i = 0; i < 3; i++) sigaction(numbers[i], &action, NULL);
    for (int64_t left = s->restarts;; left--) {
        struct timespec begin, end;
        run_words words = {0};
        par_status st = make_attempt(directory, attempt);
        if (st != PAR_OK) {
            fprintf(stderr, "par run: %s\n", par_error());
            return EXIT_FAILURE;
        }
        whole_command(s, l, attempt, &words);
        char *command = plain_command(s, l);
        note_command(directory, command);
        free(command);
        clock_gettime(CLOCK_MONOTONIC, &begin);
        int status = start_and_wait(l, &words, attempt, (int)s->ranks);
        clock_gettime(CLOCK_MONOTONIC, &end);
        run_words_free(&words);
        code = run_report(attempt, (int)s->ranks, status,
                          (double)(end.tv_sec - begin.tv_sec) +
                              1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
        if (!is_crash(code) || left == 0 || asked) return code;
        fprintf(stderr, "par run: starting again (%lld more)\n", (long long)left - 1);
    }
}

static int run_or_check(run_settings *s, bool check_only) {
    char directory[RUN_PATH], file[RUN_PATH];
    run_launch l = {0};
    if (check_only) {
        if (is_train_llm(s)) return check_program(s, NULL);
        fprintf(stderr, "par check: %s: only train_llm's options can be checked\n",
                s->program.words[0]);
        return PAR_TOOL_INPUT;
    }
    par_status st = run_launch_find(s, &l);
    if (st == PAR_OK && s->print) {
        char *command = plain_command(s, &l);
        printf("%s\n", command);
        free(command);
        run_words_free(&l.words);
        return EXIT_SUCCESS;
    }
    if (st == PAR_OK) st = make_run(s, directory);
    if (st != PAR_OK) {
        fprintf(stderr, "par run: %s\n", par_error());
        run_words_free(&l.words);
        return PAR_TOOL_INPUT;
    }
    snprintf(file, sizeof file, "%.900s/check", directory);
    prepare_restarts(s, directory);
    int code = s->check && is_train_llm(s) ? check_program(s, file) : 0;
    if (code != 0) {
        copy_to_stderr(file);
        fprintf(stderr, "par run: nothing was started\n");
    } else {
        printf("run: %s | %s\n", directory, l.about);
        code = start_job(s, &l, directory);
    }
    run_words_free(&l.words);
    return code;
}

static int start(int argc, char **argv, bool check_only) {
    run_settings s = {0};
    par_option table[16];
    par_problems problems = {0};
    char text[6144];
    int n = run_rows(&s, table), own = own_words(table, n, argc, argv);
    par_options_help(table, n, run_usage, text, sizeof text);
    par_options_parse(table, n, own, argv, &problems);
    if (s.help) {
        printf("%s", text);
        return EXIT_SUCCESS;
    }
    check_settings(&s, &problems);
    if (par_problems_status(&problems, PAR_ERR_OPTION) != PAR_OK) {
        fprintf(stderr, "par %s: %s\n", check_only ? "check" : "run", par_error());
        return PAR_TOOL_INPUT;
    }
    take_program(&s, argc - own, argv + own);
    int code = run_or_check(&s, check_only);
    run_words_free(&s.environment);
    run_words_free(&s.program);
    return code;
}

int par_run(int argc, char **argv) {
    return start(argc, argv, false);
}

int par_check(int argc, char **argv) {
    return start(argc, argv, true);
}
