/* Who waits for whom. See hang.h. */
#define _GNU_SOURCE
#include "hang.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

void par__page_path(char *path, size_t nbytes, const char *directory, int rank) {
    snprintf(path, nbytes, "%s/rank_%05d.page", directory, rank);
}

/* Times and counts, which are computed with: a page may be of anything that writes files. */
static bool has_counts(const par__flight *page) {
    bool good = page->beat >= 0 && page->told >= 0 && page->cpu >= 0 && page->wait_number >= 0;
    for (int i = 0; i < PAR__FLIGHT_AXES; i++)
        good = good && page->axes[i].n_started >= 0 && page->axes[i].n_done >= 0;
    return good;
}

bool par__page_read(const char *directory, int rank, int64_t run, par__flight *out) {
    char path[4200];
    par__flight page;
    par__page_path(path, sizeof path, directory, rank);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = pread(fd, &page, sizeof page, 0);
    close(fd);
    if (n != (ssize_t)sizeof page || memcmp(page.magic, PAR__FLIGHT_MAGIC, 8) != 0 ||
        !has_counts(&page) || page.rank != rank || (run != 0 && page.run != run))
        return false;
    page.host[sizeof page.host - 1] = 0;
    for (int i = 0; i < PAR__FLIGHT_AXES; i++) {
        par__flight_axis *a = &page.axes[i];
        a->axis[sizeof a->axis - 1] = 0;
        for (int k = 0; k < PAR__FLIGHT_OPS; k++)
            a->ops[k].op[sizeof a->ops[k].op - 1] = a->ops[k].purpose[31] = 0;
    }
    *out = page;
    return true;
}

char par__process_state(int64_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *end = strrchr(text, ')'); /* "pid (name) state ..." */
    return end && end[1] == ' ' ? end[2] : 0;
}

void par__page_process(par__seen *seen, const char *host) {
    const par__flight *page = &seen->page;
    seen->sign = PAR__RANK_ALIVE;
    seen->runs = false;
    if (strcmp(page->host, host) != 0) return;
    if (kill((pid_t)page->pid, 0) != 0 && errno == ESRCH) seen->sign = PAR__RANK_GONE;
    switch (par__process_state(page->pid)) {
    case 'R':
    case 'D': seen->runs = true; break;
    case 'T':
    case 't': seen->sign = PAR__RANK_STOPPED; break;
    case 'Z':
    case 'X': seen->sign = PAR__RANK_GONE; break;
    default: break;
    }
}

/* Its part in a group of another rank's; NULL: it is not in it. */
static const par__flight_axis *same_group(const par__flight *page, const par__flight_axis *group) {
    for (int i = 0; i < PAR__FLIGHT_AXES; i++) {
        const par__flight_axis *a = &page->axes[i];
        if (*a->axis && strcmp(a->axis, group->axis) == 0 && a->first == group->first &&
            a->n == group->n)
            return a;
    }
    return NULL;
}

/* Whether it may be one that has not made this group yet: some are missing there, and it has no
 * group of that axis. */
static bool is_missing(const par__hang *h, const par__flight *page, const par__flight_axis *group) {
    int n_made = 0;
    for (int i = 0; i < PAR__FLIGHT_AXES; i++)
        if (strcmp(page->axes[i].axis, group->axis) == 0) return false;
    for (int k = 0; k < h->size && group->n < h->size; k++)
        n_made += same_group(&h->ranks[k].page, group) != NULL;
    return n_made < group->n;
}

static bool is_waiting(const par__seen *r) {
    return r->sign == PAR__RANK_ALIVE && r->page.wait != PAR__WAIT_NONE &&
           r->page.phase != PAR__PHASE_ENDED;
}

/* Rank i waits for rank k. */
static bool waits_for(const par__hang *h, int i, int k) {
    const par__flight *a = &h->ranks[i].page;
    const par__seen *other = &h->ranks[k];
    if (i == k) return false;
    if (a->wait == PAR__WAIT_PEER) return a->wait_peer == k;
    if (a->wait == PAR__WAIT_ALL)
        return other->sign != PAR__RANK_ALIVE || other->page.wait != PAR__WAIT_ALL;
    if (other->sign == PAR__RANK_UNSEEN) return false;
    for (int g = 0; g < PAR__FLIGHT_AXES; g++) {
        bool asked =
            a->wait == PAR__WAIT_DEVICE || (a->wait == PAR__WAIT_GROUP && a->wait_axis == g);
        if (!asked || !*a->axes[g].axis) continue;
        /* In the group, and it has started fewer collectives, or moves nothing: who waits moves all
         * that he has started. */
        const par__flight_axis *theirs = same_group(&other->page, &a->axes[g]);
        if (theirs ? !is_waiting(other) || theirs->n_collectives < a->axes[g].n_collectives
                   : is_missing(h, &other->page, &a->axes[g]))
            return true;
    }
    return false;
}

