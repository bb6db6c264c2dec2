/* What steps took. */
#include "meter.h"

#include <string.h>

par_status par__meter_create(par__meter *m, const par__context *on, par__executor *executor) {
    m->on = on;
    m->executor = executor;
    return par_memory_measuring(on->memory) ? PAR_OK
                                            : par__timer_create(on->backend, PAR__SPANS, &m->timer);
}

void par__meter_free(par__meter *m) {
    if (m->timer) par__timer_destroy(&m->timer);
}

/* Of all rows of an axis so far. */
static void sum_axis(const par__meter *m, int axis, double *exposed, double *hidden) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(m->on->transport), &rows);
    *exposed = *hidden = 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].axis, par_comm_axis(m->on->mesh->axis[axis])) != 0) continue;
        *exposed += rows[i].wait_s;
        *hidden += rows[i].hidden_s;
    }
}

void par__meter_begin(par__meter *m, par__measured *s, const int *captured) {
    for (int axis = 0; m->on->backend->on_host && axis < PAR_AXIS_COUNT; axis++)
        sum_axis(m, axis, &m->exposed[axis], &m->hidden[axis]);
    *s = (par__measured){.round = captured ? par__timer_capture(m->timer, *captured)
                                           : par__timer_round(m->timer)};
}

void par__meter_repeat(par__meter *m, par__measured *s, int captured, double load) {
    par__walk_result walk;
    par__executor_repeat(m->executor, captured, load, &walk);
    *s = (par__measured){
        .round = par__timer_repeat(m->timer, captured), .walk = walk.walk, .times.data = load};
}

par_status par__meter_enter(par__meter *m, int span) {
    return par__timer_begin(m->timer, span, m->on->stream);
}
par_status par__meter_leave(par__meter *m, int span) {
    return par__timer_end(m->timer, span, m->on->stream);
}

par_status par__meter_walk(par__meter *m, par__measured *s) {
    par__walk_result r = {0};
    PAR_TRY(par__executor_times(m->executor, s->walk, &r));
    s->times.forward = r.forward;
    s->times.backward = r.backward;
    s->times.wait_pipeline = r.wait;
    m->busy = r.forward + r.backward;
    m->walked = r.total;
    return PAR_OK;
}

/* Phases of a step that begins at begin_ns by the host's clock. */
typedef struct {
    par_timeline *timeline;
    int64_t begin_ns, number;
} device_step;

static void add_phase(void *user, const char *phase, double begin_s, double end_s) {
    const device_step *s = user;
    const par__event event = {.begin_ns = s->begin_ns + (int64_t)(1e9 * begin_s),
                              .end_ns = s->begin_ns + (int64_t)(1e9 * end_s),
                              .name = phase,
                              .number = s->number,
                              .kind = PAR__EVENT_DEVICE,
                              .peer = -1,
                              .layer = -1,
                              .chunk = -1,
                              .micro = -1};
    par__timeline_put(s->timeline, &event);
}

static void add_span(void *user, int span, double begin_s, double end_s) {
    static const char *const names[PAR__SPANS] = {
        [PAR__SPAN_STEP] = "step", [PAR__SPAN_REDUCE] = "gradients", [PAR__SPAN_UPDATE] = "update"};
    add_phase(user, names[span], begin_s, end_s);
}

par_status par__meter_trace(const par__meter *m, const par__measured *s, int64_t number,
                            par_timeline *timeline) {
    double seconds[PAR__TIMER_PHASES];
    int64_t now = par__timeline_now(timeline);
    par_event *origin = par__timer_origin(m->timer, s->round);
    if (!timeline || !origin) return PAR_OK;
    PAR_TRY(par__timer_read(m->timer, s->round, seconds));
    device_step step = {timeline, now - (int64_t)(1e9 * seconds[PAR__SPAN_STEP]), number};
    PAR_TRY(par__timer_spans(m->timer, s->round, origin, add_span, &step));
    return par__executor_spans(m->executor, s->walk, origin, add_phase, &step);
}

void par__meter_count(par__meter *m, par__measured *s) {
    for (int axis = 0; m->on->backend->on_host && axis < PAR_AXIS_COUNT; axis++) {
        double exposed, hidden;
        sum_axis(m, axis, &exposed, &hidden);
        s->times.exposed[axis] = exposed - m->exposed[axis];
        s->times.hidden[axis] = hidden - m->hidden[axis];
    }
}

par_status par__meter_end(par__meter *m, par__measured *s, double bubble) {
    const par_trainer_params *p = &m->on->params;
    double seconds[PAR__TIMER_PHASES];
    PAR_TRY(par__timer_read(m->timer, s->round, seconds));
    s->times.total = seconds[PAR__SPAN_STEP];
    s->times.wait_dp = seconds[PAR__SPAN_REDUCE];
    s->times.update = seconds[PAR__SPAN_UPDATE];
    s->times.bubble = bubble;
    s->times.ideal_bubble =
        par_schedule_ideal_bubble(p->schedule, p->layout.size[PAR_PP], m->on->n_micro, p->chunks);
    m->times = s->times;
    return PAR_OK;
}
