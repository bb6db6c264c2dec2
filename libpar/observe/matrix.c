/*
 * The communication matrix: every rank's tables of counted and of predicted bytes, brought to rank
 * 0 line by line. Ranks have different lines (only two stages hold a tied embedding), so names are
 * exchanged first and every rank makes the same list of them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "traffic_table.h"

static const par_tag tag = {"communication matrix", -1, -1, -1};

/* What a rank tells of a table before its numbers. */
typedef struct {
    int32_t n, overflow;
    char axis[PAR_TRAFFIC_LINES][16], purpose[PAR_TRAFFIC_LINES][32];
} names;

typedef struct {
    par_comm *comm;
    int size, n, overflow;
    names *all;              /* [size, 2] */
    par_matrix_line *lines;  /* names only, but on rank 0: [PAR_TRAFFIC_LINES] */
    int64_t *mine, *numbers; /* [2, size], [size, 2, size] */
} gathering;

static names names_of(const par_traffic *t) {
    names out = {.n = t->n, .overflow = t->overflow};
    memcpy(out.axis, t->axis, sizeof out.axis);
    memcpy(out.purpose, t->purpose, sizeof out.purpose);
    return out;
}

static int find(const par_matrix_line *lines, int n, const char *axis, const char *purpose) {
    for (int i = 0; i < n; i++)
        if (strcmp(lines[i].axis, axis) == 0 && strcmp(lines[i].purpose, purpose) == 0) return i;
    return -1;
}

/* The same list on every rank, in the order of ranks and of their tables. */
static void unite(gathering *g) {
    for (int t = 0; t < 2 * g->size; t++) {
        const names *from = &g->all[t];
        g->overflow |= from->overflow;
        for (int i = 0; i < from->n; i++) {
            if (find(g->lines, g->n, from->axis[i], from->purpose[i]) >= 0) continue;
            if (g->n == PAR_TRAFFIC_LINES) {
                g->overflow = 1;
                continue;
            }
            memcpy(g->lines[g->n].axis, from->axis[i], sizeof from->axis[i]);
            memcpy(g->lines[g->n++].purpose, from->purpose[i], sizeof from->purpose[i]);
        }
    }
}

static void take_line(const par_traffic *t, const par_matrix_line *line, int64_t *out) {
    memset(out, 0, (size_t)t->size * sizeof *out);
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->axis[i], line->axis) == 0 && strcmp(t->purpose[i], line->purpose) == 0)
            memcpy(out, t->sent + (int64_t)i * t->size, (size_t)t->size * sizeof *out);
}

static void keep_line(const gathering *g, par_matrix_line *line) {
    size_t row = (size_t)g->size;
    for (int r = 0; r < g->size; r++) {
        const int64_t *from = g->numbers + 2 * row * (size_t)r;
        memcpy(line->counted + row * (size_t)r, from, row * sizeof *from);
        memcpy(line->predicted + row * (size_t)r, from + row, row * sizeof *from);
    }
}

static par_status allocate_lines(gathering *g) {
    size_t n = (size_t)g->size * (size_t)g->size;
    if (par_comm_rank(g->comm) != 0) return PAR_OK;
    for (int i = 0; i < g->n; i++) {
        g->lines[i].counted = calloc(n, sizeof(int64_t));
        g->lines[i].predicted = calloc(n, sizeof(int64_t));
        if (!g->lines[i].counted || !g->lines[i].predicted)
            PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic between %d ranks", g->size);
    }
    return PAR_OK;
}

static par_status gather_all(gathering *g, const par_traffic *counted,
                             const par_traffic *predicted) {
    names own[2] = {names_of(counted), names_of(predicted)};
    par_comm *comm = g->comm;
    PAR_TRY(par_comm_all_gather(comm, own, g->all, sizeof own, PAR_U8, tag, NULL, NULL));
    unite(g);
    PAR_TRY(par_comm_agree(comm, allocate_lines(g)));
    for (int i = 0; i < g->n; i++) {
        take_line(counted, &g->lines[i], g->mine);
        take_line(predicted, &g->lines[i], g->mine + g->size);
        PAR_TRY(
            par_comm_all_gather(comm, g->mine, g->numbers, 2 * g->size, PAR_I64, tag, NULL, NULL));
        if (par_comm_rank(comm) == 0) keep_line(g, &g->lines[i]);
    }
    return PAR_OK;
}

static par_status prepare(gathering *g, const par_traffic *counted, const par_traffic *predicted) {
    size_t size = (size_t)g->size;
    if (!counted || !predicted || counted->size != g->size || predicted->size != g->size)
        PAR_FAIL(PAR_ERR_ARG, "traffic tables are not of the %d ranks of the communicator",
                 g->size);
    g->all = calloc(2 * size, sizeof *g->all);
    g->mine = calloc(2 * size, sizeof *g->mine);
    g->numbers = calloc(2 * size * size, sizeof *g->numbers);
    g->lines = calloc(PAR_TRAFFIC_LINES, sizeof *g->lines);
    if (!g->all || !g->mine || !g->numbers || !g->lines)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic between %d ranks", g->size);
    return PAR_OK;
}

static void free_lines(par_matrix_line *lines, int n) {
    for (int i = 0; lines && i < n; i++) {
        free(lines[i].counted);
        free(lines[i].predicted);
    }
    free(lines);
}

par_status par_matrix_gather(par_comm *comm, const par_traffic *counted,
                             const par_traffic *predicted, par_matrix **out) {
    PAR_REQUIRE(comm && out);
    gathering g = {.comm = comm, .size = par_comm_size(comm)};
    par_matrix *matrix = calloc(1, sizeof *matrix);
    par_status st =
        matrix ? prepare(&g, counted, predicted)
               : par_error_set(PAR_ERR_MEMORY, "no host memory for a communication matrix");
    st = par_comm_agree(comm, st);
    if (st == PAR_OK) st = gather_all(&g, counted, predicted);
    free(g.all);
    free(g.mine);
    free(g.numbers);
    *out = NULL;
    if (st == PAR_OK && par_comm_rank(comm) == 0) {
        *matrix = (par_matrix){g.size, g.n, g.lines, g.overflow != 0};
        *out = matrix;
        return PAR_OK;
    }
    free_lines(g.lines, g.n);
    free(matrix);
    return st;
}

void par_matrix_destroy(par_matrix **handle) {
    if (!handle || !*handle) return;
    free_lines((*handle)->lines, (*handle)->n);
    free(*handle);
    *handle = NULL;
}

static par_status write_cells(const par_matrix *m, const par_matrix_line *line,
                              par__writer *writer) {
    char text[256];
    for (int64_t i = 0; i < (int64_t)m->size * m->size; i++) {
        if (line->counted[i] == 0 && line->predicted[i] == 0) continue;
        int n = snprintf(text, sizeof text, "%s,%s,%d,%d,%" PRId64 ",%" PRId64 "\n", line->axis,
                         line->purpose, (int)(i / m->size), (int)(i % m->size), line->counted[i],
                         line->predicted[i]);
        PAR_TRY(par__writer_write(writer, text, (size_t)n));
    }
    return PAR_OK;
}

par_status par_matrix_write_csv(const par_matrix *m, const char *path) {
    static const char head[] = "axis,purpose,from,to,counted,predicted\n";
    par__writer writer;
    PAR_REQUIRE(m && path);
    PAR_TRY(par__writer_open(path, &writer));
    par_status st = par__writer_write(&writer, head, sizeof head - 1);
    for (int i = 0; st == PAR_OK && i < m->n; i++) st = write_cells(m, &m->lines[i], &writer);
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}
