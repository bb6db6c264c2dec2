/* A communication matrix from its JSON, written by libpar or by another recorder: every value is
 * checked, what is not known is left aside. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "matrix_columns.h"

enum { MAX_RANKS = 1 << 20, MAX_COLUMNS = 32, NO_COLUMN = -1, FROM = -2, TO = -3 };
static const int64_t max_nbytes = INT64_C(4) << 30;

typedef struct {
    const char *path;
    par_matrix *m;
    int columns[MAX_COLUMNS]; /* a quantity, or FROM, TO, NO_COLUMN */
    size_t n_columns;
} reading;

static par_status refuse(const reading *r, const char *what) {
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: is not a communication matrix: %s; legal: a file that begins with "
             "{\"form\": \"" PAR__MATRIX_FORM "\"",
             r->path, what);
}

static par_status no_memory(const reading *r) {
    PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for the communication matrix", r->path);
}

/* An array of the object, or an empty one; NULL and an error if it is something else. */
static par_status array_of(const reading *r, const json_t *o, const char *key, json_t **out) {
    *out = json_object_get(o, key);
    return !*out || json_is_array(*out) ? PAR_OK : refuse(r, "a list is none");
}

static par_status text_of(const reading *r, const json_t *o, const char *key, char *out,
                          size_t nbytes) {
    const char *text = json_string_value(json_object_get(o, key));
    if (!text) return refuse(r, "a name is missing");
    snprintf(out, nbytes, "%.*s", (int)nbytes - 1, text);
    return PAR_OK;
}

static int64_t whole_of(const json_t *o, const char *key) {
    return json_integer_value(json_object_get(o, key));
}

static double real_of(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static par_status read_layout(reading *r, const json_t *o) {
    json_t *order, *size;
    par_layout *l = &r->m->layout;
    char text[64] = "";
    int64_t product = 1;
    if (!o) return PAR_OK;
    PAR_TRY(array_of(r, o, "order", &order));
    PAR_TRY(array_of(r, o, "size", &size));
    if (json_array_size(order) != PAR_AXIS_COUNT || json_array_size(size) != PAR_AXIS_COUNT)
        return refuse(r, "a layout does not have four axes");
    for (size_t i = 0; i < PAR_AXIS_COUNT; i++) {
        const char *axis = json_string_value(json_array_get(order, i));
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s%.8s", i ? "-" : "", axis ? axis : "");
    }
    if (par_layout_parse_order(text, l->order) != PAR_OK)
        return refuse(r, "axes are not tp, cp, dp and pp");
    for (size_t i = 0; i < PAR_AXIS_COUNT; i++) {
        json_int_t n = json_integer_value(json_array_get(size, i));
        if (n < 1 || n > MAX_RANKS) return refuse(r, "an axis has no ranks");
        l->size[l->order[i]] = (int)n;
        product *= product <= MAX_RANKS ? n : 1;
    }
    if (product != r->m->size) return refuse(r, "the layout is of another number of ranks");
    r->m->has_layout = true;
    return PAR_OK;
}

static par_status read_hosts(reading *r, const json_t *root) {
    json_t *hosts, *host;
    par_matrix *m = r->m;
    PAR_TRY(array_of(r, root, "hosts", &hosts));
    PAR_TRY(array_of(r, root, "host", &host));
    if (!hosts || !host) return PAR_OK;
    size_t n = json_array_size(hosts);
    if (n < 1 || n > (size_t)m->size || json_array_size(host) != (size_t)m->size)
        return refuse(r, "hosts are not those of the ranks");
    m->hosts = calloc(n, sizeof *m->hosts);
    m->host = calloc((size_t)m->size, sizeof *m->host);
    if (!m->hosts || !m->host) return no_memory(r);
    m->n_hosts = (int)n;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(hosts, i));
        snprintf(m->hosts[i], sizeof *m->hosts, "%.63s", name ? name : "");
    }
    for (int i = 0; i < m->size; i++) {
        json_int_t h = json_integer_value(json_array_get(host, (size_t)i));
        if (h < 0 || h >= m->n_hosts) return refuse(r, "a rank's host does not exist");
        m->host[i] = (int)h;
    }
    return PAR_OK;
}

