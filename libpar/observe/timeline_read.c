/* A trace file of ours: an event per line, so that a file is never in memory as a whole. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libpar/base/file.h"
#include "timeline.h"

typedef struct {
    const char *path;
    par__traces *traces;
    int64_t *max;      /* [n_ranks] */
    int64_t nbytes;    /* of the file */
    bool ours;         /* the line with the program's name was seen */
    long long line_no; /* from 1 */
} reader;

/* Sums of some thousand of these fit into 64 bits. */
static par_status ns_of(const reader *in, const json_t *event, const char *key, int64_t *out) {
    double us = json_number_value(json_object_get(event, key));
    if (!(fabs(us) <= 1e12))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %lld: \"%s\" is %g us; legal: -1e12 to 1e12", in->path,
                 in->line_no, key, us);
    *out = llround(1e3 * us);
    return PAR_OK;
}

static int64_t integer(const json_t *args, const char *key, int64_t none) {
    const json_t *value = json_object_get(args, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : none;
}

static par_status text_of(reader *in, const json_t *object, const char *key, int32_t *out) {
    const char *text = json_string_value(json_object_get(object, key));
    *out = -1;
    return text ? par__texts_add(&in->traces->texts, text, out) : PAR_OK;
}

static par_status rank_of(reader *in, const json_t *event, par__rank_spans **out) {
    int64_t pid = integer(event, "pid", -1);
    par__traces *t = in->traces;
    if (pid < 0 || pid >= t->n_ranks)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: line %lld: process %lld; legal: 0 to %d, the ranks of the file", in->path,
                 in->line_no, (long long)pid, t->n_ranks - 1);
    *out = &t->ranks[pid];
    return PAR_OK;
}

static par_status add_span(reader *in, const json_t *event) {
    par__rank_spans *r = NULL;
    const json_t *args = json_object_get(event, "args");
    const char *kind_name = json_string_value(json_object_get(event, "cat"));
    int kind = PAR__EVENT_USER;
    for (int i = 0; kind_name && i < PAR__EVENTS; i++)
        if (strcmp(kind_name, par__event_names[i]) == 0) kind = i;
    PAR_TRY(rank_of(in, event, &r));
    int64_t *max = &in->max[r - in->traces->ranks];
    if (r->n == *max) {
        *max = *max ? 2 * *max : 16;
        par__span *spans = realloc(r->spans, (size_t)*max * sizeof *spans);
        if (!spans) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its events", in->path);
        r->spans = spans;
    }
    par__span *s = &r->spans[r->n++];
    *s = (par__span){.number = integer(args, "n", integer(args, "step", 0)),
                     .first = (int32_t)integer(args, "first", 0),
                     .peer = (int32_t)integer(args, "peer", -1),
                     .thread = (int32_t)integer(event, "tid", 0),
                     .kind = (int16_t)kind,
                     .layer = (int16_t)integer(args, "layer", -1),
                     .chunk = (int16_t)integer(args, "chunk", -1),
                     .micro = (int16_t)integer(args, "micro", -1)};
    PAR_TRY(ns_of(in, event, "ts", &s->begin_ns));
    PAR_TRY(ns_of(in, event, "dur", &s->end_ns));
    s->end_ns += s->begin_ns;
    if (json_object_get(args, "started")) PAR_TRY(ns_of(in, args, "started", &s->begin_ns));
    PAR_TRY(text_of(in, event, "name", &s->name));
    PAR_TRY(text_of(in, args, "axis", &s->axis));
    return text_of(in, args, "purpose", &s->purpose);
}

static par_status add_event(reader *in, const json_t *event) {
    const char *phase = json_string_value(json_object_get(event, "ph")),
               *name = json_string_value(json_object_get(event, "name"));
    if (!phase || !name) return PAR_OK;
    if (strcmp(phase, "X") == 0) return add_span(in, event);
    if (strcmp(phase, "M") != 0 || strcmp(name, "process_name") != 0) return PAR_OK;
    par__rank_spans *r = NULL;
    const char *text = json_string_value(json_object_get(json_object_get(event, "args"), "name"));
    const char *label = text ? strstr(text, ": ") : NULL; /* behind "rank N" */
    PAR_TRY(rank_of(in, event, &r));
    snprintf(r->label, sizeof r->label, "%s", label ? label + 2 : "");
    return PAR_OK;
}

