/*
 * RUN/memory.json: the ledgers of all ranks, what their processes take over time, and what would
 * make the largest one smaller. It is written when the training begins, and again when it ends;
 * meanwhile every rank answers `par diagnose memory --pid`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "observe.h"

static struct {
    par_memory_watch *watch;
    par_attach *attach;
    int rank;
} kept;

enum { MAX_SAVINGS = 8, SMALL_LOGITS = 16 }; /* SMALL_LOGITS: MiB */

static char *answer(void *user) {
    (void)user;
    return par_memory_watch_text(kept.watch, kept.rank);
}

/* What a rank takes with these parameters; 0: nothing can be said of them. */
static size_t planned(const llm_run *r, const par_trainer_params *params, int size, int rank) {
    const par_transport_params transport_params = llm_world_transport_params(&r->set);
    par_memory *memory = NULL;
    size_t nbytes = 0;
    if (par_trainer_plan(params, &transport_params, size, rank, &memory) != PAR_OK) return 0;
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        nbytes += par_memory_nbytes(memory, (par_memory_kind)kind);
    par_memory_destroy(&memory);
    return nbytes;
}

/* Options that may make a rank smaller, each alone: the parameters with option `i`; false: it is
 * set already, or does not apply. */
static bool changed(const llm_run *r, int i, par_trainer_params *p, char option[48]) {
    static const char *const names[MAX_SAVINGS] = {"--recompute full", "--recompute selective",
                                                   "--zero 1", "--schedule 1f1b",
                                                   "--precision bf16"};
    bool full = p->recompute == PAR_RECOMPUTE_FULL;
    if (i < 5) snprintf(option, 48, "%s", names[i]);
    switch (i) {
    case 0: p->recompute = PAR_RECOMPUTE_FULL; return !full;
    case 1:
        p->recompute = PAR_RECOMPUTE_SELECTIVE;
        return !full && r->params.recompute != PAR_RECOMPUTE_SELECTIVE;
    case 2: p->zero = 1; return r->params.zero == 0 && p->layout.size[PAR_DP] > 1;
    case 3:
        p->schedule = PAR_SCHEDULE_1F1B;
        return r->params.schedule == PAR_SCHEDULE_GPIPE ||
               r->params.schedule == PAR_SCHEDULE_EAGER_1F1B;
    case 4: p->dtype = PAR_BF16; return r->params.dtype == PAR_F32;
    case 5:
        p->micro_batch /= 2;
        snprintf(option, 48, "--micro-batch %lld", (long long)p->micro_batch);
        return r->params.micro_batch % 2 == 0;
    case 6:
        p->logits_nbytes = (size_t)SMALL_LOGITS << 20;
        snprintf(option, 48, "--logits-memory %d", SMALL_LOGITS);
        return r->params.logits_nbytes == 0 || r->params.logits_nbytes > p->logits_nbytes;
    default: return false;
    }
}

static int by_size(const void *a, const void *b) {
    size_t x = ((const par_memory_saving *)a)->nbytes, y = ((const par_memory_saving *)b)->nbytes;
    return x < y ? -1 : x > y;
}

/*
 * Plans of other options are made for the host, also where the run's are not: planning for a device
 * would count as what this run prepared. What the two differ in, this rank's own memory tells.
 */
static int find_savings(const llm_run *r, const llm_world *w, size_t taken,
                        par_memory_saving *out) {
    par_trainer_params params = r->params;
    size_t most = 0;
    int largest = 0; /* the first rank of the stage that takes most */
    int n = 0;
    if (r->set.device == LLM_CUDA) params.backend = "cpu", params.device = NULL;
    size_t own = planned(r, &params, w->size, w->rank);
    for (int stage = 0; stage < params.layout.size[PAR_PP]; stage++) {
        int coordinate[PAR_AXIS_COUNT] = {[PAR_PP] = stage};
        int rank = par_layout_rank(&params.layout, coordinate);
        size_t nbytes = planned(r, &params, w->size, rank);
        if (nbytes > most) most = nbytes, largest = rank;
    }
    for (int i = 0; own && i < MAX_SAVINGS; i++) {
        par_trainer_params other = params;
        if (!changed(r, i, &other, out[n].option)) continue;
        size_t nbytes = planned(r, &other, w->size, largest);
        if (nbytes + taken > own) out[n].nbytes = nbytes + taken - own;
        n += nbytes != 0;
    }
    qsort(out, (size_t)n, sizeof *out, by_size);
    return n;
}

/* On all ranks; rank 0's file. Where it cannot be written, training goes on. */
static par_status write_file(const llm_run *r, llm_world *w, const par_memory_saving *savings,
                             int n) {
    const char *path = llm_run_file(r, "memory.json");
    if (!path) return PAR_OK;
    par_status st =
        par_memory_watch_write(kept.watch, w->comm, &r->params.layout, savings, n, path);
    if (st == PAR_OK || st == PAR_ERR_TRANSPORT) return st;
    if (w->rank == 0) llm_report_problems("there is no file on memory", par_error());
    return PAR_OK;
}

static par_memory_saving savings[MAX_SAVINGS];
static int n_savings;

par_status llm_memory_begin(const llm_run *r, llm_world *w, const par_trainer *trainer) {
    const par_memory *memory = par_trainer_memory(trainer);
    size_t taken = 0;
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        taken += par_memory_nbytes(memory, (par_memory_kind)kind);
    PAR_TRY(llm_world_agree(
        w, par_memory_watch_create(memory, par_trainer_backend(trainer), &kept.watch)));
    kept.rank = w->rank;
    if (par_attach_create(answer, NULL, &kept.attach) != PAR_OK && w->rank == 0)
        printf("note: par diagnose --pid will not work: %s\n", par_error());
    if (w->rank == 0 && llm_run_file(r, "memory.json"))
        n_savings = find_savings(r, w, taken, savings);
    return write_file(r, w, savings, n_savings);
}

void llm_memory_step(int64_t step) {
    if (kept.watch) par_memory_watch_step(kept.watch, step);
}

par_status llm_memory_end(const llm_run *r, llm_world *w) {
    if (!kept.watch) return PAR_OK;
    PAR_TRY(write_file(r, w, savings, n_savings));
    /* what leaks is said at the end of the run, not only to who asks */
    par_memory_report *report = NULL;
    const char *path = w->rank == 0 ? llm_run_file(r, "memory.json") : NULL;
    if (!path || par_memory_report_read(path, &report) != PAR_OK) return PAR_OK;
    for (int i = 0, said = 0; i < report->n_ranks && said < 4; i++) {
        par_memory_growth g = par_memory_report_growth(report, i);
        char text[32];
        if (g.process == 0 && g.device == 0) continue;
        said++;
        printf("warning: memory: the %s of rank %d, outside of libpar's ledger, grows by %s per "
               "step; par diagnose memory %s says more\n",
               g.process > 0 ? "process" : "device", report->ranks[i].rank,
               llm_report_bytes(g.process > 0 ? g.process : g.device, text), path);
    }
    par_memory_report_destroy(&report);
    return PAR_OK;
}

void llm_memory_close(void) {
    par_attach_destroy(&kept.attach);
    par_memory_watch_destroy(&kept.watch);
}
