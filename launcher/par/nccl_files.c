/* See nccl_files.h. A file is another process's: whatever it says is checked. */
#define _POSIX_C_SOURCE 200809L
#include "nccl_files.h"

#include <glob.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 1 << 20 };

static void copy_text(const json_t *object, const char *field, char *out, size_t nbytes) {
    const char *text = json_string_value(json_object_get(object, field));
    snprintf(out, nbytes, "%s", text ? text : "");
}

/* Sums of many fit into 64 bits; -1: it is below 0, or above. */
static int64_t whole(const json_t *object, const char *field) {
    json_int_t n = json_integer_value(json_object_get(object, field));
    return n < 0 || n > INT64_MAX >> 24 ? -1 : (int64_t)n;
}

static int limited(const json_t *object, const char *field, int least, int most) {
    const json_t *value = json_object_get(object, field);
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : least;
    return n < least ? least : n > most ? most : (int)n;
}

static double seconds_of(const json_t *object) {
    double seconds = json_number_value(json_object_get(object, "seconds"));
    return seconds > 0 ? seconds : 0;
}

static par_status bad(const char *path, const char *what) {
    PAR_FAIL(PAR_ERR_FORMAT, "%s: %s; legal: what libpar_nccl_record.so wrote", path, what);
}

static par_status read_traffic(const char *path, const json_t *list, nccl_member *m) {
    size_t n = json_array_size(list), i;
    json_t *entry;
    m->traffic = calloc(n ? n : 1, sizeof *m->traffic);
    if (!m->traffic) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its traffic", path);
    json_array_foreach(list, i, entry) {
        nccl_traffic *t = &m->traffic[m->n++];
        copy_text(entry, "op", t->op, sizeof t->op);
        copy_text(entry, "type", t->type, sizeof t->type);
        t->peer = limited(entry, "peer", -1, MAX_RANKS);
        t->calls = whole(entry, "calls");
        t->captured = whole(entry, "captured");
        t->nbytes = whole(entry, "nbytes");
        copy_text(entry, "algorithm", t->algorithm, sizeof t->algorithm);
        copy_text(entry, "protocol", t->protocol, sizeof t->protocol);
        t->channels = limited(entry, "channels", 0, 255);
        t->timed = whole(entry, "timed");
        t->seconds = seconds_of(entry);
        if (t->peer >= m->size || t->calls < 0 || t->captured < 0 || t->nbytes < 0 || t->timed < 0)
            return bad(path, "a peer or a count is out of range");
    }
    return PAR_OK;
}

static par_status read_network(const char *path, const json_t *list, nccl_member *m) {
    size_t n = json_array_size(list), i;
    json_t *entry;
    m->network = calloc(n ? n : 1, sizeof *m->network);
    if (!m->network) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its network's traffic", path);
    json_array_foreach(list, i, entry) {
        nccl_network *t = &m->network[m->n_network++];
        t->row = limited(entry, "row", -1, INT_MAX);
        t->peer = limited(entry, "peer", -1, MAX_RANKS);
        t->sent = whole(entry, "sent");
        t->received = whole(entry, "received");
        t->messages = whole(entry, "messages");
        t->seconds = seconds_of(entry);
        if (t->row < 0 || t->row >= m->n || t->peer < 0 || t->peer >= m->size || t->sent < 0 ||
            t->received < 0 || t->messages < 0)
            return bad(path, "a row, a peer or a count of the network is out of range");
    }
    return PAR_OK;
}

/* Communicators that were never used have no size; they say nothing. */
static par_status read_member(const char *path, const json_t *object, bool profiled,
                              nccl_job *job) {
    nccl_member m = {.file = job->n_files, .profiled = profiled};
    m.size = limited(object, "size", 0, MAX_RANKS);
    m.rank = limited(object, "rank", -1, MAX_RANKS);
    m.device = limited(object, "device", -1, INT_MAX);
    copy_text(object, "id", m.id, sizeof m.id);
    copy_text(object, "name", m.name, sizeof m.name);
    if (m.size == 0) return PAR_OK;
    if (m.rank < 0 || m.rank >= m.size) return bad(path, "a rank is not within its communicator");
    nccl_member *more = realloc(job->members, ((size_t)job->n_members + 1) * sizeof *more);
    if (!more) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its communicators", path);
    job->members = more;
    par_status st = read_traffic(path, json_object_get(object, "traffic"), &m);
    if (st == PAR_OK) st = read_network(path, json_object_get(object, "network"), &m);
    if (profiled && m.n > 0) job->files[job->n_files].profiled = true;
    more[job->n_members++] = m; /* for nccl_files_free in any case */
    return st;
}

