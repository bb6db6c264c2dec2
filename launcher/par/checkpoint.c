/* par checkpoint: its commands by name, and their options. */
#include "checkpoint_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
enum { MAX_ROWS = 16 };

static int reshard(const checkpoint_settings *s) {
    (void)s;
    printf("There is nothing to do: a checkpoint loads in any layout, precision and number of "
           "ranks.\nStart train_llm with the new --tp, --pp and --dp, and --resume DIR.\n");
    return EXIT_SUCCESS;
}

#define DIRECTORY  "a directory of checkpoints"
#define CHECKPOINT "a checkpoint, DIR/step_00000500 say; or DIR, for the newest in it"
#define MODEL      "a Hugging Face directory, or a model file of llm.c"

static const struct {
    const char *name;
    unsigned bit;
    const char *words, *n, *what; /* as --help has them, how many, and what they are */
    int (*run)(const checkpoint_settings *s);
    const char *help;
} commands[] = {
    {"list", LIST, "DIR", "1..1", DIRECTORY, checkpoint_list,
     "the checkpoints of a directory: step, date, size, layout, loss, and whether they are whole"},
    {"show", SHOW, "STEP", "1..1", CHECKPOINT, checkpoint_show,
     "what a checkpoint says of its run, and the tensors in it"},
    {"verify", VERIFY, "STEP|DIR", "1..1", "a checkpoint, or a directory of some",
     checkpoint_verify, "read every byte against its digest; exit code 1 if any is damaged"},
    {"diff", DIFF, "A B", "2..2", CHECKPOINT ", each", checkpoint_diff,
     "what two checkpoints have different; exit code 1 if anything is"},
    {"export", EXPORT, "STEP", "1..1", CHECKPOINT, checkpoint_export,
     "its weights as a Hugging Face directory (--hf), or a model file of llm.c (--llmc)"},
    {"convert", CONVERT, "MODEL", "1..1", MODEL, checkpoint_export,
     "the same of a Hugging Face directory or a model file of llm.c"},
    {"import", IMPORT, "[MODEL]", "0..1", MODEL ", or that of --hf or --llmc", checkpoint_import,
     "a checkpoint of step 0, of weights and tokenizer (--save), to sample, compare and export"},
    {"average", AVERAGE, "A B...", "2..64", CHECKPOINT ", each; from 2 to 64", checkpoint_average,
     "a checkpoint of the mean of their weights (--save)"},
    {"reshard", RESHARD, "[DIR]", "0..1", DIRECTORY, reshard,
     "is not needed: a checkpoint loads in any layout"},
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* The rows that a command takes. */
static int rows_of(int which, checkpoint_settings *s, par_words *words,
                   par_option table[MAX_ROWS]) {
    static const par_choice types[] = {
        {"stored", -1}, {"fp32", PAR_F32}, {"bf16", PAR_BF16}, {"fp16", PAR_F16}, {NULL, 0}};
    const par_option rows[] = {
        {.name = commands[which].words,
         .type = PAR_OPT_OPERANDS,
         .value = words,
         .legal = commands[which].n,
         .help = commands[which].what,
         .recorded = ~0U},
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
        {.name = "hf",
         .type = PAR_OPT_TEXT,
         .value = &s->hf,
         .help = "the model is this Hugging Face directory",
         .metavar = "DIR",
         .recorded = IMPORT},
        {.name = "llmc",
         .type = PAR_OPT_TEXT,
         .value = &s->llmc,
         .help = "the model is this model file of llm.c",
         .metavar = "FILE",
         .recorded = IMPORT},
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
    };
    int n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].recorded & commands[which].bit) table[n++] = rows[i];
    return n;
}

static void check_empty(const char *option, const char *text, par_problems *problems) {
    if (text && !*text) par_problem(problems, "%s: is empty; legal: a name", option);
}

static int run_command(int which, int argc, char **argv) {
    char usage[512], name[32];
    checkpoint_settings s = {.command = commands[which].name};
    par_words words;
    par_option table[MAX_ROWS];
    par_problems problems = {0};
    int n = rows_of(which, &s, &words, table);
    snprintf(name, sizeof name, "checkpoint %s", s.command);
    snprintf(usage, sizeof usage, "usage: par %s %s [options]\n%s", name, commands[which].words,
             commands[which].help);
    if (par_tool_read(table, n, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    for (int i = 0; i < words.n; i++) check_empty(commands[which].words, words.words[i], &problems);
    check_empty("--hf", s.hf, &problems);
    check_empty("--llmc", s.llmc, &problems);
    check_empty("--save", s.save, &problems);
    check_empty("--tokenizer", s.tokenizer, &problems);
    int code = par_tool_refuse(name, &problems);
    if (code) return code;
    if (par_checkpoint_missing() && !(commands[which].bit & (RESHARD | CONVERT))) {
        fprintf(stderr, "par %s: %s\n", name, par_checkpoint_missing());
        return PAR_TOOL_INPUT;
    }
    s.words = words.words;
    s.n = words.n;
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
