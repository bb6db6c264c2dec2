/*
 * From the command line to settings: options, then a file of options (--config), then a recipe;
 * what comes first wins. And back: the options as they were settled, in a file beside the log,
 * which --config takes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

enum { MAX_NBYTES = 1 << 16 };

/* One rank reads, so that all come to the same options, also where the others do not see the
 * file. */
static void load(llm_run *r, const llm_world *w, par_problems *problems) {
    static char text[MAX_NBYTES + 1]; /* values of options point into it */
    char why[256] = "";
    if (!r->set.config) return;
    if (w->rank == 0) {
        FILE *file = fopen(r->set.config, "rb");
        size_t n = file ? fread(text, 1, MAX_NBYTES + 1, file) : 0;
        bool failed = !file || ferror(file);
        snprintf(why, sizeof why, "%s",
                 failed               ? strerror(errno)
                 : n > MAX_NBYTES     ? "has more than 64 KiB"
                 : memchr(text, 0, n) ? "is not a text in UTF-8"
                                      : "");
        if (file) fclose(file);
    }
    if (w->size > 1) { /* a rank by itself may have no MPI */
        llm_world_share(why, sizeof why);
        llm_world_share(text, sizeof text);
    }
    const char *path = r->set.config;
    par_option *row = r->options;
    while (row->value != &r->set.config) row++;
    int given = row->given;
    row->given = 0; /* so that a line that sets it is seen */
    if (*why)
        par_problem(problems, "--config %s: %s; legal: a file of lines key = value", r->set.config,
                    why);
    else
        par_options_load(r->options, r->n_options, r->set.config, text, problems);
    if (r->set.config != path)
        par_problem(problems, "%s: config: a file of options cannot name another one", path);
    r->set.config = path;
    row->given = given;
}

/* What each rank may have of its own. Ids of --data are compared when they are there. */
static bool is_own(const par_option *row) {
    static const char *const names[] = {"data", "gpu", "threads"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(row->name, names[i]) == 0) return true;
    return false;
}

/* A line "name \t value" for each row, the program's version first. */
static void list_rows(const llm_run *r, char text[MAX_NBYTES]) {
    static char value[MAX_NBYTES / 2];
    size_t used = (size_t)snprintf(text, MAX_NBYTES, "train_llm\t%s\n", TRAIN_LLM_VERSION);
    for (int i = 0; i < r->n_options && used < MAX_NBYTES; i++) {
        const par_option *row = &r->options[i];
        if (row->type == PAR_OPT_ABSENT || is_own(row)) continue;
        used += (size_t)snprintf(text + used, MAX_NBYTES - used, "--%s\t%s\n", row->name,
                                 par_option_text(row, value, sizeof value));
    }
}

/* Ranks with other options than rank 0 would wait for each other for ever, or train what nobody
 * asked for. Collective. */
static par_status compare(const llm_run *r, const llm_world *w, par_problems *problems) {
    static char mine[MAX_NBYTES], first[MAX_NBYTES];
    if (w->size == 1) return PAR_OK; /* and may have no MPI */
    list_rows(r, mine);
    memcpy(first, mine, sizeof first);
    llm_world_share(first, sizeof first);
    if (strcmp(mine, first) == 0) return PAR_OK;
    par_text_differences(mine, first, "",
                         "the same on all ranks, but for paths of --data, --gpu and --threads",
                         problems);
    return par_problems_status(problems, PAR_ERR_OPTION);
}

par_status llm_config_parse(llm_run *r, const llm_world *w, int argc, char **argv,
                            par_problems *problems) {
    r->n_options = llm_options_rows(&r->set, r->options);
    par_options_parse(r->options, r->n_options, argc - 1, argv + 1, problems);
    /* of equal options the last one counts; which, is said once */
    for (int i = 0; i < r->n_options; i++) {
        const par_option *row = &r->options[i];
        char value[256];
        if (row->given > 1)
            par_problem(&r->notes, "--%s is given %d times; the last one counts: %s", row->name,
                        row->given, par_option_text(row, value, sizeof value));
    }
    return compare(r, w, problems);
}

void llm_config_load(llm_run *r, const llm_world *w, par_problems *problems) {
    load(r, w, problems);
    llm_recipe_apply(r, problems);
}

bool llm_config_given(const llm_run *r, const char *name) {
    for (int i = 0; i < r->n_options; i++)
        if (r->options[i].type != PAR_OPT_ABSENT && strcmp(r->options[i].name, name) == 0)
            return r->options[i].given > 0;
    return false;
}

/* What a file of options should not repeat: itself, what ends at once, the run's directory with
 * what follows from it or is in it, and with an import the model, which is the import's. */
static bool is_kept(const llm_run *r, const par_option *row) {
    static const char *const others[] = {"config", "help", "version", "other-names", "run"};
    static const char *const places[] = {"log", "curve", "save"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strcmp(row->name, places[i]) == 0) return row->given > 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(row->name, others[i]) == 0) return false;
    if (strcmp(row->name, "resume") == 0) return !llm_run_holds(r, r->set.resume);
    return !r->set.import || strcmp(row->name, "model") != 0;
}

par_status llm_config_write(const llm_run *r, const char *path) {
    par_option kept[LLM_MAX_OPTIONS];
    int n = 0;
    for (int i = 0; i < r->n_options; i++)
        if (is_kept(r, &r->options[i])) kept[n++] = r->options[i];
    return par_options_save(kept, n, path);
}
