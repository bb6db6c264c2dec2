/*
 * One rank's memory over time: samples of the process and of the device beside a copy of the
 * ledger, and the file that all ranks' make. See par/memory_report.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/clock.h"
#include "libpar/base/hash.h"
#include "libpar/base/json_text.h"
#include "memory_report.h"

/* These keep the cost of samples below 0.1 % of a core: statm takes microseconds, asking a device
 * may take tens of them. */
enum { MAX_SAMPLES = 256 };
static const double INTERVAL_S = 0.01, DEVICE_INTERVAL_S = 1;
static const par_tag tag = {"memory", -1, -1, -1};

struct par_memory_watch {
    pthread_mutex_t lock; /* the samples may be read by another thread */
    const par_backend *backend;
    char *ledger;                   /* JSON */
    double begin, last_s, device_s; /* of the last samples, since `begin` */
    size_t device;                  /* as it was then */
    int64_t every, n_seen;          /* one of so many steps that come is kept */
    int n;
    par_memory_reading samples[MAX_SAMPLES];
};

/* The start of a file of /proc. */
static void read_start(const char *path, char *text, size_t nbytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, nbytes - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
}

/* statm counts pages: size, resident, and of these the shared ones (files and shared memory). */
void par_memory_reading_now(const par_backend *backend, par_memory_reading *out) {
    char text[128];
    uint64_t size = 0, resident = 0, shared = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
    *out = (par_memory_reading){0};
    read_start("/proc/self/statm", text, sizeof text);
    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &size, &resident, &shared) == 3) {
        out->resident = (size_t)(resident * page);
        out->anonymous = (size_t)((resident > shared ? resident - shared : 0) * page);
    }
    if (backend && backend->memory_used && backend->memory_used(&out->device) != PAR_OK)
        out->device = 0;
}

static json_t *number(size_t n) {
    return json_integer((json_int_t)n);
}

static char *ledger_text(const par_memory *memory) {
    const par_ledger_line *lines;
    const par_ledger_detail *details;
    int n = par_memory_ledger(memory, &lines), n_details = par_memory_details(memory, &details);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_t *o = json_object(), *of = json_array();
        json_object_set_new(o, "kind", json_string(par_memory_kind_name(lines[i].kind)));
        json_object_set_new(o, "what", json_string(lines[i].what));
        json_object_set_new(o, "nbytes", number(lines[i].nbytes));
        json_object_set_new(o, "planned", number(lines[i].planned));
        for (int k = 0; k < n_details; k++) {
            if (details[k].kind != lines[i].kind || strcmp(details[k].what, lines[i].what) != 0)
                continue;
            json_t *part = json_object();
            json_object_set_new(part, "layer", json_string(details[k].layer));
            json_object_set_new(part, "tensor", json_string(details[k].tensor));
            json_object_set_new(part, "nbytes", number(details[k].nbytes));
            json_array_append_new(of, part);
        }
        json_object_set_new(o, "parts", of);
        json_array_append_new(list, o);
    }
    char *text = par__json_text(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

par_status par_memory_watch_create(const par_memory *memory, const par_backend *backend,
                                   par_memory_watch **out) {
    PAR_REQUIRE(memory && out);
    par_memory_watch *w = calloc(1, sizeof *w);
    if (w) w->ledger = ledger_text(memory);
    if (!w || !w->ledger) {
        free(w);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a watch of memory");
    }
    pthread_mutex_init(&w->lock, NULL);
    w->backend = backend;
    w->every = 1;
    w->begin = par__seconds();
    w->last_s = -INTERVAL_S;
    w->device_s = -DEVICE_INTERVAL_S;
    *out = w;
    return PAR_OK;
}

void par_memory_watch_destroy(par_memory_watch **handle) {
    if (!handle || !*handle) return;
    pthread_mutex_destroy(&(*handle)->lock);
    free((*handle)->ledger);
    free(*handle);
    *handle = NULL;
}

static void add(par_memory_watch *w, const par_memory_reading *s) {
    if (w->n == MAX_SAMPLES) {
        for (int i = 0; 2 * i < w->n; i++) w->samples[i] = w->samples[2 * i];
        w->n /= 2;
        w->every *= 2;
    }
    w->samples[w->n++] = *s;
}

void par_memory_watch_step(par_memory_watch *w, int64_t step) {
    double now = par__seconds() - w->begin;
    if (now - w->last_s < INTERVAL_S || w->n_seen++ % w->every != 0) return;
    par_memory_reading s;
    bool asks = now - w->device_s >= DEVICE_INTERVAL_S;
    par_memory_reading_now(asks ? w->backend : NULL, &s);
    if (asks) w->device = s.device, w->device_s = now;
    s.device = w->device;
    s.step = step;
    s.seconds = w->last_s = now;
    pthread_mutex_lock(&w->lock);
    add(w, &s);
    pthread_mutex_unlock(&w->lock);
}

static json_t *samples_json(const par_memory_watch *w) {
    json_t *o = json_object(), *column[5];
    static const char *const names[5] = {"step", "seconds", "resident", "anonymous", "device"};
    for (int c = 0; c < 5; c++) column[c] = json_array();
    for (int i = 0; i < w->n; i++) {
        const par_memory_reading *s = &w->samples[i];
        json_array_append_new(column[0], json_integer(s->step));
        json_array_append_new(column[1], json_real(s->seconds));
        json_array_append_new(column[2], number(s->resident));
        json_array_append_new(column[3], number(s->anonymous));
        json_array_append_new(column[4], number(s->device));
    }
    for (int c = 0; c < 5; c++) json_object_set_new(o, names[c], column[c]);
    return o;
}

/* layout NULL: a world of its own. */
static json_t *rank_json(const par_memory_watch *w, const par_layout *layout, int rank) {
    json_t *o = json_object();
    char host[64] = "", text[2048];
    int coordinate[PAR_AXIS_COUNT] = {0};
    uint64_t kib = 0;
    gethostname(host, sizeof host - 1);
    if (layout) par_layout_coordinates(layout, rank, coordinate);
    json_object_set_new(o, "rank", json_integer(rank));
    json_object_set_new(o, "host", json_string(host));
    json_object_set_new(o, "pid", json_integer(getpid()));
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++)
        json_object_set_new(o, par_axis_name((par_axis)axis), json_integer(coordinate[axis]));
    json_object_set_new(o, "device", json_boolean(w->backend && !w->backend->on_host));
    /* PSS: the kernel walks all pages for it, so it is read once per file. */
    read_start("/proc/self/smaps_rollup", text, sizeof text);
    const char *pss = strstr(text, "\nPss:");
    bool known = pss && sscanf(pss + 5, "%" SCNu64, &kib) == 1;
    json_object_set_new(o, "proportional", number(known ? (size_t)kib << 10 : 0));
    json_object_set_new(o, "samples", samples_json(w));
    return o;
}

