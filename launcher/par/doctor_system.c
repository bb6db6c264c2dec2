/* The machine and its limits: cores, memory, huge pages, shared memory, ulimits. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "doctor.h"

static const double mib = 1048576, gib = 1073741824;

static void look_at_cores(doctor *d) {
    cpu_set_t own;
    int ranks = par_transport_local_size(d->world->transport);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int bound = sched_getaffinity(0, sizeof own, &own) == 0 ? CPU_COUNT(&own) : (int)online;
    int usable = d->world->cores;
    const char *omp = getenv("OMP_NUM_THREADS");
    doctor_say(d, DOCTOR_OK, "cores", "", "%ld in this host, %d in this rank's affinity mask",
               online, bound);
    if (usable < bound)
        doctor_say(
            d, DOCTOR_WARN, "cgroup cores",
            "ask for more of the scheduler or the container's --cpus; threads are counted by "
            "the quota",
            "the CPU quota of the cgroup allows %d of these %d cores", usable, bound);
    if (ranks > online)
        doctor_say(d, DOCTOR_WARN, "ranks",
                   "fine for a trial; for speed start a rank per core or GPU at most",
                   "%d ranks share %ld cores of the host", ranks, online);
    else if (ranks > 1 && bound == 1 && online >= 2 * (long)ranks)
        doctor_say(
            d, DOCTOR_WARN, "binding", "mpirun --bind-to none, or --map-by numa --bind-to numa",
            "each rank is bound to one core, and most of the host's %ld are left idle", online);
    if (omp && atoi(omp) > usable)
        doctor_say(d, DOCTOR_WARN, "OMP_NUM_THREADS", "unset it, or lower it",
                   "is %.20s, and this rank may use %d cores", omp, usable);
}

/* The first number of a file; -1: there is none ("max"), or no such file. */
static double number_of(const char *path) {
    double value = -1;
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%lf", &value) != 1) value = -1;
    if (file) fclose(file);
    return value;
}

/* The least memory limit of the process's cgroups, of version 1 or 2, and of those around them; -1:
 * none. A container's own are often mounted at the root, whatever the path says. */
static double cgroup_memory(void) {
    char line[1024], path[1400];
    double least = -1;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        bool two = second == first + 1, one = strstr(first, "memory") == first + 1;
        if (!one && !two) continue;
        for (char *group = second + 1;; *strrchr(group, '/') = 0) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/memory.%s", one ? "/memory" : "", group,
                     one ? "limit_in_bytes" : "max");
            double limit = number_of(path);
            if (limit >= 0 && (least < 0 || limit < least)) least = limit;
            if (*group != '/') break;
        }
    }
    if (file) fclose(file);
    return least;
}

static void look_at_memory(doctor *d) {
    double all = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double limit = cgroup_memory();
    if (limit < 0 || limit > all)
        doctor_say(d, DOCTOR_OK, "memory", "", "%.1f GiB in this host, no limit of a cgroup",
                   all / gib);
    else
        doctor_say(d, limit < gib ? DOCTOR_WARN : DOCTOR_OK, "memory",
                   limit < gib ? "raise the limit; beyond it the kernel kills ranks by signal 9"
                               : "",
                   "%.1f GiB in this host, of which the cgroup allows %.2f GiB to all of its ranks "
                   "(train_llm --dry-run prints what a rank takes)",
                   all / gib, limit / gib);
}

static void look_at_pages(doctor *d) {
    char text[64] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (file && !fgets(text, sizeof text, file)) *text = 0;
    if (file) fclose(file);
    text[strcspn(text, "\n")] = 0;
    if (strstr(text, "[never]") || !*text)
        doctor_say(d, DOCTOR_WARN, "huge pages",
                   "as root: echo madvise >/sys/kernel/mm/transparent_hugepage/enabled",
                   "transparent huge pages are off: large arrays cost more misses of the TLB");
    else
        doctor_say(d, DOCTOR_OK, "huge pages", "", "transparent: %s", text);
}

