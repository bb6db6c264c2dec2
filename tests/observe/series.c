/*
 * Series of a run as CSV and as TensorBoard's event files. Event files are read by a reader of this
 * test's own, with a table-driven CRC-32C that is checked against RFC 3720's vectors. What a
 * resumed run continues is byte for byte what an undisturbed one writes, but for times, and in
 * event files for what is taken back.
 */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "par/series.h"

static char folder[64];
static const par_series_start anew = {0};

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *read_text(const char *path, size_t *n) {
    static char text[1 << 16];
    FILE *f = fopen(path, "rb");
    *n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[*n] = 0;
    return text;
}

static par_series_point step(int64_t n, double loss) {
    return (par_series_point){.step = n,
                              .loss = loss,
                              .seconds = 0.25,
                              .grad_norm = 1.0 / (double)n,
                              .lr = 3e-4,
                              .tokens_per_s = 1024,
                              .mfu = n == 1 ? -1 : 0.375};
}

static par_series_point valid(int64_t n, double loss) {
    return (par_series_point){.validation = true, .step = n, .loss = loss, .seconds = 2};
}

typedef par_status (*opener)(const char *, const par_series_start *, bool *, par_series **);

/* Steps first to last with a validation after every second one; the loss of step n is 10 - n/3. */
static bool run(opener open, const char *path, const par_series_start *start, int64_t last) {
    par_series *s = NULL;
    bool has = false;
    CHECK_OK(open(path, start, &has, &s));
    if (!s) return false;
    if (start->step % 2 == 0 && start->step && !has) {
        par_series_point p = valid(start->step, 10);
        CHECK_OK(par_series_add(s, &p));
    }
    for (int64_t n = start->step + 1; n <= last; n++) {
        par_series_point p = step(n, 10 - (double)n / 3), v = valid(n, 10);
        CHECK_OK(par_series_add(s, &p));
        if (n % 2 == 0) CHECK_OK(par_series_add(s, &v));
    }
    par_series_close(&s);
    return has;
}

#define HEAD "event,step,loss,grad_norm,lr,seconds,tokens_per_s,mfu\n"

static void csv(void) {
    char path[512], whole[4096];
    size_t n;
    snprintf(path, sizeof path, "%s", path_of("a.csv"));
    run(par_series_open_csv, path, &anew, 3);
    CHECK(strcmp(read_text(path, &n),
                 HEAD "step,1,9.666666666666666,1,0.0003,0.25,1024,\n"
                      "step,2,9.333333333333334,0.5,0.0003,0.25,1024,0.375\n"
                      "validation,2,10,,,2,,\n"
                      "step,3,9,0.3333333333333333,0.0003,0.25,1024,0.375\n") == 0,
          "%s", read_text(path, &n));
    run(par_series_open_csv, path_of("whole.csv"), &anew, 9);
    snprintf(whole, sizeof whole, "%.4095s", read_text(path_of("whole.csv"), &n));
    /* killed after step 7, in the middle of a line; resumed from a checkpoint of step 4 */
    run(par_series_open_csv, path_of("b.csv"), &anew, 7);
    FILE *f = fopen(path_of("b.csv"), "a");
    if (f) fputs("step,8,7.3", f), fclose(f);
    const par_series_start four = {4, 10 - 4.0 / 3, false};
    CHECK(run(par_series_open_csv, path_of("b.csv"), &four, 9), "the validation of step 4");
    CHECK(strcmp(read_text(path_of("b.csv"), &n), whole) == 0, "continued: %s",
          read_text(path_of("b.csv"), &n));
    /* a second run appends; resuming it leaves the first one alone */
    run(par_series_open_csv, path_of("b.csv"), &anew, 6);
    run(par_series_open_csv, path_of("b.csv"), &four, 9);
    const char *text = read_text(path_of("b.csv"), &n);
    CHECK(n == 2 * strlen(whole) - strlen(HEAD) && strncmp(text, whole, strlen(whole)) == 0 &&
              strcmp(text + strlen(whole), whole + strlen(HEAD)) == 0,
          "two runs: %s", text);
    /* one that began with a checkpoint of step 4, which is in no line, and began there again */
    const par_series_start begun = {4, 10 - 4.0 / 3, true};
    par_series *s = NULL;
    run(par_series_open_csv, path_of("h.csv"), &four, 7);
    CHECK_FAILS(par_series_open_csv(path_of("h.csv"), &four, NULL, &s), PAR_ERR_FORMAT,
                "has later steps than the checkpoint's, and not that one");
    run(par_series_open_csv, path_of("h.csv"), &begun, 9);
    text = read_text(path_of("h.csv"), &n);
    CHECK(strcmp(text + strlen(HEAD), strstr(whole, "validation,4,")) == 0, "begun again: %s",
          text);
    CHECK_FAILS(par_series_open_csv(path_of("h.csv"), &(par_series_start){5, 1, true}, NULL, &s),
                PAR_ERR_FORMAT, "another loss than the checkpoint");
    CHECK_FAILS(par_series_open_csv(path_of("h.csv"), &(par_series_start){3, 1, true}, NULL, &s),
                PAR_ERR_FORMAT, "has later steps");
    /* the first one may be another run */
    f = fopen(path_of("g.csv"), "w");
    if (f) fputs(HEAD "step,4,1,1,1,1,1,\nstep,9,1,1,1,1,1,\n", f), fclose(f);
    run(par_series_open_csv, path_of("g.csv"), &anew, 6);
    CHECK(run(par_series_open_csv, path_of("g.csv"), &four, 9), "behind another run");
    text = read_text(path_of("g.csv"), &n);
    CHECK(n > 60 && strcmp(strstr(text, "step,1,"), whole + strlen(HEAD)) == 0, "%s", text);
}

