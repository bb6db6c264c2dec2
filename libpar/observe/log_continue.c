/*
 * A log that a resumed run continues: the last run in it (from its last "start" line on) is cut
 * back to the checkpoint's step, and its losses are handed to the curve. The invariant: a file that
 * does not show that it is this run's log is left as it is, and a log that is cut is replaced
 * whole, so that no moment of a crash loses a record that stays.
 */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/file.h"
#include "par/observe.h"

static const char head[] = "{\"event\": \"", start[] = "{\"event\": \"start\"";

typedef struct {
    const char *path;
    int64_t step;
    double loss;
    const char *text; /* [n], the file */
    size_t n, whole;  /* bytes; those of complete lines */
    size_t run;       /* where the last run begins */
    int64_t lines;
    bool anchored; /* a record of `step` has `loss` */
} reading;

/* One line, parsed; event "" where it is not JSON or has none. */
typedef struct {
    char event[16];
    int64_t step; /* -1: has none */
    double loss;  /* NaN: has none */
} record;

static bool begins_with(const char *line, size_t n, const char *text) {
    return n >= strlen(text) && memcmp(line, text, strlen(text)) == 0;
}

static size_t line_nbytes(const reading *r, size_t at) {
    const char *end = memchr(r->text + at, '\n', r->n - at);
    return end ? (size_t)(end - (r->text + at)) + 1 : r->n - at;
}

static par_status refuse(const reading *r, const char *why) {
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: line %" PRId64
             " %s; it was left as it is; legal: this run's log, or a name that is "
             "not there yet",
             r->path, r->lines, why);
}

/* Every line is a record's beginning; a last one without its end is what a killed run left, if any
 * line was whole or it begins as ours do. */
static par_status scan(reading *r) {
    for (size_t at = 0; at < r->n;) {
        size_t n = line_nbytes(r, at);
        bool complete = r->text[at + n - 1] == '\n';
        size_t compared = n < strlen(head) ? n : strlen(head);
        r->lines++;
        if (complete ? !begins_with(r->text + at, n, head)
                     : !at && memcmp(r->text, head, compared) != 0)
            return refuse(r, "is not a record of a log");
        if (complete) r->whole = at + n;
        if (complete && begins_with(r->text + at, n, start)) r->run = at;
        at += n;
    }
    return PAR_OK;
}

static record parse(const char *line, size_t n) {
    record out = {.step = -1, .loss = NAN};
    const char *event = NULL;
    json_int_t step = -1;
    json_t *j = json_loadb(line, n, 0, NULL), *loss = json_object_get(j, "loss");
    if (json_unpack(j, "{s:s,s?I}", "event", &event, "step", &step) == 0) {
        snprintf(out.event, sizeof out.event, "%s", event);
        out.step = step;
        if (json_is_number(loss)) out.loss = json_number_value(loss);
    }
    json_decref(j);
    return out;
}

/* A loss is compared as bits are: the log holds every digit. */
static par_status take(reading *r, const record *line, par_log_history *h) {
    bool training = strcmp(line->event, "step") == 0,
         validation = strcmp(line->event, "validation") == 0;
    if (line->step > r->step) {
        h->n_dropped++;
        return PAR_OK;
    }
    if (line->step == r->step && (training || strcmp(line->event, "resume") == 0)) {
        if (line->loss != r->loss)
            return refuse(r, "has another loss than the checkpoint: another run's");
        r->anchored = true;
    }
    if (!training && !validation) return PAR_OK;
    if ((h->n & (h->n - 1)) == 0) { /* full at powers of two */
        par_log_point *more = realloc(h->points, (size_t)(h->n ? 2 * h->n : 1) * sizeof *more);
        if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the losses of a log");
        h->points = more;
    }
    h->points[h->n++] = (par_log_point){line->step, line->loss, validation};
    return PAR_OK;
}

static par_status walk(reading *r, par_log_history *h) {
    r->lines = 0;
    for (size_t at = 0, n; at < r->whole; at += n) {
        n = line_nbytes(r, at);
        r->lines++;
        if (at < r->run) continue;
        record line = parse(r->text + at, n);
        PAR_TRY(take(r, &line, h));
    }
    if (h->n_dropped && !r->anchored)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: has later steps than the checkpoint's %" PRId64
                 ", and not that one: another run's; it "
                 "was left as it is; legal: this run's log, or a name that is not there yet",
                 r->path, r->step);
    return PAR_OK;
}

static par_status rewrite(const reading *r, mode_t mode) {
    par__writer writer;
    PAR_TRY(par__writer_open(r->path, &writer));
    fchmod(writer.fd, mode & 07777);
    par_status st = par__writer_write(&writer, r->text, r->run);
    for (size_t at = r->run, n; st == PAR_OK && at < r->whole; at += n) {
        n = line_nbytes(r, at);
        if (r->step > 0 && parse(r->text + at, n).step > r->step) continue;
        st = par__writer_write(&writer, r->text + at, n);
    }
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}

static par_status continue_at(const char *path, int64_t step, double loss, mode_t mode,
                              par_log_history *h) {
    par__map map;
    PAR_TRY(par__map_open(path, &map));
    reading r = {
        .path = path, .step = step, .loss = loss, .text = (const char *)map.data, .n = map.nbytes};
    par_status st = scan(&r);
    if (st == PAR_OK && step > 0) st = walk(&r, h);
    if (st == PAR_OK) st = par__map_check(&map, path);
    if (st == PAR_OK && (h->n_dropped || r.whole < r.n)) st = rewrite(&r, mode);
    par__map_close(&map);
    return st;
}

par_status par_log_continue(const char *path, int64_t step, double loss, par_log_history *out) {
    PAR_REQUIRE(path && out && step >= 0);
    struct stat info;
    par_log_history h = {0};
    *out = h;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return PAR_OK;
    char *real = realpath(path, NULL); /* a link stays one: what it names is replaced */
    if (!real) PAR_FAIL(PAR_ERR_IO, "%s: cannot be found: %s", path, strerror(errno));
    par_status st = continue_at(real, step, loss, info.st_mode, &h);
    free(real);
    if (st == PAR_OK)
        *out = h;
    else
        par_log_history_free(&h);
    return st;
}

void par_log_history_free(par_log_history *history) {
    free(history->points);
    *history = (par_log_history){0};
}
