/* The serial harness and what both harnesses share. */
#define _GNU_SOURCE
#include "harness.h"

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness_internal.h"
#include "libpar/base/clock.h"

harness_state harness_now;
static int counts[3]; /* passed, failed, skipped */

double harness_seconds(void) {
    return par__seconds();
}

void harness_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    if (harness_now.failed) return;
    harness_now.failed = true;
    int n = snprintf(harness_now.text, sizeof harness_now.text, "%s:%d: ", file, line);
    va_start(args, format);
    vsnprintf(harness_now.text + n, sizeof harness_now.text - (size_t)n, format, args);
    va_end(args);
}

void harness_skip(const char *format, ...) {
    va_list args;
    if (harness_now.failed) return;
    harness_now.skipped = true;
    va_start(args, format);
    vsnprintf(harness_now.text, sizeof harness_now.text, format, args);
    va_end(args);
}

bool harness_failed(void) {
    return harness_now.failed;
}

bool harness_selected(const char *name, int argc, char **argv) {
    if (argc < 2) return true;
    for (int i = 1; i < argc; i++)
        if (strchr(argv[i], '/') ? !strcmp(name, argv[i]) : strstr(name, argv[i]) != NULL)
            return true;
    return false;
}

void harness_report(const char *suite, const char *name, const harness_state *state,
                    double seconds) {
    int kind = state->failed ? 1 : state->skipped ? 2 : 0;
    counts[kind]++;
    if (kind == 0)
        printf("ok %s/%s (%.2f s)\n", suite, name, seconds);
    else
        printf("%s %s/%s: %s\n", kind == 1 ? "FAIL" : "skip", suite, name, state->text);
    fflush(stdout);
}

enum { FOREIGN = 64 }; /* bytes in front of each block */

static void *foreign_malloc(size_t nbytes) {
    char *block = malloc(nbytes + FOREIGN);
    return block ? block + FOREIGN : NULL;
}

static void foreign_free(void *block) {
    if (block) free((char *)block - FOREIGN);
}

void harness_foreign_json(void) {
    void (*set)(void *(*)(size_t), void (*)(void *));
    void *found = dlsym(RTLD_DEFAULT, "json_set_alloc_funcs");
    memcpy(&set, &found, sizeof set);
    if (found) set(foreign_malloc, foreign_free);
}

double harness_relative(const float *a, const float *b, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        difference += d * d;
        norm += (double)b[i] * b[i];
    }
    if (!isfinite(difference)) return INFINITY;
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

float harness_noise(uint64_t seed, uint64_t i) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + i + 1;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)((double)(x >> 11) / 4503599627370496.0 - 1.0);
}

const char *harness_shared(void) {
    static const char *const places[] = {"../shared", "../../shared"};
    const char *path = getenv("PAR_SHARED");
    if (path) return access(path, R_OK) == 0 ? path : NULL;
    for (int i = 0; i < 2; i++)
        if (access(places[i], R_OK) == 0) return places[i];
    return NULL;
}

static const char *running;

static void deadline(int signal) {
    (void)signal;
    static const char text[] = " passed its deadline\n";
    if (write(1, "FAIL ", 5) < 0 || write(1, running, strlen(running)) < 0 ||
        write(1, text, sizeof text - 1) < 0)
        _exit(3);
    _exit(2);
}

int harness_main(const char *suite, const harness_case *cases, int n, int argc, char **argv) {
    signal(SIGALRM, deadline);
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < n; i++) printf("%s/%s\n", suite, cases[i].name);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s/%s", suite, cases[i].name);
        if (!harness_selected(name, argc, argv)) continue;
        memset(&harness_now, 0, sizeof harness_now);
        running = name;
        double begin = harness_seconds();
        alarm((unsigned)(cases[i].deadline_s ? cases[i].deadline_s : HARNESS_DEADLINE_S));
        cases[i].run();
        alarm(0);
        harness_report(suite, cases[i].name, &harness_now, harness_seconds() - begin);
    }
    printf("# %s: %d passed, %d failed, %d skipped\n", suite, counts[0], counts[1], counts[2]);
    return counts[1] > 0;
}
