/* A checkpoint of a form that a later version has written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "fixture.h"
#include "libpar/checkpoint/checkpoint.h"

static fixture f;

/* Its number, and the digest that follows from it. */
static void make_later(int64_t step) {
    static const char form[] = "libpar checkpoint 2";
    char hash[PAR__HASH];
    size_t n;
    char *text = fixture_read(fixture_path(&f, step, "manifest.json"), &n);
    char *version = text ? strstr(text, form) : NULL,
         *tail = text ? strstr(text, ",\n\"hash\"") : NULL;
    CHECK(version && tail, "the manifest has another form");
    if (version && tail) {
        version[sizeof form - 2] = '9';
        par__hash(text, (size_t)(tail - text), hash);
        memcpy(strchr(tail, ':') + 3, hash, PAR__HASH - 1);
        fixture_write(fixture_path(&f, step, "manifest.json"), text, n);
    }
    free(text);
}

/* It is passed over by name, and it is neither replaced nor removed. */
static void later(void) {
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 3, 0));
    make_later(3);
    CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "its format is \"libpar checkpoint 9\"; legal: ");
    CHECK_FAILS(fixture_save(&f, 3, 1), PAR_ERR_IO, "is another run's, and is not replaced");
    CHECK_OK(fixture_save(&f, 4, 1));
    CHECK_OK(fixture_save(&f, 5, 1));
    CHECK(fixture_has(&f, 3) && !fixture_has(&f, 4) && fixture_has(&f, 5), "others stay");
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 5, 0), "another one is loaded");
    fixture_close(&f);
}

static const harness_case cases[] = {{"later", later, 0, NULL, 0}};

int main(int argc, char **argv) {
    return harness_main("checkpoint-version", cases, HARNESS_COUNT(cases), argc, argv);
}
