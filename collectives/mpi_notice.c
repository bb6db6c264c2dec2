/* Notices of a break over MPI. See mpi_notice.h. */
#define _POSIX_C_SOURCE 200809L
#include "mpi_notice.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "libpar/base/clock.h"

/* Seconds for an exchange: ranks that compute hear later, and find the notices that were sent. */
enum { EXCHANGE_S = 2 };

struct par__notices {
    MPI_Comm comm;
    int size, rank, n_heard;
    bool exchanged, sent; /* sent: all that was has ended */
    MPI_Request receive;  /* MPI_REQUEST_NULL: not posted */
    MPI_Request *sends;   /* [size - 1] */
    char in[PAR__NOTICE_NBYTES], out[PAR__NOTICE_NBYTES];
};

static void listen(par__notices *n) {
    if (MPI_Irecv(n->in, sizeof n->in, MPI_CHAR, MPI_ANY_SOURCE, 0, n->comm, &n->receive) !=
        MPI_SUCCESS)
        n->receive = MPI_REQUEST_NULL;
}

par_status par__notices_open(MPI_Comm comm, par__notices **out) {
    MPI_Comm own;
    par__notices *n = calloc(1, sizeof *n);
    int code = MPI_Comm_dup(comm, &own);
    if (n && code == MPI_SUCCESS) {
        MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN);
        MPI_Comm_size(own, &n->size);
        MPI_Comm_rank(own, &n->rank);
        n->sends = calloc((size_t)n->size, sizeof *n->sends);
    }
    if (code == MPI_SUCCESS && (!n || !n->sends)) MPI_Comm_free(&own);
    if (code == MPI_SUCCESS && n && n->sends) {
        n->comm = own;
        n->receive = MPI_REQUEST_NULL;
        listen(n);
        *out = n;
        return PAR_OK;
    }
    free(n);
    if (code != MPI_SUCCESS) PAR_FAIL(PAR_ERR_TRANSPORT, "MPI_Comm_dup failed");
    PAR_FAIL(PAR_ERR_MEMORY, "no host memory for notices of a break");
}

/* The receive has ended with a notice. */
static bool take(par__notices *n) {
    int done = 0;
    MPI_Status status;
    if (n->receive == MPI_REQUEST_NULL) return false;
    bool good = MPI_Test(&n->receive, &done, &status) == MPI_SUCCESS;
    return good && done;
}

bool par__notices_heard(par__notices *n, char *text) {
    if (!take(n)) return false;
    n->n_heard++;
    snprintf(text, PAR__NOTICE_NBYTES, "%.*s", PAR__NOTICE_NBYTES - 1, n->in);
    return true;
}

/* One by one: gcc takes MPICH's MPI_STATUSES_IGNORE for an array, and warns. */
static bool all_sent(par__notices *n) {
    bool all = true;
    for (int k = 0; k < n->size - 1; k++) {
        int done = 0;
        bool good = MPI_Test(&n->sends[k], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS;
        all = all && good && done;
    }
    return all;
}

void par__notices_exchange(par__notices *n, const char *text) {
    const struct timespec pause = {.tv_nsec = 100000};
    double begin = par__seconds();
    n->exchanged = true;
    snprintf(n->out, sizeof n->out, "%s", text);
    for (int k = 1; k < n->size; k++)
        if (MPI_Isend(n->out, sizeof n->out, MPI_CHAR, (n->rank + k) % n->size, 0, n->comm,
                      &n->sends[k - 1]) != MPI_SUCCESS)
            n->sends[k - 1] = MPI_REQUEST_NULL;
    for (;;) {
        if (n->receive == MPI_REQUEST_NULL && n->n_heard < n->size - 1) listen(n);
        if (take(n)) n->n_heard++;
        n->sent = all_sent(n);
        if ((n->n_heard >= n->size - 1 && n->sent) || par__seconds() - begin > EXCHANGE_S) return;
        nanosleep(&pause, NULL);
    }
}

void par__notices_close(par__notices **handle) {
    par__notices *n = *handle;
    int finalized = 0;
    if (!n) return;
    MPI_Finalized(&finalized);
    if (!finalized && n->receive != MPI_REQUEST_NULL) {
        MPI_Cancel(&n->receive);
        MPI_Wait(&n->receive, MPI_STATUS_IGNORE);
    }
    if (!finalized && !n->exchanged) MPI_Comm_free(&n->comm);
    *handle = NULL;
    if (n->exchanged && !n->sent) return; /* MPI still reads what was sent */
    free(n->sends);
    free(n);
}