static par_status read_columns(reading *r, const json_t *columns) {
    bool ends[2] = {false, false};
    r->n_columns = json_array_size(columns);
    if (r->n_columns > MAX_COLUMNS) return refuse(r, "there are too many columns");
    for (size_t i = 0; i < r->n_columns; i++) {
        const char *name = json_string_value(json_array_get(columns, i));
        r->columns[i] = NO_COLUMN;
        for (int q = 0; name && q < PAR_MATRIX_QUANTITIES; q++)
            if (strcmp(name, par__matrix_columns[q].name) == 0) r->columns[i] = q;
        if (name && strcmp(name, "from") == 0) r->columns[i] = FROM;
        if (name && strcmp(name, "to") == 0) r->columns[i] = TO;
        if (r->columns[i] >= 0) r->m->known[r->columns[i]] = true;
        if (r->columns[i] == FROM) ends[0] = true;
        if (r->columns[i] == TO) ends[1] = true;
    }
    return ends[0] && ends[1] ? PAR_OK : refuse(r, "columns have no from and to");
}

static par_status read_cell(const reading *r, const json_t *list, par_matrix_cell *cell) {
    *cell = (par_matrix_cell){.from = -1, .to = -1};
    if (json_array_size(list) != r->n_columns) return refuse(r, "a cell is not of the columns");
    for (size_t i = 0; i < r->n_columns; i++) {
        const json_t *value = json_array_get(list, i);
        json_int_t whole = json_integer_value(value);
        int column = r->columns[i];
        if (!json_is_number(value)) return refuse(r, "a cell has something that is not a number");
        if (column == FROM || column == TO) {
            if (whole < 0 || whole >= r->m->size || !json_is_integer(value))
                return refuse(r, "a cell is of a rank that does not exist");
            *(column == FROM ? &cell->from : &cell->to) = (int32_t)whole;
        }
        if (column < 0) continue;
        double real = json_number_value(value);
        void *at = (char *)cell + par__matrix_columns[column].offset;
        if (!(real >= 0)) return refuse(r, "a cell has a negative number");
        if (par__matrix_columns[column].real)
            memcpy(at, &real, sizeof real);
        else
            memcpy(at, &(int64_t){json_is_integer(value) ? whole : 0}, sizeof(int64_t));
    }
    return PAR_OK;
}

static int by_ranks(const void *a, const void *b) {
    const par_matrix_cell *x = a, *y = b;
    return x->from != y->from ? (x->from > y->from) - (x->from < y->from)
                              : (x->to > y->to) - (x->to < y->to);
}

static par_status read_lines(reading *r, const json_t *root) {
    json_t *lines, *cells;
    PAR_TRY(array_of(r, root, "lines", &lines));
    size_t n = json_array_size(lines);
    if (n > 65536) return refuse(r, "there are too many lines");
    r->m->lines = calloc(n ? n : 1, sizeof *r->m->lines);
    if (!r->m->lines) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(lines, i);
        par_matrix_line *line = &r->m->lines[r->m->n++];
        PAR_TRY(text_of(r, o, "axis", line->axis, sizeof line->axis));
        PAR_TRY(text_of(r, o, "purpose", line->purpose, sizeof line->purpose));
        PAR_TRY(array_of(r, o, "cells", &cells));
        size_t n_cells = json_array_size(cells);
        line->cells = calloc(n_cells ? n_cells : 1, sizeof *line->cells);
        if (!line->cells) return no_memory(r);
        for (size_t k = 0; k < n_cells; k++)
            PAR_TRY(read_cell(r, json_array_get(cells, k), &line->cells[line->n++]));
        qsort(line->cells, n_cells, sizeof *line->cells, by_ranks);
    }
    return PAR_OK;
}