static par_status read_object(const char *path, const json_t *root, nccl_job *job) {
    const json_t *groups = json_object_get(root, "groups");
    const json_t *list = json_object_get(root, "communicators");
    const json_t *profiled = json_object_get(root, "profiled");
    const char *form = json_string_value(json_object_get(root, "form"));
    nccl_file *f = &job->files[job->n_files];
    size_t i;
    json_t *entry;
    if (!form || strcmp(form, "libpar nccl record 1") != 0 || !json_is_array(list))
        return bad(path, "it is not a record of NCCL calls");
    *f = (nccl_file){.number = job->n_files,
                     .rank = limited(root, "rank", -1, MAX_RANKS - 1),
                     .pid = whole(root, "pid"),
                     .version = whole(root, "nccl"),
                     .failed = whole(root, "failed"),
                     .lost = whole(root, "lost"),
                     .n_groups = whole(groups, "n"),
                     .group_calls = whole(groups, "calls"),
                     .largest_group = whole(groups, "largest"),
                     .profile_lost = whole(root, "profile_lost"),
                     .relayed = whole(root, "relayed"),
                     .ended = json_is_true(json_object_get(root, "ended"))};
    snprintf(f->path, sizeof f->path, "%s", path);
    copy_text(root, "host", f->host, sizeof f->host);
    json_array_foreach(list, i, entry) PAR_TRY(read_member(path, entry, false, job));
    json_array_foreach(profiled, i, entry) PAR_TRY(read_member(path, entry, true, job));
    job->n_files++;
    return PAR_OK;
}

static int by_communicator(const void *a, const void *b) {
    const nccl_member *x = a, *y = b;
    int order = strcmp(x->id, y->id);
    return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

int nccl_files_end(const nccl_job *job, int begin) {
    int end = begin;
    while (end < job->n_members && strcmp(job->members[end].id, job->members[begin].id) == 0) end++;
    return end;
}

/* One rank of the job: a process, and a device of it. Members whose device is not known are on the
 * first one of their process. */
typedef struct {
    int file, device, number;
} process;

static int by_process(const void *a, const void *b) {
    const process *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return (x->device > y->device) - (x->device < y->device);
}

static int find_process(const process *processes, int n, int file, int device) {
    int first = -1;
    for (int low = 0, high = n; low < high;) {
        int middle = (low + high) / 2;
        const process at = {file, device, 0};
        int order = by_process(&processes[middle], &at);
        if (order == 0) return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
        if (processes[middle].file == file) first = middle;
    }
    while (first > 0 && processes[first - 1].file == file) first--;
    return first;
}

/* Places in order, each once; of a process with known devices those alone. */
static int collect(const nccl_job *job, process *processes) {
    int n = 0, kept = 0;
    for (int i = 0; i < job->n_members; i++)
        processes[n++] = (process){job->members[i].file, job->members[i].device, 0};
    qsort(processes, (size_t)n, sizeof *processes, by_process);
    for (int i = 0; i < n; i++) {
        bool other = i + 1 < n && processes[i + 1].file == processes[i].file;
        if (other && (processes[i].device < 0 || processes[i + 1].device == processes[i].device))
            continue;
        processes[kept++] = processes[i];
    }
    return kept;
}

/* By what started the job, where each process has one rank and a number of its own. */
static bool number_by_job(const nccl_job *job, process *processes, int n) {
    for (int i = 0; i < n; i++) {
        int rank = job->files[processes[i].file].rank;
        if (rank < 0 || (i > 0 && processes[i - 1].file == processes[i].file)) return false;
        if (i > 0 && rank == job->files[processes[i - 1].file].rank) return false;
        processes[i].number = rank;
    }
    return n > 0;
}

/* By a communicator that has all of them. */
static bool number_by_communicator(const nccl_job *job, process *processes, int n) {
    for (int begin = 0, end; begin < job->n_members; begin = end) {
        end = nccl_files_end(job, begin);
        if (end - begin != n || job->members[begin].size != n) continue;
        for (int i = 0; i < n; i++) processes[i].number = -1;
        for (int i = begin; i < end; i++) {
            const nccl_member *m = &job->members[i];
            processes[find_process(processes, n, m->file, m->device)].number = m->rank;
        }
        bool all = true;
        for (int i = 0; i < n; i++) all = all && processes[i].number >= 0;
        if (all) return true;
    }
    return false;
}

static par_status number_ranks(nccl_job *job) {
    process *processes = calloc((size_t)job->n_members + 1, sizeof *processes);
    if (!processes) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the ranks of an NCCL job");
    int n = collect(job, processes);
    job->numbered = "by what started the job";
    if (!number_by_job(job, processes, n)) {
        job->numbered = "as in a communicator of all of them";
        if (!number_by_communicator(job, processes, n)) {
            job->numbered = "by host, process and device, for want of anything better";
            for (int i = 0; i < n; i++) processes[i].number = i;
        }
    }
    for (int i = 0; i < n; i++)
        if (processes[i].number >= job->n_ranks) job->n_ranks = processes[i].number + 1;
    job->host_of = calloc((size_t)job->n_ranks + 1, sizeof *job->host_of);
    if (job->host_of) {
        for (int r = 0; r < job->n_ranks; r++) job->host_of[r] = -1;
        for (int i = 0; i < n; i++) job->host_of[processes[i].number] = processes[i].file;
        for (int i = 0; i < job->n_members; i++) {
            nccl_member *m = &job->members[i];
            m->world = processes[find_process(processes, n, m->file, m->device)].number;
        }
    }
    free(processes);
    if (!job->host_of) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the ranks of an NCCL job");
    return PAR_OK;
}

static int by_rank(const void *a, const void *b) {
    const nccl_file *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    int order = strcmp(x->host, y->host);
    return order ? order : (x->pid > y->pid) - (x->pid < y->pid);
}

/* Files in their order, and members that know where theirs is: of each communicator a rank once,
 * and one size. */
static par_status sort_and_check(nccl_job *job) {
    int *new_of = calloc((size_t)job->n_files + 1, sizeof *new_of);
    if (!new_of) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the files of an NCCL job");
    qsort(job->files, (size_t)job->n_files, sizeof *job->files, by_rank);
    for (int i = 0; i < job->n_files; i++) new_of[job->files[i].number] = i;
    for (int i = 0; i < job->n_members; i++) job->members[i].file = new_of[job->members[i].file];
    free(new_of);
    if (job->n_members)
        qsort(job->members, (size_t)job->n_members, sizeof *job->members, by_communicator);
    for (int i = 1; i < job->n_members; i++) {
        const nccl_member *a = &job->members[i - 1], *b = &job->members[i];
        if (strcmp(a->id, b->id) != 0 || (a->size == b->size && a->rank != b->rank)) continue;
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s and %s: a communicator has %d and %d ranks, and rank %d of it is in both; "
                 "legal: the files of one run",
                 job->files[a->file].path, job->files[b->file].path, a->size, b->size, b->rank);
    }
    return PAR_OK;
}

