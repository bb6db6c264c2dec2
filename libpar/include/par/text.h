/* Text that comes from outside, and may be anything. */
#ifndef PAR_TEXT_H
#define PAR_TEXT_H

#include <stddef.h>

#include "par/export.h"

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

#ifdef __cplusplus
}
#endif
#endif
