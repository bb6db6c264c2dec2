/* What par run knows of the program's own words, and what train_llm is told besides: the job's
 * folder as its directory, and where a job that may start again keeps its checkpoints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

bool run_is_train_llm(const run_settings *s) {
    if (s->program.n == 0) return false; /* no job, as par doctor asks for a launcher */
    const char *name = strrchr(s->program.words[0], '/');
    return strcmp(name ? name + 1 : s->program.words[0], "train_llm") == 0;
}

/* The value of the last `option` among the program's words; "" if it stands there without one. */
static const char *value_of(const run_settings *s, const char *option) {
    const char *value = NULL;
    size_t n = strlen(option);
    for (int i = 1; i < s->program.n; i++) {
        const char *word = s->program.words[i];
        if (strncmp(word, option, n) != 0) continue;
        if (word[n] == '=') value = word + n + 1;
        if (!word[n]) value = i + 1 < s->program.n ? s->program.words[i + 1] : "";
    }
    return value;
}

bool run_program_has(const run_settings *s, const char *option, const char *value) {
    const char *own = value_of(s, option);
    return own && strcmp(own, value) == 0;
}

int run_program_gpu(const run_settings *s) {
    const char *gpu = run_is_train_llm(s) ? value_of(s, "--gpu") : NULL;
    return gpu && *gpu ? atoi(gpu) : -1;
}

void run_program_layout(const run_settings *s, par_layout *out) {
    const char *order = value_of(s, "--order");
    int64_t product = 1;
    int open = -1, n_open = 0, given = run_is_train_llm(s); /* open: what the ranks leave */
    *out = (par_layout){0};
    if (value_of(s, "--config")) return; /* which may say more of it */
    if (order && par_layout_parse_order(order, out->order) != PAR_OK) return;
    for (int i = 0; i < PAR_AXIS_COUNT; i++) {
        char option[16];
        snprintf(option, sizeof option, "--%s", par_axis_name((par_axis)i));
        const char *value = value_of(s, option);
        int n = value ? atoi(value) : i != PAR_DP;
        given += value != NULL;
        out->size[i] = n;
        if (n > 0 && product <= s->ranks) product *= n;
        if (n == 0) open = i, n_open++;
    }
    if (n_open == 1 && s->ranks % product == 0) {
        out->size[open] = (int)(s->ranks / product);
        product = s->ranks;
    }
    if (!given || n_open > 1 || product != s->ranks) *out = (par_layout){0};
}

const char *run_program_directory(const run_settings *s) {
    const char *named = run_is_train_llm(s) ? value_of(s, "--run") : NULL;
    return named && *named && strcmp(named, "none") != 0 ? named : NULL;
}

/* What train_llm's words, or else its file of options, say of these; NULL: nothing. */
typedef struct {
    const char *run, *save, *resume;
} places;

static places find_places(const run_settings *s) {
    static char text[1 << 16];
    places of = {0};
    par_option rows[] = {
        {.name = "run", .type = PAR_OPT_TEXT, .value = &of.run, .help = "its directory"},
        {.name = "save", .type = PAR_OPT_TEXT, .value = &of.save, .help = "of its checkpoints"},
        {.name = "resume", .type = PAR_OPT_TEXT, .value = &of.resume, .help = "where it begins"}};
    par_problems others = {0}; /* other rows are train_llm's affair */
    const char *config = value_of(s, "--config"), *run = value_of(s, "--run"),
               *save = value_of(s, "--save"), *resume = value_of(s, "--resume");
    FILE *file = config ? fopen(config, "r") : NULL;
    text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
    if (file) fclose(file);
    par_options_load(rows, 3, config ? config : "", text, &others);
    return (places){run ? run : of.run, save ? save : of.save, resume ? resume : of.resume};
}

void run_program_prepare(run_settings *s, const char *directory) {
    if (!run_is_train_llm(s)) return;
    places of = find_places(s);
    if (!of.run) {
        run_word(&s->program, "--run");
        run_word(&s->program, "%s", directory);
        /* a folder that nobody asked for does not make train_llm save */
        if (!of.save && !s->restarts && !s->run) {
            run_word(&s->program, "--save");
            run_word(&s->program, "none");
        }
    }
    if (!s->restarts) return;
    if (!of.save) {
        run_word(&s->program, "--save");
        run_word(&s->program, "%s/checkpoints", directory);
        fprintf(stderr, "par run: checkpoints for --restarts go to %s/checkpoints\n", directory);
    }
    if (!of.resume) {
        run_word(&s->program, "--resume");
        run_word(&s->program, "auto");
    }
}

void run_program_again(run_settings *s) {
    if (!run_is_train_llm(s)) return;
    places of = find_places(s);
    if (!of.resume || strcmp(of.resume, "auto") == 0 || strncmp(of.resume, "auto:", 5) == 0) return;
    run_word(&s->program, "--resume");
    run_word(&s->program, "auto:%s", of.resume);
}
