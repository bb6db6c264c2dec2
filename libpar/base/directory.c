/* Folders: see directory.h. */
#define _GNU_SOURCE
#include "libpar/base/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpar/base/file.h"

par_status par__path(char out[PAR__PATH], const char *directory, const char *name) {
    int n = snprintf(out, PAR__PATH, "%s/%s", directory, name);
    if (n < 0 || n >= PAR__PATH)
        PAR_FAIL(PAR_ERR_ARG, "%s/%s: is too long; legal: %d bytes", directory, name,
                 PAR__PATH - 1);
    return PAR_OK;
}

bool par__directory_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

par_status par__make_directory(const char *path) {
    if (mkdir(path, 0777) == 0) return par__sync_parent(path);
    int error = errno;
    if (par__directory_exists(path)) return PAR_OK;
    if (error == EEXIST)
        PAR_FAIL(PAR_ERR_IO, "%s: exists and is not a directory; legal: the name of a directory",
                 path);
    errno = error;
    return par__write_error(path, "made");
}

par_status par__make_directories(const char *path) {
    char *part = strdup(path);
    par_status st = PAR_OK;
    if (!part) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its name", path);
    for (size_t i = 1; st == PAR_OK && *path && path[i]; i++) {
        if (path[i] != '/' || path[i - 1] == '/') continue;
        part[i] = 0;
        st = par__make_directory(part);
        part[i] = '/';
    }
    free(part);
    return st == PAR_OK ? par__make_directory(path) : st;
}

par_status par__remove_directory(const char *path) {
    DIR *d = opendir(path);
    par_status st = PAR_OK;
    if (!d) return errno == ENOENT ? PAR_OK : par__write_error(path, "opened");
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(d), e->d_name, 0) != 0 && errno != ENOENT)
            st = par__write_error(path, "emptied");
    }
    closedir(d);
    if (rmdir(path) != 0 && st == PAR_OK) st = par__write_error(path, "removed");
    return st;
}
