/* What commands of par do with their command lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par_tool.h"

enum { MAX_ROWS = 32 };

static const char **room; /* for all words of the line per row, until the process ends */

static void free_room(void) {
    free(room);
}

bool par_tool_read(const par_option *rows, int n, const char *usage, int argc, char **argv,
                   par_problems *problems) {
    static char text[8192];
    par_option table[MAX_ROWS + 1];
    size_t n_words = (size_t)argc + 1;
    bool help, first = !room;
    room = calloc((size_t)n * n_words, sizeof *room);
    if (!room || (first && atexit(free_room) != 0)) {
        fprintf(stderr, "par: no host memory for %d words\n", argc);
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < n; i++) {
        table[i] = rows[i];
        table[i].group = "Options";
        bool takes_words = rows[i].type == PAR_OPT_WORDS || rows[i].type == PAR_OPT_OPERANDS ||
                           rows[i].type == PAR_OPT_REST;
        if (takes_words)
            *(par_words *)rows[i].value =
                (par_words){.max = argc, .words = room + (size_t)i * n_words};
    }
    table[n++] = (par_option){.name = "help",
                              .type = PAR_OPT_BOOL,
                              .value = &help,
                              .group = "Options",
                              .help = "print this text and end"};
    par_options_parse(table, n, argc, argv, problems);
    if (!help) return false;
    par_options_help(table, n, usage, text, sizeof text);
    printf("%s", text);
    return true;
}

int par_tool_refuse(const char *command, par_problems *problems) {
    if (par_problems_status(problems, PAR_ERR_OPTION) == PAR_OK) return EXIT_SUCCESS;
    const char *text = par_error();
    fprintf(stderr, problems->n > 1 ? "par %s: %d problems" : "par %s: ", command, problems->n);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        fprintf(stderr, problems->n > 1 || line > text ? "\n  %.*s" : "%.*s",
                (int)strcspn(line, "\n"), line);
    fprintf(stderr, "\n");
    return PAR_TOOL_INPUT;
}