static void csv_refused(void) {
    par_series *s = NULL;
    const par_series_start four = {4, 10 - 4.0 / 3, false}, other = {4, 8.5, false},
                           far = {4, 1, false};
    char before[4096];
    size_t n;
    run(par_series_open_csv, path_of("c.csv"), &anew, 7);
    snprintf(before, sizeof before, "%.4095s", read_text(path_of("c.csv"), &n));
    CHECK_FAILS(par_series_open_csv(path_of("c.csv"), &other, NULL, &s), PAR_ERR_FORMAT,
                "another loss than the checkpoint");
    CHECK(strcmp(read_text(path_of("c.csv"), &n), before) == 0, "it was changed");
    FILE *f = fopen(path_of("d.csv"), "w");
    if (f) fputs("time,step\n1,2\n", f), fclose(f);
    CHECK_FAILS(par_series_open_csv(path_of("d.csv"), &anew, NULL, &s), PAR_ERR_FORMAT,
                "offset 0: is not a record");
    f = fopen(path_of("e.csv"), "w");
    if (f) fputs(HEAD "step,5,8.3,1,1,1,1,\n", f), fclose(f);
    CHECK_FAILS(par_series_open_csv(path_of("e.csv"), &four, NULL, &s), PAR_ERR_FORMAT,
                "and not that one");
    f = fopen(path_of("f.csv"), "w");
    if (f) fputs(HEAD "step,five,8.3\n", f), fclose(f);
    CHECK_FAILS(par_series_open_csv(path_of("f.csv"), &far, NULL, &s), PAR_ERR_FORMAT,
                "is not a record");
    CHECK_FAILS(par_series_open_csv("/nowhere/a.csv", &anew, NULL, &s), PAR_ERR_IO, "/nowhere");
}

