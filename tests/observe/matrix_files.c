/*
 * Files of the communication matrix: what is written is read back, cell by cell; files of other
 * recorders, with other columns, are read; what is none is refused with its name.
 */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "par/par.h"

static char folder[64];

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *read_all(const char *path) {
    static char text[1 << 16];
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[n] = 0;
    return text;
}

static void write_all(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
}

enum { RANKS = 4 };

static par_matrix_cell cells[2][3] = {
    {{0, 1, INT64_C(1) << 60, 3, 5, 7, 0.125}, {0, 3, 1, 1, 1, 0, 0}, {2, 0, 0, 0, 0, 9, 1e-3}},
    {{1, 0, 11, 1, 11, 11, 2.5}, {3, 2, 4, 1, 2, 4, 0}}};
static par_matrix_line lines[2] = {{"tp", "activations \"a\" \\ b", 3, cells[0]},
                                   {"control", "vote", 2, cells[1]}};
static par_traffic_op ops[1] = {{"tp", "loss", "all_gather", 2, 3, 4, 5, 6, 3, 0.5, 0.25, 0.125}};
static par_traffic_layer layers[2] = {{"tp", "loss", "forward", -1, 1, 2, 3, 0.5},
                                      {"tp", "loss", "backward", 7, 4, 5, 6, 0}};
static char hosts[2][64] = {"node1", "node2"};
static int host[RANKS] = {0, 0, 1, 1};

static par_matrix made_up(void) {
    return (par_matrix){.size = RANKS,
                        .n = 2,
                        .lines = lines,
                        .known = {true, true, true, true, true},
                        .n_ops = 1,
                        .n_layers = 2,
                        .ops = ops,
                        .layers = layers,
                        .n_hosts = 2,
                        .hosts = hosts,
                        .host = host,
                        .has_layout = true,
                        .layout = {.size = {2, 1, 1, 2}},
                        .steps = 12,
                        .seconds = 1.5,
                        .program = "libpar"};
}

static void check_cells(const par_matrix *m) {
    for (int i = 0; i < m->n && i < 2; i++) {
        const par_matrix_line *a = &m->lines[i], *b = &lines[i];
        CHECK(a->n == b->n && strcmp(a->axis, b->axis) == 0 && strcmp(a->purpose, b->purpose) == 0,
              "line %d is %s, %s with %lld cells", i, a->axis, a->purpose, (long long)a->n);
        for (int64_t k = 0; k < a->n && k < b->n; k++)
            CHECK(memcmp(&a->cells[k], &b->cells[k], sizeof a->cells[k]) == 0,
                  "line %d: cell %lld differs", i, (long long)k);
    }
}

static void run_round_trip(void) {
    par_matrix m = made_up(), *back = NULL;
    char first[1 << 16];
    CHECK_OK(par_matrix_write_json(&m, path_of("matrix.json")));
    snprintf(first, sizeof first, "%s", read_all(path_of("matrix.json")));
    CHECK_OK(par_matrix_read_json(path_of("matrix.json"), &back));
    if (!back) return;
    CHECK(back->size == RANKS && back->n == 2 && back->n_ops == 1 && back->n_layers == 2 &&
              back->steps == 12 && back->seconds == 1.5 && !back->overflow,
          "%d ranks, %d lines", back->size, back->n);
    check_cells(back);
    CHECK(back->has_layout && back->layout.size[PAR_PP] == 2 && back->layout.size[PAR_TP] == 2,
          "another layout");
    CHECK(back->n_hosts == 2 && back->host[3] == 1 && strcmp(back->hosts[1], "node2") == 0,
          "other hosts");
    CHECK(memcmp(&back->ops[0], &ops[0], sizeof ops[0]) == 0, "another operation");
    CHECK(memcmp(back->layers, layers, sizeof layers) == 0, "other layers");
    CHECK_OK(par_matrix_write_json(back, path_of("again.json")));
    CHECK(strcmp(first, read_all(path_of("again.json"))) == 0, "the second file differs");
    par_matrix_destroy(&back);
}

static bool seen;

static void look(void *user, const char *line) {
    seen = seen || strcmp(line, user) == 0;
}

