/* The process as it was started, and whether what it prints is written; of train_llm and par. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>

/* SIGHUP was ignored when the program was started, as nohup does. */
bool process_ignores_hangup(void);
/* False, once: what was printed so far could not be written. From then on what is printed goes
 * nowhere, and counts as written. */
bool process_prints(void);
/* All that was printed is written. If it cannot be, that is said: `program` and why. */
bool process_printed(const char *program);

#endif
