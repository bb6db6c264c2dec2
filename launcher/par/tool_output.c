/*
 * What lies under the name of an output, and writing it. A file of the kind that is written, from a
 * run before, is replaced; any other may be somebody's work, and stays.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "par_tool.h"

/* Texts that stand near the beginning of such a file, one of each row at least. */
static const struct {
    const char *name, *signs[2];
} kinds[] = {
    [PAR_OUTPUT_PAGE] = {"a page of par", {"default-src 'none'; style-src 'unsafe-inline'"}},
    [PAR_OUTPUT_SVG] = {"a picture of par", {"role=\"img\">\n<style>\nsvg{color-scheme:"}},
    [PAR_OUTPUT_PNG] = {"a PNG", {"\211PNG\r\n"}},
    [PAR_OUTPUT_HDF5] = {"HDF5", {"\211HDF\r\n"}},
    [PAR_OUTPUT_FOLDED] = {"folded stacks of ranks", {"rank "}},
    [PAR_OUTPUT_MATRIX] = {"a communication matrix", {"\"form\": \"libpar matrix "}},
    [PAR_OUTPUT_MATRIX_CSV] = {"a communication matrix", {"axis,purpose,from,to,"}},
    [PAR_OUTPUT_COST_CSV] = {"a table of costs", {",runs,steps,tokens,device_hours,"}},
    [PAR_OUTPUT_TOPOLOGY] = {"a machine of par topology", {"\"form\": \"libpar topology "}},
    [PAR_OUTPUT_MEASUREMENT] = {"a measurement of par", {"\"form\": \"libpar measurement "}},
    [PAR_OUTPUT_TOKENS] = {"llm.c's tokens", {"\x88\xd8\x34\x01", "\xa1\xd9\x34\x01"}},
    [PAR_OUTPUT_INDEX] = {"Megatron's index of tokens", {"MMIDIDX"}},
};

/* `sign` is among the n bytes. */
static bool has(const char *head, size_t n, const char *sign) {
    size_t length = sign ? strlen(sign) : n + 1;
    for (size_t at = 0; at + length <= n; at++)
        if (memcmp(head + at, sign, length) == 0) return true;
    return false;
}

void par_tool_output(const char *option, const char *path, par_output kind,
                     par_problems *problems) {
    char head[512];
    struct stat info;
    if (!path || stat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return;
    FILE *file = fopen(path, "rb");
    if (!file) {
        par_problem(problems, "%s %s: is there, and cannot be read: %s; it is not replaced", option,
                    path, strerror(errno));
        return;
    }
    size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    if (has(head, n, kinds[kind].signs[0]) || has(head, n, kinds[kind].signs[1])) return;
    par_problem(problems,
                "%s %s: is there, and is not %s; it is not replaced; legal: another name, or to "
                "remove it",
                option, path, kinds[kind].name);
}

static par_status write_error(const char *path) {
    bool full = errno == ENOSPC || errno == EDQUOT;
    return par_error_set(PAR_ERR_IO, "%s: cannot be written: %s%s", path, strerror(errno),
                         full ? "; make room, or name another place" : "");
}

int par_tool_rename(const char *from, const char *to) {
    if (rename(from, to) == 0) return 0;
    return errno == EEXIST && remove(to) == 0 ? rename(from, to) : -1;
}

par_status par_tool_write(const char *path, const void *data, size_t nbytes) {
    char temporary[4200];
    struct stat info;
    bool plain = stat(path, &info) != 0 || S_ISREG(info.st_mode);
    int n = snprintf(temporary, sizeof temporary, "%s%s", path, plain ? ".par-tmp" : "");
    if (n >= (int)sizeof temporary)
        return par_error_set(PAR_ERR_ARG, "%.64s...: the path is too long", path);
    FILE *file = fopen(temporary, "wb");
    if (!file) return write_error(path);
    bool good = fwrite(data, 1, nbytes, file) == nbytes;
    good = fclose(file) == 0 && good;
    if (good && (!plain || par_tool_rename(temporary, path) == 0)) return PAR_OK;
    par_status st = write_error(path);
    if (plain) remove(temporary);
    return st;
}
