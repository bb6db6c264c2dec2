/*
 * The numbers of a run over its steps, as other programs read them: a table of comma-separated
 * values, or an event file of TensorBoard. Both are appended to, a record at a time, and a resumed
 * run goes on in the file that it left.
 */
#ifndef PAR_SERIES_H
#define PAR_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A step of training, or a validation after it. */
typedef struct {
    bool validation;
    int64_t step;
    double loss;         /* nats per token; may be NaN */
    double seconds;      /* of the step, or of the validation */
    double grad_norm;    /* of a step, as all that follows */
    double lr;           /* learning rate */
    double tokens_per_s; /* over all ranks */
    double mfu;          /* share of the devices' peak, 0 to 1; negative: unknown */
} par_series_point;

/** A file of a run's numbers, which grows: CSV, or events. */
typedef struct par_series par_series;

/* Where a series begins: a new run with step 0, or a resumed one after this step, whose loss was
 * `loss`. */
typedef struct {
    int64_t step;
    double loss;
    bool again; /* what began behind this step, with none before, is of this run, and comes again */
} par_series_start;

/**
 * A table at `path`: the line "event,step,loss,grad_norm,lr,seconds,tokens_per_s,mfu", then a line
 * per point; event is "step" or "validation", what is unknown or does not apply is empty. Losses,
 * norms and rates have the digits that give back the same double.
 *
 * A new run appends. For a resumed one the points of later steps are cut off, since they will come
 * again; points belong to the last run in the file, which begins where steps went down last. An
 * incomplete last line is cut off. *has_validation (may be NULL): a validation after start->step is
 * there. A file that is not there is made.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: the first line is another one, a line is broken, the
 * loss of start->step is another one, or there are later steps and not that one; the file is as it
 * was. PAR_ERR_IO, PAR_ERR_MEMORY.
 */
PAR_API par_status par_series_open_csv(const char *path, const par_series_start *start,
                                       bool *has_validation, par_series **out);
/**
 * An event file in a directory, which is made if it is not there: TFRecords, with masked CRC-32C,
 * of Event messages with summaries of scalars: loss/train, loss/validation, grad_norm, lr,
 * tokens_per_s, and mfu where it is known. A new run makes a file of its own,
 * "events.out.tfevents.SECONDS.libpar", and touches no other; a resumed one goes on in the newest
 * of that form. Points of later steps stay in the file: behind them a session log with the next
 * step takes them back, also in a TensorBoard that is open. A loss there has the digits of a
 * float.
 *
 * Not collective. Errors: as above; PAR_ERR_FORMAT also where a checksum is wrong.
 */
PAR_API par_status par_series_open_events(const char *directory, const par_series_start *start,
                                          bool *has_validation, par_series **out);
/** Write a point in one piece. Not collective. Errors: PAR_ERR_IO; the file ends with the point
 * before. */
PAR_API par_status par_series_add(par_series *, const par_series_point *);
/** NULL is accepted. Not collective. */
PAR_API void par_series_close(par_series **series);

#ifdef __cplusplus
}
#endif
#endif
