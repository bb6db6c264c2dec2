/*
 * Forms of token files are known or asked for, never guessed: raw ids of either width, files of
 * other kinds by their names, LitGPT's, Megatron's prefix; and the stamp: what it keeps, when it is
 * believed, and what becomes of it when the file changes.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/data/tokenizer.h"
#include "par/data.h"
#include "par/guard.h"
#include "par/threads.h"
#include "par/tokenizer.h"
#include "temp.h"

enum { N = 200003 }; /* some blocks of the look at all ids, and a part of one */

static uint32_t ids[N];

static void make_ids(uint32_t vocab) {
    for (uint64_t i = 0; i < N; i++) ids[i] = (uint32_t)(i * 7919 % vocab);
    ids[N - 2] = vocab - 1;
}

static const char *raw(const char *name, int nbytes, int64_t n) {
    uint8_t *data = malloc((size_t)(n * nbytes));
    for (int64_t i = 0; i < n; i++) memcpy(data + i * nbytes, &ids[i], (size_t)nbytes);
    const char *path = temp_file(name, data, (size_t)(n * nbytes));
    free(data);
    return path;
}

static par_status open_as(const char *path, par_tokens_form form, int64_t vocab, int64_t *n) {
    par_tokens *t = NULL;
    par_status st =
        par_tokens_open_as(path, &(par_tokens_params){.form = form, .vocab = vocab}, &t);
    *n = st == PAR_OK ? par_tokens_n(t) : -1;
    par_tokens_close(&t);
    return st;
}

static par_tokens_facts facts_of(const char *path, par_tokens_form form) {
    par_tokens *t = NULL;
    par_tokens_facts f = {.max = -1};
    CHECK_OK(par_tokens_open_as(path, &(par_tokens_params){.form = form}, &t));
    if (t) CHECK_OK(par_tokens_check(t, NULL, NULL, &f));
    par_tokens_close(&t);
    return f;
}

/* An even number of ids below 65,536, as u16: read as u32, most are outside of any vocabulary. Of
 * u32 both readings are possible, whatever the ids. */
static void widths(void) {
    int64_t n;
    make_ids(50257);
    const char *path = raw("ids.bin", 2, N - 1);
    CHECK_OK(open_as(path, PAR_TOKENS_KNOWN, 50257, &n));
    CHECK(n == N - 1, "%lld ids", (long long)n);
    CHECK_OK(open_as(path, PAR_TOKENS_KNOWN, 0, &n)); /* the highest bit of some */
    make_ids(65);
    path = raw("chars.bin", 2, N - 1);
    CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, 0, &n), PAR_ERR_FORMAT, "u16 or u32");
    CHECK_OK(open_as(path, PAR_TOKENS_KNOWN, 65, &n));
    CHECK(n == N - 1, "%lld ids", (long long)n);
    for (uint32_t vocab = 256; vocab <= 100000; vocab *= 390) {
        make_ids(vocab);
        path = raw("wide.bin", 4, N);
        CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, vocab > 256 ? vocab : 50257, &n),
                    PAR_ERR_FORMAT, "give its form, u16 or u32");
        CHECK_OK(open_as(path, PAR_TOKENS_U32, 0, &n));
        CHECK(n == N, "%lld ids", (long long)n);
        /* A model whose vocabulary is too small for the file proves nothing of the file. */
        CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, vocab - 9, &n), PAR_ERR_FORMAT, "u16 or u32");
        ids[7] = UINT32_MAX; /* -1 in i32: no token */
        CHECK_FAILS(open_as(raw("wide.bin", 4, N), PAR_TOKENS_KNOWN, vocab, &n), PAR_ERR_FORMAT,
                    "u16 or u32");
    }
}

/* ids as numbers of other widths, either byte first */
static const char *as_written(int64_t n, int nbytes, bool big) {
    uint8_t *data = calloc((size_t)(n * nbytes), 1);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < nbytes && k < 4; k++)
            data[i * nbytes + (big ? nbytes - 1 - k : k)] = (uint8_t)(ids[i] >> 8 * k);
    const char *path = temp_file("written.bin", data, (size_t)(n * nbytes));
    free(data);
    return path;
}

/* Numbers of another width, or the other way round, are named under each form that they are not
 * of, also where no id would be outside of the vocabulary; and none of the sound files is. */
