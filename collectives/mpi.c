/*
 * The MPI carrier: pieces as nonblocking messages on a duplicate of the user's communicator. Every
 * live request of the transport is in one array, so that one MPI_Testsome moves everything. After
 * set-up no call here blocks.
 */
#define _POSIX_C_SOURCE 200809L
#include "par/mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "libpar/base/cores.h"
#include "libpar/base/threads.h"
#include "mpi_notice.h"

typedef struct {
    MPI_Comm comm;
    int n, capacity;
    MPI_Request *requests; /* all [capacity]; live ones are [0, n) */
    par__flow **flows;
    int64_t *pieces;
    int *ended;
    MPI_Status *statuses;
    par__notices *notices;
} mpi_state;

static par_status failed(par_transport *t, const char *call, int code, const par__flow *flow) {
    char reason[MPI_MAX_ERROR_STRING] = "", text[512];
    int length = 0;
    MPI_Error_string(code, reason, &length);
    if (flow)
        snprintf(text, sizeof text, "rank %d: %s %s rank %d (tag %d): %.300s", t->rank, call,
                 flow->sending ? "to" : "from", flow->peer, flow->tag, reason);
    else
        snprintf(text, sizeof text, "rank %d: %s: %.400s", t->rank, call, reason);
    return par__transport_break(t, text);
}

static par_status post(par_transport *t, par__flow *flow, int64_t piece) {
    mpi_state *m = t->carrier_state;
    int64_t nbytes;
    char *data = par__flow_piece(flow, piece, &nbytes);
    MPI_Request *request = &m->requests[m->n];
    if (m->n == m->capacity)
        return par_error_set(PAR_ERR_INTERNAL, "more than %d requests are live", m->capacity);
    int code =
        flow->sending
            ? MPI_Isend(data, (int)nbytes, MPI_BYTE, flow->peer, flow->tag, m->comm, request)
            : MPI_Irecv(data, (int)nbytes, MPI_BYTE, flow->peer, flow->tag, m->comm, request);
    if (code != MPI_SUCCESS)
        return failed(t, flow->sending ? "MPI_Isend" : "MPI_Irecv", code, flow);
    m->flows[m->n] = flow;
    m->pieces[m->n++] = piece;
    return PAR_OK;
}

static par_status check_length(par_transport *t, const MPI_Status *status, const par__flow *flow,
                               int64_t piece) {
    char text[256];
    int count = 0;
    int64_t nbytes;
    if (flow->sending) return PAR_OK;
    par__flow_piece(flow, piece, &nbytes);
    MPI_Get_count(status, MPI_BYTE, &count);
    if (count == nbytes) return PAR_OK;
    snprintf(text, sizeof text,
             "rank %d received a message of %d bytes from rank %d (tag %d) where %lld were due: "
             "the two started "
             "different operations",
             t->rank, count, flow->peer, flow->tag, (long long)nbytes);
    return par__transport_break(t, text);
}

static par_status poll(par_transport *t, int *n_ended) {
    mpi_state *m = t->carrier_state;
    int n = 0, live = 0;
    *n_ended = 0;
    if (m->n == 0) return PAR_OK;
    int code = MPI_Testsome(m->n, m->requests, &n, m->ended, m->statuses);
    if (n == MPI_UNDEFINED) n = 0;
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS)
        return failed(t, "MPI_Testsome", code, NULL);
    if (n == 0) return PAR_OK;
    for (int i = 0; i < n; i++) {
        par__flow *flow = m->flows[m->ended[i]];
        int64_t piece = m->pieces[m->ended[i]];
        if (code == MPI_ERR_IN_STATUS && m->statuses[i].MPI_ERROR != MPI_SUCCESS)
            return failed(t, flow->sending ? "a send" : "a receive", m->statuses[i].MPI_ERROR,
                          flow);
        PAR_TRY(check_length(t, &m->statuses[i], flow, piece));
        par__flow_ended(t->recorder, flow, piece);
    }
    for (int i = 0; i < m->n; i++) {
        if (m->requests[i] == MPI_REQUEST_NULL) continue;
        m->requests[live] = m->requests[i];
        m->flows[live] = m->flows[i];
        m->pieces[live++] = m->pieces[i];
    }
    m->n = live;
    *n_ended = n;
    return PAR_OK;
}

