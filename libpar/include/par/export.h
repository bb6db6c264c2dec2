/* What declarations of public functions are marked with. */
#ifndef PAR_EXPORT_H
#define PAR_EXPORT_H

#if defined(__GNUC__)
/* The shared library exports it, and nothing that is not marked. */
#define PAR_API __attribute__((visibility("default")))
/* Argument `text`, from 1, is a format of printf, whose values begin at argument `first`. */
#define PAR_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PAR_API
#define PAR_PRINTF(text, first)
#endif

#endif
