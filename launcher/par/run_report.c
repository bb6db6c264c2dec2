/* What is said of a job that failed: one block, with the rank that failed first. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "run.h"

static bool failed(const run_rank_status *s) {
    return s->ended && (s->code || s->signal);
}

/* The last lines of a file, indented; 0 if it is empty or not there. */
static int show_tail(const char *path, int lines) {
    enum { TAIL = 4096 };
    char text[TAIL + 1];
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fseek(file, -TAIL, SEEK_END) != 0) rewind(file);
    size_t n = fread(text, 1, TAIL, file);
    fclose(file);
    while (n > 0 && text[n - 1] == '\n') n--;
    text[n] = 0;
    char *begin = text + n;
    for (int left = lines; begin > text && (begin[-1] != '\n' || --left > 0);) begin--;
    for (char *line = strtok(begin, "\n"); line; line = strtok(NULL, "\n"))
        fprintf(stderr, "      %s\n", line);
    return n > 0;
}

static void describe(const run_rank_status *s, char *text, size_t nbytes) {
    if (s->signal)
        snprintf(text, nbytes, "killed by signal %d (%s%s)", s->signal, strsignal(s->signal),
                 s->signal == 9 ? "; often the kernel, out of memory" : "");
    else
        snprintf(text, nbytes, "exit code %d", s->code);
}

/* How many ended how, of those that are not the first. */
static void count_others(const char *directory, int ranks, int first) {
    int codes[256] = {0}, signals[65] = {0}, missing = 0, unended = 0;
    const char *comma = "";
    for (int k = 0; k < ranks; k++) {
        run_rank_status s;
        run_rank_read(directory, k, &s);
        if (k == first) continue;
        missing += !s.began;
        unended += s.began && !s.ended;
        if (s.ended && s.signal)
            signals[s.signal & 63]++;
        else if (s.ended)
            codes[s.code & 255]++;
    }
    fprintf(stderr, "  others: ");
    for (int i = 0; i < 256; i++)
        if (codes[i]) fprintf(stderr, "%s%d with exit code %d", comma, codes[i], i), comma = ", ";
    for (int i = 0; i < 65; i++)
        if (signals[i]) fprintf(stderr, "%s%d by signal %d", comma, signals[i], i), comma = ", ";
    if (unended)
        fprintf(stderr, "%s%d killed by the launcher or with their host", comma, unended),
            comma = ", ";
    if (missing) fprintf(stderr, "%s%d never started", comma, missing), comma = ", ";
    fprintf(stderr, "%s\n", *comma ? "" : "none");
}

int run_report(const char *directory, int ranks, int launcher_status, double seconds) {
    run_rank_status first = {0};
    char path[RUN_PATH], how[256];
    int at = -1;
    for (int k = 0; k < ranks; k++) {
        run_rank_status s;
        run_rank_read(directory, k, &s);
        if (failed(&s) && (at < 0 || s.ended_s < first.ended_s)) first = s, at = k;
    }
    int code =
        WIFEXITED(launcher_status) ? WEXITSTATUS(launcher_status) : 128 + WTERMSIG(launcher_status);
    if (at < 0 && code == 0) return 0;
    if (at >= 0 && first.code == RUN_STOPPED) return RUN_STOPPED;
    fflush(stdout);
    fprintf(stderr, "par run: the job failed after %.1f s\n", seconds);
    if (at < 0) {
        fprintf(stderr, "  no rank said how it ended; the launcher ended with %d and said:\n",
                code);
        snprintf(path, sizeof path, "%.900s/launcher.err", directory);
        if (!show_tail(path, 12)) fprintf(stderr, "      nothing\n");
    } else {
        describe(&first, how, sizeof how);
        fprintf(stderr, "  first: rank %d on %s, process %ld: %s; it said last:\n", at, first.host,
                first.pid, how);
        run_rank_file(path, directory, at, "err");
        if (!show_tail(path, 6)) {
            run_rank_file(path, directory, at, "out");
            if (!show_tail(path, 3)) fprintf(stderr, "      nothing\n");
        }
        count_others(directory, ranks, at);
        code = first.signal ? 128 + first.signal : first.code;
    }
    fprintf(stderr, "  output of every rank: %s\n", directory);
    return code ? code : EXIT_FAILURE;
}
