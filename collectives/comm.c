/*
 * Communicators: groups of world ranks, made without a message. Only groups that can exchange
 * something hold staging and a tag; those of one rank end every operation at once.
 */
#include <stdlib.h>
#include <string.h>

#include "collectives/internal.h"
#include "collectives/link.h"
#include "collectives/nccl/nccl.h"
#include "libpar/base/record.h"

/* Staging of one comm stays below this, so that 64 ranks of a node fit: the rooms of large groups
 * are smaller. */
enum { MAX_STAGING = 16 << 20, ALIGNMENT = 64, MAX_TAG_AXIS = 8191 };

/* 0..8190 from the axis's name: with a kind of message per slot and one of pairs a tag stays below
 * 2^15, which MPI grants. */
static int axis_id(const char *axis) {
    uint32_t h = 2166136261u;
    for (const char *c = axis; *c; c++) h = (h ^ (uint8_t)*c) * 16777619u;
    return (int)((h ^ h >> 16) % MAX_TAG_AXIS);
}

/* The comm's list of world ranks, which is the parameters' or the whole world. */
static par_status list_ranks(par_comm *comm, const int *given) {
    const par_transport *t = comm->transport;
    for (int i = 0; i < comm->n; i++) {
        int rank = given ? given[i] : i;
        if (rank < 0 || rank >= t->size)
            PAR_FAIL(PAR_ERR_ARG, "axis %s: rank %d does not exist; legal ranks are 0 to %d",
                     comm->axis, rank, t->size - 1);
        for (int j = 0; given && j < i; j++)
            if (comm->ranks[j] == rank)
                PAR_FAIL(PAR_ERR_ARG, "axis %s: rank %d is there twice", comm->axis, rank);
        if (rank == t->rank) comm->rank = i;
        comm->ranks[i] = rank;
    }
    if (comm->rank < 0)
        PAR_FAIL(PAR_ERR_ARG, "axis %s: the group does not hold this rank, %d", comm->axis,
                 t->rank);
    return PAR_OK;
}

static bool is_member(const par_comm *comm, int world_rank) {
    for (int i = 0; i < comm->n; i++)
        if (comm->ranks[i] == world_rank) return true;
    return false;
}

/* Messages of two comms that share another rank must have different tags. */
static par_status check_tag(const par_transport *t, const par_comm *comm) {
    for (const par_comm *c = t->comms; c; c = c->next)
        for (int i = 0; c->tag == comm->tag && i < comm->n; i++)
            if (comm->ranks[i] != t->rank && is_member(c, comm->ranks[i]))
                PAR_FAIL(PAR_ERR_ARG,
                         "axis %s: ranks %d and %d share a comm of axis %s already; %s", comm->axis,
                         t->rank, comm->ranks[i], c->axis,
                         strcmp(c->axis, comm->axis) ? "the two names collide, choose another"
                                                     : "groups of one axis must be disjoint");
    return PAR_OK;
}

static int64_t round_up(int64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Equal on all ranks of the group, as messages of reductions are as long as a window. */
static void choose_room(par_comm *comm, int64_t max_nbytes) {
    int64_t window = par__piece_nbytes(comm->transport), p = comm->n;
    int64_t fair = MAX_STAGING / (2 * (p - 1)), shard = max_nbytes / p + ALIGNMENT;
    if (window > fair) window = fair / ALIGNMENT * ALIGNMENT;
    if (max_nbytes > 0 && window > round_up(shard)) window = round_up(shard);
    comm->window = window > 0 ? window : 1;
    comm->room = round_up(comm->window);
    int64_t windows = shard / comm->window + 1;
    int most = comm->depth / comm->n_slots;
    comm->n_rooms = max_nbytes > 0 && windows < most ? (int)windows : most;
    if (comm->n_rooms < 2) comm->n_rooms = 2;
}

static par_status take_staging(par_comm *comm, par_memory *memory) {
    int64_t rooms = comm->n_rooms * (comm->n - 1) * comm->room,
            small = (int64_t)comm->n * PAR__SMALL;
    void *staging;
    comm->slot_nbytes = rooms > small ? rooms : small;
    int64_t nbytes = comm->n_slots * comm->slot_nbytes;
    if (memory) {
        PAR_TRY(par_memory_take(memory, PAR_MEM_COMM, comm->axis, (size_t)nbytes, &staging));
        comm->measuring = comm->measuring || par_memory_measuring(memory);
    } else {
        staging = comm->owned_staging = malloc((size_t)nbytes);
        if (!staging)
            PAR_FAIL(PAR_ERR_MEMORY, "axis %s: %lld bytes for staging could not be allocated",
                     comm->axis, (long long)nbytes);
    }
    comm->staging = staging;
    return PAR_OK;
}

static par_status allocate(par_comm *comm) {
    size_t n = (size_t)comm->n;
    comm->ranks = calloc(n, sizeof *comm->ranks);
    comm->flows = calloc(PAR__SLOTS * 4 * n, sizeof *comm->flows);
    comm->sources = calloc(n, sizeof *comm->sources);
    comm->channels = calloc(2 * n, sizeof(par__task *));
    comm->n_pairs = calloc(2 * n, sizeof *comm->n_pairs);
    comm->descriptions = calloc(n, sizeof *comm->descriptions);
    comm->words = calloc(2 * n, sizeof *comm->words);
    if (!comm->ranks || !comm->flows || !comm->sources || !comm->channels || !comm->n_pairs ||
        !comm->descriptions || !comm->words)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a comm of %d ranks", comm->n);
    return PAR_OK;
}

static par_status connect(par_comm *comm, const par_comm_params *params, par_memory *memory) {
    par_transport *t = comm->transport;
    comm->measuring = t->measuring;
    comm->tag = (PAR__SLOTS + 1) * axis_id(comm->axis);
    comm->depth = comm->n > 1 ? PAR__FLOW_DEPTH / (comm->n - 1) : 1;
    if (comm->depth < 2) comm->depth = 2;
    comm->n_slots = comm->depth / 2; /* each has 2 rooms at least */
    if (comm->n_slots > PAR__SLOTS) comm->n_slots = PAR__SLOTS;
    if (comm->n > 1) {
        choose_room(comm, params->max_nbytes);
        PAR_TRY(take_staging(comm, memory));
    }
    if (comm->measuring) return PAR_OK;
    PAR_TRY(check_tag(t, comm));
    if (t->carrier) PAR_TRY(t->carrier->reserve(t, comm->n_slots * 4 * comm->n * comm->depth));
    comm->last_index = par__recorder_last_take(t->recorder);
    if (comm->last_index < 0)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the last operation of axis %s", comm->axis);
    par__recorder_last_at(t->recorder, comm->last_index)->axis = comm->axis;
    par__flight_axis *axis = par__recorder_axis(t->recorder, comm->last_index);
    if (axis) {
        *axis = (par__flight_axis){.n = comm->n, .first = comm->ranks[0]};
        par__flight_text(axis->axis, sizeof axis->axis, comm->axis);
    }
    comm->next = t->comms;
    t->comms = comm;
    return PAR_OK;
}

static bool is_staged(const par_backend *device, par_link wanted) {
    const par__nccl *nccl = device->nccl;
    if (wanted == PAR_LINK_DEFAULT) return !nccl || nccl->shared;
    return !nccl || wanted != PAR_LINK_NCCL;
}

static par_status choose_link(par_comm *comm, const par_comm_params *params) {
    const par__nccl *nccl = params->device->nccl;
    par_link wanted = params->link ? params->link : comm->transport->params.link;
    if (nccl && nccl->contract != par__nccl_contract())
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "axis %s: the module of device %s was built from other sources than libpar, whose "
                 "structs differ: build and install both together",
                 comm->axis, params->device->name);
    if (wanted == PAR_LINK_NCCL && !nccl)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "axis %s: device %s has no NCCL; its data can go staged",
                 comm->axis, params->device->name);
    comm->link = is_staged(params->device, wanted) ? &par__staged_link : &par__streamed_link;
    return PAR_OK;
}