static bool grow(void *array, size_t n, size_t size) {
    void *old, *now;
    memcpy(&old, array, sizeof old);
    now = realloc(old, n * size);
    if (now) memcpy(array, &now, sizeof now);
    return now != NULL;
}

static par_status reserve(par_transport *t, int n_pieces) {
    mpi_state *m = t->carrier_state;
    size_t n = (size_t)m->capacity + (size_t)n_pieces;
    if (!grow(&m->requests, n, sizeof *m->requests) || !grow(&m->flows, n, sizeof *m->flows) ||
        !grow(&m->pieces, n, sizeof *m->pieces) || !grow(&m->ended, n, sizeof *m->ended) ||
        !grow(&m->statuses, n, sizeof *m->statuses))
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu requests", n);
    m->capacity = (int)n;
    return PAR_OK;
}

static par_status hear(par_transport *t) {
    mpi_state *m = t->carrier_state;
    char text[PAR__NOTICE_NBYTES];
    return par__notices_heard(m->notices, text) ? par__transport_break(t, text) : PAR_OK;
}

/* Buffers are the callers' again: receives are cancelled before the exchange, in which what has
 * begun to arrive may end. */
static void spread(par_transport *t) {
    mpi_state *m = t->carrier_state;
    int n = 0;
    for (int i = 0; i < m->n; i++)
        if (!m->flows[i]->sending) MPI_Cancel(&m->requests[i]);
    par__notices_exchange(m->notices, t->broken_text);
    MPI_Testsome(m->n, m->requests, &n, m->ended, m->statuses);
    for (int i = 0; i < m->n; i++)
        if (m->requests[i] != MPI_REQUEST_NULL) MPI_Request_free(&m->requests[i]);
    m->n = 0;
}

/* The communicators of a broken transport are left to MPI_Finalize: a peer may be gone. */
static void destroy(par_transport *t) {
    mpi_state *m = t->carrier_state;
    int finalized = 0;
    MPI_Finalized(&finalized);
    par__notices_close(&m->notices);
    if (m->comm != MPI_COMM_NULL && !finalized && !t->broken) MPI_Comm_free(&m->comm);
    free(m->requests);
    free(m->flows);
    free(m->pieces);
    free(m->ended);
    free(m->statuses);
    free(m);
}

/* Cores of this node. Not this rank's affinity: ranks that are bound to a core each have all of
 * them together. */
static int cores(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* This rank's part of the cores: of each that it may use, one part for every rank that may use it
 * too; and of the CPU quota. */
static par_status share_cores(par_transport *t, MPI_Comm node) {
    int32_t own[PAR__MAX_CORES], users[PAR__MAX_CORES];
    double part = 1e-6; /* three thirds add up to a little less than 1 */
    par__core_list(own);
    int code = MPI_Allreduce(own, users, PAR__MAX_CORES, MPI_INT32_T, MPI_SUM, node);
    if (code != MPI_SUCCESS) return failed(t, "MPI_Allreduce", code, NULL);
    for (int i = 0; i < PAR__MAX_CORES; i++) part += own[i] ? 1.0 / users[i] : 0;
    int quota = par__cgroup_cores(PAR__CGROUPS);
    if (quota > 0 && (double)quota / t->local_size < part) part = (double)quota / t->local_size;
    par__threads_share(part < 1 ? 1 : (int)part);
    return PAR_OK;
}

static par_status look_at_node(par_transport *t) {
    const mpi_state *m = t->carrier_state;
    MPI_Comm node;
    int code = MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, t->rank, MPI_INFO_NULL, &node);
    if (code != MPI_SUCCESS) return failed(t, "MPI_Comm_split_type", code, NULL);
    MPI_Comm_size(node, &t->local_size);
    MPI_Comm_rank(node, &t->local_rank);
    par_status st = share_cores(t, node);
    MPI_Comm_free(&node);
    PAR_TRY(st);
    if (t->local_size > cores()) t->params.oversubscribed = true;
    /* Measured on 2 cores, small all-reduce: 8 ranks 0.07 ms after 64 yields, 0.45 ms after one; 64
     * ranks 20 and 8 ms, as yields of so many ranks only pass the core to another idle one. */
    if (t->local_size > 8 * cores()) t->max_yields = 1;
    return PAR_OK;
}

