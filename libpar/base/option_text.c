/* Option rows as text: a value as it is written on the command line, and --help. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/number.h"
#include "libpar/base/option.h"

enum { NAME_COLUMN = 30 };

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

const char *par_choice_name(const par_choice *choices, int value) {
    for (; choices->name; choices++)
        if (choices->value == value) return choices->name;
    return NULL;
}

const char *par_option_text(const par_option *option, char *text, size_t nbytes) {
    buffer b = {text, 0, nbytes};
    const par_int_list *list = option->value;
    const char *word = NULL;
    char real[PAR__NUMBER_NBYTES];
    if (nbytes == 0) return text;
    text[0] = 0;
    switch (option->type) {
    case PAR_OPT_BOOL: word = *(const bool *)option->value ? "on" : "off"; break;
    case PAR_OPT_INT: put(&b, "%lld", (long long)*(const int64_t *)option->value); break;
    case PAR_OPT_REAL: put(&b, "%s", par__exact(real, *(const double *)option->value)); break;
    case PAR_OPT_TEXT: word = *(const char *const *)option->value; break;
    case PAR_OPT_CHOICE:
        word = par_choice_name(option->choices, *(const int *)option->value);
        break;
    case PAR_OPT_LIST:
        for (int i = 0; i < list->n; i++) put(&b, "%s%d", i ? "," : "", list->values[i]);
        break;
    case PAR_OPT_WORDS:
    case PAR_OPT_OPERANDS:
    case PAR_OPT_REST:
    case PAR_OPT_ABSENT: break;
    }
    if (word) put(&b, "%s", word);
    return text;
}

const char *par__option_value_form(const par_option *option, char *text, size_t nbytes) {
    static const char *const forms[] = {
        [PAR_OPT_BOOL] = "",         [PAR_OPT_INT] = "N",     [PAR_OPT_REAL] = "X",
        [PAR_OPT_TEXT] = "TEXT",     [PAR_OPT_CHOICE] = "",   [PAR_OPT_LIST] = "N,N,...",
        [PAR_OPT_WORDS] = "TEXT...", [PAR_OPT_OPERANDS] = "", [PAR_OPT_REST] = "",
        [PAR_OPT_ABSENT] = ""};
    buffer b = {text, 0, nbytes};
    put(&b, "%s", option->metavar ? option->metavar : forms[option->type]);
    for (const par_choice *c = option->choices; c && c->name; c++)
        put(&b, "%s%s", c == option->choices ? "" : "|", c->name);
    return text;
}

static void put_option(buffer *b, const par_option *option) {
    bool on = option->type == PAR_OPT_BOOL && option->initial;
    char name[512], value[400];
    buffer left = {name, 0, sizeof name};
    par__option_value_form(option, value, sizeof value);
    put(&left, "  %s%s%s%s%s", par__option_is_named(option) ? "--" : "", on ? "[no-]" : "",
        option->name, *value ? " " : "", value);
    put(b, "%-*s", NAME_COLUMN, name);
    if (left.used >= NAME_COLUMN) put(b, "\n%*s", NAME_COLUMN, "");
    put(b, " %s", option->help);
    if (option->letter) put(b, "; also -%c", option->letter);
    const char *at = option->also;
    for (at = at ? strchr(at, '+') : NULL; at; at = strchr(at + 1, '+'))
        put(b, "; also --%.*s", (int)strcspn(at + 1, "|"), at + 1);
    if (option->initial) put(b, " (default: %s)", option->initial);
    put(b, "\n");
}

static bool same_group(const par_option *a, const par_option *b) {
    return a->group && b->group && strcmp(a->group, b->group) == 0;
}

void par_options_help(const par_option *options, int n, const char *usage, char *text,
                      size_t nbytes) {
    buffer b = {text, 0, nbytes};
    if (nbytes == 0) return;
    text[0] = 0;
    put(&b, "%s\n", usage);
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int k = 0; k < i && !seen; k++) seen = same_group(&options[k], &options[i]);
        if (seen || !options[i].group) continue;
        put(&b, "\n%s\n", options[i].group);
        for (int k = i; k < n; k++)
            if (same_group(&options[k], &options[i])) put_option(&b, &options[k]);
    }
}
