/* The recorder: rows of counts in one table that is allocated once, so that recording allocates
 * nothing. */
#include "record.h"

#include <stdlib.h>
#include <string.h>

/* Rows past TABLED keep totals only, so that the table stays small: 64 lines of 8 bytes per
 * rank. */
enum { MAX_ROWS = 1024, TABLED = 64 };

struct par_recorder {
    int world_size, n_rows, n_last;
    par_record_row *rows; /* [MAX_ROWS] */
    int64_t *sent_to;     /* [world_size], bytes */
    int64_t *by_row;      /* [TABLED, world_size], bytes of a row to each rank */
    par_record_last *last;
    bool *last_used;
    par__flight own, *flight;
    par_timeline *timeline;
};

par_status par__recorder_create(int world_size, par_recorder **out) {
    par_recorder *r = calloc(1, sizeof *r);
    if (!r) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a recorder");
    r->world_size = world_size;
    r->flight = &r->own;
    r->rows = calloc(MAX_ROWS, sizeof *r->rows);
    r->sent_to = calloc((size_t)world_size, sizeof *r->sent_to);
    r->by_row = calloc((size_t)world_size * TABLED, sizeof *r->by_row);
    if (!r->rows || !r->sent_to || !r->by_row) {
        par__recorder_destroy(&r);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a recorder of %d ranks", world_size);
    }
    *out = r;
    return PAR_OK;
}

void par__recorder_destroy(par_recorder **handle) {
    par_recorder *r = handle ? *handle : NULL;
    if (!r) return;
    free(r->rows);
    free(r->sent_to);
    free(r->by_row);
    free(r->last);
    free(r->last_used);
    free(r);
    *handle = NULL;
}

int par__recorder_row(par_recorder *r, const char *axis, const char *purpose, const char *op) {
    for (int i = 0; i < r->n_rows; i++) {
        const par_record_row *row = &r->rows[i];
        if (strcmp(row->op, op) == 0 && strcmp(row->axis, axis) == 0 &&
            strcmp(row->purpose, purpose) == 0)
            return i;
    }
    if (r->n_rows == MAX_ROWS) return MAX_ROWS - 1;
    if (r->n_rows == MAX_ROWS - 1) axis = purpose = op = "other";
    r->rows[r->n_rows] = (par_record_row){.axis = axis, .purpose = purpose, .op = op};
    return r->n_rows++;
}

void par__recorder_op(par_recorder *r, int row) {
    r->rows[row].n_ops++;
}

void par__recorder_sent(par_recorder *r, int row, int peer, int64_t nbytes) {
    r->rows[row].sent_nbytes += nbytes;
    r->rows[row].n_messages++;
    r->sent_to[peer] += nbytes;
    if (row < TABLED) r->by_row[(int64_t)row * r->world_size + peer] += nbytes;
}

void par__recorder_received(par_recorder *r, int row, int64_t nbytes) {
    r->rows[row].received_nbytes += nbytes;
}

void par__recorder_hidden(par_recorder *r, int row, double seconds) {
    r->rows[row].hidden_s += seconds;
}

void par__recorder_waited(par_recorder *r, int row, double seconds) {
    r->rows[row].wait_s += seconds;
}

par_status par__recorder_like(const par_recorder *r, par_recorder **out) {
    return par__recorder_create(r->world_size, out);
}

void par__recorder_add(par_recorder *to, const par_recorder *from, int times) {
    for (int i = 0; i < from->n_rows; i++) {
        const par_record_row *x = &from->rows[i];
        par_record_row *y = &to->rows[i];
        if (i >= to->n_rows)
            *y = (par_record_row){.axis = x->axis, .purpose = x->purpose, .op = x->op};
        y->n_ops += times * x->n_ops;
        y->sent_nbytes += times * x->sent_nbytes;
        y->received_nbytes += times * x->received_nbytes;
        y->n_messages += times * x->n_messages;
        y->wait_s += times * x->wait_s;
        y->hidden_s += times * x->hidden_s;
    }
    if (to->n_rows < from->n_rows) to->n_rows = from->n_rows;
    for (int k = 0; k < to->world_size; k++) to->sent_to[k] += times * from->sent_to[k];
    for (int64_t k = 0; k < (int64_t)to->world_size * TABLED; k++)
        to->by_row[k] += times * from->by_row[k];
}

