/*
 * What a run looked like: a log of JSON lines, the loss curve, and the communication matrix
 * (par/matrix.h). Nothing here prints; files are named by the caller.
 */
#ifndef PAR_OBSERVE_H
#define PAR_OBSERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/matrix.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A log of JSON objects, one per line. A line reaches the file in one write when it ends, so a
 * killed run leaves whole lines; a broken last line of another program is ended first.
 */
typedef struct par_log par_log;

/** Opened for appending, made if it is not there. Not collective. Errors: PAR_ERR_IO,
 * PAR_ERR_MEMORY. */
PAR_API par_status par_log_open(const char *path, par_log **out);
/** The line under way is lost. NULL is accepted. Not collective. */
PAR_API void par_log_close(par_log **log);
/** A whole number as a field of the line under way. Not collective. */
PAR_API void par_log_int(par_log *, const char *key, int64_t value);
/** A number with 9 digits, which tell every float; NaN and infinity become null. Not collective. */
PAR_API void par_log_real(par_log *, const char *key, double value);
/** True or false. Not collective. */
PAR_API void par_log_bool(par_log *, const char *key, bool value);
/** Text, escaped; bytes that are not UTF-8 become ?. Not collective. */
PAR_API void par_log_text(par_log *, const char *key, const char *value);
/** As par_log_real, with as many digits as it takes to read the same double back. Not
 * collective. */
PAR_API void par_log_exact(par_log *, const char *key, double value);
/** Fields up to par_log_object_end are of an object of their own; objects do not nest.
 * Not collective. */
PAR_API void par_log_object(par_log *, const char *key);
/** The object's end. Not collective. */
PAR_API void par_log_object_end(par_log *);
/**
 * End the line and write it.
 *
 * Not collective. Errors: PAR_ERR_IO with the cause, and the file ends with the line before;
 * PAR_ERR_ARG: more than 16 KiB, not written.
 */
PAR_API par_status par_log_end(par_log *);

/* A loss that a log holds. */
typedef struct {
    int64_t step;
    double loss; /* NaN: was not finite */
    bool validation;
} par_log_point;

/* The losses of a log. */
typedef struct {
    par_log_point *points; /* [n], owned, as they stand in the log */
    int64_t n;
    int64_t n_dropped; /* records that were taken out */
} par_log_history;

/**
 * Before par_log_open: make a log ready for a run that goes on after `step`, whose loss was `loss`.
 * Its lines begin with a text field "event"; the run in question begins at the last "start".
 * Records of later steps are taken out, since they will come again, and the losses of the rest are
 * returned, to be freed by par_log_history_free. A broken last line goes too. The file is replaced
 * whole and synced, or not at all.
 *
 * With step 0 (a run that begins) only a broken last line is taken out. A file that is not there,
 * and one that is not a plain file, is left alone.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: a line is not such a record, the log's loss of `step` is
 * another one, or it has later steps and not this one; the file is as it was. PAR_ERR_IO,
 * PAR_ERR_MEMORY.
 */
PAR_API par_status par_log_continue(const char *path, int64_t step, double loss,
                                    par_log_history *out);
/** What par_log_continue returned; all zeros are accepted. Not collective. */
PAR_API void par_log_history_free(par_log_history *history);

/* The loss over steps. */
typedef struct par_curve par_curve;

/** Room for n_train and n_validation points; later ones are dropped. Not collective. Errors:
 * PAR_ERR_ARG, PAR_ERR_MEMORY. */
PAR_API par_status par_curve_create(const char *title, int64_t n_train, int64_t n_validation,
                                    par_curve **out);
/** NULL is accepted. Not collective. */
PAR_API void par_curve_destroy(par_curve **curve);
/** Values that are not finite are left out. Steps must not decrease. Not collective. */
PAR_API void par_curve_add(par_curve *, bool validation, int64_t step, double loss);
/**
 * An SVG of 800 x 450 that needs nothing from elsewhere and takes its colours from the reader's
 * preference (light or dark). More than 700 training points are drawn as means of equal runs of
 * them. Written under a temporary name beside `path`, synced, then renamed.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_curve_write(const par_curve *, const char *path);

#ifdef __cplusplus
}
#endif
#endif
