/*
 * See nccl_traffic.h. With p ranks, n the bytes that the call names and r this rank:
 *
 *                   logical, from r                     as a ring, from r to r + 1
 *   all_reduce      n to each: the whole vector         2 n (p - 1) / p
 *   reduce_scatter  n, a shard, to each                 n (p - 1)
 *   all_gather      n, the own shard, to each           n (p - 1)
 *   all_to_all      n, a block, to each                 (as logical)
 *   broadcast       n to each, from the root            n, from all but the one before the root
 *   reduce          n to the root                       n, from all but the root
 *   gather          n, the own block, to the root       (as logical)
 *   scatter         n, a block to each, from the root   (as logical)
 *   send, put       n to the peer                       (as logical)
 *
 * A receive is the same message as its send and counts once, there. Order of the ring and algorithm
 * are NCCL's choice, which a call does not show: so that column is an estimate.
 */
#include "nccl_traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    nccl_table *table;
    const nccl_job *job;
    const nccl_member *const *member_of; /* [size of the communicator], NULL: wrote no file */
    int begin, end;                      /* its members */
    int row;
    const nccl_member *self;
} walk;

double nccl_network_nbytes(const nccl_cell *cell) {
    return cell->sent > cell->received ? cell->sent : cell->received;
}

/* A cell whose from and to are ranks of the communicator. */
static par_status add_cell(walk *w, nccl_cell cell) {
    nccl_table *t = w->table;
    const nccl_member *from = w->member_of[cell.from], *to = w->member_of[cell.to];
    if (!from || !to) {
        t->n_missing++;
        return PAR_OK;
    }
    if (t->n_cells == t->max_cells) {
        int64_t max = t->max_cells ? 2 * t->max_cells : 16;
        nccl_cell *more = realloc(t->cells, (size_t)max * sizeof *more);
        if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of an NCCL job");
        t->cells = more;
        t->max_cells = max;
    }
    cell.row = w->row;
    cell.from = from->world;
    cell.to = to->world;
    t->cells[t->n_cells++] = cell;
    return PAR_OK;
}

static bool is(const nccl_traffic *t, const char *op) {
    return strcmp(t->op, op) == 0;
}

/* What a ring sends to the next rank; -1: it is not an operation of a ring. */
static double ring_of(const nccl_traffic *t, int p, int r) {
    double n = (double)t->nbytes;
    if (is(t, "all_reduce")) return 2 * n * (p - 1) / p;
    if (is(t, "reduce_scatter") || is(t, "all_gather")) return n * (p - 1);
    if (is(t, "broadcast")) return (r + 1) % p == t->peer ? 0 : n;
    if (is(t, "reduce")) return r == t->peer ? 0 : n;
    return -1;
}

static double logical_to(const nccl_traffic *t, int r, int to) {
    if (is(t, "broadcast") || is(t, "scatter")) return r == t->peer ? (double)t->nbytes : 0;
    if (is(t, "reduce") || is(t, "gather") || is(t, "send") || is(t, "put"))
        return to == t->peer ? (double)t->nbytes : 0;
    return is(t, "recv") ? 0 : (double)t->nbytes;
}

/* What goes to n ranks of the communicator, alike; more than one: of those that wrote no file. */
static par_status add_alike(walk *w, const nccl_traffic *t, int to, int n) {
    int p = w->self->size, r = w->self->rank;
    double ring = ring_of(t, p, r);
    bool point = is(t, "send") || is(t, "put");
    double logical = to == r && !point ? 0 : logical_to(t, r, to);
    double share = ring < 0 ? logical : to == (r + 1) % p && to != r ? ring : 0;
    w->table->rows[w->row].ring_nbytes += n * share;
    if (logical == 0 && share == 0) return PAR_OK;
    if (!w->member_of[to]) {
        w->table->n_missing += n;
        return PAR_OK;
    }
    return add_cell(w, (nccl_cell){.from = r, .to = to, .logical = logical, .ring = share});
}

/* Ranks with a file, then those of the others that may get more than the rest, then the rest: a
 * communicator may be a million times as large as what is there of it. */
static par_status add_cells(walk *w, const nccl_traffic *t) {
    const int p = w->self->size, special[] = {(w->self->rank + 1) % p, t->peer};
    int n = 0, other = 0;
    for (int i = w->begin; i < w->end; i++, n++)
        PAR_TRY(add_alike(w, t, w->job->members[i].rank, 1));
    for (int i = 0; i < 2; i++) {
        if (special[i] < 0 || w->member_of[special[i]] || (i > 0 && special[1] == special[0]))
            continue;
        PAR_TRY(add_alike(w, t, special[i], 1));
        n++;
    }
    while (other < p && (w->member_of[other] || other == special[0] || other == special[1]))
        other++;
    return other < p ? add_alike(w, t, other, p - n) : PAR_OK;
}

static par_status find_row(walk *w, const nccl_traffic *t) {
    char axis[16];
    nccl_table *table = w->table;
    nccl_files_axis(w->job, w->self, axis);
    for (w->row = 0; w->row < table->n_rows; w->row++) {
        const nccl_row *row = &table->rows[w->row];
        if (strcmp(row->axis, axis) == 0 && strcmp(row->op, t->op) == 0 &&
            strcmp(row->type, t->type) == 0)
            return PAR_OK;
    }
    nccl_row *more = realloc(table->rows, ((size_t)table->n_rows + 1) * sizeof *more);
    if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of an NCCL job");
    table->rows = more;
    nccl_row *row = &more[table->n_rows++];
    *row = (nccl_row){0};
    memcpy(row->axis, axis, sizeof axis);
    memcpy(row->op, t->op, sizeof row->op);
    memcpy(row->type, t->type, sizeof row->type);
    return PAR_OK;
}

