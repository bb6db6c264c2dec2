/*
 * MPI, threads and cores of train_llm. Without MPI in the build, a world of one rank. The program
 * may end the process; the library may not, so that is here.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "train_llm.h"
#if TRAIN_LLM_MPI
#include "par/mpi.h"
#endif

static const par_tag tag = {"start", -1, -1, -1};

double world_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int world_begin(int *size, int *rank) {
    *size = 1;
    *rank = 0;
#if TRAIN_LLM_MPI
    int provided;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return EXIT_RUNTIME;
    MPI_Comm_size(MPI_COMM_WORLD, size);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
#endif
    return EXIT_OK;
}

_Noreturn void world_end(int code, bool broken) {
    fflush(NULL);
#if TRAIN_LLM_MPI
    if (broken) MPI_Abort(MPI_COMM_WORLD, code);
    MPI_Finalize();
#else
    (void)broken;
#endif
    exit(code);
}

void world_check_singletons(int world_size, par_problems *problems) {
    /* The innermost launcher first: mpirun in a Slurm job starts its daemons through srun. */
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (int i = 0; i < 3; i++) {
        const char *text = getenv(names[i]);
        if (!text) continue;
        if (world_size == 1 && atoi(text) > 1)
            par_problem(problems,
                        "this rank is alone, but %s says that the launcher started %s: the ranks "
                        "never found each "
                        "other. Start the program with the mpirun of the MPI that it is linked to "
                        "(ldd ./train_llm), "
                        "or "
                        "srun with --mpi=pmix",
                        names[i], text);
        return;
    }
}

static par_status allocate(size_t nbytes, void **out) {
    *out = aligned_alloc(256, nbytes);
    if (!*out) return par_error_set(PAR_ERR_MEMORY, "no %zu bytes of host memory", nbytes);
    memset(*out, 0, nbytes);
    return PAR_OK;
}

static void release(void *block, size_t nbytes) {
    (void)nbytes;
    free(block);
}

static par_link link_of(const settings *s) {
    if (!s->comm) return PAR_LINK_DEFAULT;
    return strcmp(s->comm, "nccl") == 0 ? PAR_LINK_NCCL : PAR_LINK_STAGED;
}

static par_status create_transport(world *w, const settings *s) {
    par_transport_params params = {.check = s->check_comm, .link = link_of(s)};
#if TRAIN_LLM_MPI
    return par_transport_create_mpi(MPI_COMM_WORLD, &params, &w->transport);
#else
    return par_transport_create_self(&params, &w->transport);
#endif
}

/* The program's own communicator; its staging is measured first, as everything in libpar is. */
static par_status create_comm(world *w, const int *ranks) {
    static const par_allocator allocator = {allocate, release};
    const par_comm_params params = {
        .axis = "program", .ranks = ranks, .n = w->size, .max_nbytes = 4096};
    par_memory *measured = NULL;
    par_comm *measuring = NULL;
    par_status st = par_memory_create_measuring(&measured);
    if (st == PAR_OK) st = par_comm_create(w->transport, &params, measured, &measuring);
    par_comm_destroy(&measuring);
    if (st == PAR_OK) st = par_memory_create(&allocator, &allocator, measured, &w->memory);
    if (st == PAR_OK) st = par_comm_create(w->transport, &params, w->memory, &w->comm);
    par_memory_destroy(&measured);
    return st;
}

par_status world_connect(world *w, const settings *s) {
    PAR_TRY(create_transport(w, s));
    w->size = par_transport_size(w->transport);
    w->rank = par_transport_rank(w->transport);
    w->local_size = par_transport_local_size(w->transport);
    int *ranks = malloc((size_t)w->size * sizeof *ranks);
    if (!ranks)
        return par_error_set(PAR_ERR_MEMORY, "no host memory for a list of %d ranks", w->size);
    for (int i = 0; i < w->size; i++) ranks[i] = i;
    par_status st = create_comm(w, ranks);
    free(ranks);
    return st;
}

void world_disconnect(world *w) {
    par_comm_destroy(&w->comm);
    par_memory_destroy(&w->memory);
    par_transport_destroy(&w->transport);
}

static bool is_cuda(const settings *s) {
    return strcmp(s->device, "cuda") == 0;
}

