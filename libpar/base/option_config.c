/*
 * Options in a file: a line per option, "key = value", in the part of TOML that this needs:
 * numbers, true and false, "texts" with escapes, 'texts' without, [1, 2] for lists, # and what
 * follows as a comment. A word needs no quotes. A key is an option's name, with - or _ in it.
 */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/base/option.h"

enum { MAX_ROWS = 512 };

typedef struct {
    par_option *options;
    int n;
    int seen[MAX_ROWS]; /* of each row: the line that has it; 0: none */
    const char *path;
    int line;
    par_problems *problems;
} reading;

static bool blank(char c) {
    return c == ' ' || c == '\t';
}

static char *skip_blanks(char *c) {
    while (blank(*c)) c++;
    return c;
}

/* The character that a backslash and *c stand for; -1: none. *c is its last letter afterwards. */
static int unescape(char **c) {
    static const char letters[] = "\"\\ntr", meanings[] = "\"\\\n\t\r";
    const char *at = **c ? strchr(letters, **c) : NULL;
    char digits[5] = "", *end;
    if (at) return (unsigned char)meanings[at - letters];
    if (**c != 'u') return -1;
    for (int i = 0; i < 4 && (*c)[i + 1]; i++) digits[i] = (*c)[i + 1];
    long code = strtol(digits, &end, 16);
    if (end != digits + 4 || !isxdigit((unsigned char)digits[0]) || code < 1 || code > 0x7f)
        return -1;
    *c += 4;
    return (int)code;
}

/* A text in quotes at *at, which moves behind it; NULL: it is broken. */
static char *read_quoted(char **at) {
    char quote = **at, *begin = *at + 1, *to = begin, *c = begin;
    for (; *c && *c != quote; c++) {
        int code = (unsigned char)*c;
        if (quote == '"' && *c == '\\') {
            c++;
            code = unescape(&c);
            if (code < 0) return NULL;
        }
        *to++ = (char)code;
    }
    if (!*c) return NULL;
    *at = c + 1;
    *to = 0;
    return begin;
}

/* [5, 6] at *at as "5,6"; NULL: it has no end. */
static char *read_list(char **at) {
    char *begin = *at + 1, *to = begin, *c = begin;
    for (; *c && *c != ']'; c++)
        if (!blank(*c)) *to++ = *c;
    if (!*c) return NULL;
    *at = c + 1;
    *to = 0;
    return begin;
}

/* A word, to the end of the line or a comment. */
static char *read_word(char **at) {
    char *begin = *at, *end = begin + strcspn(begin, "#");
    *at = *end ? end + strlen(end) : end;
    while (end > begin && blank(end[-1])) end--;
    *end = 0;
    return begin;
}

static void store_line(reading *r, par_option *option, char *value, const char *where) {
    if (option->given) return; /* the command line has it */
    if (option->type == PAR_OPT_BOOL) {
        bool on = strcmp(value, "true") == 0 || strcmp(value, "on") == 0;
        if (!on && strcmp(value, "false") != 0 && strcmp(value, "off") != 0)
            par_problem(r->problems, "%s%s %s: is not a switch; legal: true, false", where,
                        option->name, value);
        else
            *(bool *)option->value = on;
        return;
    }
    par__option_store(option, value, where, r->problems);
}

/* One line without its end: nothing, or a key and its value. */
static void read_line(reading *r, char *line) {
    char where[1100], *at = skip_blanks(line), *name = at;
    snprintf(where, sizeof where, "%s:%d: ", r->path, r->line);
    if (!*at || *at == '#') return;
    size_t length = strcspn(at, " \t=#");
    at = skip_blanks(at + length);
    if (*at != '=' || length == 0) {
        par_problem(r->problems, "%s%.64s: is not an option; legal: key = value, # comment", where,
                    name);
        return;
    }
    at = skip_blanks(at + 1);
    char *value = *at == '"' || *at == '\'' ? read_quoted(&at)
                  : *at == '['              ? read_list(&at)
                                            : read_word(&at);
    if (!value || (*skip_blanks(at) && *skip_blanks(at) != '#')) {
        par_problem(r->problems,
                    "%s%.*s: its value is broken; legal: a number, true, false, a word, \"a text\" "
                    "with \\\" and \\\\ for quotes and backslashes, [1, 2]",
                    where, (int)(length < 64 ? length : 64), name);
        return;
    }
    for (size_t i = 0; i < length; i++)
        if (name[i] == '_') name[i] = '-';
    par_option *option = par__option_find(r->options, r->n, name, length);
    if (!option || !par__option_is_named(option)) {
        par__option_unknown(r->options, r->n, where, name, length, value, r->problems);
        return;
    }
    int *seen = &r->seen[option - r->options];
    if (*seen)
        par_problem(r->problems, "%s%s: is in line %d already", where, option->name, *seen);
    else
        store_line(r, option, value, where);
    *seen = r->line;
}

void par_options_load(par_option *options, int n, const char *path, char *text,
                      par_problems *problems) {
    reading r = {
        .options = options, .n = n < MAX_ROWS ? n : MAX_ROWS, .path = path, .problems = problems};
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* a byte order mark */
    for (bool more = true; more;) {
        char *end = text + strcspn(text, "\n"), *next = end + (*end == '\n');
        more = *end == '\n';
        *end = 0;
        if (end > text && end[-1] == '\r') end[-1] = 0;
        r.line++;
        read_line(&r, text);
        text = next;
    }
    for (int i = 0; i < r.n; i++)
        if (r.seen[i] && !options[i].given) options[i].given = 1;
}

static void put_text(FILE *file, const char *text) {
    putc('"', file);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            fprintf(file, "\\u%04x", (unsigned)*c);
        else
            putc(*c, file);
    }
    putc('"', file);
}

/* The rows, by group; false: no memory. A value that no text stands for (no list, a choice that was
 * not made) is left out. */
static bool put_rows(FILE *file, const par_option *options, int n) {
    const char *group = "";
    for (const par_option *option = options; option < options + n; option++) {
        char buffer[4096];
        if (!option->group) continue;
        if (strcmp(option->group, group) != 0)
            fprintf(file, "%s# %s\n", *group ? "\n" : "", option->group);
        group = option->group;
        const char *text = option->type == PAR_OPT_TEXT
                               ? *(const char *const *)option->value
                               : par_option_text(option, buffer, sizeof buffer);
        if (!text || (!*text && option->type != PAR_OPT_TEXT)) continue;
        fprintf(file, "%s = ", option->name);
        if (option->type == PAR_OPT_BOOL)
            fputs(*(const bool *)option->value ? "true" : "false", file);
        else if (option->type == PAR_OPT_LIST)
            fprintf(file, "[%s]", text);
        else if (option->type == PAR_OPT_TEXT || option->type == PAR_OPT_CHOICE)
            put_text(file, text);
        else
            fputs(text, file);
        putc('\n', file);
    }
    bool whole = !ferror(file);
    return fclose(file) == 0 && whole;
}

par_status par_options_save(const par_option *options, int n, const char *path) {
    PAR_REQUIRE(options && path);
    char *text = NULL;
    size_t nbytes = 0;
    FILE *file = open_memstream(&text, &nbytes);
    par_status st = PAR_OK;
    if (!file || !put_rows(file, options, n))
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for a text of %d options", n);
    if (st == PAR_OK) st = par__replace_file(path, text, nbytes);
    free(text);
    return st;
}
