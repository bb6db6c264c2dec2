/* Tables of one rank by axis, purpose and receiver, by operation, and by layer and phase: what its
 * recorder counted, or, of bytes alone, will count. */
#include "traffic_table.h"

#include <stdlib.h>
#include <string.h>

par_status par_traffic_create(int size, par_traffic **out) {
    PAR_REQUIRE(size > 0 && out);
    par_traffic *t = calloc(1, sizeof *t);
    if (t) {
        t->cells = calloc((size_t)size * PAR_TRAFFIC_LINES, sizeof *t->cells);
        t->ops = calloc(PAR_TRAFFIC_OPS, sizeof *t->ops);
        t->layers = calloc(PAR_TRAFFIC_LAYERS, sizeof *t->layers);
    }
    if (!t || !t->cells || !t->ops || !t->layers) {
        par_traffic_destroy(&t);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of %d ranks", size);
    }
    t->size = size;
    *out = t;
    return PAR_OK;
}

void par_traffic_destroy(par_traffic **handle) {
    if (!handle || !*handle) return;
    free((*handle)->cells);
    free((*handle)->ops);
    free((*handle)->layers);
    free(*handle);
    *handle = NULL;
}

void par__traffic_clear(par_traffic *t) {
    t->n = t->n_ops = t->n_layers = 0;
    t->overflow = false;
    memset(t->cells, 0, (size_t)t->size * PAR_TRAFFIC_LINES * sizeof *t->cells);
}

/* Messages that decide what to do, and carry nothing of the training. */
static const char *axis_of(const char *axis, const char *purpose) {
    static const char *const control[] = {"vote",    "agree",  "check",
                                          "signals", "health", "replicas"};
    for (size_t i = 0; i < sizeof control / sizeof *control; i++)
        if (strcmp(purpose, control[i]) == 0) return "control";
    return axis;
}

/* False: it does not fit. */
static bool copy(char *out, size_t nbytes, const char *text) {
    size_t n = strlen(text) + 1;
    if (n <= nbytes) memcpy(out, text, n);
    return n <= nbytes;
}

par_recorder_cell *par__traffic_line(par_traffic *t, const char *axis, const char *purpose) {
    axis = axis_of(axis, purpose);
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->axis[i], axis) == 0 && strcmp(t->purpose[i], purpose) == 0)
            return t->cells + (int64_t)i * t->size;
    if (t->n == PAR_TRAFFIC_LINES || !copy(t->axis[t->n], sizeof t->axis[0], axis) ||
        !copy(t->purpose[t->n], sizeof t->purpose[0], purpose)) {
        t->overflow = true;
        return NULL;
    }
    return t->cells + (int64_t)t->n++ * t->size;
}

int par__traffic_find_op(const par_traffic_op *ops, int n, const par_traffic_op *like, int hint) {
    for (int k = 0; k < n; k++) {
        const par_traffic_op *o = &ops[(hint + k) % n];
        if (strcmp(o->op, like->op) == 0 && strcmp(o->purpose, like->purpose) == 0 &&
            strcmp(o->axis, like->axis) == 0)
            return (hint + k) % n;
    }
    return -1;
}

int par__traffic_find_layer(const par_traffic_layer *layers, int n, const par_traffic_layer *like,
                            int hint) {
    for (int k = 0; k < n; k++) {
        const par_traffic_layer *l = &layers[(hint + k) % n];
        if (l->layer == like->layer && strcmp(l->phase, like->phase) == 0 &&
            strcmp(l->purpose, like->purpose) == 0 && strcmp(l->axis, like->axis) == 0)
            return (hint + k) % n;
    }
    return -1;
}

static void count_op(par_traffic *t, const par_recorder_row *row) {
    /* Of all operations, after those that were timed; 0: of most nothing is known. */
    double seconds = 0, n_ops = (double)row->n_ops, n_timed = (double)row->n_timed;
    if (row->n_timed == row->n_ops)
        seconds = row->seconds;
    else if (2 * row->n_timed > row->n_ops)
        seconds = row->seconds * n_ops / n_timed;
    par_traffic_op o = {.n_ranks = row->n_ranks,
                        .n_ops = row->n_ops,
                        .nbytes = row->sent_nbytes,
                        .n_messages = row->n_messages,
                        .logical_nbytes = row->logical_nbytes,
                        .bus_nbytes = row->bus_nbytes,
                        .seconds = seconds,
                        .wait_s = row->wait_s,
                        .hidden_s = row->hidden_s};
    if (row->n_ranks == 0) return; /* in groups of one rank alone */
    if (t->n_ops < PAR_TRAFFIC_OPS && copy(o.axis, sizeof o.axis, row->axis) &&
        copy(o.purpose, sizeof o.purpose, row->purpose) && copy(o.op, sizeof o.op, row->op))
        t->ops[t->n_ops++] = o;
    else
        t->overflow = true;
}

static void count_cells(par_traffic *t, const par_recorder_row *row, const par_recorder_cell *to) {
    par_recorder_cell *line =
        to && row->n_ranks ? par__traffic_line(t, row->axis, row->purpose) : NULL;
    if (!line) {
        t->overflow = t->overflow || row->sent_nbytes;
        return;
    }
    for (int r = 0; r < t->size; r++) {
        line[r].nbytes += to[r].nbytes;
        line[r].n_messages += to[r].n_messages;
        line[r].logical_nbytes += to[r].logical_nbytes;
        line[r].wait_s += to[r].wait_s;
    }
}

/* Entries of one axis and purpose differ in operations. */
static void count_layer(par_traffic *t, const par_recorder_row *row,
                        const par_recorder_entry *entry) {
    par_traffic_layer l = {.layer = entry->layer};
    if (row->n_ranks == 0 || entry->n_ops == 0) return;
    bool fits = copy(l.axis, sizeof l.axis, axis_of(row->axis, row->purpose)) &&
                copy(l.purpose, sizeof l.purpose, row->purpose) &&
                copy(l.phase, sizeof l.phase, entry->phase);
    int at = fits ? par__traffic_find_layer(t->layers, t->n_layers, &l, 0) : -1;
    if (fits && at < 0 && t->n_layers < PAR_TRAFFIC_LAYERS) t->layers[at = t->n_layers++] = l;
    if (at < 0) {
        t->overflow = true;
        return;
    }
    t->layers[at].n_ops += entry->n_ops;
    t->layers[at].nbytes += entry->nbytes;
    t->layers[at].n_messages += entry->n_messages;
    t->layers[at].wait_s += entry->wait_s;
}

void par_traffic_count(par_traffic *t, const par_recorder *recorder) {
    const par_recorder_row *rows;
    const par_recorder_entry *entries;
    bool complete = false;
    int n = par_recorder_rows(recorder, &rows);
    int n_entries = par_recorder_entries(recorder, &entries, &complete);
    par__traffic_clear(t);
    for (int i = 0; i < n; i++) {
        count_op(t, &rows[i]);
        count_cells(t, &rows[i], par_recorder_row_cells(recorder, i));
    }
    for (int i = 0; i < n_entries; i++) count_layer(t, &rows[entries[i].row], &entries[i]);
    t->overflow = t->overflow || !complete;
}
