/*
 * The log, the curve and the matrix's text against independent readers: a JSON parser, counts of
 * elements, widths of lines.
 */
#define _DEFAULT_SOURCE
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "par/observe.h"

static char folder[64];

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *read_all(const char *path) {
    static char text[1 << 18];
    FILE *f = fopen(path, "rb");
    CHECK(f, "%s is not there", path);
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return text;
}

static void write_line(par_log *log) {
    par_log_int(log, "step", 9007199254740993);
    par_log_real(log, "loss", 0.1f);
    par_log_real(log, "norm", NAN);
    par_log_bool(log, "skipped", true);
    par_log_text(log, "where", "a \"b\" \\ \n \x01 \xc3\xa9 \xff\xc0\x80");
    CHECK_OK(par_log_end(log));
}

/* Two runs on a file that another program left without its last line's end. */
static void run_log(void) {
    par_log *log = NULL;
    FILE *f = fopen(path_of("log"), "wb");
    fputs("{\"kil", f);
    fclose(f);
    for (int run = 0; run < 2; run++) {
        CHECK_OK(par_log_open(path_of("log"), &log));
        write_line(log);
        par_log_close(&log);
    }
    char *line = strtok(read_all(path_of("log")), "\n");
    CHECK(line && strcmp(line, "{\"kil") == 0, "the broken line became %s", line);
    for (int run = 0; run < 2; run++) {
        json_error_t error;
        line = strtok(NULL, "\n");
        json_t *j = line ? json_loads(line, 0, &error) : NULL;
        CHECK(j, "not JSON: %s", line ? line : "(no line)");
        if (!j) return;
        CHECK(json_integer_value(json_object_get(j, "step")) == 9007199254740993, "step in %s",
              line);
        CHECK((float)json_real_value(json_object_get(j, "loss")) == 0.1f, "loss in %s", line);
        CHECK(json_is_null(json_object_get(j, "norm")), "norm in %s", line);
        CHECK(json_is_true(json_object_get(j, "skipped")), "skipped in %s", line);
        CHECK(strcmp(json_string_value(json_object_get(j, "where")),
                     "a \"b\" \\ \n \x01 \xc3\xa9 ???") == 0,
              "where in %s", line);
        json_decref(j);
    }
    CHECK(!strtok(NULL, "\n"), "there are more lines");
}

