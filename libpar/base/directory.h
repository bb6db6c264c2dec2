/* Folders: names in them, making and removing them. file.h syncs them. */
#ifndef PAR__DIRECTORY_H
#define PAR__DIRECTORY_H

#include <dirent.h>
#include <stdbool.h>

#include "par/status.h"

enum { PAR__PATH = 1024 };

/* "DIRECTORY/NAME"; PAR_ERR_ARG if it is too long. */
par_status par__path(char out[PAR__PATH], const char *directory, const char *name);
/* As par__file_exists. */
par_status par__directory_exists(const char *path, bool *there);
/* Make it if it is not there; of the second, those above it too. What is made is synced in the
 * folder above, so that what will lie in it is not lost with it. */
par_status par__make_directory(const char *path);
par_status par__make_directories(const char *path);
/* A folder of plain files goes, with what is in it, of a link to one the link alone; one that is
 * not there is not an error. */
par_status par__remove_directory(const char *path);

/* Open for par__list_next; *out NULL: it is not there. */
par_status par__list_open(const char *path, DIR **out);
/* The next name in the folder that is not . or ..; NULL: there is none, or PAR_ERR_IO. Closes it
 * then. */
par_status par__list_next(DIR **folder, const char *path, const char **name);

#endif
