/*
 * Many operations under way, errors and counts: works waited for in odd orders on several comms,
 * operations that wait for one another, FIFO sends, the check of what ranks start, agreement,
 * worlds inside worlds, what the recorder counted against closed forms, one message of more than
 * 2^31 bytes, and no allocation by libpar in steady state.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "par/mesh.h"
#include "world.h"

static const par_tag tag = {"test", -1, -1, -1};

static par_mesh *open_mesh(par_transport *t, int tp, int dp, int pp) {
    par_mesh *mesh = NULL;
    par_layout layout = {.size = {tp, 1, dp, pp}};
    CHECK_OK(par_mesh_create(t, &layout, NULL, NULL, &mesh));
    return mesh;
}

/* On every comm several vectors at once, waited for from the last to the first and then the other
 * way round. */
static void several_at_once(par_transport *t) {
    enum { VECTORS = 6, N = 3000 };
    par_mesh *mesh = open_mesh(t, 2, 2, 2);
    if (!mesh) return;
    par_comm *comms[] = {mesh->world, mesh->axis[PAR_TP], mesh->axis[PAR_DP], mesh->axis[PAR_PP]};
    static int32_t x[4][VECTORS][N], y[4][VECTORS][N];
    par_work works[4 * VECTORS];
    for (int round = 0; round < 2; round++) {
        for (int v = 0; v < VECTORS; v++)
            for (int c = 0; c < 4; c++) {
                for (int i = 0; i < N; i++) x[c][v][i] = (mesh->rank + 1) * (v + 1) + i;
                CHECK_OK(par_comm_all_reduce(comms[c], x[c][v], y[c][v], N, PAR_I32, tag, NULL,
                                             &works[c * VECTORS + v]));
            }
        for (int k = 0; k < 4 * VECTORS; k++) {
            int i = round ? k * 7 % (4 * VECTORS) : 4 * VECTORS - 1 - k;
            CHECK_OK(par_work_wait(works[i], NULL));
        }
        for (int c = 0; c < 4; c++) {
            int p = par_comm_size(comms[c]), sum = 0;
            for (int j = 0; j < p; j++) sum += par_comm_world_rank(comms[c], j) + 1;
            for (int v = 0; v < VECTORS; v++)
                for (int i = 0; i < N; i++)
                    CHECK(y[c][v][i] == sum * (v + 1) + p * i, "%s vector %d [%d]: %d, not %d",
                          par_comm_axis(comms[c]), v, i, y[c][v][i], sum * (v + 1) + p * i);
        }
    }
    par_mesh_destroy(&mesh);
}

/* Operations on the same vectors, one behind the other, none waited for: each reads what the one
 * before it writes; the last two write what one before them reads, and the very last, which is
 * short, a part of it again. Vectors of some bytes, and of many windows. */
