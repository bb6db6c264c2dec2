/* `par data`: a token file of texts or JSON Lines. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par_tool.h"
#include "text_files.h"
#include "vocabulary.h"

enum { LLM_C, MEGATRON }; /* formats of token files */

typedef struct {
    const char *tokenizer, *out, *suffix, *field;
    par_words text, jsonl;
    int order, format; /* text_files_order; LLM_C, MEGATRON */
    int64_t max_mb;
    bool skip_bad_lines, skip_bad_files;
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

/* ", 3 files unpacked": a count that is not 0. */
static void print_count(int64_t n, const char *one, const char *many, const char *what) {
    if (n) printf(", %lld %s %s", (long long)n, n == 1 ? one : many, what);
}

static par_status write_with(const data_settings *s, const par_corpus *corpus, par_tokenizer *t,
                             int64_t *n_tokens, int64_t *vocab) {
    par_status st =
        par_corpus_write_tokens(corpus, t, s->format == MEGATRON, s->out, n_tokens, NULL);
    if (st != PAR_OK) return st;
    *vocab = par_tokenizer_vocab(t);
    const par_corpus_counts *c = corpus->counts;
    printf("%s: %lld document%s", s->out, (long long)c->documents, c->documents == 1 ? "" : "s");
    print_count(c->empty, "empty one", "empty ones", "left out");
    print_count(c->nulls, "null", "nulls", "left out");
    print_count(c->bad_lines, "bad line", "bad lines", "left out");
    print_count(c->bad_files, "bad file", "bad files", "left out");
    print_count(c->surrogates, "lone surrogate", "lone surrogates", "made U+FFFD");
    print_count(c->unpacked, "file", "files", "unpacked");
    print_count(c->converted, "file", "files", "converted from UTF-16");
    printf("\n");
    if (c->bad_lines) fprintf(stderr, "left out, the first bad line: %s\n", c->first_bad_line);
    if (c->bad_files) fprintf(stderr, "left out, the first bad file: %s\n", c->first_bad_file);
    if (c->odd_files)
        fprintf(
            stderr,
            "note: %s (so in %lld of %d file%s): its bytes are taken as they are; if it is text "
            "in another encoding, convert it first (iconv -t UTF-8)\n",
            c->first_odd_file, (long long)c->odd_files, corpus->n_files,
            corpus->n_files == 1 ? "" : "s");
    return PAR_OK;
}

/* Train on the corpus. The vocabulary gets its name when the tokens have theirs: a failure leaves
 * the older ones of both. */
static par_status train_and_write(const data_settings *s, const par_corpus *corpus,
                                  int64_t *n_tokens, int64_t *vocab) {
    vocabulary_files names;
    par_tokenizer *t = NULL;
    int64_t size, made;
    PAR_TRY(vocabulary_begin(s->out, &names));
    parse_size(after(s->tokenizer, "train:"), &size);
    par_status st = par_tokenizer_train(corpus, size, names.temporary, &made);
    if (st == PAR_OK) {
        printf("%s: vocabulary %lld%s\n", names.final, (long long)made,
               made < size ? ", fewer than asked for: no other pair occurs twice" : "");
        st = par_tokenizer_open(names.temporary, &t);
    }
    if (st == PAR_OK) st = write_with(s, corpus, t, n_tokens, vocab);
    if (st == PAR_OK) st = vocabulary_keep(&names);
    if (st != PAR_OK) vocabulary_drop(&names);
    par_tokenizer_close(&t);
    return st;
}

static par_status write_tokens(const text_files *list, const data_settings *s) {
    int64_t nbytes, n_tokens = 0, vocab = 0;
    int n = text_files_take(list, s->max_mb * 1000000, &nbytes);
    const char **paths = malloc((size_t)n * sizeof *paths);
    if (!paths) return par_error_set(PAR_ERR_MEMORY, "no host memory for %d names", n);
    for (int i = 0; i < n; i++) paths[i] = list->files[i].path;
    par_corpus_counts counts = {0};
    const par_corpus corpus = {.n_files = n,
                               .paths = paths,
                               .field = s->field,
                               .skip_bad_lines = s->skip_bad_lines,
                               .skip_bad_files = s->skip_bad_files,
                               .counts = &counts};
    par_status st;
    if (after(s->tokenizer, "train:")) {
        st = train_and_write(s, &corpus, &n_tokens, &vocab);
    } else {
        par_tokenizer *t = NULL;
        const char *path = existing(s->tokenizer);
        st = strcmp(s->tokenizer, "chars") == 0
                 ? par_tokenizer_of_text(&corpus, &t)
                 : par_tokenizer_open(path ? path : s->tokenizer, &t);
        if (st == PAR_OK && par_tokenizer_note(t))
            fprintf(stderr, "note: %s\n", par_tokenizer_note(t));
        if (st == PAR_OK) st = write_with(s, &corpus, t, &n_tokens, &vocab);
        par_tokenizer_close(&t);
    }
    free(paths);
    if (st == PAR_OK)
        printf("%s: %lld token%s of %d of %d file%s, %lld byte%s, vocabulary %lld\n", s->out,
               (long long)n_tokens, n_tokens == 1 ? "" : "s", n - (int)counts.bad_files, list->n,
               list->n == 1 ? "" : "s", (long long)counts.nbytes, counts.nbytes == 1 ? "" : "s",
               (long long)vocab);
    if (st == PAR_ERR_FORMAT && counts.bad_lines && !s->skip_bad_lines)
        return par_error_set(st, "%s; --skip-bad-lines leaves such lines out", par_error());
    if (st == PAR_ERR_FORMAT && counts.bad_files && !s->skip_bad_files)
        return par_error_set(st, "%s; --skip-bad-files leaves such files out", par_error());
    return st;
}

static const char data_usage[] =
    "usage: par data --out FILE [options] --text FILE|FOLDER...\n"
    "       par data --out FILE [options] --jsonl FILE|FOLDER... --field NAME\n"
    "Makes a token file of texts, or of JSON Lines (an object per line; its string NAME is a\n"
    "document); packed ones (.gz, .zst), and UTF-16, too.\n"
    "Documents end with <|endoftext|> (Llama 3: <|end_of_text|>) where the vocabulary has it;\n"
    "--tokenizer train:SIZE leaves its vocabulary in FILE.tokenizer.";

enum { N_ROWS = 11 };

static void make_rows(data_settings *s, par_option rows[N_ROWS]) {
    static const par_choice formats[] = {{"llm.c", LLM_C}, {"megatron", MEGATRON}, {NULL, 0}};
    static const par_choice orders[] = {{"given", TEXT_FILES_GIVEN},
                                        {"name", TEXT_FILES_NAME},
                                        {"hash", TEXT_FILES_HASH},
                                        {NULL, 0}};
    const par_option list[N_ROWS] = {
        {.name = "text",
         .type = PAR_OPT_WORDS,
         .value = &s->text,
         .help = "texts: files, and folders that are walked; all words up to the next option",
         .metavar = "FILE|FOLDER..."},
        {.name = "jsonl",
         .type = PAR_OPT_WORDS,
         .value = &s->jsonl,
         .help = "the same of JSON Lines",
         .metavar = "FILE|FOLDER..."},
        {.name = "out",
         .type = PAR_OPT_TEXT,
         .value = &s->out,
         .help = "file of tokens to write",
         .metavar = "FILE",
         .also = "output|output-prefix"},
        {.name = "tokenizer",
         .type = PAR_OPT_TEXT,
         .value = &s->tokenizer,
         .initial = "bytes",
         .help = "bytes; chars: the bytes that occur; gpt2:DIR: vocab.json and merges.txt in DIR; "
                 "hf:FILE: a tokenizer.json; train:SIZE: one made from the text, with SIZE ids",
         .metavar = "NAME",
         .also = "tokenizer-type|tokenizer-model|vocab-file"},
        {.name = "format",
         .type = PAR_OPT_CHOICE,
         .value = &s->format,
         .initial = "llm.c",
         .choices = formats,
         .help = "of the file; megatron: a .bin with its .idx, one sequence per document"},
        {.name = "field",
         .type = PAR_OPT_TEXT,
         .value = &s->field,
         .help = "with --jsonl: the string that holds the text",
         .metavar = "NAME",
         .also = "json-keys|json-key"},
        {.name = "skip-bad-lines",
         .type = PAR_OPT_BOOL,
         .value = &s->skip_bad_lines,
         .help = "with --jsonl: leave out lines that are not JSON or have no such string; they are "
                 "counted"},
        {.name = "skip-bad-files",
         .type = PAR_OPT_BOOL,
         .value = &s->skip_bad_files,
         .help =
             "leave out files that cannot be read as text: packed ones that are cut or damaged, "
             "PDFs, archives ...; they are counted"},
        {.name = "suffix",
         .type = PAR_OPT_TEXT,
         .value = &s->suffix,
         .help = "in folders, take only files whose names end so"},
        {.name = "order",
         .type = PAR_OPT_CHOICE,
         .value = &s->order,
         .initial = "name",
         .choices = orders,
         .help = "of files; hash: mixed, so that a last part is like the rest"},
        {.name = "max-mb",
         .type = PAR_OPT_INT,
         .value = &s->max_mb,
         .initial = "1000000",
         .legal = "1..",
         .help = "take whole files, up to this many million bytes"},
    };
    memcpy(rows, list, sizeof list);
}

/* Tokens of a run before are replaced; Megatron's are known by their index. */
static par_status check_out(const data_settings *s) {
    char index[4352];
    par_problems problems = {0};
    size_t n = strlen(s->out);
    if (s->format == LLM_C)
        par_tool_output("--out", s->out, PAR_OUTPUT_TOKENS, &problems);
    else if (n > 4 && n < sizeof index && strcmp(s->out + n - 4, ".bin") == 0) {
        snprintf(index, sizeof index, "%.*s.idx", (int)(n - 4), s->out);
        bool indexed = access(index, F_OK) == 0;
        par_tool_output("--out", indexed ? index : s->out, PAR_OUTPUT_INDEX, &problems);
    }
    return par_problems_status(&problems, PAR_ERR_OPTION);
}

static par_status make_tokens(const data_settings *s) {
    const par_words *texts = s->field ? &s->jsonl : &s->text;
    text_files list = {.suffix = s->suffix, .order = (text_files_order)s->order};
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < texts->n; i++) st = text_files_add(&list, texts->words[i]);
    if (st == PAR_OK && list.n == 0)
        st = par_error_set(
            PAR_ERR_OPTION, "--%s: no text files in %s%s; legal: a file, or a folder that has some",
            s->field ? "jsonl" : "text", texts->words[0], texts->n > 1 ? " and the rest" : "");
    text_files_print_left(&list);
    const char *same = text_files_find(&list, s->out);
    if (st == PAR_OK && same)
        st = par_error_set(PAR_ERR_OPTION,
                           "--out %s: is a text that is read (%s); it is not replaced; legal: "
                           "another name",
                           s->out, same);
    if (st == PAR_OK) st = check_out(s);
    if (st == PAR_OK) text_files_sort(&list);
    if (st == PAR_OK) st = write_tokens(&list, s);
    text_files_free(&list);
    return st;
}

