/* The machine as JSON, a file that programs read; its form is in docs/topology.md. */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/base/json_text.h"
#include "topology.h"

par_status par__json_write(json_t *value, const char *path) {
    par__writer writer;
    char *text = value ? par__json_text(value, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(value);
    if (!text) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %s", path);
    par_status st = par__writer_open(path, &writer);
    if (st == PAR_OK) {
        st = par__writer_write(&writer, text, strlen(text));
        if (st == PAR_OK) st = par__writer_write(&writer, "\n", 1);
        if (st == PAR_OK)
            st = par__writer_commit(&writer);
        else
            par__writer_abort(&writer);
    }
    free(text);
    return st;
}

static void set_number(json_t *o, const char *name, double value) {
    if (value > 0) json_object_set_new(o, name, json_real(value));
}

static void set_count(json_t *o, const char *name, uint64_t value) {
    if (value) json_object_set_new(o, name, json_integer((json_int_t)value));
}

/* NVLinks to the host's GPUs by their index, up to the last one that has some. */
static void set_peers(json_t *o, const par_component *p) {
    json_t *list = json_array();
    for (int k = 0; k < PAR_COMPONENT_PEERS; k++) {
        while (p->to_gpu[k] && json_array_size(list) < (size_t)k)
            json_array_append_new(list, json_integer(0));
        if (p->to_gpu[k]) json_array_append_new(list, json_integer(p->to_gpu[k]));
    }
    if (json_array_size(list))
        json_object_set_new(o, "nvlinks_to_gpus", list);
    else
        json_decref(list);
}

/* Text that is not UTF-8 is left out. */
static void set_text(json_t *o, const char *name, const char *value) {
    if (*value) json_object_set_new(o, name, json_string(value));
}

/* A component with what is below it in "parts". */
static json_t *part_json(const par_topology *t, int at) {
    const par_component *p = &t->components[at];
    json_t *o = json_object(), *below = json_array();
    json_object_set_new(o, "kind", json_string(par_component_kind_name(p->kind)));
    json_object_set_new(o, "index", json_integer(p->index));
    set_text(o, "name", p->name);
    set_text(o, "id", p->id);
    set_text(o, "cpus", p->cpus);
    set_count(o, "level", (uint64_t)p->level);
    set_count(o, "threads", (uint64_t)p->threads);
    set_count(o, "nbytes", p->nbytes);
    set_number(o, "pcie_bytes_s", p->pcie_bytes_s);
    set_number(o, "wire_bytes_s", p->wire_bytes_s);
    set_count(o, "nvlinks", (uint64_t)p->nvlinks);
    set_count(o, "nvlinks_to_switch", (uint64_t)p->to_switch);
    set_peers(o, p);
    for (int i = -1; (i = par__topology_child(t, at, i)) >= 0;)
        json_array_append_new(below, part_json(t, i));
    if (json_array_size(below))
        json_object_set_new(o, "parts", below);
    else
        json_decref(below);
    return o;
}

json_t *par__json_rank(const par_topology *t, int rank) {
    const par_topology_rank *r = &t->ranks[rank];
    json_t *o = json_object();
    json_object_set_new(o, "host", json_integer(t->components[r->host].index));
    json_object_set_new(o, "numa",
                        r->numa < 0 ? json_null() : json_integer(t->components[r->numa].index));
    return o;
}

par_status par_topology_write_json(const par_topology *t, const char *path) {
    PAR_REQUIRE(t && path);
    json_t *o = json_object(), *hosts = json_array(), *ranks = json_array();
    for (int h = -1; (h = par__topology_child(t, -1, h)) >= 0;)
        json_array_append_new(hosts, part_json(t, h));
    for (int r = 0; r < t->n_ranks; r++) json_array_append_new(ranks, par__json_rank(t, r));
    json_object_set_new(o, "form", json_string("libpar topology 1"));
    json_object_set_new(o, "hosts", hosts);
    json_object_set_new(o, "ranks", ranks);
    return par__json_write(o, path);
}
