/*
 * What computes what: one block before the first step and one record in the log. Where something
 * faster is known and not used, a warning says why and what to do, or with --strict-kernels an
 * error, which every rank comes to. Ranks hold other modules, so all lines of all ranks are
 * gathered; those that stand there already are left out.
 *
 * A line is "work \t what \t slower \n", slower empty where nothing is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

enum { NBYTES = 8192 }; /* of one rank's lines */

static const par_tag tag = {"methods", -1, -1, -1};

/* One line, its parts ended in place. */
typedef struct {
    char *work, *what, *slower;
} line;

static bool next_line(char **at, line *out) {
    char *end = strchr(*at, '\n');
    if (!end) return false;
    *end = 0;
    out->work = strtok(*at, "\t");
    out->what = strtok(NULL, "\t");
    out->slower = strtok(NULL, "\t");
    *at = end + 1;
    return out->work && out->what;
}

static void add_line(char text[NBYTES], const par_method *m) {
    size_t used = strlen(text);
    int n = snprintf(text + used, NBYTES - used, "%s\t%s\t%s\n", m->work, m->what,
                     m->slower ? m->slower : "");
    if (n < 0 || (size_t)n >= NBYTES - used) text[used] = 0;
}

/* Those of one text that the run does not have yet, each behind the last one of the same work, else
 * at the end. */
static void merge(llm_run *r, const char *text) {
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        char whole[NBYTES];
        size_t used = strlen(r->methods), n = (size_t)(end + 1 - text);
        snprintf(whole, sizeof whole, "%.*s", (int)n, text);
        if (strstr(r->methods, whole) || used + n >= sizeof r->methods) continue;
        size_t work = strcspn(whole, "\t") + 1;
        char *place = r->methods + used;
        for (char *at = r->methods, *next; (next = strchr(at, '\n')); at = next + 1)
            if (strncmp(at, whole, work) == 0) place = next + 1;
        memmove(place + n, place, strlen(place) + 1);
        memcpy(place, whole, n);
    }
}

static void print_all(const llm_run *r) {
    static char text[sizeof r->methods];
    char *at = strcpy(text, r->methods);
    const char *before = "";
    if (*at) printf("computed by:\n");
    for (line l; next_line(&at, &l); before = l.work)
        printf("  %-10s %s\n", strcmp(before, l.work) == 0 ? "" : l.work, l.what);
    at = strcpy(text, r->methods);
    for (line l; next_line(&at, &l);) {
        char options[256];
        if (!l.slower) continue;
        llm_settle_option_names(l.slower, options, sizeof options);
        printf("warning: %s, %s: slower: %s%s\n", l.work, l.what, l.slower, options);
    }
}

/* With --strict-kernels all that is slower than it could be is a problem. */
static par_status check_strict(const llm_run *r) {
    static char text[sizeof r->methods];
    par_problems problems = {0};
    char *at = strcpy(text, r->methods);
    for (line l; r->set.strict_kernels && next_line(&at, &l);) {
        char options[256];
        if (!l.slower) continue;
        llm_settle_option_names(l.slower, options, sizeof options);
        par_problem(&problems, "--strict-kernels: %s, %s: slower: %s%s", l.work, l.what, l.slower,
                    options);
    }
    return par_problems_status(&problems, PAR_ERR_UNSUPPORTED);
}

par_status llm_methods_report(llm_run *r, llm_world *w, const par_trainer *trainer) {
    char mine[NBYTES] = "", *all = NULL;
    par_method m;
    if (r->set.device != LLM_CUDA) return PAR_OK;
    for (int i = 0; par_trainer_method(trainer, i, &m); i++) add_line(mine, &m);
    all = calloc((size_t)w->size, NBYTES);
    par_status st = llm_world_agree(
        w, all ? PAR_OK
               : par_error_set(PAR_ERR_MEMORY, "no host memory for %d lists of methods", w->size));
    if (st == PAR_OK) st = par_comm_all_gather(w->comm, mine, all, NBYTES, PAR_U8, tag, NULL, NULL);
    for (int k = 0; st == PAR_OK && k < w->size; k++) merge(r, all + (size_t)k * NBYTES);
    free(all);
    PAR_TRY(st);
    if (w->rank == 0) print_all(r);
    return check_strict(r);
}

par_status llm_methods_plan(llm_run *r) {
    static const char *const links[PAR_AXIS_COUNT] = {
        [PAR_TP] = "link tp", [PAR_CP] = "link cp", [PAR_DP] = "link dp", [PAR_PP] = "link pp"};
    const par_backend *backend = NULL;
    char mine[NBYTES] = "";
    par_method m;
    PAR_TRY(par_backend_get(r->params.backend, &backend));
    for (int i = 0; par_backend_method(backend, i, &m); i++) add_line(mine, &m);
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        if (r->params.layout.size[axis] <= 1) continue;
        if (!par_link_method(backend, (par_link)r->set.comm, &m)) continue;
        m.work = links[axis];
        add_line(mine, &m);
    }
    merge(r, mine);
    print_all(r);
    return check_strict(r);
}

/* The lines of one kind of work as one field, parted by "; "; "link tp" is the key link_tp. */
static void log_work(par_log *log, const llm_run *r, const char *work) {
    static char text[sizeof r->methods], field[sizeof r->methods];
    char key[64], *at = strcpy(text, r->methods);
    size_t used = 0;
    for (line l; next_line(&at, &l);)
        if (strcmp(l.work, work) == 0 && used < sizeof field)
            used +=
                (size_t)snprintf(field + used, sizeof field - used, "%s%s%s%s", used ? "; " : "",
                                 l.what, l.slower ? ", slower: " : "", l.slower ? l.slower : "");
    snprintf(key, sizeof key, "%s", work);
    for (char *c = key; *c; c++)
        if (*c == ' ') *c = '_';
    par_log_text(log, key, field);
}

par_status llm_methods_log(par_log *log, const llm_run *r) {
    static char text[sizeof r->methods];
    char *at = strcpy(text, r->methods), logged[256] = "\t";
    int n_slower = 0;
    if (!*at) return PAR_OK;
    par_log_text(log, "event", "methods");
    for (line l; next_line(&at, &l);) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "\t%.60s\t", l.work);
        n_slower += l.slower != NULL;
        if (strstr(logged, wanted)) continue;
        log_work(log, r, l.work);
        snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%.60s\t", l.work);
    }
    par_log_int(log, "slower", n_slower);
    return par_log_end(log);
}
