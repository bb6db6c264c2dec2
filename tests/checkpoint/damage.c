/*
 * Checkpoints on disk: what was saved comes back; every flipped byte, every truncation and every
 * missing file is found before anything is written to memory; the newest that verifies is taken;
 * old ones go only after a new one; h5dump, which knows nothing of our manifest, reads the same
 * numbers.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "fixture.h"

static fixture f;

static void round_trip(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_load(&f));
    CHECK(!*f.result.path && fixture_poisoned(&f), "something was loaded from an empty directory");
    CHECK_OK(fixture_save(&f, 120, 0));
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 120, 0), "other numbers come back");
    CHECK(f.result.step == 120 && f.result.consumed == 960 && f.result.updates == 120 &&
              f.result.loss == 2.5 && f.result.n_ranks == 1 && f.result.notes.n == 0,
          "step %lld, %lld samples, %lld updates, loss %g, notes %s", (long long)f.result.step,
          (long long)f.result.consumed, (long long)f.result.updates, f.result.loss,
          f.result.notes.text);
    CHECK(strstr(f.result.path, "/step_00000120"), "path %s", f.result.path);
    CHECK(fixture_count(&f, "") == 2 && fixture_count(&f, "latest") == 1, "%d entries",
          fixture_count(&f, ""));
    /* again, at the same step: one takes the other's place */
    CHECK_OK(fixture_save(&f, 120, 0));
    CHECK(fixture_count(&f, "") == 2, "%d entries after a second save", fixture_count(&f, ""));
    CHECK_OK(fixture_load(&f));
    fixture_close(&f);
}

/* A load must fail as damaged and leave memory as it was. */
static bool detected(const char *what, size_t at) {
    par_status st = fixture_load(&f);
    CHECK(st == PAR_ERR_FORMAT || st == PAR_ERR_IO, "%s %zu: %s: %s", what, at, par_status_text(st),
          par_error());
    CHECK(fixture_poisoned(&f), "%s %zu: memory was written", what, at);
    return !harness_failed();
}

/* All 255 other values of a byte would be 255 times as slow: one bit, then all bits. */
static void flips(const char *name) {
    if (fixture_cannot()) return;
    size_t n = 0;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 7, 0));
    const char *path = fixture_path(&f, 7, name);
    char *data = fixture_read(path, &n);
    CHECK(data && n > 0, "%s is not there", path);
    for (size_t i = 0; data && i < n && !harness_failed(); i++) {
        const int masks[] = {1 << (i % 8), 0xff};
        for (int k = 0; k < 2; k++) {
            data[i] ^= (char)masks[k];
            fixture_write(path, data, n);
            data[i] ^= (char)masks[k];
            if (!detected("flip of byte", i)) break;
        }
    }
    if (data) fixture_write(path, data, n);
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 7, 0), "the undamaged file does not load");
    free(data);
    fixture_close(&f);
}

static void flips_manifest(void) {
    flips("manifest.json");
}
static void flips_shard(void) {
    flips("rank_00000.h5");
}

static void lengths(const char *name) {
    if (fixture_cannot()) return;
    size_t n = 0;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 7, 0));
    const char *path = fixture_path(&f, 7, name);
    char *data = fixture_read(path, &n), *more = calloc(1, n + 9);
    for (size_t i = 0; data && i < n && !harness_failed(); i++) {
        fixture_write(path, data, i);
        detected("length", i);
    }
    if (data && more) memcpy(more, data, n);
    for (size_t i = n + 1; more && i <= n + 9 && !harness_failed(); i++) {
        fixture_write(path, more, i);
        detected("length", i);
    }
    CHECK(unlink(path) == 0, "cannot remove %s", path);
    detected("missing file, bytes", 0);
    free(data);
    free(more);
    fixture_close(&f);
}

static void lengths_manifest(void) {
    lengths("manifest.json");
}
static void lengths_shard(void) {
    lengths("rank_00000.h5");
}

static void spoil(int64_t step, const char *name) {
    size_t n = 0;
    const char *path = fixture_path(&f, step, name);
    char *data = fixture_read(path, &n);
    if (data) data[n / 2] ^= 0x10;
    if (data) fixture_write(path, data, n);
    free(data);
}

