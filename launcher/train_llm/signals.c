/*
 * What asks a training to save or to stop: signals, a file, a limit of time; and a stdout that
 * closes, which asks for nothing. A signal reaches ranks at different times, the file and the clock
 * are rank 0's: each only makes a wish, the step's vote carries it to all, and one more agreement
 * says what was asked.
 */
#define _XOPEN_SOURCE 700
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "observe.h"
#include "process.h"

static volatile sig_atomic_t asked_to_save, asked_to_stop;
static volatile sig_atomic_t over; /* the training is: there is nothing to save, or to wait for */

/* What the handler says at once on rank 0, since mpirun may kill it a second later. The handler
 * reads the one that `said` points to, while the other is written. */
static char texts[2][1200];
static const char *volatile said = texts[0];

/* s, on rank 0's clock. */
static struct {
    double looked, longest;   /* at the last look; between two looks, saves left out */
    double file_looked, save; /* at the stop file; the last save took, negative: there was none */
} seconds = {.save = -1};

static void on_signal(int number) {
    int error = errno;
    const char *text = said;
    if (number == SIGTERM) llm_watch_told();
    if (number == SIGUSR1) {
        asked_to_save = 1;
    } else if (!asked_to_stop) {
        asked_to_stop = 1;
        if (*text && write(STDERR_FILENO, text, strlen(text)) < 0) errno = error;
    } else if (over) {
        _exit(EXIT_STOPPED);
    }
    errno = error;
}

/*
 * On a stack of their own: a signal that interrupts a generated GEMM kernel was seen to leave its
 * frame in the heap, as such kernels may use the stack pointer for other things. 64 KiB hold the
 * frame of any register set.
 */
void llm_signals_begin(void) {
    static char stack[1 << 16];
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&own, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file at the limit of its size is an error of write */
    signal(SIGPIPE, SIG_IGN); /* so is a pipe that nobody reads */
    par_guard_files();
}

void llm_signals_catch(const llm_run *r, const llm_world *w) {
    const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    llm_signals_newest(r, w);
    seconds.looked = llm_world_seconds();
    bool nohup = process_ignores_hangup();
    for (int i = 0; i < 4 + !nohup; i++) sigaction(numbers[i], &action, NULL);
    if (nohup) signal(SIGHUP, SIG_IGN);
}

void llm_signals_newest(const llm_run *r, const llm_world *w) {
    char *text = said == texts[0] ? texts[1] : texts[0];
    if (w->rank != 0) return;
    if (!r->set.save)
        snprintf(text, sizeof texts[0], "train_llm: a signal: stopping after this step\n");
    else if (!*r->newest)
        snprintf(text, sizeof texts[0],
                 "train_llm: a signal: saving and stopping after this step; there is no checkpoint "
                 "yet\n");
    else
        snprintf(text, sizeof texts[0],
                 "train_llm: a signal: saving and stopping after this step; the newest checkpoint "
                 "so far is %s\n",
                 r->newest);
    said = text;
}

void llm_signals_quiet(void) {
    said = "";
}

par_status llm_signals_over(const llm_run *r, const llm_world *w) {
    char *text = said == texts[0] ? texts[1] : texts[0];
    if (w->rank == 0)
        snprintf(text, sizeof texts[0],
                 "train_llm: a signal: the training is over, and the sample is left out%s%s\n",
                 *r->newest ? "; the newest checkpoint is " : "", r->newest);
    said = text;
    over = 1;
    return llm_signals_drawing(w);
}

par_status llm_signals_drawing(const llm_world *w) {
    static const par_tag tag = {"signals", -1, -1, -1};
    int32_t asked = asked_to_stop, sum;
    if (!over) return PAR_OK;
    PAR_TRY(par_comm_all_reduce(w->comm, &asked, &sum, 1, PAR_I32, tag, NULL, NULL));
    if (sum == 0) return PAR_OK;
    if (w->rank == 0) printf("stopped by a signal after the last step\n");
    return par_error_set(PAR_ERR_STOPPED, "by a signal, after the last step");
}

void llm_signals_saved(double took, double waited) {
    seconds.save = took;
    seconds.looked += waited;
}