static json_t *file_json(json_t *ledgers, json_t *ranks, const par_memory_saving *savings, int n) {
    json_t *o = json_object(), *list = json_array();
    for (int i = 0; i < n; i++) {
        json_t *s = json_object();
        json_object_set_new(s, "option", json_string(savings[i].option));
        json_object_set_new(s, "nbytes", number(savings[i].nbytes));
        json_array_append_new(list, s);
    }
    json_object_set_new(o, "form", json_string(PAR__MEMORY_FORM));
    json_object_set_new(o, "ledgers", ledgers);
    json_object_set_new(o, "ranks", ranks);
    json_object_set_new(o, "largest_rank_with", list);
    return o;
}

/* In another thread than the rank's own: nothing is asked of the device, whose last sample is taken
 * again. */
char *par_memory_watch_text(par_memory_watch *w, int rank) {
    par_memory_watch *now = calloc(1, sizeof *now);
    par_memory_reading last = {0}, s;
    if (!now) return NULL;
    pthread_mutex_lock(&w->lock);
    now->n = w->n;
    now->every = w->every;
    memcpy(now->samples, w->samples, sizeof w->samples);
    pthread_mutex_unlock(&w->lock);
    now->backend = w->backend;
    if (now->n) last = now->samples[now->n - 1];
    par_memory_reading_now(NULL, &s);
    s.step = last.step;
    s.device = last.device;
    s.seconds = par__seconds() - w->begin;
    add(now, &s);
    json_t *ledgers = json_array(), *ranks = json_array(), *own;
    json_array_append_new(ledgers, json_loads(w->ledger, 0, NULL));
    own = rank_json(now, NULL, rank);
    json_object_set_new(own, "ledger", json_integer(0));
    json_array_append_new(ranks, own);
    json_t *all = file_json(ledgers, ranks, NULL, 0);
    char *text = par__json_text(all, JSON_COMPACT);
    json_decref(all);
    free(now);
    return text;
}

/* What a rank will send. */
typedef struct {
    uint64_t hash; /* of its ledger */
    int64_t ledger_nbytes, rank_nbytes;
} head;

