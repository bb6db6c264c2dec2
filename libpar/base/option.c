/*
 * The option table: parsing and refusals. Everything comes from the rows, so that what is parsed,
 * what is shown and what is refused cannot disagree. Nothing is printed; every problem becomes a
 * line for the caller, and a value that is refused leaves the one before it in place.
 */
#define _POSIX_C_SOURCE 200809L
#include "libpar/base/option.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row's "min..max": the texts, to be printed as they stand, and their numbers. */
typedef struct {
    const char *low, *high; /* "": no bound */
    int n_low;              /* characters of low */
    double min, max;
} bounds;

static bounds bounds_of(const par_option *option) {
    bounds b = {"", "", 0, -INFINITY, INFINITY};
    const char *dots = option->legal ? strstr(option->legal, "..") : NULL;
    if (!dots) return b;
    b.low = option->legal;
    b.n_low = (int)(dots - b.low);
    b.high = dots + 2;
    if (b.n_low) b.min = strtod(b.low, NULL);
    if (*b.high) b.max = strtod(b.high, NULL);
    return b;
}

const char *par__option_legal(const par_option *option, char *text, size_t nbytes) {
    bounds b = bounds_of(option);
    size_t used = 0;
    text[0] = 0;
    for (const par_choice *c = option->choices; c && c->name && used < nbytes; c++)
        used += (size_t)snprintf(text + used, nbytes - used, "%s%s",
                                 c == option->choices ? "; legal: " : "|", c->name);
    if (b.n_low && *b.high)
        snprintf(text, nbytes, "; legal: %.*s to %s", b.n_low, b.low, b.high);
    else if (b.n_low)
        snprintf(text, nbytes, "; legal: %.*s or more", b.n_low, b.low);
    else if (*b.high)
        snprintf(text, nbytes, "; legal: %s or less", b.high);
    return text;
}

/* What is wrong with a number; false: nothing. */
static bool outside(const par_option *option, double value, char *why, size_t nbytes) {
    bounds b = bounds_of(option);
    if (value < b.min)
        snprintf(why, nbytes, "is below %.*s", b.n_low, b.low);
    else if (value > b.max)
        snprintf(why, nbytes, "is above %s", b.high);
    else
        return false;
    return true;
}

/* Whole text as an integer. A number that no int64_t holds is as far out as one can be. */
static bool read_int(const par_option *option, const char *text, char *why, size_t nbytes) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool number = end != text && !*end;
    snprintf(why, nbytes, number ? "does not fit in 64 bits" : "is not an integer");
    if (!number || outside(option, (double)value, why, nbytes) || errno) return false;
    *(int64_t *)option->value = value;
    return true;
}

static bool read_real(const par_option *option, const char *text, char *why, size_t nbytes) {
    char *end = NULL;
    double value = strtod(text, &end); /* an underflow to a denormal is a fine number */
    bool number = end != text && !*end && isfinite(value);
    snprintf(why, nbytes, "is not a number");
    if (!number || outside(option, value, why, nbytes)) return false;
    *(double *)option->value = value;
    return true;
}

static bool read_choice(const par_option *option, const char *text, char *why, size_t nbytes) {
    snprintf(why, nbytes, "is not one of the choices");
    for (const par_choice *c = option->choices; c->name; c++) {
        if (strcmp(c->name, text) != 0) continue;
        *(int *)option->value = c->value;
        return true;
    }
    return false;
}

static bool read_list(const par_option *option, const char *text, char *why, size_t nbytes) {
    par_int_list list = {0};
    int max = (int)(sizeof list.values / sizeof *list.values);
    char bound[64];
    for (;; text++) {
        char *end = NULL;
        errno = 0;
        long value = strtol(text, &end, 10);
        snprintf(why, nbytes, "is not integers with commas between, such as 5,6,6,5");
        if (end == text || (*end && *end != ',') || errno || value != (int)value) return false;
        if (outside(option, (double)value, bound, sizeof bound)) {
            snprintf(why, nbytes, "has %ld, which %s", value, bound);
            return false;
        }
        snprintf(why, nbytes, "has more than %d numbers", max);
        if (list.n == max) return false;
        list.values[list.n++] = (int)value;
        text = end;
        if (!*text) break;
    }
    *(par_int_list *)option->value = list;
    return true;
}

