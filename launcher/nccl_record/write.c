/*
 * The file of this process, $PAR_NCCL_RECORD/rank-R.json: whole under its name at any time, written
 * when communicators end, at the process's end, and by a thread of its own every few seconds, so
 * that a killed process leaves what it had done. docs/diagnostics.md describes it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "profile.h"

enum { EVERY_S = 10, STACK_NBYTES = 256 << 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pid_t owner; /* the process that records; its forked children do not */
static char path[4096];
static char *written; /* what the file has */
static bool over;     /* the process ends */

/* The rank that whoever started the job gave this process; the variable, or NULL. */
static const char *rank_of_job(int *rank) {
    static const char *const names[] = {"RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = getenv(names[i]);
        char *end;
        long value = text && *text ? strtol(text, &end, 10) : -1;
        if (value < 0 || value > 100000000 || *end) continue;
        *rank = (int)value;
        return names[i];
    }
    return NULL;
}

static void put_cell(FILE *out, const record_cell *cell, int op, int peer, int type, int *n) {
    uint64_t calls = atomic_load_explicit(&cell->calls, memory_order_relaxed);
    if (calls == 0) return;
    fprintf(out, "%s\n   {\"op\": \"%s\", \"type\": \"%s\", ", (*n)++ ? "," : "",
            record_op_name(op), record_type_name(type));
    if (op >= BROADCAST) fprintf(out, "\"peer\": %d, ", peer);
    fprintf(out, "\"calls\": %llu, \"captured\": %llu, \"nbytes\": %llu}",
            (unsigned long long)calls,
            (unsigned long long)atomic_load_explicit(&cell->captured, memory_order_relaxed),
            (unsigned long long)atomic_load_explicit(&cell->nbytes, memory_order_relaxed));
}

static void put_comm(FILE *out, const record_comm *comm) {
    int size = atomic_load(&comm->n), n = 0;
    fputs("{", out);
    record_put_text(out, "id", comm->id);
    record_put_text(out, "parent", comm->parent);
    record_put_text(out, "name", comm->name);
    fprintf(out, "\"size\": %d, \"rank\": %d, \"device\": %d, \"traffic\": [", size,
            atomic_load(&comm->rank), atomic_load(&comm->device));
    for (int op = 0; op < N_OPS; op++) {
        const record_cell *cells = atomic_load(&comm->cells[op]);
        for (int peer = 0; cells && peer < (op < BROADCAST ? 1 : size); peer++)
            for (int type = 0; type < N_TYPES; type++)
                put_cell(out, &cells[peer * N_TYPES + type], op, peer, type, &n);
    }
    fputs("]}", out);
}

static void put_number(FILE *out, const char *name, uint64_t value) {
    fprintf(out, "\"%s\": %llu, ", name, (unsigned long long)value);
}

/* malloc'ed, or NULL. */
static char *text_of_all(bool ended) {
    char host[64] = "", *text = NULL;
    size_t nbytes;
    int rank = -1, version = 0;
    const char *from = rank_of_job(&rank);
    ncclResult_t (*get_version)(int *);
    FILE *out = open_memstream(&text, &nbytes);
    if (!out) return NULL;
    *(void **)(void *)&get_version = record_real("ncclGetVersion", NULL);
    if (get_version) get_version(&version);
    gethostname(host, sizeof host - 1);
    fputs("{\"form\": \"libpar nccl record 1\", ", out);
    fprintf(out, "\"rank\": %d, ", rank);
    record_put_text(out, "rank_from", from ? from : "");
    record_put_text(out, "host", host);
    record_put_text(out, "program", program_invocation_short_name);
    put_number(out, "pid", (uint64_t)owner);
    put_number(out, "nccl", (uint64_t)version);
    put_number(out, "failed", atomic_load(&record_failed));
    put_number(out, "lost", atomic_load(&record_lost));
    profile_put(out);
    fprintf(out, "\"ended\": %s,\n \"groups\": {", ended ? "true" : "false");
    put_number(out, "n", atomic_load(&record_all_groups.n));
    put_number(out, "calls", atomic_load(&record_all_groups.calls));
    fprintf(out, "\"largest\": %llu},\n \"communicators\": [",
            (unsigned long long)atomic_load(&record_all_groups.largest));
    for (const record_comm *c = atomic_load(&record_comms); c; c = c->next) {
        fputs("\n  ", out);
        put_comm(out, c);
        if (c->next) fputs(",", out);
    }
    fputs("]}\n", out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static bool put_file(const char *text) {
    char temporary[sizeof path + 32];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)owner);
    FILE *file = fopen(temporary, "w");
    if (!file) return false;
    bool good = fputs(text, file) >= 0;
    good = fclose(file) == 0 && good;
    if (good && rename(temporary, path) == 0) return true;
    /* some file systems give no name that is taken */
    bool taken = good && errno == EEXIST && unlink(path) == 0;
    if (taken && rename(temporary, path) == 0) return true;
    int why = errno;
    (void)unlink(temporary);
    errno = why;
    return false;
}

void record_write(bool ended) {
    static bool said;
    if (owner == 0 || getpid() != owner) return;
    pthread_mutex_lock(&lock);
    char *text = over ? NULL : text_of_all(ended);
    over = over || ended;
    if (text && (!written || strcmp(text, written) != 0)) {
        if (!put_file(text) && !said) {
            said = true;
            fprintf(stderr, "libpar_nccl_record: %s cannot be written: %s\n", path,
                    strerror(errno));
        }
        free(written);
        written = text;
    } else {
        free(text);
    }
    pthread_mutex_unlock(&lock);
}

/* PAR_NCCL_RECORD_EVERY: seconds between two files. */
static void *write_again(void *unused) {
    const char *text = getenv("PAR_NCCL_RECORD_EVERY");
    double every = text ? strtod(text, NULL) : 0;
    if (!(every >= 0.01 && every < 1e6)) every = EVERY_S;
    struct timespec pause = {(time_t)every, (long)((every - (double)(time_t)every) * 1e9)};
    for (;;) {
        nanosleep(&pause, NULL);
        record_write(false);
    }
    return unused;
}

static void begin(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    char host[64] = "";
    const char *folder = getenv("PAR_NCCL_RECORD");
    int rank;
    owner = getpid();
    gethostname(host, sizeof host - 1);
    (void)mkdir(folder, 0777);
    if (rank_of_job(&rank))
        snprintf(path, sizeof path, "%s/rank-%d.json", folder, rank);
    else /* a name that no other process has */
        snprintf(path, sizeof path, "%s/rank-%s-%ld.json", folder, host, (long)owner);
    /* signals are for the program's threads */
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_NBYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_create(&thread, &attributes, write_again, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void record_keep_writing(void) {
    pthread_once(&once, begin);
}

__attribute__((destructor)) static void end(void) {
    record_write(true);
}
