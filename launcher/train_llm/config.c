/*
 * From the command line to settings: options, then a file of options (--config), then a recipe; what
 * comes first wins. And back: the options as they were settled, in a file beside the log, which
 * --config takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

enum { MAX_NBYTES = 1 << 20 };

/* The file as a text, kept until the process ends, since values point into it; NULL: a problem. */
static char *read_text(const char *path, par_problems *problems) {
    char *text = calloc(1, MAX_NBYTES + 1);
    FILE *file = text ? fopen(path, "rb") : NULL;
    size_t n = file ? fread(text, 1, MAX_NBYTES + 1, file) : 0;
    bool failed = !file || ferror(file);
    const char *why = failed               ? strerror(errno)
                      : n > MAX_NBYTES     ? "has more than 1 MiB"
                      : memchr(text, 0, n) ? "is not a text"
                                           : NULL;
    if (file) fclose(file);
    if (!why) return text;
    par_problem(problems, "--config %s: %s; legal: a file of lines key = value", path, why);
    free(text);
    return NULL;
}

static void load(llm_run *r, par_problems *problems) {
    char *text = r->set.config ? read_text(r->set.config, problems) : NULL;
    if (text) par_options_load(r->options, r->n_options, r->set.config, text, problems);
}

/* Of equal options the last one counts; which, is said once. */
static void note_repeated(llm_run *r) {
    for (int i = 0; i < r->n_options; i++) {
        char value[256];
        if (r->options[i].given > 1)
            par_problem(&r->notes, "--%s is given %d times; the last one counts: %s",
                        r->options[i].name, r->options[i].given,
                        par_option_text(&r->options[i], value, sizeof value));
    }
}

void llm_config_read(llm_run *r, int argc, char **argv, par_problems *problems) {
    r->n_options = llm_options_rows(&r->set, r->options);
    par_options_parse(r->options, r->n_options, argc - 1, argv + 1, problems);
    note_repeated(r);
    load(r, problems);
    llm_recipe_apply(r, problems);
}

bool llm_config_given(const llm_run *r, const char *name) {
    for (int i = 0; i < r->n_options; i++)
        if (r->options[i].type != PAR_OPT_ABSENT && strcmp(r->options[i].name, name) == 0)
            return r->options[i].given > 0;
    return false;
}

/* What a file of options should not repeat: itself, what ends at once, and with an import the model,
 * which is the import's. */
static bool is_kept(const llm_run *r, const par_option *row) {
    static const char *const others[] = {"config", "help", "version", "other-names"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(row->name, others[i]) == 0) return false;
    return !r->set.import || strcmp(row->name, "model") != 0;
}

par_status llm_config_write(const llm_run *r, const char *path) {
    par_option kept[LLM_MAX_OPTIONS];
    int n = 0;
    for (int i = 0; i < r->n_options; i++)
        if (is_kept(r, &r->options[i])) kept[n++] = r->options[i];
    return par_options_save(kept, n, path);
}
