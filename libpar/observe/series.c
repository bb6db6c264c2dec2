/*
 * A series that is appended to, and that a resumed run continues: see par/series.h. The invariant:
 * a file is only ever cut at the end of a record, and only after it has shown that it is this
 * run's.
 */
#define _POSIX_C_SOURCE 200809L
#include "libpar/observe/series.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libpar/base/directory.h"
#include "libpar/base/file.h"

struct par_series {
    const par__series_form *form;
    int file;
    char path[PAR__PATH];
};

/* What a walk over a file found. */
typedef struct {
    size_t whole;        /* bytes of complete records */
    size_t keep;         /* bytes up to the first point after the start, of the last run */
    size_t wrong;        /* where the start's step has another loss; 0: nowhere */
    bool later;          /* there is such a point */
    bool earlier;        /* there is one of a step before the start's */
    bool anchored;       /* the start's step has the start's loss */
    bool has_validation; /* after the start's step */
} walk;

static par_status refuse(const char *path, size_t at, const char *why) {
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: offset %zu: %s; it was left as it is; legal: this run's file, or a name that is "
             "not there yet",
             path, at, why);
}

/* Points of this step and later ones do not count any more. */
static void forget(walk *w, int64_t step, const par_series_start *start) {
    if (step <= start->step)
        *w = (walk){.whole = w->whole};
    else if (step == start->step + 1)
        w->later = false;
}

/* A point of the last run so far. */
static void take(walk *w, const par_series_point *p, bool same, size_t at,
                 const par_series_start *start) {
    if (p->step > start->step && !w->later) {
        w->later = true;
        w->keep = at;
        w->anchored |= start->again && !w->earlier && !p->validation && p->step == start->step + 1;
    }
    w->earlier |= p->step < start->step;
    if (p->step != start->step) return;
    if (p->validation)
        w->has_validation = true;
    else if (same)
        w->anchored = true;
    else
        w->wrong = at;
}

/* All records; of a new run only that they are such, and where the last complete one ends. Where
 * steps begin anew without a restart, another run begins. */
static par_status scan(const par__series_form *form, const char *path, const unsigned char *text,
                       size_t n, const par_series_start *start, walk *w) {
    int64_t before = 0;
    for (size_t at = 0, length = 0; at < n; at += length) {
        par_series_point p;
        par__series_found found = form->read(text + at, n - at, &p, &length);
        if (found == PAR__SERIES_CUT && at > 0) break;
        if (found == PAR__SERIES_BROKEN || found == PAR__SERIES_CUT ||
            (at == 0 && found != PAR__SERIES_NONE))
            return refuse(path, at, "is not a record of a run's numbers");
        w->whole = at + length;
        if (found == PAR__SERIES_NONE || start->step == 0) continue;
        if (found == PAR__SERIES_RESTART) {
            forget(w, p.step, start);
            before = p.step - 1;
            continue;
        }
        if (p.step < before || (p.step == before && !p.validation)) forget(w, 0, start);
        before = p.step;
        bool same = form->floats ? (float)p.loss == (float)start->loss : p.loss == start->loss;
        take(w, &p, same, at, start);
    }
    if (w->wrong)
        return refuse(path, w->wrong, "has another loss than the checkpoint: another run's");
    if (w->later && !w->anchored)
        return refuse(path, w->keep, "has later steps than the checkpoint's, and not that one");
    return PAR_OK;
}

/* Cuts off what will come again, or takes it back; writes the head of a file that is empty. */
static par_status begin(par_series *s, const par_series_start *start, walk *w) {
    const par__series_form *form = s->form;
    unsigned char record[PAR__SERIES_NBYTES];
    par__map map;
    PAR_TRY(par__map_open(s->path, &map));
    size_t nbytes = map.nbytes;
    par_status st = nbytes ? scan(form, s->path, map.data, nbytes, start, w) : PAR_OK;
    PAR_TRY(par__map_end(&map, s->path, st));
    size_t keep = w->later && !form->restart ? w->keep : w->whole;
    if (keep < nbytes && (ftruncate(s->file, (off_t)keep) != 0 || fsync(s->file) != 0))
        return par__write_error(s->path, "cut back");
    if (nbytes && !(w->later && form->restart)) return PAR_OK;
    size_t n = nbytes ? form->restart(start->step + 1, record) : form->head(record);
    return par__write(s->file, s->path, record, n);
}

static par_status open_file(const par__series_form *form, const char *path, int flags,
                            const par_series_start *start, bool *has_validation, par_series **out) {
    par_series *s = calloc(1, sizeof *s);
    walk w = {0};
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a series");
    s->form = form;
    snprintf(s->path, sizeof s->path, "%s", path);
    s->file = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | flags, 0666);
    par_status st =
        s->file >= 0 ? begin(s, start, &w) : par__write_error(path, "opened for appending");
    if (st != PAR_OK) {
        par_series_close(&s);
        return st;
    }
    if (has_validation) *has_validation = w.has_validation;
    *out = s;
    return PAR_OK;
}

par_status par_series_open_csv(const char *path, const par_series_start *start,
                               bool *has_validation, par_series **out) {
    PAR_REQUIRE(path && start && start->step >= 0 && out);
    return open_file(&par__series_csv, path, 0, start, has_validation, out);
}

/* The newest event file of ours in a directory, "": there is none. Times in names have as many
 * digits until 2286. */
static par_status newest(const char *directory, char name[256]) {
    static const char head[] = "events.out.tfevents.", tail[] = ".libpar";
    par_status st;
    DIR *folder;
    const char *next;
    name[0] = 0;
    PAR_TRY(par__list_open(directory, &folder));
    while ((st = par__list_next(&folder, directory, &next)) == PAR_OK && next) {
        size_t n = strlen(next);
        if (n < sizeof head + sizeof tail || n >= 256 ||
            strncmp(next, head, sizeof head - 1) != 0 ||
            strcmp(next + n - (sizeof tail - 1), tail) != 0)
            continue;
        if (strcmp(next, name) > 0) snprintf(name, 256, "%s", next);
    }
    return st;
}

par_status par_series_open_events(const char *directory, const par_series_start *start,
                                  bool *has_validation, par_series **out) {
    PAR_REQUIRE(directory && start && start->step >= 0 && out);
    char name[256] = "", path[PAR__PATH];
    bool there = false;
    PAR_TRY(par__make_directories(directory));
    if (start->step > 0) PAR_TRY(newest(directory, name));
    bool goes_on = *name;
    for (long long seconds = (long long)time(NULL);; seconds++) {
        if (!goes_on) snprintf(name, sizeof name, "events.out.tfevents.%010lld.libpar", seconds);
        PAR_TRY(par__path(path, directory, name));
        if (!goes_on) PAR_TRY(par__file_exists(path, &there));
        if (!there) break; /* the next second, where two runs began */
    }
    return open_file(&par__series_events, path, goes_on ? 0 : O_EXCL, start, has_validation, out);
}

par_status par_series_add(par_series *s, const par_series_point *point) {
    PAR_REQUIRE(s && point);
    unsigned char record[PAR__SERIES_NBYTES];
    size_t n = s->form->write(point, record);
    off_t before = lseek(s->file, 0, SEEK_END);
    par_status st = par__write(s->file, s->path, record, n);
    /* what a full disk took of a record is taken back */
    if (st != PAR_OK && before >= 0 && ftruncate(s->file, before) != 0) errno = 0;
    return st;
}

void par_series_close(par_series **handle) {
    if (!handle || !*handle) return;
    if ((*handle)->file >= 0) close((*handle)->file);
    free(*handle);
    *handle = NULL;
}