/* What a receive brought belongs to its send. */
static par_status add_network(walk *w, const nccl_traffic *t, int row) {
    int r = w->self->rank;
    nccl_traffic as = *t;
    if (is(t, "recv")) snprintf(as.op, sizeof as.op, "send");
    PAR_TRY(find_row(w, &as));
    for (int i = 0; i < w->self->n_network; i++) {
        const nccl_network *n = &w->self->network[i];
        if (n->row != row) continue;
        if (n->sent > 0 || n->messages > 0)
            PAR_TRY(add_cell(w, (nccl_cell){.from = r,
                                            .to = n->peer,
                                            .sent = (double)n->sent,
                                            .seconds = n->seconds,
                                            .messages = n->messages}));
        if (n->received > 0)
            PAR_TRY(add_cell(
                w, (nccl_cell){.from = n->peer, .to = r, .received = (double)n->received}));
    }
    return PAR_OK;
}

/* Size and bus factor as NCCL's performance tests have them. */
static void count_row(nccl_row *row, const nccl_traffic *t, int p) {
    bool whole = is(t, "all_reduce") || is(t, "broadcast") || is(t, "reduce");
    bool pair = is(t, "send") || is(t, "recv") || is(t, "put");
    double size = (double)t->nbytes * (whole || pair ? 1 : p);
    double part = is(t, "all_reduce") ? 2.0 * (p - 1) / p : whole || pair ? 1 : (double)(p - 1) / p;
    if (p > row->n_ranks) row->n_ranks = p;
    row->calls += t->calls;
    row->captured += t->captured;
    row->size_nbytes += size;
    row->bus_nbytes += size * part;
    row->timed += t->timed;
    row->seconds += t->seconds;
    if (t->channels > row->channels) row->channels = t->channels;
    if (!*t->algorithm) return;
    char algorithm[sizeof row->algorithm];
    snprintf(algorithm, sizeof algorithm, "%s %s", t->algorithm, t->protocol);
    bool first = !*row->algorithm || strcmp(row->algorithm, algorithm) == 0;
    snprintf(row->algorithm, sizeof row->algorithm, "%s", first ? algorithm : "several");
}

static int by_place(const void *a, const void *b) {
    const nccl_cell *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return (x->to > y->to) - (x->to < y->to);
}

static void merge_cells(nccl_table *t) {
    int64_t n = 0;
    if (t->n_cells == 0) return;
    qsort(t->cells, (size_t)t->n_cells, sizeof *t->cells, by_place);
    for (int64_t i = 0; i < t->n_cells; i++) {
        if (n > 0 && by_place(&t->cells[n - 1], &t->cells[i]) == 0) {
            t->cells[n - 1].logical += t->cells[i].logical;
            t->cells[n - 1].ring += t->cells[i].ring;
            t->cells[n - 1].sent += t->cells[i].sent;
            t->cells[n - 1].received += t->cells[i].received;
            t->cells[n - 1].seconds += t->cells[i].seconds;
            t->cells[n - 1].messages += t->cells[i].messages;
        } else {
            t->cells[n++] = t->cells[i];
        }
    }
    t->n_cells = n;
    for (int64_t i = 0; i < n; i++) {
        nccl_row *row = &t->rows[t->cells[i].row];
        row->network_nbytes += nccl_network_nbytes(&t->cells[i]);
        row->network_s += t->cells[i].seconds;
        row->messages += t->cells[i].messages;
    }
}

static par_status take_communicator(walk *w, int begin, int end) {
    const nccl_member **member_of = calloc((size_t)w->job->members[begin].size, sizeof *member_of);
    par_status st = PAR_OK;
    if (!member_of) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of an NCCL job");
    w->member_of = member_of;
    w->begin = begin;
    w->end = end;
    for (int i = begin; i < end; i++) member_of[w->job->members[i].rank] = &w->job->members[i];
    for (int i = begin; i < end && st == PAR_OK; i++) {
        w->self = &w->job->members[i];
        if (w->job->files[w->self->file].profiled != w->self->profiled) continue;
        for (int k = 0; k < w->self->n && st == PAR_OK; k++) {
            const nccl_traffic *t = &w->self->traffic[k];
            st = find_row(w, t);
            if (st != PAR_OK) break;
            count_row(&w->table->rows[w->row], t, w->self->size);
            st = add_cells(w, t);
            if (st == PAR_OK && w->self->n_network > 0) st = add_network(w, t, k);
        }
    }
    free(member_of);
    return st;
}

par_status nccl_traffic_make(const nccl_job *job, nccl_table *out) {
    nccl_table table = {0};
    walk w = {.table = &table, .job = job};
    par_status st = PAR_OK;
    for (int begin = 0, end; begin < job->n_members && st == PAR_OK; begin = end) {
        end = nccl_files_end(job, begin);
        st = take_communicator(&w, begin, end);
    }
    merge_cells(&table);
    if (st == PAR_OK)
        *out = table;
    else
        nccl_traffic_free(&table);
    return st;
}

void nccl_traffic_free(nccl_table *table) {
    free(table->rows);
    free(table->cells);
    *table = (nccl_table){0};
}
