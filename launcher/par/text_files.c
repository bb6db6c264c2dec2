/* Lists of text files. See text_files.h. */
#define _XOPEN_SOURCE 700
#include "text_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static par_status add_file(text_files *list, const char *path, int64_t nbytes) {
    if (list->n == list->max) {
        int max = list->max ? 2 * list->max : 256;
        text_file *files = realloc(list->files, (size_t)max * sizeof *files);
        if (!files) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d file names", max);
        list->files = files;
        list->max = max;
    }
    char *copy = strdup(path);
    if (!copy) return par_error_set(PAR_ERR_MEMORY, "no host memory for a file name");
    list->files[list->n++] =
        (text_file){copy, list->order == TEXT_FILES_HASH ? par_hash_name(path) : 0, nbytes};
    return PAR_OK;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

/* Text has no zero byte at its beginning. Files that cannot be read are no text. */
static bool is_text(const char *path) {
    char block[4096];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t n = fread(block, 1, sizeof block, file);
    fclose(file);
    return n > 0 && !memchr(block, 0, n);
}

/* Links are not followed: a folder may contain itself. */
static par_status walk(text_files *list, const char *folder) {
    char path[4096];
    par_status st = PAR_OK;
    DIR *stream = opendir(folder);
    if (!stream) return par_error_set(PAR_ERR_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; st == PAR_OK && (entry = readdir(stream));) {
        struct stat about;
        if (entry->d_name[0] == '.') continue;
        int n = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (n >= (int)sizeof path || lstat(path, &about) != 0) continue;
        if (S_ISDIR(about.st_mode))
            st = walk(list, path);
        else if (S_ISREG(about.st_mode) && (!list->suffix || ends_with(path, list->suffix)) &&
                 is_text(path))
            st = add_file(list, path, about.st_size);
    }
    closedir(stream);
    return st;
}

par_status text_files_add(text_files *list, const char *path) {
    struct stat about;
    if (stat(path, &about) != 0) return par_error_set(PAR_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISDIR(about.st_mode) ? walk(list, path) : add_file(list, path, about.st_size);
}

static int compare(const void *a, const void *b) {
    const text_file *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return strcmp(x->path, y->path);
}

int text_files_take(const text_files *list, int64_t max_nbytes, int64_t *nbytes) {
    int n = 0;
    for (*nbytes = 0; n < list->n; n++) {
        if (n > 0 && *nbytes + list->files[n].nbytes > max_nbytes) break;
        *nbytes += list->files[n].nbytes;
    }
    return n;
}

void text_files_sort(text_files *list) {
    if (list->order != TEXT_FILES_GIVEN && list->n > 0)
        qsort(list->files, (size_t)list->n, sizeof *list->files, compare);
}

void text_files_free(text_files *list) {
    for (int i = 0; i < list->n; i++) free(list->files[i].path);
    free(list->files);
}
