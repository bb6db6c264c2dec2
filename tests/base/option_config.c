/*
 * Options in a file: every form of a value, what is refused and where, the command line's right of
 * way, and what is saved: loaded again it gives the same values to the bit. 4000 mutated files must
 * leave values that are legal.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../mutate.h"
#include "harness.h"
#include "par/option.h"

typedef struct {
    bool verify, rope;
    int64_t layers;
    double lr;
    const char *data;
    int schedule;
    par_int_list parts;
    par_option table[8];
} example;

enum { N = 8, GPIPE = 3, ONE_F_ONE_B = 7 };

static const par_choice kinds[] = {{"gpipe", GPIPE}, {"1f1b", ONE_F_ONE_B}, {NULL, 0}};

static void parse(example *e, int argc, const char **argv, par_problems *problems) {
    char *words[16] = {NULL};
    memset(e, 0x55, sizeof *e);
#define ROW(NAME, TYPE, FIELD, GROUP, ...)                                                         \
    { .name = NAME, .type = TYPE, .value = &e->FIELD, .group = GROUP, .help = "help", __VA_ARGS__ }
    const par_option table[N] = {
        ROW("verify", PAR_OPT_BOOL, verify, "first", .initial = NULL),
        ROW("rope-it", PAR_OPT_BOOL, rope, "first", .initial = "on"),
        ROW("layers", PAR_OPT_INT, layers, "second", .initial = "4", .legal = "1..96",
            .also = "num-layers|+n-blocks|n-layer"),
        ROW("lr", PAR_OPT_REAL, lr, "second", .initial = "0.001", .legal = "0.."),
        ROW("data", PAR_OPT_TEXT, data, "second", .metavar = "FILE"),
        ROW("schedule", PAR_OPT_CHOICE, schedule, "third", .initial = "1f1b", .choices = kinds),
        ROW("parts", PAR_OPT_LIST, parts, "third", .legal = "0..8"),
        {.name = "num-workers", .type = PAR_OPT_ABSENT, .help = "files are read as they are"},
    };
#undef ROW
    memcpy(e->table, table, sizeof table);
    memset(problems, 0, sizeof *problems);
    for (int i = 0; i < argc; i++) words[i] = (char *)argv[i];
    par_options_parse(e->table, N, argc, words, problems);
}

static int load(example *e, char *text, par_problems *problems) {
    parse(e, 0, NULL, problems);
    par_options_load(e->table, N, "run.config", text, problems);
    return problems->n;
}

static void forms(void) {
    char text[] = "\xef\xbb\xbf# a run\r\n"
                  "  verify = true   # a switch\n"
                  "rope_it=off\n\n"
                  "layers = 12\r\n"
                  "lr = 6e-4# small\n"
                  "data = \"a \\\"file\\\" \\\\ #1\\u0041\\t\"\n"
                  "schedule = gpipe\n"
                  "parts = [5, 6, 6 ,5]";
    char more[] = "data = 'C:\\new' # quotes that take everything as it is\n"
                  "schedule = \"gpipe\"\nparts = 1,2\nverify=on";
    example e;
    par_problems p;
    CHECK(load(&e, text, &p) == 0, "%s", p.text);
    CHECK(e.verify && !e.rope && e.layers == 12 && e.lr == 6e-4 && e.schedule == GPIPE, "values");
    CHECK(strcmp(e.data, "a \"file\" \\ #1A\t") == 0, "text: %s", e.data);
    CHECK(e.parts.n == 4 && e.parts.values[3] == 5, "list of %d", e.parts.n);
    for (int i = 0; i < 7; i++) CHECK(e.table[i].given == 1, "%s is not given", e.table[i].name);
    CHECK(load(&e, more, &p) == 0 && strcmp(e.data, "C:\\new") == 0 && e.parts.n == 2, "%s: %s",
          e.data, p.text);
    CHECK(e.table[2].given == 0 && e.layers == 4, "what the file lacks is not given");
}

/* A second name of a row is the row's. */
static void second_names(void) {
    const char *argv[] = {"--n-blocks", "7"};
    char text[] = "n-blocks = 12", other[] = "n_blocks = 13", again[] = "n-blocks = 14";
    example e;
    par_problems p;
    CHECK(load(&e, text, &p) == 0 && e.layers == 12 && e.table[2].given == 1, "%s", p.text);
    CHECK(load(&e, other, &p) == 0 && e.layers == 13, "%s", p.text);
    parse(&e, HARNESS_COUNT(argv), argv, &p);
    par_options_load(e.table, N, "run.config", again, &p);
    CHECK(p.n == 0 && e.layers == 7, "the file wins: %lld", (long long)e.layers);
}

/* The command line wins, whatever the file says there. */
static void command_line_wins(void) {
    const char *argv[] = {"--layers", "7", "--no-rope-it"};
    char text[] = "layers = 12\nrope-it = true\nlr = 1\n";
    example e;
    par_problems p;
    parse(&e, HARNESS_COUNT(argv), argv, &p);
    par_options_load(e.table, N, "run.config", text, &p);
    CHECK(p.n == 0 && e.layers == 7 && !e.rope && e.lr == 1, "%lld layers, rate %g: %s",
          (long long)e.layers, e.lr, p.text);
    CHECK(e.table[2].given == 1 && e.table[3].given == 1, "given");
}

