/* The temporary directory of a suite; see temp.h. */
#define _POSIX_C_SOURCE 200809L
#include "temp.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[256];

void temp_open(void) {
    const char *root = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.200s/par-data-XXXXXX", root && *root ? root : "/tmp");
    if (!mkdtemp(directory)) {
        perror(directory);
        exit(1);
    }
}

const char *temp_path(const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static int visit(const char *part, bool delete) {
    int n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || !strstr(e->d_name, part))
            continue;
        if (delete) unlink(temp_path(e->d_name));
        n++;
    }
    if (d) closedir(d);
    return n;
}

int temp_count(const char *part) {
    return visit(part, false);
}

void temp_close(void) {
    visit("", true);
    rmdir(directory);
}

const char *temp_file(const char *name, const void *data, size_t nbytes) {
    const char *path = temp_path(name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, nbytes, file) != nbytes || fclose(file) != 0) perror(path);
    return path;
}

const char *temp_text(const char *name, const char *text) {
    return temp_file(name, text, strlen(text));
}

char *temp_read(const char *path, size_t *nbytes) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *nbytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*nbytes + 1);
    if (data) data[fread(data, 1, *nbytes, file)] = '\0';
    fclose(file);
    return data;
}

void temp_remove(const char *name) {
    unlink(temp_path(name));
}
