/*
 * The option table: every form of every type, every kind of problem at once, suggestions, and help
 * that names all options. A refused value must leave the default.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "par/option.h"

typedef struct {
    bool verify, rope;
    int64_t layers;
    double lr;
    const char *data;
    int schedule;
    par_int_list parts;
    par_option table[9];
    bool help;
} example;

enum { N = 9, GPIPE = 3, ONE_F_ONE_B = 7 };

static const par_choice kinds[] = {{"gpipe", GPIPE}, {"1f1b", ONE_F_ONE_B}, {NULL, 0}};

static void example_make(example *e) {
    const char *a = "first", *b = "second";
    memset(e, 0x55, sizeof *e); /* parsing stores the defaults */
#define ROW(NAME, TYPE, FIELD, GROUP, HELP, ...)                                                   \
    { .name = NAME, .type = TYPE, .value = &e->FIELD, .group = GROUP, .help = HELP, __VA_ARGS__ }
    const par_option table[N] = {
        ROW("verify", PAR_OPT_BOOL, verify, a, "check"),
        ROW("rope", PAR_OPT_BOOL, rope, b, "rotate", .initial = "on"),
        ROW("layers", PAR_OPT_INT, layers, a, "blocks", .initial = "4", .legal = "1..96",
            .also = "num-layers|+blocks|n-layer|tiny=2"),
        ROW("lr", PAR_OPT_REAL, lr, b, "rate", .initial = "0.001", .legal = "0..",
            .also = "learning-rate|-l"),
        ROW("data", PAR_OPT_TEXT, data, a, "tokens", .metavar = "FILE"),
        ROW("schedule", PAR_OPT_CHOICE, schedule, a, "kind", .initial = "1f1b", .choices = kinds,
            .also = "order afab=gpipe|order"),
        ROW("parts", PAR_OPT_LIST, parts, a, "cuts", .legal = "0..8"),
        ROW("help", PAR_OPT_BOOL, help, b, "this text"),
        {.name = "num-workers",
         .type = PAR_OPT_ABSENT,
         .help = "files are read as they are",
         .also = "-w"},
    };
#undef ROW
    memcpy(e->table, table, sizeof table);
}

static int parse(example *e, par_problems *problems, int argc, const char **argv) {
    char *copy[32];
    example_make(e);
    memset(problems, 0, sizeof *problems);
    for (int i = 0; i < argc; i++) copy[i] = (char *)argv[i];
    par_options_parse(e->table, N, argc, copy, problems);
    return problems->n;
}

#define PARSE(e, problems, ...)                                                                    \
    parse(e, problems, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),              \
          (const char *[]){__VA_ARGS__})

static void forms(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--verify", "--no-rope", "--layers=12", "--lr", "6e-4", "--data", "a file",
          "--schedule=gpipe", "--parts", "5,6,6,5", "-h");
    CHECK(p.n == 0, "%d problems: %s", p.n, p.text);
    CHECK(e.verify && !e.rope, "flags");
    CHECK(e.layers == 12 && e.lr == 6e-4, "numbers %lld %g", (long long)e.layers, e.lr);
    CHECK(e.data && strcmp(e.data, "a file") == 0 && e.schedule == GPIPE, "texts");
    CHECK(e.help, "-h is --help");
    CHECK(e.parts.n == 4 && e.parts.values[1] == 6 && e.parts.values[3] == 5, "list of %d",
          e.parts.n);
    for (int i = 0; i < 8; i++)
        CHECK(e.table[i].given, "%s is not marked as given", e.table[i].name);
}

static void defaults(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--verify");
    CHECK(p.n == 0 && e.layers == 4 && e.lr == 1e-3 && e.rope && !e.data && !e.help &&
              e.schedule == ONE_F_ONE_B && e.parts.n == 0,
          "the defaults are not those of the rows");
    CHECK(e.table[0].given && !e.table[2].given, "given marks what was given, and that alone");
}

