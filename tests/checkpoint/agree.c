/* A manifest that agrees with a shard; see agree.h. */
#include "agree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The manifest with another line for the shard, and the digest that follows. */
static bool put_line(const char *path, const char *line) {
    static const char shards[] = ",\n\"shards\": [\n";
    char hash[PAR__HASH], *out;
    size_t n = 0, nbytes;
    char *text = fixture_read(path, &n), *head = text ? strstr(text, shards) : NULL;
    if (head) {
        nbytes = (size_t)(head - text) + sizeof shards - 1 + strlen(line) + 64;
        out = malloc(nbytes);
        int k = snprintf(out, nbytes, "%.*s%s%s]", (int)(head - text), text, shards, line);
        par__hash(out, (size_t)k, hash);
        k += snprintf(out + k, nbytes - (size_t)k, ",\n\"hash\": \"%s\"\n}\n", hash);
        fixture_write(path, out, (size_t)k);
        free(out);
    }
    free(text);
    return head;
}

void agree_take(const char *data, size_t n, agree_digests *out) {
    size_t end = AT + A_NBYTES + B_NBYTES;
    char *frame = malloc(n);
    if (!frame) abort();
    par__hash(data + AT, A_NBYTES, out->arrays[0]);
    par__hash(data + AT + A_NBYTES, B_NBYTES, out->arrays[1]);
    memcpy(frame, data, AT);
    memcpy(frame + AT, data + end, n - end);
    par__hash(frame, n - A_NBYTES - B_NBYTES, out->frame);
    free(frame);
}

bool agree_shard(const fixture *f, int64_t step, const char *data, size_t n, int64_t at_a,
                 int64_t at_b) {
    agree_digests d;
    char *line = NULL;
    agree_take(data, n, &d);
    par__span spans[2] = {{at_a, A_NBYTES, PAR__BLOCK, d.arrays[0], NULL, NULL},
                          {at_b, B_NBYTES, PAR__BLOCK, d.arrays[1], NULL, NULL}};
    par__shard shard = {.n = 2, .spans = spans, .nbytes = (int64_t)n};
    memcpy(shard.frame, d.frame, PAR__HASH);
    bool good = par__manifest_shard(&shard, f->runs, 0, &line) == PAR_OK &&
                put_line(fixture_path(f, step, "manifest.json"), line);
    free(line);
    return good;
}
