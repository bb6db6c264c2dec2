/* par checkpoint verify: every byte against its digest, a file per thread at a time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_tool.h"
#include "par_tool.h"

/* Files of all checkpoints in one row; each thread takes the next one. */
typedef struct {
    par_checkpoint *const *checkpoints;
    int n, checkpoint, file; /* the next one */
    char **damage;
    par_status status; /* the first that is neither PAR_OK nor damage */
    char error[PAR_ERROR_NBYTES];
    pthread_mutex_t lock;
} work;

static bool take(work *w, int *checkpoint, int *file) {
    pthread_mutex_lock(&w->lock);
    while (w->checkpoint < w->n &&
           (!w->checkpoints[w->checkpoint] ||
            w->file > par_checkpoint_info(w->checkpoints[w->checkpoint])->n_ranks)) {
        w->checkpoint++;
        w->file = 0;
    }
    bool any = w->checkpoint < w->n && w->status == PAR_OK;
    *checkpoint = w->checkpoint;
    *file = w->file;
    if (any) w->file++;
    pthread_mutex_unlock(&w->lock);
    return any;
}

/* A file that is damaged, or that cannot be read, is named; of a checkpoint the first one that is
 * found. */
static void *verify_files(void *user) {
    work *w = user;
    int checkpoint, file;
    while (take(w, &checkpoint, &file)) {
        par_status st = par_checkpoint_verify(w->checkpoints[checkpoint], file);
        bool damaged = st == PAR_ERR_FORMAT || st == PAR_ERR_IO;
        if (st == PAR_OK) continue;
        pthread_mutex_lock(&w->lock);
        if (damaged && !w->damage[checkpoint]) w->damage[checkpoint] = strdup(par_error());
        if (w->status == PAR_OK && !(damaged && w->damage[checkpoint])) {
            w->status = damaged ? PAR_ERR_MEMORY : st;
            snprintf(w->error, sizeof w->error, "%s", par_error());
        }
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

par_status checkpoint_verify_all(par_checkpoint *const *checkpoints, int n, int threads,
                                 char **damage) {
    static work w;
    pthread_t thread[PAR_MAX_THREADS];
    int started = 0, most = threads > 0 ? threads : par_threads();
    w = (work){.checkpoints = checkpoints, .n = n, .damage = damage};
    pthread_mutex_init(&w.lock, NULL);
    while (started < most - 1 && started < PAR_MAX_THREADS &&
           pthread_create(&thread[started], NULL, verify_files, &w) == 0)
        started++;
    verify_files(&w);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&w.lock);
    return w.status == PAR_OK ? PAR_OK : par_error_set(w.status, "%s", w.error);
}

/* One checkpoint; returns the exit code. One that its run removed meanwhile is neither sound nor
 * damaged. */
static int verify_one(const checkpoint_settings *s, const char *path) {
    par_checkpoint *c = NULL;
    char *damage = NULL, size[32];
    double begin = par_tool_seconds();
    par_status st = checkpoint_open_found(path, &c, &damage);
    if (c) st = checkpoint_verify_all(&c, 1, (int)s->threads, &damage);
    double time = par_tool_seconds() - begin;
    double nbytes = c ? (double)par_checkpoint_info(c)->nbytes : 0;
    int code = st == PAR_OK && !damage ? EXIT_SUCCESS : CHECKPOINT_FOUND;
    if (code != EXIT_SUCCESS && checkpoint_is_gone(path)) {
        printf("%s: was removed meanwhile\n", path);
        code = EXIT_SUCCESS;
    } else if (damage)
        printf("%s: damaged: %s\n", path, damage);
    else if (st != PAR_OK)
        code = checkpoint_failed("verify");
    else
        printf("%s: verified: %s of %d rank%s in %.2f s, %.2f GB/s\n", path,
               checkpoint_size(nbytes, size), par_checkpoint_info(c)->n_ranks,
               par_checkpoint_info(c)->n_ranks == 1 ? "" : "s", time,
               nbytes / 1e9 / (time > 0 ? time : 1));
    fflush(stdout);
    free(damage);
    par_checkpoint_close(&c);
    return code;
}

int checkpoint_verify(const checkpoint_settings *s) {
    checkpoint_paths list = {0};
    bool found = checkpoint_paths_find(s->words[0], &list) == PAR_OK;
    int code = found ? EXIT_SUCCESS : checkpoint_failed("verify");
    for (int i = 0; i < list.n; i++) {
        int one = verify_one(s, list.paths[i]);
        if (one == CHECKPOINT_FOUND || code == EXIT_SUCCESS) code = one;
    }
    checkpoint_paths_free(&list);
    return code;
}