static void chained(par_transport *t) {
    enum { VECTORS = 5, MAX = 20000, OPS = 6 };
    static int32_t x[VECTORS][8 * MAX], y[VECTORS][8 * MAX], z[2][MAX];
    static const int64_t lengths[VECTORS] = {1, MAX, 100, 3000, MAX / 2};
    par_work works[VECTORS][OPS];
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 4096, false)) return;
    const struct timespec late = {.tv_nsec = 3000000 * w.r};
    for (int64_t i = 0; i < MAX; i++) z[1][i] = -(z[0][i] = (int32_t)(7 * i + w.r));
    for (int v = 0; v < VECTORS; v++) {
        int64_t n = lengths[v];
        int32_t *own = x[v] + w.r * n;
        par_work *k = works[v];
        for (int64_t i = 0; i < w.p * n; i++) x[v][i] = (int32_t)(i + w.r + v);
        CHECK_OK(par_comm_reduce_scatter(w.comm, x[v], own, n, PAR_I32, tag, NULL, &k[0]));
        CHECK_OK(par_comm_all_gather(w.comm, own, x[v], n, PAR_I32, tag, NULL, &k[1]));
        nanosleep(&late, NULL);
        CHECK_OK(par_comm_all_reduce(w.comm, x[v], y[v], w.p * n, PAR_I32, tag, NULL, &k[2]));
        CHECK_OK(par_comm_all_reduce(w.comm, y[v], y[v], w.p * n, PAR_I32, tag, NULL, &k[3]));
        CHECK_OK(par_comm_all_gather(w.comm, z[0], x[v], n, PAR_I32, tag, NULL, &k[4]));
        CHECK_OK(par_comm_all_gather(w.comm, z[1], x[v], 1, PAR_I32, tag, NULL, &k[5]));
    }
    for (int k = 0; k < VECTORS * OPS; k++) {
        int i = k * 7 % (VECTORS * OPS);
        CHECK_OK(par_work_wait(works[i / OPS][i % OPS], NULL));
    }
    for (int v = 0; v < VECTORS; v++)
        for (int64_t i = 0; i < w.p * lengths[v]; i++) {
            int64_t n = lengths[v], last = i < w.p ? -i : 7 * (i % n) + i / n;
            int32_t sum = (int32_t)(w.p * (i + v) + w.p * (w.p - 1) / 2);
            CHECK(x[v][i] == last && y[v][i] == w.p * w.p * sum,
                  "vector %d [%lld]: %d and %d, not %lld and %d", v, (long long)i, x[v][i], y[v][i],
                  (long long)last, w.p * w.p * sum);
        }
    world_close(&w);
}

/* Sends of changing lengths between all pairs, both ways at once, received in the order they were
 * sent. */
static void fifo(par_transport *t) {
    enum { SENDS = 60, MAX = 64 };
    static int32_t x[4][SENDS][MAX], y[4][SENDS][MAX];
    static par_work works[2][4][SENDS];
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 7, false)) return;
    for (int k = 0; k < SENDS; k++)
        for (int peer = 0; peer < w.p; peer++) {
            int n = (k * 13) % MAX;
            for (int i = 0; i < n; i++) x[peer][k][i] = w.r * 1000000 + k * 1000 + i;
            CHECK_OK(
                par_comm_send(w.comm, x[peer][k], n, PAR_I32, peer, tag, NULL, &works[0][peer][k]));
            CHECK_OK(
                par_comm_recv(w.comm, y[peer][k], n, PAR_I32, peer, tag, NULL, &works[1][peer][k]));
        }
    for (int k = SENDS - 1; k >= 0; k--)
        for (int peer = 0; peer < w.p; peer++)
            for (int side = 0; side < 2; side++)
                CHECK_OK(par_work_wait(works[side][peer][k], NULL));
    for (int k = 0; k < SENDS; k++)
        for (int peer = 0; peer < w.p; peer++)
            for (int i = 0; i < (k * 13) % MAX; i++)
                CHECK(y[peer][k][i] == peer * 1000000 + k * 1000 + i, "send %d from %d [%d] is %d",
                      k, peer, i, y[peer][k][i]);
    world_close(&w);
}

static void self_send(par_transport *t) {
    int32_t x = 5, y[2] = {0, 0};
    par_work work;
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    CHECK_FAILS(par_comm_send(w.comm, &x, 1, PAR_I32, w.r, tag, NULL, NULL), PAR_ERR_ARG,
                "never end");
    CHECK_OK(par_comm_send(w.comm, &x, 1, PAR_I32, w.r, tag, NULL, &work));
    CHECK_FAILS(par_comm_recv(w.comm, y, 2, PAR_I32, w.r, tag, NULL, NULL), PAR_ERR_ARG, "4 bytes");
    CHECK_OK(par_comm_recv(w.comm, y, 1, PAR_I32, w.r, tag, NULL, &work));
    CHECK_OK(par_comm_send(w.comm, &x, 1, PAR_I32, w.r, tag, NULL, NULL));
    CHECK_OK(par_work_wait(work, NULL));
    CHECK(y[0] == 5 && y[1] == 0, "received %d %d", y[0], y[1]);
    world_close(&w);
}

