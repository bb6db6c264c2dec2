/*
 * What this process may take of the machine: cores and memory, within its affinity mask and the
 * limits of its cgroups. Containers and batch systems set those. Versions 1 and 2 are read, and the
 * groups around its own too.
 */
#ifndef PAR_MACHINE_H
#define PAR_MACHINE_H

#include <stddef.h>

#include "par/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What this process can take of the machine. */
typedef struct {
    int cores; /* of the affinity mask, bounded by the quota; at least 1 */
    int quota; /* whole cores that the cgroups allow all their processes together; 0: no limit */
    size_t memory; /* bytes that new data can take now; 0: not known */
    size_t limit;  /* bytes that the cgroups allow all their processes together; 0: no limit */
} par_machine;

/** Look. Not collective. Errors: none. */
PAR_API void par_machine_look(par_machine *out);

#ifdef __cplusplus
}
#endif
#endif
