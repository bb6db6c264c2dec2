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
        size_t control = par__control_length(text + i);
        k = par__utf8_length(text + i, n - i);
        if (k > 0 && control == 0) continue;
        k = control ? control : 1;
        memset(text + i, '?', k);
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

void par_text_differences(const char *a, const char *b, const char *what, const char *legal,
                          par_problems *problems) {
    while (*a || *b) {
        int n = (int)strcspn(a, "\n"), m = (int)strcspn(b, "\n");
        int name_a = (int)strcspn(a, "\t\n"), name_b = (int)strcspn(b, "\t\n");
        if (name_a != name_b || memcmp(a, b, (size_t)name_a) != 0) {
            par_problem(problems, "%s%.*s is there on %s alone; legal: %s", what,
                        *b ? name_b : name_a, *b ? b : a, *b ? "rank 0" : "this rank", legal);
            return;
        }
        const char *value_a = a + name_a + (a[name_a] == '\t'),
                   *value_b = b + name_b + (b[name_b] == '\t');
        if (n != m || memcmp(a, b, (size_t)n) != 0)
            par_problem(problems, "%s%.*s is \"%.*s\" here and \"%.*s\" on rank 0; legal: %s", what,
                        name_a, a, (int)(a + n - value_a), value_a, (int)(b + m - value_b), value_b,
                        legal);
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
}
