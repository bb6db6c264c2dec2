/* Lists of words, and how a shell would have to be given them. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

static void *need(void *memory) {
    if (memory) return memory;
    fprintf(stderr, "par run: no host memory for the command\n");
    exit(EXIT_FAILURE);
}

void run_word(run_words *list, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *word = need(malloc((size_t)n + 1));
    va_start(arguments, format);
    vsnprintf(word, (size_t)n + 1, format, arguments);
    va_end(arguments);
    list->words = need(realloc(list->words, ((size_t)list->n + 2) * sizeof *list->words));
    list->words[list->n++] = word;
    list->words[list->n] = NULL;
}

void run_self(char out[RUN_PATH]) {
    ssize_t n = readlink("/proc/self/exe", out, RUN_PATH - 1);
    if (n <= 0) n = snprintf(out, RUN_PATH, "par");
    out[n] = 0;
}

void run_words_free(run_words *list) {
    for (int i = 0; i < list->n; i++) free(list->words[i]);
    free(list->words);
    *list = (run_words){0};
}

char *run_quote(char *const *words, int n) {
    /* These mean nothing to a shell; any other byte puts the word between single quotes, in which
     * nothing does but the quote itself. */
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%";
    size_t nbytes = 1, used = 0;
    for (int i = 0; i < n; i++) nbytes += 4 * strlen(words[i]) + 3;
    char *text = need(malloc(nbytes));
    for (int i = 0; i < n; i++) {
        const char *word = words[i];
        if (i) text[used++] = ' ';
        if (*word && word[strspn(word, plain)] == 0) {
            memcpy(text + used, word, strlen(word));
            used += strlen(word);
            continue;
        }
        text[used++] = '\'';
        for (; *word; word++) {
            if (*word == '\'') {
                memcpy(text + used, "'\\''", 4);
                used += 4;
            } else {
                text[used++] = *word;
            }
        }
        text[used++] = '\'';
    }
    text[used] = 0;
    return text;
}