static void run_log_refuses(void) {
    par_log *log = NULL;
    char big[20000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    CHECK_FAILS(par_log_open("/nowhere/at/all", &log), PAR_ERR_IO, "/nowhere/at/all");
    CHECK_OK(par_log_open(path_of("big"), &log));
    par_log_text(log, "big", big);
    CHECK_FAILS(par_log_end(log), PAR_ERR_ARG, "left out");
    par_log_int(log, "next", 1);
    CHECK_OK(par_log_end(log));
    par_log_close(&log);
    CHECK(strcmp(read_all(path_of("big")), "{\"next\": 1}\n") == 0, "the file has %.80s",
          read_all(path_of("big")));
    if (access("/dev/full", W_OK) != 0) return;
    CHECK_OK(par_log_open("/dev/full", &log));
    par_log_int(log, "a", 1);
    CHECK_FAILS(par_log_end(log), PAR_ERR_IO, "No space");
    par_log_close(&log);
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

/* With PAR_PAGES, a directory, pages stay there: pages.test looks at them in a browser. */
static void keep_page(const char *from, const char *name, int number) {
    char to[512];
    if (!getenv("PAR_PAGES")) return;
    const char *text = read_all(path_of(from));
    snprintf(to, sizeof to, "%s/%s-%d.svg", getenv("PAR_PAGES"), name, number);
    FILE *f = fopen(to, "wb");
    CHECK(f && fwrite(text, 1, strlen(text), f) == strlen(text), "%s cannot be written", to);
    if (f) fclose(f);
}

/* Numbers of the training line's points that leave the plot area. */
static int outside(const char *text) {
    const char *at = strstr(text, "class=\"train\" points=\"");
    int n = 0, used;
    double x, y;
    if (!at) return -1;
    for (at = strstr(at, "points=\"") + 8; sscanf(at, "%lf,%lf%n", &x, &y, &used) == 2; at += used)
        if (!(x >= 69.9 && x <= 776.1 && y >= 55.9 && y <= 398.1)) n++;
    return n;
}

static void check_curve(int64_t n, double scale, double offset) {
    par_curve *c = NULL;
    CHECK_OK(par_curve_create("a <curve> & more", n, 4, &c));
    for (int64_t i = 1; i <= n; i++)
        par_curve_add(c, false, i, offset + scale * (exp(-(double)i / 50) + 0.05 * sin((double)i)));
    par_curve_add(c, false, n + 1, 1e9);
    par_curve_add(c, true, n / 2, offset + scale);
    par_curve_add(c, true, n, NAN);
    par_curve_add(c, true, n, offset);
    CHECK_OK(par_curve_write(c, path_of("curve.svg")));
    char *text = read_all(path_of("curve.svg"));
    CHECK(strncmp(text, "<svg ", 5) == 0 && strcmp(text + strlen(text) - 7, "</svg>\n") == 0,
          "no whole SVG");
    CHECK(count(text, "<circle") == (n == 1 ? 3 : 2), "%d dots of %lld points",
          count(text, "<circle"), (long long)n);
    CHECK(outside(text) == 0, "%d points of %lld lie outside", outside(text), (long long)n);
    CHECK(strstr(text, "a &lt;curve&gt; &amp; more"), "the title is not escaped");
    CHECK(count(text, "http") == 1 && !strstr(text, "url(") && !strstr(text, "href"),
          "something is loaded");
    int ticks = count(text, "class=\"grid\"");
    CHECK(ticks >= 4 && ticks <= 24, "%d ticks", ticks);
    static int number;
    keep_page("curve.svg", "curve", ++number);
    par_curve_destroy(&c);
}

static void run_curve(void) {
    check_curve(1, 1, 3);
    check_curve(50, 5, 2);
    check_curve(5000, 5, 2);
    check_curve(200, 0, 2.5);
    check_curve(200, 1e-3, 0);
    check_curve(200, 1e6, -3e5);
}

static void run_curve_empty(void) {
    par_curve *c = NULL;
    CHECK_OK(par_curve_create("empty", 0, 0, &c));
    CHECK_OK(par_curve_write(c, path_of("empty.svg")));
    CHECK_FAILS(par_curve_write(c, "/nowhere/curve.svg"), PAR_ERR_IO, "/nowhere");
    keep_page("empty.svg", "empty", 1);
    par_curve_destroy(&c);
    char title[160];
    for (size_t i = 0; i < sizeof title; i++) title[i] = "abcdefghij-Klmno é"[i % 19];
    title[sizeof title - 2] = '\xc3'; /* half a character */
    title[sizeof title - 1] = 0;
    CHECK_OK(par_curve_create(title, 100, 0, &c));
    for (int i = 1; i <= 100; i++) par_curve_add(c, false, 1000000 * i, 1.0 / i);
    CHECK_OK(par_curve_write(c, path_of("empty.svg")));
    keep_page("empty.svg", "wide", 1);
    par_curve_destroy(&c);
}

static int widest, n_lines;

/* Columns: every byte that begins a character. */
static void measure(void *user, const char *line) {
    int columns = 0;
    (void)user;
    for (; *line; line++) columns += ((unsigned char)*line & 0xc0) != 0x80;
    if (columns > widest) widest = columns;
    n_lines++;
}

static void check_printed(const par_matrix *m, int lines) {
    for (int q = 0; q < PAR_MATRIX_QUANTITIES; q++) {
        widest = n_lines = 0;
        par_matrix_print(m, (par_matrix_quantity)q, measure, NULL);
        CHECK(widest <= 132, "%d ranks: %d columns", m->size, widest);
        CHECK(n_lines == lines, "%d ranks: %d lines instead of %d", m->size, n_lines, lines);
    }
}

static void check_width(int size, int rows) {
    int64_t n = (int64_t)size * size;
    par_matrix_line line = {.axis = "dp", .purpose = "gradients", .n = n};
    line.cells = calloc((size_t)n, sizeof *line.cells);
    par_matrix m = {.size = size, .n = 1, .lines = &line, .known = {true, true, true, true, true}};
    for (int64_t i = 0; i < n; i++)
        line.cells[i] = (par_matrix_cell){.from = (int32_t)(i / size),
                                          .to = (int32_t)(i % size),
                                          .nbytes = INT64_MAX / (n + 1),
                                          .n_messages = INT64_MAX / (n + 1),
                                          .logical_nbytes = INT64_MAX / (n + 1),
                                          .predicted_nbytes = INT64_MAX / (n + 1),
                                          .wait_s = 1e6};
    check_printed(&m, 2 * (rows + 1) + 2 + 1);
    line.cells[n - 1].predicted_nbytes += INT64_C(1) << 40;
    check_printed(&m, 2 * (rows + 1) + 2 + 2);
    CHECK(par_matrix_differences(&m) == 1, "%d differences", par_matrix_differences(&m));
    m.known[PAR_MATRIX_PREDICTED] = false;
    check_printed(&m, 2 * (rows + 1) + 2 + 1);
    CHECK(par_matrix_differences(&m) == 0, "differences from nothing");
    free(line.cells);
}

static void run_width(void) {
    check_width(1, 1);
    check_width(8, 8);
    check_width(64, 64);
    check_width(100, 50);
}

static void run_csv(void) {
    par_matrix_cell cells[] = {
        {.to = 1, .nbytes = 5, .n_messages = 1, .logical_nbytes = 7, .predicted_nbytes = 5},
        {.from = 1, .nbytes = 6, .wait_s = 0.25}};
    par_matrix_line line = {"tp", "loss", 2, cells};
    par_matrix m = {.size = 2, .n = 1, .lines = &line};
    CHECK_OK(par_matrix_write_csv(&m, path_of("matrix.csv")));
    CHECK(strcmp(read_all(path_of("matrix.csv")),
                 "axis,purpose,from,to,counted,predicted,messages,logical,wait_s\n"
                 "tp,loss,0,1,5,5,1,7,0\ntp,loss,1,0,6,0,0,0,0.25\n") == 0,
          "the file is %s", read_all(path_of("matrix.csv")));
    CHECK_FAILS(par_matrix_write_csv(&m, "/nowhere/m.csv"), PAR_ERR_IO, "/nowhere");
}

enum { LEGEND = 24 }; /* cells of the scale */

/* Ranks that send to the next `reach` ones; two axes, and differences in the last row. */
static void check_svg(int size, int reach) {
    size_t n = (size_t)size * (size_t)reach + 1;
    par_matrix_line lines[2] = {{.axis = "tp", .purpose = "activations <forward>"},
                                {.axis = "dp", .purpose = "gradients"}};
    for (int k = 0; k < 2; k++) {
        lines[k].cells = calloc(n, sizeof *lines[k].cells);
        for (int i = 0; i < size; i++)
            for (int j = 1; j <= reach && j < size; j++)
                lines[k].cells[lines[k].n++] = (par_matrix_cell){.from = i,
                                                                 .to = (i + j) % size,
                                                                 .nbytes = 1000000 * j,
                                                                 .predicted_nbytes = 1000000 * j};
    }
    if (size > 1) lines[0].cells[lines[0].n - 1].predicted_nbytes++;
    par_matrix m = {.size = size, .n = 2, .lines = lines, .known = {true, true, true, true, true}};
    m.has_layout = par_layout_parse_order("tp-cp-dp-pp", m.layout.order) == PAR_OK;
    m.layout.size[PAR_TP] = size % 2 ? 1 : 2;
    m.layout.size[PAR_DP] = size % 4 ? 1 : 2;
    m.layout.size[PAR_PP] = size / m.layout.size[PAR_TP] / m.layout.size[PAR_DP];
    CHECK_OK(par_matrix_write_svg(&m, PAR_MATRIX_NBYTES, path_of("matrix.svg")));
    const char *text = read_all(path_of("matrix.svg"));
    CHECK(size > 64 || size == 1 ||
              count(text, "class=\"cell\"") ==
                  LEGEND + 3 * size * (reach < size ? reach : size - 1),
          "%d ranks: %d cells", size, count(text, "class=\"cell\""));
    CHECK(count(text, "class=\"wrong\"") == (size > 1 ? 2 : 0), "%d ranks: %d frames", size,
          count(text, "class=\"wrong\""));
    CHECK(count(text, "class=\"grid frame\"") == 3, "%d ranks: no three maps", size);
    CHECK(strstr(text, "activations &lt;forward&gt;") &&
              strcmp(text + strlen(text) - 7, "</svg>\n") == 0,
          "%d ranks: no whole SVG", size);
    CHECK(count(text, "http") == 1 && !strstr(text, "url(") && !strstr(text, "href"),
          "something is loaded");
    keep_page("matrix.svg", "matrix", size);
    for (int k = 0; k < 2; k++) {
        free(lines[k].cells);
    }
}

static int full, others; /* shades of printed cells */

static void count_shades(void *user, const char *line) {
    (void)user;
    full += count(line, "█");
    others += count(line, "░") + count(line, "▒") + count(line, "▓");
}

/* The strengths of the cells behind the legend, least and most. */
static void strengths(const char *svg, double *least, double *most) {
    static const char begin[] = "class=\"cell\" fill-opacity=\"";
    int n = 0;
    *least = 2, *most = -1;
    for (const char *at = strstr(svg, begin); at; at = strstr(at + 1, begin)) {
        double strength = atof(at + sizeof begin - 1);
        if (n++ < LEGEND) continue;
        *least = fmin(*least, strength);
        *most = fmax(*most, strength);
    }
}

/* Cells within a hundredth of each other look alike; a factor of 10 has the whole scale, and the
 * scale's own picture shows no shade that no cell may have. */
static void run_shades(void) {
    par_matrix_cell cells[] = {{.from = 0, .to = 1, .nbytes = 1000000},
                               {.from = 1, .to = 2, .nbytes = 1005000},
                               {.from = 2, .to = 0, .nbytes = 1010000}};
    par_matrix_line line = {"tp", "activations", 3, cells};
    par_matrix m = {.size = 3, .n = 1, .lines = &line, .known = {true}};
    double least, most, lowest;
    full = others = 0;
    par_matrix_print(&m, PAR_MATRIX_NBYTES, count_shades, NULL);
    CHECK(full == 2 * 3 * 2 && others == 0, "%d full shades, %d others", full, others);
    CHECK_OK(par_matrix_write_svg(&m, PAR_MATRIX_NBYTES, path_of("matrix.svg")));
    const char *text = read_all(path_of("matrix.svg"));
    strengths(text, &least, &most);
    CHECK(most == 1 && least > 0.98, "strengths %g to %g", least, most);
    lowest = atof(strstr(text, "fill-opacity=\"") + strlen("fill-opacity=\""));
    CHECK(lowest == least, "the scale begins at %g, cells at %g", lowest, least);
    cells[0].nbytes = cells[2].nbytes / 10;
    full = others = 0;
    par_matrix_print(&m, PAR_MATRIX_NBYTES, count_shades, NULL);
    CHECK(full == 2 * 2 * 2 && others == 2 * 2, "%d full shades, %d others", full, others);
    CHECK_OK(par_matrix_write_svg(&m, PAR_MATRIX_NBYTES, path_of("matrix.svg")));
    strengths(read_all(path_of("matrix.svg")), &least, &most);
    CHECK(most == 1 && least < 0.15, "strengths %g to %g", least, most);
    CHECK(par_matrix_shade(3, 3, 3) == 1 && par_matrix_shade(0, 0, 0) == -1 &&
              par_matrix_shade(1, 1e6, 1) == 0 && fabs(par_matrix_shade(1, 1e6, 1e3) - 0.5) < 1e-12,
          "the scale is another one");
}

static void run_svg(void) {
    check_svg(1, 1);
    check_svg(2, 1);
    check_svg(8, 3);
    check_svg(64, 2);
    check_svg(100, 2);
}

static const harness_case cases[] = {
    {"log", run_log, 0, NULL, 0},
    {"log-refuses", run_log_refuses, 0, NULL, 0},
    {"curve", run_curve, 0, NULL, 0},
    {"curve-empty", run_curve_empty, 0, NULL, 0},
    {"matrix-width", run_width, 0, NULL, 0},
    {"matrix-csv", run_csv, 0, NULL, 0},
    {"matrix-svg", run_svg, 0, NULL, 0},
    {"matrix-shades", run_shades, 0, NULL, 0},
};

static void clean_up(void) {
    static const char *const names[] = {"log",       "big",        "curve.svg",
                                        "empty.svg", "matrix.csv", "matrix.svg"};
    for (int i = 0; i < HARNESS_COUNT(names); i++) unlink(path_of(names[i]));
    rmdir(folder);
}

int main(int argc, char **argv) {
    snprintf(folder, sizeof folder, "/tmp/par-observe-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int code = harness_main("observe", cases, HARNESS_COUNT(cases), argc, argv);
    clean_up();
    return code;
}
