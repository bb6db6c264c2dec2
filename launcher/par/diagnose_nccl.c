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
    int n_counted = 0, n_profiled = 0; /* each may be seen in both ways */
    for (int i = 0; i < job->n_members; i = nccl_files_end(job, i))
        *(job->members[i].profiled ? &n_profiled : &n_counted) += 1;
    int n_communicators = n_counted > n_profiled ? n_counted : n_profiled;
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

/* Every call of the row, on every rank. */
static bool all_timed(const nccl_row *r) {
    return r->timed > 0 && r->timed == r->calls && r->seconds > 0;
}

static void print_rows(const nccl_table *t) {
    bool timed = false;
    printf("%-15s %-14s %-11s %5s %10s %12s %12s %16s\n", "communicator", "operation", "type",
           "ranks", "calls", "a call", "of all", "ring estimate");
    for (int i = 0; i < t->n_rows; i++) {
        const nccl_row *r = &t->rows[i];
        char one[32], all[32], ring[32];
        if (r->calls == 0) continue; /* the network alone knows of it */
        size_text(r->calls > 0 ? r->size_nbytes / (double)r->calls : 0, one);
        size_text(r->size_nbytes, all);
        size_text(r->ring_nbytes, ring);
        timed = timed || r->timed > 0;
        printf("%-15s %-14s %-11s %5d %10lld %12s %12s %16s\n", r->axis, r->op, r->type, r->n_ranks,
               (long long)r->calls, one, all, ring);
    }
    printf("calls: of all ranks%s; a call: its size as NCCL's performance tests have it;\n"
           "ring estimate: what ranks would send if every collective were a ring, which NCCL may "
           "or may not choose.\n%s",
           timed ? ", with every launch of a graph" : "",
           timed ? "" : "Calls have no times here: no bandwidths.\n");
}