static par_status read_ops(reading *r, const json_t *root) {
    json_t *list;
    PAR_TRY(array_of(r, root, "operations", &list));
    size_t n = json_array_size(list);
    r->m->ops = calloc(n ? n : 1, sizeof *r->m->ops);
    if (!r->m->ops) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        par_traffic_op *p = &r->m->ops[r->m->n_ops++];
        PAR_TRY(text_of(r, o, "axis", p->axis, sizeof p->axis));
        PAR_TRY(text_of(r, o, "purpose", p->purpose, sizeof p->purpose));
        PAR_TRY(text_of(r, o, "op", p->op, sizeof p->op));
        p->n_ranks = (int)whole_of(o, "n_ranks");
        p->n_ops = whole_of(o, "n_ops");
        p->nbytes = whole_of(o, "nbytes");
        p->n_messages = whole_of(o, "n_messages");
        p->logical_nbytes = whole_of(o, "logical_nbytes");
        p->bus_nbytes = real_of(o, "bus_nbytes");
        p->wait_s = real_of(o, "wait_s");
        p->hidden_s = real_of(o, "hidden_s");
        p->seconds = real_of(o, "seconds");
    }
    return PAR_OK;
}

static par_status read_layers(reading *r, const json_t *root) {
    json_t *list;
    PAR_TRY(array_of(r, root, "layers", &list));
    size_t n = json_array_size(list);
    r->m->layers = calloc(n ? n : 1, sizeof *r->m->layers);
    if (!r->m->layers) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        par_traffic_layer *l = &r->m->layers[r->m->n_layers++];
        PAR_TRY(text_of(r, o, "axis", l->axis, sizeof l->axis));
        PAR_TRY(text_of(r, o, "purpose", l->purpose, sizeof l->purpose));
        PAR_TRY(text_of(r, o, "phase", l->phase, sizeof l->phase));
        l->layer = (int)whole_of(o, "layer");
        l->n_ops = whole_of(o, "n_ops");
        l->nbytes = whole_of(o, "nbytes");
        l->n_messages = whole_of(o, "n_messages");
        l->wait_s = real_of(o, "wait_s");
    }
    return PAR_OK;
}

static par_status read_all(reading *r, const json_t *root) {
    par_matrix *m = r->m;
    const char *form = json_string_value(json_object_get(root, "form"));
    int64_t size = whole_of(root, "ranks");
    if (!form || strcmp(form, PAR__MATRIX_FORM) != 0) return refuse(r, "it does not say so");
    if (size < 1 || size > MAX_RANKS) return refuse(r, "ranks is missing or out of range");
    m->size = (int)size;
    m->overflow = json_is_false(json_object_get(root, "complete"));
    m->steps = whole_of(root, "steps");
    m->seconds = real_of(root, "seconds");
    const char *program = json_string_value(json_object_get(root, "program"));
    snprintf(m->program, sizeof m->program, "%.31s", program ? program : "unknown");
    PAR_TRY(read_layout(r, json_object_get(root, "layout")));
    PAR_TRY(read_hosts(r, root));
    PAR_TRY(read_columns(r, json_object_get(root, "columns")));
    PAR_TRY(read_lines(r, root));
    PAR_TRY(read_ops(r, root));
    return read_layers(r, root);
}

par_status par_matrix_read_json(const char *path, par_matrix **out) {
    char *text = NULL;
    size_t nbytes = 0;
    json_error_t error;
    PAR_REQUIRE(path && out);
    PAR_TRY(par__read_file(path, max_nbytes, &text, &nbytes));
    reading r = {.path = path, .m = calloc(1, sizeof *r.m)};
    json_t *root = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &error);
    par_status st = !r.m ? no_memory(&r) : root ? read_all(&r, root) : refuse(&r, error.text);
    json_decref(root);
    free(text);
    if (st != PAR_OK) par_matrix_destroy(&r.m);
    if (st == PAR_OK) *out = r.m;
    return st;
}
