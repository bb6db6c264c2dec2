/* What declarations of public functions are marked with. */
#ifndef PAR_EXPORT_H
#define PAR_EXPORT_H

/* The shared library exports it, and nothing that is not marked. Empty where the cuda module is
 * made: its own par_error_set stays in it. */
#if defined(__GNUC__) && !defined(PAR_API)
#define PAR_API __attribute__((visibility("default")))
#elif !defined(PAR_API)
#define PAR_API
#endif

#if defined(__GNUC__)
/* Argument `text`, from 1, is a format of printf, whose values begin at argument `first`. */
#define PAR_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PAR_PRINTF(text, first)
#endif

#endif
