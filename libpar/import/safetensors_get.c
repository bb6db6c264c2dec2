/*
 * Looking up tensors of an open .safetensors file. A name that is not there is answered with the
 * nearest ones by edit distance (Levenshtein 1966), since the cause is most often another spelling
 * of the same tensor.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernels/half.h"
#include "libpar/import/safetensors.h"

enum { NEAREST = 3, COMPARED = 128 }; /* names shown; characters of a name that count */

int par_safetensors_n(const par_safetensors *file) {
    return file->n;
}

const char *par_safetensors_name(const par_safetensors *file, int i) {
    return i >= 0 && i < file->n ? file->entries[i].name : NULL;
}

static int compare_name(const void *name, const void *entry) {
    return strcmp(name, ((const par__st_entry *)entry)->name);
}

const par__st_entry *par__safetensors_find(const par_safetensors *file, const char *name) {
    if (file->n == 0) return NULL;
    return bsearch(name, file->entries, (size_t)file->n, sizeof *file->entries, compare_name);
}

static int distance(const char *a, const char *b) {
    int row[COMPARED + 1], n = (int)strnlen(a, COMPARED), m = (int)strnlen(b, COMPARED);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

/* Insertion into the few best so far. */
static void nearest(const par_safetensors *file, const char *name, const char *best[NEAREST]) {
    int far[NEAREST];
    for (int k = 0; k < NEAREST; k++) best[k] = NULL;
    for (int i = 0; i < file->n; i++) {
        const char *candidate = file->entries[i].name;
        int d = distance(name, candidate), k = NEAREST;
        while (k > 0 && (!best[k - 1] || d < far[k - 1])) k--;
        if (k == NEAREST) continue;
        for (int j = NEAREST - 1; j > k; j--) {
            best[j] = best[j - 1];
            far[j] = far[j - 1];
        }
        best[k] = candidate;
        far[k] = d;
    }
}

par_status par_safetensors_get(const par_safetensors *file, const char *name, par_tensor *out) {
    PAR_REQUIRE(file && name && out);
    const par__st_entry *e = par__safetensors_find(file, name);
    if (!e) {
        const char *best[NEAREST];
        nearest(file, name, best);
        if (!best[0])
            PAR_FAIL(PAR_ERR_ARG, "%s: no tensor \"%.200s\"; the file has no tensors", file->path,
                     name);
        PAR_FAIL(PAR_ERR_ARG, "%s: no tensor \"%.200s\"; closest of %d: %.200s%s%.200s%s%.200s",
                 file->path, name, file->n, best[0], best[1] ? ", " : "", best[1] ? best[1] : "",
                 best[2] ? ", " : "", best[2] ? best[2] : "");
    }
    if (e->type->dtype < 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: tensor \"%.200s\": dtype %s; supported: F32, BF16, F16, I32, I64, U8",
                 file->path, name, e->type->name);
    if (e->ndim > 4)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: tensor \"%.200s\": %d dimensions; supported: at most 4",
                 file->path, name, e->ndim);
    void *data = (void *)(uintptr_t)(file->data + e->begin);
    *out = par_tensor_make(data, (par_dtype)e->type->dtype, e->ndim, e->shape[0], e->shape[1],
                           e->shape[2], e->shape[3]);
    return PAR_OK;
}

void par__widen(const uint8_t *src, int dtype, int64_t n, float *dst) {
    uint16_t h;
    if (dtype == PAR_F32) memcpy(dst, src, (size_t)n * sizeof *dst);
    for (int64_t i = 0; i < n && dtype != PAR_F32; i++) {
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = dtype == PAR_BF16 ? par__bf16_to_f32(h) : par__f16_to_f32(h);
    }
}
