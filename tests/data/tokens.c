/*
 * Token files: round trips, files made by hand byte for byte as the formats say, every field
 * spoilt, every length cut, files over 4 GiB, a killed writer and two at once, and text to tokens.
 */
#define _POSIX_C_SOURCE   200809L
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/base/file.h"
#include "par/data.h"
#include "par/tokenizer.h"
#include "temp.h"

enum { N = 37 };

static int32_t ids[N];

static void make_ids(int32_t vocab) {
    for (int i = 0; i < N; i++) ids[i] = (int32_t)(((int64_t)i * 7919 + 13) % vocab);
    ids[5] = vocab - 1;
}

static void check_ids(const char *path) {
    par_tokens *t = NULL;
    int32_t got[N];
    CHECK_OK(par_tokens_open(path, &t));
    if (!t) return;
    CHECK(par_tokens_n(t) == N, "%s: %lld tokens", path, (long long)par_tokens_n(t));
    for (int first = 0; first < N; first++)
        for (int n = 0; first + n <= N; n += 5) {
            CHECK_OK(par_tokens_read(t, first, n, got));
            CHECK(memcmp(got, ids + first, (size_t)n * 4) == 0, "%s: tokens %d + %d differ", path,
                  first, n);
        }
    CHECK(par_tokens_max(t) == ids[5], "%s: largest %lld", path, (long long)par_tokens_max(t));
    CHECK_FAILS(par_tokens_read(t, N - 1, 2, got), PAR_ERR_ARG, "holds 37");
    CHECK_FAILS(par_tokens_read(t, -1, 2, got), PAR_ERR_ARG, "from -1");
    CHECK_FAILS(par_tokens_read(t, INT64_MAX, 2, got), PAR_ERR_ARG, "holds 37");
    par_tokens_close(&t);
    CHECK(t == NULL, "close does not null");
}

static void round_trips(void) {
    static const int32_t vocabs[] = {2, 257, 50257, 65536, 65537, 128256, 2147483647};
    for (int i = 0; i < (int)(sizeof vocabs / sizeof *vocabs); i++) {
        const char *path = temp_path("round.tok");
        size_t nbytes = 0;
        make_ids(vocabs[i]);
        CHECK_OK(par_tokens_write(path, ids, N, vocabs[i]));
        check_ids(path);
        free(temp_read(path, &nbytes));
        CHECK(nbytes == 1024u + N * (vocabs[i] <= 65536 ? 2u : 4u), "vocabulary %d: %zu bytes",
              vocabs[i], nbytes);
    }
    CHECK(temp_count(PAR__TEMPORARY) == 0, "temporary files are left");
}

static void write_refusals(void) {
    int32_t bad[] = {1, 2, 7};
    const char *path = temp_path("refused.tok");
    CHECK_FAILS(par_tokens_write(path, bad, 3, 7), PAR_ERR_ARG, "token 2 is 7; legal: 0 to 6");
    bad[1] = -1;
    CHECK_FAILS(par_tokens_write(path, bad, 3, 9), PAR_ERR_ARG, "token 1 is -1");
    CHECK_FAILS(par_tokens_write(path, bad, 0, 9), PAR_ERR_ARG, "n > 0");
    CHECK_FAILS(par_tokens_write(temp_path("absent/x.tok"), ids, 1, 2147483647), PAR_ERR_IO,
                "No such file");
    CHECK(temp_count("refused") == 0, "something is left behind");
}

/* A target that cannot be replaced: the temporary file goes away again. */
static void failed_rename(void) {
    char inside[600];
    const char *path = temp_path("directory.tok");
    snprintf(inside, sizeof inside, "mkdir -p %s/x", path);
    CHECK(system(inside) == 0, "mkdir");
    make_ids(100);
    CHECK_FAILS(par_tokens_write(path, ids, N, 100), PAR_ERR_IO, "directory.tok");
    CHECK(temp_count(PAR__TEMPORARY) == 0, "the temporary file is left");
    snprintf(inside, sizeof inside, "rm -r %s", path);
    CHECK(system(inside) == 0, "rm");
}

