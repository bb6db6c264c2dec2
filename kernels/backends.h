/*
 * What the backends of this library share. A backend starts as a table that par__ref_init has
 * filled completely; the next init functions overwrite entries with what the machine can do better.
 * kernels.c lists the backends.
 */
#ifndef PAR__BACKENDS_H
#define PAR__BACKENDS_H

#include "par/kernels.h"

/* Plain loops for every operation, host memory, empty events. */
void par__ref_init(par_backend *backend);
/* oneDNN and vectorised loops, chosen by CPU flags. */
void par__cpu_init(par_backend *backend);
/* The environment's bound on the CPU's instructions. */
par_status par__cpu_check(void);

/* Host memory, copies and events: fills all of a backend except its name and kernels. */
void par__host_init(par_backend *backend);

/* The backend of the host that is called so. Errors: PAR_ERR_OPTION with the names that
 * par_backend_get knows. */
par_status par__backend_find(const char *name, const par_backend **out);

/* The operation's arguments against the specification. `data`: pointers too, as run needs them. */
par_status par__op_check(par_op op, const void *args, bool data);

/* Between tiles of long kernels, on the calling thread. */
static inline void par__progress(par_stream *stream) {
    if (stream && stream->progress) stream->progress(stream->user);
}

#endif
