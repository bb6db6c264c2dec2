/* Text that comes from outside, and may be anything. */
#ifndef PAR_TEXT_H
#define PAR_TEXT_H

#include <stddef.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Bytes of the UTF-8 character at the front of n bytes, 1 to 4; 0 if there is none (RFC 3629: the
 * shortest form, no surrogates, at most U+10FFFF, all of its bytes among the n).
 *
 * Not collective.
 */
PAR_API size_t par_utf8_length(const void *bytes, size_t n);

/** Bytes that are not of a UTF-8 character become '?': of the name of a file, say, or of a text
 * that was cut. So do control characters, which a terminal would obey, but for ends of lines and
 * tabulators. Not collective. */
PAR_API void par_utf8_clean(char *text);

/**
 * Past the byte order mark of UTF-8 that editors and shells of Windows put in front of a text of
 * *n bytes. path: for the message.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: UTF-16, which begins with a mark of its own; the message
 * has what converts it.
 */
PAR_API par_status par_text_skip_mark(const char *path, const char **text, size_t *n);

/* Bytes of a list of lines, its end included, that ranks compare (par_comm_same). */
enum { PAR_LINES_NBYTES = 8192 };

/**
 * What differs between two lists of lines "name \t value", this rank's and the first one's: a
 * problem each, with both values. `what` stands in front of the name, `legal` at the end. Names are
 * expected in one order: behind a name that one list alone has nothing is compared.
 *
 * Not collective.
 */
PAR_API void par_text_differences(const char *mine, const char *first, const char *what,
                                  const char *legal, par_problems *problems);

/**
 * The string `field` of the object in a line of JSON Lines (RFC 8259) of n bytes. It is UTF-8, ends
 * with a zero byte, and is the caller's to free. Other fields do not matter.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: no such line, no such field, not a string, or one with a
 * zero byte in it; PAR_ERR_MEMORY.
 */
PAR_API par_status par_json_string(const char *line, size_t n, const char *field, char **out);

#ifdef __cplusplus
}
#endif
#endif
