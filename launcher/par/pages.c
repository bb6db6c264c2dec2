/* Where the ranks of a run leave their pages, which par diagnose hang and par run read. */
#define _POSIX_C_SOURCE 200809L
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "par_tool.h"

void par_pages_find(const char *run, char *directory, size_t nbytes) {
    char pattern[4200], inside[4200];
    struct stat info;
    time_t newest = 0;
    glob_t found = {0};
    int n = (int)strlen(run);
    while (n > 1 && run[n - 1] == '/') n--;
    snprintf(directory, nbytes, "%s", run);
    snprintf(pattern, sizeof pattern, "%.*s.ranks-*", n, run);
    snprintf(inside, sizeof inside, "%.*s/log.jsonl.ranks-*", n, run);
    glob(pattern, GLOB_NOSORT, NULL, &found);
    if (glob(inside, GLOB_NOSORT | GLOB_APPEND, NULL, &found) == 0 || found.gl_pathc > 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            if (stat(found.gl_pathv[i], &info) == 0 && info.st_mtime >= newest) {
                newest = info.st_mtime;
                snprintf(directory, nbytes, "%s", found.gl_pathv[i]);
            }
    globfree(&found);
}
