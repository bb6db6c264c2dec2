/* What is said of a job that failed: one block, with the rank that failed first. */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "par_tool.h"
#include "run.h"

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

/* What a rank that was killed did: its page, if the run left any beside its log. */
static void show_page(const char *directory, int rank) {
    static char text[1 << 20];
    char run[RUN_PATH], pages[RUN_PATH + 512], start[32];
    const char *end = strrchr(directory, '/');
    snprintf(run, sizeof run, "%.*s", end ? (int)(end - directory) : 1, end ? directory : ".");
    par_pages_find(run, pages, sizeof pages);
    if (strcmp(pages, run) == 0 || par_watchdog_diagnose(pages, text, sizeof text) != PAR_OK)
        return;
    snprintf(start, sizeof start, "  rank %d, ", rank);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, start, strlen(start)) == 0)
            fprintf(stderr, "  where it was: %.*s\n", (int)strcspn(line + 2, "\n"), line + 2);
    }
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

/* What a rank said last; 0 if it said nothing. */
static int show_words(const char *directory, int rank) {
    char path[RUN_PATH];
    run_rank_file(path, directory, rank, "err");
    if (show_tail(path, 6)) return 1;
    run_rank_file(path, directory, rank, "out");
    return show_tail(path, 3);
}

/* Where ranks agree on an error, one of them alone says it, and that need not be the first to end:
 * of those that ended like the first, the lowest that wrote to standard error; else of those that
 * the launcher ended before they could end like it. */
static int show_cause(const char *directory, int ranks, const run_rank_status *first) {
    char path[RUN_PATH];
    struct stat info;
    for (int k = 0; k < 2 * ranks && !first->signal; k++) {
        run_rank_status s;
        int rank = k % ranks;
        bool killed = k >= ranks;
        run_rank_read(directory, rank, &s);
        run_rank_file(path, directory, rank, "err");
        bool like = killed ? !s.ended || s.signal : s.ended && s.code == first->code;
        if (!like || stat(path, &info) != 0 || !info.st_size) continue;
        fprintf(stderr, "      nothing; rank %d, which %s:\n", rank,
                killed ? "the launcher then ended" : "ended like it");
        return show_tail(path, 6);
    }
    return 0;
}

int run_report(const char *directory, int ranks, int launcher_status, double seconds, bool may_stop,
               double killed) {
    run_rank_status first = {0};
    char path[RUN_PATH], how[256];
    int at = -1;
    for (int k = 0; k < ranks; k++) {
        run_rank_status s;
        run_rank_read(directory, k, &s);
        bool failed = s.ended && (s.code || s.signal);
        if (failed && (at < 0 || s.ended_s < first.ended_s)) first = s, at = k;
    }
    int code =
        WIFEXITED(launcher_status) ? WEXITSTATUS(launcher_status) : 128 + WTERMSIG(launcher_status);
    if (at < 0 && code == 0) return 0;
    if (at >= 0 && first.code == RUN_STOPPED && may_stop) return RUN_STOPPED;
    fflush(stdout);
    bool was_killed = isfinite(killed) && (at < 0 || first.ended_s >= killed);
    fprintf(stderr,
            was_killed ? "par run: the job was killed after %.1f s, as it was asked twice\n"
                       : "par run: the job failed after %.1f s\n",
            seconds);
    if (was_killed) {
        code = 128 + (first.signal ? first.signal : SIGKILL);
    } else if (at < 0) {
        fprintf(stderr, "  no rank said how it ended; the launcher ended with %d and said:\n",
                code);
        snprintf(path, sizeof path, "%.900s/launcher.err", directory);
        if (!show_tail(path, 12)) fprintf(stderr, "      nothing\n");
    } else {
        if (first.signal)
            snprintf(how, sizeof how, "killed by signal %d (%s%s)", first.signal,
                     strsignal(first.signal),
                     first.signal == 9 ? "; often the kernel, out of memory" : "");
        else
            snprintf(how, sizeof how, "exit code %d", first.code);
        fprintf(stderr, "  first: rank %d on %s, process %ld: %s; it said last:\n", at, first.host,
                first.pid, how);
        if (!show_words(directory, at) && !show_cause(directory, ranks, &first))
            fprintf(stderr, "      nothing\n");
        show_page(directory, at);
        count_others(directory, ranks, at);
        code = first.signal ? 128 + first.signal : first.code;
    }
    fprintf(stderr, "  output of every rank: %s\n", directory);
    return code ? code : EXIT_FAILURE;
}