/* "otherData": the line that says how many ranks there are. Each has its name in a line, of more
 * than 32 bytes. */
static par_status begin_ranks(reader *in, const char *line) {
    const char *ranks = strstr(line, "\"ranks\":");
    int n = ranks ? atoi(ranks + 8) : 0;
    if (n < 1 || n > 1 << 20)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %lld: %d ranks; legal: 1 to 1048576", in->path,
                 in->line_no, n);
    if (n > in->nbytes / 32)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %lld: %d ranks in a file of %lld bytes; it was cut",
                 in->path, in->line_no, n, (long long)in->nbytes);
    free(in->traces->ranks);
    free(in->max);
    in->traces->ranks = calloc((size_t)n, sizeof *in->traces->ranks);
    in->max = calloc((size_t)n, sizeof *in->max);
    if (!in->traces->ranks || !in->max)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for %d ranks", in->path, n);
    in->traces->n_ranks = n;
    in->traces->shared_cores = strstr(line, "\"shared_cores\":true");
    for (int r = 0; r < n; r++) in->traces->ranks[r].rank = r;
    in->ours = true;
    return PAR_OK;
}

/* Of n_dropped, from 0 to 2^40: sums over ranks fit into 64 bits. */
static int64_t whole(const char *text) {
    const long long most = 1ll << 40, n = strtoll(text, NULL, 10);
    return n < 0 ? 0 : n > most ? most : n;
}

static par_status add_line(reader *in, char *line, size_t n) {
    json_error_t error;
    while (n > 0 && strchr("\n,", line[n - 1])) line[--n] = 0;
    if (strncmp(line, "\"otherData\":{\"program\":\"libpar\"", 31) == 0 && !in->ours)
        return begin_ranks(in, line);
    if (in->ours && strncmp(line, "\"dropped\":", 10) == 0) {
        const char *at = strchr(line, '[');
        for (int r = 0; at && r < in->traces->n_ranks; r++, at = strchr(at, ','))
            in->traces->ranks[r].n_dropped = whole(++at);
    }
    if (!in->ours || strncmp(line, "{\"ph\":", 6) != 0) return PAR_OK;
    if (n > 2 && strcmp(line + n - 2, "]}") == 0) line[n - 2] = 0;
    json_t *event = json_loads(line, 0, &error);
    if (!event) PAR_FAIL(PAR_ERR_FORMAT, "%s: line %lld: %s", in->path, in->line_no, error.text);
    par_status st = add_event(in, event);
    json_decref(event);
    return st;
}

static par_status read_lines(reader *in, FILE *file) {
    char *line = NULL;
    size_t room = 0;
    par_status st = PAR_OK;
    for (ssize_t n; st == PAR_OK && (n = getline(&line, &room, file)) >= 0;) {
        in->line_no++;
        st = add_line(in, line, (size_t)n);
    }
    free(line);
    if (st == PAR_OK && ferror(file)) return par__read_error(in->path, "read");
    if (st == PAR_OK && !in->ours)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: is not a timeline of libpar; legal: the trace.json that a run left",
                 in->path);
    return st;
}

static int by_begin(const void *a, const void *b) {
    const par__span *x = a, *y = b;
    if (x->begin_ns != y->begin_ns) return x->begin_ns < y->begin_ns ? -1 : 1;
    return (x->end_ns < y->end_ns) - (x->end_ns > y->end_ns);
}

par_status par__traces_read(const char *path, par__traces *out) {
    par__traces traces = {0};
    reader in = {.path = path, .traces = &traces};
    FILE *file = fopen(path, "r");
    if (!file) return par__read_error(path, "opened");
    struct stat info;
    in.nbytes = fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : INT64_MAX;
    par_status st = read_lines(&in, file);
    fclose(file);
    free(in.max);
    if (st != PAR_OK) {
        par__traces_free(&traces);
        return st;
    }
    for (int r = 0; r < traces.n_ranks; r++)
        if (traces.ranks[r].n)
            qsort(traces.ranks[r].spans, (size_t)traces.ranks[r].n, sizeof(par__span), by_begin);
    *out = traces;
    return PAR_OK;
}