/* A difference is refused everywhere, before any data moved, and the comm goes on. */
static void check_mismatch(par_transport *t) {
    world w = {0};
    float x[8] = {1, 1, 1, 1, 1, 1, 1, 1}, y[32] = {0};
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    CHECK_FAILS(par_comm_all_reduce(w.comm, x, y, w.r == 1 ? 5 : 4, PAR_F32, tag, NULL, NULL),
                PAR_ERR_ARG, "all_reduce of 5 fp32");
    CHECK_FAILS(par_comm_all_reduce(w.comm, x, y, 4, w.r == 2 ? PAR_I32 : PAR_F32, tag, NULL, NULL),
                PAR_ERR_ARG, "of 4 int32");
    if (w.r == 0)
        CHECK_FAILS(par_comm_barrier(w.comm, tag), PAR_ERR_ARG, "barrier");
    else
        CHECK_FAILS(par_comm_all_gather(w.comm, x, y, 4, PAR_F32, tag, NULL, NULL), PAR_ERR_ARG,
                    "all_gather of 4");
    CHECK_FAILS(par_comm_broadcast(w.comm, x, 4, PAR_F32, w.r == 0, tag, NULL, NULL), PAR_ERR_ARG,
                "root 1");
    par_tag other = {"other", -1, -1, -1};
    CHECK_FAILS(par_comm_all_reduce(w.comm, x, y, 4, PAR_F32, w.r == 1 ? other : tag, NULL, NULL),
                PAR_ERR_ARG, "\"other\"");
    CHECK(y[0] == 0, "a refused operation wrote data");
    CHECK_OK(par_comm_all_reduce(w.comm, x, y, 4, PAR_F32, tag, NULL, NULL));
    CHECK(y[3] == (float)w.p, "the sum after refusals is %g", (double)y[3]);
    world_close(&w);
}

static void arguments(par_transport *t) {
    world w = {0};
    float x[4] = {0};
    int twice[] = {0, 0}, far[] = {0, 99};
    par_comm *comm = NULL;
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    CHECK_FAILS(par_comm_all_reduce(w.comm, x, x, -1, PAR_F32, tag, NULL, NULL), PAR_ERR_ARG,
                "the count is -1");
    CHECK_FAILS(par_comm_all_reduce(w.comm, x, x, 1, PAR_U8, tag, NULL, NULL), PAR_ERR_ARG,
                "uint8 cannot be added");
    CHECK_FAILS(par_comm_all_reduce(w.comm, NULL, x, 1, PAR_F32, tag, NULL, NULL), PAR_ERR_ARG,
                "NULL");
    CHECK_FAILS(par_comm_broadcast(w.comm, x, 1, PAR_F32, w.p, tag, NULL, NULL), PAR_ERR_ARG,
                "legal ranks are 0 to");
    CHECK_FAILS(par_comm_create(w.transport,
                                &(par_comm_params){.axis = "x", .ranks = twice, .n = 2}, NULL,
                                &comm),
                PAR_ERR_ARG, "twice");
    CHECK_FAILS(par_comm_create(w.transport, &(par_comm_params){.axis = "x", .ranks = far, .n = 2},
                                NULL, &comm),
                PAR_ERR_ARG, "99");
    CHECK(comm == NULL, "a refused create wrote its result");
    CHECK_OK(par_comm_barrier(w.comm, tag));
    world_close(&w);
}

static void agree(par_transport *t) {
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    CHECK_OK(par_comm_agree(w.comm, PAR_OK));
    par_status mine = w.r == 2 ? par_error_set(PAR_ERR_IO, "no such file") : PAR_OK;
    CHECK_FAILS(par_comm_agree(w.comm, mine), PAR_ERR_IO, "rank 2: no such file");
    mine = w.r > 0 ? par_error_set(PAR_ERR_NUMERIC, "inf at %d", w.r)
                   : par_error_set(PAR_ERR_ARG, "small");
    CHECK_FAILS(par_comm_agree(w.comm, mine), PAR_ERR_NUMERIC, "rank 1: inf at 1");
    CHECK_OK(par_comm_agree(w.comm, PAR_OK));
    world_close(&w);
}