static void misread(void) {
    static const struct {
        int nbytes;
        bool big;
        par_tokens_form asked; /* KNOWN: none */
        uint32_t from, to;     /* vocabularies */
        const char *text;      /* NULL: taken */
    } cases[] = {
        {8, false, PAR_TOKENS_U32, 2, 1 << 24, "ids in i64, a form"},
        {8, false, PAR_TOKENS_U16, 2, 1 << 24, "ids in i64, a form"},
        {8, false, PAR_TOKENS_KNOWN, 2, 1 << 24, "astype('<u4')"},
        {8, true, PAR_TOKENS_U32, 2, 1 << 24, "in i64, the highest byte first"},
        {8, true, PAR_TOKENS_U16, 2, 1 << 24, "'>i8'"},
        {8, true, PAR_TOKENS_KNOWN, 2, 1 << 24, "in i64, the highest byte first"},
        {4, true, PAR_TOKENS_U32, 2, 1 << 24, "in u32, the highest byte first"},
        {4, true, PAR_TOKENS_U16, 2, 1 << 20, "'>u4'"},
        {4, true, PAR_TOKENS_KNOWN, 2, 1 << 24, "in u32, the highest byte first"},
        {4, false, PAR_TOKENS_U16, 2, 1 << 20, "ids in u32, not in u16; legal: its form, u32"},
        {2, true, PAR_TOKENS_U16, 2, 256, "in u16, the highest byte first"},
        {2, true, PAR_TOKENS_KNOWN, 17, 256, "in u16, the highest byte first"},
        {4, false, PAR_TOKENS_U32, 2, 1 << 24, NULL},
        {2, false, PAR_TOKENS_U16, 2, 65536, NULL},
        {2, false, PAR_TOKENS_KNOWN, 1000, 65536, NULL},
    };
    static const uint32_t vocabs[] = {2, 4, 17, 65, 256, 1000, 50257, 65536, 128256, 1 << 20};
    for (size_t k = 0; k < sizeof vocabs / sizeof *vocabs; k++) {
        for (uint64_t i = 0; i < N; i++)
            ids[i] = (uint32_t)((i * UINT64_C(0x9e3779b97f4a7c15) >> 20) % vocabs[k]);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            int64_t n, count = 20000;
            if (vocabs[k] < cases[c].from || vocabs[k] > cases[c].to) continue;
            const char *path = as_written(count, cases[c].nbytes, cases[c].big);
            par_status st = open_as(path, cases[c].asked, vocabs[k], &n);
            if (cases[c].text)
                CHECK(st == PAR_ERR_FORMAT && strstr(par_error(), cases[c].text),
                      "case %zu with %u ids: status %d, \"%s\"", c, vocabs[k], (int)st,
                      st == PAR_OK ? "" : par_error());
            else
                CHECK(st == PAR_OK && n == count, "case %zu with %u ids: status %d, \"%s\"", c,
                      vocabs[k], (int)st, st == PAR_OK ? "" : par_error());
        }
    }
    for (int i = 0; i < N; i++) ids[i] = 0; /* all zeros may be anything */
    int64_t n;
    CHECK_OK(open_as(as_written(N - 1, 4, false), PAR_TOKENS_U32, 2, &n));
    CHECK_OK(open_as(as_written(N - 1, 4, false), PAR_TOKENS_U16, 2, &n));
}

static void check_litgpt(void) {
    uint8_t data[24 + 2 * 50] = "LITPKDS\1";
    int64_t n;
    data[15] = 8;
    data[16] = 50;
    for (int i = 0; i < 50; i++) data[24 + 2 * i] = (uint8_t)i;
    const char *path = temp_file("chunk.bin", data, sizeof data);
    CHECK_OK(open_as(path, PAR_TOKENS_KNOWN, 0, &n));
    CHECK(n == 50, "%lld ids", (long long)n);
    par_tokens_facts f = facts_of(path, PAR_TOKENS_LITGPT);
    CHECK(f.max == 49 && strcmp(f.form, "LitGPT u16") == 0, "%s, %lld", f.form, (long long)f.max);
    CHECK_FAILS(open_as(temp_file("cut.bin", data, sizeof data - 2), PAR_TOKENS_KNOWN, 0, &n),
                PAR_ERR_FORMAT, "a LitGPT file of 50 tokens");
    data[15] = 6;
    CHECK_FAILS(open_as(temp_file("f32.bin", data, sizeof data), PAR_TOKENS_KNOWN, 0, &n),
                PAR_ERR_FORMAT, "element type 6");
    CHECK_FAILS(open_as(path, PAR_TOKENS_U16, 0, &n), PAR_ERR_FORMAT, "it is LitGPT's");
}