static void expect(const char *content, const char *want) {
    example e;
    par_problems p;
    char text[256];
    snprintf(text, sizeof text, "%s", content);
    CHECK(load(&e, text, &p) == 1 && strstr(p.text, want), "%s: %d problems, \"%s\" lacks \"%s\"",
          content, p.n, p.text, want);
    CHECK(e.layers == 4 && e.lr == 1e-3, "%s: a refused value was stored", content);
}

static void refused(void) {
    expect("\n\nlayrs = 3", "run.config:3: layrs: unknown option; did you mean --layers?");
    expect("num_layers = 3", "run.config:1: num-layers: unknown option; write --layers 3");
    expect("num_workers = 3", "run.config:1: num-workers: unknown option; files are read");
    expect("layers = 97", "run.config:1: layers 97: is above 96; legal: 1 to 96");
    expect("lr = fast", "run.config:1: lr fast: is not a number; legal: 0 or more");
    expect("lr =", "run.config:1: lr : is not a number");
    expect("verify = maybe", "run.config:1: verify maybe: is not a switch; legal: true, false");
    expect("[model]", "run.config:1: [model]: is not an option; legal: key = value");
    expect("layers", "run.config:1: layers: is not an option; legal: key = value");
    expect("= 3", "is not an option");
    expect("data = \"open", "run.config:1: data: its value is broken");
    expect("data = \"a\" b", "its value is broken");
    expect("data = \"\\q\"", "its value is broken");
    expect("data = \"\\u0000\"", "its value is broken");
    expect("data = \"\\", "its value is broken");
    expect("parts = [1, 2", "its value is broken");
    expect("parts = []", "is not integers");
    expect("verify = on\nverify = off", "run.config:2: verify: is in line 1 already");
    expect("n-blocks = 4\nlayers = 5", "run.config:2: layers: is in line 1 already");
}

static void saved(void) {
    const char *argv[] = {
        "--no-rope-it", "--lr", "0.00031234567890123456", "--data", "a \"b\" \\ #\t\n\x01 ü",
        "--parts",      "5,6",  "--schedule=gpipe"};
    char path[] = "/tmp/par-option-config-XXXXXX", text[4096];
    example e, back;
    par_problems p;
    int fd = mkstemp(path);
    if (fd < 0) {
        CHECK(false, "no temporary file");
        return;
    }
    close(fd);
    parse(&e, HARNESS_COUNT(argv), argv, &p);
    CHECK_OK(par_options_save(e.table, N, path));
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[n] = 0;
    CHECK(strstr(text, "# first\nverify = false\nrope-it = false\n\n# second\nlayers = 4\n"),
          "the file: %s", text);
    CHECK(load(&back, text, &p) == 0, "%s", p.text);
    CHECK(back.verify == e.verify && back.rope == e.rope && back.layers == e.layers &&
              memcmp(&back.lr, &e.lr, sizeof e.lr) == 0 && strcmp(back.data, e.data) == 0 &&
              back.schedule == e.schedule && back.parts.n == 2 && back.parts.values[1] == 6,
          "other values: %s", text);
    remove(path);
    CHECK(par_options_save(e.table, N, "/nowhere/run.config") == PAR_ERR_IO, "no folder");
}

static int target(const uint8_t *data, size_t n) {
    example e;
    par_problems p;
    char *text = malloc(n + 1); /* of its size, so that a sanitizer sees every byte too far */
    if (!text) abort();
    memcpy(text, data, n);
    text[n] = 0;
    int n_problems = load(&e, text, &p);
    if (e.layers < 1 || e.layers > 96 || !(e.lr >= 0) || par_choice_name(kinds, e.schedule) == NULL)
        abort();
    if (e.data && (e.data < text || e.data + strlen(e.data) > text + n)) abort();
    for (int i = 0; i < e.parts.n; i++)
        if (e.parts.values[i] < 0 || e.parts.values[i] > 8) abort();
    free(text);
    return n_problems ? -1 : 0;
}

static void fuzz(void) {
    static const char seed[] =
        "# comment\nverify = true\nlayers = 12\nlr = 6e-4 # x\n"
        "data = \"a \\\"b\\\" \\u0041\"\nschedule = 'gpipe'\nparts = [5, 6]\n";
    mutate_run("option-config", target, seed, sizeof seed - 1, 4000);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"forms", forms, 0, NULL, 0},     {"command-line-wins", command_line_wins, 0, NULL, 0},
        {"refused", refused, 0, NULL, 0}, {"saved", saved, 0, NULL, 0},
        {"fuzz", fuzz, 0, NULL, 0},       {"second-names", second_names, 0, NULL, 0},
    };
    return harness_main("option-config", cases, HARNESS_COUNT(cases), argc, argv);
}
