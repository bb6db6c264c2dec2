/*
 * What a launcher starts on each rank: this program again, which starts the rank's own with its
 * output in files, passes signals on, and writes down how it ended. So output and ends are kept the
 * same way under every launcher.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "par_tool.h"
#include "run.h"

void run_rank_file(char out[RUN_PATH], const char *directory, int rank, const char *kind) {
    snprintf(out, RUN_PATH, "%.900s/rank-%05d.%s", directory, rank, kind);
}

static int open_file(const char *directory, int rank, const char *kind) {
    char path[RUN_PATH];
    run_rank_file(path, directory, rank, kind);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void start_program(const char *directory, int rank, char **words) {
    sigset_t none;
    int out = open_file(directory, rank, "out"), err = open_file(directory, rank, "err");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A launcher that kills this process alone must not leave the program behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (out >= 0) dup2(out, STDOUT_FILENO);
    if (err >= 0) dup2(err, STDERR_FILENO);
    while (*words && strcmp(*words, "--") != 0) putenv(*words++);
    execvp(words[1], words + 1);
    fprintf(stderr, "%s: cannot be started: %s\n", words[1], strerror(errno));
    fflush(stderr);
    _exit(127);
}

/* DIRECTORY [NAME=VALUE...] -- PROGRAM [WORDS...] */
int par_run_rank(int argc, char **argv) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                        "SLURM_PROCID"};
    sigset_t all;
    const char *own = NULL;
    int status = 0, file, signal;
    char host[RUN_NAME] = "";
    if (argc < 3) return PAR_TOOL_INPUT;
    for (int i = 0; i < 4 && !own; i++) own = getenv(names[i]);
    int rank = own ? atoi(own) : 0;
    gethostname(host, sizeof host - 1);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL); /* from here on, sigwait takes them */
    pid_t child = fork();
    if (child == 0) start_program(argv[0], rank, argv + 1);
    file = open_file(argv[0], rank, "status");
    if (file >= 0) dprintf(file, "began %.6f %ld %s\n", par_tool_date(), (long)child, host);
    while (child > 0 && sigwait(&all, &signal) == 0) {
        if (signal != SIGCHLD) {
            kill(child, signal);
        } else if (waitpid(child, &status, WNOHANG) == child &&
                   (WIFEXITED(status) || WIFSIGNALED(status))) {
            break;
        }
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    int killed = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (child < 0) code = EXIT_FAILURE;
    if (file >= 0) dprintf(file, "ended %.6f %d %d\n", par_tool_date(), code, killed);
    return killed ? 128 + killed : code;
}

void run_rank_read(const char *directory, int rank, run_rank_status *out) {
    char path[RUN_PATH], line[256];
    *out = (run_rank_status){0};
    run_rank_file(path, directory, rank, "status");
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "began %lf %ld %63s", &out->began_s, &out->pid, out->host) == 3)
            out->began = true;
        if (sscanf(line, "ended %lf %d %d", &out->ended_s, &out->code, &out->signal) == 3)
            out->ended = true;
    }
    fclose(file);
}
