/* Numbers as text: see number.h. */
#include "libpar/base/number.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *par__exact(char text[PAR__NUMBER_NBYTES], double value) {
    for (int digits = 9; digits <= 17; digits++) {
        snprintf(text, PAR__NUMBER_NBYTES, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    return text;
}

const char *par__exact_float(char text[PAR__NUMBER_NBYTES], float value) {
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, PAR__NUMBER_NBYTES, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return text;
}

/* Appends k; false when there is only room for "...". */
static bool append(int64_t k, char *text, size_t nbytes) {
    size_t used = strlen(text);
    bool fits = used + 24 < nbytes;
    if (fits)
        snprintf(text + used, nbytes - used, "%s%lld", used ? ", " : "", (long long)k);
    else
        snprintf(text + used, nbytes - used, ", ...");
    return fits;
}

/* Up to the root, then what belongs to each of these, backwards. */
void par__divisors(int64_t n, char *text, size_t nbytes) {
    enum { TRIES = 1 << 20 };
    int64_t k = 1;
    text[0] = '\0';
    for (; k <= n / k && k <= TRIES; k++)
        if (n % k == 0 && !append(k, text, nbytes)) return;
    if (k <= n / k) {
        size_t used = strlen(text);
        snprintf(text + used, nbytes - used, ", ...");
        return;
    }
    while (--k > 0)
        if (n % k == 0 && n / k != k && !append(n / k, text, nbytes)) return;
}