/* A second option of the same name replaces the first; a refused one leaves it. */
static void last_wins(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--layers", "5", "--verify", "--layers=6", "--no-verify", "--no-rope", "--rope");
    CHECK(p.n == 0 && e.layers == 6 && !e.verify && e.rope, "%lld layers: %s", (long long)e.layers,
          p.text);
    CHECK(e.table[2].given == 2 && e.table[3].given == 0, "--layers is given %d times",
          e.table[2].given);
    PARSE(&e, &p, "--layers", "5", "--layers=97");
    CHECK(p.n == 1 && e.layers == 5, "%lld layers: %s", (long long)e.layers, p.text);
}

/* A second name of a row is the row's, also for its refusals. */
static void second_names(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--blocks", "5");
    CHECK(p.n == 0 && e.layers == 5 && e.table[2].given == 1, "%lld layers: %s",
          (long long)e.layers, p.text);
    PARSE(&e, &p, "--layers=6", "--blocks=7");
    CHECK(p.n == 0 && e.layers == 7 && e.table[2].given == 2, "%lld layers, given %d times",
          (long long)e.layers, e.table[2].given);
}

static void texts(void) {
    example e;
    par_problems p;
    char text[64], cut[4];
    const char *const want[N] = {"off", "on", "12", "0.0006", "a file", "gpipe", "5,6", "off", ""};
    PARSE(&e, &p, "--layers=12", "--lr", "6e-4", "--data", "a file", "--schedule=gpipe", "--parts",
          "5,6");
    for (int i = 0; i < N; i++)
        CHECK(strcmp(par_option_text(&e.table[i], text, sizeof text), want[i]) == 0,
              "%s: %s instead of %s", e.table[i].name, text, want[i]);
    PARSE(&e, &p, "--lr", "0.00031234567890123456");
    CHECK(strtod(par_option_text(&e.table[3], text, sizeof text), NULL) == e.lr, "%s is not %.17g",
          text, e.lr);
    PARSE(&e, &p, "--verify");
    CHECK(*par_option_text(&e.table[4], text, sizeof text) == 0, "no text is \"%s\"", text);
    CHECK(*par_option_text(&e.table[6], text, sizeof text) == 0, "an empty list is \"%s\"", text);
    CHECK(strcmp(par_option_text(&e.table[5], cut, sizeof cut), "1f1") == 0, "cut: \"%s\"", cut);
    CHECK(strcmp(par_choice_name(kinds, GPIPE), "gpipe") == 0 && !par_choice_name(kinds, 0),
          "names of choices");
}

static void expect(const char *text, int argc, const char **argv) {
    example e;
    par_problems p;
    CHECK(parse(&e, &p, argc, argv) == 1 && strstr(p.text, text),
          "%s: %d problems: \"%s\" lacks \"%s\"", argv[0], p.n, p.text, text);
    CHECK(e.layers == 4 && e.lr == 1e-3 && e.parts.n == 0, "%s: a refused value was stored",
          argv[0]);
}

#define EXPECT(text, ...)                                                                          \
    expect(text, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                    \
           (const char *[]){__VA_ARGS__})