/* A message as long as a list of problems may be arrives whole, also when it is agreed on again. */
static void agree_long(par_transport *t) {
    static char sent[8192], expected[8192 + 64];
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    for (size_t i = 0; i + 1 < sizeof sent; i++) sent[i] = (char)('a' + i % 23);
    par_status st = w.r == 2 ? par_error_set(PAR_ERR_OPTION, "%s", sent) : PAR_OK;
    for (int again = 0; again < 2; again++) {
        st = par_comm_agree(w.comm, st);
        snprintf(expected, sizeof expected, "%srank 2: %s", again ? "rank 0: " : "", sent);
        CHECK(st == PAR_ERR_OPTION && strcmp(par_error(), expected) == 0,
              "%zu of %zu bytes arrived", strlen(par_error()), strlen(expected));
    }
    world_close(&w);
}

/* A rank with other lines, or a status of its own, which comes first. The lines move only then. */
static void same(par_transport *t) {
    static char lines[2 * PAR_LINES_NBYTES];
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 0, true)) return;
    CHECK_OK(par_comm_same(w.comm, PAR_OK, "the job's ", "a\t1\nb\t2\n"));
    const char *mine = w.r == 3 ? "a\t5\nb\t2\n" : w.r == 2 ? "a\t1\nb\t7\n" : "a\t1\nb\t2\n";
    CHECK_FAILS(par_comm_same(w.comm, PAR_OK, "the job's ", mine), PAR_ERR_OPTION,
                "rank 2: the job's b is \"7\" here and \"2\" on rank 0; legal: equal on all ranks");
    par_status st = w.r == 1 ? par_error_set(PAR_ERR_IO, "no such file") : PAR_OK;
    CHECK_FAILS(par_comm_same(w.comm, st, "", mine), PAR_ERR_IO, "rank 1: no such file");
    mine = w.r == 0 ? "" : "a\t1\n";
    CHECK_FAILS(par_comm_same(w.comm, PAR_OK, "", mine), PAR_ERR_OPTION, "a is there on this rank");
    /* the last byte that counts, and the first that does not */
    memset(lines, 'x', sizeof lines - 1);
    for (size_t at = PAR_LINES_NBYTES - 2; at < PAR_LINES_NBYTES; at++) {
        lines[at] = w.r == 3 ? 'y' : 'x';
        st = par_comm_same(w.comm, PAR_OK, "", lines);
        CHECK(st == (at < PAR_LINES_NBYTES - 1 ? PAR_ERR_OPTION : PAR_OK), "byte %zu", at);
        lines[at] = 'x';
    }
    world_close(&w);
}

/* Parameters that one rank alone refuses are refused by all of them; the ranks go on. */
static void create_refused(par_transport *t) {
    world w = {0};
    par_transport *inner = NULL;
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    const par_transport_params params = {.piece_nbytes = w.r == 1 ? -1 : 0};
    CHECK_FAILS(par_transport_create_mpi(w.mpi, &params, &inner), PAR_ERR_ARG,
                "rank 1: piece_nbytes is -1");
    CHECK(inner == NULL, "a refused create wrote its result");
    CHECK_OK(par_comm_barrier(w.comm, tag));
    world_close(&w);
}

