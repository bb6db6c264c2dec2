/*
 * The results as one JSON object: what ran where, and an object for each case, in order, in base
 * units (seconds, bytes). Text is of presets, labels, devices and kernels; quotes, backslashes and
 * control characters in it are escaped.
 */
#include "kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *file;
static const char *path;
static bool first_case = true;

static void text(const char *value) {
    fputc('"', file);
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < ' ')
            fprintf(file, "\\u%04x", (unsigned)*c);
        else
            fprintf(file, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    fputc('"', file);
}

static void fail(void) {
    fprintf(stderr, "kernels: --json %s: %s\n", path, strerror(errno));
    exit(1);
}

void bench_json_begin(const char *to, const bench_setup *place) {
    path = to;
    file = fopen(path, "w");
    if (!file) fail();
    fputs("{\"backend\": ", file);
    text(place->backend->name);
    fputs(", \"device\": ", file);
    text(par_backend_device(place->backend));
    fputs(", \"model\": ", file);
    text(place->config->name);
    fputs(", \"dtype\": ", file);
    text(par_dtype_name(place->dtype));
    fprintf(file, ", \"samples\": %lld, \"tokens\": %lld,\n\"cases\": [", (long long)place->B,
            (long long)place->T);
}

void bench_json_case(const char *operation, const char *kernel, const bench_figure *figures) {
    if (!file) return;
    fprintf(file, "%s\n{\"operation\": ", first_case ? "" : ",");
    first_case = false;
    text(operation);
    fputs(", \"kernel\": ", file);
    text(kernel);
    for (const bench_figure *f = figures; f->name; f++) {
        fputs(", ", file);
        text(f->name);
        fprintf(file, ": %.9g", f->value);
    }
    fputc('}', file);
}

void bench_json_end(double copy_bandwidth) {
    if (!file) return;
    fputs("\n]", file);
    if (copy_bandwidth > 0) fprintf(file, ", \"copy_bytes_per_s\": %.9g", copy_bandwidth);
    fputs("}\n", file);
    if (ferror(file)) errno = EIO;
    bool bad = ferror(file);
    if (fclose(file) != 0 || bad) fail();
}
