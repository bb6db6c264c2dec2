/* Mutations of sound files; see mutate.h. */
#define _XOPEN_SOURCE 700
#include "mutate.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "harness_internal.h"

static uint64_t state;

/* The next number in [0, n) of the series: xorshift64*, Marsaglia 2003. */
static size_t draw(size_t n) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (size_t)((state * 2685821657736338717u) >> 33) % (n ? n : 1);
}

static size_t insert(uint8_t *b, size_t n, size_t at, const void *piece, size_t m) {
    if (n + m > MUTATE_CAPACITY) return n;
    memmove(b + at + m, b + at, n - at);
    memcpy(b + at, piece, m);
    return n + m;
}

static const char *const numbers[] = {"-1",
                                      "0",
                                      "1",
                                      "2",
                                      "255",
                                      "65536",
                                      "2147483647",
                                      "2147483648",
                                      "4294967295",
                                      "-2147483648",
                                      "1152921504606846976",
                                      "4611686018427387904",
                                      "9223372036854775807",
                                      "-9223372036854775808",
                                      "0.5",
                                      "-0.0",
                                      "1e18",
                                      "1e300",
                                      "1e-400",
                                      "1e999",
                                      "nan",
                                      "99999999999999999999"};

static const char *const words[] = {"{",
                                    "}",
                                    "[",
                                    "]",
                                    "\"",
                                    ",",
                                    ":",
                                    "null",
                                    "true",
                                    "{}",
                                    "[]",
                                    "\"\"",
                                    "\\u0000",
                                    "\\ud800",
                                    "\xff",
                                    "\xc4\xa0",
                                    "\xf0\x9f\x98\x80",
                                    "..",
                                    "/",
                                    " ",
                                    "\n",
                                    "=",
                                    "#",
                                    "<",
                                    "%s",
                                    "-",
                                    "a b\n",
                                    "F64",
                                    "\"dtype\"",
                                    "\"shape\""};

static size_t insert_word(uint8_t *b, size_t n, size_t at) {
    const char *word = draw(2) ? words[draw(sizeof words / sizeof *words)]
                               : numbers[draw(sizeof numbers / sizeof *numbers)];
    return insert(b, n, at, word, strlen(word));
}

static bool in_number(uint8_t c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '.';
}

/* The first number in the text from `at` on becomes another one. */
static size_t replace_number(uint8_t *b, size_t n, size_t at) {
    const char *number = numbers[draw(sizeof numbers / sizeof *numbers)];
    while (at < n && in_number(b[at])) at++;
    while (at < n && !in_number(b[at])) at++;
    size_t end = at;
    while (end < n && in_number(b[end])) end++;
    if (end == at) return insert_word(b, n, draw(n + 1));
    memmove(b + at, b + end, n - end);
    return insert(b, n - (end - at), at, number, strlen(number));
}

/* Where the next text in quotes behind `at` lies, on one line; 0: there is none. */
static size_t next_string(const uint8_t *b, size_t n, size_t at, size_t *begin) {
    while (at < n && b[at] != '"') at++;
    *begin = ++at;
    while (at < n && b[at] != '"') at++;
    return at < n ? at - *begin : 0;
}

/* A text in quotes becomes a copy of another one. */
static size_t replace_string(uint8_t *b, size_t n, size_t at) {
    uint8_t piece[64];
    size_t from, to, k = next_string(b, n, draw(n), &from), m = next_string(b, n, at, &to);
    if (k == 0 || m == 0 || k > sizeof piece) return replace_number(b, n, at);
    memcpy(piece, b + from, k);
    memmove(b + to, b + to + m, n - to - m);
    return insert(b, n - m, to, piece, k);
}

/* Some value of 1, 2, 4 or 8 bytes, low byte first. */
static void put_special(uint8_t *b, size_t n, size_t at) {
    static const uint64_t special[] = {0,          1,         2,         0x7f,      0xff,
                                       0x7fff,     0xffff,    INT32_MAX, INT32_MIN, UINT32_MAX,
                                       1ull << 32, INT64_MAX, INT64_MIN, UINT64_MAX};
    size_t m = (size_t)1 << draw(4);
    if (draw(2)) at = at / m * m;
    if (at + m <= n) memcpy(b + at, &special[draw(sizeof special / sizeof *special)], m);
}

