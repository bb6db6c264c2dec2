/*
 * A run's own line of checkpoints: what a run that goes on from an older one sets aside, which
 * stay, and that another's, or a state that is not finite, takes the place of none.
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

static void branch(void) {
    char run[PAR_RUN_ID];
    size_t n;
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    snprintf(run, sizeof run, "%s", par_owner_run(owner));
    for (int64_t step = 1; step <= 5; step++) CHECK_OK(fixture_keep(&f, owner, step, 0, 0, 0, 0));
    par_owner_release(&owner);
    /* as a save that was killed while it replaced them leaves two */
    CHECK(rename(fixture_in(&f, "step_00000004"), fixture_in(&f, "step_00000004.old")) == 0 &&
              mkdir(fixture_in(&f, "step_00000005.old"), 0777) == 0,
          "not set aside");

    const char *second = fixture_path(&f, 2, "");
    CHECK_OK(fixture_claim(&f, second, 0, &owner));
    CHECK_OK(fixture_resume(&f, second, owner));
    CHECK(strstr(f.result.notes.text, "aside.00000001: 3 checkpoints later than step_00000002"),
          "notes: %s", f.result.notes.text);
    CHECK(strcmp(par_owner_run(owner), run) == 0, "it is another run");
    FIXTURE_CHECK_STEPS(&f, "1 2");
    char *latest = fixture_read(fixture_in(&f, "latest"), &n);
    CHECK(latest && strcmp(latest, "step_00000002\n") == 0, "latest is %s", latest);
    free(latest);
    f.version = 1;
    CHECK_OK(fixture_keep(&f, owner, 3, 1, 0, 0, 0));
    FIXTURE_CHECK_STEPS(&f, "3");
    par_owner_release(&owner);
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 3, 1), "the newest is not the branch's");
    CHECK(access(fixture_in(&f, "aside.00000001/step_00000003/manifest.json"), F_OK) == 0 &&
              access(fixture_in(&f, "aside.00000001/step_00000004.old/manifest.json"), F_OK) == 0 &&
              access(fixture_in(&f, "aside.00000001/step_00000005/manifest.json"), F_OK) == 0 &&
              access(fixture_in(&f, "aside.00000001/step_00000005.old"), F_OK) == 0,
          "what was set aside is gone");
    CHECK(fixture_count(&f, ".old") == 0, "one beside a step stays");
    fixture_close(&f);
}

/* From a checkpoint of another directory: a run of its own, which names the other. */
static void elsewhere(void) {
    char run[PAR_RUN_ID];
    fixture other;
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    snprintf(run, sizeof run, "%s", par_owner_run(owner));
    CHECK_OK(fixture_keep(&f, owner, 7, 0, 0, 0, 0));
    par_owner_release(&owner);
    other = f;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, other.directory, 0, &owner));
    CHECK_OK(fixture_resume(&f, other.directory, owner));
    CHECK(strcmp(par_owner_run(owner), run) != 0 && strcmp(par_owner_parent(owner), run) == 0,
          "run %s, parent %s", par_owner_run(owner), par_owner_parent(owner));
    CHECK_OK(fixture_keep(&f, owner, 8, 1, 0, 0, 0));
    par_owner_release(&owner);
    CHECK(fixture_has(&other, 7) && fixture_count(&other, "aside") == 0, "the other's is touched");
    fixture_close(&f);
    fixture_close(&other);
}

/* Checkpoints without a run, or of another: not this owner's to remove. */
static void others_stay(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 1, 0));
    CHECK_OK(fixture_save(&f, 2, 0));
    CHECK_OK(fixture_claim(&f, f.directory, 0, &owner));
    for (int64_t step = 5; step <= 7; step++) CHECK_OK(fixture_keep(&f, owner, step, 1, 0, 0, 0));
    FIXTURE_CHECK_STEPS(&f, "1 2 7");
    CHECK_FAILS(fixture_keep(&f, owner, 2, 1, 0, 0, 0), PAR_ERR_IO, "is another run's");
    par_owner_release(&owner);
    CHECK_FAILS(fixture_save(&f, 7, 1), PAR_ERR_IO, "is another run's");
    CHECK_OK(fixture_save(&f, 2, 1));
    FIXTURE_CHECK_STEPS(&f, "2 7");
    fixture_close(&f);
}

/* The run goes on from a checkpoint that a killed save has set aside, and gives it its name again;
 * a folder of another name that ends the same way is somebody's. */
static void from_aside(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    for (int64_t step = 1; step <= 3; step++) CHECK_OK(fixture_keep(&f, owner, step, 0, 0, 0, 0));
    par_owner_release(&owner);
    CHECK(rename(fixture_in(&f, "step_00000002"), fixture_in(&f, "step_00000002.old")) == 0 &&
              mkdir(fixture_in(&f, "step_best.old"), 0777) == 0,
          "not set aside");
    const char *second = fixture_in(&f, "step_00000002.old");
    CHECK_OK(fixture_claim(&f, second, 0, &owner));
    CHECK_OK(fixture_resume(&f, second, owner));
    CHECK(strstr(f.result.notes.text, "aside.00000001: 1 checkpoint later than step_00000002"),
          "notes: %s", f.result.notes.text);
    FIXTURE_CHECK_STEPS(&f, "1");
    CHECK_OK(fixture_keep(&f, owner, 3, 2, 0, 0, 0));
    FIXTURE_CHECK_STEPS(&f, "2 3");
    CHECK(fixture_count(&f, ".old") == 1 && access(fixture_in(&f, "step_best.old"), F_OK) == 0,
          "a folder of another name is taken for a checkpoint");
    par_owner_release(&owner);
    fixture_close(&f);
}