static bool add_word(const par_option *option, const char *text, char *why, size_t nbytes) {
    par_words *list = option->value;
    snprintf(why, nbytes, "is the %dth word; there is room for %d", list->n + 1, list->max);
    if (list->n == list->max) return false;
    list->words[list->n++] = text;
    return true;
}

void par__option_store(par_option *option, const char *text, const char *where,
                       par_problems *problems) {
    char why[128] = "", legal[512], other[512];
    bool good = true;
    switch (option->type) {
    case PAR_OPT_BOOL: *(bool *)option->value = strcmp(text, "on") == 0; break;
    case PAR_OPT_INT: good = read_int(option, text, why, sizeof why); break;
    case PAR_OPT_REAL: good = read_real(option, text, why, sizeof why); break;
    case PAR_OPT_TEXT: *(const char **)option->value = text; break;
    case PAR_OPT_CHOICE: good = read_choice(option, text, why, sizeof why); break;
    case PAR_OPT_LIST: good = read_list(option, text, why, sizeof why); break;
    case PAR_OPT_WORDS:
    case PAR_OPT_OPERANDS:
    case PAR_OPT_REST: good = add_word(option, text, why, sizeof why); break;
    case PAR_OPT_ABSENT: break;
    }
    if (good) return;
    bool known = par__option_instead(option, text, other, sizeof other);
    par_problem(problems, "%s%s %s: %s%s%s%s", where, option->name, text, why,
                par__option_legal(option, legal, sizeof legal), known ? "; write " : "",
                known ? other : "");
}

static void store_default(par_option *option, par_problems *problems) {
    option->given = 0;
    switch (option->type) {
    case PAR_OPT_BOOL: *(bool *)option->value = false; break;
    case PAR_OPT_INT: *(int64_t *)option->value = 0; break;
    case PAR_OPT_REAL: *(double *)option->value = 0; break;
    case PAR_OPT_TEXT: *(const char **)option->value = NULL; break;
    case PAR_OPT_CHOICE: *(int *)option->value = 0; break;
    case PAR_OPT_LIST: ((par_int_list *)option->value)->n = 0; break;
    case PAR_OPT_WORDS:
    case PAR_OPT_OPERANDS:
    case PAR_OPT_REST: ((par_words *)option->value)->n = 0; break;
    case PAR_OPT_ABSENT: return;
    }
    if (option->initial) par__option_store(option, option->initial, "--", problems);
}

/* Whether the name is a +NAME of the row. */
static bool is_taken_as(const par_option *option, const char *name, size_t length) {
    for (const char *at = option->also; at && *at; at += strcspn(at, "|"), at += *at == '|')
        if (*at == '+' && strcspn(at + 1, "|") == length && strncmp(at + 1, name, length) == 0)
            return true;
    return false;
}

par_option *par__option_find(par_option *options, int n, const char *name, size_t length) {
    for (int i = 0; i < n; i++)
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
            return &options[i];
    for (int i = 0; i < n; i++)
        if (is_taken_as(&options[i], name, length)) return &options[i];
    return NULL;
}

static bool is_number(const char *word) {
    word += *word == '-';
    return isdigit((unsigned char)*word) || (*word == '.' && isdigit((unsigned char)word[1]));
}

/* A name that is not a row's, at argv[0]; returns how many words it and its values took. The value
 * of an unknown option is not a second problem, nor are further ones that are numbers. */
static int parse_unknown(const par_option *options, int n, int left, const char *where,
                         const char *name, char *const *argv, par_problems *problems) {
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    bool has_word = !equals && left > 1 && (argv[1][0] != '-' || is_number(argv[1]));
    const char *value = equals ? equals + 1 : has_word ? argv[1] : NULL;
    int taken = has_word ? 2 : 1;
    while (has_word && taken < left && is_number(argv[taken])) taken++;
    par__option_unknown(options, n, where, name, length, value, problems);
    return taken;
}