par_status nccl_files_read(const char *directory, nccl_job *out) {
    char pattern[4200];
    glob_t found = {0};
    nccl_job job = {0};
    par_status st = PAR_OK;
    snprintf(pattern, sizeof pattern, "%s/rank-*.json", directory);
    if (glob(pattern, 0, NULL, &found) != 0 || found.gl_pathc == 0) {
        globfree(&found);
        PAR_FAIL(PAR_ERR_IO,
                 "%s: no rank-*.json in it; run the job with PAR_NCCL_RECORD=%s and "
                 "LD_PRELOAD=libpar_nccl_record.so",
                 directory, directory);
    }
    job.files = calloc(found.gl_pathc, sizeof *job.files);
    if (!job.files) st = par_error_set(PAR_ERR_MEMORY, "no host memory for files of NCCL calls");
    for (size_t i = 0; i < found.gl_pathc && st == PAR_OK; i++) {
        const char *path = found.gl_pathv[i];
        json_error_t error;
        json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        st = root ? read_object(path, root, &job)
                  : par_error_set(PAR_ERR_FORMAT, "%s: line %d column %d: %s", path, error.line,
                                  error.column, error.text);
        json_decref(root);
    }
    globfree(&found);
    if (st == PAR_OK) st = sort_and_check(&job);
    if (st == PAR_OK) st = number_ranks(&job);
    if (st == PAR_OK)
        *out = job;
    else
        nccl_files_free(&job);
    return st;
}

void nccl_files_free(nccl_job *job) {
    for (int i = 0; i < job->n_members; i++) {
        free(job->members[i].traffic);
        free(job->members[i].network);
    }
    free(job->members);
    free(job->files);
    free(job->host_of);
    *job = (nccl_job){0};
}

void nccl_files_axis(const nccl_job *job, const nccl_member *m, char out[16]) {
    char text[32];
    size_t n = strcspn(m->name, " ");
    if (n > 0)
        snprintf(out, 16, "%.*s", n < 15 ? (int)n : 15, m->name);
    else if (m->size == job->n_ranks)
        snprintf(out, 16, "world");
    else {
        snprintf(text, sizeof text, "%d ranks", m->size);
        snprintf(out, 16, "%.15s", text);
    }
}
