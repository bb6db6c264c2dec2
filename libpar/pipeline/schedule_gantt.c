/*
 * The text Gantt of a simulated schedule: a line per stage, time from left to right, as many
 * columns per unit of time as the longest label needs. Forward of micro-batch 3 is "3", backward
 * "b3"; with chunks, of the second chunk, "B3" and "bB3".
 */
#include "schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARGIN = 6, MIN_WIDTH = 16 }; /* "  12 |"; columns below which nothing is readable */

static int label(const par_action *a, int v, char text[16]) {
    char chunk[2] = {(char)('A' + a->chunk), '\0'};
    return snprintf(text, 16, "%s%s%d", a->act == PAR_BACKWARD ? "b" : "", v > 1 ? chunk : "",
                    a->micro);
}

/* Columns per unit of time, so that a label and a space fit into every computation. */
static double columns_per_unit(const par_schedule *s, const par_schedule_cost *cost) {
    char text[16];
    par_action forward = {.act = PAR_FORWARD, .micro = (int16_t)(s->m - 1)}, backward = forward;
    backward.act = PAR_BACKWARD;
    double rate = (label(&forward, s->v, text) + 1) / (cost->forward / s->v);
    if (s->kind == PAR_SCHEDULE_FORWARD_ONLY || cost->backward == 0) return rate;
    return fmax(rate, (label(&backward, s->v, text) + 1) / (cost->backward / s->v));
}

static void draw(const par_schedule *s, const par__interval *times, double rate, char *row,
                 int width) {
    for (int i = 0; i < s->n; i++) {
        const par_action *a = &s->actions[i];
        char text[16];
        if (a->act != PAR_FORWARD && a->act != PAR_BACKWARD) continue;
        double begin = round(times[i].begin * rate), end = round(times[i].end * rate);
        int n = label(a, s->v, text);
        for (int k = 0; begin + k < fmin(end, width); k++)
            row[(int)begin + k] = k < n ? text[k] : ' ';
    }
}

/* Lines of exactly MARGIN + n columns and a line feed; ">" at their end if time goes on behind. */
static void chart(par_schedule *const *schedules, int p, const par_schedule_cost *cost,
                  const par__interval *times, int width, char *text) {
    double end = 0, rate = columns_per_unit(schedules[0], cost);
    for (size_t i = 0; i < par__schedule_n_actions(schedules, p); i++)
        end = fmax(end, times[i].end);
    bool cut = round(end * rate) > width - MARGIN;
    int n = cut ? width - MARGIN : (int)round(end * rate);
    for (int s = 0; s < p; s++) {
        snprintf(text, MARGIN + 1, "%4d |", schedules[s]->stage);
        memset(text + MARGIN, '.', (size_t)n);
        draw(schedules[s], times, rate, text + MARGIN, n);
        if (cut) text[MARGIN + n - 1] = '>';
        text[MARGIN + n] = '\n';
        text += MARGIN + n + 1;
        times += schedules[s]->n;
    }
    *text = '\0';
}

par_status par_schedule_gantt(par_schedule *const *schedules, int p, const par_schedule_cost *cost,
                              int width, char *text, size_t nbytes) {
    PAR_REQUIRE(cost && text);
    PAR_TRY(par_schedule_check(schedules, p));
    size_t least = (size_t)p * (MIN_WIDTH + 1) + 1, n = par__schedule_n_actions(schedules, p);
    if (width < MIN_WIDTH || nbytes < least)
        PAR_FAIL(
            PAR_ERR_ARG,
            "Gantt of %d columns in %zu bytes; legal: at least %d columns, %zu bytes for %d stages",
            width, nbytes, MIN_WIDTH, least, p);
    if ((size_t)width > (nbytes - 1) / (size_t)p - 1) width = (int)((nbytes - 1) / (size_t)p - 1);
    par__interval *times = malloc(n * sizeof *times);
    if (!times) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to simulate %zu actions", n);
    par_status st = par__schedule_times(schedules, p, cost, times);
    if (st == PAR_OK) chart(schedules, p, cost, times, width, text);
    free(times);
    return st;
}
