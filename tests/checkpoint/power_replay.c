/*
 * power_replay LOG DIR: the power fails while a program saves checkpoints. LOG has the calls of all
 * its processes (record.h) from when DIR was empty; DIR is as they left it. After each call states
 * that a power loss may leave are made, as in power.c, and in each one the newest checkpoint must
 * verify, every byte of it. It is no older than the last one whose name was synced, and no newer
 * than the last one that was given its name ("found old": not that one). PAR_POWER_STATES: tries at
 * random, 1000 by default.
 * Exit code 1: a state is bad, or the log does not make what is in DIR.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk.h"
#include "par/par.h"

typedef struct {
    char directory[512]; /* where states are made */
    disk_states *seen;
    int64_t named, safe; /* steps, -1: none */
    long n_states, n_none, n_old, n_new, n_bad;
    char why[1024];
} replay;

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

/* NULL, or what is wrong. */
static const char *judge(replay *r) {
    static par_problems notes;
    par_checkpoint *c = NULL;
    notes = (par_problems){0};
    if (par_checkpoint_open(r->directory, &notes, &c) != PAR_OK) {
        r->n_none++;
        return r->safe < 0 ? NULL : par_error();
    }
    const par_checkpoint_result *found = par_checkpoint_info(c);
    const char *why = notes.n > 0              ? notes.text
                      : found->step < r->safe  ? "one that was safe is not found"
                      : found->step > r->named ? "one is found that had not got its name"
                                               : NULL;
    r->n_old += found->step < r->named;
    r->n_new += found->step == r->named;
    for (int i = 0; !why && i <= found->n_ranks; i++)
        if (par_checkpoint_verify(c, i) != PAR_OK) why = par_error();
    par_checkpoint_close(&c);
    return why;
}

static void try_state(void *user, const disk_image *image) {
    replay *r = user;
    if (disk_seen(r->seen, image->hash + (uint64_t)(1000 * r->named + r->safe))) return;
    strcpy(strrchr(r->directory, '/'), "/XXXXXX");
    if (!mkdtemp(r->directory)) abort();
    disk_write(image, r->directory);
    const char *why = judge(r);
    if (why && r->n_bad++ == 0) snprintf(r->why, sizeof r->why, "%.800s", why);
    nftw(r->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    r->n_states++;
}

/* What the call means for the checkpoints. */
static void follow(replay *r, const record *call) {
    int64_t step;
    char end;
    bool sync = call->kind == RECORD_SYNC || call->kind == RECORD_DROPPED;
    if (call->kind == RECORD_RENAME && strstr(call->path, ".tmp-") &&
        sscanf(call->to, "step_%8" SCNd64 "%c", &step, &end) == 1)
        r->named = step;
    if (sync && !*call->path) r->safe = r->named;
}

static bool changes(const record *r) {
    return r->kind != RECORD_CLOSE &&
           (r->kind != RECORD_OPEN || r->flags & O_CREAT || r->flags & O_TRUNC);
}

/* False: a call that is not modelled. */
static bool run(replay *r, disk *d, const record *calls, int n, uint64_t seed, long draws) {
    int points = 1;
    for (int i = 0; i < n; i++) points += changes(&calls[i]);
    for (int i = 0; i < n; i++) {
        if (!disk_apply(d, &calls[i])) {
            printf("%s %s: is not modelled\n", calls[i].call, calls[i].path);
            return false;
        }
        follow(r, &calls[i]);
        if (!changes(&calls[i])) continue;
        disk_try_states(d, seed + 1000003 * (uint64_t)i, 1 + draws / points, try_state, r);
        if (r->n_bad && !strstr(r->why, "; after call"))
            sprintf(r->why + strlen(r->why), "; after call %d, %s", i + 1, calls[i].call);
    }
    return true;
}

int main(int argc, char **argv) {
    const char *states = getenv("PAR_POWER_STATES"), *seed_text = getenv("PAR_SEED");
    const char *root = getenv("TMPDIR");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    replay r = {.named = -1, .safe = -1, .seen = calloc(1, sizeof *r.seen)};
    char empty[512];
    int n;
    if (argc != 3 || !r.seen) return 2;
    snprintf(empty, sizeof empty, "%.200s/par-power-XXXXXX", root && *root ? root : "/tmp");
    if (!mkdtemp(empty)) return 2;
    disk *d = disk_take(empty);
    snprintf(r.directory, sizeof r.directory, "%.300s/", empty);
    record *calls = record_read(argv[1], &n);
    bool good = run(&r, d, calls, n, seed, states ? atol(states) : 1000);
    bool all = good && disk_has(d, argv[2]);
    printf("%d calls, %ld states: %ld found none, %ld found old, %ld found new, %ld bad; "
           "PAR_SEED=%" PRIu64 "\n%s%s",
           n, r.n_states, r.n_none, r.n_old, r.n_new, r.n_bad, seed, r.why, *r.why ? "\n" : "");
    if (good && !all) printf("calls were missed: they make other files than there are\n");
    nftw(empty, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    disk_free(d);
    record_free(calls, n);
    free(r.seen);
    return r.n_bad || !all;
}