static void fallback(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    for (int64_t step = 1; step <= 3; step++) CHECK_OK(fixture_save(&f, step, 0));
    spoil(3, "manifest.json");
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 2, 0) && f.result.step == 2, "step %lld was loaded",
          (long long)f.result.step);
    CHECK(f.result.notes.n == 1 && strstr(f.result.notes.text, "step_00000003"), "notes: %s",
          f.result.notes.text);
    spoil(2, "rank_00000.h5");
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 1, 0) && f.result.notes.n == 2, "step %lld, notes: %s",
          (long long)f.result.step, f.result.notes.text);
    /* one whose manifest is damaged does not count as kept */
    CHECK_OK(fixture_save(&f, 4, 2));
    CHECK(fixture_has(&f, 2) && fixture_has(&f, 4) && !fixture_has(&f, 1),
          "not the two newest manifests stay");
    spoil(4, "rank_00000.h5");
    CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "no checkpoint in it verifies");
    CHECK(fixture_poisoned(&f), "memory was written");
    fixture_close(&f);
}

/* A byte of b in the file of this step. */
static void spoil_b(int64_t step) {
    size_t n = 0;
    const char *path = fixture_path(&f, step, "rank_00000.h5");
    char *data = fixture_read(path, &n), *b;
    fixture_fill(&f, step);
    b = data ? memmem(data, n, f.b, sizeof f.b) : NULL;
    CHECK(b, "%s has no b", path);
    if (b) b[3] ^= 1;
    if (b) fixture_write(path, data, n);
    free(data);
}

/* Runs that may be overwritten are filled while blocks are verified: a damaged checkpoint may leave
 * something in them, the older one then all. What is optional is not touched before. */
static void overwrite(void) {
    if (fixture_cannot()) return;
    const par_checkpoint_about about = {.overwrite = true};
    fixture_open(&f);
    for (int64_t step = 1; step <= 2; step++) CHECK_OK(fixture_save(&f, step, 0));
    fixture_poison(&f);
    CHECK_OK(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result));
    CHECK(fixture_holds(&f, 2, 0) && f.result.nbytes == 37 * 4 + 11 * 8, "%lld bytes read",
          (long long)f.result.nbytes);
    spoil_b(2);
    fixture_poison(&f);
    CHECK_OK(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result));
    CHECK(fixture_holds(&f, 1, 0) && f.result.notes.n == 1, "step %lld, notes: %s",
          (long long)f.result.step, f.result.notes.text);
    spoil_b(1);
    fixture_poison(&f);
    f.runs[1].optional = true;
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_FORMAT, "no checkpoint in it verifies");
    fixture poisoned;
    fixture_poison(&poisoned);
    CHECK(memcmp(f.b, poisoned.b, sizeof f.b) == 0, "what is optional was written");
    CHECK(memcmp(f.a, poisoned.a, sizeof f.a) != 0, "a was not read as it was verified");
    fixture_close(&f);
}

static void keep(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    for (int64_t step = 10; step <= 50; step += 10) {
        CHECK_OK(fixture_save(&f, step, 2));
        CHECK(f.result.notes.n == 0, "%s", f.result.notes.text);
        CHECK(fixture_count(&f, "step_") == (step == 10 ? 1 : 2), "%d stay after step %lld",
              fixture_count(&f, "step_"), (long long)step);
    }
    CHECK(fixture_has(&f, 40) && fixture_has(&f, 50), "others than the newest stay");
    /* what a killed save leaves goes with the next one; what is not ours stays */
    char path[600], left[600];
    snprintf(left, sizeof left, "%s/step_00000060.tmp-1", f.directory);
    CHECK(mkdir(left, 0777) == 0, "cannot make %s", left);
    snprintf(path, sizeof path, "%s/notes.txt", f.directory);
    fixture_write(path, "x", 1);
    CHECK_OK(fixture_save(&f, 60, 2));
    CHECK(access(path, F_OK) == 0, "another file was removed");
    CHECK(fixture_count(&f, "step_") == 2 && fixture_count(&f, "tmp") == 0,
          "too many or temporary ones stay");
    fixture_close(&f);
}

