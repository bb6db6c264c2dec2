/*
 * Fuzz target: the token-file parser. The first byte picks the form (bit 0: with an index, bits 1
 * to 3: the form that is asked for), the next two the length of the index; then index and file.
 * What the parser accepts is read completely.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int found = -1;
    if (size < 3) return found;
    size_t n = data[1] | (size_t)data[2] << 8, rest = size - 3;
    bool indexed = data[0] & 1;
    if (n > rest || !indexed) n = 0;
    /* Blocks of their own, so that a sanitizer sees a read past either end. */
    uint8_t *index = malloc(n + 1), *file = malloc(rest - n + 1);
    index = realloc(index, n ? n : 1);
    memcpy(index, data + 3, n);
    file = realloc(file, rest - n ? rest - n : 1);
    memcpy(file, data + 3 + n, rest - n);
    par_tokens t = {.path = (char[]){"x.bin"}};
    const par_tokens_params params = {.form = (par_tokens_form)((data[0] >> 1 & 7) % 6)};
    if (par__tokens_parse("x.bin", &params, file, rest - n, indexed ? index : NULL, n, NULL, &t) ==
        PAR_OK) {
        int32_t out[64];
        found = 0;
        if (t.n < 1 || (size_t)t.n * par__token_nbytes(t.type) + t.offset != rest - n) abort();
        par_tokens_max(&t);
        for (int64_t i = 0; i < t.n; i += 64)
            par_tokens_read(&t, i, t.n - i < 64 ? t.n - i : 64, out);
        if (par_tokens_read(&t, t.n - 1, 2, out) == PAR_OK) abort();
    }
    free(index);
    free(file);
    return found;
}
