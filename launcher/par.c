/*
 * par: the tool beside train_llm. `par data` makes a token file of texts or JSON Lines: files as
 * given, folders walked for text files, in an order that depends on the names alone, so that the
 * same folder gives the same file.
 */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vocabulary.h"

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
        if (!files) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d file names", max);
        list->files = files;
        list->max = max;
    }
    char *copy = strdup(path);
    if (!copy) return par_error_set(PAR_ERR_MEMORY, "no host memory for a file name");
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
    if (!stream) return par_error_set(PAR_ERR_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; st == PAR_OK && (entry = readdir(stream));) {
        struct stat about;
        if (entry->d_name[0] == '.') continue;
        int n = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (n >= (int)sizeof path || lstat(path, &about) != 0) continue;
        if (S_ISDIR(about.st_mode))
            st = walk(list, path);
        else if (S_ISREG(about.st_mode) && (!list->suffix || ends_with(path, list->suffix)) &&
                 is_text(path))
            st = add_file(list, path, about.st_size);
    }
    closedir(stream);
    return st;
}

static par_status add_path(file_list *list, const char *path) {
    struct stat about;
    if (stat(path, &about) != 0) return par_error_set(PAR_ERR_IO, "%s: %s", path, strerror(errno));
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

typedef struct {
    const char *tokenizer, *out, *suffix, *order, *format, *field;
    int64_t max_mb;
    bool help;
} data_settings;

/* What stands behind a prefix, "gpt2:DIR" say; NULL: the text does not begin so. */
static const char *after(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* The path behind gpt2: or hf:; NULL: no such tokenizer is asked for. */
static const char *existing(const char *tokenizer) {
    const char *directory = after(tokenizer, "gpt2:");
    return directory ? directory : after(tokenizer, "hf:");
}

static bool parse_size(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && *end == 0 && errno == 0;
}

/* Train on the corpus; the files wait in place->temporary. */
static par_status train(const data_settings *s, const par_corpus *corpus,
                        const vocabulary_place *place, par_tokenizer **out) {
    int64_t size, made;
    parse_size(after(s->tokenizer, "train:"), &size);
    par_status st = par_tokenizer_train(corpus, size, place->temporary, &made);
    if (st != PAR_OK) return st;
    printf("%s: vocabulary %lld%s\n", place->final, (long long)made,
           made < size ? ", fewer than asked for: no other pair occurs twice" : "");
    return par_tokenizer_open(place->temporary, out);
}

static par_status write_with(const data_settings *s, const par_corpus *corpus, par_tokenizer *t,
                             int64_t *n_tokens, int64_t *vocab) {
    int64_t documents = 0;
    par_status st = par_corpus_write_tokens(corpus, t, strcmp(s->format, "megatron") == 0, s->out,
                                            n_tokens, &documents);
    if (st != PAR_OK) return st;
    *vocab = par_tokenizer_vocab(t);
    printf("%s: %lld documents\n", s->out, (long long)documents);
    return PAR_OK;
}

/* The vocabulary gets its name when the tokens have theirs: a failure leaves the older ones of
 * both. */
static par_status train_and_write(const data_settings *s, const par_corpus *corpus,
                                  int64_t *n_tokens, int64_t *vocab) {
    vocabulary_place place;
    par_tokenizer *t = NULL;
    par_status st = vocabulary_begin(s->out, &place);
    if (st != PAR_OK) return st;
    st = train(s, corpus, &place, &t);
    if (st == PAR_OK) st = write_with(s, corpus, t, n_tokens, vocab);
    if (st == PAR_OK) st = vocabulary_keep(&place);
    if (st != PAR_OK) vocabulary_drop(&place);
    par_tokenizer_close(&t);
    return st;
}

static par_status write_corpus(const data_settings *s, const par_corpus *corpus, int64_t *n_tokens,
                               int64_t *vocab) {
    if (after(s->tokenizer, "train:")) return train_and_write(s, corpus, n_tokens, vocab);
    par_tokenizer *t = NULL;
    const char *path = existing(s->tokenizer);
    par_status st = strcmp(s->tokenizer, "chars") == 0
                        ? par_tokenizer_of_text(corpus, &t)
                        : par_tokenizer_open(path ? path : s->tokenizer, &t);
    if (st == PAR_OK) st = write_with(s, corpus, t, n_tokens, vocab);
    par_tokenizer_close(&t);
    return st;
}

/* Tokens are of bytes, so any text is taken; but another encoding is rarely meant. */
static void point_out_encodings(const char *const *paths, int n) {
    const char *first = NULL;
    int64_t at = 0, n_bad = 0;
    for (int i = 0; i < n; i++) {
        int64_t bad = text_first_bad(paths[i]);
        if (bad < 0) continue;
        if (n_bad++ == 0) {
            first = paths[i];
            at = bad;
        }
    }
    if (first)
        fprintf(stderr,
                "note: %s: no UTF-8 from byte %lld on (%lld of %d files are not): taken as the "
                "bytes they "
                "are; if text in another encoding, convert it first (iconv -t UTF-8)\n",
                first, (long long)at, (long long)n_bad, n);
}

static par_status write_tokens(const file_list *list, const data_settings *s) {
    int64_t nbytes, n_tokens, vocab;
    int n = take(list, s->max_mb * 1000000, &nbytes);
    const char **paths = malloc((size_t)n * sizeof *paths);
    if (!paths) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d names", n);
    for (int i = 0; i < n; i++) paths[i] = list->files[i].path;
    const par_corpus corpus = {n, paths, s->field};
    par_status st = write_corpus(s, &corpus, &n_tokens, &vocab);
    if (st == PAR_OK && !s->field) point_out_encodings(paths, n);
    free(paths);
    if (st == PAR_OK)
        printf("%s: %lld tokens of %d of %d files, %lld bytes, vocabulary %lld\n", s->out,
               (long long)n_tokens, n, list->n, (long long)nbytes, (long long)vocab);
    return st;
}

static const char data_usage[] =
    "usage: par data --out FILE [options] --text FILE|FOLDER...\n"
    "       par data --out FILE [options] --jsonl FILE|FOLDER... --field NAME\n"
    "Makes a token file of texts, or of JSON Lines (an object a line; its string NAME is a "
    "document). Words "
    "after\n"
    "--text or --jsonl up to the next option are files and folders. Documents end with "
    "<|endoftext|> (Llama "
    "3: "
    "<|end_of_text|>)\n"
    "where the vocabulary has it; --tokenizer train:SIZE leaves its vocabulary in FILE.tokenizer.";

static int data_options(data_settings *s, par_option *t) {
    const par_option table[] = {
        {"out", PAR_OPT_TEXT, &s->out, "Options", "token file to write", NULL, false},
        {"tokenizer", PAR_OPT_TEXT, &s->tokenizer, "Options",
         "bytes; chars: the bytes that occur; gpt2:DIR: vocab.json and merges.txt there; hf:FILE: "
         "tokenizer.json; train:SIZE",
         NULL, false},
        {"format", PAR_OPT_CHOICE, &s->format, "Options",
         "of the file; megatron: a .bin with its .idx, one sequence a document", "llm.c|megatron",
         false},
        {"field", PAR_OPT_TEXT, &s->field, "Options",
         "with --jsonl: the string that holds the text", NULL, false},
        {"suffix", PAR_OPT_TEXT, &s->suffix, "Options", "in folders, only names that end so", NULL,
         false},
        {"order", PAR_OPT_CHOICE, &s->order, "Options",
         "of files; hash: mixed, so that a last part is like the rest", "given|name|hash", false},
        {"max-mb", PAR_OPT_INT, &s->max_mb, "Options", "whole files up to so many million bytes",
         "1..", false},
        {"help", PAR_OPT_BOOL, &s->help, "Options", "", NULL, false},
    };
    const data_settings defaults = {
        .tokenizer = "bytes", .format = "llm.c", .order = "name", .max_mb = 1000000};
    *s = defaults;
    memcpy(t, table, sizeof table);
    return (int)(sizeof table / sizeof *table);
}

/* Words behind --text and --jsonl. */
typedef struct {
    char **words;
    int n;
    bool text, jsonl; /* which of the two was there */
} text_words;

/* Moves the words after --text or --jsonl to `texts`; the rest stays in argv. Returns how many are
 * left. */
static int split_texts(int argc, char **argv, text_words *texts) {
    int left = 0;
    bool in_texts = false;
    for (int i = 0; i < argc; i++) {
        bool text = strcmp(argv[i], "--text") == 0, jsonl = strcmp(argv[i], "--jsonl") == 0;
        texts->text |= text;
        texts->jsonl |= jsonl;
        if (strncmp(argv[i], "--", 2) == 0) in_texts = text || jsonl;
        if (text || jsonl) continue;
        if (in_texts)
            texts->words[texts->n++] = argv[i];
        else
            argv[left++] = argv[i];
    }
    return left;
}

static par_status make_tokens(const data_settings *s, const text_words *texts) {
    file_list list = {.suffix = s->suffix, .by_hash = strcmp(s->order, "hash") == 0};
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < texts->n; i++) st = add_path(&list, texts->words[i]);
    if (st == PAR_OK && list.n == 0)
        st = par_error_set(
            PAR_ERR_OPTION, "--%s: no text files in %s%s; legal: a file, or a folder that has some",
            s->field ? "jsonl" : "text", texts->words[0], texts->n > 1 ? " and the rest" : "");
    if (st == PAR_OK && strcmp(s->order, "given") != 0)
        qsort(list.files, (size_t)list.n, sizeof *list.files, compare);
    if (st == PAR_OK) st = write_tokens(&list, s);
    for (int i = 0; i < list.n; i++) free(list.files[i].path);
    free(list.files);
    return st;
}

static void check_tokenizer(const data_settings *s, par_problems *problems) {
    const char *t = s->tokenizer, *size = after(t, "train:"), *path = existing(t);
    int64_t n;
    bool chars = strcmp(t, "chars") == 0;
    if (size && (!parse_size(size, &n) || n < 257 || n > 1 << 20))
        par_problem(problems,
                    "--tokenizer %s: legal sizes: 257 (256 bytes and <|endoftext|>) to 1048576", t);
    else if (!size && !(path && *path) && !chars && strcmp(t, "bytes") != 0)
        par_problem(problems, "--tokenizer %s: legal: bytes, chars, gpt2:DIR, hf:FILE, train:SIZE",
                    t);
    if (chars && (s->field || strcmp(s->format, "llm.c") != 0))
        par_problem(problems, "--tokenizer chars: legal with --text and --format llm.c alone");
}

static void check_data(const data_settings *s, const text_words *texts, par_problems *problems) {
    if (!s->out) par_problem(problems, "--out: is missing; legal: a file to write");
    if (texts->n == 0)
        par_problem(problems,
                    "--text: is missing; legal: files and folders (or --jsonl with --field)");
    if (texts->text && texts->jsonl)
        par_problem(problems, "--text and --jsonl: legal: one of the two");
    if (texts->jsonl && !s->field)
        par_problem(problems, "--field: is missing; legal: the name of the text in a line");
    if (s->field && !texts->jsonl) par_problem(problems, "--field: legal with --jsonl alone");
    check_tokenizer(s, problems);
}

static int fail(const char *command) {
    fprintf(stderr, "par %s: %s\n", command, par_error());
    return EXIT_INPUT;
}

static int command_data(int argc, char **argv) {
    data_settings s;
    par_option table[10];
    par_problems problems = {0};
    char text[6144];
    text_words texts = {.words = calloc((size_t)argc + 1, sizeof(char *))};
    int n = data_options(&s, table);
    if (!texts.words) return EXIT_FAILURE;
    argc = split_texts(argc, argv, &texts);
    par_options_help(table, n, data_usage, text, sizeof text);
    par_options_parse(table, n, argc, argv, &problems);
    if (!s.help) check_data(&s, &texts, &problems);
    par_status st = par_problems_status(&problems, PAR_ERR_OPTION);
    if (st == PAR_OK && s.help)
        printf("%s", text);
    else if (st == PAR_OK)
        st = make_tokens(&s, &texts);
    free(texts.words);
    return st == PAR_OK ? EXIT_SUCCESS : fail("data");
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {{"data", command_data, "make a token file of texts or JSON Lines"}};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

int main(int argc, char **argv) {
    const char *names[N_COMMANDS], *word = argc > 1 ? argv[1] : "--help";
    signal(SIGXFSZ,
           SIG_IGN); /* a file at the limit of its size is an error of write, with a message */
    for (int i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(word, names[i]) == 0) return commands[i].run(argc - 2, argv + 2);
    }
    if (strcmp(word, "--help") == 0) {
        printf("usage: par COMMAND [options]; par COMMAND --help says more\n");
        for (int i = 0; i < N_COMMANDS; i++)
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
        return EXIT_SUCCESS;
    }
    const char *closest = par_closest(word, names, N_COMMANDS);
    fprintf(stderr, "par: %s: unknown command%s%s; par --help lists them\n", word,
            closest ? "; did you mean " : "", closest ? closest : "");
    return EXIT_INPUT;
}
