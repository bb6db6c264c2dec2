/* Transports: their life, the one-rank world and the one that only measures. A carrier is added by
 * whoever has one (mpi.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/link.h"
#include "internal.h"
#include "libpar/base/record.h"

par_status par__transport_create(const par_transport_params *params, int size, int rank,
                                 par_transport **out) {
    if (params && (params->piece_nbytes < 0 || params->piece_nbytes > INT32_MAX))
        PAR_FAIL(PAR_ERR_ARG, "piece_nbytes is %lld; it must be 0 (1 MiB) to %d",
                 (long long)params->piece_nbytes, INT32_MAX);
    par_transport *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a transport");
    if (params) t->params = *params;
    if (t->params.piece_nbytes == 0) t->params.piece_nbytes = 1 << 20;
    t->size = size;
    t->rank = rank;
    t->local_size = 1;
    t->max_yields = 64;
    t->pool = calloc(PAR__MAX_TASKS, sizeof *t->pool);
    if (!t->pool || par__recorder_create(size, &t->recorder) != PAR_OK) {
        par_transport_destroy(&t);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a transport of %d ranks", size);
    }
    for (int i = 0; i < PAR__MAX_TASKS; i++) {
        t->pool[i].next = t->free_tasks;
        t->free_tasks = &t->pool[i];
    }
    *out = t;
    return PAR_OK;
}

par_status par_transport_create_self(const par_transport_params *params, par_transport **out) {
    PAR_REQUIRE(out);
    return par__transport_create(params, 1, 0, out);
}

par_status par_transport_create_measuring(const par_transport_params *params, int size, int rank,
                                          par_transport **out) {
    PAR_REQUIRE(out && size >= 1 && rank >= 0 && rank < size);
    PAR_TRY(par__transport_create(params, size, rank, out));
    (*out)->measuring = true;
    return PAR_OK;
}

void par_transport_destroy(par_transport **handle) {
    par_transport *t = handle ? *handle : NULL;
    if (!t) return;
    if (t->carrier) t->carrier->destroy(t);
    par__recorder_destroy(&t->recorder);
    free(t->pool);
    free(t);
    *handle = NULL;
}

void par__transport_on_break(par_transport *t, par__on_break *what) {
    what->next = t->on_break;
    t->on_break = what;
}

void par__transport_off_break(par_transport *t, const par__on_break *what) {
    for (par__on_break **b = &t->on_break; *b; b = &(*b)->next)
        if (*b == what) {
            *b = what->next;
            return;
        }
}

par_status par__transport_intact(const par_transport *t) {
    return t->broken ? par_error_set(PAR_ERR_TRANSPORT, "%s", t->broken_text) : PAR_OK;
}

/* Peers first: they may wait for this rank. Then what this device waits for. */
par_status par__transport_break(par_transport *t, const char *text) {
    if (t->broken) return par__transport_intact(t);
    snprintf(t->broken_text, sizeof t->broken_text, "%s", text);
    t->broken = true;
    if (t->carrier) t->carrier->spread(t);
    for (par__on_break *b = t->on_break; b; b = b->next) b->run(b->user);
    for (par_comm *comm = t->comms; comm; comm = comm->next)
        if (comm->link_state && comm->link->abort) comm->link->abort(comm->link_state);
    return par__transport_intact(t);
}

par_status par_transport_abort(par_transport *t, par_status status, const char *why) {
    char own[PAR_ERROR_NBYTES], text[sizeof t->broken_text];
    PAR_REQUIRE(t && why && status != PAR_OK);
    snprintf(own, sizeof own, "%s", why); /* may be par_error(), which the break replaces */
    snprintf(text, sizeof text, "rank %d: %.480s", t->rank, own);
    (void)par__transport_break(t, text);
    return par_error_set(status, "%s", own);
}

const char *par_transport_broken(const par_transport *t) {
    return t->broken ? t->broken_text : NULL;
}

int par_transport_size(const par_transport *t) {
    return t->size;
}

int par_transport_rank(const par_transport *t) {
    return t->rank;
}

int par_transport_local_size(const par_transport *t) {
    return t->local_size;
}

int par_transport_local_rank(const par_transport *t) {
    return t->local_rank;
}

par_recorder *par_transport_recorder(par_transport *t) {
    return t->recorder;
}
