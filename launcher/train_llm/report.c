/*
 * Everything that train_llm prints, in llm.c's form where it has one. Called on rank 0 alone,
 * but for the table of ranks; standard output is line buffered, problems go to standard error.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "observe.h"

void llm_report_problems(const char *title, const char *text) {
    fflush(stdout);
    fprintf(stderr, "train_llm: %s\n", title);
    while (*text) {
        int n = (int)strcspn(text, "\n");
        fprintf(stderr, "  %.*s\n", n, text);
        text += n + (text[n] == '\n');
    }
    fflush(stderr);
}

void llm_report_line(void *user, const char *line) {
    (void)user;
    printf("%s\n", line);
}

/* What every rank computes on, gathered on rank 0. Collective. */
static par_status report_devices(const llm_world *w, const llm_run *r) {
    enum { NBYTES = 256 };
    static const par_tag tag = {"start", -1, -1, -1};
    const par_backend *backend = NULL;
    char mine[NBYTES] = "", *all = calloc((size_t)w->size, NBYTES);
    par_status st = par_backend_get(r->params.backend, &backend);
    if (st == PAR_OK && !all)
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for a table of %d devices", w->size);
    st = par_comm_agree(w->comm, st);
    if (st == PAR_OK) {
        snprintf(mine, sizeof mine, "%s", par_backend_device(backend));
        st = par_comm_all_gather(w->comm, mine, all, NBYTES, PAR_U8, tag, NULL, NULL);
    }
    if (st == PAR_OK && w->rank == 0) printf(" rank  device\n");
    for (int k = 0; st == PAR_OK && w->rank == 0 && k < w->size; k++)
        printf("%5d  %.250s\n", k, all + (size_t)k * NBYTES);
    free(all);
    return st;
}

par_status llm_report_ranks(const llm_world *w, const llm_run *r) {
    par_mesh *mesh = NULL;
    par_status st = par_mesh_create(w->transport, &r->params.layout, NULL, NULL, &mesh);
    st = par_comm_agree(w->comm, st);
    if (st == PAR_OK) st = par_comm_agree(w->comm, par_mesh_print(mesh, llm_report_line, NULL));
    par_mesh_destroy(&mesh);
    return st == PAR_OK && r->set.device == LLM_CUDA ? report_devices(w, r) : st;
}