/* A process that was killed while writing leaves its temporary file and no lock. */
static void killed_writer(void) {
    char path[600], left[650];
    snprintf(path, sizeof path, "%s", temp_path("killed.tok"));
    snprintf(left, sizeof left, "%s" PAR__TEMPORARY, path);
    make_ids(100);
    CHECK_OK(par_tokens_write(path, ids, 10, 100));
    pid_t child = fork();
    if (child == 0) {
        par__writer w;
        bool good = par__writer_open(path, &w) == PAR_OK &&
                    par__writer_write(&w, ids, sizeof ids) == PAR_OK;
        raise(good ? SIGKILL : SIGTERM);
    }
    int how;
    CHECK(waitpid(child, &how, 0) == child && WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL,
          "not killed");
    CHECK(access(left, F_OK) == 0, "the killed writer left nothing to test");
    size_t nbytes;
    free(temp_read(path, &nbytes));
    CHECK(nbytes == 1024 + 10 * 2, "the old file was touched: %zu bytes", nbytes);
    CHECK_OK(par_tokens_write(path, ids, N, 100));
    check_ids(path);
    CHECK(access(left, F_OK) != 0, "the killed writer's file is left");
}

static void two_writers(void) {
    char path[600];
    par__writer first, second;
    size_t nbytes;
    snprintf(path, sizeof path, "%s", temp_path("two"));
    CHECK_OK(par__writer_open(path, &first));
    CHECK_OK(par__writer_write(&first, "first", 5));
    CHECK_FAILS(par__writer_open(path, &second), PAR_ERR_IO, "another process is writing it");
    CHECK_OK(par__writer_commit(&first));
    CHECK_OK(par__writer_open(path, &second));
    par__writer_abort(&second);
    char *text = temp_read(path, &nbytes);
    CHECK(text && nbytes == 5 && memcmp(text, "first", 5) == 0, "not the first writer's file");
    free(text);
    CHECK(temp_count(PAR__TEMPORARY) == 0, "a temporary file is left");
}

/* ---- files made by hand ---- */

typedef struct {
    uint8_t bytes[4096];
    size_t n;
} buffer;

static void put(buffer *b, uint64_t value, int nbytes) {
    for (int i = 0; i < nbytes; i++) b->bytes[b->n++] = (uint8_t)(value >> (8 * i));
}

static void make_llmc(buffer *b, bool wide) {
    b->n = 0;
    put(b, wide ? 20240801 : 20240520, 4);
    put(b, wide ? 7 : 1, 4);
    put(b, N, 4);
    for (int i = 3; i < 256; i++) put(b, 0, 4);
    for (int i = 0; i < N; i++) put(b, (uint64_t)ids[i], wide ? 4 : 2);
}

/* Three sequences of 10, 0 and 27 tokens, two documents: boundaries 0, 1, 3. */
static void make_megatron(buffer *bin, buffer *idx, int code, int item) {
    static const int lengths[] = {10, 0, 27}, documents[] = {0, 1, 3};
    bin->n = idx->n = 0;
    for (int i = 0; i < N; i++) put(bin, (uint64_t)ids[i], item);
    memcpy(idx->bytes, "MMIDIDX\0\0", 9);
    idx->n = 9;
    put(idx, 1, 8);
    put(idx, (uint64_t)code, 1);
    put(idx, 3, 8);
    put(idx, 3, 8);
    for (int i = 0; i < 3; i++) put(idx, (uint64_t)lengths[i], 4);
    for (int i = 0, at = 0; i < 3; at += lengths[i++] * item) put(idx, (uint64_t)at, 8);
    for (int i = 0; i < 3; i++) put(idx, (uint64_t)documents[i], 8);
}

static par_status try_open(const char *path) {
    par_tokens *t = NULL;
    par_status st = par_tokens_open(path, &t);
    par_tokens_close(&t);
    return st;
}