/* Two halves of the world with a transport each, at work at the same time as one of the whole. */
static void split_world(par_transport *t) {
    MPI_Comm half;
    world w = {0};
    par_transport *inner = NULL;
    int64_t x[2], y[2];
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    MPI_Comm_split(w.mpi, w.r % 2, -w.r, &half);
    CHECK_OK(par_transport_create_mpi(half, NULL, &inner));
    par_mesh *mesh = inner ? open_mesh(inner, par_transport_size(inner), 1, 1) : NULL;
    if (mesh) {
        par_work works[2];
        x[0] = x[1] = w.r;
        CHECK_OK(par_comm_all_reduce(w.comm, &x[0], &y[0], 1, PAR_I64, tag, NULL, &works[0]));
        CHECK_OK(par_comm_all_reduce(mesh->world, &x[1], &y[1], 1, PAR_I64, tag, NULL, &works[1]));
        CHECK_OK(par_work_wait(works[1], NULL));
        CHECK_OK(par_work_wait(works[0], NULL));
        CHECK(y[0] == 6 && y[1] == (w.r % 2 ? 4 : 2), "sums are %lld and %lld", (long long)y[0],
              (long long)y[1]);
        int last = w.r % 2 ? 3 : 2;
        CHECK(mesh->rank == (last - w.r) / 2, "rank %d of the half", mesh->rank);
    }
    par_mesh_destroy(&mesh);
    par_transport_destroy(&inner);
    MPI_Comm_free(&half);
    world_close(&w);
}

static const par_recorder_row *find_row(par_transport *t, const char *op) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(t), &rows);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].op, op) == 0 && strcmp(rows[i].purpose, "test") == 0) return &rows[i];
    return NULL;
}

static void check_row(const world *w, const char *op, int64_t ops, int64_t sent, int64_t received,
                      int64_t messages) {
    const par_recorder_row *row = find_row(w->transport, op);
    CHECK(row != NULL, "no row for %s", op);
    if (!row) return;
    CHECK(row->n_ops == ops && row->sent_nbytes == sent && row->received_nbytes == received,
          "%s: %lld operations, %lld bytes sent, %lld received; not %lld, %lld, %lld", op,
          (long long)row->n_ops, (long long)row->sent_nbytes, (long long)row->received_nbytes,
          (long long)ops, (long long)sent, (long long)received);
    CHECK(messages < 0 || row->n_messages == messages, "%s: %lld messages, not %lld", op,
          (long long)row->n_messages, (long long)messages);
}

/* Closed forms with S the bytes of a shard: reduce-scatter and all-gather send (p-1) S, a direct
 * all-reduce 2 (p-1) S, a small one (p-1) vectors; a broadcast reaches p - 1 ranks; a barrier is
 * ceil(log2 p) bytes. */
