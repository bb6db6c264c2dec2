/* par checkpoint: its commands by name, their options, and what they share. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoint_tool.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par_tool.h"

/* Which commands take an option. */
enum {
    LIST = 1,
    SHOW = 2,
    VERIFY = 4,
    DIFF = 8,
    EXPORT = 16,
    CONVERT = 32,
    IMPORT = 64,
    AVERAGE = 128,
    RESHARD = 256
};
enum { MAX_ROWS = 16, MAX_PATH = 1024 };

static int reshard(const checkpoint_settings *s) {
    (void)s;
    printf("There is nothing to do: a checkpoint loads in any layout, precision and number of "
           "ranks.\nStart train_llm with the new --tp, --pp and --dp, and --resume DIR.\n");
    return EXIT_SUCCESS;
}

static const struct {
    const char *name;
    unsigned bit;
    const char *words; /* in --help */
    int min, max;      /* how many */
    int (*run)(const checkpoint_settings *s);
    const char *help;
} commands[] = {
    {"list", LIST, "DIR", 1, 1, checkpoint_list,
     "the checkpoints of a directory: step, date, size, layout, loss, and whether they are whole"},
    {"show", SHOW, "STEP", 1, 1, checkpoint_show,
     "what a checkpoint says of its run, and the tensors in it"},
    {"verify", VERIFY, "STEP|DIR", 1, 1, checkpoint_verify,
     "read every byte against its digest; exit code 1 if any is damaged"},
    {"diff", DIFF, "A B", 2, 2, checkpoint_diff,
     "what two checkpoints have different; exit code 1 if anything is"},
    {"export", EXPORT, "STEP", 1, 1, checkpoint_export,
     "its weights as a Hugging Face directory (--hf), or a model file of llm.c (--llmc)"},
    {"convert", CONVERT, "MODEL", 1, 1, checkpoint_export,
     "the same of a Hugging Face directory or a model file of llm.c"},
    {"import", IMPORT, "MODEL", 1, 1, checkpoint_import,
     "a checkpoint of step 0, of weights and tokenizer (--save), to sample, compare and export"},
    {"average", AVERAGE, "A B...", 2, 64, checkpoint_average,
     "a checkpoint of the mean of their weights (--save)"},
    {"reshard", RESHARD, "[DIR]", 0, 1, reshard, "is not needed: a checkpoint loads in any layout"},
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* The rows that command `bit` takes. */
static int rows_of(checkpoint_settings *s, unsigned bit, par_option table[MAX_ROWS]) {
    static const par_choice types[] = {
        {"stored", -1}, {"fp32", PAR_F32}, {"bf16", PAR_BF16}, {"fp16", PAR_F16}, {NULL, 0}};
    const par_option rows[] = {
        {.name = "hf",
         .type = PAR_OPT_TEXT,
         .value = &s->hf,
         .help = "write config.json, the weights as safetensors, and the tokenizer if it is known "
                 "into this new directory",
         .metavar = "DIR",
         .recorded = EXPORT | CONVERT},
        {.name = "llmc",
         .type = PAR_OPT_TEXT,
         .value = &s->llmc,
         .help = "write a model file of llm.c (GPT-2 alone; version 3 for fp32, 5 for bf16)",
         .metavar = "FILE",
         .recorded = EXPORT | CONVERT},
        {.name = "dtype",
         .type = PAR_OPT_CHOICE,
         .value = &s->dtype,
         .initial = "stored",
         .choices = types,
         .help = "type of the weights; fp32 takes the master weights where there are any",
         .recorded = EXPORT | CONVERT},
        {.name = "shard-gb",
         .type = PAR_OPT_REAL,
         .value = &s->shard_gb,
         .initial = "5",
         .legal = "0.000001..1000000",
         .help = "safetensors files of at most so many 10^9 bytes, or of one tensor",
         .also = "max-shard-size",
         .recorded = EXPORT | CONVERT},
        {.name = "tokenizer",
         .type = PAR_OPT_TEXT,
         .value = &s->tokenizer,
         .help = "folder of the tokenizer's files; without it: what the checkpoint carries or lies "
                 "beside its data, or what is in the directory that is converted or imported",
         .metavar = "DIR",
         .recorded = EXPORT | CONVERT | IMPORT},
        {.name = "save",
         .type = PAR_OPT_TEXT,
         .value = &s->save,
         .help = "directory of checkpoints that the new one is put in",
         .metavar = "DIR",
         .recorded = IMPORT | AVERAGE},
        {.name = "weights-only",
         .type = PAR_OPT_BOOL,
         .value = &s->weights_only,
         .help = "average the weights as they are; without it master weights, where there are any",
         .recorded = AVERAGE},
        {.name = "verify",
         .type = PAR_OPT_BOOL,
         .value = &s->verify,
         .help = "read every byte; without it manifests and the sizes of files are looked at",
         .recorded = LIST},
        {.name = "threads",
         .type = PAR_OPT_INT,
         .value = &s->threads,
         .initial = "0",
         .legal = "0..256",
         .help = "threads that read; 0: as many as there are cores",
         .recorded = LIST | VERIFY},
        {.name = "help",
         .type = PAR_OPT_BOOL,
         .value = &s->help,
         .help = "print this text and end",
         .recorded = ~0U},
    };
    int n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].recorded & bit) {
            table[n] = rows[i];
            table[n++].group = "Options";
        }
    return n;
}