/* Depth first; true: somebody at the end of the waiting was found. */
static bool follow(par__hang *h, int i, bool *visited) {
    bool found = false;
    if (visited[i]) return false;
    visited[i] = true;
    if (!is_waiting(&h->ranks[i])) return h->ranks[i].culprit = true;
    for (int k = 0; k < h->size; k++)
        if (waits_for(h, i, k)) found = follow(h, k, visited) || found;
    return found;
}

/* Where one is gone, those that work may still arrive, or were ended with the rest of the job. */
static void leave_the_gone(par__hang *h) {
    bool gone = false;
    for (int i = 0; i < h->size; i++)
        gone = gone || (h->ranks[i].culprit && h->ranks[i].sign == PAR__RANK_GONE);
    for (int i = 0; gone && i < h->size; i++)
        if (h->ranks[i].sign == PAR__RANK_ALIVE) h->ranks[i].culprit = false;
}

void par__hang_find(par__hang *h, int rank) {
    bool visited[4096] = {false}, found = false;
    h->n_culprits = 0;
    h->circle = false;
    for (int i = 0; i < h->size; i++) {
        h->ranks[i].culprit = rank < 0 && h->ranks[i].sign == PAR__RANK_GONE;
        found = found || h->ranks[i].culprit;
    }
    for (int i = 0; i < h->size && i < 4096; i++)
        if ((rank < 0 || rank == i) && is_waiting(&h->ranks[i]))
            found = follow(h, i, visited) || found;
    /* Nobody is at the end: who was visited, and who waits in a collective of the same group. */
    for (int i = 0; !found && i < h->size && i < 4096; i++) {
        const par__flight *a = &h->ranks[i].page;
        if (!visited[i]) continue;
        h->ranks[i].culprit = true;
        if (a->wait != PAR__WAIT_GROUP || a->wait_axis < 0 || a->wait_axis >= PAR__FLIGHT_AXES)
            continue;
        for (int k = 0; k < h->size; k++)
            if (is_waiting(&h->ranks[k]) && same_group(&h->ranks[k].page, &a->axes[a->wait_axis]))
                h->ranks[k].culprit = true;
    }
    leave_the_gone(h);
    for (int i = 0; i < h->size; i++) h->n_culprits += h->ranks[i].culprit;
    h->circle = !found && h->n_culprits > 0;
}

typedef struct {
    char *text;
    size_t nbytes, used;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (w->used < w->nbytes) {
        int n = vsnprintf(w->text + w->used, w->nbytes - w->used, format, args);
        if (n > 0) w->used += (size_t)n;
    }
    va_end(args);
}

static void put_place(writer *w, const par__flight *p) {
    static const char *const phases[PAR__PHASES] = {[PAR__PHASE_OUTSIDE] = "outside of libpar",
                                                    [PAR__PHASE_START] = "the start",
                                                    [PAR__PHASE_CREATE] = "creating a trainer",
                                                    [PAR__PHASE_STEP] = "a step",
                                                    [PAR__PHASE_DATA] = "reading data",
                                                    [PAR__PHASE_EVALUATE] = "an evaluation",
                                                    [PAR__PHASE_GENERATE] = "generating text",
                                                    [PAR__PHASE_LOAD] = "loading",
                                                    [PAR__PHASE_SAVE] = "saving",
                                                    [PAR__PHASE_ENDED] = "ended"};
    static const char *const acts[] = {"forward", "backward", "send",
                                       "receive", "reduce",   "gather"};
    bool known = p->phase >= 0 && p->phase < PAR__PHASES;
    put(w, "%s", known ? phases[p->phase] : "an unknown phase");
    if (p->step > 0) put(w, ", %lld begun", (long long)p->step);
    if (p->act < 1 || p->act > 6) return;
    put(w, ", %s", acts[p->act - 1]);
    if (p->chunk >= 0) put(w, " of chunk %d, micro-batch %d", p->chunk, p->micro);
    if (p->layer >= 0) put(w, ", module %d", p->layer);
}

static void put_op(writer *w, const par__flight_axis *a, int64_t number) {
    const par__flight_op *op = &a->ops[number % PAR__FLIGHT_OPS];
    put(w, "%s %s", a->axis, op->number == number ? op->op : "operation");
    if (op->number == number && *op->purpose) put(w, " of %s", op->purpose);
    if (op->number == number && op->layer >= 0) put(w, ", layer %d", op->layer);
    if (op->number == number && op->micro >= 0) put(w, ", micro-batch %d", op->micro);
    put(w, ", number %lld", (long long)number);
}

