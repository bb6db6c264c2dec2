/*
 * Blends. The first entry gets floor(n · w / W) of the first n samples, evenly spread; what is left
 * is numbered anew and shared among the others in the same way. So a sample's entry and its number
 * there take a few divisions, whatever the length of the training, and after every W samples each
 * entry has given exactly its weight.
 */
#include <stdlib.h>

#include "libpar/base/checked.h"
#include "par/data.h"

struct par_blend {
    par_blend_entry *entries; /* [n] */
    int n;
    int64_t sum; /* W */
    size_t x_nbytes, targets_nbytes;
};

par_status par_blend_create(const par_blend_entry *entries, int n, size_t x_nbytes,
                            size_t targets_nbytes, par_blend **out) {
    int64_t sum = 0;
    PAR_REQUIRE(entries && n > 0 && x_nbytes > 0 && targets_nbytes > 0 && out);
    for (int k = 0; k < n; k++) {
        PAR_REQUIRE(entries[k].source.read);
        if (entries[k].weight < 1 || entries[k].weight > INT32_MAX - sum)
            PAR_FAIL(PAR_ERR_ARG,
                     "weight %lld of entry %d; legal: 1 or more, all together at most 2147483647",
                     (long long)entries[k].weight, k);
        sum += entries[k].weight;
    }
    par_blend *b = malloc(sizeof *b);
    par_blend_entry *copy = malloc((size_t)n * sizeof *copy);
    if (!b || !copy) {
        free(copy);
        free(b);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a blend of %d entries", n);
    }
    for (int k = 0; k < n; k++) copy[k] = entries[k];
    *b = (par_blend){copy, n, sum, x_nbytes, targets_nbytes};
    *out = b;
    return PAR_OK;
}

void par_blend_destroy(par_blend **blend) {
    if (!blend || !*blend) return;
    free((*blend)->entries);
    free(*blend);
    *blend = NULL;
}

/* floor(n · w / sum), w <= sum < 2^31, without overflow */
static int64_t share(int64_t n, int64_t w, int64_t sum) {
    return n / sum * w + n % sum * w / sum;
}

void par_blend_find(const par_blend *b, int64_t sample, int *entry, int64_t *index) {
    int64_t n = sample, sum = b->sum;
    for (int k = 0;; k++) {
        int64_t w = b->entries[k].weight, before = share(n, w, sum);
        *entry = k;
        *index = before;
        if (share(n + 1, w, sum) > before) return; /* always for the last, as w = sum */
        n -= before;
        sum -= w;
    }
}

void par_blend_counts(const par_blend *b, int64_t n, int64_t *counts) {
    int64_t sum = b->sum;
    for (int k = 0; k < b->n; k++) {
        counts[k] = share(n, b->entries[k].weight, sum);
        n -= counts[k];
        sum -= b->entries[k].weight;
    }
}

static par_status blend_read(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const par_blend *b = user;
    int64_t end;
    PAR_REQUIRE(b && first >= 0 && n >= 0 && par__add64(first, n, &end) &&
                (n == 0 || (x && targets)));
    for (int64_t i = 0; i < n; i++) {
        int k;
        int64_t index;
        par_blend_find(b, first + i, &k, &index);
        const par_source *source = &b->entries[k].source;
        PAR_TRY(source->read(source->user, index, 1, (char *)x + (size_t)i * b->x_nbytes,
                             (char *)targets + (size_t)i * b->targets_nbytes));
    }
    return PAR_OK;
}

par_source par_blend_source(par_blend *blend) {
    return (par_source){blend_read, blend};
}