/* "3h50m", "90m", "1d12h", "45s", "45": in seconds; 0: it is none. */
double llm_signals_duration(const char *text) {
    static const struct {
        char unit;
        double seconds;
    } units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    double sum = 0;
    size_t next = 0; /* units go down */
    while (*text) {
        char *end;
        if (!isdigit((unsigned char)*text)) return 0;
        double number = strtod(text, &end);
        char unit = *end ? *end : 's';
        while (next < 4 && units[next].unit != unit) next++;
        if (next == 4) return 0;
        sum += number * units[next++].seconds;
        text = *end ? end + 1 : end;
    }
    return sum;
}

/* A save must fit before the limit: the longest time that a step or a batch of a validation took,
 * what the last save took and a quarter; before the first save, a twentieth of the limit, at most a
 * minute. Twice that while another is under way, which must end first. */
static double margin(const llm_run *r, double now, double limit) {
    double first = limit / 20 < 60 ? limit / 20 : 60;
    double save = seconds.save < 0 ? first : 1.25 * seconds.save;
    if (r->behind.under_way && save < now - r->behind.since) save = now - r->behind.since;
    return seconds.longest + (r->behind.under_way ? 2 * save : save);
}

par_status llm_signals_check_file(const llm_run *r, llm_world *w) {
    par_status st = PAR_OK;
    if (w->rank == 0 && *r->stop_file && access(r->stop_file, F_OK) == 0)
        st = par_error_set(PAR_ERR_IO,
                           "%s: is there, and stops a training; legal: to remove it, or another "
                           "name (--stop-file)",
                           r->stop_file);
    return llm_world_agree(w, st);
}

int llm_signals_asked(const llm_run *r, const llm_world *w) {
    double now = llm_world_seconds(), limit = r->exit_after_s, left, whole;
    if (now - seconds.looked > seconds.longest) seconds.longest = now - seconds.looked;
    seconds.looked = now;
    if (asked_to_stop) return LLM_ASKED_STOP;
    if (w->rank == 0) {
        if (limit > 0 && now - w->start + margin(r, now, limit) >= limit)
            return LLM_ASKED_STOP_TIME;
        if (llm_cost_lasts(r, w, &left, &whole) && margin(r, now, whole) >= left)
            return LLM_ASKED_STOP_BUDGET;
        bool looks = *r->stop_file && now >= seconds.file_looked + 1;
        if (looks) seconds.file_looked = now;
        if (looks && access(r->stop_file, F_OK) == 0) return LLM_ASKED_STOP_FILE;
    }
    return asked_to_save ? LLM_ASKED_SAVE : LLM_ASKED_NOTHING;
}

par_status llm_signals_agree(const llm_run *r, const llm_world *w, int *asked) {
    static const par_tag tag = {"signals", -1, -1, -1};
    int32_t wishes[LLM_ASKED_COUNT] = {0};
    seconds.file_looked = 0;
    wishes[llm_signals_asked(r, w)] = 1;
    if (asked_to_save) { /* one that comes here is the same wish; one that comes later stays */
        asked_to_save = 0;
        wishes[LLM_ASKED_SAVE] = 1;
    }
    PAR_TRY(
        par_comm_all_reduce(w->comm, wishes, wishes, LLM_ASKED_COUNT, PAR_I32, tag, NULL, NULL));
    for (int i = *asked + 1; i < LLM_ASKED_COUNT; i++)
        if (wishes[i]) *asked = i;
    return PAR_OK;
}

par_status llm_signals_stop(const llm_run *r, const llm_world *w, int asked, int64_t step) {
    char why[1200];
    if (asked == LLM_ASKED_STOP_FILE)
        snprintf(why, sizeof why, "the file %s", r->stop_file);
    else if (asked == LLM_ASKED_STOP_TIME)
        snprintf(why, sizeof why, "--exit-after %s", r->set.exit_after);
    else if (asked == LLM_ASKED_STOP_BUDGET)
        snprintf(why, sizeof why, "--budget %g", r->set.budget);
    else
        snprintf(why, sizeof why, "a signal");
    if (w->rank == 0) printf("stopped by %s after step %lld\n", why, (long long)step);
    return par_error_set(PAR_ERR_STOPPED, "by %s, after step %lld", why, (long long)step);
}

void llm_signals_check_stdout(const llm_run *r) {
    if (process_prints()) return;
    fprintf(stderr, "train_llm: nobody reads what is printed any more: training goes on%s%s%s\n",
            r->set.log ? "; every step is in " : "", r->set.log ? r->set.log : "",
            r->set.save ? "; a signal ends it with a checkpoint" : "");
}
