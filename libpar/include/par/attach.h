/*
 * Asking a running process. A thread of its own answers over a local socket: unix(7), with an
 * abstract name that holds the process's number, so that no file is left. Only processes of the
 * same user get an answer. The thread waits in the kernel until it is asked: it costs nothing.
 */
#ifndef PAR_ATTACH_H
#define PAR_ATTACH_H

#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A process that can be asked. */
typedef struct par_attach par_attach;

/**
 * Answer from now on: `answer` is called in a thread of the library's, beside whatever the process
 * does, and returns a text that is freed here; NULL: it has none. Once per process. Not collective.
 * Errors: PAR_ERR_IO when there is no such socket; PAR_ERR_MEMORY.
 */
PAR_API par_status par_attach_create(char *(*answer)(void *user), void *user, par_attach **out);
/** No call of `answer` is under way or will come. NULL is accepted. Not collective. */
PAR_API void par_attach_destroy(par_attach **attach);

/**
 * Ask process `pid` of this host; *text is to be freed. Not collective. Errors: PAR_ERR_ARG: there
 * is no such process, it is another user's, or it answers nobody; PAR_ERR_IO: it is stopped, or did
 * not answer within timeout_s; PAR_ERR_MEMORY. Each says what is the case, and what to do.
 */
PAR_API par_status par_attach_ask(int64_t pid, double timeout_s, char **text);

#ifdef __cplusplus
}
#endif
#endif
