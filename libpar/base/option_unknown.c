/*
 * Names that no row has: what to write instead. A row lists what other programs call it (`also`),
 * by which a refusal can give the whole option with its value, and a reader the whole table.
 */
#define _POSIX_C_SOURCE 200809L
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/option.h"

enum { MAX_WORD = 64, MAX_NAMES = 256, MAX_OTHERS = 1024, NAME_COLUMN = 40 };

/* One entry of a row's `also`: "NAME", "+NAME", "NAME=VALUE" or "NAME THEIRS=VALUE", where THEIRS
 * may be a pattern as those of file names, "bf16-*". */
typedef struct {
    const par_option *option;
    char name[MAX_WORD], theirs[MAX_WORD], value[MAX_WORD]; /* "": not there */
} other;

/* The entry at *at, which moves behind it; false: there is none. */
static bool next_other(const par_option *option, const char **at, other *out) {
    if (!*at || !**at) return false;
    *at += **at == '+';
    int n = (int)strcspn(*at, "|"), n_name = (int)strcspn(*at, "| ="), theirs = 0;
    const char *equals = memchr(*at, '=', (size_t)n);
    if ((*at)[n_name] == ' ' && equals) theirs = (int)(equals - *at) - n_name - 1;
    *out = (other){.option = option};
    snprintf(out->name, sizeof out->name, "%.*s", n_name, *at);
    snprintf(out->theirs, sizeof out->theirs, "%.*s", theirs, *at + n_name + 1);
    if (equals)
        snprintf(out->value, sizeof out->value, "%.*s", (int)(*at + n - equals) - 1, equals + 1);
    *at += n + ((*at)[n] == '|');
    return true;
}

/* The entry that a name means: one with its value, if it has one, before those without. */
static bool find_other(const par_option *options, int n, const char *name, const char *value,
                       other *out) {
    bool found = false;
    other o;
    for (int i = 0; i < n; i++) {
        const char *at = options[i].also;
        if (!found && options[i].type == PAR_OPT_ABSENT && strcmp(options[i].name, name) == 0) {
            *out = (other){.option = &options[i]};
            found = true;
        }
        while (next_other(&options[i], &at, &o)) {
            bool valued = *o.theirs && value && fnmatch(o.theirs, value, 0) == 0;
            if (strcmp(o.name, name) != 0 || (!valued && (found || *o.theirs))) continue;
            *out = o;
            found = true;
            if (valued) return true;
        }
    }
    return found;
}

/* What to write here, "--lr 3e-4"; `value`: the user's, NULL if there is none. */
static const char *instead(const other *o, const char *value, char *text, size_t nbytes) {
    char form[400];
    const char *what = par__option_value_form(o->option, form, sizeof form);
    if (o->option->type == PAR_OPT_ABSENT) return o->option->help;
    bool legal = value && !o->option->choices;
    for (const par_choice *c = o->option->choices; value && c && c->name; c++)
        legal |= strcmp(c->name, value) == 0;
    if (*o->value)
        what = o->value;
    else if (legal && o->option->type != PAR_OPT_BOOL)
        what = value;
    snprintf(text, nbytes, "--%s%s%s", o->option->name, *what ? " " : "", what);
    return text;
}

bool par__option_instead(const par_option *option, const char *value, char *text, size_t nbytes) {
    const char *at = option->also;
    for (other o; next_other(option, &at, &o);) {
        bool own = *o.theirs && strcmp(o.name, option->name) == 0;
        if (!own || fnmatch(o.theirs, value, 0) != 0) continue;
        instead(&o, NULL, text, nbytes);
        return true;
    }
    return false;
}

void par__option_unknown(const par_option *options, int n, const char *where, const char *name,
                         size_t length, const char *value, par_problems *problems) {
    const char *names[MAX_NAMES];
    char word[MAX_WORD + 1], plain[MAX_WORD + 1], text[512];
    int known = 0;
    other o;
    for (int i = 0; i < n && known < MAX_NAMES; i++)
        if (par__option_is_named(&options[i])) names[known++] = options[i].name;
    snprintf(word, sizeof word, "%.*s", (int)(length < MAX_WORD ? length : MAX_WORD), name);
    snprintf(plain, sizeof plain, "%s", word); /* other programs write underscores, too */
    for (char *c = plain; *c; c++)
        if (*c == '_') *c = '-';
    const char *closest = par_closest(plain, names, known), *within = strrchr(plain, '.');
    bool found = find_other(options, n, plain, value, &o);
    /* torchtitan's have sections: --training.steps */
    for (int i = 0; within && !found && i < n; i++)
        if (par__option_is_named(&options[i]) && strcmp(options[i].name, within + 1) == 0) {
            o = (other){.option = &options[i]};
            found = true;
        }
    if (found || (within && find_other(options, n, within + 1, value, &o)))
        par_problem(problems, "%s%s: unknown option; %s%s", where, word,
                    o.option->type == PAR_OPT_ABSENT ? "" : "write ",
                    instead(&o, value, text, sizeof text));
    else if (closest)
        par_problem(problems, "%s%s: unknown option; did you mean --%s?", where, word, closest);
    else
        par_problem(problems, "%s%s: unknown option; --help lists them", where, word);
}

static int by_name(const void *a, const void *b) {
    const other *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->theirs, y->theirs);
}

void par_options_others(const par_option *options, int n, char *text, size_t nbytes) {
    static const char *const dashes[] = {"--", ""};
    other *all = calloc(MAX_OTHERS, sizeof *all);
    int n_all = 0;
    size_t used = 0;
    if (nbytes) text[0] = 0;
    for (int i = 0; all && i < n; i++) {
        const char *at = options[i].also;
        if (options[i].type == PAR_OPT_ABSENT && n_all < MAX_OTHERS) {
            all[n_all].option = &options[i];
            snprintf(all[n_all++].name, MAX_WORD, "%s", options[i].name);
        }
        while (n_all < MAX_OTHERS && next_other(&options[i], &at, &all[n_all])) n_all++;
    }
    if (all) qsort(all, (size_t)n_all, sizeof *all, by_name);
    for (int i = 0; i < n_all && used < nbytes; i++) {
        char name[3 * MAX_WORD], form[512];
        snprintf(name, sizeof name, "%s%s%s%s", dashes[all[i].name[0] == '-'], all[i].name,
                 *all[i].theirs ? " " : "", all[i].theirs);
        used += (size_t)snprintf(text + used, nbytes - used, "  %-*s  %s\n", NAME_COLUMN - 1, name,
                                 instead(&all[i], NULL, form, sizeof form));
    }
    free(all);
}
