/*
 * The recorder: rows of counts by axis, purpose and operation, of the first ones also by peer, and
 * entries by row, layer and phase, without peers. All tables are allocated once, so that recording
 * allocates nothing; what does not fit any more is still counted in the row, or in the last row.
 */
#include "record.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* Rows past TABLED keep totals only, so that the table stays small: 2 KiB per rank. Entry 0 takes
 * what has no entry of its own, and is not shown. */
enum { MAX_ROWS = 1024, TABLED = 64, MAX_ENTRIES = 4096, SLOTS = 2 * MAX_ENTRIES };

struct par_recorder {
    int world_size, n_rows, n_entries, n_last;
    par_recorder_row *rows;      /* [MAX_ROWS] */
    int64_t *sent_to;            /* [world_size], bytes */
    par_recorder_cell *cells;    /* [TABLED, world_size] */
    par_recorder_entry *entries; /* [MAX_ENTRIES] */
    int16_t *slots;              /* [SLOTS] where an entry is, by its hash; 0: free */
    const char *phase;
    int waiting;            /* the row that is waited for, without entry; -1: none */
    int wait_entry;         /* its entry */
    double since_s, wait_s; /* the wait's begin, or its last message's end; its begin */
    par_recorder_started *last;
    bool *last_used;
    bool captured; /* what starts now is part of a graph */
    par__flight own, *flight;
    par_timeline *timeline;
};

