/*
 * The dynamic loss scale of fp16 (Micikevicius et al. 2018): gradients are computed times a scale
 * that is raised after a window of clean steps and lowered after overflows, so that small gradients
 * do not vanish and large ones do not overflow. It is a function of its state and of one bit per
 * step, which all ranks take from the vote: the same scale everywhere without another message. In
 * fp32, in bf16 and with a constant scale only the counters move, and end a training that skips
 * without end. The step itself lies in kernels/vote.h, as the vote takes it on the device.
 */
#include "kernels/vote.h"
#include "vote.h"

static void set_default(double *value, double otherwise) {
    if (*value == 0) *value = otherwise;
}

void par_scaler_defaults(par_scaler_params *p) {
    set_default(&p->init, 65536);
    set_default(&p->growth, 2);
    set_default(&p->backoff, 0.5);
    set_default(&p->min, 1);
    set_default(&p->max, 4294967296.0);
    if (p->interval == 0) p->interval = 1000;
    if (p->hysteresis == 0) p->hysteresis = 2;
    if (p->max_skips == 0) p->max_skips = 16;
}

void par_scaler_check(const par_scaler_params *params, par_problems *problems) {
    par_scaler_params p = *params;
    par_scaler_defaults(&p);
    if (!(p.constant >= 0) || !(p.constant <= 4294967296.0))
        par_problem(problems, "loss scale %g must be 0 (dynamic) or in (0, 2^32]", p.constant);
    if (!(p.min > 0 && p.min <= p.max && p.max <= 0x1p64))
        par_problem(problems,
                    "smallest and largest loss scale %g and %g: legal are 0 < min <= max <= 2^64",
                    p.min, p.max);
    else if (!(p.init >= p.min && p.init <= p.max))
        par_problem(problems, "first loss scale %g must be in [%g, %g]", p.init, p.min, p.max);
    if (!(p.growth >= 1 && p.growth <= 65536))
        par_problem(problems, "loss scale growth %g must be in [1, 65536]", p.growth);
    if (!(p.backoff > 0 && p.backoff < 1))
        par_problem(problems, "loss scale backoff %g must be in (0, 1)", p.backoff);
    if (p.interval < 1)
        par_problem(problems, "loss scale window %lld must be at least 1", (long long)p.interval);
    if (p.hysteresis < 1)
        par_problem(problems, "loss scale hysteresis %lld must be at least 1",
                    (long long)p.hysteresis);
    if (p.max_skips < 1)
        par_problem(problems, "largest number of skips %lld must be at least 1",
                    (long long)p.max_skips);
}

void par_scaler_init(const par_scaler_params *params, par_scaler *out) {
    par_scaler_params p = *params;
    par_scaler_defaults(&p);
    *out = (par_scaler){.scale = p.constant > 0 ? p.constant : p.init, .hysteresis = p.hysteresis};
}

par_status par__scaler_at_floor(const par_scaler *s) {
    PAR_FAIL(
        PAR_ERR_NUMERIC,
        "%lld steps in a row were skipped at a loss scale of %g, which does not fall further: the "
        "loss itself overflows or is NaN, or a constant scale is too high; use a lower learning "
        "rate, or bf16 instead of fp16",
        (long long)s->floor_skips, s->scale);
}

par_status par_scaler_update(const par_scaler_params *params, par_scaler *s, bool overflow) {
    PAR_REQUIRE(params && s);
    par_scaler_params p = *params;
    par_scaler_defaults(&p);
    return par__scaler_step(&p, s, overflow) ? par__scaler_at_floor(s) : PAR_OK;
}

par_status par__scaler_legal(const par_scaler_params *p, const par_scaler *s) {
    bool dynamic = p->constant == 0;
    double min = dynamic ? p->min : p->constant, max = dynamic ? p->max : p->constant;
    if (!(s->scale >= min && s->scale <= max))
        PAR_FAIL(PAR_ERR_ARG, "a stored loss scale of %g: legal with these options is [%g, %g]",
                 s->scale, min, max);
    if (s->clean < 0 || s->hysteresis < 0 || s->floor_skips < 0 || s->skipped < 0)
        PAR_FAIL(PAR_ERR_ARG, "a stored loss scaler has negative counters");
    return PAR_OK;
}
