/* Text: see par/text.h. */
#include "par/text.h"

#include <string.h>

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

par_status par_text_skip_mark(const char *path, const char **text, size_t *n) {
    PAR_REQUIRE(path && text && n);
    if (*n >= 2 && (memcmp(*text, "\xff\xfe", 2) == 0 || memcmp(*text, "\xfe\xff", 2) == 0))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is UTF-16; legal: UTF-8 (iconv -f UTF-16 -t UTF-8 converts)",
                 path);
    if (*n >= 3 && memcmp(*text, "\xef\xbb\xbf", 3) == 0) *text += 3, *n -= 3;
    return PAR_OK;
}
