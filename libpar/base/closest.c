/* The closest of some names to a word that is none of them: for suggestions in refusals. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>

#include "par/option.h"

enum { MAX_WORD = 64 };

/* Optimal string alignment distance: insert, delete, replace, swap of neighbours cost 1. Words are
 * cut at MAX_WORD. */
static int edit_distance(const char *a, const char *b) {
    int rows[3][MAX_WORD + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    int na = (int)strnlen(a, MAX_WORD), nb = (int)strnlen(b, MAX_WORD);
    for (int j = 0; j <= nb; j++) above[j] = j;
    for (int i = 1; i <= na; i++) {
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            row[j] = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < row[j]) row[j] = above[j] + 1;
            if (row[j - 1] + 1 < row[j]) row[j] = row[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j]) row[j] = before[j - 2] + 1;
        }
        int *reuse = before;
        before = above;
        above = row;
        row = reuse;
    }
    return above[nb];
}

const char *par_closest(const char *word, const char *const *names, int n) {
    /* A third of the word may be wrong; below three letters nothing is near. */
    int limit = (int)strlen(word) / 3;
    const char *closest = NULL;
    if (limit < 2) limit = (int)strlen(word) >= 3 ? 2 : 1;
    for (int i = 0; i < n; i++) {
        int distance = edit_distance(word, names[i]);
        if (distance > limit || distance >= (int)strlen(names[i])) continue;
        if (closest && distance == limit) continue;
        closest = names[i];
        limit = distance;
    }
    return closest;
}