static bool takes_value(const par_option *table, int n, const char *word) {
    for (int i = 0; i < n; i++)
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, table[i].name) == 0)
            return table[i].type != PAR_OPT_BOOL;
    return false;
}

/* Options, with their values, to the front of argv; returns how many words they are. */
static int options_first(const par_option *table, int n, int argc, char **argv) {
    int own = 0;
    for (int i = 0; i < argc;) {
        int take = argv[i][0] != '-' ? 0 : i + 1 < argc && takes_value(table, n, argv[i]) ? 2 : 1;
        for (int k = 0; k < take; k++) {
            char *word = argv[i + k];
            memmove(argv + own + 1, argv + own, (size_t)(i + k - own) * sizeof *argv);
            argv[own++] = word;
        }
        i += take ? take : 1;
    }
    return own;
}

static int run_command(int which, int argc, char **argv) {
    static char help[8192];
    char usage[512];
    checkpoint_settings s = {.command = commands[which].name};
    par_option table[MAX_ROWS];
    par_problems problems = {0};
    int n = rows_of(&s, commands[which].bit, table), own = options_first(table, n, argc, argv);
    snprintf(usage, sizeof usage, "usage: par checkpoint %s %s [options]\n%s", commands[which].name,
             commands[which].words, commands[which].help);
    par_options_parse(table, n, own, argv, &problems);
    s.words = argv + own;
    s.n = argc - own;
    if (s.help) {
        par_options_help(table, n, usage, help, sizeof help);
        fputs(help, stdout);
        return EXIT_SUCCESS;
    }
    if (s.n < commands[which].min || s.n > commands[which].max)
        par_problem(&problems, "%d word%s; legal: par checkpoint %s %s", s.n, s.n == 1 ? "" : "s",
                    commands[which].name, commands[which].words);
    if (par_problems_status(&problems, PAR_ERR_OPTION) != PAR_OK)
        return checkpoint_failed(commands[which].name);
    if (par_checkpoint_missing() && !(commands[which].bit & (RESHARD | CONVERT))) {
        fprintf(stderr, "par checkpoint %s: %s\n", commands[which].name, par_checkpoint_missing());
        return PAR_TOOL_INPUT;
    }
    return commands[which].run(&s);
}

