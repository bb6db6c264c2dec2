/* Pages read from outside: of ranks that run, are stopped, or are gone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "hang.h"
#include "libpar/base/clock.h"
#include "par/watchdog.h"

/* A rank whose watchdog was silent for so long, s, when the others' were not, had gone before. */
static const double BEFORE_S = 1.2;
/* Where watchdogs have looked within RECENT_NS, ranks may move: pages are read once more LOOK_S
 * later. */
static const int64_t RECENT_NS = 5000000000;
static const double LOOK_S = 0.5;
/* A signal that was longer ago than this, ns, was about something else. */
static const int64_t TOLD_NS = 5000000000;

/* Any page tells the world's size. */
static int size_of(const char *directory) {
    int rank, size = 0;
    DIR *d = opendir(directory);
    static par__flight page;
    for (struct dirent *e; d && size == 0 && (e = readdir(d));)
        if (sscanf(e->d_name, "rank_%d.page", &rank) == 1 &&
            par__page_read(directory, rank, 0, &page))
            size = page.size;
    if (d) closedir(d);
    return size;
}

/* The rank that watchdogs saw gone first, where all have gone, and that nobody had told to end, as
 * who ends a job does; -1: there is none. */
static int witnessed(const par__hang *h) {
    int64_t first = 0;
    for (int r = 0; r < h->size; r++) {
        const par__seen *s = &h->ranks[r];
        if (s->sign == PAR__RANK_UNSEEN || s->page.witness <= 0) continue;
        if (first && first != s->page.witness) return -1;
        first = s->page.witness;
    }
    if (first < 1 || first > h->size) return -1;
    const par__seen *s = &h->ranks[first - 1];
    return s->sign == PAR__RANK_GONE && s->page.told == 0 ? (int)first - 1 : -1;
}

/* Pages and signs. A rank that was told to end is gone because another one is. Where all are gone
 * and none was told, as some launchers kill at once, those count as waiting that went last, or all
 * but the one that was seen gone first. */
static void read_all(const char *directory, par__hang *h) {
    char host[64] = "";
    int64_t newest = 0;
    int alive = 0, told = 0, untold = 0; /* gone */
    gethostname(host, sizeof host - 1);
    for (int r = 0; r < h->size; r++) {
        par__seen *s = &h->ranks[r];
        s->sign = PAR__RANK_UNSEEN;
        if (!par__page_read(directory, r, 0, &s->page)) continue;
        par__page_process(s, host);
        if (s->page.phase == PAR__PHASE_ENDED) s->sign = PAR__RANK_ALIVE;
        if (s->page.beat > newest) newest = s->page.beat;
        if (s->page.told > newest) newest = s->page.told;
    }
    int64_t now = par__date_nanoseconds();
    bool marked = false; /* one that is not like the others */
    for (int r = 0; r < h->size; r++) {
        par__seen *s = &h->ranks[r];
        if (s->page.told < newest - TOLD_NS) s->page.told = 0;
        alive += s->sign == PAR__RANK_ALIVE && s->page.phase != PAR__PHASE_ENDED;
        told += s->sign == PAR__RANK_GONE && s->page.told;
        untold += s->sign == PAR__RANK_GONE && !s->page.told;
    }
    int first = alive == 0 ? witnessed(h) : -1;
    for (int r = 0; r < h->size; r++) {
        par__seen *s = &h->ranks[r];
        double before = 1e-9 * (double)(newest - s->page.beat);
        s->silent_s = 1e-9 * (double)(now - s->page.beat);
        bool last = told == 0 && alive == 0 && before < BEFORE_S;
        bool other = first >= 0 ? r != first : s->page.told || last;
        if (s->sign == PAR__RANK_GONE && other)
            s->sign = PAR__RANK_ALIVE;
        else if (s->sign == PAR__RANK_ALIVE && s->page.phase != PAR__PHASE_ENDED && before > 10)
            s->sign = PAR__RANK_STOPPED; /* on another host */
        marked = marked || s->sign != PAR__RANK_ALIVE;
    }
    if (alive == 0 && told + untold > 0 && !marked)
        h->all_gone = told > 0 ? PAR__GONE_TOLD : PAR__GONE_UNTOLD;
}

static bool is_recent(const par__hang *h) {
    int64_t now = par__date_nanoseconds();
    for (int r = 0; r < h->size; r++) {
        const par__seen *s = &h->ranks[r];
        int64_t ago = now - s->page.beat;
        if (s->sign == PAR__RANK_ALIVE && s->page.phase != PAR__PHASE_ENDED && ago >= 0 &&
            ago < RECENT_NS)
            return true;
    }
    return false;
}

/* A look at ranks that move shows no state that they were in together. */
static par_status look_again(const char *directory, par__hang *h) {
    const struct timespec pause = {.tv_nsec = (long)(1e9 * LOOK_S)};
    int64_t *progress = malloc((size_t)h->size * sizeof *progress);
    if (!progress) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d ranks", h->size);
    for (int r = 0; r < h->size; r++) progress[r] = h->ranks[r].page.progress;
    nanosleep(&pause, NULL);
    read_all(directory, h);
    for (int r = 0; r < h->size; r++)
        if (h->ranks[r].page.progress != progress[r]) h->moved_s = LOOK_S;
    free(progress);
    return PAR_OK;
}

par_status par_watchdog_diagnose(const char *directory, char *text, size_t nbytes) {
    PAR_REQUIRE(directory && text && nbytes > 0);
    par__hang h = {.size = size_of(directory)};
    if (h.size <= 0 || h.size > 4096)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: there are no pages of ranks in it; legal: a run's directory, its log, its "
                 "directory of checkpoints, or the folder that a report of a hang named",
                 directory);
    h.ranks = calloc((size_t)h.size, sizeof *h.ranks);
    if (!h.ranks) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d pages", h.size);
    read_all(directory, &h);
    par_status st = is_recent(&h) ? look_again(directory, &h) : PAR_OK;
    if (h.moved_s == 0) par__hang_find(&h, -1);
    if (st == PAR_OK) par__hang_print(&h, 0, text, nbytes);
    free(h.ranks);
    return st;
}
