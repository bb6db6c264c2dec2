/* Checkpoints of other forms: a later version's, an older one's, forged ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../harness.h"
#include "fixture.h"
#include "libpar/checkpoint/checkpoint.h"

static fixture f;

/* Its manifest with `to` where `from` was, and the digest that follows from it. */
static void forge(int64_t step, const char *from, const char *to) {
    char hash[PAR__HASH];
    size_t n;
    char *text = fixture_read(fixture_path(&f, step, "manifest.json"), &n);
    char *at = text ? strstr(text, from) : NULL, *tail = at ? strstr(at, ",\n\"hash\"") : NULL;
    char *out = tail ? malloc(n + strlen(to) + 1) : NULL;
    CHECK(out, "the manifest has another form");
    if (out) {
        int k = sprintf(out, "%.*s%s%.*s", (int)(at - text), text, to,
                        (int)(tail - at - (long)strlen(from)), at + strlen(from));
        par__hash(out, (size_t)k, hash);
        k += sprintf(out + k, ",\n\"hash\": \"%s\"\n}\n", hash);
        fixture_write(fixture_path(&f, step, "manifest.json"), out, (size_t)k);
    }
    free(out);
    free(text);
}

/* It is passed over by name, and it is neither replaced nor removed. */
static void later(void) {
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 3, 0));
    forge(3, "libpar checkpoint 2", "libpar checkpoint 9");
    CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "its format is \"libpar checkpoint 9\"; legal: ");
    CHECK_FAILS(fixture_save(&f, 3, 1), PAR_ERR_IO, "is another run's, and is not replaced");
    CHECK_OK(fixture_save(&f, 4, 1));
    CHECK_OK(fixture_save(&f, 5, 1));
    CHECK(fixture_has(&f, 3) && !fixture_has(&f, 4) && fixture_has(&f, 5), "others stay");
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 5, 0), "another one is loaded");
    fixture_close(&f);
}

/* What no run can have written is refused when it is read, and not when it goes on from there. */
static void numbers(void) {
    static const struct {
        const char *from, *to, *text;
    } rows[] = {
        {"\"step\": 3", "\"step\": 100000000", "legal: steps to 99999999"},
        {"\"step\": 3", "\"step\": -1", "step -1"},
        {"\"consumed\": 24", "\"consumed\": 9223372036854775807", "samples that can be added to"},
        {"\"pairs\": [", "\"pairs\": [[\"a\", \"\\u001b[2J\", \"stated\"],", "control characters"},
        {"\"pairs\": [", "\"pairs\": [[\"\\u009b2J\", \"a\", \"stated\"],", "control characters"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture_open(&f);
        CHECK_OK(fixture_save(&f, 3, 0));
        forge(3, rows[i].from, rows[i].to);
        CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, rows[i].text);
        fixture_close(&f);
    }
}

/* A step's directory that was copied to the name of another step is not that step's. */
static void copied(void) {
    char command[2048];
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 3, 0));
    snprintf(command, sizeof command, "cp -r %s %s", fixture_path(&f, 3, ""),
             fixture_in(&f, "step_00000009"));
    CHECK(system(command) == 0, "%s", command);
    CHECK_OK(fixture_load(&f));
    CHECK(f.result.step == 3 && f.result.notes.n == 1 && strstr(f.result.path, "step_00000003") &&
              strstr(f.result.notes.text, "holds step 3, a copy under another name"),
          "%s is loaded: %s", f.result.path, f.result.notes.text);
    snprintf(command, sizeof command, "mv %s %s", fixture_path(&f, 3, ""), fixture_in(&f, "kept"));
    CHECK(system(command) == 0, "%s", command);
    char whole[600];
    snprintf(whole, sizeof whole, "%s", f.directory);
    snprintf(f.directory, sizeof f.directory, "%.500s/kept", whole);
    CHECK_OK(fixture_load(&f)); /* a name that is no step's says nothing */
    snprintf(f.directory, sizeof f.directory, "%.480s/step_00000009/", whole);
    CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "a copy under another name");
    snprintf(f.directory, sizeof f.directory, "%.500s", whole);
    fixture_close(&f);
}

/* Version 1 has no blocks: a run is as large as it is. */
static void old_and_large(void) {
    par_checkpoint *c = NULL;
    char text[2048], hash[PAR__HASH];
    fixture_open(&f);
    CHECK(mkdir(fixture_in(&f, "step_00000003"), 0777) == 0, "no directory");
    int n = snprintf(
        text, sizeof text,
        "{\"format\": \"libpar checkpoint 1\", \"step\": 3, \"consumed\": 0, \"updates\": 0, "
        "\"loss\": 1.0, \"ranks\": 1, \"model\": \"\", \"layout\": \"\", \"options\": \"\",\n"
        "\"shards\": [\n{\"file\":\"rank_00000.h5\",\"nbytes\":5000000000,\"frame\":\"%032d\","
        "\"runs\":[{\"kind\":\"weight\",\"name\":\"a\",\"dtype\":\"fp32\",\"n\":300000000,"
        "\"slice\":{\"global\":[300000000,1],\"offset\":[0,0],\"extent\":[300000000,1],"
        "\"local\":[300000000,1],\"first\":0},\"at\":4096,\"hash\":\"%032d\"}]}]",
        0, 0);
    par__hash(text, (size_t)n, hash);
    n += snprintf(text + n, sizeof text - (size_t)n, ",\n\"hash\": \"%s\"\n}\n", hash);
    fixture_write(fixture_path(&f, 3, "manifest.json"), text, (size_t)n);
    CHECK_OK(par_checkpoint_open(f.directory, NULL, &c));
    par_checkpoint_close(&c);
    fixture_close(&f);
}

static const harness_case cases[] = {{"later", later, 0, NULL, 0},
                                     {"numbers", numbers, 0, NULL, 0},
                                     {"copied", copied, 0, NULL, 0},
                                     {"old-and-large", old_and_large, 0, NULL, 0}};

int main(int argc, char **argv) {
    return harness_main("checkpoint-version", cases, HARNESS_COUNT(cases), argc, argv);
}
