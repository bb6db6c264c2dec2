/*
 * A log of JSON lines read back: what par_log_open and its companions (par/observe.h) wrote, record
 * by record, without a tree of the whole file. Logs of a million steps are read in one pass.
 */
#ifndef PAR_LOG_H
#define PAR_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One record, valid within the visit that gets it, with all texts in it. */
typedef struct par_log_record par_log_record;

/* What was read, and what was not. */
typedef struct {
    int64_t n_records;
    int64_t n_left_out; /* lines that are not JSON objects with a text "event" */
    int64_t left_out;   /* number of the first of these, from 1; 0: none */
} par_log_reading;

/**
 * Hand every record of a log to `visit`, in their order, with the number of its line, from 1; what
 * it returns other than PAR_OK ends the reading and is returned. Lines that are not records, as a
 * killed run, a full disk or another program leaves them, are counted and passed over. The file may
 * grow meanwhile: what was there at the start is read.
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT: a pointer of Git LFS in its place;
 * PAR_ERR_MEMORY; what `visit` returned.
 */
PAR_API par_status par_log_read(const char *path,
                                par_status (*visit)(void *user, const par_log_record *record,
                                                    int64_t line),
                                void *user, par_log_reading *out);

/** What the record says it is: "start", "step", ... Not collective. */
PAR_API const char *par_log_event(const par_log_record *);
/** A number; NAN where there is none, as where the log has null. `field` may be one of an object in
 * the record: "measured.seconds". Not collective. */
PAR_API double par_log_number(const par_log_record *, const char *field);
/** A whole number; `otherwise` where there is none. Not collective. */
PAR_API int64_t par_log_whole(const par_log_record *, const char *field, int64_t otherwise);
/** True or false; false where there is neither. Not collective. */
PAR_API bool par_log_flag(const par_log_record *, const char *field);
/** A text of UTF-8; NULL where there is none. Not collective. */
PAR_API const char *par_log_string(const par_log_record *, const char *field);
/**
 * Every field of an object in the record ("options"), or of the record itself (NULL), in the order
 * in which it has them. A value is as it is written behind an option: "on" or "off" for true and
 * false, "" for null. Objects and lists are passed over. Not collective.
 */
PAR_API void par_log_fields(const par_log_record *, const char *object,
                            void (*visit)(void *user, const char *name, const char *value),
                            void *user);

#ifdef __cplusplus
}
#endif
#endif