static void refused(void) {
    EXPECT("did you mean --layers", "--layrs", "3");
    EXPECT("did you mean --schedule", "--schedul=x");
    EXPECT("unknown option; --help", "--entirely-different");
    EXPECT("--layers 97: is above 96; legal: 1 to 96", "--layers", "97");
    EXPECT("--layers 97: is above 96; legal: 1 to 96", "--blocks", "97");
    EXPECT("--layers: its value is missing; legal: 1 to 96", "--blocks");
    EXPECT("--block: unknown option; --help", "--block", "5");
    EXPECT("--+blocks: unknown option; --help", "--+blocks", "5");
    EXPECT("--layers 0: is below 1; legal: 1 to 96", "--layers", "0");
    EXPECT("--layers 4x: is not an integer; legal: 1 to 96", "--layers", "4x");
    EXPECT("--layers 99999999999999999999: is above 96; legal: 1 to 96", "--layers",
           "99999999999999999999");
    EXPECT("--layers: its value is missing; legal: 1 to 96", "--layers");
    EXPECT("--lr -1: is below 0; legal: 0 or more", "--lr", "-1");
    EXPECT("--lr nan: is not a number; legal: 0 or more", "--lr", "nan");
    EXPECT("--learning-rate: unknown option; write --lr 3e-4", "--learning-rate", "3e-4");
    EXPECT("--learning_rate: unknown option; write --lr 1", "--learning_rate=1");
    EXPECT("--optimizer.learning_rate: unknown option; write --lr 1",
           "--optimizer.learning_rate=1");
    EXPECT("--model.layers: unknown option; write --layers 3", "--model.layers", "3");
    EXPECT("--training.other: unknown option; --help lists them", "--training.other", "3");
    EXPECT("-l: unknown option; write --lr 1", "-l", "1");
    EXPECT("--n-layer: unknown option; write --layers N", "--n-layer", "--no-rope");
    EXPECT("--tiny: unknown option; write --layers 2", "--tiny");
    EXPECT("--order: unknown option; write --schedule gpipe", "--order", "afab");
    EXPECT("--order: unknown option; write --schedule gpipe|1f1b", "--order", "other");
    EXPECT("--num_workers: unknown option; files are read as they are", "--num_workers", "4");
    EXPECT("-w: unknown option; files are read as they are", "-w", "4");
    EXPECT("-q: unknown option; --help", "-q", "4");
    EXPECT("--ramp: unknown option; --help", "--ramp", "16", "-8", ".5", "1e9");
    EXPECT("value is missing", "--data", "--verify");
    EXPECT("--schedule 1f1: is not one of the choices; legal: gpipe|1f1b", "--schedule", "1f1");
    EXPECT("legal: gpipe|1f1b", "--schedule=gpipe|1f1b");
    EXPECT("integers with commas", "--parts", "5,,6");
    EXPECT("--parts 5,-6: has -6, which is below 0; legal: 0 to 8", "--parts", "5,-6");
    EXPECT("--parts 9: has 9, which is above 8; legal: 0 to 8", "--parts", "9");
    EXPECT("takes no value", "--verify=yes");
    EXPECT("unknown option", "--no-layers");
    EXPECT("is not an option", "train.bin");
    EXPECT("is not an option", "--");
}

/* Words behind an option, between options, and behind the first of a program's. */
typedef struct {
    int64_t ranks;
    const char *out;
    par_words texts, rest;
    const char *text_room[4], *rest_room[4];
    par_option table[4];
} wordy;

static void wordy_parse(wordy *w, par_option_type type, const char *legal, const char *line,
                        par_problems *p) {
    static char copy[256];
    char *argv[16];
    int argc = 0;
    *w = (wordy){.texts = {.max = 4, .words = w->text_room},
                 .rest = {.max = 4, .words = w->rest_room}};
    const par_option table[4] = {
        {.name = "ranks", .type = PAR_OPT_INT, .value = &w->ranks, .help = "x", .letter = 'n'},
        {.name = "out", .type = PAR_OPT_TEXT, .value = &w->out, .help = "x"},
        {.name = "text", .type = PAR_OPT_WORDS, .value = &w->texts, .help = "x"},
        {.name = "RUN",
         .type = type,
         .value = &w->rest,
         .legal = legal,
         .group = type == PAR_OPT_ABSENT ? NULL : "words",
         .help = "a folder"}};
    memcpy(w->table, table, sizeof table);
    memset(p, 0, sizeof *p);
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    par_options_parse(w->table, 4, argc, argv, p);
}

/* "a b" of a list. */
static const char *joined(const par_words *list) {
    static char text[2][256];
    static int which;
    char *out = text[which ^= 1];
    *out = 0;
    for (int i = 0; i < list->n; i++) {
        if (i) strcat(out, " ");
        strcat(out, list->words[i]);
    }
    return out;
}

