/* Texts of JSON as malloc's: a host may have given jansson functions of its own. */
#ifndef PAR__JSON_TEXT_H
#define PAR__JSON_TEXT_H

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* json_dumps, to be freed with free. NULL: no memory, or a text in it is not UTF-8. */
static inline char *par__json_text(const json_t *value, size_t flags) {
    json_free_t release;
    char *text = json_dumps(value, flags);
    if (!text) return NULL;
    size_t nbytes = strlen(text) + 1;
    char *copy = malloc(nbytes);
    if (copy) memcpy(copy, text, nbytes);
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return copy;
}

#endif