static void check_data(const data_settings *s, par_problems *problems) {
    if (!s->out) par_problem(problems, "--out: is missing; legal: a file to write");
    if (s->text.n == 0 && s->jsonl.n == 0)
        par_problem(problems,
                    "--text: is missing; legal: files and folders (or --jsonl with --field)");
    if (s->text.n && s->jsonl.n) par_problem(problems, "--text and --jsonl: legal: one of the two");
    if (s->jsonl.n && !s->field)
        par_problem(problems, "--field: is missing; legal: the name of the text in a line");
    if (s->field && !s->jsonl.n) par_problem(problems, "--field: legal with --jsonl alone");
    const char *t = s->tokenizer, *size = after(t, "train:"), *path = existing(t);
    int64_t n;
    bool chars = strcmp(t, "chars") == 0;
    if (size && (!parse_size(size, &n) || n < 257 || n > 1 << 20))
        par_problem(problems,
                    "--tokenizer %s: legal sizes: 257 (256 bytes and <|endoftext|>) to 1048576", t);
    else if (!size && !(path && *path) && !chars && strcmp(t, "bytes") != 0)
        par_problem(problems, "--tokenizer %s: legal: bytes, chars, gpt2:DIR, hf:FILE, train:SIZE",
                    t);
    if (chars && (s->field || s->format != LLM_C))
        par_problem(problems, "--tokenizer chars: legal with --text and --format llm.c alone");
}

int par_data(int argc, char **argv) {
    data_settings s = {0};
    par_option rows[N_ROWS];
    par_problems problems = {0};
    make_rows(&s, rows);
    if (par_tool_read(rows, N_ROWS, data_usage, argc, argv, &problems)) return EXIT_SUCCESS;
    check_data(&s, &problems);
    int code = par_tool_refuse("data", &problems);
    if (code || make_tokens(&s) == PAR_OK) return code;
    fprintf(stderr, "par data: %s\n", par_error());
    return PAR_TOOL_INPUT;
}
