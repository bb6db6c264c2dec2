/* The pipeline as lanes: the measured one of every rank, where there is a trace, and the schedule's
 * ideal one, simulated from the layout, a lane per stage. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { SIDE = 1000 /* of a lane */, MAX_DRAWN = 6000 /* actions */ };

/* All stages' lists. */
typedef struct {
    int p, m, v;
    par_schedule **stages;
    par_schedule_time *times;
    double end;
} schedule;

static par_status simulate(schedule *s, par_schedule_kind kind, const par_schedule_cost *cost) {
    par_schedule_params params = {.kind = kind, .p = s->p, .m = s->m, .v = s->v};
    size_t n = 0;
    s->stages = calloc((size_t)s->p, sizeof(par_schedule *));
    if (!s->stages) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d stages", s->p);
    for (; params.stage < s->p; params.stage++) {
        PAR_TRY(par_schedule_create(&params, &s->stages[params.stage]));
        n += (size_t)s->stages[params.stage]->n;
    }
    s->times = malloc(n * sizeof *s->times);
    if (!s->times) return par_error_set(PAR_ERR_MEMORY, "no host memory for %zu actions", n);
    PAR_TRY(par_schedule_times(s->stages, s->p, cost, s->times));
    for (size_t i = 0; i < n; i++) s->end = fmax(s->end, s->times[i].end);
    return PAR_OK;
}

static void put_lanes(report_page *p, const schedule *s) {
    const par_schedule_time *t = s->times;
    report_put(p, "<figure class=\"gantt\"><figcaption><b>Ideal schedule of one step</b>"
                  "<span class=\"key box c0\">forward</span><span class=\"key box c1\">backward"
                  "</span></figcaption>\n<div class=\"lanes\">\n");
    for (int stage = 0; stage < s->p; stage++) {
        const par_schedule *list = s->stages[stage];
        report_put(p,
                   "<div class=\"lane\"><span>stage %d</span><svg viewBox=\"0 0 %d 10\" "
                   "preserveAspectRatio=\"none\">\n",
                   stage, SIDE);
        for (int i = 0; i < list->n; i++, t++) {
            const par_action *a = &list->actions[i];
            bool backward = a->act == PAR_BACKWARD;
            if ((a->act != PAR_FORWARD && !backward) || t->end <= t->begin) continue;
            double x = SIDE * t->begin / s->end, width = SIDE * (t->end - t->begin) / s->end;
            report_put(p, "<rect class=\"k-%s\" x=\"%.2f\" width=\"%.2f\" height=\"10\"><title>",
                       backward ? "backward" : "forward", x, fmax(0.5, width - 0.8));
            report_put(p, "stage %d, %s of micro-batch %d", stage,
                       backward ? "backward" : "forward", a->micro);
            if (s->v > 1) report_put(p, ", chunk %d", a->chunk);
            report_put(p, "</title></rect>\n");
        }
        report_put(p, "</svg></div>\n");
    }
    report_put(p, "</div></figure>\n");
}

static void put_ideal(report_page *p, const report_run *run, schedule *s, par_schedule_kind kind) {
    static const par_schedule_cost cost = {.forward = 1, .backward = 2};
    char bubble[REPORT_TEXT];
    report_note(p,
                "%s: %d stages, %d micro-batches, ideal bubble %s: what a stage is idle per "
                "time that it works.",
                report_about(run, "schedule"), s->p, s->m,
                report_percent(par_schedule_ideal_bubble(kind, s->p, s->m, s->v), bubble));
    if ((int64_t)s->p * s->m * s->v * 2 > MAX_DRAWN) {
        report_note(p,
                    "The schedule is not drawn: it has %lld forwards and backwards, and more "
                    "than %d cannot be told apart.",
                    (long long)s->p * s->m * s->v * 2, MAX_DRAWN);
        return;
    }
    if (simulate(s, kind, &cost) == PAR_OK)
        put_lanes(p, s);
    else
        report_note(p, "The schedule is not drawn: %s", par_error());
    report_put(p, "<p class=\"note\">Simulated from the layout, backward as two forwards and "
                  "messages for free.</p>\n");
}

void report_pipeline(report_page *p, const report_run *run) {
    const char *name = report_about(run, "schedule");
    int kind = PAR_SCHEDULE_GPIPE;
    int64_t per_micro =
        report_about_whole(run, "micro_batch", 1) * report_about_whole(run, "dp", 1);
    int64_t batch = report_about_whole(run, "batch", 0);
    bool measured = report_trace(p, run);
    schedule s = {.p = (int)report_about_whole(run, "pp", 1),
                  .m = per_micro > 0 ? (int)(batch / per_micro) : 0,
                  .v = (int)report_about_whole(run, "chunks", 1)};
    while (kind < PAR_SCHEDULE_FORWARD_ONLY &&
           strcmp(name, par_schedule_kind_name((par_schedule_kind)kind)) != 0)
        kind++;
    if (s.p <= 1 || s.p > 32767 || s.m < 1 || s.v < 1 || kind >= PAR_SCHEDULE_FORWARD_ONLY) {
        report_missing(p, "One stage, no pipeline; several come with:", "train_llm --pp N");
        return;
    }
    put_ideal(p, run, &s, (par_schedule_kind)kind);
    if (!measured)
        report_missing(p, "A measured one is here after:", "train_llm --run DIR --trace STEPS");
    for (int i = 0; s.stages && i < s.p; i++) par_schedule_destroy(&s.stages[i]);
    free(s.stages);
    free(s.times);
}
