/*
 * Whose a directory of checkpoints is. A run claims the directory before it saves there, and is
 * its owner until it releases it or dies; a second run is refused meanwhile. The claim is a small
 * file, DIRECTORY/owner.00000001, that exactly one process can create, and that its owner writes
 * anew every few seconds. No file locks, no exchange of names, and no comparison of clocks.
 *
 * A file whose process is known to be dead (same machine, since the same boot, same space of
 * process numbers) is taken over at once. Of another machine's, the claimer watches the contents:
 * they change while the owner lives. An owner that was only stopped finds at its next save that
 * the directory is another's, and saves nothing.
 *
 * A run also has an id, which its checkpoints carry: what an owner removes is of its own run.
 */
#ifndef PAR_OWNER_H
#define PAR_OWNER_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PAR_RUN_ID = 33 }; /* 32 hexadecimal digits and a NUL; "": none */

/** Keeps a directory of checkpoints for one run. */
typedef struct par_owner par_owner;

/* Equal on all ranks. */
typedef struct {
    const char *directory; /* made if it is not there */
    const char *from;      /* what the run will go on from: a directory of checkpoints, or one
                              checkpoint; NULL: nothing, it begins anew */
    double beat_s;         /* the file is written anew this often; 0: 10 s */
    /* rank 0: one line before a wait of 9 beats, for an owner of which nothing else is known; until
     * par_owner_release, from a thread of its own, one when the file could not be written anew */
    void (*print)(void *user, const char *line);
    void *user;
} par_owner_params;

/**
 * Claim a directory for a new run. The claim is renewed by a thread of rank 0 until
 * par_owner_release.
 *
 * Collective: on world. Errors [agreed]: PAR_ERR_OPTION: it holds checkpoints, and `from` is
 * neither the directory nor one of them by its step's name; PAR_ERR_IO: another run lives in it,
 * with host and process, or it cannot be written to; PAR_ERR_MEMORY. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_owner_claim(par_comm *world, const par_owner_params *params,
                                   par_owner **out);

/**
 * The run goes on from a checkpoint that was loaded: `path` of it, and the `run` that it carries
 * ("": none). If the checkpoint lies in the directory, *own, the run keeps that id. If it goes_on,
 * later checkpoints, which are not on its line any more, are set aside then: renamed into
 * DIRECTORY/aside.00000001, which readers pass over. `notes` (rank 0) say so. Else the run keeps
 * its new id, and the other one is its parent.
 *
 * Collective: on world; path, run and goes_on equal on all ranks. Errors [agreed]: PAR_ERR_IO: one
 * could not be set aside; PAR_ERR_MEMORY. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_owner_resumed(par_comm *world, par_owner *owner, const char *path,
                                     const char *run, bool goes_on, bool *own, par_problems *notes);

/** The run's id. Not collective. */
PAR_API const char *par_owner_run(const par_owner *owner);
/** The id of the run that it began from; "": none. Not collective. */
PAR_API const char *par_owner_parent(const par_owner *owner);

/** Give the directory up: the thread ends and the file goes. Not collective. */
PAR_API void par_owner_release(par_owner **owner);

#ifdef __cplusplus
}
#endif
#endif
