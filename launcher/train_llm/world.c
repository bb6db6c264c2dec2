/*
 * MPI, threads and cores of train_llm. Without MPI in the build, a world of one rank. The program
 * may end the job; the library may not, so that is here.
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

double llm_world_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The innermost launcher first: mpirun in a Slurm job starts its daemons through srun. */
static const char *const launched[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};

int llm_world_begin(llm_world *w, int argc, char **argv) {
    w->size = 1;
    w->start = llm_world_seconds();
#if TRAIN_LLM_MPI
    static const char *const alone[] = {"--dry-run", "--help", "-h", "--version", "--other-names"};
    bool by_launcher = false, is_alone = false;
    int provided;
    for (int i = 0; i < 3; i++) by_launcher |= getenv(launched[i]) != NULL;
    for (int i = 1; i < argc; i++)
        for (int k = 0; k < 5; k++) is_alone |= strcmp(argv[i], alone[k]) == 0;
    if (is_alone && !by_launcher) return EXIT_OK;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return EXIT_RUNTIME;
    MPI_Comm_size(MPI_COMM_WORLD, &w->size);
    MPI_Comm_rank(MPI_COMM_WORLD, &w->rank);
#endif
    return EXIT_OK;
}

void llm_world_await_end(const llm_world *w) {
#if TRAIN_LLM_MPI
    const struct timespec pause = {.tv_nsec = 20000000};
    double end = llm_world_seconds() + 10 + 10.0 * w->rank / w->size;
    while (w->rank != 0 && llm_world_seconds() < end) {
        int unused;
        /* what was sent to peers goes on its way */
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &unused, MPI_STATUS_IGNORE);
        nanosleep(&pause, NULL);
    }
#else
    (void)w;
#endif
}

void llm_world_meet(void) {
#if TRAIN_LLM_MPI
    int is_up;
    MPI_Initialized(&is_up);
    if (is_up) MPI_Barrier(MPI_COMM_WORLD);
#endif
}

void llm_world_end(int code, bool broken) {
    fflush(NULL);
#if TRAIN_LLM_MPI
    int is_up;
    MPI_Initialized(&is_up);
    if (broken && is_up) {
        /* The launcher reads what was printed before it hears of the end: under Hydra it was lost
         * once in some 80 runs. */
        const struct timespec pause = {.tv_nsec = 300000000};
        nanosleep(&pause, NULL);
        MPI_Abort(MPI_COMM_WORLD, code);
    }
    llm_world_meet();
    if (is_up) MPI_Finalize();
#else
    (void)code, (void)broken;
#endif
}

void llm_world_check_singletons(int world_size, par_problems *problems) {
    for (int i = 0; i < 3; i++) {
        const char *text = getenv(launched[i]);
        if (!text) continue;
        if (world_size == 1 && atoi(text) > 1)
            par_problem(problems,
                        "this rank is alone, but %s says that the launcher started %s: the ranks "
                        "never found each other. Start the program with the mpirun of the MPI that "
                        "it is linked to (ldd ./train_llm), or srun with --mpi=pmix. If it is "
                        "meant to run alone: env -u %s ./train_llm ...",
                        launched[i], text, launched[i]);
        return;
    }
}

static par_status allocate(size_t nbytes, void **out) {
    *out = aligned_alloc(256, nbytes);
    if (!*out)
        return par_error_set(PAR_ERR_MEMORY, "%zu bytes of host memory could not be allocated",
                             nbytes);
    memset(*out, 0, nbytes);
    return PAR_OK;
}

static void release(void *block, size_t nbytes) {
    (void)nbytes;
    free(block);
}

par_transport_params llm_world_transport_params(const llm_settings *s) {
    return (par_transport_params){.check = s->check_comm, .link = (par_link)s->comm};
}