/* Hosts of two ranks each: one of tp's pairs is between them. */
static void run_hosts(void) {
    par_matrix m = made_up();
    char want[] = "tp: 1048576.00 TiB within hosts, 1 B between 2 hosts";
    par_matrix_print(&m, PAR_MATRIX_NBYTES, look, want);
    CHECK(seen, "there is no line \"%s\"", want);
}

/* Columns in another order, fewer of them, fields that are not known, cells in any order. */
static void run_other_recorder(void) {
    par_matrix *m = NULL;
    write_all(path_of("other.json"),
              "{\"form\": \"libpar matrix 1\", \"program\": \"nccl\", \"ranks\": 2, \"extra\": {},"
              "\"columns\": [\"to\", \"colour\", \"from\", \"logical_nbytes\"],"
              "\"lines\": [{\"axis\": \"a\", \"purpose\": \"p\", \"cells\":"
              " [[0, 5, 1, 30], [1, 5, 0, 20]]}]}");
    CHECK_OK(par_matrix_read_json(path_of("other.json"), &m));
    if (!m) return;
    CHECK(m->known[PAR_MATRIX_LOGICAL] && !m->known[PAR_MATRIX_NBYTES] && !m->host &&
              !m->has_layout && m->n_ops == 0,
          "more is known than the file has");
    CHECK(m->lines[0].cells[0].from == 0 && m->lines[0].cells[0].logical_nbytes == 20 &&
              m->lines[0].cells[1].from == 1 && m->lines[0].cells[1].logical_nbytes == 30,
          "cells are not in order");
    par_matrix_destroy(&m);
}

static void refuse(const char *what, const char *text) {
    par_matrix *m = NULL;
    write_all(path_of("bad.json"), text);
    CHECK_FAILS(par_matrix_read_json(path_of("bad.json"), &m), PAR_ERR_FORMAT, what);
    CHECK(!m, "%s: a matrix was read", what);
}

#define HEAD "{\"form\": \"libpar matrix 1\", \"ranks\": 2, "
#define CELLS                                                                                      \
    HEAD "\"columns\": [\"from\", \"to\", \"nbytes\"], \"lines\": [{\"axis\": \"a\", "             \
         "\"purpose\": \"p\", \"cells\": "

static void run_refused(void) {
    par_matrix *m = NULL;
    CHECK_FAILS(par_matrix_read_json("/nowhere/m.json", &m), PAR_ERR_IO, "/nowhere/m.json");
    refuse("is not a communication matrix", "");
    refuse("is not a communication matrix", "{\"form\": \"libpar topology 1\"}");
    refuse("ranks", "{\"form\": \"libpar matrix 1\", \"ranks\": 0}");
    refuse("no from and to", HEAD "\"columns\": [\"from\"]}");
    refuse("a name is missing", HEAD "\"columns\": [\"from\", \"to\"], \"lines\": [{}]}");
    refuse("a rank that does not exist", CELLS "[[0, 2, 1]]}]}");
    refuse("a rank that does not exist", CELLS "[[-1, 1, 1]]}]}");
    refuse("not of the columns", CELLS "[[0, 1]]}]}");
    refuse("is not a number", CELLS "[[0, 1, \"x\"]]}]}");
    refuse("negative", CELLS "[[0, 1, -5]]}]}");
    refuse("a list is none", CELLS "{}}]}");
    refuse("another number of ranks", HEAD "\"layout\": {\"order\": [\"tp\", \"cp\", \"dp\", "
                                           "\"pp\"], \"size\": [2, 1, 2, 1]}}");
    refuse("a rank's host", HEAD "\"hosts\": [\"a\"], \"host\": [0, 1]}");
}

static const harness_case cases[] = {
    {"round-trip", run_round_trip, 0, NULL, 0},
    {"hosts", run_hosts, 0, NULL, 0},
    {"other-recorder", run_other_recorder, 0, NULL, 0},
    {"refused", run_refused, 0, NULL, 0},
};

int main(int argc, char **argv) {
    static const char *const names[] = {"matrix.json", "again.json", "other.json", "bad.json"};
    harness_foreign_json();
    snprintf(folder, sizeof folder, "/tmp/par-matrix-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int code = harness_main("matrix-files", cases, HARNESS_COUNT(cases), argc, argv);
    for (int i = 0; i < HARNESS_COUNT(names); i++) unlink(path_of(names[i]));
    rmdir(folder);
    return code;
}
