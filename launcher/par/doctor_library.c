/* MPI and its launcher, HDF5, the folder of --save, the GPU and its libraries, clocks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "doctor.h"
#include "par_tool.h"
#include "run.h"
#if PAR_TOOL_MPI
#include "par/mpi.h"
#endif

static const par_tag tag = {"doctor", -1, -1, -1};

static void look_at_mpi(doctor *d) {
#if PAR_TOOL_MPI
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    MPI_Get_library_version(text, &n);
    text[strcspn(text, "\n")] = 0;
    for (char *tab = text; (tab = strchr(tab, '\t'));) *tab = ' ';
    doctor_say(d, DOCTOR_OK, "MPI", "", "%.200s", text);
#else
    doctor_say(d, DOCTOR_WARN, "MPI", "install Open MPI or MPICH, and build again",
               "this build has none: one rank alone");
#endif
}

/* Started by another MPI's launcher, ranks never find each other. */
static void look_at_launcher(doctor *d) {
    const run_settings settings = {.ranks = d->world->size};
    const char *size = par_world_launched();
    run_launch launch = {0};
    if (size && atoi(size) > d->world->size)
        doctor_say(d, DOCTOR_FAIL, "launcher",
                   "use the mpirun of the MPI above, or srun --mpi=pmix; par run chooses it",
                   "it started %.12s ranks, and they have not found each other: it belongs to "
                   "another MPI than libpar",
                   size);
    else if (size)
        doctor_say(d, DOCTOR_OK, "launcher", "", "started %d ranks, which found each other",
                   d->world->size);
    else if (run_launch_find(&settings, &launch) == PAR_OK)
        doctor_say(d, DOCTOR_OK, "launcher", "", "of this MPI: %.300s", launch.about);
    else
        doctor_say(d, PAR_TOOL_MPI ? DOCTOR_FAIL : DOCTOR_WARN, "launcher",
                   "put it into PATH, or install it", "%.390s", par_error());
    run_launch_free(&launch);
}

static void look_at_hdf5(doctor *d) {
    int (*version)(unsigned *, unsigned *, unsigned *);
    unsigned v[3] = {0};
    const char *missing = par_checkpoint_missing(), *locking = getenv("HDF5_USE_FILE_LOCKING");
    *(void **)(void *)&version = dlsym(RTLD_DEFAULT, "H5get_libversion");
    if (missing) {
        doctor_say(d, DOCTOR_FAIL, "HDF5", "until then train without --save", "%.390s", missing);
        return;
    }
    if (version) version(&v[0], &v[1], &v[2]);
    doctor_say(d, DOCTOR_OK, "HDF5", "", "%u.%u.%u; its file locking: %.80s", v[0], v[1], v[2],
               locking ? locking : "as it was built (HDF5_USE_FILE_LOCKING is not set)");
}

/* Names of what statfs(2) calls by numbers. */
static const char *file_system(const char *directory, bool *keeps) {
    static const struct {
        unsigned long magic;
        const char *name;
        bool keeps; /* after the host is switched off */
    } list[] = {
        {0xef53, "ext4", true},        {0x58465342, "XFS", true},    {0x9123683e, "Btrfs", true},
        {0x01021994, "tmpfs", false},  {0x858458f6, "ramfs", false}, {0x6969, "NFS", true},
        {0x0bd00bd0, "Lustre", true},  {0x47504653, "GPFS", true},   {0x65735546, "FUSE", true},
        {0x794c7630, "overlay", true}, {0x00c36400, "CephFS", true}, {0x19830326, "BeeGFS", true},
        {0x2fc12fc1, "ZFS", true},     {0xff534d42, "CIFS", true}};
    struct statfs fs;
    *keeps = true;
    if (statfs(directory, &fs) != 0) return "an unknown file system";
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].magic != ((unsigned long)fs.f_type & 0xffffffff)) continue;
        *keeps = list[i].keeps;
        return list[i].name;
    }
    return "an unknown file system";
}