static size_t mutate(uint8_t *b, size_t n) {
    enum { HEAD = 1500 }; /* where large files have what describes them: half of the changes */
    size_t at = draw(n > HEAD && draw(2) ? HEAD : n), m = 1 + draw(draw(4) ? 16 : 256);
    uint8_t piece[256];
    if (n == 0) return insert_word(b, n, 0);
    if (m > n - at) m = n - at;
    switch (draw(12)) {
    case 0: b[at] ^= (uint8_t)(1u << draw(8)); return n;
    case 1: b[at] = (uint8_t)draw(256); return n;
    case 2: put_special(b, n, at); return n;
    case 3: memmove(b + at, b + at + m, n - at - m); return n - m;
    case 4: memcpy(piece, b + at, m); return insert(b, n, draw(n + 1), piece, m);
    case 5:
        memcpy(piece, b + at, m);
        memcpy(b + draw(n - m + 1), piece, m);
        return n;
    case 6: return draw(8) ? replace_number(b, n, at) : at; /* cut short, seldom */
    case 7:
    case 8: return replace_number(b, n, at);
    case 9:
    case 10: return replace_string(b, n, at);
    default: return insert_word(b, n, at);
    }
}

/* In a block of exactly n bytes. */
static int ask(mutate_target *target, const uint8_t *b, size_t n) {
    uint8_t *block = malloc(n ? n : 1);
    if (!block) abort();
    memcpy(block, b, n);
    int answer = target(block, n);
    free(block);
    return answer;
}

int mutate_replaced(mutate_target *target, const void *sound, size_t n, const char *from,
                    const char *to) {
    static uint8_t b[MUTATE_CAPACITY];
    size_t k = strlen(from), m = strlen(to), found = 0;
    memcpy(b, sound, n);
    for (size_t at = 0; at + k <= n && n - k + m <= sizeof b; at++) {
        if (memcmp(b + at, from, k) != 0) continue;
        memmove(b + at + m, b + at + k, n - at - k);
        memcpy(b + at, to, m);
        n = n - k + m;
        at += m - 1;
        found++;
    }
    CHECK(found > 0, "%s does not occur", from);
    return ask(target, b, n);
}

/* ---- guided by coverage ---- */

/* libFuzzer's, in a build with it. Half of its mutations are ours, which know texts and numbers. */
typedef int driver(int *argc, char ***argv, mutate_target *target);
__attribute__((weak)) driver LLVMFuzzerRunDriver;
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t capacity, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t capacity, unsigned seed) {
    static uint8_t b[MUTATE_CAPACITY];
    state = seed * 0x9e3779b97f4a7c15u | 1;
    draw(1);
    if (draw(2) || n > sizeof b) return LLVMFuzzerMutate(data, n, capacity);
    memcpy(b, data, n);
    for (size_t m = 1 + draw(4); m > 0; m--) n = mutate(b, n);
    if (n > capacity) n = capacity;
    memcpy(data, b, n);
    return n;
}

static mutate_target *guided_target;

/* Refused inputs stay in the corpus too: they are the way to what is behind other refusals. */
static int guided_once(const uint8_t *data, size_t n) {
    guided_target(data, n);
    if (!harness_failed()) return 0;
    fprintf(stderr, "%s\n", harness_now.text);
    abort();
}

/* If the words, which are target, folder and flags, name this target, libFuzzer has it to the
 * end. */
static void run_guided(const char *given, const char *name, mutate_target *target,
                       const void *sound, size_t n) {
    enum { MOST = 32, LEAST = 4096 }; /* LEAST: bytes that an input may have */
    char given_words[2048], path[600], *argv[MOST + 2] = {NULL}, **vector = argv, longest[32];
    int argc = 0;
    snprintf(given_words, sizeof given_words, "%s", given);
    for (char *word = strtok(given_words, " \n"); word && argc < MOST; word = strtok(NULL, " \n"))
        argv[argc++] = word;
    snprintf(longest, sizeof longest, "-max_len=%zu", 2 * n > LEAST ? 2 * n : (size_t)LEAST);
    argv[argc++] = longest; /* the more bytes, the fewer executions */
    if (argc < 3 || strcmp(argv[0], name) != 0) return;
    if (!LLVMFuzzerRunDriver) {
        CHECK(false, "%s: this build has no libFuzzer; scripts/fuzz makes one that has", name);
        return;
    }
    snprintf(path, sizeof path, "%s/sound", argv[1]);
    FILE *file = fopen(path, "wb"); /* none if the word is not a folder, but an input to repeat */
    if (file) fwrite(sound, 1, n, file);
    if (file) fclose(file);
    guided_target = target;
    alarm(0);
    signal(SIGALRM, SIG_DFL); /* libFuzzer's, for what hangs */
    atexit(mutate_end);
    exit(LLVMFuzzerRunDriver(&argc, &vector, guided_once));
}

/* ---- a series ---- */

