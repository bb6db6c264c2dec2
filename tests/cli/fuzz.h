/* The cases of fuzz-par that are in fuzz_words.c. */
#ifndef PAR_TESTS_CLI_FUZZ_H
#define PAR_TESTS_CLI_FUZZ_H

void fuzz_hosts(void);
void fuzz_prompts(void);

#endif
