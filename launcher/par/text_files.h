/*
 * The texts that `par data` takes: files as given, folders walked for text files, in an order that
 * depends on the names alone, so that the same folder gives the same file of tokens.
 */
#ifndef TEXT_FILES_H
#define TEXT_FILES_H

#include "par/par.h"

typedef enum { TEXT_FILES_GIVEN, TEXT_FILES_NAME, TEXT_FILES_HASH } text_files_order;

typedef struct {
    char *path;
    uint64_t key; /* of its place in the order */
    int64_t nbytes;
} text_file;

/* Why a file in a folder is not taken. */
typedef enum {
    LEFT_HIDDEN,
    LEFT_LINK,
    LEFT_SUFFIX,
    LEFT_EMPTY,
    LEFT_UNREADABLE,
    LEFT_ARCHIVE,
    LEFT_UTF16,
    LEFT_FOREIGN,
    LEFT_BESIDE,
    LEFT_BINARY,
    LEFT_KINDS
} left_kind;

typedef struct {
    int64_t n;
    char first[256];
} left_out;

/* All zeros: an empty list. */
typedef struct {
    text_file *files;
    int n, max;
    const char *suffix; /* in folders: only names that end so, before .gz or .zst; NULL: any */
    left_out left[LEFT_KINDS];
    text_files_order order;
} text_files;

/* A file, or the text files in a folder, at the end of the list. Errors: PAR_ERR_IO,
 * PAR_ERR_MEMORY. */
par_status text_files_add(text_files *list, const char *path);
void text_files_sort(text_files *list);
/* Whole files from the front, up to max_nbytes; at least one, if there is one. Returns how many. */
int text_files_take(const text_files *list, int64_t max_nbytes, int64_t *nbytes);
/* What was left out of folders, a line per kind, on standard error; nothing if there is none. */
void text_files_print_left(const text_files *list);
/* The file of the list that lies at this path, also under another name; NULL: none does. */
const char *text_files_find(const text_files *list, const char *path);
void text_files_free(text_files *list);

#endif
