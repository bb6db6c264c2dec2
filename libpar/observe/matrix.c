/*
 * The communication matrix: every rank's tables of counted and of predicted traffic on rank 0. Each
 * rank packs what is not 0 into one message, so that a run of many ranks ends with as many messages
 * as it has ranks; ranks have different lines (only two stages hold a tied embedding), and rank 0
 * unites them in the order in which they come.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic_table.h"

enum { MAX_LINES = 2 * PAR_TRAFFIC_LINES };

static const par_tag tag = {"communication matrix", -1, -1, -1};

/* A rank's message: this, then so many names, ops, layers and cells. Ranks have one architecture,
 * as all that they exchange needs. */
typedef struct {
    int32_t n_lines, n_ops, n_layers, overflow;
    int64_t n_cells;
    char host[64];
} head;

typedef struct {
    char axis[16], purpose[32];
} name;

typedef struct {
    int64_t line;
    par_matrix_cell cell;
} packed;

typedef struct {
    par_comm *comm;
    char *message;      /* this rank's, on rank 0 any rank's */
    int64_t *sizes;     /* [size] bytes of messages */
    par_matrix *matrix; /* on rank 0 */
} gathering;

/* Adds the table's names to the list; line i of the table is names[at[i]]. */
static void unite_names(name *names, int *n, const par_traffic *t, int *at) {
    for (int i = 0; t && i < t->n; i++) {
        int k = 0;
        name like;
        memcpy(like.axis, t->axis[i], sizeof like.axis);
        memcpy(like.purpose, t->purpose[i], sizeof like.purpose);
        while (k < *n && (strcmp(names[k].axis, like.axis) != 0 ||
                          strcmp(names[k].purpose, like.purpose) != 0))
            k++;
        if (k == *n) names[(*n)++] = like;
        at[i] = k;
    }
}

/* A line's cells, [size] or NULL. */
static const par_recorder_cell *cells_of(const par_traffic *t, const int *at, int line) {
    for (int i = 0; t && i < t->n; i++)
        if (at[i] == line) return t->cells + (int64_t)i * t->size;
    return NULL;
}

/* Cells that are not 0 of both, to out, which may be NULL; how many. */
static int64_t pack_line(const par_recorder_cell *counted, const par_recorder_cell *predicted,
                         int size, int rank, int64_t line, packed *out) {
    static const par_recorder_cell none;
    int64_t n = 0;
    for (int to = 0; to < size; to++) {
        const par_recorder_cell *c = counted ? &counted[to] : &none;
        int64_t expected = predicted ? predicted[to].nbytes : 0;
        if (!c->nbytes && !c->n_messages && !c->logical_nbytes && c->wait_s == 0 && !expected)
            continue;
        if (out)
            out[n] = (packed){line,
                              {.from = rank,
                               .to = to,
                               .nbytes = c->nbytes,
                               .n_messages = c->n_messages,
                               .logical_nbytes = c->logical_nbytes,
                               .predicted_nbytes = expected,
                               .wait_s = c->wait_s}};
        n++;
    }
    return n;
}

static void *append(char **at, const void *data, size_t nbytes) {
    char *begin = *at;
    if (nbytes > 0 && data) memcpy(begin, data, nbytes);
    *at += nbytes;
    return begin;
}

/* This rank's message and its size. */
static par_status pack(const par_traffic *counted, const par_traffic *predicted, int rank,
                       char **out, int64_t *nbytes) {
    head h = {.n_ops = counted->n_ops, .n_layers = counted->n_layers};
    name names[MAX_LINES];
    int at[2][PAR_TRAFFIC_LINES], n = 0;
    unite_names(names, &n, counted, at[0]);
    unite_names(names, &n, predicted, at[1]);
    for (int i = 0; i < n; i++)
        h.n_cells += pack_line(cells_of(counted, at[0], i), cells_of(predicted, at[1], i),
                               counted->size, rank, i, NULL);
    h.n_lines = n;
    h.overflow = counted->overflow || (predicted && predicted->overflow);
    gethostname(h.host, sizeof h.host - 1);
    size_t ops = (size_t)h.n_ops * sizeof *counted->ops,
           layers = (size_t)h.n_layers * sizeof *counted->layers,
           cells = (size_t)h.n_cells * sizeof(packed);
    *nbytes = (int64_t)(sizeof h + (size_t)n * sizeof *names + ops + layers + cells);
    char *p = *out = calloc(1, (size_t)*nbytes);
    if (!p) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of rank %d", rank);
    append(&p, &h, sizeof h);
    append(&p, names, (size_t)n * sizeof *names);
    append(&p, counted->ops, ops);
    append(&p, counted->layers, layers);
    packed *to = append(&p, NULL, cells);
    for (int i = 0; i < n; i++)
        to += pack_line(cells_of(counted, at[0], i), cells_of(predicted, at[1], i), counted->size,
                        rank, i, to);
    return PAR_OK;
}