/* One option at argv[0], without its dashes `name`; returns how many words it took. */
static int parse_one(par_option *options, int n, int left, const char *name, char *const *argv,
                     par_problems *problems) {
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    bool negated = false; /* "no-", in front of a switch's name */
    par_option *option = par__option_find(options, n, name, length);
    if (!option && length > 3 && strncmp(name, "no-", 3) == 0) {
        option = par__option_find(options, n, name + 3, length - 3);
        negated = option && option->type == PAR_OPT_BOOL;
        if (!negated) option = NULL;
    }
    if (!option || !par__option_is_named(option))
        return parse_unknown(options, n, left, "--", name, argv, problems);
    option->given++;
    if (option->type == PAR_OPT_BOOL) {
        if (equals)
            par_problem(problems, "--%.*s: takes no value; legal: --%s, --no-%s", (int)length, name,
                        option->name, option->name);
        par__option_store(option, negated ? "off" : "on", "--", problems);
        return 1;
    }
    if (!equals && (left < 2 || strncmp(argv[1], "--", 2) == 0)) {
        char legal[512];
        par_problem(problems, "--%s: its value is missing%s", option->name,
                    par__option_legal(option, legal, sizeof legal));
        return 1;
    }
    par__option_store(option, equals ? equals + 1 : argv[1], "--", problems);
    int taken = equals ? 1 : 2;
    for (; option->type == PAR_OPT_WORDS && taken < left && argv[taken][0] != '-'; taken++)
        par__option_store(option, argv[taken], "--", problems);
    return taken;
}

/* What the option "--NAME", "-h" or a row's "-n" is called, its value behind it; NULL: it is
 * none. */
static const char *name_of(const par_option *options, int n, const char *word) {
    if (strncmp(word, "--", 2) == 0) return word[2] ? word + 2 : NULL;
    if (strcmp(word, "-h") == 0) return "help";
    for (int i = 0; i < n && word[0] == '-'; i++)
        if (options[i].letter && word[1] == options[i].letter && !word[2]) return options[i].name;
    return NULL;
}

/* Words that are no option's, at argv[0]; returns how many were taken. */
static int take_operands(par_option *options, int n, int left, char *const *argv,
                         par_problems *problems) {
    par_option *row = NULL;
    for (int i = 0; i < n; i++)
        if (options[i].type == PAR_OPT_OPERANDS || options[i].type == PAR_OPT_REST)
            row = &options[i];
    if (!row || argv[0][0] == '-') {
        par_problem(problems,
                    "%s: is not an option; options begin with two dashes, --help lists them%s",
                    argv[0],
                    par__option_find(options, n, "config", strlen("config"))
                        ? "; --config FILE takes them from a file"
                        : "");
        return 1;
    }
    int taken = row->type == PAR_OPT_REST ? left : 1;
    for (int i = 0; i < taken; i++) par__option_store(row, argv[i], "", problems);
    row->given += taken;
    return taken;
}

void par_options_parse(par_option *options, int n, int argc, char *const *argv,
                       par_problems *problems) {
    for (int i = 0; i < n; i++) store_default(&options[i], problems);
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        const char *name = name_of(options, n, word);
        if (name)
            i += parse_one(options, n, argc - i, name, argv + i, problems);
        else if (word[0] == '-' && isalpha((unsigned char)word[1]))
            i += parse_unknown(options, n, argc - i, "", word, argv + i, problems);
        else
            i += take_operands(options, n, argc - i, argv + i, problems);
    }
    /* As many words as rows of OPERANDS want. */
    for (int i = 0; i < n; i++) {
        const par_option *row = &options[i];
        if (row->type != PAR_OPT_OPERANDS) continue;
        char legal[128];
        bounds b = bounds_of(row);
        int given = ((const par_words *)row->value)->n;
        if (given < b.min && given == 0)
            par_problem(problems, "%s: is missing; legal: %s", row->name, row->help);
        else if (given < b.min || given > b.max)
            par_problem(problems, "%s: %d given%s", row->name, given,
                        par__option_legal(row, legal, sizeof legal));
    }
}
