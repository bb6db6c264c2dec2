/* Lists of text files. See text_files.h. */
#define _XOPEN_SOURCE 700
#include "text_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static bool has_suffix(const char *path, const char *suffix) {
    static const char *const packed[] = {"", ".gz", ".zst"};
    size_t n = strlen(path), k = strlen(suffix);
    for (size_t i = 0; i < 3; i++) {
        size_t m = strlen(packed[i]);
        if (ends_with(path, packed[i]) && n >= k + m && memcmp(path + n - m - k, suffix, k) == 0)
            return true;
    }
    return false;
}

/* What par data leaves beside the tokens that it writes. */
static bool is_beside_tokens(const char *path) {
    static const char *const suffixes[] = {".stamp", ".vocab"};
    char tokens[4096];
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(path), k = strlen(suffixes[i]);
        if (!ends_with(path, suffixes[i]) || n >= sizeof tokens) continue;
        snprintf(tokens, sizeof tokens, "%.*s", (int)(n - k), path);
        if (access(tokens, F_OK) == 0) return true;
    }
    return false;
}

/* What cannot be judged, damaged data say, is taken: whoever reads it says what is wrong. */
static left_kind judge(const text_files *list, const char *path) {
    static const left_kind kinds[] = {[PAR_TEXT_USUAL] = LEFT_KINDS,
                                      [PAR_TEXT_EMPTY] = LEFT_EMPTY,
                                      [PAR_TEXT_UTF16] = LEFT_UTF16,
                                      [PAR_TEXT_FOREIGN] = LEFT_FOREIGN,
                                      [PAR_TEXT_BINARY] = LEFT_BINARY};
    par_text_kind kind = PAR_TEXT_USUAL;
    if (list->suffix && !has_suffix(path, list->suffix)) return LEFT_SUFFIX;
    if (strstr(path, ".tar.") || ends_with(path, ".tgz") || ends_with(path, ".tar"))
        return LEFT_ARCHIVE;
    return par_text_look(path, &kind) == PAR_ERR_IO ? LEFT_UNREADABLE : kinds[kind];
}

void text_files_print_left(const text_files *list) {
    static const char *const kinds[LEFT_KINDS] = {
        [LEFT_HIDDEN] = "with a name that begins with a dot",
        [LEFT_LINK] = "neither file nor folder (links are not followed)",
        [LEFT_SUFFIX] = "with another suffix",
        [LEFT_EMPTY] = "without a byte",
        [LEFT_UNREADABLE] = "not readable",
        [LEFT_ARCHIVE] = "archived by tar",
        [LEFT_UTF16] = "in UTF-16 without a byte order mark (iconv -f UTF-16LE -t UTF-8 converts)",
        [LEFT_FOREIGN] = "of a form that is not read (Parquet, PDF, packed by xz or bzip2, ...)",
        [LEFT_BESIDE] = "beside a token file, which par data wrote there",
        [LEFT_BINARY] = "not text",
    };
    for (int k = 0; k < LEFT_KINDS; k++)
        if (list->left[k].n)
            fprintf(stderr, "left out: %lld %s: %s%s\n", (long long)list->left[k].n, kinds[k],
                    list->left[k].first, list->left[k].n > 1 ? ", ..." : "");
}

/* Links are not followed: a folder may contain itself. */
static par_status walk(text_files *list, const char *folder) {
    char path[4096];
    par_status st = PAR_OK;
    DIR *stream = opendir(folder);
    if (!stream) return par_error_set(PAR_ERR_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; st == PAR_OK && (errno = 0, entry = readdir(stream));) {
        struct stat about;
        left_kind kind = LEFT_KINDS;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int n = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (n >= (int)sizeof path || lstat(path, &about) != 0)
            kind = LEFT_UNREADABLE;
        else if (entry->d_name[0] == '.')
            kind = LEFT_HIDDEN;
        else if (S_ISDIR(about.st_mode))
            st = walk(list, path);
        else if (!S_ISREG(about.st_mode))
            kind = LEFT_LINK;
        else if (is_beside_tokens(path))
            kind = LEFT_BESIDE;
        else if ((kind = judge(list, path)) == LEFT_KINDS)
            st = add_file(list, path, about.st_size);
        if (kind == LEFT_KINDS) continue;
        left_out *left = &list->left[kind];
        if (left->n++ == 0) snprintf(left->first, sizeof left->first, "%.250s", path);
    }
    if (st == PAR_OK && errno)
        st = par_error_set(PAR_ERR_IO, "%s: cannot be listed: %s", folder, strerror(errno));
    closedir(stream);
    return st;
}

par_status text_files_add(text_files *list, const char *path) {
    struct stat about;
    if (stat(path, &about) != 0) return par_error_set(PAR_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISDIR(about.st_mode) ? walk(list, path) : add_file(list, path, about.st_size);
}

const char *text_files_find(const text_files *list, const char *path) {
    struct stat about, other;
    if (stat(path, &about) != 0) return NULL;
    for (int i = 0; i < list->n; i++)
        if (stat(list->files[i].path, &other) == 0 && other.st_dev == about.st_dev &&
            other.st_ino == about.st_ino)
            return list->files[i].path;
    return NULL;
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