/* How many folders of a path are not there yet. */
static int count_missing(const char *path) {
    char at[4096];
    int n = 0;
    snprintf(at, sizeof at, "%s", path);
    while (*at && access(at, F_OK) != 0) {
        char *slash = strrchr(at, '/');
        n += !slash || slash[1]; /* none between the slashes of a//b, and behind the last one */
        *(slash ? slash : at) = 0;
    }
    return n;
}

/* These, from the last one up, are taken away again; one in which something is stays. */
static void remove_folders(const char *path, int n) {
    char at[4096];
    snprintf(at, sizeof at, "%s", path);
    while (n > 0 && *at) {
        char *slash = strrchr(at, '/');
        if (!slash || slash[1]) {
            rmdir(at);
            n--;
        }
        *(slash ? slash : at) = 0;
    }
}

/* The check that a training makes before its first step: all of a save, with a few bytes. */
static void look_at_save(doctor *d) {
    int missing = d->world->rank == 0 ? count_missing(d->save) : 0;
    bool keeps;
    const par_checkpoint_params params = {.directory = d->save, .check_only = true};
    par_checkpoint_result *result = calloc(1, sizeof *result);
    par_status st = par_comm_agree(
        d->comm, result ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a result"));
    if (st == PAR_OK) st = par_checkpoint_save(d->comm, &params, NULL, 0, result);
    const char *name = file_system(d->save, &keeps);
    if (st != PAR_OK)
        doctor_say(d, DOCTOR_FAIL, "--save", "another folder, or what the message says", "%.390s",
                   par_error());
    else if (!keeps)
        doctor_say(d, DOCTOR_WARN, "--save", "a folder on a disk",
                   "%.200s: a save works; it is on %s, which is memory and ends with the host",
                   d->save, name);
    else
        doctor_say(
            d, DOCTOR_OK, "--save", "",
            "%.200s: on %s; files are written, synced, renamed and read back, as a save does",
            d->save, name);
    if (result && d->world->rank == 0 && *result->notes.text)
        doctor_say(d, DOCTOR_WARN, "--save", "", "%.*s", 390, result->notes.text);
    free(result);
    par_comm_barrier(d->comm, tag); /* all have looked at the folder */
    remove_folders(d->save, missing);
}

typedef struct {
    const char *part, *symbol, *name;
    char path[1024];
} loaded_library;

static int note_library(struct dl_phdr_info *info, size_t nbytes, void *user) {
    (void)nbytes;
    loaded_library *l = user;
    if (!strstr(info->dlpi_name, l->part)) return 0;
    snprintf(l->path, sizeof l->path, "%s", info->dlpi_name);
    return 1;
}

/* A version as that library writes it in one number. */
static void version_text(const loaded_library *l, char *text, size_t nbytes) {
    void *file = dlopen(l->path, RTLD_NOW | RTLD_NOLOAD), *symbol = NULL;
    size_t n = 0, used = strlen(text);
    int number = 0;
    if (file) symbol = dlsym(file, l->symbol);
    if (symbol && strcmp(l->symbol, "ncclGetVersion") == 0) {
        int (*get)(int *);
        *(void **)(void *)&get = symbol;
        if (get(&number) == 0) n = (size_t)number;
    } else if (symbol) {
        size_t (*get)(void);
        *(void **)(void *)&get = symbol;
        n = get();
    }
    if (n)
        snprintf(text + used, nbytes - used, "%s%s %zu.%zu.%zu", used ? ", " : "", l->name,
                 n / 10000, n / 100 % 100, n % 100);
    if (file) dlclose(file);
}

/* Through the module of the cuda backend, as train_llm takes it. */
static void look_at_gpu(doctor *d) {
    loaded_library list[] = {{"libcublasLt.so", "cublasLtGetVersion", "cuBLASLt", ""},
                             {"libcudnn.so", "cudnnGetVersion", "cuDNN", ""},
                             {"libnccl.so", "ncclGetVersion", "NCCL", ""}};
    const par_device_params params = {.local_rank = par_transport_local_rank(d->world->transport),
                                      .local_size = par_transport_local_size(d->world->transport),
                                      .device = -1};
    const par_backend *backend = NULL;
    char versions[256] = "";
    bool there = access("/dev/nvidiactl", F_OK) == 0;
    par_status st = par_device_select(&params);
    if (st == PAR_OK) st = par_backend_get("cuda", &backend);
    if (st != PAR_OK && !there) {
        doctor_say(d, DOCTOR_OK, "GPU", "",
                   "no driver of NVIDIA here; train_llm takes the cpu backend");
        return;
    }
    if (st != PAR_OK) {
        doctor_say(d, DOCTOR_FAIL, "GPU", "or train_llm --device cpu", "%.390s", par_error());
        return;
    }
    doctor_say(d, DOCTOR_OK, "GPU", "", "%.390s", par_backend_device(backend));
    for (int i = 0; i < 3; i++)
        if (dl_iterate_phdr(note_library, &list[i]))
            version_text(&list[i], versions, sizeof versions);
    doctor_say(d, DOCTOR_OK, "GPU libraries", "", "%s",
               *versions ? versions : "linked into the module");
}

/* Rank 0's clock less the peer's, from the fastest of a few round trips, whose middle is when the
 * peer read its own (Cristian 1989); *error: half that round trip. */
static par_status compare_clocks(doctor *d, int peer, double *skew, double *error) {
    double theirs = 0, best = 1e30;
    for (int i = 0; i < 8; i++) {
        double begin = par_tool_date();
        PAR_TRY(par_comm_send(d->comm, &theirs, 8, PAR_U8, peer, tag, NULL, NULL));
        PAR_TRY(par_comm_recv(d->comm, &theirs, 8, PAR_U8, peer, tag, NULL, NULL));
        double end = par_tool_date();
        if (end - begin >= best) continue;
        best = end - begin;
        *skew = (begin + end) / 2 - theirs;
        *error = best / 2;
    }
    return PAR_OK;
}

static par_status answer_clocks(doctor *d) {
    for (int i = 0; i < 8; i++) {
        double own;
        PAR_TRY(par_comm_recv(d->comm, &own, 8, PAR_U8, 0, tag, NULL, NULL));
        own = par_tool_date();
        PAR_TRY(par_comm_send(d->comm, &own, 8, PAR_U8, 0, tag, NULL, NULL));
    }
    return PAR_OK;
}

static void look_at_clocks(doctor *d) {
    const double allowed_s = 0.1;
    double worst = 0, error = 0;
    int rank = 0;
    par_status st = PAR_OK;
    if (d->world->size == 1) return;
    if (d->world->rank != 0) st = answer_clocks(d);
    for (int r = 1; st == PAR_OK && d->world->rank == 0 && r < d->world->size; r++) {
        double skew = 0, one_error = 0;
        st = compare_clocks(d, r, &skew, &one_error);
        if (r > 1 && fabs(skew) <= fabs(worst)) continue;
        worst = skew, error = one_error, rank = r;
    }
    if (st != PAR_OK) doctor_say(d, DOCTOR_FAIL, "clocks", "", "%.390s", par_error());
    if (st != PAR_OK || d->world->rank != 0) return;
    bool bad = fabs(worst) - error > allowed_s;
    doctor_say(
        d, bad ? DOCTOR_WARN : DOCTOR_OK, "clocks",
        bad ? "run chrony or ntpd on every host; times of logs and files do not compare" : "",
        "rank %d's differs most from rank 0's, by %.6f s (+- %.6f s)", rank, fabs(worst), error);
}

void doctor_library(doctor *d) {
    look_at_mpi(d);
    look_at_launcher(d);
    look_at_hdf5(d);
    if (d->save) look_at_save(d);
    look_at_gpu(d);
    look_at_clocks(d);
}
