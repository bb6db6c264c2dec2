/*
 * Hashes of all copies of parameters, compared on rank 0. A copy's key is its name and rectangle:
 * copies with one key hold the same elements, wherever on the mesh they lie. Keys never change, so
 * they are sorted once; a check sends hashes alone.
 */
#include "par/replicas.h"

#include <stdlib.h>
#include <string.h>

#include "trainer.h"

static const par_tag tag = {"replicas", -1, -1, -1};

/* A parameter of a rank. */
typedef struct {
    uint64_t key;
    int rank, index; /* in that rank's registry */
} copy;

struct par_replicas {
    par_trainer *trainer;
    par_comm *world;
    int size, rank, n; /* parameters of this rank */
    uint64_t *hashes;  /* [n] of this rank */
    int64_t *counts;   /* [size] parameters of each rank */
    int64_t *first;    /* [size] where a rank's begin in `all` */
    uint64_t *all;     /* rank 0: hashes of all ranks */
    copy *copies;      /* rank 0: of all ranks, by key, then rank */
    int *index_of;     /* rank 0: [size] the first parameter of a rank that differs; -1 */
    int64_t n_copies;
};

/* Every step is a bijection of what was hashed so far, given the word: two inputs that differ in
 * one word never have the same hash. */
static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t mix_bytes(uint64_t hash, const void *data, size_t n) {
    const char *p = data;
    uint64_t word;
    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        hash = mix(hash, word);
    }
    word = n;
    memcpy(&word, p, n); /* n < 8: the bytes over it stay as they are, the same for all copies */
    return mix(hash, word);
}

/* Elements on the device, piece by piece. */
static par_status hash_array(const par_trainer *t, const void *device, int64_t n, size_t size,
                             uint64_t *hash) {
    int64_t piece = par__host_piece(&t->host, n, size);
    for (int64_t done = 0; device && done < n; done += piece) {
        int64_t k = n - done < piece ? n - done : piece;
        const void *values = NULL;
        PAR_TRY(par__host_view(&t->host, (const char *)device + (size_t)done * size,
                               (size_t)k * size, &values));
        *hash = mix_bytes(*hash, values, (size_t)k * size);
    }
    return PAR_OK;
}

static par_status hash_all(par_replicas *r) {
    const par_trainer *t = r->trainer;
    const par__flat *f = &t->flat;
    size_t size = par_dtype_nbytes(f->dtype);
    for (par__segment s = par__segments(f, PAR__WHOLE); par__segment_next(&s);) {
        uint64_t *hash = &r->hashes[s.i];
        *hash = 0;
        PAR_TRY(hash_array(t, s.weight, s.n, size, hash));
        if (f->sharded) continue;
        if (f->dtype != PAR_F32) PAR_TRY(hash_array(t, s.master, s.n, sizeof(float), hash));
        PAR_TRY(hash_array(t, s.m, s.n, sizeof(float), hash));
        PAR_TRY(hash_array(t, s.v, s.n, sizeof(float), hash));
    }
    return PAR_OK;
}

/* This rank's numbers behind those of lower ranks, on rank 0. */
static par_status gather(par_replicas *r, const uint64_t *own, uint64_t *all) {
    if (r->rank != 0) return par_comm_send(r->world, own, r->n * 8, PAR_U8, 0, tag, NULL, NULL);
    memcpy(all, own, (size_t)r->n * sizeof *own);
    for (int k = 1; k < r->size; k++)
        PAR_TRY(par_comm_recv(r->world, all + r->first[k], r->counts[k] * 8, PAR_U8, k, tag, NULL,
                              NULL));
    return PAR_OK;
}

