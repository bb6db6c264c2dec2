/*
 * The option table: parsing, help and suggestions. One table describes everything, so that what is
 * parsed, what is shown and what is refused cannot disagree. Nothing is printed; every problem
 * becomes a line for the caller, and a value that is refused leaves the default in place.
 */
#define _POSIX_C_SOURCE 200809L
#include "par/option.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORD = 64, MAX_OPTIONS = 128, NAME_COLUMN = 30 };

static int min3(int a, int b, int c) {
    int ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Optimal string alignment distance: insert, delete, replace, swap of neighbours cost 1. Words are
 * cut at MAX_WORD. */
static int edit_distance(const char *a, const char *b) {
    int rows[3][MAX_WORD + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    int na = (int)strnlen(a, MAX_WORD), nb = (int)strnlen(b, MAX_WORD);
    for (int j = 0; j <= nb; j++) above[j] = j;
    for (int i = 1; i <= na; i++) {
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j]) row[j] = before[j - 2] + 1;
        }
        int *reuse = before;
        before = above;
        above = row;
        row = reuse;
    }
    return above[nb];
}

const char *par_closest(const char *word, const char *const *names, int n) {
    /* A third of the word may be wrong; below three letters nothing is near. */
    int limit = (int)strlen(word) / 3;
    const char *closest = NULL;
    if (limit < 2) limit = (int)strlen(word) >= 3 ? 2 : 1;
    for (int i = 0; i < n; i++) {
        int distance = edit_distance(word, names[i]);
        if (distance > limit || distance >= (int)strlen(names[i])) continue;
        if (closest && distance == limit) continue;
        closest = names[i];
        limit = distance;
    }
    return closest;
}

/* "min..max", either side may be empty; NULL or "": no bounds. */
static void bounds(const char *legal, double *low, double *high) {
    const char *dots = legal ? strstr(legal, "..") : NULL;
    *low = -INFINITY;
    *high = INFINITY;
    if (!dots) return;
    if (dots > legal) *low = strtod(legal, NULL);
    if (dots[2]) *high = strtod(dots + 2, NULL);
}

static bool in_bounds(const par_option *option, double value) {
    double low, high;
    bounds(option->legal, &low, &high);
    return value >= low && value <= high;
}

/* ", legal: 1..8" or "". */
static const char *legal_text(const par_option *option, char *text, size_t nbytes) {
    double low, high;
    bounds(option->legal, &low, &high);
    text[0] = 0;
    if (option->type == PAR_OPT_CHOICE)
        snprintf(text, nbytes, "; legal: %s", option->legal);
    else if (isfinite(low) && isfinite(high))
        snprintf(text, nbytes, "; legal: %g to %g", low, high);
    else if (isfinite(low))
        snprintf(text, nbytes, "; legal: %g or more", low);
    else if (isfinite(high))
        snprintf(text, nbytes, "; legal: %g or less", high);
    return text;
}

static bool parse_integer(const char *text, int64_t *out) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno) return false;
    *out = value;
    return true;
}

static bool parse_real(const char *text, double *out) {
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    /* ERANGE also reports an underflow to a denormal, which is a fine number. */
    if (end == text || *end || !isfinite(value)) return false;
    *out = value;
    return true;
}

static bool parse_choice(const par_option *option, const char *text, const char **out) {
    size_t length = strlen(text);
    for (const char *at = option->legal; at && *at;) {
        const char *bar = strchr(at, '|');
        size_t n = bar ? (size_t)(bar - at) : strlen(at);
        if (n == length && strncmp(at, text, n) == 0) {
            *out = text;
            return true;
        }
        at = bar ? bar + 1 : NULL;
    }
    return false;
}

static bool parse_list(const par_option *option, const char *text, par_int_list *out) {
    par_int_list list = {0};
    int max = (int)(sizeof list.values / sizeof *list.values);
    while (list.n < max) {
        char *end = NULL;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (end == text || errno || value != (int)value || !in_bounds(option, (double)value))
            return false;
        list.values[list.n++] = (int)value;
        if (*end == 0) {
            *out = list;
            return true;
        }
        if (*end != ',') return false;
        text = end + 1;
    }
    return false;
}

static void store(par_option *option, const char *text, par_problems *problems) {
    static const char *const wanted[] = {[PAR_OPT_INT] = "an integer",
                                         [PAR_OPT_REAL] = "a number",
                                         [PAR_OPT_CHOICE] = "one of the choices",
                                         [PAR_OPT_LIST] =
                                             "integers with commas between, such as 5,6,6,5"};
    char legal[512];
    bool good = true;
    int64_t integer = 0;
    double real = 0;
    switch (option->type) {
    case PAR_OPT_INT:
        good = parse_integer(text, &integer) && in_bounds(option, (double)integer);
        if (good) *(int64_t *)option->value = integer;
        break;
    case PAR_OPT_REAL:
        good = parse_real(text, &real) && in_bounds(option, real);
        if (good) *(double *)option->value = real;
        break;
    case PAR_OPT_CHOICE: good = parse_choice(option, text, option->value); break;
    case PAR_OPT_LIST: good = parse_list(option, text, option->value); break;
    case PAR_OPT_TEXT: *(const char **)option->value = text; break;
    case PAR_OPT_BOOL: break;
    }
    if (!good)
        par_problem(problems, "--%s %s: is not %s%s", option->name, text, wanted[option->type],
                    legal_text(option, legal, sizeof legal));
}

static par_option *find(par_option *options, int n, const char *name, size_t length) {
    for (int i = 0; i < n; i++)
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
            return &options[i];
    return NULL;
}