/* Room for `more` elements behind n. */
static par_status grow(void **array, int64_t n, int64_t more, size_t nbytes) {
    if (more == 0) return PAR_OK;
    void *larger = realloc(*array, (size_t)(n + more) * nbytes);
    if (!larger) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the communication matrix");
    *array = larger;
    return PAR_OK;
}

/* Cells of a line stand behind each other; the matrix's line of a name is made on first use. */
static par_status take_cells(par_matrix *m, const name *names, const packed *cells, int64_t n) {
    for (int64_t i = 0, end; i < n; i = end) {
        const name *of = &names[cells[i].line];
        int at = 0;
        for (end = i; end < n && cells[end].line == cells[i].line;) end++;
        while (at < m->n && (strcmp(m->lines[at].axis, of->axis) != 0 ||
                             strcmp(m->lines[at].purpose, of->purpose) != 0))
            at++;
        if (at == m->n) {
            PAR_TRY(grow((void **)&m->lines, at, 1, sizeof *m->lines));
            m->lines[m->n++] = (par_matrix_line){0};
            memcpy(m->lines[at].axis, of->axis, sizeof of->axis);
            memcpy(m->lines[at].purpose, of->purpose, sizeof of->purpose);
        }
        par_matrix_line *line = &m->lines[at];
        PAR_TRY(grow((void **)&line->cells, line->n, end - i, sizeof *line->cells));
        for (int64_t k = i; k < end; k++) line->cells[line->n++] = cells[k].cell;
    }
    return PAR_OK;
}

static par_status take_ops(par_matrix *m, const par_traffic_op *ops, int n) {
    PAR_TRY(grow((void **)&m->ops, m->n_ops, n, sizeof *ops));
    for (int i = 0, hint = 0; i < n; i++) {
        int at = par__traffic_find_op(m->ops, m->n_ops, &ops[i], hint);
        hint = at + 1;
        if (at < 0) {
            m->ops[m->n_ops++] = ops[i];
            continue;
        }
        par_traffic_op *o = &m->ops[at];
        bool timed = (o->seconds > 0 || o->n_ops == 0) && (ops[i].seconds > 0 || ops[i].n_ops == 0);
        if (o->n_ranks < ops[i].n_ranks) o->n_ranks = ops[i].n_ranks;
        o->n_ops += ops[i].n_ops;
        o->nbytes += ops[i].nbytes;
        o->n_messages += ops[i].n_messages;
        o->logical_nbytes += ops[i].logical_nbytes;
        o->bus_nbytes += ops[i].bus_nbytes;
        o->seconds = timed ? o->seconds + ops[i].seconds : 0; /* of all ranks, or not known */
        o->wait_s += ops[i].wait_s;
        o->hidden_s += ops[i].hidden_s;
    }
    return PAR_OK;
}

static par_status take_layers(par_matrix *m, const par_traffic_layer *layers, int n) {
    PAR_TRY(grow((void **)&m->layers, m->n_layers, n, sizeof *layers));
    for (int i = 0, hint = 0; i < n; i++) {
        int at = par__traffic_find_layer(m->layers, m->n_layers, &layers[i], hint);
        hint = at + 1;
        if (at < 0) {
            m->layers[m->n_layers++] = layers[i];
            continue;
        }
        m->layers[at].n_ops += layers[i].n_ops;
        m->layers[at].nbytes += layers[i].nbytes;
        m->layers[at].n_messages += layers[i].n_messages;
        m->layers[at].wait_s += layers[i].wait_s;
    }
    return PAR_OK;
}