/* Open MPI, MPICH and NCCL exchange data of a host's ranks there. */
static void look_at_shared_memory(doctor *d) {
    struct statvfs fs;
    int ranks = par_transport_local_size(d->world->transport);
    if (statvfs("/dev/shm", &fs) != 0) {
        doctor_say(d, DOCTOR_FAIL, "/dev/shm", "mount -t tmpfs tmpfs /dev/shm",
                   "cannot be used (%s): ranks of a host exchange data there", strerror(errno));
        return;
    }
    double size = (double)fs.f_blocks * (double)fs.f_frsize;
    double left = (double)fs.f_bavail * (double)fs.f_frsize;
    bool small = size <= 64 * mib || left < ranks * 16 * mib;
    doctor_say(d, small ? DOCTOR_WARN : DOCTOR_OK, "/dev/shm",
               small ? "start the container with --shm-size=1g or --ipc=host, or remove what lies "
                       "there; NCCL and MPI take some 16 MiB per rank"
                     : "",
               "%.0f MiB, %.0f MiB of them free", size / mib, left / mib);
}

/* Open MPI's and MPICH's copies between processes of a host. */
static void look_at_copies(doctor *d) {
    char from = 1, to = 0;
    const struct iovec local = {&to, 1}, remote = {&from, 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1)
        doctor_say(d, DOCTOR_OK, "memory copies", "", "between processes are allowed");
    else
        doctor_say(d, DOCTOR_WARN, "memory copies",
                   "export OMPI_MCA_btl_vader_single_copy_mechanism=none, or allow "
                   "process_vm_readv (docker: --cap-add=SYS_PTRACE)",
                   "between processes are forbidden (%s): Open MPI prints \"Read -1\" for each",
                   strerror(errno));
}

static void limit_text(rlim_t value, double unit, char text[32]) {
    if (value == RLIM_INFINITY)
        snprintf(text, 32, "unlimited");
    else
        snprintf(text, 32, "%.0f", (double)value / unit);
}

static void look_at_limits(doctor *d) {
    struct rlimit core, files, locked;
    char text[32];
    if (getrlimit(RLIMIT_CORE, &core) || getrlimit(RLIMIT_NOFILE, &files) ||
        getrlimit(RLIMIT_MEMLOCK, &locked))
        return;
    limit_text(core.rlim_cur, mib, text);
    doctor_say(d, DOCTOR_OK, "ulimit -c",
               core.rlim_cur ? "" : "ulimit -c unlimited, to look into a crash with gdb",
               "core files: %s%s", text, core.rlim_cur == RLIM_INFINITY ? "" : " MiB");
    /* sockets to every peer, and the files of data and logs */
    rlim_t need = 256 + 4 * (rlim_t)d->world->size;
    limit_text(files.rlim_cur, 1, text);
    bool few = files.rlim_cur != RLIM_INFINITY && files.rlim_cur < need;
    doctor_say(d, few ? DOCTOR_WARN : DOCTOR_OK, "ulimit -n",
               few ? "ulimit -n 65536, or nofile in /etc/security/limits.conf" : "",
               "open files: %s; %d rank%s may need %lld", text, d->world->size,
               d->world->size == 1 ? "" : "s", (long long)need);
    limit_text(locked.rlim_cur, mib, text);
    bool rdma = access("/sys/class/infiniband", F_OK) == 0;
    bool bad = rdma && locked.rlim_cur != RLIM_INFINITY && locked.rlim_cur < 1024 * (rlim_t)mib;
    doctor_say(d, bad ? DOCTOR_WARN : DOCTOR_OK, "ulimit -l",
               bad ? "ulimit -l unlimited, or memlock in /etc/security/limits.conf" : "",
               "locked memory: %s%s%s", text, locked.rlim_cur == RLIM_INFINITY ? "" : " MiB",
               rdma ? ", and this host has RDMA adapters, which lock what they send"
                    : "; no RDMA adapter needs it");
}

void doctor_system(doctor *d) {
    look_at_cores(d);
    look_at_memory(d);
    look_at_pages(d);
    look_at_shared_memory(d);
    look_at_copies(d);
    look_at_limits(d);
}
