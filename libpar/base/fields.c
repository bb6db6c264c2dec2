/* Fields of structs as lines: see fields.h. */
#include "fields.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "number.h"

void par__lines_add(par__lines *lines, const char *name, const char *format, ...) {
    char line[2048];
    va_list list;
    int n = snprintf(line, sizeof line, "%s\t", name);
    va_start(list, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, list);
    va_end(list);
    size_t room = sizeof lines->text - lines->used;
    n = snprintf(lines->text + lines->used, room, "%s\n", line);
    lines->used += (size_t)n < room ? (size_t)n : room - 1;
}

static void add(par__lines *lines, const par__field *field, const void *at) {
    char text[PAR__NUMBER_NBYTES];
    const char *const *string = at, *name = field->name;
    switch (field->type) {
    case PAR__BOOL: par__lines_add(lines, name, "%s", *(const bool *)at ? "true" : "false"); break;
    case PAR__INT32: par__lines_add(lines, name, "%d", (int)*(const int32_t *)at); break;
    case PAR__INT64: par__lines_add(lines, name, "%lld", (long long)*(const int64_t *)at); break;
    case PAR__UINT64:
        par__lines_add(lines, name, "%llu", (unsigned long long)*(const uint64_t *)at);
        break;
    case PAR__SIZE: par__lines_add(lines, name, "%zu", *(const size_t *)at); break;
    case PAR__FLOAT:
        par__lines_add(lines, name, "%s", par__exact_float(text, *(const float *)at));
        break;
    case PAR__DOUBLE:
        par__lines_add(lines, name, "%s", par__exact(text, *(const double *)at));
        break;
    case PAR__STRING: par__lines_add(lines, name, "%s", *string ? *string : ""); break;
    }
}

void par__lines_fields(par__lines *lines, const par__field *fields, int n, const void *of) {
    for (int i = 0; i < n; i++) add(lines, &fields[i], (const char *)of + fields[i].at);
}
