/*
 * tokenizer.json and tokenizer.model of each kind, mutated (see ../mutate.h), and opened with each
 * allocation failing in turn: a sound message or a tokenizer that works, and no leak. Allocations
 * fail through functions of this program's own, which a sanitizer's do not let in: there it is a
 * skip.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "../mutate.h"
#include "libpar/data/tokenizer.h"

enum { CAPACITY = MUTATE_CAPACITY };

static const char *const names[] = {
    "llama3.json",  "added-normalized.json",      "merged_with_next.json", "llama2.json",
    "unigram.json", "metaspace-first-fused.json", "spm-gemma.model",       "spm-rules.model"};
enum { N_NAMES = sizeof names / sizeof *names };

static size_t load(const char *name, uint8_t *out) {
    char path[256];
    snprintf(path, sizeof path, "tests/fixtures/tokenizers/%s", name);
    if (access(path, R_OK) != 0)
        snprintf(path, sizeof path, "../tests/fixtures/tokenizers/%s", name);
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(out, 1, CAPACITY, file) : 0;
    if (file) fclose(file);
    CHECK(n > 1000 && n < CAPACITY, "%s: %zu bytes", name, n);
    return n;
}

static void use(par_tokenizer *t) {
    static const char text[] = " ab the\xff\xc3\xa9  12 <s>word e\xcc\x81\xef\xbc\xa1\n";
    int32_t ids[512];
    char back[4096];
    size_t n = 0, m = 0;
    if (par_tokenizer_encode(t, text, sizeof text - 1, ids, 512, &n) == PAR_OK)
        (void)par_tokenizer_decode(t, ids, n, back, sizeof back, &m);
}

static par_status parse(const uint8_t *b, size_t n) {
    par_tokenizer *t = NULL;
    char *exact = malloc(n ? n : 1); /* a sanitizer sees a read behind its end */
    if (!exact) return PAR_ERR_MEMORY;
    memcpy(exact, b, n);
    par_status st = par__tokenizer_parse_file("file", exact, n, &t);
    if (st == PAR_OK) use(t);
    par_tokenizer_close(&t);
    free(exact);
    return st;
}

static int target(const uint8_t *data, size_t n) {
    return parse(data, n) == PAR_OK ? 0 : -1;
}

static void mutations(void) {
    static uint8_t whole[CAPACITY];
    for (int i = 0; i < N_NAMES; i++)
        mutate_run(names[i], target, whole, load(names[i], whole), 120);
}

/* ---- memory ---- */

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define OWN_ALLOCATOR 0
#elif defined(__has_feature) /* as clang tells it */
#if __has_feature(address_sanitizer)
#define OWN_ALLOCATOR 0
#endif
#endif
#ifndef OWN_ALLOCATOR
#define OWN_ALLOCATOR 1
#endif

#if !OWN_ALLOCATOR
static void memory(void) {
    harness_skip("a sanitizer has the allocator");
}
#else
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern const char __executable_start[], etext[];
static _Thread_local int64_t fail_at = -1; /* allocations until one fails; -1: none */

/* Calls of this program, which has libpar in it; jansson does not bear all failures of its own. */
static bool fails(const void *caller) {
    const char *at = caller;
    return fail_at >= 0 && at >= __executable_start && at < etext && fail_at-- == 0;
}
void *malloc(size_t n) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}
void *calloc(size_t n, size_t width) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, width);
}
void *realloc(void *p, size_t n) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

/* The first 60 allocations one by one, then one in ever more, up to the last. */
static void memory(void) {
    static uint8_t whole[CAPACITY];
    for (int i = 0; i < N_NAMES; i++) {
        size_t n = load(names[i], whole);
        bool done = false;
        int64_t failed = 0;
        for (int64_t at = 0; !done; at += at < 60 ? 1 : 1 + at / 40) {
            fail_at = at;
            par_status st = parse(whole, n);
            done = fail_at >= 0; /* it was not reached */
            fail_at = -1;
            failed += st != PAR_OK;
            CHECK(st != PAR_ERR_INTERNAL, "%s: %s", names[i], par_error());
        }
        CHECK(failed > 10, "%s: %lld failures", names[i], (long long)failed);
    }
}
#endif

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"mutations", mutations, 0, NULL, 0},
                                         {"memory", memory, 0, NULL, 0}};
    return harness_main("fuzz-tokenizer-files", cases, HARNESS_COUNT(cases), argc, argv);
}
