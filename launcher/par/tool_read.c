/* What commands of par do with their command lines. */
#include <stdio.h>

#include "par_tool.h"

bool par_tool_read(par_option *rows, int n, const bool *help, const char *usage, int argc,
                   char **argv, par_problems *problems) {
    static char text[8192];
    for (int i = 0; i < n; i++) rows[i].group = "Options";
    par_options_parse(rows, n, argc, argv, problems);
    if (!*help) return false;
    par_options_help(rows, n, usage, text, sizeof text);
    printf("%s", text);
    return true;
}
