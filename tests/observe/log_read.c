/*
 * Logs read back: numbers are the doubles that were written, texts the bytes, and of a file that is
 * broken anywhere every whole record is there.
 */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "par/log.h"
#include "par/observe.h"

static char path[64];

static void write_text(const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(text, 1, n, f) == n, "%s cannot be written", path);
    if (f) fclose(f);
}

static void add_field(void *user, const char *name, const char *value) {
    char *text = user;
    snprintf(text + strlen(text), 512 - strlen(text), "%s=%s;", name, value);
}

static par_status check_written(void *user, const par_log_record *r, int64_t line) {
    char fields[512] = "", options[512] = "";
    CHECK(strcmp(par_log_event(r), "step") == 0 && line == 1, "%s in line %lld", par_log_event(r),
          (long long)line);
    CHECK(par_log_number(r, "loss") == 0.1 + 0.2, "%.17g", par_log_number(r, "loss"));
    CHECK(par_log_number(r, "measured.seconds") == 0.25, "%g",
          par_log_number(r, "measured.seconds"));
    CHECK(par_log_whole(r, "step", -1) == INT64_MAX && par_log_whole(r, "loss", -1) == -1 &&
              par_log_whole(r, "none", 7) == 7,
          "whole numbers");
    CHECK(isnan(par_log_number(r, "nan")) && isnan(par_log_number(r, "none")) &&
              isnan(par_log_number(r, "none.seconds")) && isnan(par_log_number(r, "text")),
          "what is not a number");
    CHECK(par_log_flag(r, "skipped") && !par_log_flag(r, "loss") && !par_log_flag(r, "none"),
          "flags");
    CHECK(strcmp(par_log_string(r, "text"), "\"<&\t\xc3\xa9") == 0 && !par_log_string(r, "loss"),
          "a text");
    par_log_fields(r, NULL, add_field, fields);
    CHECK(strcmp(fields, "event=step;step=9223372036854775807;loss=0.30000000000000004;nan=;"
                         "skipped=on;text=\"<&\t\xc3\xa9;") == 0,
          "%s", fields);
    par_log_fields(r, "measured", add_field, options);
    CHECK(strcmp(options, "seconds=0.25;") == 0, "%s", options);
    par_log_fields(r, "none", add_field, options);
    par_log_fields(r, "text", add_field, options);
    CHECK(strcmp(options, "seconds=0.25;") == 0, "%s", options);
    ++*(int *)user;
    return PAR_OK;
}

static void run_written(void) {
    par_log *log = NULL;
    par_log_reading reading;
    int n = 0;
    write_text("", 0);
    CHECK_OK(par_log_read(path, check_written, &n, &reading));
    CHECK_OK(par_log_open(path, &log));
    par_log_text(log, "event", "step");
    par_log_int(log, "step", INT64_MAX);
    par_log_exact(log, "loss", 0.1 + 0.2);
    par_log_exact(log, "nan", NAN);
    par_log_bool(log, "skipped", true);
    par_log_text(log, "text", "\"<&\t\xc3\xa9");
    par_log_object(log, "measured");
    par_log_real(log, "seconds", 0.25);
    par_log_object_end(log);
    CHECK_OK(par_log_end(log));
    par_log_close(&log);
    CHECK_OK(par_log_read(path, check_written, &n, &reading));
    CHECK(n == 1 && reading.n_records == 1 && reading.n_left_out == 0, "%d records", n);
}

static par_status sum_steps(void *user, const par_log_record *r, int64_t line) {
    *(int64_t *)user += par_log_whole(r, "step", 0);
    return par_log_whole(r, "step", 0) == 99 ? par_error_set(PAR_ERR_STOPPED, "enough") : PAR_OK;
}

#define A "{\"event\": \"step\", \"step\": 1}"
#define B "{\"event\": \"step\", \"step\": 10}"

/* Cut at any length, it has the records whose last bracket is there. */
static void run_cut(void) {
    const char *text = A "\n" B "\n";
    size_t a = strlen(A), b = a + 1 + strlen(B);
    for (size_t n = 0; n <= strlen(text); n++) {
        par_log_reading reading;
        int64_t sum = 0;
        write_text(text, n);
        CHECK_OK(par_log_read(path, sum_steps, &sum, &reading));
        CHECK(sum == (n >= a) + 10 * (n >= b), "%zu bytes: a sum of %lld", n, (long long)sum);
        bool broken = n > 0 && n != a && n != a + 1 && n < b;
        CHECK(reading.n_left_out == broken && reading.left_out == (!broken ? 0
                                                                   : n < a ? 1
                                                                           : 2),
              "%zu bytes: %lld left out", n, (long long)reading.n_left_out);
    }
}

static void run_strange(void) {
    static const char text[] = A "\nno JSON\n\n[1]\n{\"event\": 3}\n{\"step\": 5}\n"
                                 "{\"event\": \"a\0b\"}\n\xff\xfe\n" B "\n"
                                 "{\"event\": \"step\", \"step\": 99}\n" B "\n";
    par_log_reading reading;
    int64_t sum = 0;
    write_text(text, sizeof text - 1);
    CHECK_FAILS(par_log_read(path, sum_steps, &sum, &reading), PAR_ERR_STOPPED, "enough");
    CHECK(sum == 110 && reading.n_records == 3 && reading.n_left_out == 7 && reading.left_out == 2,
          "a sum of %lld, %lld records, %lld left out", (long long)sum,
          (long long)reading.n_records, (long long)reading.n_left_out);
    CHECK_FAILS(par_log_read("/tmp/no-such-log", sum_steps, &sum, &reading), PAR_ERR_IO,
                "no-such-log");
}

static const harness_case cases[] = {
    {.name = "what was written", .run = run_written},
    {.name = "cut anywhere", .run = run_cut},
    {.name = "lines that are not records", .run = run_strange},
};

int main(int argc, char **argv) {
    snprintf(path, sizeof path, "/tmp/par-log-read-XXXXXX");
    int file = mkstemp(path);
    if (file < 0) return 1;
    close(file);
    int code = harness_main("log-read", cases, HARNESS_COUNT(cases), argc, argv);
    unlink(path);
    return code;
}
