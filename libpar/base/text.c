/* Text: see par/text.h. */
#include "par/text.h"

#include "libpar/base/utf8.h"

size_t par_utf8_length(const void *bytes, size_t n) {
    return par__utf8_length(bytes, n);
}

void par_utf8_clean(char *text) {
    size_t n = strlen(text);
    for (size_t i = 0, k; i < n; i += k) {
        k = par__utf8_length(text + i, n - i);
        if (k > 0) continue;
        text[i] = '?';
        k = 1;
    }
}
