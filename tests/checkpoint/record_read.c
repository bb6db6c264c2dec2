/* The records of a log: see record.h. */
#include "record.h"

#include <stdio.h>
#include <stdlib.h>

record *record_read(const char *log, int *n) {
    FILE *file = fopen(log, "rb");
    record *records = NULL, next;
    *n = 0;
    while (file && fread(&next, sizeof next, 1, file) == 1) {
        if ((*n & (*n - 1)) == 0) /* full at powers of two */
            records = realloc(records, (size_t)(*n ? 2 * *n : 1) * sizeof *records);
        next.data = next.n > 0 ? malloc((size_t)next.n) : NULL;
        if (!records || (next.n > 0 && !next.data)) abort();
        if (next.n > 0 && fread(next.data, (size_t)next.n, 1, file) != 1) abort();
        records[(*n)++] = next;
    }
    if (file) fclose(file);
    return records;
}

void record_free(record *records, int n) {
    for (int i = 0; i < n; i++) free(records[i].data);
    free(records);
}
