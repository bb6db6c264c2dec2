/* See lists.h. */
#include "lists.h"

#include <string.h>

par_status lists_create(lists *l, par_schedule_kind kind, int p, int m, int v) {
    int first[PAR_MAX_CHUNKS + 1];
    int16_t sublayer[2 * PAR_MAX_CHUNKS];
    for (int c = 0; c <= PAR_MAX_CHUNKS; c++) first[c] = 2 * c;
    for (int b = 0; b < 2 * PAR_MAX_CHUNKS; b++) sublayer[b] = b % 2 ? 1 : 2;
    par_schedule_params params = {.kind = kind,
                                  .p = p,
                                  .m = m,
                                  .v = v,
                                  .first_bucket = first,
                                  .bucket_sublayer = sublayer,
                                  .n_last_buckets = 2};
    *l = (lists){.p = p};
    for (params.stage = 0; params.stage < p; params.stage++) {
        par_status st = par_schedule_create(&params, &l->stages[params.stage]);
        if (st != PAR_OK) {
            lists_destroy(l);
            return st;
        }
    }
    return PAR_OK;
}

void lists_destroy(lists *l) {
    for (int s = 0; s < l->p; s++) par_schedule_destroy(&l->stages[s]);
}

int lists_find(const lists *l, int stage, par_act act, bool grad, int n) {
    const par_schedule *s = l->stages[stage];
    for (int i = 0; i < s->n; i++)
        if (s->actions[i].act == act && s->actions[i].grad == grad && n-- == 0) return i;
    return -1;
}

void lists_move(lists *l, int stage, int from, int to) {
    par_action *a = l->stages[stage]->actions, moved = a[from];
    if (from < to)
        memmove(&a[from], &a[from + 1], (size_t)(to - from) * sizeof *a);
    else
        memmove(&a[to + 1], &a[to], (size_t)(from - to) * sizeof *a);
    a[to] = moved;
}

void lists_drop(lists *l, int stage, int at) {
    lists_move(l, stage, at, l->stages[stage]->n - 1);
    l->stages[stage]->n--;
}
