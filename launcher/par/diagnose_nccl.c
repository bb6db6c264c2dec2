/*
 * par diagnose nccl-matrix: who asked NCCL to bring how much to whom, from the files that
 * libpar_nccl_record.so wrote. It prints the job's operations and what is missing, writes
 * matrix.json beside the files, and leaves the rest to par diagnose comm-matrix.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nccl_traffic.h"
#include "par_tool.h"

static void size_text(double nbytes, char text[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    for (; nbytes >= 1024 && u < 5; u++) nbytes /= 1024;
    snprintf(text, 32, u ? "%.2f %s" : "%.0f %s", nbytes, units[u]);
}

static void print_head(const nccl_job *job) {
    int64_t version = 0, n = 0, calls = 0, largest = 0;
    for (int i = 0; i < job->n_files; i++) {
        const nccl_file *f = &job->files[i];
        if (f->version > version) version = f->version;
        n += f->n_groups;
        calls += f->group_calls;
        if (f->largest_group > largest) largest = f->largest_group;
    }
    int n_communicators = 0;
    for (int i = 0; i < job->n_members; i = nccl_files_end(job, i)) n_communicators++;
    printf("%d process%s, ranks 0 to %d numbered %s, %d communicator%s", job->n_files,
           job->n_files == 1 ? "" : "es", job->n_ranks - 1, job->numbered, n_communicators,
           n_communicators == 1 ? "" : "s");
    if (version > 0)
        printf(", NCCL %d.%d.%d", (int)(version / 10000), (int)(version / 100 % 100),
               (int)(version % 100));
    printf("\n");
    if (n > 0)
        printf("%lld groups of calls, %.1f calls in one, %lld in the largest\n", (long long)n,
               (double)calls / (double)n, (long long)largest);
}

static void print_rows(const nccl_table *t) {
    printf("%-15s %-14s %-11s %5s %10s %12s %12s %16s\n", "communicator", "operation", "type",
           "ranks", "calls", "a call", "of all", "ring estimate");
    for (int i = 0; i < t->n_rows; i++) {
        const nccl_row *r = &t->rows[i];
        char one[32], all[32], ring[32];
        size_text(r->calls > 0 ? r->size_nbytes / (double)r->calls : 0, one);
        size_text(r->size_nbytes, all);
        size_text(r->ring_nbytes, ring);
        printf("%-15s %-14s %-11s %5d %10lld %12s %12s %16s\n", r->axis, r->op, r->type, r->n_ranks,
               (long long)r->calls, one, all, ring);
    }
    printf("calls: of all ranks; a call: its size as NCCL's performance tests have it; ring "
           "estimate: what ranks would\nsend if every collective were a ring, which NCCL may or "
           "may not choose. Calls have no times here: no bandwidths.\n");
}

/* The bytes of one operation with one peer. */
static int64_t sum_of(const nccl_member *m, const char *op, int peer) {
    int64_t sum = 0;
    for (int i = 0; m && i < m->n; i++)
        if (m->traffic[i].peer == peer && strcmp(m->traffic[i].op, op) == 0)
            sum += m->traffic[i].nbytes;
    return sum;
}

/* What this rank asked to send or receive, and its peer did not ask for: a program that hangs often
 * has it. A pair that both know of is told of by its sender. */
static void print_unmatched(const nccl_member *all, int n, const nccl_member *m) {
    for (int i = 0; i < m->n; i++) {
        const char *op = m->traffic[i].op;
        bool sends = strcmp(op, "send") == 0, first = sends || strcmp(op, "recv") == 0;
        for (int k = 0; first && k < i; k++) /* each peer once */
            first = m->traffic[k].peer != m->traffic[i].peer || strcmp(m->traffic[k].op, op) != 0;
        if (!first) continue;
        const nccl_member *peer = NULL;
        for (int k = 0; k < n && !peer; k++)
            if (all[k].rank == m->traffic[i].peer) peer = &all[k];
        if (!peer) continue;
        int64_t own = sum_of(m, op, peer->rank);
        int64_t other = sum_of(peer, sends ? "recv" : "send", m->rank);
        if (own == other || (!sends && other > 0)) continue;
        printf("difference: rank %d asked to send %lld bytes to rank %d, which asked to receive "
               "%lld\n",
               sends ? m->world : peer->world, (long long)(sends ? own : other),
               sends ? peer->world : m->world, (long long)(sends ? other : own));
    }
}

