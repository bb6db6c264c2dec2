/* Numbers as text: see number.h. */
#include "libpar/base/number.h"

#include <stdio.h>
#include <stdlib.h>

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