par_status par__recorder_create(int world_size, par_recorder **out) {
    par_recorder *r = calloc(1, sizeof *r);
    if (!r) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a recorder");
    r->world_size = world_size;
    r->n_entries = 1;
    r->phase = "";
    r->waiting = -1;
    r->flight = &r->own;
    r->rows = calloc(MAX_ROWS, sizeof *r->rows);
    r->sent_to = calloc((size_t)world_size, sizeof *r->sent_to);
    r->cells = calloc((size_t)world_size * TABLED, sizeof *r->cells);
    r->entries = calloc(MAX_ENTRIES, sizeof *r->entries);
    r->slots = calloc(SLOTS, sizeof *r->slots);
    if (!r->rows || !r->sent_to || !r->cells || !r->entries || !r->slots) {
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
    free(r->cells);
    free(r->entries);
    free(r->slots);
    free(r->last);
    free(r->last_used);
    free(r);
    *handle = NULL;
}

/* Names are literals: most often the same pointers. */
static bool same(const char *a, const char *b) {
    return a == b || strcmp(a, b) == 0;
}

/* The entry of a key: where its slot is or, if that is free, a new one. At most half of the slots
 * are in use. */
static int find_entry(par_recorder *r, int row, int layer, const char *phase) {
    uint32_t hash = (uint32_t)row * 2654435761u + (uint32_t)layer * 40503u;
    for (const char *c = phase; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    hash ^= hash >> 15;
    int16_t *slot = &r->slots[hash % SLOTS];
    for (; *slot; slot = &r->slots[++hash % SLOTS]) {
        const par_recorder_entry *e = &r->entries[*slot];
        if (e->row == row && e->layer == layer && same(e->phase, phase)) return *slot;
    }
    if (r->n_entries == MAX_ENTRIES) return 0;
    r->entries[r->n_entries] = (par_recorder_entry){.row = row, .layer = layer, .phase = phase};
    *slot = (int16_t)r->n_entries;
    return r->n_entries++;
}

/* Row and entry in one number. */
static par_recorder_row *row_of(par_recorder *r, int row) {
    return &r->rows[row % MAX_ROWS];
}

static par_recorder_entry *entry_of(par_recorder *r, int row) {
    return &r->entries[row / MAX_ROWS];
}

/* NULL: the row has totals only. */
static par_recorder_cell *cell_of(par_recorder *r, int row, int peer) {
    row %= MAX_ROWS;
    return row < TABLED ? &r->cells[(int64_t)row * r->world_size + peer] : NULL;
}

int par__recorder_row(par_recorder *r, const char *axis, const char *purpose, const char *op,
                      int layer) {
    int row = 0;
    for (; row < r->n_rows; row++) {
        const par_recorder_row *at = &r->rows[row];
        if (same(at->op, op) && same(at->axis, axis) && same(at->purpose, purpose)) break;
    }
    if (row == MAX_ROWS) {
        row = MAX_ROWS - 1;
    } else if (row == r->n_rows) {
        if (row == MAX_ROWS - 1) axis = purpose = op = "other";
        r->rows[row] = (par_recorder_row){.axis = axis, .purpose = purpose, .op = op};
        r->n_rows++;
    }
    return find_entry(r, row, layer, r->phase) * MAX_ROWS + row;
}

void par__recorder_op(par_recorder *r, int row) {
    row_of(r, row)->n_ops++;
    entry_of(r, row)->n_ops++;
}

void par__recorder_asked(par_recorder *r, int row, int n_ranks, int64_t nbytes, double bus_nbytes) {
    par_recorder_row *at = row_of(r, row);
    if (at->n_ranks < n_ranks) at->n_ranks = n_ranks;
    at->logical_nbytes += nbytes;
    at->bus_nbytes += bus_nbytes;
}

void par__recorder_asked_for(par_recorder *r, int row, int peer, int64_t nbytes) {
    par_recorder_cell *cell = cell_of(r, row, peer);
    if (cell) cell->logical_nbytes += nbytes;
}

void par__recorder_sent(par_recorder *r, int row, int peer, int64_t nbytes) {
    par_recorder_cell *cell = cell_of(r, row, peer);
    row_of(r, row)->sent_nbytes += nbytes;
    row_of(r, row)->n_messages++;
    entry_of(r, row)->nbytes += nbytes;
    entry_of(r, row)->n_messages++;
    r->sent_to[peer] += nbytes;
    if (!cell) return;
    cell->nbytes += nbytes;
    cell->n_messages++;
}

/* While the row is waited for, the time since the wait began, or since the message before, was the
 * peer's. */
void par__recorder_ended(par_recorder *r, int row, int peer, int64_t nbytes) {
    par_recorder_cell *cell = cell_of(r, row, peer);
    row_of(r, row)->received_nbytes += nbytes;
    if (r->waiting != row % MAX_ROWS || !cell) return;
    double now = par__seconds();
    cell->wait_s += now - r->since_s;
    r->since_s = now;
}

void par__recorder_ran(par_recorder *r, int row, double seconds) {
    row_of(r, row)->seconds += seconds;
    row_of(r, row)->n_timed++;
}

int par__recorder_index(int row) {
    return row % MAX_ROWS;
}

void par__recorder_ran_in_graph(par_recorder *r, int index, int64_t n, double seconds) {
    r->rows[index].seconds += seconds;
    r->rows[index].n_timed += n;
}

void par__recorder_capture(par_recorder *r, bool captured) {
    r->captured = captured;
}

bool par__recorder_captured(const par_recorder *r) {
    return r->captured;
}

void par__recorder_hidden(par_recorder *r, int row, double seconds) {
    row_of(r, row)->hidden_s += seconds;
}

void par__recorder_wait_begin(par_recorder *r, int row) {
    r->waiting = row % MAX_ROWS;
    r->wait_entry = row / MAX_ROWS;
    r->since_s = r->wait_s = par__seconds();
}

void par__recorder_wait_end(par_recorder *r) {
    double seconds = par__seconds() - r->wait_s;
    r->rows[r->waiting].wait_s += seconds;
    r->entries[r->wait_entry].wait_s += seconds;
    r->waiting = -1;
}

void par_recorder_phase(par_recorder *r, const char *phase) {
    r->phase = phase ? phase : "";
}

par_status par__recorder_like(const par_recorder *r, par_recorder **out) {
    return par__recorder_create(r->world_size, out);
}

static void add_rows(par_recorder *to, const par_recorder *from, int times) {
    for (int i = 0; i < from->n_rows; i++) {
        const par_recorder_row *x = &from->rows[i];
        par_recorder_row *y = &to->rows[i];
        if (i >= to->n_rows)
            *y = (par_recorder_row){.axis = x->axis, .purpose = x->purpose, .op = x->op};
        if (y->n_ranks < x->n_ranks) y->n_ranks = x->n_ranks;
        y->n_ops += times * x->n_ops;
        y->n_timed += times * x->n_timed;
        y->sent_nbytes += times * x->sent_nbytes;
        y->received_nbytes += times * x->received_nbytes;
        y->n_messages += times * x->n_messages;
        y->logical_nbytes += times * x->logical_nbytes;
        y->bus_nbytes += times * x->bus_nbytes;
        y->seconds += times * x->seconds;
        y->wait_s += times * x->wait_s;
        y->hidden_s += times * x->hidden_s;
    }
    if (to->n_rows < from->n_rows) to->n_rows = from->n_rows;
}

void par__recorder_add(par_recorder *to, const par_recorder *from, int times) {
    int tabled = from->n_rows < TABLED ? from->n_rows : TABLED;
    add_rows(to, from, times);
    for (int i = 1; i < from->n_entries; i++) {
        const par_recorder_entry *x = &from->entries[i];
        int at = i < to->n_entries ? i : find_entry(to, x->row, x->layer, x->phase);
        par_recorder_entry *y = &to->entries[at];
        y->n_ops += times * x->n_ops;
        y->nbytes += times * x->nbytes;
        y->n_messages += times * x->n_messages;
        y->wait_s += times * x->wait_s;
    }
    for (int k = 0; k < to->world_size; k++) to->sent_to[k] += times * from->sent_to[k];
    for (int64_t k = 0; k < (int64_t)to->world_size * tabled; k++) {
        const par_recorder_cell *x = &from->cells[k];
        par_recorder_cell *y = &to->cells[k];
        y->nbytes += times * x->nbytes;
        y->n_messages += times * x->n_messages;
        y->logical_nbytes += times * x->logical_nbytes;
        y->wait_s += times * x->wait_s;
    }
}

void par__recorder_restore(par_recorder *r, const par_recorder *before, const char *axis) {
    for (int i = 0; i < r->n_rows; i++) {
        par_recorder_row *row = &r->rows[i];
        if (strcmp(row->axis, axis) != 0) continue;
        const par_recorder_row none = {.axis = row->axis, .purpose = row->purpose, .op = row->op};
        *row = i < before->n_rows ? before->rows[i] : none;
        for (int k = 0; i < TABLED && k < r->world_size; k++) {
            int64_t at = (int64_t)i * r->world_size + k;
            r->sent_to[k] -= r->cells[at].nbytes - before->cells[at].nbytes;
            r->cells[at] = before->cells[at];
        }
    }
    for (int i = 1; i < r->n_entries; i++) {
        par_recorder_entry *e = &r->entries[i];
        const par_recorder_entry none = {.row = e->row, .layer = e->layer, .phase = e->phase};
        if (strcmp(r->rows[e->row].axis, axis) == 0)
            *e = i < before->n_entries ? before->entries[i] : none;
    }
}

int par__recorder_last_take(par_recorder *r) {
    int index = 0;
    while (index < r->n_last && r->last_used[index]) index++;
    if (index == r->n_last) {
        size_t n = (size_t)index + 1;
        par_recorder_started *last = realloc(r->last, n * sizeof *last);
        if (last) r->last = last;
        bool *used = realloc(r->last_used, n * sizeof *used);
        if (used) r->last_used = used;
        if (!last || !used) return -1;
        r->n_last = (int)n;
    }
    r->last_used[index] = true;
    r->last[index] = (par_recorder_started){
        .axis = "", .purpose = "", .op = "none", .layer = -1, .chunk = -1, .micro = -1};
    return index;
}

par_recorder_started *par__recorder_last_at(par_recorder *r, int index) {
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

int par_recorder_rows(const par_recorder *r, const par_recorder_row **rows) {
    *rows = r->rows;
    return r->n_rows;
}

const int64_t *par_recorder_sent_to(const par_recorder *r) {
    return r->sent_to;
}

const par_recorder_cell *par_recorder_row_cells(const par_recorder *r, int row) {
    return row >= 0 && row < r->n_rows && row < TABLED ? r->cells + (int64_t)row * r->world_size
                                                       : NULL;
}

int par_recorder_entries(const par_recorder *r, const par_recorder_entry **entries,
                         bool *complete) {
    *entries = r->entries + 1;
    *complete = r->n_entries < MAX_ENTRIES;
    return r->n_entries - 1;
}

int par_recorder_last(const par_recorder *r, par_recorder_started *out, int max) {
    int n = 0;
    for (int i = 0; i < r->n_last && n < max; i++)
        if (r->last_used[i]) out[n++] = r->last[i];
    return n;
}

void par_recorder_reset(par_recorder *r) {
    for (int i = 0; i < r->n_rows; i++)
        r->rows[i] = (par_recorder_row){
            .axis = r->rows[i].axis, .purpose = r->rows[i].purpose, .op = r->rows[i].op};
    for (int i = 0; i < r->n_entries; i++) {
        const par_recorder_entry *e = &r->entries[i];
        r->entries[i] = (par_recorder_entry){.row = e->row, .layer = e->layer, .phase = e->phase};
    }
    memset(r->sent_to, 0, (size_t)r->world_size * sizeof *r->sent_to);
    memset(r->cells, 0, (size_t)r->world_size * TABLED * sizeof *r->cells);
}