/* CRC-32C by a table of remainders of bytes. */
static uint32_t crc_of(const unsigned char *data, size_t n) {
    uint32_t table[256], crc = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] & 1 ? 0x82f63b78u ^ (table[i] >> 1) : table[i] >> 1;
    }
    for (size_t i = 0; i < n; i++) crc = table[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

static uint64_t little(const unsigned char *p, int n) {
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static uint32_t unmask(uint64_t masked) {
    uint32_t rotated = (uint32_t)masked - 0xa282ead8u;
    return rotated >> 17 | rotated << 15;
}

/* The float behind a tag in a message; NaN: it is not there. Tags are unique byte strings here. */
static double value_of(const unsigned char *data, size_t n, const char *tag) {
    size_t m = strlen(tag);
    for (size_t i = 0; i + m + 5 <= n; i++) {
        float f;
        if (data[i] != m || memcmp(data + i + 1, tag, m) != 0 || data[i + 1 + m] != 0x15) continue;
        memcpy(&f, data + i + 2 + m, sizeof f);
        return f;
    }
    return NAN;
}

/* The event file of a directory, and how many there are. */
static int find_events(const char *directory, char path[512]) {
    DIR *d = opendir(directory);
    int n = 0;
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (!strstr(e->d_name, "tfevents")) continue;
        n++;
        snprintf(path, 512, "%.200s/%.250s", directory, e->d_name);
    }
    if (d) closedir(d);
    return n;
}

/* All records: "version;1 9.66667;2 9.33333;v2 10;..." */
static void describe(const char *path, char *text, size_t nbytes) {
    size_t n, used = 0;
    const unsigned char *data = (const unsigned char *)read_text(path, &n);
    text[0] = 0;
    for (size_t at = 0; at < n && used < nbytes;) {
        const unsigned char *r = data + at, *event = r + 12;
        size_t m = n - at >= 16 ? (size_t)little(r, 8) : 0;
        if (n - at < 16 || m > n - at - 16 || crc_of(r, 8) != unmask(little(r + 8, 4)) ||
            crc_of(event, m) != unmask(little(event + m, 4)) || event[0] != 0x09 ||
            event[9] != 0x10) {
            snprintf(text + used, nbytes - used, "broken at %zu", at);
            return;
        }
        double loss = value_of(event, m, "loss/train"), v = value_of(event, m, "loss/validation");
        if (m > 13 && memcmp(event + m - 13, "brain.Event:2", 13) == 0)
            used += (size_t)snprintf(text + used, nbytes - used, "version;");
        else if (m == 15 && memcmp(event + 11, "\x3a\x02\x08\x01", 4) == 0)
            used += (size_t)snprintf(text + used, nbytes - used, "start %d;", event[10]);
        else if (!isnan(v))
            used += (size_t)snprintf(text + used, nbytes - used, "v%d %g;", event[10], v);
        else
            used += (size_t)snprintf(text + used, nbytes - used, "%d %g %g %g;", event[10], loss,
                                     value_of(event, m, "grad_norm"), value_of(event, m, "mfu"));
        at += 16 + m;
    }
}

/* What TensorBoard sees of a description: a start drops the points of its step and later ones. */
static void drop(char *text) {
    for (char *at; (at = strstr(text, "start "));) {
        int from = atoi(at + 6), step = 0;
        char *end = strchr(at, ';') + 1, *c = strchr(text, ';') + 1;
        while (c < at && (step = atoi(c + (*c == 'v'))) < from) c = strchr(c, ';') + 1;
        memmove(c, end, strlen(end) + 1);
    }
}

static void events(void) {
    char path[512], other[512], text[4096], want[2048];
    CHECK(crc_of((const unsigned char
                      *)"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                 32) == 0x8a9136aau,
          "the test's own CRC-32C");
    run(par_series_open_events, path_of("tb"), &anew, 3);
    CHECK(find_events(path_of("tb"), path) == 1, "one file");
    describe(path, text, sizeof text);
    CHECK(strcmp(text, "version;1 9.66667 1 nan;2 9.33333 0.5 0.375;v2 10;3 9 0.333333 0.375;") ==
              0,
          "%s", text);
    run(par_series_open_events, path_of("whole"), &anew, 9);
    find_events(path_of("whole"), other);
    describe(other, want, sizeof want);
    run(par_series_open_events, path_of("cut"), &anew, 7);
    find_events(path_of("cut"), path);
    size_t n;
    read_text(path, &n);
    CHECK(truncate(path, (off_t)n - 7) == 0, "truncate");
    const par_series_start four = {4, 10 - 4.0 / 3, false}, wrong = {4, 8, false};
    par_series *s = NULL;
    CHECK_FAILS(par_series_open_events(path_of("cut"), &wrong, NULL, &s), PAR_ERR_FORMAT,
                "another loss");
    CHECK(run(par_series_open_events, path_of("cut"), &four, 9), "the validation of step 4");
    CHECK(find_events(path_of("cut"), path) == 1, "a resumed run has the same file");
    describe(path, text, sizeof text);
    CHECK(strstr(text, ";7 ") && strstr(text, ";start 5;start 5;"), "no start: %s", text);
    drop(text);
    CHECK(strcmp(text, want) == 0, "%s instead of %s", text, want);
    /* again, from an earlier and from a later checkpoint, with other losses in between */
    const par_series_start two = {2, 10 - 2.0 / 3, false}, six = {6, 8, false},
                           eight = {8, 10 - 8.0 / 3, false};
    run(par_series_open_events, path_of("cut"), &two, 5);
    CHECK_OK(par_series_open_events(path_of("cut"), &two, NULL, &s));
    for (int64_t i = 3; i <= 7 && s; i++) {
        par_series_point p = step(i, 8);
        CHECK_OK(par_series_add(s, &p));
    }
    par_series_close(&s);
    CHECK_FAILS(par_series_open_events(path_of("cut"), &four, NULL, &s), PAR_ERR_FORMAT,
                "another loss");
    CHECK_OK(par_series_open_events(path_of("cut"), &six, NULL, &s));
    par_series_close(&s);
    run(par_series_open_events, path_of("cut"), &two, 8);
    run(par_series_open_events, path_of("cut"), &eight, 9);
    describe(path, text, sizeof text);
    drop(text);
    CHECK(strcmp(text, want) == 0, "%s instead of %s", text, want);
    /* a new run has a file of its own, and a damaged one is not continued */
    run(par_series_open_events, path_of("cut"), &anew, 2);
    CHECK(find_events(path_of("cut"), path) == 2, "two files");
    find_events(path_of("whole"), path);
    FILE *f = fopen(path, "r+b");
    if (f) fseek(f, 100, SEEK_SET), fputc('!', f), fclose(f);
    CHECK_FAILS(par_series_open_events(path_of("whole"), &four, NULL, &s), PAR_ERR_FORMAT,
                "is not a record");
}

/* Every third byte of a file flipped, and every third length of it: refused, or cut at a record's
 * end. */
static void damaged(void) {
    const par_series_start two = {2, 10 - 2.0 / 3, false};
    char path[512];
    size_t n;
    run(par_series_open_events, path_of("hurt"), &anew, 3);
    find_events(path_of("hurt"), path);
    unsigned char *sound = malloc(1 << 16);
    if (!sound) return;
    memcpy(sound, read_text(path, &n), 1 << 16);
    for (size_t i = 0; i < 2 * n; i += 3) {
        par_series *s = NULL;
        FILE *f = fopen(path, "wb");
        if (!f) break;
        if (i < n) sound[i] ^= 0x41;
        fwrite(sound, 1, i < n ? n : i - n, f);
        fclose(f);
        if (i < n) sound[i] ^= 0x41;
        par_status st = par_series_open_events(path_of("hurt"), &two, NULL, &s);
        par_series_close(&s);
        char text[2048];
        describe(path, text, sizeof text);
        bool whole = !strstr(text, "broken") && strncmp(text, "version;", 8) == 0;
        CHECK(st == PAR_ERR_FORMAT || (st == PAR_OK && whole), "byte %zu: %s", i, text);
    }
    free(sound);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"csv", csv, 0, NULL, 0},
        {"csv-refused", csv_refused, 0, NULL, 0},
        {"events", events, 0, NULL, 0},
        {"damaged", damaged, 0, NULL, 0},
    };
    snprintf(folder, sizeof folder, "/tmp/par-series-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int status = harness_main("series", cases, HARNESS_COUNT(cases), argc, argv);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? status : 1;
}