/* The pair by what its names have in common, as Megatron's own option has it. */
static void check_prefix(void) {
    uint8_t index[34 + 12 * 2 + 8 * 3] = "MMIDIDX\0\0\1";
    const int32_t numbers[] = {3, 4, 0, 0, 6, 0, 0, 0, 1, 0, 2, 0}; /* i32, then i64 */
    int64_t n;
    index[17] = 8;
    index[18] = 2;
    index[26] = 3;
    memcpy(index + 34, numbers, sizeof numbers);
    temp_file("corpus_text_document.idx", index, sizeof index);
    temp_file("corpus_text_document.bin", "\1\0\2\0\3\0\4\0\5\0\6\0\7\0", 14);
    const char *prefix = temp_path("corpus_text_document");
    CHECK_OK(open_as(prefix, PAR_TOKENS_KNOWN, 0, &n));
    CHECK(n == 7, "%lld ids", (long long)n);
    par_tokens_facts f = facts_of(prefix, PAR_TOKENS_MEGATRON);
    CHECK(f.n_documents == 2 && strcmp(f.form, "Megatron u16") == 0, "%s, %lld documents", f.form,
          (long long)f.n_documents);
    CHECK(temp_count("corpus_text_document.bin.stamp") == 1, "no stamp beside the .bin");
}

static void foreign(void) {
    static const struct {
        const char *name, *data;
        size_t n;
        const char *text;
    } files[] = {
        {"a.bin", "\x93NUMPY\1\0v\0{'descr'", 18, "a NumPy file"},
        {"b.bin", "PK\3\4\24\0\0\0", 8, "a zip archive"},
        {"c.parquet", "PAR1\25\4\25\20", 8, "a Parquet file"},
        {"d.bin", "\x1f\x8b\x08\0\0\0\0\0", 8, "compressed (gzip)"},
        {"e.zst", "\x28\xb5\x2f\xfd\4\0\0\0", 8, "compressed (zstd)"},
        {"f.bin", "\x89HDF\r\n\x1a\n", 8, "an HDF5 file"},
        {"g.safetensors", "\4\0\0\0\0\0\0\0{\"a\":1}", 15, "a safetensors file"},
        {"h.bin", "{\"text\": \"one line\"}\n", 21, "JSON"},
        {"i.bin", "It is a truth universally acknowledged", 38, "is text"},
        {"j.bin", "version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
        {"k.idx", "MMIDIDX\0\0\1\0\0", 12, "a Megatron index: name the .bin"},
        {"l.bin", "\x46\x25\x35\x01\3\0\0\0", 8, "a model of llm.c"},
        {"m.pkl", "\x80\x04\x95\x10\0\0\0\0", 8, "a Python pickle"},
    };
    int64_t n;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = temp_file(files[i].name, files[i].data, files[i].n);
        CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, 0, &n), PAR_ERR_FORMAT, files[i].text);
        if (files[i].n % 2 == 0) CHECK_OK(open_as(path, PAR_TOKENS_U16, 0, &n)); /* if so asked */
    }
}

/* The same ids have the same fingerprint in every form and on any number of threads; one id
 * differs, or two change places, and it is another. */
static void fingerprints(void) {
    make_ids(50000);
    const char *narrow = raw("narrow.bin", 2, N), *wide = raw("broad.bin", 4, N);
    par_tokens_facts a = facts_of(narrow, PAR_TOKENS_U16), b = facts_of(wide, PAR_TOKENS_U32);
    CHECK(a.max == 49999 && b.max == 49999, "%lld, %lld", (long long)a.max, (long long)b.max);
    CHECK(a.fingerprint == b.fingerprint, "u16 and u32 differ");
    temp_remove("narrow.bin.stamp");
    CHECK_OK(par_threads_set(3));
    CHECK(facts_of(narrow, PAR_TOKENS_U16).fingerprint == a.fingerprint, "3 threads");
    CHECK_OK(par_threads_set(0));
    static const int at[] = {0, 1023, 1024, 65535, 65536, N - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        ids[at[i]] ^= 1;
        b = facts_of(raw("other.bin", 2, N), PAR_TOKENS_U16);
        CHECK(b.fingerprint != a.fingerprint, "id %d is not in it", at[i]);
        ids[at[i]] ^= 1;
    }
    uint32_t id = ids[70000];
    ids[70000] = ids[7];
    ids[7] = id;
    b = facts_of(raw("other.bin", 2, N), PAR_TOKENS_U16);
    CHECK(b.fingerprint != a.fingerprint, "order is not in it");
}

