/*
 * Where the memory of a run went. Each rank watches its process and its device beside the ledger of
 * what libpar planned and took; rank 0 writes the file that all of them make; readers of the file
 * print it, draw it, and say what grows. The form of the file is in docs/diagnostics.md.
 */
#ifndef PAR_MEMORY_REPORT_H
#define PAR_MEMORY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/kernels.h"
#include "par/memory.h"
#include "par/mesh.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a process takes at one moment, bytes. `device`: what is in use on its device, by whomever;
 * 0: it has none, or that cannot be asked. */
typedef struct {
    int64_t step;
    double seconds; /* since the watch began */
    size_t resident, anonymous, device;
} par_memory_reading;

/** This process now; step and seconds are 0. Reads /proc/self/statm: some microseconds. backend may
 * be NULL. Not collective. */
PAR_API void par_memory_reading_now(const par_backend *backend, par_memory_reading *out);

/* The samples of one rank, and a copy of its ledger. */
typedef struct par_memory_watch par_memory_watch;

/** A watch of this rank: `memory` is that of a trainer, whose ledger is complete. Takes all memory
 * that it will ever need. Not collective. Errors: PAR_ERR_MEMORY. */
PAR_API par_status par_memory_watch_create(const par_memory *memory, const par_backend *backend,
                                           par_memory_watch **out);
/** NULL is accepted. Not collective. */
PAR_API void par_memory_watch_destroy(par_memory_watch **watch);
/** Take a sample after a step. Where there are too many every second one is dropped, so that those
 * that stay cover the run evenly. Not collective. */
PAR_API void par_memory_watch_step(par_memory_watch *watch, int64_t step);

/* What the largest rank would take with another option. */
typedef struct {
    char option[48]; /* "--recompute full" */
    size_t nbytes;
} par_memory_saving;

/**
 * Gather all ranks' watches and write them to `path` on rank 0. Ledgers that are equal are sent and
 * written once. `savings` [n_savings] is read on rank 0.
 *
 * Collective: on comm, the world of `layout`. Errors: PAR_ERR_IO, PAR_ERR_MEMORY [agreed];
 * PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_memory_watch_write(const par_memory_watch *watch, par_comm *comm,
                                          const par_layout *layout,
                                          const par_memory_saving *savings, int n_savings,
                                          const char *path);
/** This rank alone, with a sample of now: what par_memory_report_parse reads. To be freed; NULL: no
 * memory. May be called in another thread. Not collective. */
PAR_API char *par_memory_watch_text(par_memory_watch *watch, int rank);

/* A line of a ledger that was read; names are as in par/memory.h. */
typedef struct {
    char kind[16], what[48];
    size_t nbytes, planned;
} par_memory_line;

/* A detail of such a line: what some of its bytes are for. */
typedef struct {
    int line; /* index of its line */
    char layer[48], tensor[64];
    size_t nbytes;
} par_memory_detail;

/* A ledger, and the ranks that have it. */
typedef struct {
    par_memory_line *lines;     /* [n_lines] */
    par_memory_detail *details; /* [n_details]: what was told, and padding */
    int n_lines, n_details, n_ranks, first_rank;
    size_t nbytes, on_device;
} par_memory_book;

/* A rank of the run. */
typedef struct {
    int rank, book, coordinate[PAR_AXIS_COUNT];
    int64_t pid, n_samples;
    char host[64];
    bool has_device;
    size_t proportional;         /* PSS when the file was written; 0: not known */
    par_memory_reading *samples; /* [n_samples] */
} par_memory_rank;

/* A file that was read. */
typedef struct {
    par_memory_book *books; /* [n_books] */
    par_memory_rank *ranks; /* [n_ranks] */
    par_memory_saving *savings;
    int n_books, n_ranks, n_savings, largest; /* largest: the first rank with the largest book */
} par_memory_report;

/** Read what par_memory_watch_write wrote. Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT: it
 * is not such a file, with the line; PAR_ERR_MEMORY. */
PAR_API par_status par_memory_report_read(const char *path, par_memory_report **out);
/** The same of a text; `name` is for messages. Not collective. Errors: PAR_ERR_FORMAT,
 * PAR_ERR_MEMORY. */
PAR_API par_status par_memory_report_parse(const char *text, const char *name,
                                           par_memory_report **out);
/** NULL is accepted. Not collective. */
PAR_API void par_memory_report_destroy(par_memory_report **report);

/* What grows from step to step, of one rank. */
typedef struct {
    double process;      /* bytes per step, of memory outside of libpar's ledger; 0: it does not */
    double device;       /* the same on the device */
    int64_t first, last; /* the steps between which it was seen */
} par_memory_growth;

/**
 * Growth is seen where the medians of a run's four quarters rise from each to the next, in all by
 * 256 KiB and 0.1 % at least. The run's first eighth is left out. At least 16 samples; fewer are
 * never growth. Not collective.
 */
PAR_API par_memory_growth par_memory_report_growth(const par_memory_report *report, int rank);
/** Lines, over all books, that took another number of bytes than was planned. Not collective. */
PAR_API int par_memory_report_differences(const par_memory_report *report);
/**
 * Text for people: what each stage takes by kind, the largest rank's layers and tensors, what would
 * make it smaller, what lies outside of the ledger, differences from the plan, growth. `print` gets
 * one line at a time, without its end. Not collective.
 */
PAR_API void par_memory_report_print(const par_memory_report *report,
                                     void (*print)(void *user, const char *line), void *user);
/** The same findings as a JSON object, to be freed. Not collective. NULL: no memory. */
PAR_API char *par_memory_report_json(const par_memory_report *report);
/** Folded stacks, a line "rank 0;activations;layers.3;slots: mlp.up BYTES" per rank and tensor, as
 * tools that draw flame graphs read them. Not collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY. */
PAR_API par_status par_memory_report_write_folded(const par_memory_report *report,
                                                  const char *path);
/** A flame graph, 800 wide, of ranks, kinds, layers and tensors; ranks with equal ledgers are drawn
 * once. It needs nothing from elsewhere. Not collective. Errors: PAR_ERR_IO, PAR_ERR_MEMORY. */
PAR_API par_status par_memory_report_write_svg(const par_memory_report *report, const char *path);

#ifdef __cplusplus
}
#endif
#endif