static void forms(void) {
    static const struct {
        int code, item, vocab;
    } types[] = {{1, 1, 256},    {2, 1, 128},    {3, 2, 32768},
                 {4, 4, 200000}, {5, 8, 200000}, {8, 2, 65536}};
    buffer bin, idx;
    for (int wide = 0; wide < 2; wide++) {
        make_ids(wide ? 128256 : 50257);
        make_llmc(&bin, wide);
        check_ids(temp_file("hand.bin", bin.bytes, bin.n));
    }
    for (int i = 0; i < 6; i++) {
        make_ids(types[i].vocab);
        make_megatron(&bin, &idx, types[i].code, types[i].item);
        temp_file("mega.idx", idx.bytes, idx.n);
        check_ids(temp_file("mega.bin", bin.bytes, bin.n));
    }
    make_ids(50257);
    make_megatron(&bin, &idx, 8, 2);
    check_ids(temp_file("raw.bin", bin.bytes, bin.n));
    CHECK_FAILS(try_open(temp_file("raw.dat", bin.bytes, bin.n)), PAR_ERR_FORMAT, "no known magic");
    CHECK_FAILS(try_open(temp_file("odd.bin", bin.bytes, bin.n - 1)), PAR_ERR_FORMAT,
                "even number");
    CHECK_FAILS(try_open(temp_file("empty.bin", "", 0)), PAR_ERR_FORMAT, "is empty");
    CHECK_FAILS(try_open(temp_path("absent.bin")), PAR_ERR_IO, "No such file");
    CHECK_FAILS(try_open("/"), PAR_ERR_IO, "is a folder");
}

/* Each field of llm.c's header, with what the message must say. */
static void llmc_fields(void) {
    static const struct {
        int word;
        int32_t value;
        const char *text;
    } spoilt[] = {
        {0, 20240521, "no known magic"},
        {0, 20240801, "version 1; legal with this magic: 7"},
        {1, 2, "offset 4: version 2; legal with this magic: 1"},
        {2, N + 1, "38 tokens need a file of 1100 bytes, it has 1098"},
        {2, 0, "offset 8: 0 tokens"},
        {2, -1, "offset 8: -1 tokens"},
        {3, 1, "offset 12: reserved word is 1"},
        {255, -7, "offset 1020: reserved word is -7"},
    };
    buffer b;
    make_ids(50257);
    for (int i = 0; i < (int)(sizeof spoilt / sizeof *spoilt); i++) {
        make_llmc(&b, false);
        memcpy(b.bytes + 4 * spoilt[i].word, &spoilt[i].value, 4);
        const char *path = temp_file("spoilt.tok", b.bytes, b.n);
        CHECK_FAILS(try_open(path), PAR_ERR_FORMAT, spoilt[i].text);
        CHECK(strncmp(par_error(), path, strlen(path)) == 0, "no path in \"%s\"", par_error());
    }
}