static uint64_t number_of(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void mutate_run(const char *name, mutate_target *target, const void *sound, size_t n, long runs) {
    static uint8_t b[MUTATE_CAPACITY];
    const char *guided = getenv("PAR_FUZZ_GUIDED");
    uint64_t series = 1469598103934665603u; /* FNV-1a of the name */
    long accepted = 0, done = 0;
    for (const char *c = name; *c; c++) series = (series ^ (uint8_t)*c) * 1099511628211u;
    series += number_of("PAR_SEED", 0) * 0x9e3779b97f4a7c15u;
    runs = (long)number_of("PAR_FUZZ_RUNS", (uint64_t)runs);
    double begin = seconds();
    CHECK(n <= sizeof b, "%s: %zu bytes", name, n);
    if (guided) run_guided(guided, name, target, sound, n); /* returns if another one is named */
    if (runs == 0) printf("# %s\n", name);
    if (guided || runs == 0) return;
    CHECK(ask(target, sound, n) == 0, "%s: the sound file is refused", name);
    for (; done < runs && n <= sizeof b && !harness_failed(); done++) {
        size_t k = n;
        if (done % 4096 == 0) alarm(HARNESS_DEADLINE_S); /* the case's, for so many executions */
        state = (series + (uint64_t)done * 0xbf58476d1ce4e5b9u) | 1;
        draw(1);
        memcpy(b, sound, n);
        for (size_t m = 1 + draw(draw(2) ? 1 : draw(8) ? 4 : 32); m > 0; m--) k = mutate(b, k);
        accepted += ask(target, b, k) == 0;
    }
    printf("# %s: %ld executions, %ld accepted, %.0f per second\n", name, done, accepted,
           (double)done / (seconds() - begin));
    fflush(stdout); /* a long series may be followed by one that is killed */
    CHECK(harness_failed() || (accepted > 0 && accepted < done), "%s: %ld of %ld were accepted",
          name, accepted, done);
}

/* By a hash of eight bytes at a time, as one by one takes longer than some parsers. Its highest
 * bits depend on all that is below, so they decide. */
bool mutate_shows(const uint8_t *data, size_t n) {
    static uint64_t one_in;
    uint64_t hash = n, word = 0;
    if (one_in == 0) one_in = number_of("PAR_FUZZ_SHOWN", 1);
    if (one_in < 2) return true;
    for (size_t at = 0; at < n; at += sizeof word, hash = (hash ^ word) * 1099511628211u)
        memcpy(&word, data + at, n - at < sizeof word ? n - at : sizeof word);
    return (hash >> 32) * one_in >> 32 == 0;
}

/* ---- files ---- */

static char folder[64];

const char *mutate_folder(void) {
    if (*folder) return folder;
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/par-fuzz-XXXXXX", root);
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    return folder;
}

const char *mutate_path(const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", mutate_folder(), name);
    return path;
}

/* The files that were written last stay open: to make one anew, and its page of memory, takes
 * longer than many a parser. */
typedef struct {
    char name[256], path[256];
    int fd;         /* of a slot with a name */
    size_t n_known; /* SIZE_MAX: what is in the file is not known */
    uint8_t known[MUTATE_CAPACITY];
} kept_file;
static kept_file kept[8];
enum { N_KEPT = sizeof kept / sizeof *kept };

static kept_file *keep_open(const char *name) {
    static int next;
    struct stat info;
    kept_file *file = kept;
    while (file < kept + N_KEPT && strcmp(file->name, name) != 0) file++;
    if (file < kept + N_KEPT && fstat(file->fd, &info) == 0 && info.st_nlink > 0) return file;
    if (file == kept + N_KEPT) file = &kept[next++ % N_KEPT]; /* else a new file has its name */
    if (*file->name) close(file->fd);
    snprintf(file->name, sizeof file->name, "%s", name);
    snprintf(file->path, sizeof file->path, "%s", *name == '/' ? name : mutate_path(name));
    file->fd = open(file->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    file->n_known = SIZE_MAX;
    return file;
}

const char *mutate_file(const char *name, const void *data, size_t n) {
    kept_file *file = keep_open(name);
    if (file->fd < 0 || pwrite(file->fd, data, n, 0) != (ssize_t)n ||
        ftruncate(file->fd, (off_t)n) != 0) {
        perror(file->path);
        exit(1);
    }
    file->n_known = SIZE_MAX;
    return file->path;
}

const char *mutate_part(const char *name, const void *data, size_t n) {
    kept_file *file = keep_open(name);
    if (file->n_known == n && memcmp(file->known, data, n) == 0) return file->path;
    mutate_file(name, data, n);
    memcpy(file->known, data, n);
    file->n_known = n;
    return file->path;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

void mutate_end(void) {
    for (kept_file *file = kept; file < kept + N_KEPT; file++) {
        if (*file->name) close(file->fd);
        *file->name = 0;
    }
    if (*folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    *folder = 0;
}
