/*
 * A log of JSON lines (RFC 8259, one object per line). A line is built in a fixed buffer and
 * written at once to a file opened for appending, so that lines of a killed or a second run never
 * mix.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/base/number.h"
#include "libpar/base/utf8.h"
#include "par/observe.h"

enum { LINE_NBYTES = 16384 };

struct par_log {
    int file;
    bool full;  /* the line under way did not fit */
    bool first; /* the next field is the first of its object */
    size_t n;
    char path[1024], line[LINE_NBYTES];
};

/* A last line without its end is not ours to continue. */
static par_status end_broken_line(par_log *log) {
    char last = '\n';
    off_t size = lseek(log->file, 0, SEEK_END);
    if (size <= 0) return PAR_OK;
    if (pread(log->file, &last, 1, size - 1) != 1) return par__read_error(log->path, "read");
    return last == '\n' ? PAR_OK : par__write(log->file, log->path, "\n", 1);
}

par_status par_log_open(const char *path, par_log **out) {
    PAR_REQUIRE(path && out);
    par_log *log = calloc(1, sizeof *log);
    if (!log) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a log");
    snprintf(log->path, sizeof log->path, "%s", path);
    log->file = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    par_status st =
        log->file >= 0 ? end_broken_line(log) : par__write_error(path, "opened for appending");
    if (st != PAR_OK) {
        par_log_close(&log);
        return st;
    }
    *out = log;
    return PAR_OK;
}

void par_log_close(par_log **handle) {
    if (!handle || !*handle) return;
    if ((*handle)->file >= 0) close((*handle)->file);
    free(*handle);
    *handle = NULL;
}

/* Two bytes stay free for the line's end. */
static void put(par_log *log, const char *text, size_t n) {
    if (log->full || n > sizeof log->line - 2 - log->n) {
        log->full = true;
        return;
    }
    memcpy(log->line + log->n, text, n);
    log->n += n;
}

static void put_string(par_log *log, const char *text) {
    const unsigned char *s = (const unsigned char *)text, *end = s + strlen(text);
    char escape[8];
    put(log, "\"", 1);
    while (s < end) {
        size_t n = par__utf8_length(s, (size_t)(end - s));
        if (n == 0) {
            put(log, "?", 1);
        } else if (*s == '"' || *s == '\\') {
            put(log, "\\", 1);
            put(log, (const char *)s, 1);
        } else if (*s < 0x20) {
            put(log, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s));
        } else {
            put(log, (const char *)s, n);
        }
        s += n ? n : 1;
    }
    put(log, "\"", 1);
}

static void put_key(par_log *log, const char *key) {
    if (log->n == 0) put(log, "{", 1);
    if (log->n > 1 && !log->first) put(log, ", ", 2);
    log->first = false;
    put_string(log, key);
    put(log, ": ", 2);
}

void par_log_int(par_log *log, const char *key, int64_t value) {
    char text[32];
    put_key(log, key);
    put(log, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

/* A locale's decimal comma becomes the point that JSON has. */
static void put_real(par_log *log, const char *key, const char *text, double value) {
    char number[PAR__NUMBER_NBYTES] = "null";
    put_key(log, key);
    if (isfinite(value)) snprintf(number, sizeof number, "%s", text);
    for (char *c = strchr(number, ','); c; c = NULL) *c = '.';
    put(log, number, strlen(number));
}

/* 9 digits give back every float. */
void par_log_real(par_log *log, const char *key, double value) {
    char text[PAR__NUMBER_NBYTES];
    snprintf(text, sizeof text, "%.9g", value);
    put_real(log, key, text, value);
}

void par_log_exact(par_log *log, const char *key, double value) {
    char text[PAR__NUMBER_NBYTES];
    put_real(log, key, par__exact(text, value), value);
}

void par_log_bool(par_log *log, const char *key, bool value) {
    put_key(log, key);
    put(log, value ? "true" : "false", value ? 4 : 5);
}

void par_log_text(par_log *log, const char *key, const char *value) {
    put_key(log, key);
    put_string(log, value);
}

void par_log_object(par_log *log, const char *key) {
    put_key(log, key);
    put(log, "{", 1);
    log->first = true;
}

void par_log_object_end(par_log *log) {
    put(log, "}", 1);
    log->first = false;
}

par_status par_log_end(par_log *log) {
    bool full = log->full;
    size_t n = log->n;
    log->full = log->first = false;
    log->n = 0;
    if (full)
        PAR_FAIL(PAR_ERR_ARG, "%s: a line of more than %d bytes is left out", log->path,
                 LINE_NBYTES);
    memcpy(log->line + n, n ? "}\n" : "{}\n", n ? 2 : 3);
    off_t before = lseek(log->file, 0, SEEK_END);
    par_status st = par__write(log->file, log->path, log->line, n + (n ? 2 : 3));
    /* What a full disk took of a line is taken back, so that whole lines are all that is there. */
    if (st != PAR_OK && before >= 0 && ftruncate(log->file, before) != 0) errno = 0;
    return st;
}