static void release(par_comm *comm) {
    par_transport *t = comm->transport;
    for (par_comm **c = &t->comms; *c; c = &(*c)->next)
        if (*c == comm) {
            *c = comm->next;
            break;
        }
    par__recorder_last_release(t->recorder, comm->last_index);
    if (comm->link_state) comm->link->destroy(comm->link_state);
    free(comm->ranks);
    free(comm->flows);
    free(comm->sources);
    free(comm->channels);
    free(comm->n_pairs);
    free(comm->descriptions);
    free(comm->words);
    free(comm->owned_staging);
    free(comm);
}

par_status par_comm_create(par_transport *t, const par_comm_params *params, par_memory *memory,
                           par_comm **out) {
    PAR_REQUIRE(t && params && out);
    PAR_REQUIRE(params->axis && params->max_nbytes >= 0);
    PAR_REQUIRE(params->ranks == NULL || params->n >= 1);
    PAR_TRY(par__transport_intact(t));
    par_comm *comm = calloc(1, sizeof *comm);
    if (!comm) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a comm");
    comm->transport = t;
    comm->axis = params->axis;
    comm->n = params->ranks ? params->n : t->size;
    comm->rank = -1;
    comm->last_index = -1;
    par_status st = allocate(comm);
    if (st == PAR_OK) st = list_ranks(comm, params->ranks);
    if (st == PAR_OK) st = connect(comm, params, memory);
    /* device data of several ranks needs a link; one rank alone copies */
    if (st == PAR_OK && params->device && !params->device->on_host) comm->device = params->device;
    if (comm->device && comm->n > 1) st = choose_link(comm, params);
    if (st == PAR_OK && comm->link)
        st = comm->link->create(comm, params, memory, &comm->link_state);
    if (st != PAR_OK) {
        release(comm);
        return st;
    }
    *out = comm;
    return PAR_OK;
}

void par_comm_destroy(par_comm **handle) {
    par_comm *comm = handle ? *handle : NULL;
    if (!comm) return;
    release(comm);
    *handle = NULL;
}

int par_comm_size(const par_comm *comm) {
    return comm->n;
}

int par_comm_rank(const par_comm *comm) {
    return comm->rank;
}

const char *par_comm_axis(const par_comm *comm) {
    return comm->axis;
}

const char *par_comm_link(const par_comm *comm) {
    return comm->link ? comm->link->name : "host";
}

static void tell_method(const par_backend *device, bool staged, par_method *out) {
    const par__nccl *nccl = device->nccl;
    const char *why_staged = !nccl ? "the device has no NCCL that answers: install it"
                             : nccl->shared
                                 ? "ranks may share GPUs: give each rank a GPU of its own"
                                 : "the staged link was asked for: leave the choice to libpar";
    *out = (par_method){"link", staged ? "pinned host memory and the host's messages" : nccl->name,
                        staged ? why_staged : NULL};
}

bool par_comm_method(const par_comm *comm, par_method *out) {
    if (!comm->link) return false;
    tell_method(comm->device, comm->link == &par__staged_link, out);
    return true;
}

bool par_link_method(const par_backend *device, par_link link, par_method *out) {
    if (device->on_host) return false;
    tell_method(device, is_staged(device, link), out);
    return true;
}

int par_comm_world_rank(const par_comm *comm, int rank) {
    return rank >= 0 && rank < comm->n ? comm->ranks[rank] : -1;
}