/* The comm on which it started an operation that has not ended, else the one with most of them. */
static const par__flight_axis *last_axis(const par__flight *p) {
    const par__flight_axis *best = NULL;
    for (int i = 0; i < PAR__FLIGHT_AXES; i++) {
        const par__flight_axis *a = &p->axes[i];
        if (!*a->axis || a->n_started == 0) continue;
        if (!best || (a->n_done < a->n_started) > (best->n_done < best->n_started) ||
            ((a->n_done < a->n_started) == (best->n_done < best->n_started) &&
             a->n_started > best->n_started))
            best = a;
    }
    return best;
}

static void put_wait(writer *w, const par__flight *p) {
    switch (p->wait) {
    case PAR__WAIT_ALL: put(w, "; waits for all ranks"); return;
    case PAR__WAIT_DEVICE: put(w, "; waits for its device"); break;
    case PAR__WAIT_PEER:
    case PAR__WAIT_GROUP:
        if (p->wait_axis < 0 || p->wait_axis >= PAR__FLIGHT_AXES) return;
        put(w, "; waits in ");
        put_op(w, &p->axes[p->wait_axis], p->wait_number);
        if (p->wait == PAR__WAIT_PEER) put(w, ", for rank %d", p->wait_peer);
        return;
    default: break;
    }
    const par__flight_axis *a = last_axis(p);
    if (!a) return;
    put(w, "; did last: ");
    put_op(w, a, a->n_started);
    put(w, a->n_done < a->n_started ? ", not ended" : ", ended");
}

static void put_rank(writer *w, const par__seen *r, int rank) {
    const par__flight *p = &r->page;
    if (r->sign == PAR__RANK_UNSEEN) {
        put(w, "  rank %d: no page; it has not begun, or its host shares no files with this one\n",
            rank);
        return;
    }
    put(w, "  rank %d, host %s, pid %lld: ", rank, p->host, (long long)p->pid);
    if (r->sign == PAR__RANK_STOPPED) put(w, "STOPPED for %.1f s; ", r->silent_s);
    if (r->sign == PAR__RANK_GONE) put(w, "GONE; ");
    if (p->told) put(w, "was told to end; ");
    put_place(w, p);
    put_wait(w, p);
    put(w, "\n");
}

/* On one host messages arrive. */
static void put_circle(writer *w, const par__hang *h) {
    const char *hosts[2] = {"", ""};
    int n = 0; /* hosts of the culprits */
    for (int i = 0; i < h->size; i++) {
        bool known = !h->ranks[i].culprit;
        for (int k = 0; k < i && !known; k++)
            known =
                h->ranks[k].culprit && strcmp(h->ranks[k].page.host, h->ranks[i].page.host) == 0;
        if (known) continue;
        if (n < 2) hosts[n] = h->ranks[i].page.host;
        n++;
    }
    put(w, " wait for each other: ");
    if (n == 2) put(w, "nothing comes through between hosts %s and %s, or ", hosts[0], hosts[1]);
    if (n > 2) put(w, "nothing comes through between some of %d hosts, or ", n);
    put(w, "they started different operations (--check-comm names them before they hang)");
}

static void put_names(writer *w, const par__hang *h) {
    const char *separator = " ";
    put(w, h->n_culprits > 1 ? "ranks" : "rank");
    for (int i = 0; i < h->size; i++) {
        if (!h->ranks[i].culprit) continue;
        put(w, "%s%d", separator, i);
        separator = ", ";
    }
}

/* Who waited for nobody worked when all were killed, and need not be the one that went first. */
static void put_unknown(writer *w, const par__hang *h) {
    put(w,
        "all ranks are gone, within a second or two, and nothing told them to end: which one was "
        "first is not known here; the launcher may have said it");
    if (h->n_culprits > 0 && !h->circle) {
        put(w, "; ");
        put_names(w, h);
        put(w, " waited for nobody");
    }
    put(w, "\n");
}

static void put_culprits(writer *w, const par__hang *h, double waited_s) {
    if (h->moved_s > 0)
        put(w, "the run moves: some ranks went on within %.1f s", h->moved_s);
    else if (h->n_culprits == 0)
        put(w, "no rank waits for one that does not arrive");
    else if (waited_s > 0)
        put(w, "nothing has moved for %.1f s: ", waited_s);
    if (h->n_culprits > 0) put_names(w, h);
    if (h->circle)
        put_circle(w, h);
    else if (h->n_culprits > 0)
        put(w, " did not arrive");
    put(w, "\n");
}

void par__hang_print(const par__hang *h, double waited_s, char *text, size_t nbytes) {
    writer w = {text, nbytes, 0};
    if (h->all_gone == PAR__GONE_TOLD) put(&w, "all ranks are gone, told to end by a signal: ");
    if (h->all_gone == PAR__GONE_UNTOLD)
        put_unknown(&w, h);
    else
        put_culprits(&w, h, waited_s);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < h->size; i++)
            if (h->ranks[i].culprit == (pass == 0)) put_rank(&w, &h->ranks[i], i);
}
