/* par run and par check: the check, the job, its restarts. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../train_llm/process.h"
#include "par_tool.h"
#include "run.h"

/* train_llm itself says what is wrong with its options, all at once: in a file, or here if that is
 * NULL. Files that they name must be here, too, before a job with ranks on this host. */
static int check_program(const run_settings *s, const char *file, bool starts) {
    run_words words = {0};
    int status = 0;
    for (int i = 0; i < s->program.n; i++) run_word(&words, "%s", s->program.words[i]);
    run_word(&words, "--dry-run");
    run_word(&words, "--ranks");
    run_word(&words, "%lld", (long long)s->ranks);
    if (starts && run_map_is_here(s)) run_word(&words, "--check-files");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
        if (fd >= 0) dup2(fd, STDOUT_FILENO);
        if (fd >= 0) dup2(fd, STDERR_FILENO);
        execvp(words.words[0], words.words);
        fprintf(stderr, "par run: %s: cannot be started: %s\n", words.words[0], strerror(errno));
        fflush(stderr);
        _exit(127);
    }
    if (child > 0) waitpid(child, &status, 0);
    run_words_free(&words);
    return child < 0 ? EXIT_FAILURE : WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
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

static volatile sig_atomic_t asked, to_save;

static void on_signal(int number) {
    if (number == SIGUSR1)
        to_save = 1;
    else
        asked = asked + 1;
}

/* Seconds that the others have when a rank has failed: to say why, and to end. Then the launcher
 * ends them; Hydra would wait for programs that never called MPI_Init. */
#define GRACE_S 10.0

static bool one_failed(const char *attempt, int ranks) {
    for (int k = 0; k < ranks; k++) {
        run_rank_status s;
        run_rank_read(attempt, k, &s);
        if (s.ended && (s.signal || (s.code && s.code != RUN_STOPPED))) return true;
    }
    return false;
}

/* The job outlives who reads its output. */
static void check_reader(const char *attempt, bool ended) {
    if (process_prints()) return;
    fprintf(stderr, "par run: nobody reads its output any more; %swhat the ranks print is in %s\n",
            ended ? "" : "the job goes on, and ", attempt);
}

/* The launcher in a process group of its own, so that Ctrl-C comes here alone. Its own messages go
 * to a file; its status is returned, and in `*killed` when a user had the job killed. */
static int start_and_wait(const run_launch *l, const run_words *words, const char *attempt,
                          int ranks, double *killed) {
    int status = 0, sent = 0;
    char file[RUN_PATH];
    double looked = par_tool_seconds(), failed = 0; /* when ranks were looked at, one failed */
    const struct timespec pause = {.tv_nsec = 50000000};
    run_output *o = run_output_create(attempt, ranks);
    snprintf(file, sizeof file, "%.900s/launcher.err", attempt);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666), in = open("/dev/null", O_RDONLY);
        setpgid(0, 0);
        signal(SIGPIPE, SIG_DFL);
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
        check_reader(attempt, false);
        if (to_save) {
            to_save = 0;
            if (l->save) kill(child, l->save);
            if (!l->save)
                fprintf(stderr, "par run: SIGUSR1 is not passed on, as this launcher may not take "
                                "it to the ranks; a checkpoint: --save-every\n");
        }
        if (sent < asked) {
            fprintf(stderr, "par run: %s\n",
                    sent == 0
                        ? "asked to end: after this step, with a checkpoint; Ctrl-C once more "
                          "kills"
                        : "killing the job");
            if (sent == 1) *killed = par_tool_date();
            kill(child, sent++ == 0 ? l->stop : l->kill);
        }
        if (par_tool_seconds() > looked + 1) {
            looked = par_tool_seconds();
            if (!failed && one_failed(attempt, ranks)) failed = looked;
            if (failed && looked > failed + GRACE_S) kill(child, l->kill);
        }
        nanosleep(&pause, NULL);
    }
    if (o) run_output_show(o, true);
    check_reader(attempt, true);
    run_output_destroy(&o);
    return child < 0 ? EXIT_FAILURE << 8 : status;
}

/* LAUNCHER par run-rank ATTEMPT [NAME=VALUE...] -- [BINDER] PROGRAM WORDS */
static void whole_command(const run_settings *s, const run_launch *l, const char *attempt,
                          run_words *out) {
    char self[RUN_PATH], where[RUN_PATH];
    run_self(self);
    if (!realpath(attempt, where)) snprintf(where, sizeof where, "%s", attempt);
    for (int i = 0; i < l->words.n; i++) run_word(out, "%s", l->words.words[i]);
    run_word(out, "%s", self);
    run_word(out, "run-rank");
    run_word(out, "%s", where);
    for (int i = 0; i < s->environment.n; i++) run_word(out, "%s", s->environment.words[i]);
    run_word(out, "--");
    for (int i = 0; i < l->binder.n; i++) run_word(out, "%s", l->binder.words[i]);
    for (int i = 0; i < s->program.n; i++) run_word(out, "%s", s->program.words[i]);
}

