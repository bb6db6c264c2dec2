/*
 * A temporary directory for a suite: files are written into it from memory and everything is
 * removed at the end. Paths come from a ring of buffers, so a few of them can be used in one
 * expression.
 */
#ifndef PAR_TESTS_DATA_TEMP_H
#define PAR_TESTS_DATA_TEMP_H

#include <stdbool.h>
#include <stddef.h>

void temp_open(void);
void temp_close(void);
const char *temp_path(const char *name);
/* Write a whole file and return its path. */
const char *temp_file(const char *name, const void *data, size_t nbytes);
const char *temp_text(const char *name, const char *text);
/* Read a whole file into malloc'ed memory with a zero behind it; NULL if it is not there. */
char *temp_read(const char *path, size_t *nbytes);
/* Files in the directory whose names contain `part`. */
int temp_count(const char *part);
void temp_remove(const char *name);

#endif