static void refused(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 5, 1));
    const par_checkpoint_pair model = {"model", "three arrays", PAR_CHECKPOINT_EQUAL};
    const par_checkpoint_pair options[] = {{"options", "other", PAR_CHECKPOINT_NOTED},
                                           {"color", "blue", PAR_CHECKPOINT_EQUAL}};
    par_checkpoint_about about = {.pairs = &model, .n = 1};
    fixture_poison(&f);
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_OPTION, "its model is \"two arrays\"; this run's is \"three arrays\"");
    about = (par_checkpoint_about){.pairs = options, .n = 2};
    f.runs[0].name = "c";
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_OPTION, "has no weight/c");
    f.runs[0].name = "a";
    f.runs[0].global[0]++;
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_OPTION, "its weight/a is [37, 1]; this run's is [38, 1]");
    f.runs[0].global[0]--;
    f.runs[1].dtype = PAR_F32;
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_OPTION, "its state/b is int64; this run's is fp32");
    f.runs[1].dtype = PAR_I64;
    about.memory = 1000;
    CHECK_FAILS(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result),
                PAR_ERR_OPTION, "allowed are 0.0 MiB");
    about.memory = 0;
    CHECK(fixture_poisoned(&f), "memory was written");
    CHECK_OK(par_checkpoint_load(f.world, f.directory, &about, f.runs, 2, &f.result));
    CHECK(strstr(f.result.notes.text, "options: none when saved, now other") &&
              f.result.notes.n == 1,
          "notes: %s", f.result.notes.text);
    CHECK(f.result.memory > 0 && f.result.nbytes == 37 * 4 + 11 * 8,
          "%zu bytes of memory, %lld read", f.result.memory, (long long)f.result.nbytes);
    /* one checkpoint by its own name */
    char path[600];
    snprintf(path, sizeof path, "%s/step_00000005", f.directory);
    CHECK_OK(par_checkpoint_load(f.world, path, &about, f.runs, 2, &f.result));
    CHECK(fixture_holds(&f, 5, 0), "other numbers come back");
    fixture_close(&f);
}

static void nonfinite(void) {
    if (fixture_cannot()) return;
    const double losses[] = {NAN, INFINITY};
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 5, 1));
    for (int i = 0; i < 2; i++) {
        const par_checkpoint_params params = {
            .directory = f.directory, .keep = 1, .step = 6, .loss = losses[i]};
        CHECK_FAILS(par_checkpoint_save(f.world, &params, f.runs, 2, &f.result), PAR_ERR_NUMERIC,
                    "loss");
    }
    CHECK(fixture_count(&f, "step_") == 1 && fixture_has(&f, 5), "the healthy one is gone");
    fixture_close(&f);
}

/* The manifest says where a data set lies; h5dump must find the same numbers by HDF5's own
 * rules. */
static void read_by_h5dump(void) {
    if (fixture_cannot()) return;
    if (system("h5dump --version >/dev/null 2>&1") != 0) {
        harness_skip("no h5dump here (package hdf5-tools)");
        return;
    }
    char command[1024];
    int n = 0;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 5, 1));
    snprintf(command, sizeof command, "h5dump -y -w 1 -m %%.9g -d /weight/a '%s' 2>&1",
             fixture_path(&f, 5, "rank_00000.h5"));
    FILE *pipe = popen(command, "r");
    bool inside = false;
    for (char line[256]; pipe && fgets(line, sizeof line, pipe);) {
        if (strstr(line, "DATA {")) {
            inside = true;
        } else if (inside && n < FIXTURE_A) {
            CHECK((float)atof(line) == f.a[n], "element %d is %s", n, line);
            n++;
        }
    }
    CHECK(pipe && pclose(pipe) == 0 && n == FIXTURE_A, "h5dump read %d numbers of %d", n,
          FIXTURE_A);
    fixture_close(&f);
}

static const harness_case cases[] = {
    {"round-trip", round_trip, 0, NULL, 0},
    {"every-byte-of-the-manifest", flips_manifest, 0, NULL, 0},
    {"every-byte-of-a-shard", flips_shard, 0, NULL, 0},
    {"every-length-of-the-manifest", lengths_manifest, 0, NULL, 0},
    {"every-length-of-a-shard", lengths_shard, 0, NULL, 0},
    {"fallback", fallback, 0, NULL, 0},
    {"overwrite", overwrite, 0, NULL, 0},
    {"keep", keep, 0, NULL, 0},
    {"another-model-or-layout", refused, 0, NULL, 0},
    {"nonfinite-loss", nonfinite, 0, NULL, 0},
    {"h5dump", read_by_h5dump, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("checkpoint", cases, HARNESS_COUNT(cases), argc, argv);
}