void par__recorder_restore(par_recorder *r, const par_recorder *before, const char *axis) {
    for (int i = 0; i < r->n_rows; i++) {
        par_record_row *row = &r->rows[i];
        const par_record_row none = {.axis = row->axis, .purpose = row->purpose, .op = row->op};
        if (strcmp(row->axis, axis) != 0) continue;
        *row = i < before->n_rows ? before->rows[i] : none;
        for (int k = 0; i < TABLED && k < r->world_size; k++) {
            int64_t at = (int64_t)i * r->world_size + k;
            r->sent_to[k] -= r->by_row[at] - before->by_row[at];
            r->by_row[at] = before->by_row[at];
        }
    }
}

int par__recorder_last_take(par_recorder *r) {
    int index = 0;
    while (index < r->n_last && r->last_used[index]) index++;
    if (index == r->n_last) {
        size_t n = (size_t)index + 1;
        par_record_last *last = realloc(r->last, n * sizeof *last);
        if (last) r->last = last;
        bool *used = realloc(r->last_used, n * sizeof *used);
        if (used) r->last_used = used;
        if (!last || !used) return -1;
        r->n_last = (int)n;
    }
    r->last_used[index] = true;
    r->last[index] = (par_record_last){
        .axis = "", .purpose = "", .op = "none", .layer = -1, .chunk = -1, .micro = -1};
    return index;
}

par_record_last *par__recorder_last_at(par_recorder *r, int index) {
    return &r->last[index];
}

void par__recorder_last_release(par_recorder *r, int index) {
    if (index < 0) return;
    r->last_used[index] = false;
    par__flight_axis *axis = par__recorder_axis(r, index);
    if (axis) memset(axis, 0, sizeof *axis);
}

par__flight *par__recorder_flight(par_recorder *r) {
    return r->flight;
}

void par__recorder_fly(par_recorder *r, par__flight *page) {
    par__flight *to = page ? page : &r->own;
    if (to != r->flight) memcpy(to->axes, r->flight->axes, sizeof to->axes);
    r->flight = to;
}

par_timeline *par__recorder_timeline(const par_recorder *r) {
    return r->timeline && !r->timeline->quiet ? r->timeline : NULL;
}

par_timeline *par__recorder_traced(const par_recorder *r) {
    return r->timeline;
}

void par__recorder_trace(par_recorder *r, par_timeline *timeline) {
    r->timeline = timeline;
}

par__flight_axis *par__recorder_axis(par_recorder *r, int index) {
    return index >= 0 && index < PAR__FLIGHT_AXES ? &r->flight->axes[index] : NULL;
}

int par_recorder_rows(const par_recorder *r, const par_record_row **rows) {
    *rows = r->rows;
    return r->n_rows;
}

const int64_t *par_recorder_sent_to(const par_recorder *r) {
    return r->sent_to;
}

const int64_t *par_recorder_row_sent_to(const par_recorder *r, int row) {
    return row >= 0 && row < r->n_rows && row < TABLED ? r->by_row + (int64_t)row * r->world_size
                                                       : NULL;
}

int par_recorder_last(const par_recorder *r, par_record_last *out, int max) {
    int n = 0;
    for (int i = 0; i < r->n_last && n < max; i++)
        if (r->last_used[i]) out[n++] = r->last[i];
    return n;
}

void par_recorder_reset(par_recorder *r) {
    for (int i = 0; i < r->n_rows; i++)
        r->rows[i] = (par_record_row){
            .axis = r->rows[i].axis, .purpose = r->rows[i].purpose, .op = r->rows[i].op};
    memset(r->sent_to, 0, (size_t)r->world_size * sizeof *r->sent_to);
    memset(r->by_row, 0, (size_t)r->world_size * TABLED * sizeof *r->by_row);
}
