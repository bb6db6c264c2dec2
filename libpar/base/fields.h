/* Named values as lines "name \t value", of which par_comm_same tells whether all ranks have the
 * same. */
#ifndef PAR__FIELDS_H
#define PAR__FIELDS_H

#include <stddef.h>

#include "par/text.h"

/* What does not fit is left out. */
typedef struct {
    char text[PAR_LINES_NBYTES];
    size_t used;
} par__lines;

PAR_PRINTF(3, 4) void par__lines_add(par__lines *lines, const char *name, const char *format, ...);

/* The type of a field of a struct. */
typedef enum {
    PAR__BOOL,
    PAR__INT32, /* also of an enum */
    PAR__INT64,
    PAR__UINT64,
    PAR__SIZE,
    PAR__FLOAT,
    PAR__DOUBLE,
    PAR__STRING /* const char *; NULL is "" */
} par__field_type;

typedef struct {
    const char *name;
    par__field_type type;
    size_t at;
} par__field;

#define PAR__FIELD(of, type, field)                                                                \
    { #field, type, offsetof(of, field) }

/* A line for each of n fields of the struct; numbers so that they read back as they were. */
void par__lines_fields(par__lines *lines, const par__field *fields, int n, const void *of);

#endif