/* A given form is kept by the stamp; then it is known, and the ids are not read again. Copied to
 * another time it is read once more; with other ids in it, the form is asked for again. */
static void stamps(void) {
    int64_t n;
    make_ids(300);
    const char *path = raw("kept.bin", 4, N);
    par_tokens_facts f = facts_of(path, PAR_TOKENS_U32);
    CHECK(!f.stamped && !*f.note && temp_count("kept.bin.stamp") == 1, "note: %s", f.note);
    CHECK_OK(open_as(path, PAR_TOKENS_KNOWN, 0, &n));
    f = facts_of(path, PAR_TOKENS_KNOWN);
    CHECK(f.stamped && f.max == 299 && strcmp(f.form, "raw u32") == 0, "%s, %lld", f.form,
          (long long)f.max);
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0, "utimensat");
    f = facts_of(path, PAR_TOKENS_KNOWN);
    CHECK(!f.stamped && strcmp(f.form, "raw u32") == 0, "another time: %s", f.form);
    CHECK(facts_of(path, PAR_TOKENS_KNOWN).stamped, "no new stamp");
    ids[5] = 17;
    raw("kept.bin", 4, N);
    par_tokens *t = NULL;
    CHECK_OK(par_tokens_open(path, &t));
    CHECK_FAILS(par_tokens_check(t, NULL, NULL, &f), PAR_ERR_FORMAT, "nothing else tells its form");
    par_tokens_close(&t);
    raw("kept.bin", 4, N - 1); /* another size */
    CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, 0, &n), PAR_ERR_FORMAT, "u16 or u32");
    temp_text("kept.bin.stamp", "{\"form\": \"u32\", \"type\": 7}\n");
    CHECK_FAILS(open_as(path, PAR_TOKENS_KNOWN, 0, &n), PAR_ERR_FORMAT, "u16 or u32");
}

/* What par data knows is in the stamp that it leaves. */
static void written(void) {
    const char *path = temp_text("three.jsonl", "{\"t\": \"a\"}\n{\"t\": \"b\"}\n{\"t\": \"c\"}\n"),
               *out = temp_path("written.tok");
    const par_corpus corpus = {.n_files = 1, .paths = &path, .field = "t"};
    par_tokenizer *t = NULL;
    CHECK_OK(par_tokenizer_open("bytes", &t));
    CHECK_OK(par_corpus_write_tokens(&corpus, t, false, out, NULL, NULL));
    par_tokens_facts f = facts_of(out, PAR_TOKENS_KNOWN);
    CHECK(f.stamped && f.vocab == 256 && f.n_documents == 3 && f.max == 'c',
          "vocabulary %lld, %lld documents, largest %lld", (long long)f.vocab,
          (long long)f.n_documents, (long long)f.max);
    par_tokenizer_close(&t);
}

static void no_room_for_a_stamp(void) {
    char folder[600];
    make_ids(40000);
    snprintf(folder, sizeof folder, "%s", temp_path("closed"));
    CHECK(mkdir(folder, 0755) == 0, "mkdir");
    const char *path = raw("closed/ids.bin", 2, N);
    /* root may write anywhere: a folder in the stamp's place stops everybody */
    CHECK(mkdir(temp_path("closed/ids.bin.stamp"), 0755) == 0, "mkdir");
    par_tokens_facts f = facts_of(path, PAR_TOKENS_U16);
    CHECK(f.max == 39999 && strstr(f.note, "ids.bin.stamp"), "%lld, note: %s", (long long)f.max,
          f.note);
    CHECK(!facts_of(path, PAR_TOKENS_U16).stamped, "stamped");
    CHECK(rmdir(temp_path("closed/ids.bin.stamp")) == 0, "rmdir");
    temp_remove("closed/ids.bin");
    CHECK(rmdir(folder) == 0, "rmdir");
}

/* A sampler of an open file notices that the file under it was changed; not that another one has
 * its name now. */
