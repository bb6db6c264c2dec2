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

par_status par__directory_exists(const char *path, bool *there) {
    struct stat info;
    par_status st = par__look(path, true, &info, there);
    *there = *there && S_ISDIR(info.st_mode);
    return st;
}

par_status par__make_directory(const char *path) {
    if (mkdir(path, 0777) == 0) return par__sync_parent(path);
    int error = errno;
    bool there;
    PAR_TRY(par__directory_exists(path, &there));
    if (there) return PAR_OK;
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

par_status par__list_open(const char *path, DIR **out) {
    *out = opendir(path);
    return *out || errno == ENOENT ? PAR_OK : par__read_error(path, "opened");
}

par_status par__list_next(DIR **folder, const char *path, const char **name) {
    struct dirent *e;
    do {
        errno = 0;
        e = *folder ? readdir(*folder) : NULL;
    } while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    *name = e ? e->d_name : NULL;
    if (e || !*folder) return PAR_OK;
    par_status st = errno ? par__read_error(path, "listed") : PAR_OK;
    closedir(*folder);
    *folder = NULL;
    return st;
}

par_status par__remove_directory(const char *path) {
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode))
        return unlink(path) == 0 ? PAR_OK : par__write_error(path, "removed");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? PAR_OK : par__write_error(path, "opened");
    DIR *d = fdopendir(fd);
    const char *name;
    par_status st = d ? PAR_OK : par__write_error(path, "opened"), listed = PAR_OK;
    if (!d) close(fd);
    while (d && (listed = par__list_next(&d, path, &name)) == PAR_OK && name)
        if (unlinkat(dirfd(d), name, 0) != 0 && errno != ENOENT)
            st = par__write_error(path, "emptied");
    if (st == PAR_OK) st = listed;
    if (rmdir(path) != 0 && st == PAR_OK) st = par__write_error(path, "removed");
    return st;
}