static void recorder(par_transport *t) {
    enum { SHARD = 5000 };
    world w = {0};
    if (!world_open(&w, par_transport_size(t), 8192, false)) return;
    const int64_t p = w.p, S = SHARD * 4, pieces = (S + 8191) / 8192;
    float *x = calloc((size_t)(SHARD * p), sizeof *x), *y = calloc((size_t)(SHARD * p), sizeof *y);
    par_work work;
    CHECK_OK(par_comm_reduce_scatter(w.comm, x, y, SHARD, PAR_F32, tag, NULL, NULL));
    check_row(&w, "reduce_scatter", 1, (p - 1) * S, (p - 1) * S, (p - 1) * pieces);
    CHECK_OK(par_comm_all_gather(w.comm, x, y, SHARD, PAR_F32, tag, NULL, NULL));
    check_row(&w, "all_gather", 1, (p - 1) * S, (p - 1) * S, (p - 1) * pieces);
    CHECK_OK(par_comm_all_reduce(w.comm, x, y, SHARD * p, PAR_F32, tag, NULL, NULL));
    check_row(&w, "all_reduce", 1, 2 * (p - 1) * S, 2 * (p - 1) * S, 2 * (p - 1) * pieces);
    par_recorder_reset(par_transport_recorder(w.transport));
    CHECK_OK(par_comm_all_reduce(w.comm, x, y, 10, PAR_F32, tag, NULL, NULL));
    check_row(&w, "all_reduce", 1, (p - 1) * 40, (p - 1) * 40, -1);
    CHECK_OK(par_comm_broadcast(w.comm, x, SHARD, PAR_F32, 0, tag, NULL, NULL));
    int64_t sent = find_row(w.transport, "broadcast")->sent_nbytes, all = 0;
    MPI_Allreduce(&sent, &all, 1, MPI_INT64_T, MPI_SUM, w.mpi);
    CHECK(all == (p - 1) * S, "the broadcast sent %lld bytes in all", (long long)all);
    check_row(&w, "broadcast", 1, sent, w.r == 0 ? 0 : S, -1);
    CHECK_OK(par_comm_barrier(w.comm, tag));
    check_row(&w, "barrier", 1, 2, 2, 2); /* p is 3 or 4 */
    CHECK_OK(par_comm_send(w.comm, x, 3, PAR_F32, (w.r + 1) % w.p, tag, NULL, &work));
    CHECK_OK(par_comm_recv(w.comm, y, 3, PAR_F32, (w.r + w.p - 1) % w.p, tag, NULL, NULL));
    CHECK_OK(par_work_wait(work, NULL));
    check_row(&w, "send", 1, 12, 0, 1);
    check_row(&w, "recv", 1, 0, 12, 0);
    const par_recorder_row *rows;
    const int64_t *to = par_recorder_sent_to(par_transport_recorder(w.transport));
    int64_t by_row = 0, by_peer = 0;
    int n = par_recorder_rows(par_transport_recorder(w.transport), &rows);
    for (int i = 0; i < n; i++) by_row += rows[i].sent_nbytes;
    for (int i = 0; i < w.p; i++) by_peer += to[i];
    CHECK(by_row == by_peer && to[w.r] == 0, "rows say %lld bytes, peers %lld", (long long)by_row,
          (long long)by_peer);
    par_recorder_started last[4];
    CHECK(par_recorder_last(par_transport_recorder(w.transport), last, 4) == 1,
          "one comm has a last operation");
    CHECK(strcmp(last[0].op, "recv") == 0 && last[0].n_started == 8 && last[0].n_done == 8,
          "last is %s, %lld started, %lld done", last[0].op, (long long)last[0].n_started,
          (long long)last[0].n_done);
    free(x);
    free(y);
    world_close(&w);
}

/* 2.2 GB in one send; each rank holds it once. */
static void large_send(par_transport *t) {
    const int64_t n = 2200000000;
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    world w = {0};
    int enough = (double)pages * (double)page > 8e9, all = 0;
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    MPI_Allreduce(&enough, &all, 1, MPI_INT, MPI_MIN, w.mpi);
    uint8_t *data = all ? malloc((size_t)n) : NULL;
    if (!all) {
        harness_skip("needs 8 GB of free memory, has %.1f", (double)pages * (double)page / 1e9);
    } else if (data && w.r == 0) {
        for (int64_t i = 0; i < n; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
        CHECK_OK(par_comm_send(w.comm, data, n, PAR_U8, 1, tag, NULL, NULL));
        CHECK(par_recorder_sent_to(par_transport_recorder(w.transport))[1] == n, "bytes counted");
    } else if (data) {
        CHECK_OK(par_comm_recv(w.comm, data, n, PAR_U8, 0, tag, NULL, NULL));
        int64_t bad = 0;
        for (int64_t i = 0; i < n; i++) bad += data[i] != (uint8_t)(i * 2654435761u >> 13);
        CHECK(bad == 0, "%lld bytes are wrong", (long long)bad);
    } else {
        harness_skip("malloc of 2.2 GB failed");
    }
    free(data);
    world_close(&w);
}

/* Allocations whose caller is libpar: this program's malloc is in front of libc's, and the return
 * address tells. */
static int64_t n_allocations;
static bool counting;

__attribute__((unused)) static void count(const void *caller) {
    Dl_info info;
    if (!counting) return;
    counting = false;
    if (dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "libpar.so"))
        n_allocations++;
    counting = true;
}

#ifndef __SANITIZE_ADDRESS__
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n);

