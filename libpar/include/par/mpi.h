/* The MPI transport. The only public header that includes <mpi.h>. */
#ifndef PAR_MPI_H
#define PAR_MPI_H

#include <mpi.h>

#include "par/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A transport over a duplicate of `comm`, which may be any intracommunicator, also a split of a
 * larger world. The duplicate returns errors; MPI is neither initialised nor finalised here.
 * Collective on comm. Errors: PAR_ERR_ARG if MPI is not initialised or has less than
 * MPI_THREAD_FUNNELED; PAR_ERR_TRANSPORT.
 */
par_status par_transport_create_mpi(MPI_Comm comm, const par_transport_params *params,
                                    par_transport **out);

#ifdef __cplusplus
}
#endif
#endif
