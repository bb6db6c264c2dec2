/* What is kept of a process, which record.c and profile.c count and write.c makes a file of. */
#include <pthread.h>
#include <stdlib.h>

#include "profile.h"

_Atomic(record_comm *) record_comms;
record_groups record_all_groups;
_Atomic uint64_t record_failed, record_lost;

static pthread_mutex_t profile_mutex = PTHREAD_MUTEX_INITIALIZER;
profile_comm *profile_comms;
uint64_t profile_lost, profile_relayed;

void profile_lock(void) {
    pthread_mutex_lock(&profile_mutex);
}

void profile_unlock(void) {
    pthread_mutex_unlock(&profile_mutex);
}

const char *record_op_name(int op) {
    static const char *const names[N_OPS] = {
        "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce",
        "gather",     "scatter",        "send",       "recv",       "put"};
    return names[op];
}

static const struct {
    const char *name;
    uint64_t nbytes;
} types[N_TYPES] = {{"int8", 1},    {"uint8", 1},    {"int32", 4},       {"uint32", 4},
                    {"int64", 8},   {"uint64", 8},   {"float16", 2},     {"float32", 4},
                    {"float64", 8}, {"bfloat16", 2}, {"float8_e4m3", 1}, {"float8_e5m2", 1}};

const char *record_type_name(int type) {
    return types[type].name ? types[type].name : "unknown";
}

uint64_t record_type_nbytes(int type) {
    return types[type].nbytes;
}

bool record_wanted(void) {
    static _Atomic int wanted = -1;
    int known = atomic_load_explicit(&wanted, memory_order_relaxed);
    if (known >= 0) return known;
    const char *folder = getenv("PAR_NCCL_RECORD");
    known = folder && *folder;
    atomic_store(&wanted, known);
    return known;
}

void record_put_text(FILE *out, const char *name, const char *value) {
    fprintf(out, "\"%s\": \"", name);
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\') fputc('\\', out);
        fputc(c < 32 || c > 126 ? '?' : c, out);
    }
    fputs("\", ", out);
}
