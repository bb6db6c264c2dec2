/* Text: see par/text.h. */
#include "par/text.h"

#include "libpar/base/utf8.h"

size_t par_utf8_length(const void *bytes, size_t n) {
    return par__utf8_length(bytes, n);
}