static void words(void) {
    const struct {
        par_option_type type;
        const char *legal, *line, *texts, *rest, *problem;
    } cases[] = {
        {PAR_OPT_OPERANDS, "1..2", "a --out o b", "", "a b", NULL},
        {PAR_OPT_OPERANDS, "1..2", "--text x y --out o a", "x y", "a", NULL},
        {PAR_OPT_OPERANDS, "0..", "--text x --text=y z", "x y z", "", NULL},
        {PAR_OPT_OPERANDS, "1..2", "--out o", "", "", "RUN: is missing; legal: a folder"},
        {PAR_OPT_OPERANDS, "2..3", "a", "", "a", "RUN: 1 given; legal: 2 to 3"},
        {PAR_OPT_OPERANDS, "..2", "a b c", "", "a b c", "RUN: 3 given; legal: 2 or less"},
        {PAR_OPT_OPERANDS, "0..", "a b c d e", "", "a b c d",
         "is the 5th word; there is room for 4"},
        {PAR_OPT_OPERANDS, "1..", "a --uot o", "", "a", "did you mean --out"},
        {PAR_OPT_OPERANDS, "1..", "a --RUN o", "", "a", "--RUN: unknown option"},
        {PAR_OPT_OPERANDS, "1..", "a --", "", "a", "is not an option"},
        {PAR_OPT_OPERANDS, "0..", "--text --out o", "", "", "--text: its value is missing"},
        {PAR_OPT_REST, NULL, "-n 4 --out o p --out -n --x", "", "p --out -n --x", NULL},
        {PAR_OPT_REST, NULL, "-n 4", "", "", NULL},
        {PAR_OPT_REST, NULL, "-n x", "", "", "--ranks x: is not an integer"},
        {PAR_OPT_ABSENT, NULL, "a", "", "", "a: is not an option"},
    };
    for (int i = 0; i < HARNESS_COUNT(cases); i++) {
        wordy w;
        par_problems p;
        wordy_parse(&w, cases[i].type, cases[i].legal, cases[i].line, &p);
        CHECK(strcmp(joined(&w.texts), cases[i].texts) == 0, "%s: texts \"%s\"", cases[i].line,
              joined(&w.texts));
        CHECK(strcmp(joined(&w.rest), cases[i].rest) == 0, "%s: words \"%s\"", cases[i].line,
              joined(&w.rest));
        CHECK(cases[i].problem ? p.n == 1 && strstr(p.text, cases[i].problem) : p.n == 0,
              "%s: %d problems: %s", cases[i].line, p.n, p.text);
        CHECK((w.ranks == 4) == (p.n == 0 && cases[i].type == PAR_OPT_REST), "%s: %lld ranks",
              cases[i].line, (long long)w.ranks);
        char text[1024];
        par_options_help(w.table, 4, "usage: x", text, sizeof text);
        CHECK(cases[i].type == PAR_OPT_ABSENT || strstr(text, "\n  RUN  "), "help: %s", text);
    }
}

static void all_at_once(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--layers", "0", "--typo", "--lr=x", "stray");
    CHECK(p.n == 4, "%d problems instead of 4: %s", p.n, p.text);
    int lines = 1;
    for (const char *c = p.text; *c; c++) lines += *c == '\n';
    CHECK(lines == 4, "%d lines", lines);
}

/* More problems than the text holds: counted all the same, and the text stays terminated. */
static void flood(void) {
    example e;
    par_problems p = {0};
    char *argv[600], word[] = "--a-rather-long-option-name-that-does-not-exist";
    for (int i = 0; i < 600; i++) argv[i] = word;
    example_make(&e);
    par_options_parse(e.table, N, 600, argv, &p);
    CHECK(p.n == 600 && strnlen(p.text, sizeof p.text) < sizeof p.text, "%d problems", p.n);
}

