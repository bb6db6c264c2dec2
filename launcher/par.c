/*
 * par: the tool beside train_llm. `par data` makes a token file of texts: files as given, folders walked for
 * text files, in an order that depends on the names alone, so that the same folder gives the same file.
 */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par/par.h"

enum { EXIT_INPUT = 2 };

typedef struct {
    char *path;
    uint64_t key; /* of its place in the order */
    int64_t nbytes;
} text_file;

typedef struct {
    text_file *files;
    int n, max;
    const char *suffix; /* in folders: only names that end so; NULL: any */
    bool by_hash;
} file_list;

static par_status add_file(file_list *list, const char *path, int64_t nbytes) {
    if (list->n == list->max) {
        int max = list->max ? 2 * list->max : 256;
        text_file *files = realloc(list->files, (size_t)max * sizeof *files);
        if (!files) return par_fail(PAR_ERR_MEMORY, "no host memory for %d file names", max);
        list->files = files;
        list->max = max;
    }
    char *copy = strdup(path);
    if (!copy) return par_fail(PAR_ERR_MEMORY, "no host memory for a file name");
    list->files[list->n++] = (text_file){copy, list->by_hash ? par_hash_name(path) : 0, nbytes};
    return PAR_OK;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

/* Text has no zero byte at its beginning. Files that cannot be read are no text. */
static bool is_text(const char *path) {
    char block[4096];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t n = fread(block, 1, sizeof block, file);
    fclose(file);
    return n > 0 && !memchr(block, 0, n);
}

/* Links are not followed: a folder may contain itself. */
static par_status walk(file_list *list, const char *folder) {
    char path[4096];
    par_status st = PAR_OK;
    DIR *stream = opendir(folder);
    if (!stream) return par_fail(PAR_ERR_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; st == PAR_OK && (entry = readdir(stream));) {
        struct stat about;
        if (entry->d_name[0] == '.') continue;
        int n = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (n >= (int)sizeof path || lstat(path, &about) != 0) continue;
        if (S_ISDIR(about.st_mode))
            st = walk(list, path);
        else if (S_ISREG(about.st_mode) && (!list->suffix || ends_with(path, list->suffix)) && is_text(path))
            st = add_file(list, path, about.st_size);
    }
    closedir(stream);
    return st;
}

static par_status add_path(file_list *list, const char *path) {
    struct stat about;
    if (stat(path, &about) != 0) return par_fail(PAR_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISDIR(about.st_mode) ? walk(list, path) : add_file(list, path, about.st_size);
}

static int compare(const void *a, const void *b) {
    const text_file *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Whole files from the front, up to max_nbytes; at least one. Returns how many. */
static int take(const file_list *list, int64_t max_nbytes, int64_t *nbytes) {
    int n = 0;
    for (*nbytes = 0; n < list->n; n++) {
        if (n > 0 && *nbytes + list->files[n].nbytes > max_nbytes) break;
        *nbytes += list->files[n].nbytes;
    }
    return n;
}

static par_status write_tokens(const file_list *list, int64_t max_nbytes, const char *tokenizer,
                               const char *out) {
    int64_t nbytes, n_tokens, vocab;
    int n = take(list, max_nbytes, &nbytes);
    const char **paths = malloc((size_t)n * sizeof *paths);
    if (!paths) return par_fail(PAR_ERR_MEMORY, "no host memory for %d names", n);
    for (int i = 0; i < n; i++) paths[i] = list->files[i].path;
    par_status st = par_text_to_tokens(n, paths, tokenizer, out, &n_tokens, &vocab);
    free(paths);
    if (st == PAR_OK)
        printf("%s: %lld tokens of %d of %d files, vocabulary %lld\n", out, (long long)n_tokens, n, list->n,
               (long long)vocab);
    return st;
}

typedef struct {
    const char *tokenizer, *out, *suffix, *order;
    int64_t max_mb;
    bool help;
} data_settings;

static const char data_usage[] =
    "usage: par data --out FILE [options] --text FILE|FOLDER...\n"
    "Makes a token file of texts. Words after --text up to the next option are files and folders.";

static int data_options(data_settings *s, par_option *t) {
    const par_option table[] = {
        {"out", PAR_OPT_TEXT, &s->out, "Options", "token file to write (llm.c's form)", NULL, false},
        {"tokenizer", PAR_OPT_CHOICE, &s->tokenizer, "Options",
         "of the text: a token a byte, or a token a byte that occurs", "bytes|chars", false},
        {"suffix", PAR_OPT_TEXT, &s->suffix, "Options", "in folders, only names that end so", NULL, false},
        {"order", PAR_OPT_CHOICE, &s->order, "Options",
         "of files; hash: mixed, so that a last part is like the rest", "given|name|hash", false},
        {"max-mb", PAR_OPT_INT, &s->max_mb, "Options", "whole files up to so many million bytes", "1..",
         false},
        {"help", PAR_OPT_BOOL, &s->help, "Options", "", NULL, false},
    };
    const data_settings defaults = {.tokenizer = "bytes", .order = "name", .max_mb = 1000000};
    *s = defaults;
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

/* Moves the words after --text to `texts`; the rest stays in argv. Returns how many are left. */
static int split_texts(int argc, char **argv, char **texts, int *n_texts) {
    int left = 0;
    bool in_texts = false;
    *n_texts = 0;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) in_texts = strcmp(argv[i], "--text") == 0;
        if (strcmp(argv[i], "--text") == 0) continue;
        if (in_texts)
            texts[(*n_texts)++] = argv[i];
        else
            argv[left++] = argv[i];
    }
    return left;
}

static par_status make_tokens(const data_settings *s, int n_texts, char **texts) {
    file_list list = {.suffix = s->suffix, .by_hash = strcmp(s->order, "hash") == 0};
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < n_texts; i++) st = add_path(&list, texts[i]);
    if (st == PAR_OK && list.n == 0) st = par_fail(PAR_ERR_OPTION, "--text: no text files there");
    if (st == PAR_OK && strcmp(s->order, "given") != 0)
        qsort(list.files, (size_t)list.n, sizeof *list.files, compare);
    if (st == PAR_OK) st = write_tokens(&list, s->max_mb * 1000000, s->tokenizer, s->out);
    for (int i = 0; i < list.n; i++) free(list.files[i].path);
    free(list.files);
    return st;
}

static int fail(const char *command) {
    fprintf(stderr, "par %s: %s\n", command, par_error());
    return EXIT_INPUT;
}

static int command_data(int argc, char **argv) {
    data_settings s;
    par_option table[8];
    par_problems problems = {0};
    char text[4096], **texts = calloc((size_t)argc + 1, sizeof *texts);
    int n = data_options(&s, table), n_texts;
    if (!texts) return EXIT_FAILURE;
    argc = split_texts(argc, argv, texts, &n_texts);
    par_options_help(table, n, data_usage, text, sizeof text);
    par_options_parse(table, n, argc, argv, &problems);
    if (!s.help && !s.out) par_problem(&problems, "--out: is missing; legal: a file to write");
    if (!s.help && n_texts == 0) par_problem(&problems, "--text: is missing; legal: files and folders");
    par_status st = par_problems_status(&problems, PAR_ERR_OPTION);
    if (st == PAR_OK && s.help)
        printf("%s", text);
    else if (st == PAR_OK)
        st = make_tokens(&s, n_texts, texts);
    free(texts);
    return st == PAR_OK ? EXIT_SUCCESS : fail("data");
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {{"data", command_data, "make a token file of texts"}};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

int main(int argc, char **argv) {
    const char *names[N_COMMANDS], *word = argc > 1 ? argv[1] : "--help";
    for (int i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(word, names[i]) == 0) return commands[i].run(argc - 2, argv + 2);
    }
    if (strcmp(word, "--help") == 0) {
        printf("usage: par COMMAND [options]; par COMMAND --help says more\n");
        for (int i = 0; i < N_COMMANDS; i++) printf("  %-10s %s\n", commands[i].name, commands[i].help);
        return EXIT_SUCCESS;
    }
    const char *closest = par_closest(word, names, N_COMMANDS);
    fprintf(stderr, "par: %s: unknown command%s%s; par --help lists them\n", word,
            closest ? "; did you mean " : "", closest ? closest : "");
    return EXIT_INPUT;
}
