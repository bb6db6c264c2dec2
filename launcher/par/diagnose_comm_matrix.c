/* par diagnose comm-matrix: who sent what to whom in a run, from its matrix.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par/par.h"
#include "par_tool.h"

typedef struct {
    par_words runs;
    int show; /* a par_matrix_quantity */
    const char *csv, *json, *hdf5, *svg, *png;
} settings;

static const par_choice quantities[] = {
    {"bytes", PAR_MATRIX_NBYTES},    {"messages", PAR_MATRIX_MESSAGES},
    {"logical", PAR_MATRIX_LOGICAL}, {"predicted", PAR_MATRIX_PREDICTED},
    {"wait", PAR_MATRIX_WAIT},       {NULL, 0}};

enum { N_ROWS = 7 };

static void make_rows(settings *s, const par_matrix_words *words, par_option rows[N_ROWS]) {
    const par_option list[N_ROWS] = {
        {.name = words->name,
         .type = PAR_OPT_OPERANDS,
         .value = &s->runs,
         .legal = "1..1",
         .help = words->help},
        {.name = "show",
         .type = PAR_OPT_CHOICE,
         .value = &s->show,
         .initial = "bytes",
         .choices = quantities,
         .help =
             "what heat maps, SVG and PNG show: bytes, messages or waits of the algorithm, what "
             "the operations ask for, or what the layout predicts"},
        {.name = "csv",
         .type = PAR_OPT_TEXT,
         .value = &s->csv,
         .help = "write a line per axis, purpose and pair of ranks",
         .metavar = "FILE"},
        {.name = "json",
         .type = PAR_OPT_TEXT,
         .value = &s->json,
         .help = "write the form of matrix.json",
         .metavar = "FILE"},
        {.name = "hdf5",
         .type = PAR_OPT_TEXT,
         .value = &s->hdf5,
         .help = "write a dataset [from, to] per axis and purpose",
         .metavar = "FILE"},
        {.name = "svg",
         .type = PAR_OPT_TEXT,
         .value = &s->svg,
         .help = "draw the heat maps",
         .metavar = "FILE"},
        {.name = "png",
         .type = PAR_OPT_TEXT,
         .value = &s->png,
         .help = "draw them as pixels",
         .metavar = "FILE"},
    };
    memcpy(rows, list, sizeof list);
}

static void print_line(void *user, const char *line) {
    (void)user;
    printf("%s\n", line);
}

static par_status show(const settings *s, const par_matrix *m) {
    par_matrix_quantity quantity = (par_matrix_quantity)s->show;
    if (!m->known[quantity]) {
        /* the recorder did not see bytes, and nobody asked for them: logical ones instead */
        if (quantity != PAR_MATRIX_NBYTES || !m->known[PAR_MATRIX_LOGICAL])
            return par_error_set(PAR_ERR_OPTION, "--show %s: who counted (%s) does not know it",
                                 par_choice_name(quantities, s->show), m->program);
        quantity = PAR_MATRIX_LOGICAL;
        printf("note: %s saw what operations ask for, not what was sent; that is shown\n",
               m->program);
    }
    bool files = s->csv || s->json || s->hdf5 || s->svg || s->png;
    if (s->csv) PAR_TRY(par_matrix_write_csv(m, s->csv));
    if (s->json) PAR_TRY(par_matrix_write_json(m, s->json));
    if (s->hdf5) PAR_TRY(par_matrix_write_hdf5(m, s->hdf5));
    if (s->svg) PAR_TRY(par_matrix_write_svg(m, quantity, s->svg));
    if (s->png) PAR_TRY(par_matrix_write_png(m, quantity, s->png));
    if (!files) par_matrix_print(m, quantity, print_line, NULL);
    return PAR_OK;
}

/* --json is of the kind of what is read, so it must not be the same file. */
static par_status keep(const settings *s, const char *path) {
    struct stat one, other;
    if (!s->json || stat(s->json, &one) != 0 || stat(path, &other) != 0) return PAR_OK;
    if (one.st_dev != other.st_dev || one.st_ino != other.st_ino) return PAR_OK;
    return par_error_set(PAR_ERR_OPTION,
                         "--json %s: is read, and is not replaced; legal: another name", s->json);
}

int par_matrix_command(const par_matrix_words *words, int argc, char **argv) {
    settings s = {0};
    par_problems problems = {0};
    par_option rows[N_ROWS];
    par_matrix *m = NULL;
    char path[4200];
    struct stat info;
    make_rows(&s, words, rows);
    if (par_tool_read(rows, N_ROWS, words->usage, argc, argv, &problems)) return EXIT_SUCCESS;
    par_tool_output("--csv", s.csv, PAR_OUTPUT_MATRIX_CSV, &problems);
    par_tool_output("--json", s.json, PAR_OUTPUT_MATRIX, &problems);
    par_tool_output("--hdf5", s.hdf5, PAR_OUTPUT_HDF5, &problems);
    par_tool_output("--svg", s.svg, PAR_OUTPUT_SVG, &problems);
    par_tool_output("--png", s.png, PAR_OUTPUT_PNG, &problems);
    int code = par_tool_refuse(words->command, &problems);
    if (!code && words->prepare) code = words->prepare(s.runs.words[0]);
    if (code) return code;
    const char *run = s.runs.words[0];
    bool folder = stat(run, &info) == 0 && S_ISDIR(info.st_mode);
    snprintf(path, sizeof path, "%s%s", run, folder ? "/matrix.json" : "");
    par_status st = keep(&s, path);
    if (st == PAR_OK) st = par_matrix_read_json(path, &m);
    if (st == PAR_OK) st = show(&s, m);
    par_matrix_destroy(&m);
    if (st == PAR_OK) return EXIT_SUCCESS;
    fprintf(stderr, "par %s: %s\n", words->command, par_error());
    return st == PAR_ERR_MEMORY ? EXIT_FAILURE : PAR_TOOL_INPUT;
}

int par_diagnose_comm_matrix(int argc, char **argv) {
    static const par_matrix_words words = {
        .command = "diagnose comm-matrix",
        .usage = "usage: par diagnose comm-matrix RUN [options]\n"
                 "Who sent what to whom. Without options of files: heat maps and tables.",
        .name = "RUN",
        .help = "a run's directory, or a file of the form of its matrix.json"};
    return par_matrix_command(&words, argc, argv);
}
