#define _POSIX_C_SOURCE 200809L
/* Lists of words from stdin, each word ended by a zero and each list by an empty word, as lines
 * that a shell would read: par run's own quoting. tests/cli/par_run.test compares what a shell's
 * grammar makes of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../launcher/par/run.h"

int main(void) {
    run_words list = {0};
    char *word = NULL;
    size_t room = 0;
    while (getdelim(&word, &room, 0, stdin) > 0) {
        if (*word) {
            run_word(&list, "%s", word + 1); /* a mark in front, as a word may be empty */
            continue;
        }
        char *text = run_quote(list.words, list.n);
        fwrite(text, 1, strlen(text) + 1, stdout);
        free(text);
        run_words_free(&list);
    }
    free(word);
    return 0;
}
