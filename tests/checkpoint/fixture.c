/* A world of one rank and a directory of checkpoints; see fixture.h. */
#define _GNU_SOURCE
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const par_checkpoint_pair pairs[] = {{"model", "two arrays", PAR_CHECKPOINT_EQUAL},
                                            {"options", "none", PAR_CHECKPOINT_NOTED}};
static const par_checkpoint_about about = {.pairs = pairs, .n = 2};

static void connect_world(fixture *f) {
    static const int ranks[] = {0};
    const par_comm_params params = {.axis = "world", .ranks = ranks, .n = 1};
    if (par_transport_create_self(NULL, &f->transport) == PAR_OK &&
        par_comm_create(f->transport, &params, NULL, &f->world) == PAR_OK)
        return;
    fprintf(stderr, "no world: %s\n", par_error());
    exit(1);
}

/* In memory, where it is there: what is shown is the order of calls, and killed processes lose
 * nothing that was written. On a disk the many fsyncs take most of the time. */
static const char *root_folder(void) {
    return access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

void fixture_open(fixture *f) {
    const char *root = getenv("TMPDIR");
    *f = (fixture){0};
    snprintf(f->directory, sizeof f->directory, "%.200s/par-checkpoint-XXXXXX",
             root && *root ? root : root_folder());
    if (!mkdtemp(f->directory)) {
        perror(f->directory);
        exit(1);
    }
    connect_world(f);
    f->runs[0] = (par_checkpoint_run){.kind = "weight",
                                      .name = "a",
                                      .dtype = PAR_F32,
                                      .n = FIXTURE_A,
                                      .data = f->a,
                                      .ndim = 1,
                                      .global = {FIXTURE_A, 1},
                                      .extent = {FIXTURE_A, 1},
                                      .local = {FIXTURE_A, 1}};
    f->runs[1] = (par_checkpoint_run){
        .kind = "state", .name = "b", .dtype = PAR_I64, .n = FIXTURE_B, .data = f->b};
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static void disconnect(fixture *f) {
    par_comm_destroy(&f->world);
    par_transport_destroy(&f->transport);
}

void fixture_reconnect(fixture *f) {
    disconnect(f);
    connect_world(f);
}

void fixture_close(fixture *f) {
    disconnect(f);
    nftw(f->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static float a_of(int64_t step, int version, int i) {
    return (float)(step * 1000 + 100 * version + i) + 0.25f;
}

static int64_t b_of(int64_t step, int version, int i) {
    return step * 1000000007 + 100 * version - i;
}

void fixture_fill(fixture *f, int64_t step) {
    for (int i = 0; i < FIXTURE_A; i++) f->a[i] = a_of(step, f->version, i);
    for (int i = 0; i < FIXTURE_B; i++) f->b[i] = b_of(step, f->version, i);
}

void fixture_poison(fixture *f) {
    memset(f->a, 0xff, sizeof f->a);
    memset(f->b, 0xff, sizeof f->b);
}

bool fixture_poisoned(const fixture *f) {
    fixture p;
    fixture_poison(&p);
    return memcmp(p.a, f->a, sizeof p.a) == 0 && memcmp(p.b, f->b, sizeof p.b) == 0;
}

bool fixture_holds(const fixture *f, int64_t step, int version) {
    for (int i = 0; i < FIXTURE_A; i++)
        if (f->a[i] != a_of(step, version, i)) return false;
    for (int i = 0; i < FIXTURE_B; i++)
        if (f->b[i] != b_of(step, version, i)) return false;
    return true;
}

static par_status save_behind(fixture *f, const par_checkpoint_params *params) {
    par_checkpoint_saving *saving = NULL;
    par_checkpoint_run runs[FIXTURE_RUNS];
    bool ended = false;
    memcpy(runs, f->runs, sizeof runs);
    memcpy(f->copy_a, f->a, sizeof f->a);
    memcpy(f->copy_b, f->b, sizeof f->b);
    runs[0].data = f->copy_a;
    runs[1].data = f->copy_b;
    PAR_TRY(par_checkpoint_save_begin(f->world, params, runs, FIXTURE_RUNS, &saving));
    memset(runs, 0, sizeof runs);
    fixture_poison(f);
    par_status st = PAR_OK;
    while (st == PAR_OK && !ended) {
        st = par_checkpoint_save_poll(saving, &ended);
        if (!ended) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    par_status saved = par_checkpoint_save_end(&saving, &f->result);
    return st == PAR_OK ? saved : st;
}

par_status fixture_save(fixture *f, int64_t step, int keep) {
    const par_checkpoint_params params = {.directory = f->directory,
                                          .keep = keep,
                                          .step = step,
                                          .consumed = 8 * step,
                                          .updates = step,
                                          .loss = 2.5,
                                          .about = about};
    fixture_fill(f, step);
    if (f->behind) return save_behind(f, &params);
    return par_checkpoint_save(f->world, &params, f->runs, FIXTURE_RUNS, &f->result);
}

par_status fixture_load(fixture *f) {
    fixture_poison(f);
    return par_checkpoint_load(f->world, f->directory, &about, f->runs, FIXTURE_RUNS, &f->result);
}

par_status fixture_load_any(fixture *f) {
    const par_checkpoint_about none = {0};
    fixture_poison(f);
    return par_checkpoint_load(f->world, f->directory, &none, f->runs, FIXTURE_RUNS, &f->result);
}

par_status fixture_claim(const fixture *f, const char *from, double beat_s, par_owner **out) {
    const par_owner_params params = {.directory = f->directory, .from = from, .beat_s = beat_s};
    return par_owner_claim(f->world, &params, out);
}

pid_t fixture_start_owner(const fixture *f) {
    int pipes[2];
    char byte = 0;
    if (pipe(pipes) != 0) return -1;
    pid_t child = fork();
    if (child == 0) {
        par_owner *owner = NULL;
        byte = fixture_claim(f, NULL, 0, &owner) == PAR_OK;
        while (write(pipes[1], &byte, 1) == 1 && byte) pause();
        _exit(1);
    }
    close(pipes[1]);
    bool claimed = child > 0 && read(pipes[0], &byte, 1) == 1 && byte == 1;
    close(pipes[0]);
    return claimed ? child : -1;
}

void fixture_end(pid_t child) {
    if (child <= 0) return;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

par_status fixture_keep(fixture *f, const par_owner *owner, int64_t step, int keep,
                        int64_t keep_every, int keep_best, double validation) {
    const par_checkpoint_params params = {.directory = f->directory,
                                          .owner = owner,
                                          .keep = keep,
                                          .keep_every = keep_every,
                                          .keep_best = keep_best,
                                          .validation = validation,
                                          .step = step,
                                          .loss = 2.5};
    fixture_fill(f, step);
    return par_checkpoint_save(f->world, &params, f->runs, FIXTURE_RUNS, &f->result);
}

par_status fixture_resume(fixture *f, const char *path, par_owner *owner) {
    par_problems notes = {0};
    const par_checkpoint_about none = {0};
    PAR_TRY(par_checkpoint_load(f->world, path, &none, f->runs, FIXTURE_RUNS, &f->result));
    if (!*f->result.path) return PAR_OK;
    bool own;
    PAR_TRY(par_owner_resumed(f->world, owner, f->result.path, f->result.run, true, &own, &notes));
    f->result.notes = notes;
    return PAR_OK;
}

const char *fixture_in(const fixture *f, const char *name) {
    static char paths[4][768];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", f->directory, name);
    return path;
}

const char *fixture_path(const fixture *f, int64_t step, const char *name) {
    char inside[256];
    snprintf(inside, sizeof inside, "step_%08lld/%s", (long long)step, name);
    return fixture_in(f, inside);
}

const char *fixture_steps(const fixture *f) {
    static char text[256];
    size_t used = 0;
    *text = 0;
    for (int64_t i = 0; i < 100 && used < sizeof text; i++)
        if (fixture_has(f, i))
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%d", used ? " " : "", (int)i);
    return text;
}

int fixture_count(const fixture *f, const char *part) {
    int n = 0;
    DIR *d = opendir(f->directory);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.' && strstr(e->d_name, part);
    if (d) closedir(d);
    return n;
}

bool fixture_has(const fixture *f, int64_t step) {
    char path[768];
    snprintf(path, sizeof path, "%s/step_%08lld/manifest.json", f->directory, (long long)step);
    return access(path, F_OK) == 0;
}

char *fixture_read(const char *path, size_t *nbytes) {
    struct stat info;
    char *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    if (fstat(fd, &info) == 0 && (data = malloc((size_t)info.st_size + 1))) {
        ssize_t n = read(fd, data, (size_t)info.st_size);
        *nbytes = n > 0 ? (size_t)n : 0;
        data[*nbytes] = 0;
    }
    close(fd);
    return data;
}

void fixture_write(const char *path, const void *data, size_t nbytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, data, nbytes) != (ssize_t)nbytes || close(fd) != 0) perror(path);
}