static void changed(void) {
    int32_t x[4], targets[4];
    for (int how = 0; how < 3; how++) {
        par_tokens *t = NULL;
        par_sampler *s = NULL;
        make_ids(40000);
        const char *path = raw("changed.bin", 2, N);
        CHECK_OK(par_tokens_open_as(path, &(par_tokens_params){.form = PAR_TOKENS_U16}, &t));
        CHECK_OK(par_sampler_create(&(par_sampler_params){.tokens = t, .T = 4}, &s));
        CHECK_OK(par_tokens_unchanged(t));
        int fd = open(path, O_WRONLY | O_APPEND);
        const struct timespec times[2] = {{1000, 0}, {1000, 0}};
        if (how == 0) CHECK(write(fd, "\1\0", 2) == 2, "write");
        if (how == 1) CHECK(futimens(fd, times) == 0, "futimens");
        if (how == 2) CHECK(rename(raw("next.bin", 2, 10), path) == 0, "rename");
        close(fd);
        par_source source = par_sampler_source(s);
        par_status st = source.read(source.user, 0, 1, x, targets);
        CHECK(st == (how < 2 ? PAR_ERR_IO : PAR_OK), "%d: %s", how, par_error());
        if (how == 0) CHECK(strstr(par_error(), "has 400008"), "%s", par_error());
        if (how == 1) CHECK(strstr(par_error(), "was written to"), "%s", par_error());
        par_sampler_destroy(&s);
        par_tokens_close(&t);
    }
}

static void cut(void *path, int64_t done, int64_t n) {
    (void)done, (void)n;
    CHECK(truncate(path, 0) == 0, "truncate");
}

static par_status cut_text(void *path, const uint8_t *text, size_t n) {
    (void)text, (void)n;
    return truncate(path, 0) == 0 ? PAR_OK : par_error_set(PAR_ERR_INTERNAL, "truncate");
}

/* Files that become shorter while somebody reads them: an error, and nothing is kept of the zeros
 * that were read. */
static void shorter(void) {
    static char lines[1 << 20];
    char path[1024];
    int32_t x[4];
    par_tokens *t = NULL;
    par_tokens_facts facts;
    CHECK_OK(par_guard_files());
    make_ids(40000);
    snprintf(path, sizeof path, "%s", raw("shorter.bin", 2, N));
    CHECK_OK(par_tokens_open_as(path, &(par_tokens_params){.form = PAR_TOKENS_U16}, &t));
    CHECK(truncate(path, 0) == 0, "truncate");
    CHECK_FAILS(par_tokens_read(t, N / 2, 4, x), PAR_ERR_IO, "shorter.bin: became shorter");
    CHECK_FAILS(par_tokens_check(t, cut, path, &facts), PAR_ERR_IO, "shorter.bin: became shorter");
    CHECK(access(temp_path("shorter.bin.stamp"), F_OK) != 0, "there is a stamp of zeros");
    par_tokens_close(&t);
    memset(lines, 'x', sizeof lines);
    for (size_t i = 0; i < sizeof lines; i += 64) memcpy(lines + i, "{\"text\": \"", 10);
    for (size_t i = 63; i < sizeof lines; i += 64) memcpy(lines + i - 2, "\"}\n", 3);
    snprintf(path, sizeof path, "%s", temp_file("shorter.jsonl", lines, sizeof lines));
    const char *paths[] = {path};
    const par_corpus corpus = {.paths = paths, .n_files = 1, .field = "text"};
    CHECK_FAILS(par__corpus_run(&corpus, cut_text, path), PAR_ERR_IO,
                "shorter.jsonl: became shorter");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"widths", widths, 0, NULL, 0},
        {"misread", misread, 0, NULL, 0},
        {"litgpt", check_litgpt, 0, NULL, 0},
        {"prefix", check_prefix, 0, NULL, 0},
        {"foreign", foreign, 0, NULL, 0},
        {"fingerprints", fingerprints, 0, NULL, 0},
        {"stamps", stamps, 0, NULL, 0},
        {"written", written, 0, NULL, 0},
        {"no-room-for-a-stamp", no_room_for_a_stamp, 0, NULL, 0},
        {"changed", changed, 0, NULL, 0},
        {"shorter", shorter, 0, NULL, 0},
    };
    temp_open();
    int rc = harness_main("token-forms", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
