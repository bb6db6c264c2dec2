/* Measured memory: one block per kind, a bump pointer in each, and the ledger of what was taken. */
#include "par/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 };

struct par_memory {
    bool measuring;
    par_allocator allocators[2]; /* the device's, the host's */
    char *block[PAR_MEM_COUNT];
    size_t used[PAR_MEM_COUNT], capacity[PAR_MEM_COUNT];
    par_ledger_line *lines;
    par_ledger_detail *details;
    int n_lines, max_lines, n_details, max_details;
};

const char *par_memory_kind_name(par_memory_kind kind) {
    static const char *const names[PAR_MEM_COUNT] = {
        [PAR_MEM_WEIGHTS] = "weights",     [PAR_MEM_GRADIENTS] = "gradients",
        [PAR_MEM_OPTIMIZER] = "optimizer", [PAR_MEM_ACTIVATIONS] = "activations",
        [PAR_MEM_SCRATCH] = "scratch",     [PAR_MEM_COMM] = "communication",
        [PAR_MEM_DATA] = "data",
    };
    return (int)kind >= 0 && kind < PAR_MEM_COUNT ? names[kind] : "unknown";
}

/* What the host reads and writes lies there, also where the rest is on a device. */
static bool on_host(int kind) {
    return kind == PAR_MEM_COMM || kind == PAR_MEM_DATA;
}

par_status par_memory_create_measuring(par_memory **out) {
    par_memory *memory = calloc(1, sizeof *memory);
    if (!memory) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a ledger");
    memory->measuring = true;
    *out = memory;
    return PAR_OK;
}

/* Lines as they were measured, nothing of them taken yet. */
static par_status copy_plan(par_memory *memory, const par_memory *measured) {
    size_t nbytes = (size_t)measured->n_lines * sizeof *memory->lines;
    if (nbytes == 0) return PAR_OK;
    memory->lines = malloc(nbytes);
    if (!memory->lines)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a ledger of %d lines", measured->n_lines);
    memory->n_lines = memory->max_lines = measured->n_lines;
    for (int i = 0; i < measured->n_lines; i++) {
        memory->lines[i] = measured->lines[i];
        memory->lines[i].planned = measured->lines[i].nbytes;
        memory->lines[i].nbytes = 0;
    }
    return PAR_OK;
}

par_status par_memory_create(const par_allocator *device, const par_allocator *host,
                             const par_memory *measured, par_memory **out) {
    par_memory *memory = NULL;
    PAR_REQUIRE(device && host && measured && measured->measuring && out);
    PAR_TRY(par_memory_create_measuring(&memory));
    memory->measuring = false;
    memory->allocators[0] = *device;
    memory->allocators[1] = *host;
    par_status st = copy_plan(memory, measured);
    if (st != PAR_OK) {
        par_memory_destroy(&memory);
        return st;
    }
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++) {
        size_t nbytes = measured->used[kind];
        void *block = NULL;
        if (nbytes == 0) continue;
        st = memory->allocators[on_host(kind)].alloc(nbytes, &block);
        if (st != PAR_OK) {
            par_error_set(st, "%s: %zu bytes (%.2f GiB) could not be allocated: %s",
                          par_memory_kind_name(kind), nbytes, (double)nbytes / (1 << 30),
                          par_error());
            par_memory_destroy(&memory);
            return st;
        }
        memory->block[kind] = block;
        memory->capacity[kind] = nbytes;
    }
    *out = memory;
    return PAR_OK;
}

void par_memory_destroy(par_memory **handle) {
    par_memory *memory = handle ? *handle : NULL;
    if (!memory) return;
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        if (memory->block[kind])
            memory->allocators[on_host(kind)].release(memory->block[kind], memory->capacity[kind]);
    free(memory->lines);
    free(memory->details);
    free(memory);
    *handle = NULL;
}

static par_status ledger_line(par_memory *memory, par_memory_kind kind, const char *what,
                              par_ledger_line **out) {
    for (int i = 0; i < memory->n_lines; i++) {
        par_ledger_line *line = &memory->lines[i];
        if (line->kind == kind && strncmp(line->what, what, sizeof line->what - 1) == 0) {
            *out = line;
            return PAR_OK;
        }
    }
    if (memory->n_lines == memory->max_lines) {
        int max = memory->max_lines ? 2 * memory->max_lines : 32;
        par_ledger_line *lines = realloc(memory->lines, (size_t)max * sizeof *lines);
        if (!lines) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a ledger of %d lines", max);
        memory->lines = lines;
        memory->max_lines = max;
    }
    *out = &memory->lines[memory->n_lines++];
    memset(*out, 0, sizeof **out);
    (*out)->kind = kind;
    strncpy((*out)->what, what, sizeof(*out)->what - 1);
    return PAR_OK;
}

par_status par_memory_take(par_memory *memory, par_memory_kind kind, const char *what,
                           size_t nbytes, void **out) {
    par_ledger_line *line = NULL;
    PAR_REQUIRE(memory && what && out && (int)kind >= 0 && kind < PAR_MEM_COUNT &&
                nbytes <= SIZE_MAX / 2);
    nbytes = (nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!memory->measuring && nbytes > memory->capacity[kind] - memory->used[kind])
        PAR_FAIL(PAR_ERR_INTERNAL, "%s for %s: %zu bytes taken after %zu of %zu measured ones",
                 par_memory_kind_name(kind), what, nbytes, memory->used[kind],
                 memory->capacity[kind]);
    PAR_TRY(ledger_line(memory, kind, what, &line));
    line->nbytes += nbytes;
    *out = memory->measuring || nbytes == 0 ? NULL : memory->block[kind] + memory->used[kind];
    memory->used[kind] += nbytes;
    return PAR_OK;
}

par_status par_memory_tell(par_memory *memory, par_memory_kind kind, const char *what,
                           const char *layer, const char *tensor, size_t nbytes) {
    PAR_REQUIRE(memory && what && layer && tensor && (int)kind >= 0 && kind < PAR_MEM_COUNT);
    if (nbytes == 0) return PAR_OK;
    if (memory->n_details == memory->max_details) {
        int max = memory->max_details ? 2 * memory->max_details : 256;
        par_ledger_detail *details = realloc(memory->details, (size_t)max * sizeof *details);
        if (!details) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a ledger of %d details", max);
        memory->details = details;
        memory->max_details = max;
    }
    par_ledger_detail *detail = &memory->details[memory->n_details++];
    memset(detail, 0, sizeof *detail);
    detail->kind = kind;
    detail->nbytes = nbytes;
    strncpy(detail->what, what, sizeof detail->what - 1);
    strncpy(detail->layer, layer, sizeof detail->layer - 1);
    strncpy(detail->tensor, tensor, sizeof detail->tensor - 1);
    return PAR_OK;
}

int par_memory_details(const par_memory *memory, const par_ledger_detail **details) {
    *details = memory->details;
    return memory->n_details;
}

bool par_memory_measuring(const par_memory *memory) {
    return memory->measuring;
}

size_t par_memory_nbytes(const par_memory *memory, par_memory_kind kind) {
    return memory->used[kind];
}

int par_memory_ledger(const par_memory *memory, const par_ledger_line **lines) {
    *lines = memory->lines;
    return memory->n_lines;
}