static void megatron_fields(void) {
    /* lengths at 34, byte offsets at 46, documents at 70 */
    static const struct {
        int at, nbytes;
        int64_t value;
        const char *text;
    } spoilt[] = {
        {0, 1, 'X', "offset 0: does not begin with MMIDIDX"},
        {8, 1, 1, "offset 0: does not begin with MMIDIDX"},
        {9, 8, 2, "offset 9: version 2; legal: 1"},
        {17, 1, 6, "offset 17: element type 6"},
        {17, 1, 0, "offset 17: element type 0"},
        {17, 1, 4, "offset 54: sequence 1 begins at byte 20; the lengths before it give 40"},
        {18, 8, 4, "4 sequences"},
        {18, 8, INT64_MAX, "sequences"},
        {18, 8, 0x5555555555555555, "sequences"},
        {26, 8, 2, "2 document boundaries"},
        {26, 8, -1, "document boundaries"},
        {34, 4, -1, "offset 34: sequence 0 has length -1"},
        {34, 4, 9, "offset 54: sequence 1 begins at byte 20; the lengths before it give 18"},
        {42, 4, 26, "sequences take 72 bytes, the .bin has 74"},
        {42, 4, 2147483647, "take at least"},
        {46, 8, 2, "offset 46: sequence 0 begins at byte 2"},
        {62, 8, -2, "offset 62: sequence 2 begins at byte -2"},
        {70, 8, 1, "offset 70: the first document begins at sequence 1"},
        {78, 8, 4, "offset 78: document boundary 1 is sequence 4"},
        {78, 8, -1, "offset 78"},
        {86, 8, 2, "offset 86: the last document ends at sequence 2; legal: 3"},
        {86, 8, 0, "offset 86: document boundary 2 is sequence 0; legal: 1 to 3"},
    };
    buffer bin, idx;
    make_ids(50257);
    for (int i = 0; i < (int)(sizeof spoilt / sizeof *spoilt); i++) {
        make_megatron(&bin, &idx, 8, 2);
        memcpy(idx.bytes + spoilt[i].at, &spoilt[i].value, (size_t)spoilt[i].nbytes);
        const char *name = temp_file("bad.idx", idx.bytes, idx.n);
        CHECK_FAILS(try_open(temp_file("bad.bin", bin.bytes, bin.n)), PAR_ERR_FORMAT,
                    spoilt[i].text);
        CHECK(strncmp(par_error(), name, strlen(name)) == 0, "no path in \"%s\"", par_error());
    }
}

/* Every length of a file but the right one is refused. */
static void truncations(void) {
    buffer bin, idx;
    make_ids(50257);
    make_llmc(&bin, false);
    for (size_t n = 0; n < bin.n; n++)
        CHECK(try_open(temp_file("cut.tok", bin.bytes, n)) == PAR_ERR_FORMAT,
              "llm.c cut to %zu: %s", n, par_error());
    CHECK_OK(try_open(temp_file("cut.tok", bin.bytes, bin.n)));
    CHECK_FAILS(try_open(temp_file("cut.tok", bin.bytes, bin.n + 1)), PAR_ERR_FORMAT,
                "need a file of");
    make_megatron(&bin, &idx, 8, 2);
    temp_file("cut.bin", bin.bytes, bin.n);
    for (size_t n = 0; n < idx.n; n++) {
        temp_file("cut.idx", idx.bytes, n);
        CHECK(try_open(temp_path("cut.bin")) == PAR_ERR_FORMAT, "idx cut to %zu: %s", n,
              par_error());
    }
    temp_file("cut.idx", idx.bytes, idx.n);
    CHECK_OK(try_open(temp_path("cut.bin")));
    for (size_t n = 0; n < bin.n; n++)
        CHECK(try_open(temp_file("cut.bin", bin.bytes, n)) == PAR_ERR_FORMAT, "bin cut to %zu: %s",
              n, par_error());
}

/* Ids that no int32 holds: found when they are read, and by the largest id. */
static void impossible_ids(void) {
    buffer bin, idx;
    par_tokens *t = NULL;
    int32_t got[N];
    make_ids(100);
    make_megatron(&bin, &idx, 4, 4);
    memset(bin.bytes + 4 * 7, 0xff, 4);
    temp_file("negative.idx", idx.bytes, idx.n);
    CHECK_OK(par_tokens_open(temp_file("negative.bin", bin.bytes, bin.n), &t));
    CHECK_OK(par_tokens_read(t, 0, 7, got));
    CHECK_FAILS(par_tokens_read(t, 0, N, got), PAR_ERR_FORMAT, "offset 28: token 7 is negative");
    CHECK(par_tokens_max(t) == INT64_MAX, "largest %lld", (long long)par_tokens_max(t));
    par_tokens_close(&t);
    make_llmc(&bin, true);
    memset(bin.bytes + 1024 + 4 * 7, 0xff, 4);
    CHECK_OK(par_tokens_open(temp_file("large.tok", bin.bytes, bin.n), &t));
    CHECK_FAILS(par_tokens_read(t, 7, 1, got), PAR_ERR_FORMAT, "offset 1052: token 7");
    CHECK(par_tokens_max(t) == 4294967295, "largest %lld", (long long)par_tokens_max(t));
    par_tokens_close(&t);
}

