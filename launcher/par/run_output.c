/*
 * The ranks' output as one: rank 0's standard output as it is; of everything else each line once,
 * with the rank that said it first. What every rank says is so said once, not N times, and one rank
 * that floods does not hide the others. The files have all of it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum { LINE = 4096, SHOWN = 200, SEEN = 4096 };

typedef struct {
    int rank, fd; /* -1: not there yet */
    const char *kind;
    size_t used;
    char line[LINE]; /* its beginning, until it ends */
} stream;

struct run_output {
    const char *directory;
    int n, shown;
    long left_out;
    uint64_t seen[SEEN]; /* hashes of lines that were shown; 0: free */
    stream streams[];
};

run_output *run_output_create(const char *directory, int ranks) {
    run_output *o = calloc(1, sizeof *o + 2 * (size_t)ranks * sizeof(stream));
    if (!o) return NULL;
    o->directory = directory;
    o->n = 2 * ranks;
    for (int i = 0; i < o->n; i++)
        o->streams[i] = (stream){.rank = i / 2, .fd = -1, .kind = i % 2 ? "err" : "out"};
    return o;
}

static void show_line(run_output *o, stream *s) {
    s->line[s->used] = 0;
    s->used = 0;
    if (!*s->line) return;
    /* a full table forgets: then a line may be shown again */
    uint64_t hash = par_hash_name(s->line), *seen = &o->seen[hash % SEEN];
    if (o->shown >= SHOWN || *seen == hash) {
        o->left_out++;
        return;
    }
    *seen = hash;
    fprintf(stderr, "rank %d: %s\n", s->rank, s->line);
    if (++o->shown == SHOWN)
        fprintf(stderr, "par run: %d lines of other ranks were shown; the rest is in %s\n", SHOWN,
                o->directory);
}

static void show_stream(run_output *o, stream *s, bool last) {
    char path[RUN_PATH], piece[16384];
    ssize_t n;
    if (s->fd < 0) {
        run_rank_file(path, o->directory, s->rank, s->kind);
        s->fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    while (s->fd >= 0 && (n = read(s->fd, piece, sizeof piece)) > 0) {
        if (s->rank == 0 && strcmp(s->kind, "out") == 0) {
            fwrite(piece, 1, (size_t)n, stdout);
            continue;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (piece[i] == '\n')
                show_line(o, s);
            else if (s->used < LINE - 1)
                s->line[s->used++] = piece[i];
        }
    }
    if (last && s->used) show_line(o, s);
}

void run_output_show(run_output *o, bool last) {
    for (int i = 0; i < o->n; i++) show_stream(o, &o->streams[i], last);
    fflush(stdout);
    if (last && o->left_out)
        fprintf(stderr,
                "par run: %ld line%s of ranks repeated others or came late; all are in %s\n",
                o->left_out, o->left_out == 1 ? "" : "s", o->directory);
}

void run_output_destroy(run_output **o) {
    if (!*o) return;
    for (int i = 0; i < (*o)->n; i++)
        if ((*o)->streams[i].fd >= 0) close((*o)->streams[i].fd);
    free(*o);
    *o = NULL;
}