static par_status require_mpi(void) {
    int on = 0, off = 0, level = 0;
    MPI_Initialized(&on);
    if (!on)
        PAR_FAIL(PAR_ERR_ARG,
                 "MPI is not initialised: call MPI_Init_thread with MPI_THREAD_FUNNELED first");
    MPI_Finalized(&off);
    if (off) PAR_FAIL(PAR_ERR_ARG, "MPI is finalised already");
    MPI_Query_thread(&level);
    if (level < MPI_THREAD_FUNNELED)
        PAR_FAIL(PAR_ERR_ARG,
                 "MPI was initialised for threads at level %d; at least MPI_THREAD_FUNNELED (%d) "
                 "is needed",
                 level, MPI_THREAD_FUNNELED);
    return PAR_OK;
}

static par_status add_carrier(par_transport *t, MPI_Comm comm) {
    static const par__carrier carrier = {reserve, post, poll, hear, spread, destroy};
    mpi_state *m = calloc(1, sizeof *m);
    if (!m) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for MPI's requests");
    m->comm = comm;
    t->carrier = &carrier;
    t->carrier_state = m;
    return reserve(t, PAR__MAX_TASKS * PAR__FLOW_DEPTH);
}

/* What par_comm_agree does, before there is a comm: all ranks have a transport, or none. */
static par_status agree(MPI_Comm comm, int rank, par_status local) {
    struct {
        int status, rank;
    } mine = {(int)local, rank}, worst = mine;
    char text[PAR_ERROR_NBYTES] = "";
    if (local != PAR_OK) strncpy(text, par_error(), sizeof text - 1);
    int code = MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, comm);
    if (code == MPI_SUCCESS && worst.status != PAR_OK)
        code = MPI_Bcast(text, sizeof text, MPI_CHAR, worst.rank, comm);
    if (code != MPI_SUCCESS)
        PAR_FAIL(PAR_ERR_TRANSPORT, "rank %d: the agreement on a new transport failed", rank);
    if (worst.status == PAR_OK) return PAR_OK;
    return par_error_set((par_status)worst.status, "rank %d: %s", worst.rank, text);
}

par_status par_transport_create_mpi(MPI_Comm comm, const par_transport_params *params,
                                    par_transport **out) {
    par_transport *t = NULL;
    MPI_Comm own = MPI_COMM_NULL;
    int size, rank;
    PAR_REQUIRE(out && comm != MPI_COMM_NULL);
    PAR_TRY(require_mpi());
    MPI_Comm_size(comm, &size);
    MPI_Comm_rank(comm, &rank);
    if (MPI_Comm_dup(comm, &own) != MPI_SUCCESS)
        PAR_FAIL(PAR_ERR_TRANSPORT, "rank %d: MPI_Comm_dup failed", rank);
    MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN);
    par_status st = par__transport_create(params, size, rank, &t);
    if (st == PAR_OK) st = add_carrier(t, own);
    st = agree(own, rank, st);
    if (st == PAR_OK) {
        mpi_state *m = t->carrier_state;
        st = agree(own, rank, par__notices_open(own, &m->notices));
    }
    if (st == PAR_OK) st = look_at_node(t);
    if (st == PAR_OK) {
        *out = t;
        return PAR_OK;
    }
    if (!t || !t->carrier) MPI_Comm_free(&own);
    par_transport_destroy(&t);
    return st;
}