/* A file with holes: `nbytes` long, a header in front, some bytes at `at`. */
static const char *sparse_file(const char *name, const buffer *head, int64_t nbytes, int64_t at,
                               const void *data, size_t n) {
    const char *path = temp_file(name, head->bytes, head->n);
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)nbytes) == 0 &&
              pwrite(fd, data, n, (off_t)at) == (ssize_t)n;
    if (fd >= 0) close(fd);
    if (!ok) harness_skip("this file system refuses a file of %lld bytes", (long long)nbytes);
    return ok ? path : NULL;
}

static void check_far(const char *path, par_tokens_form form, int64_t first, int64_t n) {
    static const int32_t want[] = {11, 22, 33};
    par_tokens *t = NULL;
    int32_t got[3];
    CHECK_OK(par_tokens_open_as(path, &(par_tokens_params){.form = form}, &t));
    if (!t) return;
    CHECK(par_tokens_n(t) == n, "%lld tokens", (long long)par_tokens_n(t));
    CHECK_OK(par_tokens_read(t, first, 3, got));
    CHECK(memcmp(got, want, sizeof want) == 0, "%d %d %d", got[0], got[1], got[2]);
    par_tokens_close(&t);
}

static void over_4_gib(void) {
    static const uint16_t narrow[] = {11, 22, 33};
    static const uint32_t wide[] = {11, 22, 33};
    buffer none = {.n = 0}, head;
    int64_t n = 2600000000, m = 1200000000; /* 5.2 GB of u16, 4.8 GB of u32 */
    const char *path = sparse_file("far.bin", &none, 2 * n, 2 * (n - 3), narrow, sizeof narrow);
    if (!path) return;
    check_far(path, PAR_TOKENS_U16, n - 3, n);
    temp_remove("far.bin");
    make_llmc(&head, true);
    head.n = 1024;
    memcpy(head.bytes + 8, &(int32_t){1200000000}, 4);
    path = sparse_file("far.tok", &head, 1024 + 4 * m, 1024 + 4 * (m - 100), wide, sizeof wide);
    if (!path) return;
    check_far(path, PAR_TOKENS_KNOWN, m - 100, m);
    temp_remove("far.tok");
}

/* ---- text ---- */

/* "chars" or what par_tokenizer_open takes. */
static par_status text_to_tokens(int n_files, const char *const *paths, const char *tokenizer,
                                 const char *path, int64_t *n_tokens, int64_t *vocab) {
    const par_corpus corpus = {.n_files = n_files, .paths = paths};
    par_tokenizer *t = NULL;
    par_status st = strcmp(tokenizer, "chars") == 0 ? par_tokenizer_of_text(&corpus, &t)
                                                    : par_tokenizer_open(tokenizer, &t);
    if (st == PAR_OK) st = par_corpus_write_tokens(&corpus, t, false, path, n_tokens, NULL);
    if (st == PAR_OK && vocab) *vocab = par_tokenizer_vocab(t);
    par_tokenizer_close(&t);
    return st;
}

static void check_text(const char *tokenizer, const uint8_t *text, int64_t n, int vocab) {
    par_tokens *t = NULL;
    int64_t n_tokens = 0, n_vocab = 0;
    size_t size;
    const char *half[] = {temp_file("a.txt", text, (size_t)(n / 3)),
                          temp_file("b.txt", text + n / 3, (size_t)(n - n / 3))};
    CHECK_OK(text_to_tokens(2, half, tokenizer, temp_path("text.tok"), &n_tokens, &n_vocab));
    CHECK(n_tokens == n && n_vocab == vocab, "%lld tokens, vocabulary %lld", (long long)n_tokens,
          (long long)n_vocab);
    CHECK_OK(par_tokens_open(temp_path("text.tok"), &t));
    char *line = temp_read(temp_path("text.tok.vocab"), &size);
    CHECK(line && t && strchr(line, '\n') == line + size - 1, "the vocabulary is not one line");
    /* Decode with what lies on the disk alone. */
    int bytes[256], count = 0;
    for (char *p = line ? strchr(line, '[') : NULL; p && *p != ']' && count < 256;
         p = p + strcspn(p, ",]"))
        bytes[count++] = (int)strtol(p + 1, &p, 10);
    CHECK(count == vocab, "%d bytes in the vocabulary", count);
    for (int64_t i = 0; t && i < n && !harness_failed(); i++) {
        int32_t id;
        CHECK_OK(par_tokens_read(t, i, 1, &id));
        CHECK(id < count && bytes[id] == text[i], "token %lld decodes to another byte",
              (long long)i);
    }
    for (int i = 1; i < count; i++) CHECK(bytes[i] > bytes[i - 1], "ids are not in sorted order");
    free(line);
    par_tokens_close(&t);
}

