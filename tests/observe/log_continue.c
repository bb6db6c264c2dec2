/*
 * Logs that a resumed run continues: what stays is byte for byte what stood there, what another run
 * or another program wrote is never touched, and numbers read back as the doubles that went in.
 */
#define _XOPEN_SOURCE 700
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <unistd.h>

#include "../harness.h"
#include "par/observe.h"

static char folder[64];

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text) {
    FILE *f = fopen(path_of(name), "wb");
    CHECK(f && fwrite(text, 1, strlen(text), f) == strlen(text), "%s cannot be written", name);
    if (f) fclose(f);
}

static const char *read_text(const char *name) {
    static char text[1 << 16];
    FILE *f = fopen(path_of(name), "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return text;
}

#define START "{\"event\": \"start\", \"model\": \"x\"}\n"
#define STEP(n, l)                                                                                 \
    "{\"event\": \"step\", \"step\": " #n ", \"loss\": " #l ", \"measured\": {\"seconds\": 1}}\n"
#define VAL(n, l)    "{\"event\": \"validation\", \"step\": " #n ", \"loss\": " #l "}\n"
#define RESUME(n, l) "{\"event\": \"resume\", \"step\": " #n ", \"loss\": " #l "}\n"

static void check_text(const char *name, const char *want) {
    CHECK(strcmp(read_text(name), want) == 0, "%s holds:\n%s", name, read_text(name));
}

/* An earlier run in the file has the same steps: it stays. */
static void run_cut(void) {
    par_log_history h;
    write_text("log", START STEP(1, 9) STEP(2, 8) STEP(9, 7) START STEP(1, 5.5) VAL(1, 5)
                          STEP(2, null) STEP(3, 4.25) VAL(3, 4) STEP(4, 3) VAL(4, 2) STEP(5, 1));
    chmod(path_of("log"), 0640);
    CHECK_OK(par_log_continue(path_of("log"), 3, 4.25, &h));
    check_text("log", START STEP(1, 9) STEP(2, 8) STEP(9, 7) START STEP(1, 5.5) VAL(1, 5)
                          STEP(2, null) STEP(3, 4.25) VAL(3, 4));
    const par_log_point want[] = {
        {1, 5.5, false}, {1, 5, true}, {2, NAN, false}, {3, 4.25, false}, {3, 4, true}};
    CHECK(h.n == 5 && h.n_dropped == 3, "%lld points, %lld dropped", (long long)h.n,
          (long long)h.n_dropped);
    for (int i = 0; i < 5 && h.n == 5; i++) {
        const par_log_point *p = &h.points[i];
        bool same = p->loss == want[i].loss || (isnan(p->loss) && isnan(want[i].loss));
        CHECK(p->step == want[i].step && same && p->validation == want[i].validation, "point %d",
              i);
    }
    par_log_history_free(&h);
    struct stat info;
    CHECK(stat(path_of("log"), &info) == 0 && (info.st_mode & 0777) == 0640, "its mode is %o",
          info.st_mode);
}

/* A resume record tells whose log it is where the step's own record is in no file. */
static void run_anchors(void) {
    par_log_history h;
    write_text("log", START RESUME(3, 4.25) STEP(4, 3));
    CHECK_OK(par_log_continue(path_of("log"), 3, 4.25, &h));
    check_text("log", START RESUME(3, 4.25));
    par_log_history_free(&h);
    write_text("log", START STEP(1, 2) STEP(2, 2));
    CHECK_OK(par_log_continue(path_of("log"), 7, 4.25, &h));
    CHECK(h.n == 2 && h.n_dropped == 0, "%lld points", (long long)h.n);
    par_log_history_free(&h);
    check_text("log", START STEP(1, 2) STEP(2, 2));
}

static void refuses(const char *text, int64_t step, const char *message) {
    par_log_history h;
    write_text("log", text);
    CHECK_FAILS(par_log_continue(path_of("log"), step, 4.25, &h), PAR_ERR_FORMAT, message);
    check_text("log", text);
}

static void run_refuses(void) {
    refuses("# A readme\n", 0, "line 1 is not a record");
    refuses("# A readme", 0, "line 1 is not a record");
    refuses("# A readme", 3, "line 1 is not a record");
    refuses(START STEP(3, 4.25) "a line\n" STEP(4, 1), 3, "line 3 is not a record");
    refuses(START STEP(3, 4.2500001) STEP(4, 1), 3, "line 2 has another loss");
    refuses(START STEP(3, null), 3, "line 2 has another loss");
    refuses(START STEP(4, 1), 3, "not that one");
    refuses("\n", 0, "line 1 is not a record");
}

/* What a killed run leaves of a line goes, at any length of it. */
static void run_broken_line(void) {
    const char *whole = START STEP(1, 5.5) STEP(2, 4.25);
    char text[1024];
    par_log_history h;
    for (size_t n = 0; n < strlen(whole); n++) {
        size_t kept = n;
        snprintf(text, sizeof text, "%.*s", (int)n, whole);
        write_text("log", text);
        CHECK_OK(par_log_continue(path_of("log"), 0, 0, &h));
        while (kept > 0 && text[kept - 1] != '\n') kept--;
        text[kept] = 0;
        check_text("log", text);
    }
    write_text("log", START STEP(2, 4.25) STEP(3, 1) "{\"event\": \"st");
    CHECK_OK(par_log_continue(path_of("log"), 2, 4.25, &h));
    par_log_history_free(&h);
    check_text("log", START STEP(2, 4.25));
}

static void run_left_alone(void) {
    par_log_history h;
    CHECK_OK(par_log_continue(path_of("absent"), 3, 1, &h));
    CHECK(access(path_of("absent"), F_OK) != 0, "it was made");
    CHECK_OK(par_log_continue("/dev/null", 3, 1, &h));
    char target[160];
    snprintf(target, sizeof target, "%s/log", folder);
    write_text("log", START STEP(3, 4.25) STEP(4, 1));
    CHECK(symlink(target, path_of("link")) == 0, "no link");
    CHECK_OK(par_log_continue(path_of("link"), 3, 4.25, &h));
    par_log_history_free(&h);
    struct stat info;
    CHECK(lstat(path_of("link"), &info) == 0 && S_ISLNK(info.st_mode), "the link was replaced");
    check_text("log", START STEP(3, 4.25));
}

/* Doubles of random bits, and objects, through a JSON parser. */
static void run_exact(void) {
    par_log *log = NULL;
    uint64_t state = 12345;
    CHECK_OK(par_log_open(path_of("exact"), &log));
    for (int i = 0; i < 2000; i++) {
        union {
            uint64_t bits;
            double value;
        } x;
        state = state * 6364136223846793005u + 1442695040888963407u;
        x.bits = state ^ state >> 29;
        if (!isfinite(x.value)) continue;
        unlink(path_of("exact"));
        par_log_close(&log);
        CHECK_OK(par_log_open(path_of("exact"), &log));
        par_log_exact(log, "x", x.value);
        par_log_object(log, "o");
        par_log_real(log, "y", 0.5);
        par_log_int(log, "z", i);
        par_log_object_end(log);
        par_log_object(log, "empty");
        par_log_object_end(log);
        par_log_bool(log, "last", true);
        CHECK_OK(par_log_end(log));
        json_t *j = json_loads(read_text("exact"), 0, NULL), *o = json_object_get(j, "o");
        CHECK(j && json_number_value(json_object_get(j, "x")) == x.value, "%.17g: %s", x.value,
              read_text("exact"));
        CHECK(json_integer_value(json_object_get(o, "z")) == i &&
                  json_is_object(json_object_get(j, "empty")) &&
                  json_is_true(json_object_get(j, "last")),
              "%s", read_text("exact"));
        json_decref(j);
    }
    par_log_close(&log);
}

/* A file size limit inside the second line: the line is taken back whole. */
static void run_full_disk(void) {
    struct rlimit was, limit;
    par_log *log = NULL;
    char want[256];
    CHECK_OK(par_log_open(path_of("full"), &log));
    par_log_text(log, "event", "start");
    CHECK_OK(par_log_end(log));
    snprintf(want, sizeof want, "%.200s", read_text("full"));
    getrlimit(RLIMIT_FSIZE, &was);
    limit = was;
    limit.rlim_cur = strlen(want) + 10;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    par_log_text(log, "event", "a line that does not fit");
    CHECK_FAILS(par_log_end(log), PAR_ERR_IO, "cannot be written");
    setrlimit(RLIMIT_FSIZE, &was);
    check_text("full", want);
    par_log_close(&log);
}

static const harness_case cases[] = {
    {.name = "cut at the step", .run = run_cut},
    {.name = "whose log it is", .run = run_anchors},
    {.name = "refuses", .run = run_refuses},
    {.name = "broken last lines", .run = run_broken_line},
    {.name = "files left alone", .run = run_left_alone},
    {.name = "exact numbers", .run = run_exact},
    {.name = "nothing of a line on a full disk", .run = run_full_disk},
};

int main(int argc, char **argv) {
    static const char *const made[] = {"log", "link", "exact", "full"};
    snprintf(folder, sizeof folder, "/tmp/par-log-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int code = harness_main("log-continue", cases, HARNESS_COUNT(cases), argc, argv);
    for (int i = 0; i < HARNESS_COUNT(made); i++) unlink(path_of(made[i]));
    if (rmdir(folder) != 0)
        printf("FAIL log-continue/nothing-left: files are left in %s\n", folder);
    return code;
}