static void print_notes(const nccl_job *job, const nccl_table *t) {
    int64_t captured = 0;
    for (int i = 0; i < t->n_rows; i++) captured += t->rows[i].captured;
    if (captured > 0)
        printf("note: %lld calls were captured in CUDA graphs and count once, however often the "
               "graph ran\n",
               (long long)captured);
    for (int i = 0; i < job->n_files; i++) {
        const nccl_file *f = &job->files[i];
        if (!f->ended)
            printf("note: %s: the process did not end by itself; its last seconds may be missing\n",
                   f->path);
        if (f->failed > 0)
            printf("note: %s: NCCL refused %lld calls, which are not counted\n", f->path,
                   (long long)f->failed);
        if (f->lost > 0)
            printf("note: %s: %lld calls could not be counted\n", f->path, (long long)f->lost);
    }
    for (int i = 0, end; i < job->n_members; i = end) {
        const nccl_member *m = &job->members[i];
        end = nccl_files_end(job, i);
        for (int k = i; k < end; k++) print_unmatched(m, end - i, &job->members[k]);
        if (end - i < m->size)
            printf("note: of the %d ranks of communicator %s%s%s, %d wrote no file: their traffic "
                   "is missing\n",
                   m->size, m->id, *m->name ? ", " : "", m->name, m->size - (end - i));
    }
}

/* Each host once, in the order of ranks. */
static json_t *hosts_of(const nccl_job *job, json_t *host) {
    json_t *hosts = json_array();
    for (int r = 0; r < job->n_ranks; r++) {
        const char *name = job->host_of[r] < 0 ? "unknown" : job->files[job->host_of[r]].host;
        size_t at = 0;
        while (at < json_array_size(hosts) &&
               strcmp(json_string_value(json_array_get(hosts, at)), name) != 0)
            at++;
        if (at == json_array_size(hosts)) json_array_append_new(hosts, json_string(name));
        json_array_append_new(host, json_integer((json_int_t)at));
    }
    return hosts;
}

static par_status write_matrix(const nccl_job *job, const nccl_table *t, const char *path) {
    json_t *lines = json_array(), *operations = json_array(), *host = json_array();
    int64_t at = 0; /* cells are sorted by row */
    for (int i = 0; i < t->n_rows; i++) {
        const nccl_row *r = &t->rows[i];
        char purpose[32];
        bool any = at < t->n_cells && t->cells[at].row == i;
        json_t *cells = any ? json_array() : NULL;
        for (; at < t->n_cells && t->cells[at].row == i; at++) {
            const nccl_cell *c = &t->cells[at];
            json_array_append_new(cells, json_pack("[iiII]", c->from, c->to, (json_int_t)c->logical,
                                                   (json_int_t)(c->ring + 0.5)));
        }
        snprintf(purpose, sizeof purpose, "%s %s", r->op, r->type);
        if (any)
            json_array_append_new(lines, json_pack("{s:s,s:s,s:o}", "axis", r->axis, "purpose",
                                                   purpose, "cells", cells));
        json_array_append_new(
            operations,
            json_pack("{s:s,s:s,s:s,s:i,s:I,s:I,s:I}", "axis", r->axis, "purpose", purpose, "op",
                      r->op, "n_ranks", r->n_ranks, "n_ops", (json_int_t)r->calls, "logical_nbytes",
                      (json_int_t)r->size_nbytes, "bus_nbytes", (json_int_t)r->bus_nbytes));
    }
    json_t *root = json_pack("{s:s,s:s,s:i,s:o,s:o,s:b,s:[ssss],s:o,s:o}", "form",
                             "libpar matrix 1", "program", "libpar_nccl_record", "ranks",
                             job->n_ranks, "hosts", hosts_of(job, host), "host", host, "complete",
                             t->n_missing == 0, "columns", "from", "to", "logical_nbytes",
                             "ring_nbytes", "lines", lines, "operations", operations);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    par_status st = text ? par_tool_write(path, text, strlen(text))
                         : par_error_set(PAR_ERR_MEMORY, "no host memory for %s", path);
    free(text);
    return st;
}

static int refuse(void) {
    fprintf(stderr, "par diagnose nccl-matrix: %s\n", par_error());
    return PAR_TOOL_INPUT;
}

/* Every file joined and told of, and the matrix written. */
static int join(const char *directory) {
    char path[4200];
    nccl_job job;
    nccl_table table;
    if (nccl_files_read(directory, &job) != PAR_OK) return refuse();
    if (nccl_traffic_make(&job, &table) != PAR_OK) {
        nccl_files_free(&job);
        return refuse();
    }
    snprintf(path, sizeof path, "%s/matrix.json", directory);
    print_head(&job);
    print_rows(&table);
    print_notes(&job, &table);
    par_status st = write_matrix(&job, &table, path);
    nccl_traffic_free(&table);
    nccl_files_free(&job);
    if (st == PAR_OK) return EXIT_SUCCESS;
    refuse();
    return EXIT_FAILURE;
}

int par_diagnose_nccl(int argc, char **argv) {
    static const par_matrix_words words = {
        .command = "diagnose nccl-matrix",
        .usage =
            "usage: par diagnose nccl-matrix DIRECTORY [options]\n"
            "Who asked NCCL to bring how much to whom, in any program that ran with\n"
            "LD_PRELOAD=libpar_nccl_record.so. The directory gets a matrix.json, which is shown "
            "as\npar diagnose comm-matrix does.",
        .name = "DIRECTORY",
        .help = "what PAR_NCCL_RECORD named when the job ran",
        .prepare = join};
    return par_matrix_command(&words, argc, argv);
}
