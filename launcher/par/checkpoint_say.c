/* par checkpoint: sizes, shapes, notes and failures as people read them. */
#include <stdio.h>
#include <string.h>

#include "checkpoint_tool.h"
#include "par_tool.h"

int checkpoint_failed(const char *command) {
    fprintf(stderr, "par checkpoint %s: %s\n", command, par_error());
    return PAR_TOOL_INPUT;
}

int checkpoint_not_read(const char *command, par_status st) {
    int code = checkpoint_failed(command);
    return st == PAR_ERR_FORMAT ? CHECKPOINT_FOUND : code;
}

par_status checkpoint_open(const char *path, par_checkpoint **out) {
    static par_problems passed;
    passed = (par_problems){0};
    par_status st = par_checkpoint_open(path, &passed, out);
    for (const char *line = passed.text; st == PAR_OK && *line;
         line += strcspn(line, "\n"), line += *line == '\n')
        printf("note: %.*s\n", (int)strcspn(line, "\n"), line);
    return st;
}

const char *checkpoint_size(double nbytes, char text[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (; nbytes >= 1000 && unit < 4; unit++) nbytes /= 1024;
    snprintf(text, 32, "%.*f %s", unit ? 1 : 0, nbytes, units[unit]);
    return text;
}

const char *checkpoint_shape(const par_checkpoint_tensor *t, char text[64]) {
    if (t->ndim == 2)
        snprintf(text, 64, "[%lld, %lld]", (long long)t->global[0], (long long)t->global[1]);
    else
        snprintf(text, 64, "[%lld]", (long long)t->global[0]);
    return text;
}