/* What NCCL's profiler saw, of those rows. */
static void print_profile(const nccl_table *t) {
    printf("\n%-15s %-14s %-22s %8s %10s %10s %9s %9s %10s %10s\n", "NCCL's kernels", "operation",
           "algorithm", "channels", "timed", "a call", "algbw", "busbw", "network", "transfers");
    for (int i = 0; i < t->n_rows; i++) {
        const nccl_row *r = &t->rows[i];
        char mean[32] = "-", algbw[32] = "-", busbw[32] = "-", network[32];
        if (r->timed == 0 && r->messages == 0 && !*r->algorithm) continue;
        size_text(r->network_nbytes, network);
        if (r->timed > 0)
            snprintf(mean, sizeof mean, "%.1f us", r->seconds / (double)r->timed * 1e6);
        if (all_timed(r) && strcmp(r->op, "recv") != 0) {
            snprintf(algbw, sizeof algbw, "%.3f", r->size_nbytes / r->seconds * 1e-9);
            snprintf(busbw, sizeof busbw, "%.3f", r->bus_nbytes / r->seconds * 1e-9);
        }
        printf("%-15s %-14s %-22s %8d %10lld %10s %9s %9s %10s %10lld\n", r->axis, r->op,
               *r->algorithm ? r->algorithm : "-", r->channels, (long long)r->timed, mean, algbw,
               busbw, network, (long long)r->messages);
    }
    printf("a call: its kernel's time, from the first channel's begin to the last one's end, with "
           "waits for peers; GB/s; network:\nbytes that NCCL's algorithm sent between processes "
           "through the network, with the flags of its LL protocols.\n");
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
        if (f->profile_lost > 0)
            printf("note: %s: %lld events of NCCL's profiler found no place; some of what it saw "
                   "is missing\n",
                   f->path, (long long)f->profile_lost);
        if (f->relayed > 0)
            printf("note: %s: %lld transfers were another process's, which counts what it "
                   "receives\n",
                   f->path, (long long)f->relayed);
    }
    for (int i = 0, end; i < job->n_members; i = end) {
        const nccl_member *m = &job->members[i];
        end = nccl_files_end(job, i);
        for (int k = i; k < end; k++) print_unmatched(m, end - i, &job->members[k]);
        if (end - i < m->size && job->files[m->file].profiled == m->profiled)
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

/* Nothing of the job is known to be missing. */
static bool complete(const nccl_job *job, const nccl_table *t) {
    for (int i = 0; i < job->n_files; i++)
        if (job->files[i].profile_lost > 0) return false;
    return t->n_missing == 0;
}

/* Of bytes, which are sums of what files say. */
static json_int_t whole(double nbytes) {
    return (json_int_t)(nbytes < 1e18 ? nbytes : 1e18);
}

static json_t *operation_of(const nccl_row *r, const char *purpose, bool network) {
    json_t *o =
        json_pack("{s:s,s:s,s:s,s:i,s:I,s:I,s:I}", "axis", r->axis, "purpose", purpose, "op", r->op,
                  "n_ranks", r->n_ranks, "n_ops", (json_int_t)r->calls, "logical_nbytes",
                  whole(r->size_nbytes), "bus_nbytes", whole(r->bus_nbytes));
    if (all_timed(r)) json_object_set_new(o, "seconds", json_real(r->seconds));
    if (*r->algorithm) json_object_set_new(o, "algorithm", json_string(r->algorithm));
    if (r->channels) json_object_set_new(o, "channels", json_integer(r->channels));
    if (!network) return o;
    json_object_set_new(o, "nbytes", json_integer(whole(r->network_nbytes)));
    json_object_set_new(o, "n_messages", json_integer(r->messages));
    return o;
}

/* The cell in one of the files; NULL: it is not in it. */
static json_t *cell_of(const nccl_cell *c, bool network) {
    double nbytes = nccl_network_nbytes(c);
    if (network && (nbytes > 0 || c->messages > 0))
        return json_pack("[iiIIf]", c->from, c->to, whole(nbytes), (json_int_t)c->messages,
                         c->seconds);
    if (network || (c->logical <= 0 && c->ring <= 0)) return NULL;
    return json_pack("[iiII]", c->from, c->to, whole(c->logical), whole(c->ring + 0.5));
}

/* What operations ask for, or what went through the network. */
static par_status write_matrix(const nccl_job *job, const nccl_table *t, const char *path,
                               bool network) {
    json_t *lines = json_array(), *operations = json_array(), *host = json_array();
    int64_t at = 0; /* cells are sorted by row */
    for (int i = 0; i < t->n_rows; i++) {
        const nccl_row *r = &t->rows[i];
        char purpose[32];
        json_t *cells = json_array();
        for (; at < t->n_cells && t->cells[at].row == i; at++) {
            json_t *cell = cell_of(&t->cells[at], network);
            if (cell) json_array_append_new(cells, cell);
        }
        snprintf(purpose, sizeof purpose, "%s %s", r->op, r->type);
        if (json_array_size(cells) > 0)
            json_array_append_new(lines, json_pack("{s:s,s:s,s:O}", "axis", r->axis, "purpose",
                                                   purpose, "cells", cells));
        if (network ? json_array_size(cells) > 0 : r->calls > 0)
            json_array_append_new(operations, operation_of(r, purpose, network));
        json_decref(cells);
    }
    json_t *columns = network ? json_pack("[sssss]", "from", "to", "nbytes", "n_messages", "send_s")
                              : json_pack("[ssss]", "from", "to", "logical_nbytes", "ring_nbytes");
    json_t *root =
        json_pack("{s:s,s:s,s:i,s:o,s:o,s:b,s:o,s:o,s:o}", "form", "libpar matrix 1", "program",
                  network ? "NCCL's network" : "libpar_nccl_record", "ranks", job->n_ranks, "hosts",
                  hosts_of(job, host), "host", host, "complete", complete(job, t), "columns",
                  columns, "lines", lines, "operations", operations);
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
    char path[4200], network[4200];
    bool profiled = false;
    nccl_job job;
    nccl_table table;
    if (nccl_files_read(directory, &job) != PAR_OK) return refuse();
    if (nccl_traffic_make(&job, &table) != PAR_OK) {
        nccl_files_free(&job);
        return refuse();
    }
    for (int i = 0; i < job.n_files; i++) profiled = profiled || job.files[i].profiled;
    snprintf(path, sizeof path, "%s/matrix.json", directory);
    snprintf(network, sizeof network, "%s/network.json", directory);
    print_head(&job);
    print_rows(&table);
    if (profiled) print_profile(&table);
    print_notes(&job, &table);
    par_status st = write_matrix(&job, &table, path, false);
    if (profiled && st == PAR_OK) st = write_matrix(&job, &table, network, true);
    if (profiled && st == PAR_OK)
        printf("between processes through the network: par diagnose comm-matrix %s\n", network);
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
            "LD_PRELOAD=libpar_nccl_record.so, or NCCL_PROFILER_PLUGIN=libpar_nccl_record.so. The\n"
            "directory gets a matrix.json, which is shown as par diagnose comm-matrix does.",
        .name = "DIRECTORY",
        .help = "what PAR_NCCL_RECORD named when the job ran",
        .prepare = join};
    return par_matrix_command(&words, argc, argv);
}
