/* Tables of bytes by axis, purpose and receiver: what one rank's recorder counted, or will
 * count. */
#include "traffic_table.h"

#include <stdlib.h>
#include <string.h>

par_status par_traffic_create(int size, par_traffic **out) {
    PAR_REQUIRE(size > 0 && out);
    par_traffic *t = calloc(1, sizeof *t);
    if (t) t->sent = calloc((size_t)size * PAR_TRAFFIC_LINES, sizeof *t->sent);
    if (!t || !t->sent) {
        free(t);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the traffic of %d ranks", size);
    }
    t->size = size;
    *out = t;
    return PAR_OK;
}

void par_traffic_destroy(par_traffic **handle) {
    if (!handle || !*handle) return;
    free((*handle)->sent);
    free(*handle);
    *handle = NULL;
}

void par__traffic_clear(par_traffic *t) {
    t->n = 0;
    t->overflow = false;
    memset(t->sent, 0, (size_t)t->size * PAR_TRAFFIC_LINES * sizeof *t->sent);
}

int64_t *par__traffic_line(par_traffic *t, const char *axis, const char *purpose) {
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->axis[i], axis) == 0 && strcmp(t->purpose[i], purpose) == 0)
            return t->sent + (int64_t)i * t->size;
    if (t->n == PAR_TRAFFIC_LINES || strlen(axis) >= sizeof t->axis[0] ||
        strlen(purpose) >= sizeof t->purpose[0]) {
        t->overflow = true;
        return NULL;
    }
    memcpy(t->axis[t->n], axis, strlen(axis) + 1);
    memcpy(t->purpose[t->n], purpose, strlen(purpose) + 1);
    return t->sent + (int64_t)t->n++ * t->size;
}

void par_traffic_count(par_traffic *t, const par_recorder *recorder) {
    const par_record_row *rows;
    int n = par_recorder_rows(recorder, &rows);
    par__traffic_clear(t);
    for (int i = 0; i < n; i++) {
        if (rows[i].sent_nbytes == 0) continue;
        const int64_t *to = par_recorder_row_sent_to(recorder, i);
        int64_t *line = to ? par__traffic_line(t, rows[i].axis, rows[i].purpose) : NULL;
        if (!line) {
            t->overflow = true;
            continue;
        }
        for (int r = 0; r < t->size; r++) line[r] += to[r];
    }
}
