/*
 * The launcher of a job: srun inside a Slurm allocation that can start this MPI's ranks, else the
 * mpirun of the MPI that libpar is linked with. Another MPI's would start N worlds of one rank.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

static int note_mpi(struct dl_phdr_info *info, size_t nbytes, void *mpi) {
    (void)nbytes;
    const char *name = strrchr(info->dlpi_name, '/');
    name = name ? name + 1 : info->dlpi_name;
    if (strncmp(name, "libmpich.so", 11) == 0 || strncmp(name, "libmpi.so.12", 12) == 0)
        *(int *)mpi = RUN_MPICH;
    else if (strncmp(name, "libmpi.so", 9) == 0)
        *(int *)mpi = RUN_OPENMPI;
    return 0;
}

/* Whether a program of this name is in PATH. */
static bool is_there(const char *name) {
    const char *path = getenv("PATH");
    char file[RUN_PATH];
    while (path && *path) {
        int n = (int)strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", n, path, name);
        if (access(file, X_OK) == 0) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

/* What a program prints, its beginning. */
static void output_of(char *const *words, char *text, size_t nbytes) {
    int ends[2];
    size_t used = 0;
    ssize_t n = 1;
    *text = 0;
    if (pipe(ends) != 0) return;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        execvp(words[0], words);
        _exit(127);
    }
    close(ends[1]);
    while (child > 0 && used + 1 < nbytes && n > 0) {
        n = read(ends[0], text + used, nbytes - 1 - used);
        if (n > 0) used += (size_t)n;
    }
    text[used] = 0;
    close(ends[0]);
    if (child > 0) waitpid(child, NULL, 0);
}

/* With Slurm's plugin for this MPI's ranks; false: srun is not there, or has none. MPICH speaks PMI
 * unless it was built for PMIx, and by the other one its ranks would not find each other. */
static bool slurm_words(const run_settings *s, int mpi, run_launch *l) {
    char list[4096] = "", *const ask[] = {"srun", "--mpi=list", NULL};
    if (is_there("srun")) output_of(ask, list, sizeof list);
    const char *plugin = strstr(list, "pmix") ? "pmix" : NULL;
    if (mpi == RUN_MPICH && strstr(list, "pmi2")) plugin = "pmi2";
    if (!plugin) return false;
    run_word(&l->words, "srun");
    run_word(&l->words, "--ntasks=%lld", (long long)s->ranks);
    run_word(&l->words, "--mpi=%s", plugin);
    run_word(&l->words, "--kill-on-bad-exit=1");
    run_word(&l->words, "--overcommit");
    run_word(&l->words, "--distribution=block:block");
    if (s->hosts) run_word(&l->words, "--nodelist=%s", s->hosts);
    if (s->hostfile) run_word(&l->words, "--nodefile=%s", s->hostfile);
    l->stop = SIGUSR2, l->kill = SIGTERM, l->save = SIGUSR1;
    snprintf(
        l->about, sizeof l->about,
        "srun --mpi=%s in Slurm job %s, %lld ranks, hosts and memory nodes filled in their order",
        plugin, getenv("SLURM_JOB_ID") ? getenv("SLURM_JOB_ID") : "to be made",
        (long long)s->ranks);
    return true;
}

static void describe(const run_settings *s, const char *name, bool slurm, run_launch *l) {
    const run_map *m = &l->map;
    char where[256];
    if (s->hosts || s->hostfile)
        snprintf(where, sizeof where, "%.200s", s->hosts ? s->hosts : s->hostfile);
    else if (slurm)
        snprintf(where, sizeof where, "the hosts of Slurm job %.40s%s", getenv("SLURM_JOB_ID"),
                 s->launcher == RUN_AUTO ? " (srun has no pmix for them)" : "");
    else
        snprintf(where, sizeof where, "%d core%s of this host", m->cores, m->cores == 1 ? "" : "s");
    snprintf(l->about, sizeof l->about, "%s, %lld rank%s on %s, %s%s", name, (long long)s->ranks,
             s->ranks == 1 ? "" : "s", where,
             m->bound ? "each bound to a memory node" : "not bound: ", m->bound ? "" : m->why);
}

/* Open MPI's mpirun hears of a host that is gone after 25 s, before the watchdog's 30, and names
 * it. By itself it asks after 300 s, and once a rank has ended it waits for TCP to give up. Who has
 * set it in the environment knows better. */
static void keepalive_words(const run_settings *s, bool slurm, run_words *words) {
    static const char *const settings[][2] = {{"oob_tcp_keepalive_time", "10"},
                                              {"oob_tcp_keepalive_intvl", "5"},
                                              {"oob_tcp_keepalive_probes", "3"}};
    if ((!s->hosts && !s->hostfile && !slurm) || getenv("OMPI_MCA_oob_tcp_keepalive_time")) return;
    for (int i = 0; i < 3; i++) {
        run_word(words, "--mca");
        run_word(words, "%s", settings[i][0]);
        run_word(words, "%s", settings[i][1]);
    }
}

static void mpirun_words(const run_settings *s, const char *name, int mpi, bool slurm,
                         run_launch *l) {
    run_map_find(s, slurm, &l->map);
    run_word(&l->words, "%s", name);
    run_word(&l->words, "-n");
    run_word(&l->words, "%lld", (long long)s->ranks);
    if (s->hosts) run_word(&l->words, mpi == RUN_OPENMPI ? "--host" : "-hosts");
    if (s->hosts) run_word(&l->words, "%s", s->hosts);
    if (s->hostfile) run_word(&l->words, mpi == RUN_OPENMPI ? "--hostfile" : "-f");
    if (s->hostfile) run_word(&l->words, "%s", s->hostfile);
    run_map_words(&l->map, mpi, &l->words, &l->binder);
    /* more ranks than mpirun would start without being told that this is meant; threads are not
     * cores */
    const char *tasks = slurm ? getenv("SLURM_NTASKS") : NULL;
    bool crowded = tasks ? s->ranks > atoi(tasks) : s->ranks > l->map.cores || !l->map.machine;
    if (mpi == RUN_OPENMPI) {
        if (crowded && !s->hosts && !s->hostfile) run_word(&l->words, "--oversubscribe");
        if (geteuid() == 0) run_word(&l->words, "--allow-run-as-root");
        keepalive_words(s, slurm, &l->words);
        l->stop = SIGUSR2, l->kill = SIGTERM, l->save = SIGUSR1;
    } else {
        l->stop = SIGTERM, l->kill = SIGKILL;
    }
    describe(s, name, slurm, l);
}

static const char *find_mpirun(int mpi) {
    static const char *const openmpi[] = {"mpirun.openmpi", "mpirun", "orterun", NULL};
    static const char *const mpich[] = {"mpirun.mpich", "mpiexec.hydra", "mpirun", NULL};
    const char *const *names = mpi == RUN_OPENMPI ? openmpi : mpich;
    for (int i = 0; names[i]; i++) {
        char version[512], *words[] = {(char *)names[i], "--version", NULL};
        if (!is_there(names[i])) continue;
        output_of(words, version, sizeof version);
        bool is_openmpi = strstr(version, "Open MPI") || strstr(version, "OpenRTE");
        if (is_openmpi == (mpi == RUN_OPENMPI)) return names[i];
    }
    return NULL;
}

par_status run_launch_find(const run_settings *s, run_launch *out) {
    int mpi = RUN_AUTO; /* Intel MPI, MVAPICH and Cray MPICH are RUN_MPICH, too */
    dl_iterate_phdr(note_mpi, &mpi);
    bool in_job = getenv("SLURM_JOB_ID") && is_there("srun");
    bool slurm = s->launcher == RUN_SLURM || (s->launcher == RUN_AUTO && in_job);
    *out = (run_launch){0};
    if (slurm && slurm_words(s, mpi, out)) return PAR_OK;
    if (s->launcher == RUN_SLURM)
        return par_error_set(PAR_ERR_OPTION,
                             "--launcher srun: srun is not there, or has no pmix%s; legal: auto, "
                             "which takes mpirun (inside salloc it starts on the job's hosts)",
                             mpi == RUN_MPICH ? " or pmi2" : "");
    if (mpi == RUN_AUTO)
        return par_error_set(PAR_ERR_UNSUPPORTED, "this build has no MPI: it runs one rank, "
                                                  "./train_llm without par run; build with MPI");
    if (s->launcher != RUN_AUTO && s->launcher != mpi)
        return par_error_set(
            PAR_ERR_OPTION, "--launcher: libpar is linked with %s; legal: auto, %s",
            mpi == RUN_OPENMPI ? "Open MPI" : "MPICH", mpi == RUN_OPENMPI ? "openmpi" : "mpich");
    const char *name = find_mpirun(mpi);
    if (!name)
        return par_error_set(PAR_ERR_OPTION,
                             "there is no mpirun of %s in PATH; on Debian: apt-get "
                             "install %s",
                             mpi == RUN_OPENMPI ? "Open MPI" : "MPICH",
                             mpi == RUN_OPENMPI ? "openmpi-bin" : "mpich");
    mpirun_words(s, name, mpi, in_job, out);
    return PAR_OK;
}

void run_launch_free(run_launch *l) {
    run_words_free(&l->words);
    run_words_free(&l->binder);
    run_map_free(&l->map);
}