void llm_report_head(const llm_run *r, int world_size) {
    const par_transformer_config *c = &r->config;
    const par_trainer_params *p = &r->params;
    const int *size = p->layout.size;
    double n = (double)par_transformer_n_params(c);
    printf("model: %s, %.2f %s parameters | %lld layer%s, %lld channels, %lld head%s (%lld kv) of "
           "%lld, mlp %lld, vocabulary %lld, %lld tokens\n",
           c->name, n < 1e9 ? 1e-6 * n : 1e-9 * n, n < 1e9 ? "M" : "B", (long long)c->layers,
           llm_report_s(c->layers), (long long)c->channels, (long long)c->heads,
           llm_report_s(c->heads), (long long)c->kv_heads, (long long)c->head_size,
           (long long)c->mlp, (long long)c->vocab, (long long)c->tokens);
    printf("layout: %d rank%s = tp %d x cp %d x pp %d x dp %d | %s", world_size,
           llm_report_s(world_size), size[PAR_TP], size[PAR_CP], size[PAR_PP], size[PAR_DP],
           par_schedule_kind_name(p->schedule));
    if (p->chunks > 1) printf(", %d chunks per stage", p->chunks);
    printf(", %s, recompute %s, zero %d%s%s", par_choice_name(llm_precisions, r->set.precision),
           par_choice_name(llm_recomputes, r->set.recompute), p->zero,
           size[PAR_DP] > 1 && p->reduce_dtype == PAR_BF16 ? ", gradients sent as bf16" : "",
           size[PAR_TP] == 1         ? ""
           : p->no_sequence_parallel ? ", no sequence parallel"
                                     : ", sequence parallel");
    if (p->tp_pieces > 1) printf(", forward's rows in %d pieces", p->tp_pieces);
    printf("\n");
    printf("batch: %lld sample%s = %d micro-batch%s x %lld sample%s x dp %d\n",
           (long long)p->global_batch, llm_report_s(p->global_batch), r->n_micro,
           r->n_micro == 1 ? "" : "es", (long long)p->micro_batch, llm_report_s(p->micro_batch),
           size[PAR_DP]);
    if (*r->recipe) printf("recipe: %s\n", r->recipe);
    for (const char *line = r->notes.text; *line;) {
        int length = (int)strcspn(line, "\n");
        printf("note: %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
}

/* Ranks that take turns on cores wait for each other all the time: their bubble is the machine's,
 * not the schedule's. A device measures by itself. */
bool llm_report_takes_turns(const llm_run *r, const llm_world *w) {
    return r->set.device != LLM_CUDA && (int64_t)w->threads * w->local_size > w->cores;
}

void llm_report_run(const llm_run *r, const llm_world *w) {
    llm_report_head(r, w->size);
    printf("machine: device %s, %d thread%s per rank, %d rank%s and %d core%s on this node\n",
           r->params.backend, w->threads, llm_report_s(w->threads), w->local_size,
           llm_report_s(w->local_size), w->cores, llm_report_s(w->cores));
    const char *unbound = getenv("OMPI_COMM_WORLD_SIZE") ? "--bind-to none"
                          : getenv("MPI_LOCALNRANKS") ? "-bind-to none" /* Hydra's ranks have it */
                                                      : NULL;
    if (unbound && w->cores < w->node_cores)
        printf("warning: the ranks are bound to %d of %d cores; give mpirun %s\n", w->cores,
               w->node_cores, unbound);
    if ((int64_t)w->threads * w->local_size > w->cores)
        printf("warning: %d rank%s with %d thread%s each share %d core%s: the results are right, "
               "but fewer would be faster\n",
               w->local_size, llm_report_s(w->local_size), w->threads, llm_report_s(w->threads),
               w->cores, llm_report_s(w->cores));
    llm_run_print(r);
    if (r->params.layout.size[PAR_PP] > 1 && llm_report_takes_turns(r, w))
        printf("note: the measured bubble is left out, since ranks that share cores wait for each "
               "other's turns\n");
}

/* "3.20 MiB": the unit that fits. */
const char *llm_report_bytes(double nbytes, char text[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int i = 0;
    for (; nbytes >= 1024 && i < 5; i++) nbytes /= 1024;
    snprintf(text, 32, "%.*f %s", i ? 2 : 0, nbytes, units[i]);
    return text;
}

static double memory_nbytes(const par_trainer *trainer) {
    double total = 0;
    for (int kind = 0; kind < PAR_MEM_COUNT; kind++)
        total += (double)par_memory_nbytes(par_trainer_memory(trainer), (par_memory_kind)kind);
    return total;
}

void llm_report_data(const llm_run *r, const llm_data *d, const par_trainer *trainer) {
    char memory[32];
    llm_data_print(r, d);
    printf("memory: %s on rank 0\n", llm_report_bytes(memory_nbytes(trainer), memory));
    llm_mfu_report(r);
    llm_report_graphs(trainer);
}

void llm_report_graphs(const par_trainer *trainer) {
    const char *why = par_trainer_no_graph(trainer);
    if (par_trainer_backend(trainer)->on_host) return;
    if (why)
        printf("steps: call by call, not as graphs of the device: %s\n", why);
    else
        printf("steps: as graphs of the device, from the third on\n");
}

/* Open MPI gives ranks a terminal of their own whatever its own output is, so its output counts:
 * the parent's. */
bool llm_report_on_terminal(void) {
    char name[64], target[64] = "";
    if (!isatty(STDOUT_FILENO)) return false;
    if (!getenv("OMPI_COMM_WORLD_SIZE")) return true;
    snprintf(name, sizeof name, "/proc/%ld/fd/1", (long)getppid());
    if (readlink(name, target, sizeof target - 1) < 0) return false;
    return strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0;
}

/* Tokens per second of the last steps, a ring. */
enum { N_RATES = 101 };
static double rates[N_RATES], began;
static int64_t n_rates;
static par_step_times all; /* of all steps: exposed, hidden and tail alone */
static bool progress_shown;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void llm_report_time(const par_step_times *times, const par_vote *vote) {
    if (n_rates == 0) began = llm_world_seconds() - times->total;
    rates[n_rates++ % N_RATES] = (double)vote->n_targets / times->total;
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        all.exposed[axis] += times->exposed[axis];
        all.hidden[axis] += times->hidden[axis];
    }
    all.tail += times->tail;
}

/* A line for each axis that communicated; nothing on a device, where nobody measured it. */
void llm_report_overlap(void) {
    static const char *const names[PAR_AXIS_COUNT] = {"tp", "cp", "dp", "pp"};
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        double exposed = all.exposed[axis], hidden = all.hidden[axis];
        if (exposed + hidden < 0.005) continue;
        printf("communication of %s: rank 0 waited %.2f s, %.2f s ran behind computation",
               names[axis], exposed, hidden);
        if (axis == PAR_DP)
            printf("; of the wait %.2f s for the last bucket, the embedding's", all.tail);
        printf("\n");
    }
}

void llm_report_step(const llm_run *r, const llm_world *w, int64_t step, double lr, double seconds,
                     const par_vote *vote, const par_trainer *trainer) {
    const par_step_times *times = par_trainer_times(trainer);
    char memory[32];
    double sorted[N_RATES];
    int n = n_rates < N_RATES ? (int)n_rates : N_RATES;
    memcpy(sorted, rates, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    double median = n ? sorted[n / 2] : 0;
    llm_report_progress_clear();
    printf("step %lld/%lld | loss %.4f | norm %.4f | lr %.1e | %.1f ms | %.0f tok/s (median %.0f)",
           (long long)step, (long long)r->set.steps, vote->loss, vote->grad_norm, lr, 1e3 * seconds,
           (double)vote->n_targets / seconds, median);
    double mfu = llm_mfu(r, w->size, (double)vote->n_targets / seconds);
    if (mfu >= 0) printf(" | mfu %.1f%%", 100 * mfu);
    printf(" | data %.1f%% | %s", 100 * times->data / seconds,
           llm_report_bytes(memory_nbytes(trainer), memory));
    if (r->params.layout.size[PAR_PP] > 1 && !llm_report_takes_turns(r, w))
        printf(" | bubble %.1f%% (ideal %.1f%%)", 100 * times->bubble, 100 * times->ideal_bubble);
    if (r->params.dtype == PAR_F16) printf(" | scale %g", vote->loss_scale);
    if (vote->skipped)
        printf(" | skipped (%lld so far): %lld non-finite, first %s", (long long)vote->n_skipped,
               (long long)vote->n_nonfinite, vote->where);
    printf("\n");
}

/*
 * Time left is that of the steps so far, validation included. At most five times per second: mpirun
 * reads nothing while it waits for its ranks to end, and a rank that fills the terminal's 4 KiB
 * then waits for mpirun.
 */
void llm_report_progress(const llm_run *r, int64_t step) {
    enum { BAR = 24 };
    static double last;
    double now = llm_world_seconds();
    if (n_rates == 0 || now - last < 0.2 || !llm_report_on_terminal()) return;
    last = now;
    int done = (int)(step * BAR / r->set.steps);
    double a_step = (now - began) / (double)n_rates;
    llm_report_progress_clear();
    printf("[%.*s%.*s] %lld/%lld, ", done, "########################", BAR - done,
           "........................", (long long)step, (long long)r->set.steps);
    long long s = (long long)(a_step * (double)(r->set.steps - step) + 0.5);
    if (s >= 3600)
        printf("%lld h %lld min left", s / 3600, s / 60 % 60);
    else if (s >= 60)
        printf("%lld min %lld s left", s / 60, s % 60);
    else
        printf("%lld s left", s);
    fflush(stdout);
    progress_shown = true;
}

void llm_report_progress_clear(void) {
    if (progress_shown) printf("\r\033[K");
    progress_shown = false;
}