/* As a user would type it. */
static char *plain_command(const run_settings *s, const run_launch *l) {
    run_words words = {0};
    for (int i = 0; i < l->words.n; i++) run_word(&words, "%s", l->words.words[i]);
    for (int i = 0; i < l->binder.n; i++) run_word(&words, "%s", l->binder.words[i]);
    if (s->environment.n) run_word(&words, "env");
    for (int i = 0; i < s->environment.n; i++) run_word(&words, "%s", s->environment.words[i]);
    for (int i = 0; i < s->program.n; i++) run_word(&words, "%s", s->program.words[i]);
    char *text = run_quote(words.words, words.n);
    run_words_free(&words);
    return text;
}

static int start_job(run_settings *s, const run_launch *l, const char *directory) {
    const struct sigaction action = {.sa_handler = on_signal};
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    char attempt[RUN_PATH], path[RUN_PATH];
    int code = EXIT_FAILURE;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        bool nohup = numbers[i] == SIGHUP && process_ignores_hangup();
        if (!nohup) sigaction(numbers[i], &action, NULL);
        if (nohup) signal(SIGHUP, SIG_IGN);
    }
    signal(SIGPIPE, SIG_IGN); /* the job outlives who reads its output */
    for (int64_t left = s->restarts;; left--) {
        double begin = par_tool_seconds(), killed = INFINITY;
        run_words words = {0};
        par_status st = make_attempt(directory, attempt);
        if (st != PAR_OK) {
            fprintf(stderr, "par run: %s\n", par_error());
            return EXIT_FAILURE;
        }
        whole_command(s, l, attempt, &words);
        char *command = plain_command(s, l);
        snprintf(path, sizeof path, "%.900s/command", directory);
        FILE *file = fopen(path, "a");
        if (file) fprintf(file, "%s\n", command);
        if (file) fclose(file);
        free(command);
        int status = start_and_wait(l, &words, attempt, (int)s->ranks, &killed);
        run_words_free(&words);
        /* of another program, that code is a failure unless it was asked to end */
        bool may_stop = asked || run_is_train_llm(s);
        code = run_report(attempt, (int)s->ranks, status, par_tool_seconds() - begin, may_stop,
                          killed);
        /* bad options or input, inf and NaN, and a signal's end are not mended by starting again */
        bool crash = code != 0 && code != PAR_TOOL_INPUT && code != 3 && code != RUN_STOPPED;
        if (!crash || left == 0 || asked) return code;
        fprintf(stderr, "par run: starting again (%lld more)\n", (long long)left - 1);
        run_program_again(s);
    }
}

static int run_or_check(run_settings *s, bool check_only) {
    char directory[RUN_PATH], file[RUN_PATH];
    run_launch l = {0};
    if (check_only) {
        if (run_is_train_llm(s)) return check_program(s, NULL, false);
        fprintf(stderr, "par check: %s: only train_llm's options can be checked\n",
                s->program.words[0]);
        return PAR_TOOL_INPUT;
    }
    par_status st = run_launch_find(s, &l);
    if (st == PAR_OK && s->print) {
        char *command = plain_command(s, &l);
        printf("%s\n", command);
        free(command);
        run_map_print(&l.map, stderr);
        run_launch_free(&l);
        return EXIT_SUCCESS;
    }
    if (!s->run) s->run = run_program_directory(s);
    if (st == PAR_OK) st = make_run(s, directory);
    if (st != PAR_OK) {
        fprintf(stderr, "par run: %s\n", par_error());
        run_launch_free(&l);
        return PAR_TOOL_INPUT;
    }
    snprintf(file, sizeof file, "%.900s/check", directory);
    run_program_prepare(s, directory);
    int code = s->check && run_is_train_llm(s) ? check_program(s, file, true) : 0;
    if (code != 0) {
        copy_to_stderr(file);
        fprintf(stderr, "par run: nothing was started\n");
    } else {
        printf("run: %s | %s\n", directory, l.about);
        run_map_print(&l.map, stdout);
        code = start_job(s, &l, directory);
    }
    run_launch_free(&l);
    return code;
}

/* Beside par run's own problems, those of the program: all are told at once. */
static void tell_program_too(const run_settings *s, bool starts) {
    char file[] = "/tmp/par-run-XXXXXX";
    int fd = s->check && s->ranks > 0 && run_is_train_llm(s) ? mkstemp(file) : -1;
    if (fd < 0) return;
    close(fd);
    if (check_program(s, file, starts) != 0) copy_to_stderr(file);
    unlink(file);
}

static int start(int argc, char **argv, bool check_only) {
    run_settings s = {0};
    par_problems problems = {0};
    if (run_options_read(&s, argc, argv, &problems)) return EXIT_SUCCESS;
    int code = par_tool_refuse(check_only ? "check" : "run", &problems);
    if (code)
        tell_program_too(&s, !check_only);
    else
        code = run_or_check(&s, check_only);
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
