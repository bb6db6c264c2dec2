/* What the files of the option table share: values, their refusals, names that other programs
 * have. */
#ifndef PAR__OPTION_H
#define PAR__OPTION_H

#include "par/option.h"

/* Store the value that a text says. One that cannot be is a problem, which begins with `where`
 * ("--", "file:7: "), and leaves the value before it in place. */
void par__option_store(par_option *option, const char *text, const char *where,
                       par_problems *problems);
/* "; legal: 1 to 8", or "" where everything is. */
const char *par__option_legal(const par_option *option, char *text, size_t nbytes);
/* The row of this name (or +NAME), also if it is ABSENT; NULL: there is none. */
par_option *par__option_find(par_option *options, int n, const char *name, size_t length);
/* The row has a name on the command line, and not only for people or in other programs. */
static inline bool par__option_is_named(const par_option *o) {
    return o->type != PAR_OPT_ABSENT && o->type != PAR_OPT_OPERANDS && o->type != PAR_OPT_REST;
}
/* How help writes the value: "N", "FILE", "a|b"; "" for a switch. */
const char *par__option_value_form(const par_option *option, char *text, size_t nbytes);
/* What to write, "--precision bf16", for a value that the row has not and other programs have: an
 * entry of its `also` under its own name. False: it has no such one. */
bool par__option_instead(const par_option *option, const char *value, char *text, size_t nbytes);
/* The problem of a name that no row has: what to write instead, or the closest name. `name` as it
 * was written, [length]; `value`: its value, NULL if it has none. */
void par__option_unknown(const par_option *options, int n, const char *where, const char *name,
                         size_t length, const char *value, par_problems *problems);

#endif