static par_status take(par_matrix *m, int rank, const char *message) {
    const head *h = (const head *)message;
    const name *names = (const name *)(h + 1);
    const par_traffic_op *ops = (const par_traffic_op *)(names + h->n_lines);
    const par_traffic_layer *layers = (const par_traffic_layer *)(ops + h->n_ops);
    m->overflow = m->overflow || h->overflow;
    int host = 0;
    while (host < m->n_hosts && strcmp(m->hosts[host], h->host) != 0) host++;
    if (host == m->n_hosts) {
        PAR_TRY(grow((void **)&m->hosts, host, 1, sizeof *m->hosts));
        memcpy(m->hosts[m->n_hosts++], h->host, sizeof *m->hosts);
    }
    m->host[rank] = host;
    PAR_TRY(take_ops(m, ops, h->n_ops));
    PAR_TRY(take_layers(m, layers, h->n_layers));
    return take_cells(m, names, (const packed *)(layers + h->n_layers), h->n_cells);
}

/* On rank 0: a matrix without lines, and room for the longest message behind its own. */
static par_status prepare(gathering *g, bool predicted) {
    int size = par_comm_size(g->comm);
    int64_t most = 0;
    if (par_comm_rank(g->comm) != 0) return PAR_OK;
    for (int r = 0; r < size; r++)
        if (g->sizes[r] > most) most = g->sizes[r];
    char *larger = realloc(g->message, (size_t)most);
    if (larger) g->message = larger;
    par_matrix *m = g->matrix = calloc(1, sizeof *m);
    if (m) m->host = calloc((size_t)size, sizeof *m->host);
    if (!larger || !m || !m->host)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a communication matrix of %d ranks", size);
    *m = (par_matrix){.size = size, .host = m->host, .program = "libpar"};
    for (int i = 0; i < PAR_MATRIX_QUANTITIES; i++)
        m->known[i] = i != PAR_MATRIX_PREDICTED || predicted;
    return PAR_OK;
}

/* What rank 0 cannot take in any more it still receives: the others do not wait. */
static par_status exchange(gathering *g) {
    par_comm *comm = g->comm;
    if (par_comm_rank(comm) != 0)
        return par_comm_send(comm, g->message, g->sizes[par_comm_rank(comm)], PAR_U8, 0, tag, NULL,
                             NULL);
    par_status taken = take(g->matrix, 0, g->message);
    for (int r = 1; r < par_comm_size(comm); r++) {
        PAR_TRY(par_comm_recv(comm, g->message, g->sizes[r], PAR_U8, r, tag, NULL, NULL));
        if (taken == PAR_OK) taken = take(g->matrix, r, g->message);
    }
    return taken;
}

static par_status begin(gathering *g, const par_traffic *counted, const par_traffic *predicted,
                        int64_t *nbytes) {
    int size = par_comm_size(g->comm);
    if (!counted || counted->size != size || (predicted && predicted->size != size))
        PAR_FAIL(PAR_ERR_ARG, "traffic tables are not of the %d ranks of the communicator", size);
    g->sizes = calloc((size_t)size, sizeof *g->sizes);
    if (!g->sizes) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic between ranks");
    return pack(counted, predicted, par_comm_rank(g->comm), &g->message, nbytes);
}

par_status par_matrix_gather(par_comm *comm, const par_traffic *counted,
                             const par_traffic *predicted, par_matrix **out) {
    PAR_REQUIRE(comm && out);
    gathering g = {.comm = comm};
    int64_t nbytes = 0;
    *out = NULL;
    par_status st = par_comm_agree(comm, begin(&g, counted, predicted, &nbytes));
    if (st == PAR_OK) st = par_comm_all_gather(comm, &nbytes, g.sizes, 1, PAR_I64, tag, NULL, NULL);
    if (st == PAR_OK) st = par_comm_agree(comm, prepare(&g, predicted != NULL));
    if (st == PAR_OK) st = par_comm_agree(comm, exchange(&g));
    free(g.sizes);
    free(g.message);
    if (st != PAR_OK) par_matrix_destroy(&g.matrix);
    *out = g.matrix;
    return st;
}

void par_matrix_destroy(par_matrix **handle) {
    par_matrix *m = handle ? *handle : NULL;
    if (!m) return;
    for (int i = 0; i < m->n; i++) free(m->lines[i].cells);
    free(m->lines);
    free(m->ops);
    free(m->layers);
    free(m->hosts);
    free(m->host);
    free(m);
    *handle = NULL;
}