/* Before anything else asks for the backend: the choice holds for the process. */
static par_status open_device(const settings *s, int local_rank, int local_size) {
    const par_backend *backend = NULL;
    const par_device_params params = {.local_rank = local_rank,
                                      .local_size = local_size,
                                      .device = (int)s->gpu,
                                      .shared = s->allow_shared_gpu,
                                      .tf32 = s->tf32,
                                      .tune = s->tune_gemm,
                                      .attention_workspace_nbytes = (size_t)s->attention_workspace
                                                                    << 20,
                                      .nondeterministic_attention = s->nondeterministic_attention,
                                      .plan_cache = s->plan_cache};
    if (!is_cuda(s)) return PAR_OK;
    PAR_TRY(par_device_select(&params));
    return par_backend_get(s->device, &backend);
}

par_status world_device(world *w, const settings *s) {
    int local_rank = par_transport_local_rank(w->transport),
        n = par_transport_local_size(w->transport);
    return world_agree(w, open_device(s, local_rank, n));
}

par_status world_device_alone(const settings *s) {
    char why[1024];
    par_status st = open_device(s, 0, 1);
    if (st == PAR_OK) return PAR_OK;
    snprintf(why, sizeof why, "%s", par_error());
    return par_error_set(st, "%s; --dry-run --device cpu plans all but the kernels' own workspaces",
                         why);
}

par_status world_devices_print(const world *w, const settings *s,
                               void (*print)(void *, const char *)) {
    enum { NBYTES = 256 };
    const par_backend *backend = NULL;
    char mine[NBYTES] = "", line[NBYTES + 16], *all = NULL;
    if (!is_cuda(s)) return PAR_OK;
    par_status st = par_backend_get(s->device, &backend);
    if (st == PAR_OK) {
        all = calloc((size_t)w->size, NBYTES);
        if (!all)
            st = par_error_set(PAR_ERR_MEMORY, "no host memory for a table of %d devices", w->size);
    }
    st = par_comm_agree(w->comm, st);
    if (st == PAR_OK) {
        snprintf(mine, sizeof mine, "%s", par_backend_device(backend));
        st = par_comm_all_gather(w->comm, mine, all, NBYTES, PAR_U8, tag, NULL, NULL);
    }
    for (int r = 0; st == PAR_OK && w->rank == 0 && r < w->size; r++) {
        snprintf(line, sizeof line, "%5d  %.250s", r, all + (size_t)r * NBYTES);
        if (r == 0) print(NULL, " rank  device");
        print(NULL, line);
    }
    free(all);
    return st;
}

par_status world_agree(world *w, par_status st) {
    return par_comm_agree(w->comm, st);
}

/* A rank's node by its host name's hash, and the cores that it may run on. */
typedef struct {
    uint64_t host;
    cpu_set_t cores;
} place;

static place own_place(world *w) {
    place own = {0};
    cpu_set_t launcher;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    own.host = par_hash_name(host);
    if (sched_getaffinity(0, sizeof own.cores, &own.cores) != 0) CPU_SET(0, &own.cores);
    /* What mpirun's daemon may use is what this rank could use without binding. */
    bool known = sched_getaffinity(getppid(), sizeof launcher, &launcher) == 0;
    w->node_cores = known ? CPU_COUNT(&launcher) : CPU_COUNT(&own.cores);
    return own;
}

static int min_of(int a, int b) {
    return a < b ? a : b;
}

/* The lowest number over all ranks, so that one thread count gives one sum everywhere. */
static par_status lowest(world *w, int32_t *value) {
    int32_t *all = malloc((size_t)w->size * sizeof *all);
    if (!all) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d numbers", w->size);
    par_status st = par_comm_all_gather(w->comm, value, all, 1, PAR_I32, tag, NULL, NULL);
    for (int i = 0; st == PAR_OK && i < w->size; i++) *value = min_of(*value, all[i]);
    free(all);
    return st;
}

par_status world_threads(world *w, int64_t asked) {
    place own = own_place(w), *all = calloc((size_t)w->size, sizeof *all);
    cpu_set_t node = own.cores;
    int local = 0, allowed = CPU_COUNT(&own.cores);
    /* A rank without memory for the list would leave its peers waiting: agree first. */
    par_status st = world_agree(
        w, all ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for %d places", w->size));
    if (st == PAR_OK)
        st = par_comm_all_gather(w->comm, &own, all, sizeof own, PAR_U8, tag, NULL, NULL);
    for (int i = 0; st == PAR_OK && i < w->size; i++) {
        if (all[i].host != own.host) continue;
        local++;
        CPU_OR(&node, &node, &all[i].cores);
    }
    free(all);
    if (st != PAR_OK) return st;
    w->local_size = local;
    w->cores = CPU_COUNT(&node);
    int share = min_of(allowed, w->cores / local);
    int32_t threads = asked ? (int32_t)asked : share > 0 ? share : 1;
    PAR_TRY(lowest(w, &threads));
    w->threads = threads;
    return par_threads_set(threads);
}