static int by_key(const void *a, const void *b) {
    const copy *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static par_status sort_copies(par_replicas *r) {
    const par_registry *registry = r->trainer->flat.registry;
    for (int i = 0; i < r->n; i++) {
        const par_param *p = registry->params[i];
        uint64_t key = mix_bytes(0, p->name, strlen(p->name));
        key = mix_bytes(key, p->offset, sizeof p->offset);
        key = mix_bytes(key, p->extent, sizeof p->extent);
        r->hashes[i] = mix_bytes(key, p->local, sizeof p->local);
    }
    PAR_TRY(gather(r, r->hashes, r->all));
    if (r->rank != 0) return PAR_OK;
    for (int k = 0; k < r->size; k++)
        for (int i = 0; i < r->counts[k]; i++)
            r->copies[r->first[k] + i] = (copy){r->all[r->first[k] + i], k, i};
    qsort(r->copies, (size_t)r->n_copies, sizeof *r->copies, by_key);
    return PAR_OK;
}

static par_status allocate_all(par_replicas *r) {
    for (int k = 0; k < r->size; k++) {
        r->first[k] = r->n_copies;
        r->n_copies += r->counts[k];
    }
    if (r->rank != 0) return PAR_OK;
    size_t n = (size_t)r->n_copies + 1;
    r->all = calloc(n, sizeof *r->all);
    r->copies = calloc(n, sizeof *r->copies);
    r->index_of = calloc((size_t)r->size, sizeof *r->index_of);
    if (!r->all || !r->copies || !r->index_of)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu copies of parameters", n - 1);
    return PAR_OK;
}

par_status par_replicas_create(par_trainer *trainer, par_replicas **out) {
    PAR_REQUIRE(trainer && out);
    PAR_TRY(par__no_step_begun(&trainer->vote));
    par_comm *world = trainer->on.mesh->world;
    par_replicas *r = calloc(1, sizeof *r);
    par_status st =
        r ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory to compare replicas");
    PAR_TRY_GOTO(par_comm_agree(world, st), out_replicas);
    r->trainer = trainer;
    r->world = world;
    r->size = par_comm_size(world);
    r->rank = par_comm_rank(world);
    r->n = par_trainer_n_params(trainer);
    r->hashes = calloc((size_t)r->n + 1, sizeof *r->hashes);
    r->counts = calloc((size_t)r->size, sizeof *r->counts);
    r->first = calloc((size_t)r->size, sizeof *r->first);
    if (!r->hashes || !r->counts || !r->first)
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for hashes of %d parameters", r->n);
    PAR_TRY_GOTO(par_comm_agree(world, st), out_replicas);
    int64_t n = r->n;
    PAR_TRY_GOTO(par_comm_all_gather(world, &n, r->counts, 1, PAR_I64, tag, NULL, NULL),
                 out_replicas);
    PAR_TRY_GOTO(par_comm_agree(world, allocate_all(r)), out_replicas);
    PAR_TRY_GOTO(sort_copies(r), out_replicas);
    *out = r;
    return PAR_OK;
out_replicas:
    par_replicas_destroy(&r);
    return st;
}

void par_replicas_destroy(par_replicas **handle) {
    par_replicas *r = handle ? *handle : NULL;
    if (!r) return;
    free(r->hashes);
    free(r->counts);
    free(r->first);
    free(r->all);
    free(r->copies);
    free(r->index_of);
    free(r);
    *handle = NULL;
}

static uint64_t hash_of(const par_replicas *r, int64_t i) {
    return r->all[r->first[r->copies[i].rank] + r->copies[i].index];
}

/* The value that more than half of the copies [begin, end) have (Boyer and Moore 1991). */
static bool find_majority(const par_replicas *r, int64_t begin, int64_t end, uint64_t *value) {
    int64_t lead = 0, n = 0;
    for (int64_t i = begin; i < end; i++) {
        if (lead == 0) *value = hash_of(r, i);
        lead += hash_of(r, i) == *value ? 1 : -1;
    }
    for (int64_t i = begin; i < end; i++) n += hash_of(r, i) == *value;
    return 2 * n > end - begin;
}

/* Copies of one parameter. Returns whether most of them agree. */
static bool compare_group(par_replicas *r, int64_t begin, int64_t end, par_replicas_result *out) {
    uint64_t value = 0;
    bool majority = find_majority(r, begin, end, &value);
    out->n_copies += end - begin;
    for (int64_t i = begin; i < end; i++) {
        const copy *c = &r->copies[i];
        if (majority && hash_of(r, i) == value) continue;
        out->n_differ++;
        int *first = &r->index_of[c->rank];
        if (*first < 0 || c->index < *first) *first = c->index;
    }
    return majority;
}

/* A rank that some majority is against comes before those of which nothing can be told. */
static void compare(par_replicas *r, par_replicas_result *out) {
    memset(out, 0, sizeof *out);
    out->majority = true;
    for (int k = 0; k < r->size; k++) r->index_of[k] = -1;
    for (int64_t i = 0, end; i < r->n_copies; i = end) {
        for (end = i + 1; end < r->n_copies && r->copies[end].key == r->copies[i].key;) end++;
        if (end - i > 1 && !compare_group(r, i, end, out)) out->majority = false;
    }
    for (int k = 0; k < r->size; k++) {
        if (r->index_of[k] < 0) continue;
        if (out->n_ranks < PAR_REPLICAS_RANKS) out->ranks[out->n_ranks] = k;
        out->n_ranks++;
    }
}

/* Rank 0's result to all; ranks[0] knows its parameter's name. */
static par_status share(par_replicas *r, par_replicas_result *out) {
    struct {
        par_replicas_result result;
        int index;
    } found = {.result = *out};
    if (r->rank == 0 && out->n_ranks) found.index = r->index_of[out->ranks[0]];
    PAR_TRY(par_comm_broadcast(r->world, &found, sizeof found, PAR_U8, 0, tag, NULL, NULL));
    *out = found.result;
    if (out->n_ranks == 0) return PAR_OK;
    if (r->rank == out->ranks[0])
        memcpy(out->param, r->trainer->flat.registry->params[found.index]->name, sizeof out->param);
    return par_comm_broadcast(r->world, out->param, sizeof out->param, PAR_U8, out->ranks[0], tag,
                              NULL, NULL);
}

par_status par_replicas_check(par_replicas *r, par_replicas_result *out) {
    PAR_REQUIRE(r && out);
    PAR_TRY(par_trainer_settle(r->trainer));
    PAR_TRY(par__fatal(&r->trainer->on, hash_all(r)));
    PAR_TRY(gather(r, r->hashes, r->all));
    if (r->rank == 0) compare(r, out);
    return share(r, out);
}
