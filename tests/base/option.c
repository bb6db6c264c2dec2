/*
 * The option table: every form of every type, every kind of problem at once, suggestions, and help
 * that names all options. A refused value must leave the default.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "par/option.h"

typedef struct {
    bool verify, rope;
    int64_t layers;
    double lr;
    const char *data, *schedule;
    par_int_list parts;
    par_option table[7];
} example;

enum { N = 7 };

static void example_make(example *e) {
    memset(e, 0, sizeof *e);
    e->rope = true;
    e->layers = 4;
    e->lr = 1e-3;
    e->schedule = "1f1b";
    const par_option table[N] = {
        {"verify", PAR_OPT_BOOL, &e->verify, "first", "check", NULL, false},
        {"rope", PAR_OPT_BOOL, &e->rope, "second", "rotate", NULL, false},
        {"layers", PAR_OPT_INT, &e->layers, "first", "blocks", "1..96", false},
        {"lr", PAR_OPT_REAL, &e->lr, "second", "rate", "0..", false},
        {"data", PAR_OPT_TEXT, &e->data, "first", "file", NULL, false},
        {"schedule", PAR_OPT_CHOICE, &e->schedule, "first", "kind", "gpipe|1f1b", false},
        {"parts", PAR_OPT_LIST, &e->parts, "first", "cuts", "0..", false},
    };
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
          "--schedule=gpipe", "--parts", "5,6,6,5");
    CHECK(p.n == 0, "%d problems: %s", p.n, p.text);
    CHECK(e.verify && !e.rope, "flags");
    CHECK(e.layers == 12 && e.lr == 6e-4, "numbers %lld %g", (long long)e.layers, e.lr);
    CHECK(e.data && strcmp(e.data, "a file") == 0 && strcmp(e.schedule, "gpipe") == 0, "texts");
    CHECK(e.parts.n == 4 && e.parts.values[1] == 6 && e.parts.values[3] == 5, "list of %d",
          e.parts.n);
    for (int i = 0; i < N; i++) CHECK(e.table[i].set, "%s is not marked as set", e.table[i].name);
}

static void defaults(void) {
    example e;
    par_problems p;
    PARSE(&e, &p, "--verify");
    CHECK(p.n == 0 && e.layers == 4 && e.rope && !e.data && strcmp(e.schedule, "1f1b") == 0,
          "defaults changed");
    CHECK(e.table[0].set && !e.table[2].set, "set marks what was given, and that alone");
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
    EXPECT("legal: 1 to 96", "--layers", "97");
    EXPECT("legal: 1 to 96", "--layers", "4x");
    EXPECT("legal: 1 to 96", "--layers", "99999999999999999999");
    EXPECT("legal: 1 to 96", "--layers");
    EXPECT("legal: 0 or more", "--lr", "-1");
    EXPECT("is not a number", "--lr", "nan");
    EXPECT("value is missing", "--data", "--verify");
    EXPECT("legal: gpipe|1f1b", "--schedule", "1f1");
    EXPECT("legal: gpipe|1f1b", "--schedule=gpipe|1f1b");
    EXPECT("integers with commas", "--parts", "5,,6");
    EXPECT("integers with commas", "--parts", "5,-6");
    EXPECT("takes no value", "--verify=yes");
    EXPECT("unknown option", "--no-layers");
    EXPECT("more than once", "--verify", "--no-verify");
    EXPECT("is no option", "train.bin");
    EXPECT("is no option", "--");
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
        CHECK(strstr(text, e.table[i].name), "%s is not in the help", e.table[i].name);
    CHECK(strstr(text, "--[no-]rope") && strstr(text, "(default: on)") &&
              strstr(text, "gpipe|1f1b"),
          "help: %s", text);
    const char *first = strstr(text, "\nfirst\n"), *second = strstr(text, "\nsecond\n");
    CHECK(first && second && first < second && !strstr(first + 1, "\nfirst\n"),
          "groups once, in order");
    memset(small, 'x', sizeof small);
    par_options_help(e.table, N, "usage: x", small, sizeof small);
    CHECK(strnlen(small, sizeof small) < sizeof small, "truncated help is not terminated");
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
        {"forms", forms, 0, NULL, 0},     {"defaults", defaults, 0, NULL, 0},
        {"refused", refused, 0, NULL, 0}, {"all-at-once", all_at_once, 0, NULL, 0},
        {"flood", flood, 0, NULL, 0},     {"help", help, 0, NULL, 0},
        {"closest", closest, 0, NULL, 0},
    };
    return harness_main("option", cases, HARNESS_COUNT(cases), argc, argv);
}