/* Near in meaning, not in spelling; only what the table has is suggested. */
static const char *same_meaning(const char *word, const char *const *names, int n) {
    static const char *const pairs[][2] = {{"backend", "device"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int k = 0; k < n; k++)
            if (strcmp(word, pairs[i][0]) == 0 && strcmp(names[k], pairs[i][1]) == 0)
                return names[k];
    return NULL;
}

static void unknown(const par_option *options, int n, const char *name, size_t length,
                    par_problems *problems) {
    const char *names[MAX_OPTIONS];
    char word[MAX_WORD + 1];
    int known = n < MAX_OPTIONS ? n : MAX_OPTIONS;
    for (int i = 0; i < known; i++) names[i] = options[i].name;
    snprintf(word, sizeof word, "%.*s", (int)(length < MAX_WORD ? length : MAX_WORD), name);
    const char *closest = same_meaning(word, names, known);
    if (!closest) closest = par_closest(word, names, known);
    if (closest)
        par_problem(problems, "--%s: unknown option; did you mean --%s?", word, closest);
    else
        par_problem(problems, "--%s: unknown option; --help lists them", word);
}

/* One option at argv[i]; returns how many words it took. */
static int parse_one(par_option *options, int n, int left, char *const *argv,
                     par_problems *problems) {
    const char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    par_option *option = find(options, n, name, length);
    bool negated = false;
    if (!option && length > 3 && strncmp(name, "no-", 3) == 0) {
        option = find(options, n, name + 3, length - 3);
        negated = option && option->type == PAR_OPT_BOOL;
        if (!negated) option = NULL;
    }
    if (!option) {
        unknown(options, n, name, length, problems);
        /* Its value, if it seems to have one, is no second problem. */
        return !equals && left > 1 && argv[1][0] != '-' ? 2 : 1;
    }
    if (option->set) par_problem(problems, "--%s: given more than once", option->name);
    option->set = true;
    if (option->type == PAR_OPT_BOOL) {
        if (equals)
            par_problem(problems, "--%.*s: takes no value; legal: --%s, --no-%s", (int)length, name,
                        option->name, option->name);
        *(bool *)option->value = !negated;
        return 1;
    }
    if (!equals && (left < 2 || strncmp(argv[1], "--", 2) == 0)) {
        char legal[512];
        par_problem(problems, "--%s: its value is missing%s", option->name,
                    legal_text(option, legal, sizeof legal));
        return 1;
    }
    store(option, equals ? equals + 1 : argv[1], problems);
    return equals ? 1 : 2;
}

void par_options_parse(par_option *options, int n, int argc, char *const *argv,
                       par_problems *problems) {
    for (int i = 0; i < argc;) {
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2]) {
            i += parse_one(options, n, argc - i, argv + i, problems);
            continue;
        }
        par_problem(problems, "%s: is no option; options begin with two dashes, --help lists them",
                    argv[i]);
        i++;
    }
}

typedef struct {
    char *text;
    size_t used, nbytes;
} buffer;

__attribute__((format(printf, 2, 3))) static void put(buffer *b, const char *format, ...) {
    va_list args;
    if (b->used + 1 >= b->nbytes) return;
    va_start(args, format);
    int n = vsnprintf(b->text + b->used, b->nbytes - b->used, format, args);
    va_end(args);
    if (n > 0) b->used += (size_t)n;
    if (b->used >= b->nbytes) b->used = b->nbytes - 1;
}

static void put_default(buffer *b, const par_option *option) {
    const par_int_list *list = option->value;
    const char *text;
    switch (option->type) {
    case PAR_OPT_BOOL: put(b, " (default: %s)", *(const bool *)option->value ? "on" : "off"); break;
    case PAR_OPT_INT: put(b, " (default: %lld)", (long long)*(const int64_t *)option->value); break;
    case PAR_OPT_REAL: put(b, " (default: %g)", *(const double *)option->value); break;
    case PAR_OPT_TEXT:
    case PAR_OPT_CHOICE:
        text = *(const char *const *)option->value;
        if (text) put(b, " (default: %s)", text);
        break;
    case PAR_OPT_LIST:
        for (int i = 0; i < list->n; i++) put(b, "%s%d", i ? "," : " (default: ", list->values[i]);
        if (list->n) put(b, ")");
        break;
    }
}

static void put_option(buffer *b, const par_option *option) {
    static const char *const values[] = {[PAR_OPT_INT] = " N",
                                         [PAR_OPT_REAL] = " X",
                                         [PAR_OPT_TEXT] = " TEXT",
                                         [PAR_OPT_LIST] = " N,N,..."};
    char left[512];
    if (option->type == PAR_OPT_BOOL)
        snprintf(left, sizeof left, "  --[no-]%s", option->name);
    else if (option->type == PAR_OPT_CHOICE)
        snprintf(left, sizeof left, "  --%s %s", option->name, option->legal);
    else
        snprintf(left, sizeof left, "  --%s%s", option->name, values[option->type]);
    put(b, "%-*s", NAME_COLUMN, left);
    if (strlen(left) >= NAME_COLUMN) put(b, "\n%*s", NAME_COLUMN, "");
    if (*option->help) put(b, " %s", option->help);
    put_default(b, option);
    put(b, "\n");
}

void par_options_help(const par_option *options, int n, const char *usage, char *text,
                      size_t nbytes) {
    buffer b = {text, 0, nbytes};
    if (nbytes == 0) return;
    text[0] = 0;
    put(&b, "%s\n", usage);
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen |= strcmp(options[k].group, options[i].group) == 0;
        if (seen) continue;
        put(&b, "\n%s\n", options[i].group);
        for (int k = i; k < n; k++)
            if (strcmp(options[k].group, options[i].group) == 0) put_option(&b, &options[k]);
    }
}