static void text(void) {
    enum { LENGTH = 70001 }; /* several blocks */
    uint8_t *all = malloc(LENGTH);
    for (int i = 0; i < LENGTH; i++) all[i] = (uint8_t)((uint64_t)i * (uint64_t)i * 31 >> 3);
    check_text("bytes", all, LENGTH, 256);
    for (int i = 0; i < LENGTH; i++) all[i] = (uint8_t)("hello, \xffworld\n"[all[i] % 14]);
    check_text("chars", all, LENGTH, 11); /* h e l o , space 0xff w r d newline */
    free(all);
}

static void text_refusals(void) {
    const char *empty = temp_text("none.txt", ""), *absent = temp_path("absent.txt"),
               *out = temp_path("refused.tok");
    CHECK_FAILS(text_to_tokens(1, &empty, "bytes", out, NULL, NULL), PAR_ERR_FORMAT,
                "the text is empty");
    CHECK_FAILS(text_to_tokens(1, &empty, "chars", out, NULL, NULL), PAR_ERR_FORMAT,
                "the text is empty");
    CHECK_FAILS(text_to_tokens(1, &absent, "bytes", out, NULL, NULL), PAR_ERR_IO, "absent.txt");
    CHECK_FAILS(text_to_tokens(1, &absent, "chars", out, NULL, NULL), PAR_ERR_IO, "absent.txt");
    CHECK(temp_count("refused") == 0, "something is left behind");
}

/* The text that character models are compared on: 65 distinct characters, 1,115,394 of them. */
static void shakespeare(void) {
    char path[512];
    int64_t n = 0, vocab = 0;
    size_t size;
    const char *shared = harness_shared(), *in = path;
    if (shared) snprintf(path, sizeof path, "%s/data/tinyshakespeare.txt", shared);
    if (!shared || access(path, R_OK) != 0) {
        harness_skip("no shared data");
        return;
    }
    CHECK_OK(text_to_tokens(1, &in, "chars", temp_path("shakespeare.tok"), &n, &vocab));
    free(temp_read(path, &size));
    CHECK(n == (int64_t)size && vocab == 65, "%lld tokens of %zu bytes, vocabulary %lld",
          (long long)n, size, (long long)vocab);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"round-trips", round_trips, 0, NULL, 0},
        {"write-refusals", write_refusals, 0, NULL, 0},
        {"killed-writer", killed_writer, 0, NULL, 0},
        {"two-writers", two_writers, 0, NULL, 0},
        {"failed-rename", failed_rename, 0, NULL, 0},
        {"forms", forms, 0, NULL, 0},
        {"llmc-fields", llmc_fields, 0, NULL, 0},
        {"megatron-fields", megatron_fields, 0, NULL, 0},
        {"truncations", truncations, 0, NULL, 0},
        {"impossible-ids", impossible_ids, 0, NULL, 0},
        {"over-4-gib", over_4_gib, 0, NULL, 0},
        {"text", text, 0, NULL, 0},
        {"text-refusals", text_refusals, 0, NULL, 0},
        {"shakespeare", shakespeare, 0, NULL, 0},
    };
    temp_open();
    int rc = harness_main("tokens", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
