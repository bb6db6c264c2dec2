/*
 * The ranks' output as one: rank 0's standard output as it is; of everything else each line once,
 * with the rank that said it first. What every rank says is so said once, not N times, and one rank
 * that floods does not hide the others. The files have all of it. None is kept open: jobs have more
 * ranks than a process may have descriptors.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

enum { LINE = 4096, SHOWN = 200, SEEN = 4096 };

typedef struct {
    int rank;
    const char *kind;
    off_t at; /* bytes that were read */
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
        o->streams[i] = (stream){.rank = i / 2, .kind = i % 2 ? "err" : "out"};
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

static void show_bytes(run_output *o, stream *s, const char *bytes, size_t n) {
    if (s->rank == 0 && strcmp(s->kind, "out") == 0) {
        fwrite(bytes, 1, n, stdout);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n')
            show_line(o, s);
        else if (s->used < LINE - 1)
            s->line[s->used++] = bytes[i];
    }
}

/* What has come since the last look; a file that cannot be opened is tried again at the next. */
static void show_stream(run_output *o, stream *s, bool last) {
    char path[RUN_PATH], piece[16384];
    struct stat info;
    run_rank_file(path, o->directory, s->rank, s->kind);
    if (stat(path, &info) == 0 && info.st_size > s->at) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        for (ssize_t n; file >= 0 && (n = pread(file, piece, sizeof piece, s->at)) > 0; s->at += n)
            show_bytes(o, s, piece, (size_t)n);
        if (file >= 0) close(file);
        if (file < 0 && last) fprintf(stderr, "par run: %s: %s\n", path, strerror(errno));
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
    free(*o);
    *o = NULL;
}