void *malloc(size_t n) {
    count(__builtin_return_address(0));
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t n) {
    count(__builtin_return_address(0));
    return __libc_realloc(old, n);
}
enum { INTERPOSED = 1 };
#else
enum { INTERPOSED = 0 }; /* the sanitizer has its own malloc */
#endif

static void all_operations(par_comm *comm, float *x, float *y) {
    int p = par_comm_size(comm), r = par_comm_rank(comm);
    par_work work;
    for (int n = 4; n <= 40000; n *= 100) {
        CHECK_OK(par_comm_all_reduce(comm, x, y, n, PAR_F32, tag, NULL, NULL));
        CHECK_OK(par_comm_reduce_scatter(comm, x, y, n / p, PAR_F32, tag, NULL, NULL));
        CHECK_OK(par_comm_all_gather(comm, x, y, n / p, PAR_F32, tag, NULL, NULL));
        CHECK_OK(par_comm_broadcast(comm, x, n, PAR_F32, 0, tag, NULL, NULL));
        CHECK_OK(par_comm_send(comm, x, n, PAR_F32, (r + 1) % p, tag, NULL, &work));
        CHECK_OK(par_comm_recv(comm, y, n, PAR_F32, (r + p - 1) % p, tag, NULL, NULL));
        CHECK_OK(par_work_wait(work, NULL));
    }
    CHECK_OK(par_comm_barrier(comm, tag));
    CHECK_OK(par_comm_agree(comm, PAR_OK));
}

static void no_allocation(par_transport *t) {
    static float x[40000], y[40000];
    world w = {0};
    if (!INTERPOSED) {
        harness_skip("malloc belongs to the sanitizer");
        return;
    }
    if (!world_open(&w, par_transport_size(t), 4096, true)) return;
    all_operations(w.comm, x, y); /* names of rows, MPI's own pools */
    n_allocations = 0;
    counting = true;
    all_operations(w.comm, x, y);
    counting = false;
    CHECK(n_allocations == 0, "libpar allocated %lld times", (long long)n_allocations);
    counting = true;
    par_comm *extra = NULL;
    par_status st = par_comm_create(
        w.transport, &(par_comm_params){.axis = "x", .ranks = &w.r, .n = 1}, NULL, &extra);
    counting = false;
    CHECK(st == PAR_OK && n_allocations > 0,
          "the counter sees no allocation at create: it is blind");
    par_comm_destroy(&extra);
    world_close(&w);
}

static const harness_case cases[] = {
    {"several_at_once", .ranks = 8, .run_mpi = several_at_once},
    {"chained_2", .ranks = 2, .run_mpi = chained},
    {"chained_3", .ranks = 3, .run_mpi = chained},
    {"chained_8", .ranks = 8, .run_mpi = chained},
    {"fifo_1", .ranks = 1, .run_mpi = fifo},
    {"fifo_4", .ranks = 4, .run_mpi = fifo},
    {"self_send_1", .ranks = 1, .run_mpi = self_send},
    {"self_send_2", .ranks = 2, .run_mpi = self_send},
    {"check_mismatch", .ranks = 3, .run_mpi = check_mismatch},
    {"arguments", .ranks = 2, .run_mpi = arguments},
    {"agree", .ranks = 4, .run_mpi = agree},
    {"agree_long", .ranks = 4, .run_mpi = agree_long},
    {"same", .ranks = 4, .run_mpi = same},
    {"create_refused", .ranks = 3, .run_mpi = create_refused},
    {"split_world", .ranks = 4, .run_mpi = split_world},
    {"recorder_3", .ranks = 3, .run_mpi = recorder},
    {"recorder_4", .ranks = 4, .run_mpi = recorder},
    {"no_allocation_1", .ranks = 1, .run_mpi = no_allocation},
    {"no_allocation_4", .ranks = 4, .run_mpi = no_allocation},
    {"large_send", .ranks = 2, .run_mpi = large_send, .deadline_s = 300},
};

int main(int argc, char **argv) {
    return harness_main_mpi("order", cases, HARNESS_COUNT(cases), argc, argv);
}
