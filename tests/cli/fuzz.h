/* The case of fuzz-par that is in fuzz_hosts.c. */
#ifndef PAR_TESTS_CLI_FUZZ_H
#define PAR_TESTS_CLI_FUZZ_H

void fuzz_hosts(void);

#endif