typedef struct {
    par_comm *comm;
    int size, rank;
    const par_memory_watch *watch;
    char *own;  /* this rank's JSON */
    head *all;  /* [size] */
    char *text; /* rank 0: room for the largest text */
    json_t *ledgers, *ranks;
} gathering;

/* The first rank with the ledger of rank r. */
static int first_with(const gathering *g, int r) {
    int i = 0;
    while (g->all[i].hash != g->all[r].hash) i++;
    return i;
}

static par_status prepare(gathering *g, const par_layout *layout, head *mine) {
    json_t *o = rank_json(g->watch, layout, g->rank);
    g->own = par__json_text(o, JSON_COMPACT);
    json_decref(o);
    g->all = calloc((size_t)g->size, sizeof *g->all);
    if (!g->own || !g->all)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a file on memory of %d ranks", g->size);
    size_t nbytes = strlen(g->watch->ledger);
    *mine = (head){par__fnv64(PAR__FNV64, g->watch->ledger, nbytes), (int64_t)nbytes,
                   (int64_t)strlen(g->own)};
    return PAR_OK;
}

static par_status make_room(gathering *g) {
    int64_t most = 0;
    if (g->rank != 0) return PAR_OK;
    for (int r = 0; r < g->size; r++) {
        if (g->all[r].ledger_nbytes > most) most = g->all[r].ledger_nbytes;
        if (g->all[r].rank_nbytes > most) most = g->all[r].rank_nbytes;
    }
    g->text = malloc((size_t)most + 1);
    g->ledgers = json_array();
    g->ranks = json_array();
    if (!g->text || !g->ledgers || !g->ranks)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a file on memory of %d ranks", g->size);
    return PAR_OK;
}

/* One text of rank r, on rank 0 as JSON. */
static par_status take_text(gathering *g, int r, const char *mine, int64_t n, json_t **out) {
    if (g->rank == r && r != 0) return par_comm_send(g->comm, mine, n, PAR_U8, 0, tag, NULL, NULL);
    if (g->rank != 0) return PAR_OK;
    if (r != 0) PAR_TRY(par_comm_recv(g->comm, g->text, n, PAR_U8, r, tag, NULL, NULL));
    if (r == 0) memcpy(g->text, mine, (size_t)n);
    g->text[n] = 0;
    *out = json_loads(g->text, 0, NULL);
    return PAR_OK;
}

static par_status transfer(gathering *g) {
    int n_ledgers = 0;
    for (int r = 0; r < g->size; r++) {
        const head *h = &g->all[r];
        json_t *ledger = NULL, *rank = NULL;
        if (first_with(g, r) == r) {
            PAR_TRY(take_text(g, r, g->watch->ledger, h->ledger_nbytes, &ledger));
            if (g->rank == 0) json_array_append_new(g->ledgers, ledger);
        }
        PAR_TRY(take_text(g, r, g->own, h->rank_nbytes, &rank));
        if (g->rank != 0) continue;
        int first = first_with(g, r);
        json_int_t number = n_ledgers;
        if (first < r)
            number = json_integer_value(
                json_object_get(json_array_get(g->ranks, (size_t)first), "ledger"));
        else
            n_ledgers++;
        json_object_set_new(rank, "ledger", json_integer(number));
        json_array_append_new(g->ranks, rank);
    }
    return PAR_OK;
}

par_status par_memory_watch_write(const par_memory_watch *watch, par_comm *comm,
                                  const par_layout *layout, const par_memory_saving *savings,
                                  int n_savings, const char *path) {
    PAR_REQUIRE(watch && comm && layout);
    gathering g = {
        .comm = comm, .size = par_comm_size(comm), .rank = par_comm_rank(comm), .watch = watch};
    head mine = {0};
    par_status st = par_comm_agree(comm, prepare(&g, layout, &mine));
    if (st == PAR_OK)
        st = par_comm_all_gather(comm, &mine, g.all, sizeof mine, PAR_U8, tag, NULL, NULL);
    if (st == PAR_OK) st = par_comm_agree(comm, make_room(&g));
    if (st == PAR_OK) st = transfer(&g);
    if (st == PAR_OK && g.rank == 0) {
        st = par__json_write(file_json(g.ledgers, g.ranks, savings, n_savings), path);
        g.ledgers = g.ranks = NULL;
    }
    json_decref(g.ledgers);
    json_decref(g.ranks);
    free(g.own);
    free(g.all);
    free(g.text);
    return st == PAR_ERR_TRANSPORT ? st : par_comm_agree(comm, st);
}