static void which_stay(void) {
    static const double validation[] = {0, 3, 1.5, 2, 1.5, 0, 2.5, NAN, 4};
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    for (int64_t step = 1; step <= 8; step++)
        CHECK_OK(fixture_keep(&f, owner, step, 2, 3, 2, validation[step]));
    FIXTURE_CHECK_STEPS(&f, "2 3 4 6 7 8");
    CHECK_OK(fixture_keep(&f, owner, 9, 1, 0, 1, 1));
    FIXTURE_CHECK_STEPS(&f, "9");
    par_owner_release(&owner);
    fixture_close(&f);
}

/* Not the loss alone. */
static void non_finite(void) {
    static uint16_t half[9000];
    par_checkpoint_run more[FIXTURE_RUNS + 1];
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 1, 1));
    const par_checkpoint_params params = {
        .directory = f.directory, .keep = 1, .step = 2, .loss = 2.5};
    f.a[30] = -INFINITY;
    CHECK_FAILS(par_checkpoint_save(f.world, &params, f.runs, FIXTURE_RUNS, &f.result),
                PAR_ERR_NUMERIC, "weight/a: element 30 of this rank's 37 is not finite");
    f.a[30] = 1;
    memcpy(more, f.runs, sizeof f.runs);
    for (int i = 0; i < 2; i++) {
        more[FIXTURE_RUNS] = (par_checkpoint_run){
            .kind = "m", .name = "h", .n = 9000, .dtype = i ? PAR_BF16 : PAR_F16, .data = half};
        half[8999] = i ? 0x7fc0 : 0xfc00;
        CHECK_FAILS(par_checkpoint_save(f.world, &params, more, FIXTURE_RUNS + 1, &f.result),
                    PAR_ERR_NUMERIC, "m/h: element 8999");
        half[8999] = 0x7bff; /* the largest of fp16; a number in bf16 too */
        CHECK_OK(par_checkpoint_save(f.world, &params, more, FIXTURE_RUNS + 1, &f.result));
    }
    fixture_close(&f);
}

/* What a killed save left beside a step's own checkpoint stays until that has been read: its data
 * may be damaged though its manifest is whole. */
static void aside_of_a_damaged_one(void) {
    char command[2048];
    size_t n;
    if (fixture_cannot()) return;
    for (int damaged = 0; damaged < 2; damaged++) {
        fixture_open(&f);
        f.version = 1;
        CHECK_OK(fixture_save(&f, 2, 0));
        snprintf(command, sizeof command, "cp -r %s %s", fixture_path(&f, 2, ""),
                 fixture_in(&f, "aside"));
        CHECK(system(command) == 0, "%s", command);
        f.version = 2;
        CHECK_OK(fixture_save(&f, 2, 0));
        CHECK(rename(fixture_in(&f, "aside"), fixture_in(&f, "step_00000002.old")) == 0,
              "no aside");
        char *data = fixture_read(fixture_path(&f, 2, "rank_00000.h5"), &n);
        if (data && damaged) data[n - 1] ^= 1;
        if (data) fixture_write(fixture_path(&f, 2, "rank_00000.h5"), data, n);
        free(data);
        CHECK_OK(fixture_save(&f, 3, 0));
        CHECK(fixture_count(&f, ".old") == 0, "the one aside is still there");
        snprintf(command, sizeof command, "rm -r %s", fixture_path(&f, 3, ""));
        CHECK(system(command) == 0, "%s", command);
        CHECK_OK(fixture_load(&f));
        CHECK(f.result.step == 2 && f.result.notes.n == 0 && fixture_holds(&f, 2, damaged ? 1 : 2),
              "damaged %d: step %lld, of another version: %s", damaged, (long long)f.result.step,
              f.result.notes.text);
        fixture_close(&f);
    }
}

/* Links in the directory are not followed: what lies elsewhere is not this run's to remove. */
static void links(void) {
    static const char *const names[] = {"step_00000001.tmp-1", "step_00000001.tmp-old",
                                        "step_00000002"};
    par_owner *owner = NULL;
    char own[600], command[2048];
    if (fixture_cannot()) return;
    for (int i = 0; i < 3; i++) {
        fixture_open(&f);
        CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
        CHECK_OK(fixture_keep(&f, owner, 2, 0, 0, 0, 0));
        snprintf(own, sizeof own, "%s", fixture_in(&f, "elsewhere"));
        CHECK(rename(fixture_path(&f, 2, ""), own) == 0 &&
                  symlink("elsewhere", fixture_in(&f, names[i])) == 0,
              "no link");
        for (int64_t step = 3; step <= 5; step++)
            CHECK_OK(fixture_keep(&f, owner, step, 1, 0, 0, 0));
        CHECK(f.result.notes.n == 0, "%s: %s", names[i], f.result.notes.text);
        snprintf(command, sizeof command, "test -f %s/rank_00000.h5 -a -f %s/manifest.json", own,
                 own);
        CHECK(system(command) == 0, "%s: what it points to was emptied", names[i]);
        CHECK(fixture_count(&f, names[i]) == (i == 2), "%s: %d are there", names[i],
              fixture_count(&f, names[i]));
        par_owner_release(&owner);
        fixture_close(&f);
    }
}

static const harness_case cases[] = {
    {"aside-of-a-damaged-one", aside_of_a_damaged_one, 0, NULL, 0},
    {"links", links, 0, NULL, 0},

    {"branch", branch, 0, NULL, 0},
    {"elsewhere", elsewhere, 0, NULL, 0},
    {"others-stay", others_stay, 0, NULL, 0},
    {"which-stay", which_stay, 0, NULL, 0},
    {"non-finite", non_finite, 0, NULL, 0},
    {"from-aside", from_aside, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("lines", cases, HARNESS_COUNT(cases), argc, argv);
}