static void help(void) {
    example e;
    char text[4096], small[40];
    example_make(&e);
    par_options_help(e.table, N, "usage: x", text, sizeof text);
    for (int i = 0; i < N; i++)
        CHECK(!strstr(text, e.table[i].name) == (e.table[i].type == PAR_OPT_ABSENT), "help: %s",
              e.table[i].name);
    const char *const parts[] = {"--[no-]rope",
                                 "(default: on)",
                                 "--verify ",
                                 "--data FILE ",
                                 "--layers N ",
                                 "--lr X ",
                                 "(default: 0.001)",
                                 "--parts N,N,... ",
                                 "--schedule gpipe|1f1b ",
                                 "blocks; also --blocks (default: 4)"};
    for (int i = 0; i < HARNESS_COUNT(parts); i++)
        CHECK(strstr(text, parts[i]), "help lacks \"%s\": %s", parts[i], text);
    const char *first = strstr(text, "\nfirst\n"), *second = strstr(text, "\nsecond\n");
    CHECK(first && second && first < second && !strstr(first + 1, "\nfirst\n"),
          "groups once, in order");
    memset(small, 'x', sizeof small);
    par_options_help(e.table, N, "usage: x", small, sizeof small);
    CHECK(strnlen(small, sizeof small) < sizeof small, "truncated help is not terminated");
}

/* The table of other names: sorted, each with what to write. */
static void others(void) {
    example e;
    char text[2048], small[40];
    example_make(&e);
    par_options_others(e.table, N, text, sizeof text);
    const char *const lines[] = {
        "-l ",           "-w ",           "--blocks ",      "--learning-rate ",
        "--n-layer ",    "--num-layers ", "--num-workers ", "--order ",
        "--order afab ", "--tiny "};
    const char *const means[] = {
        "--lr X",           "files are read", "--layers N",     "--lr X",
        "--layers N",       "--layers N",     "files are read", "--schedule gpipe|1f1b",
        "--schedule gpipe", "--layers 2"};
    const char *at = text;
    for (int i = 0; i < HARNESS_COUNT(lines); i++, at = strchr(at, '\n') + 1)
        if (strncmp(at + 2, lines[i], strlen(lines[i])) != 0 || !strstr(at, means[i])) {
            CHECK(false, "line %d: \"%.60s\" instead of %s, %s", i, at, lines[i], means[i]);
            return;
        }
    CHECK(!*at, "more lines: %s", at);
    par_options_others(e.table, N, small, sizeof small);
    CHECK(strnlen(small, sizeof small) < sizeof small, "a cut table is not terminated");
}

static void closest(void) {
    static const char *const names[] = {"micro-batch", "batch", "tp", "pp", "dp", "layers"};
    const struct {
        const char *word, *want;
    } cases[] = {{"micro-btach", "micro-batch"},
                 {"bach", "batch"},
                 {"layer", "layers"},
                 {"learning-rate", NULL},
                 {"x", NULL}};
    for (int i = 0; i < HARNESS_COUNT(cases); i++) {
        const char *got = par_closest(cases[i].word, names, HARNESS_COUNT(names));
        bool good = cases[i].want ? got && strcmp(got, cases[i].want) == 0 : !got;
        CHECK(good, "%s: %s instead of %s", cases[i].word, got ? got : "nothing",
              cases[i].want ? cases[i].want : "nothing");
    }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"forms", forms, 0, NULL, 0},         {"defaults", defaults, 0, NULL, 0},
        {"last-wins", last_wins, 0, NULL, 0}, {"second-names", second_names, 0, NULL, 0},
        {"texts", texts, 0, NULL, 0},         {"refused", refused, 0, NULL, 0},
        {"words", words, 0, NULL, 0},         {"all-at-once", all_at_once, 0, NULL, 0},
        {"flood", flood, 0, NULL, 0},         {"help", help, 0, NULL, 0},
        {"closest", closest, 0, NULL, 0},     {"others", others, 0, NULL, 0},
    };
    return harness_main("option", cases, HARNESS_COUNT(cases), argc, argv);
}
