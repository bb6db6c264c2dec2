/* The communication matrix as JSON. It is written piece by piece, since a large world has many
 * cells; docs/diagnostics.md describes the form. */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/base/json_text.h"
#include "libpar/mesh/layout.h"
#include "matrix_columns.h"
#include "matrix_map.h"

typedef struct {
    par__writer writer;
    par_status status; /* the first failure; nothing is written after it */
} output;

__attribute__((format(printf, 2, 3))) static void put(output *o, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (o->status == PAR_OK) o->status = par__writer_write(&o->writer, text, (size_t)n);
}

/* A JSON value, which is taken; NULL: there was no memory for it, or a text was not UTF-8. */
static void put_json(output *o, json_t *value) {
    char *text = value ? par__json_text(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text && o->status == PAR_OK)
        o->status = par_error_set(PAR_ERR_MEMORY, "no host memory for JSON, or a name in it is not "
                                                  "UTF-8");
    if (o->status == PAR_OK) o->status = par__writer_write(&o->writer, text, strlen(text));
    free(text);
}

static void put_head(output *o, const par_matrix *m) {
    put(o, "{\"form\": \"" PAR__MATRIX_FORM "\",\n\"program\": ");
    put_json(o, json_string(m->program));
    put(o, ",\n\"ranks\": %d", m->size);
    if (m->has_layout) {
        json_t *order = json_array(), *size = json_array();
        const par_layout l = par__layout_filled(&m->layout);
        for (int i = 0; i < PAR_AXIS_COUNT; i++) {
            json_array_append_new(order, json_string(par_axis_name(l.order[i])));
            json_array_append_new(size, json_integer(l.size[l.order[i]]));
        }
        put(o, ",\n\"layout\": ");
        put_json(o, json_pack("{s:o, s:o}", "order", order, "size", size));
    }
    if (m->host) {
        json_t *hosts = json_array(), *host = json_array();
        for (int i = 0; i < m->n_hosts; i++) json_array_append_new(hosts, json_string(m->hosts[i]));
        for (int i = 0; i < m->size; i++) json_array_append_new(host, json_integer(m->host[i]));
        put(o, ",\n\"hosts\": ");
        put_json(o, hosts);
        put(o, ",\n\"host\": ");
        put_json(o, host);
    }
    if (m->steps) put(o, ",\n\"steps\": %" PRId64, m->steps);
    if (m->seconds > 0) put(o, ",\n\"seconds\": %.9g", m->seconds);
    put(o, ",\n\"complete\": %s,\n\"columns\": [\"from\", \"to\"", m->overflow ? "false" : "true");
    for (int q = 0; q < PAR_MATRIX_QUANTITIES; q++)
        if (m->known[q]) put(o, ", \"%s\"", par__matrix_columns[q].name);
    put(o, "]");
}

static void put_cell(output *o, const par_matrix *m, const par_matrix_cell *cell) {
    put(o, "[%d, %d", (int)cell->from, (int)cell->to);
    for (int q = 0; q < PAR_MATRIX_QUANTITIES; q++)
        if (m->known[q] && par__matrix_columns[q].real)
            put(o, ", %.6g", par_matrix_value(cell, (par_matrix_quantity)q));
        else if (m->known[q])
            put(o, ", %" PRId64, par__matrix_whole(cell, (par_matrix_quantity)q));
    put(o, "]");
}

static void put_lines(output *o, const par_matrix *m) {
    put(o, ",\n\"lines\": [");
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        put(o, "%s\n{\"axis\": ", i ? "," : "");
        put_json(o, json_string(line->axis));
        put(o, ", \"purpose\": ");
        put_json(o, json_string(line->purpose));
        put(o, "%s, \"cells\": [", par_matrix_is_predicted(line) ? "" : ", \"unpredicted\": true");
        for (int64_t k = 0; k < line->n; k++) {
            if (k) put(o, ",%s", k % 4 ? " " : "\n");
            put_cell(o, m, &line->cells[k]);
        }
        put(o, "]}");
    }
    put(o, "]");
}

static void put_ops(output *o, const par_matrix *m) {
    put(o, ",\n\"operations\": [");
    for (int i = 0; i < m->n_ops; i++) {
        const par_traffic_op *p = &m->ops[i];
        put(o, i ? ",\n" : "\n");
        put_json(o,
                 json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "axis",
                           p->axis, "purpose", p->purpose, "op", p->op, "n_ranks", p->n_ranks,
                           "n_ops", (json_int_t)p->n_ops, "nbytes", (json_int_t)p->nbytes,
                           "n_messages", (json_int_t)p->n_messages, "logical_nbytes",
                           (json_int_t)p->logical_nbytes, "bus_nbytes", p->bus_nbytes, "wait_s",
                           p->wait_s, "hidden_s", p->hidden_s, "seconds", p->seconds));
    }
    put(o, "]");
}

static void put_layers(output *o, const par_matrix *m) {
    put(o, ",\n\"layers\": [");
    for (int i = 0; i < m->n_layers; i++) {
        const par_traffic_layer *l = &m->layers[i];
        put(o, i ? ",\n" : "\n");
        put_json(o, json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:f}", "axis", l->axis,
                              "purpose", l->purpose, "layer", l->layer, "phase", l->phase, "n_ops",
                              (json_int_t)l->n_ops, "nbytes", (json_int_t)l->nbytes, "n_messages",
                              (json_int_t)l->n_messages, "wait_s", l->wait_s));
    }
    put(o, "]");
}

par_status par_matrix_write_json(const par_matrix *m, const char *path) {
    output o = {.status = PAR_OK};
    PAR_REQUIRE(m && path);
    PAR_TRY(par__writer_open(path, &o.writer));
    put_head(&o, m);
    put_lines(&o, m);
    put_ops(&o, m);
    put_layers(&o, m);
    put(&o, "}\n");
    if (o.status == PAR_OK) return par__writer_commit(&o.writer);
    par__writer_abort(&o.writer);
    return o.status;
}