/* Its staging is measured first, as everything in libpar is. */
par_status llm_world_talk(llm_world *w) {
    static const par_allocator allocator = {allocate, release};
    const par_comm_params params = {.axis = "program", .max_nbytes = 4096};
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

void llm_world_share(void *data, size_t nbytes) {
#if TRAIN_LLM_MPI
    int is_up;
    MPI_Initialized(&is_up);
    if (is_up) MPI_Bcast(data, (int)nbytes, MPI_BYTE, 0, MPI_COMM_WORLD);
#else
    (void)data, (void)nbytes;
#endif
}

int llm_world_refuses(const llm_world *w, par_status *st) {
    int first = *st == PAR_OK ? w->size : w->rank;
#if TRAIN_LLM_MPI
    int code = (int)*st;
    if (w->size == 1) return first;
    MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (first == w->size) return first;
    MPI_Bcast(&code, 1, MPI_INT, first, MPI_COMM_WORLD);
    *st = (par_status)code;
#endif
    return first;
}

par_status llm_world_connect(llm_world *w, const llm_settings *s) {
    par_transport_params params = llm_world_transport_params(s);
#if TRAIN_LLM_MPI
    PAR_TRY(par_transport_create_mpi(MPI_COMM_WORLD, &params, &w->transport));
#else
    PAR_TRY(par_transport_create_self(&params, &w->transport));
#endif
    w->size = par_transport_size(w->transport);
    w->rank = par_transport_rank(w->transport);
    w->local_size = par_transport_local_size(w->transport);
    return PAR_OK;
}

void llm_world_disconnect(llm_world *w) {
    par_comm_destroy(&w->comm);
    par_memory_destroy(&w->memory);
    par_transport_destroy(&w->transport);
}

/* Before anything else asks for the backend: the choice holds for the process. */
static par_status open_device(const llm_settings *s, int local_rank, int local_size,
                              bool plan_only) {
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
                                      .plan_cache = s->plan_cache,
                                      .plan_only = plan_only};
    if (s->device != LLM_CUDA) return PAR_OK;
    par_status st = par_device_select(&params);
    if (st == PAR_OK) st = par_backend_get(par_choice_name(llm_devices, s->device), &backend);
    if (st == PAR_OK) return PAR_OK;
    return par_error_set(st, "%s (--device, --gpu, --allow-shared-gpu)", par_error());
}

par_status llm_world_device(llm_world *w, const llm_settings *s) {
    int local_rank = par_transport_local_rank(w->transport),
        n = par_transport_local_size(w->transport);
    return llm_world_agree(w, open_device(s, local_rank, n, false));
}

par_status llm_world_device_alone(const llm_settings *s) {
    char why[1024];
    par_status st = open_device(s, 0, 1, true);
    if (st == PAR_OK) return PAR_OK;
    snprintf(why, sizeof why, "%s", par_error());
    return par_error_set(st, "%s; --dry-run --device cpu plans all but the kernels' own workspaces",
                         why);
}

par_status llm_world_agree(llm_world *w, par_status st) {
    return par_comm_agree(w->comm, st);
}

/* A rank's node by its host name's hash, the cores that it may run on, and how many of them its
 * cgroups allow all ranks of the node together (0: no limit). */
typedef struct {
    uint64_t host;
    cpu_set_t cores;
    int quota;
} rank_cores;

static rank_cores own_cores(llm_world *w) {
    rank_cores own = {0};
    par_machine machine;
    cpu_set_t launcher;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    own.host = par_hash_name(host);
    par_machine_look(&machine);
    own.quota = machine.quota;
    if (sched_getaffinity(0, sizeof own.cores, &own.cores) != 0) CPU_SET(0, &own.cores);
    /* What mpirun's daemon may use is what this rank could use without binding. */
    bool known = sched_getaffinity(getppid(), sizeof launcher, &launcher) == 0;
    w->node_cores = known ? CPU_COUNT(&launcher) : CPU_COUNT(&own.cores);
    return own;
}

/* A node's ranks, and the cores that they may run on together. */
static int count_node(const rank_cores *all, int n, uint64_t host, int *ranks) {
    cpu_set_t node;
    CPU_ZERO(&node);
    *ranks = 0;
    for (int i = 0; i < n; i++) {
        if (all[i].host != host) continue;
        ++*ranks;
        CPU_OR(&node, &node, &all[i].cores);
    }
    return CPU_COUNT(&node);
}

/* Every rank works out the same number from the same list: the least share of all, so that one
 * thread count gives one sum everywhere. */
par_status llm_world_threads(llm_world *w, int64_t asked) {
    rank_cores own = own_cores(w), *all = calloc((size_t)w->size, sizeof *all);
    int threads = CPU_SETSIZE;
    /* A rank without memory for the list would leave its peers waiting: agree first. */
    par_status st = llm_world_agree(
        w, all ? PAR_OK
               : par_error_set(PAR_ERR_MEMORY, "no host memory for %d lists of cores", w->size));
    if (st == PAR_OK)
        st = par_comm_all_gather(w->comm, &own, all, sizeof own, PAR_U8, tag, NULL, NULL);
    for (int i = 0; st == PAR_OK && i < w->size; i++) {
        int ranks, cores = count_node(all, w->size, all[i].host, &ranks);
        int allowed = CPU_COUNT(&all[i].cores), share = cores / ranks;
        if (share > allowed) share = allowed;
        if (all[i].quota && all[i].quota / ranks < share) share = all[i].quota / ranks;
        if (share < threads) threads = share;
    }
    if (st == PAR_OK) w->cores = count_node(all, w->size, own.host, &w->local_size);
    if (own.quota && own.quota < w->cores) w->cores = own.quota;
    if (own.quota && own.quota < w->node_cores) w->node_cores = own.quota;
    free(all);
    if (st != PAR_OK) return st;
    w->threads = asked ? (int)asked : threads > 0 ? threads : 1;
    return llm_world_agree(w, par_threads_set(w->threads));
}
