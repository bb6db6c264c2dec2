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

/* What begins so is no text, whoever names it. */
static const char *foreign(const char *block, size_t n) {
    static const struct {
        size_t at, n;
        const char *magic, *name;
    } kinds[] = {
        {0, 6, "\xfd\x37zXZ\0", "packed by xz: unxz it first"},
        {4, 6, "1AY&SY", "packed by bzip2: bunzip2 it first"},
        {0, 4, "\x04\x22\x4d\x18", "packed by lz4: unlz4 it first"},
        {0, 4, "PK\3\4", "a zip archive: unpack it first"},
        {0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"},
        {0, 4, "PAR1", "a Parquet file: export its text as JSON Lines first"},
        {0, 6, "ARROW1", "an Arrow file: export its text as JSON Lines first"},
        {0, 5, "%PDF-", "a PDF: make text of it first (pdftotext)"},
        {0, 4, "\x88\xd8\x34\x01", "a token file of llm.c, not text"},
        {0, 4, "\xa1\xd9\x34\x01", "a token file of llm.c, not text"},
        {0, 9, "MMIDIDX\0\0", "a Megatron index, not text"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].at + kinds[i].n <= n &&
            memcmp(block + kinds[i].at, kinds[i].magic, kinds[i].n) == 0)
            return kinds[i].name;
    return NULL;
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

/* Text has no zero byte at its beginning, unless a mark says that it is UTF-16, or it is packed.
 * LEFT_KINDS: it is taken. */
static left_kind judge(const text_files *list, const char *path) {
    static const char *const known[] = {"\xff\xfe", "\xfe\xff", "\x1f\x8b", "\x28\xb5"};
    char block[4096];
    if (list->suffix && !has_suffix(path, list->suffix)) return LEFT_SUFFIX;
    if (strstr(path, ".tar.") || ends_with(path, ".tgz") || ends_with(path, ".tar"))
        return LEFT_ARCHIVE;
    FILE *file = fopen(path, "rb");
    if (!file) return LEFT_UNREADABLE;
    size_t n = fread(block, 1, sizeof block, file);
    fclose(file);
    if (n == 0) return LEFT_EMPTY;
    for (int i = 0; i < 4; i++)
        if (n >= 2 && memcmp(block, known[i], 2) == 0) return LEFT_KINDS;
    if (foreign(block, n)) return LEFT_FOREIGN;
    if (!memchr(block, 0, n)) return LEFT_KINDS;
    /* every second byte of UTF-16 is zero in text of few scripts; without a mark it is not taken */
    size_t zeros[2] = {0, 0};
    for (size_t i = 0; i < n; i++) zeros[i & 1] += block[i] == 0;
    bool utf16 = zeros[0] + zeros[1] > n / 4 && (zeros[0] == 0 || zeros[1] == 0);
    return utf16 ? LEFT_UTF16 : LEFT_BINARY;
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
    for (struct dirent *entry; st == PAR_OK && (entry = readdir(stream));) {
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
    closedir(stream);
    return st;
}

static par_status add_named(text_files *list, const char *path, int64_t nbytes) {
    char block[16];
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(block, 1, sizeof block, file) : 0;
    if (file) fclose(file);
    const char *what = foreign(block, n);
    if (what) return par_error_set(PAR_ERR_FORMAT, "%s: is %s", path, what);
    return add_file(list, path, nbytes);
}

par_status text_files_add(text_files *list, const char *path) {
    struct stat about;
    if (stat(path, &about) != 0) return par_error_set(PAR_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISDIR(about.st_mode) ? walk(list, path) : add_named(list, path, about.st_size);
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