int par_checkpoint_command(int argc, char **argv) {
    const char *names[N_COMMANDS], *word = argc > 0 ? argv[0] : "--help";
    for (int i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(word, names[i]) == 0) return run_command(i, argc - 1, argv + 1);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        printf("usage: par checkpoint WHAT ...; par checkpoint WHAT --help says more\n");
        for (int i = 0; i < N_COMMANDS; i++)
            printf("  %-8s %-10s %s\n", names[i], commands[i].words, commands[i].help);
        printf("STEP, A, B: a checkpoint, DIR/step_00000500 say; or DIR, for the newest in it.\n");
        return EXIT_SUCCESS;
    }
    const char *closest = par_closest(word, names, N_COMMANDS);
    fprintf(stderr, "par checkpoint: %s: unknown%s%s; par checkpoint --help lists what there is\n",
            word, closest ? "; did you mean " : "", closest ? closest : "");
    return PAR_TOOL_INPUT;
}

int checkpoint_failed(const char *command) {
    fprintf(stderr, "par checkpoint %s: %s\n", command, par_error());
    return PAR_TOOL_INPUT;
}

const char *checkpoint_value(const par_checkpoint *c, const char *name) {
    int n;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0) return pairs[i].value;
    return NULL;
}

const char *checkpoint_size(double nbytes, char text[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (; nbytes >= 1000 && unit < 4; unit++) nbytes /= 1024;
    snprintf(text, 32, "%.*f %s", unit ? 1 : 0, nbytes, units[unit]);
    return text;
}

const char *checkpoint_shape(const par_checkpoint_tensor *t, char text[64]) {
    if (t->ndim == 2)
        snprintf(text, 64, "[%lld, %lld]", (long long)t->global[0], (long long)t->global[1]);
    else
        snprintf(text, 64, "[%lld]", (long long)t->global[0]);
    return text;
}

/* "step_", eight digits, and nothing, or what one that was set aside has behind it. */
static bool is_step(const char *name) {
    return strncmp(name, "step_", 5) == 0 && strspn(name + 5, "0123456789") == 8 &&
           (!name[13] || strcmp(name + 13, ".old") == 0);
}

static int newest_first(const void *a, const void *b) {
    return strcmp(*(char *const *)b, *(char *const *)a);
}

static par_status add_path(checkpoint_paths *list, const char *directory, const char *name) {
    size_t n = strlen(directory) + strlen(name) + 2;
    char **paths = realloc(list->paths, ((size_t)list->n + 1) * sizeof *paths);
    if (paths) list->paths = paths;
    char *path = paths ? malloc(n) : NULL;
    if (!path) return par_error_set(PAR_ERR_MEMORY, "no host memory for a list of checkpoints");
    snprintf(path, n, "%s%s%s", directory, *name ? "/" : "", name);
    list->paths[list->n++] = path;
    return PAR_OK;
}

par_status checkpoint_paths_find(const char *directory, checkpoint_paths *out) {
    char path[MAX_PATH];
    struct stat info;
    par_status st = PAR_OK;
    int n = (int)strlen(directory);
    while (n > 1 && directory[n - 1] == '/') n--;
    if (n > MAX_PATH - 32) return par_error_set(PAR_ERR_ARG, "%s: is too long", directory);
    snprintf(path, sizeof path, "%.*s/manifest.json", n, directory);
    bool single = stat(path, &info) == 0;
    path[n] = 0;
    if (single) return add_path(out, path, "");
    DIR *d = opendir(path);
    if (!d)
        return par_error_set(PAR_ERR_IO,
                             "%s: cannot be opened: %s; legal: a directory of "
                             "checkpoints, or one of them",
                             directory, strerror(errno));
    for (struct dirent *e; st == PAR_OK && (e = readdir(d));)
        if (is_step(e->d_name)) st = add_path(out, path, e->d_name);
    closedir(d);
    if (out->n) qsort(out->paths, (size_t)out->n, sizeof *out->paths, newest_first);
    if (st == PAR_OK && out->n == 0)
        st = par_error_set(PAR_ERR_IO,
                           "%s: there is no checkpoint in it; legal: a directory that "
                           "--save made, or a checkpoint in it",
                           directory);
    return st;
}

void checkpoint_paths_free(checkpoint_paths *list) {
    for (int i = 0; i < list->n; i++) free(list->paths[i]);
    free(list->paths);
    *list = (checkpoint_paths){0};
}
