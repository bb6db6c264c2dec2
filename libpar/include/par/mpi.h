/* The MPI transport. The only public header that includes <mpi.h>: MPI's C interface, without the
 * C++ bindings that some versions still add. */
#ifndef PAR_MPI_H
#define PAR_MPI_H

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include "par/comm.h"
#include "par/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A transport over two duplicates of `comm`, which may be any intracommunicator, also a split of a
 * larger world: one for data, one for notices of a break (par_transport_abort). They return errors;
 * MPI is neither initialised nor finalised here.
 *
 * Collective: on comm; params may differ in `link` and `oversubscribed` only.
 * Errors: PAR_ERR_ARG [agreed] when MPI is not initialised, is finalised, or has less than
 * MPI_THREAD_FUNNELED, or when any rank's piece_nbytes is out of range; PAR_ERR_MEMORY [agreed]
 * when a rank has no host memory; PAR_ERR_TRANSPORT [comm] when MPI failed, where `comm` itself
 * stays as MPI left it.
 */
PAR_API par_status par_transport_create_mpi(MPI_Comm comm, const par_transport_params *params,
                                            par_transport **out);

#ifdef __cplusplus
}
#endif
#endif
