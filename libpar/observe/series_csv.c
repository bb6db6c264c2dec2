/* A series as comma-separated values: see par/series.h. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/number.h"
#include "libpar/observe/series.h"

static const char first_line[] = "event,step,loss,grad_norm,lr,seconds,tokens_per_s,mfu\n";

static size_t head(unsigned char *out) {
    memcpy(out, first_line, sizeof first_line - 1);
    return sizeof first_line - 1;
}

static size_t write_point(const par_series_point *p, unsigned char *out) {
    char loss[PAR__NUMBER_NBYTES], norm[PAR__NUMBER_NBYTES], lr[PAR__NUMBER_NBYTES], mfu[32] = "";
    char *text = (char *)out;
    par__exact(loss, p->loss);
    if (p->validation)
        return (size_t)snprintf(text, PAR__SERIES_NBYTES, "validation,%lld,%s,,,%.6g,,\n",
                                (long long)p->step, loss, p->seconds);
    if (p->mfu >= 0) snprintf(mfu, sizeof mfu, "%.6g", p->mfu);
    return (size_t)snprintf(text, PAR__SERIES_NBYTES, "step,%lld,%s,%s,%s,%.6g,%.6g,%s\n",
                            (long long)p->step, loss, par__exact(norm, p->grad_norm),
                            par__exact(lr, p->lr), p->seconds, p->tokens_per_s, mfu);
}

static par__series_found read_point(const unsigned char *text, size_t n, par_series_point *out,
                                    size_t *length) {
    const unsigned char *end = memchr(text, '\n', n);
    char line[PAR__SERIES_NBYTES], event[16], loss[64], *stop;
    long long step;
    if (!end) return PAR__SERIES_CUT;
    *length = (size_t)(end - text) + 1;
    if (*length == sizeof first_line - 1 && memcmp(text, first_line, *length) == 0)
        return PAR__SERIES_NONE;
    snprintf(line, sizeof line, "%.*s", (int)(*length < sizeof line ? *length : sizeof line - 1),
             (const char *)text);
    if (sscanf(line, "%15[a-z],%lld,%63[^,],", event, &step, loss) != 3 || step < 0)
        return PAR__SERIES_BROKEN;
    *out = (par_series_point){.step = step, .validation = strcmp(event, "validation") == 0};
    out->loss = strtod(loss, &stop);
    bool known = out->validation || strcmp(event, "step") == 0;
    return known && !*stop ? PAR__SERIES_POINT : PAR__SERIES_BROKEN;
}

const par__series_form par__series_csv = {head, write_point, NULL, read_point, false};
