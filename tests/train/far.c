/* The far backend: see far.h. */
#define _GNU_SOURCE
#include "far.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libpar/base/hash.h"

enum { PAGE = 4096, MAX_BLOCKS = 256, MAX_ITEMS = 1 << 15 };

typedef struct far_stream far_stream;

typedef struct {
    enum { KERNEL, COPY, ZERO, WAIT, RECORD } kind;
    par_op op;
    par_op_args args;
    bool sums; /* a norm's args have a residual: */
    par_residual residual;
    void *workspace;
    void *dst;
    const void *src;
    size_t nbytes;
    far_stream *stream; /* of WAIT: until its items below n are done */
    int64_t n;
    par_event *event; /* of RECORD */
    /* Last, as the trace has what it points to: a copy of a list of norms, whose own is gone by
     * the time that the item runs. */
    par_norm2_vector *vectors;
} item;

struct far_stream {
    par_stream base;
    item *items; /* [MAX_ITEMS], a ring */
    int64_t n_put, n_done;
    int64_t n_kernels; /* that have run: its clock */
};

struct par_event {
    far_stream *stream; /* NULL: never recorded */
    int64_t n;
    bool timed;
    int64_t n_kernels; /* timed: of the stream, when it got there */
};

static par_backend far;
static const par_backend *cpu;
static bool eager_mode;
static far_counts counts;
static int alive, open_depth;
static struct {
    char *data;
    size_t nbytes;
    bool pinned;
} blocks[MAX_BLOCKS];
static par_status first_error; /* of an item; sync tells */
static char first_text[512];

static size_t pages(size_t nbytes) {
    return (nbytes / PAGE + 1) * PAGE;
}

static void protect(int protection) {
    for (int i = 0; i < MAX_BLOCKS; i++)
        if (blocks[i].data && !blocks[i].pinned)
            mprotect(blocks[i].data, pages(blocks[i].nbytes), protection);
}

static void open_memory(void) {
    if (open_depth++ == 0) protect(PROT_READ | PROT_WRITE);
}
static void close_memory(void) {
    if (--open_depth == 0) protect(PROT_NONE);
}

static par_status take(size_t nbytes, bool pinned, void **out) {
    int i = 0;
    while (i < MAX_BLOCKS && blocks[i].data) i++;
    if (i == MAX_BLOCKS) PAR_FAIL(PAR_ERR_MEMORY, "far: more than %d blocks", MAX_BLOCKS);
    void *p = mmap(NULL, pages(nbytes), pinned || open_depth ? PROT_READ | PROT_WRITE : PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) PAR_FAIL(PAR_ERR_MEMORY, "far: no %zu bytes", nbytes);
    blocks[i].data = p;
    blocks[i].nbytes = nbytes;
    blocks[i].pinned = pinned;
    alive++;
    *out = p;
    return PAR_OK;
}

static par_status take_device(size_t nbytes, void **out) {
    return take(nbytes, false, out);
}
static par_status take_pinned(size_t nbytes, void **out) {
    return take(nbytes, true, out);
}

static void release(void *block, size_t nbytes) {
    for (int i = 0; i < MAX_BLOCKS; i++) {
        if (blocks[i].data != block) continue;
        munmap(block, pages(nbytes));
        blocks[i].data = NULL;
        alive--;
    }
}

/* Of the block that holds an address: 1 device, 2 pinned, 0 neither. */
static int place_of(const void *p) {
    for (int i = 0; i < MAX_BLOCKS; i++)
        if (blocks[i].data && (const char *)p >= blocks[i].data &&
            (const char *)p < blocks[i].data + blocks[i].nbytes)
            return blocks[i].pinned ? 2 : 1;
    return 0;
}

static void run_until(far_stream *s, int64_t n);

/* Without the stream: its progress would run while the pages are open. */
static void run_item(far_stream *s, item *x) {
    par_status st = PAR_OK;
    if (x->kind == RECORD) x->event->n_kernels = s->n_kernels;
    if (x->kind == KERNEL) s->n_kernels++;
    if (x->kind == WAIT) {
        run_until(x->stream, x->n);
        return;
    }
    if (x->kind == KERNEL) {
        par_op_args args = x->args;
        if (x->sums) args.layernorm.residual = &x->residual;
        if (x->op == PAR_OP_NORM2) args.norm2.vectors = x->vectors;
        st = cpu->kernels[x->op].run(NULL, &args, x->workspace);
        free(x->vectors);
    }
    if (x->kind == COPY) memmove(x->dst, x->src, x->nbytes);
    if (x->kind == ZERO) memset(x->dst, 0, x->nbytes);
    if (st == PAR_OK || first_error != PAR_OK) return;
    first_error = st;
    snprintf(first_text, sizeof first_text, "%s", par_error());
}

static void run_until(far_stream *s, int64_t n) {
    if (s->n_done >= n) return;
    open_memory();
    while (s->n_done < n) {
        item *x = &s->items[s->n_done % MAX_ITEMS];
        run_item(s, x);
        memset(&x->args, 0xff, sizeof x->args); /* nobody may use them again */
        s->n_done++;
    }
    close_memory();
}

static far_stream *of(par_stream *stream) {
    static item items[MAX_ITEMS];
    static far_stream default_stream = {.items = items};
    return stream ? (far_stream *)(void *)stream : &default_stream;
}

/* Where the ring is full, its oldest items run: a device's queue has an end too. */
static item *put(far_stream *s) {
    if (s->n_put - s->n_done == MAX_ITEMS) run_until(s, s->n_done + 1);
    item *x = &s->items[s->n_put % MAX_ITEMS];
    memset(x, 0, sizeof *x);
    return x;
}

/* Bytes between fields are nobody's; the trace compares all bytes. */
#if defined __has_builtin
#if __has_builtin(__builtin_clear_padding)
#define FAR_CLEAR_PADDING(p) __builtin_clear_padding(p)
#endif
#endif
#ifndef FAR_CLEAR_PADDING
#define FAR_CLEAR_PADDING(p) (void)(p)
#define FAR_NO_TRACE
#endif

/* A hash of all that an item says, so that two steps can be told apart. */
static void trace(const item *x) {
    counts.trace = par__fnv64(counts.trace, x, offsetof(item, vectors));
    if (x->vectors)
        counts.trace = par__fnv64(counts.trace, x->vectors,
                                  (size_t)x->args.norm2.n_vectors * sizeof *x->vectors);
}

static par_status enqueued(far_stream *s) {
    if (s->items[s->n_put % MAX_ITEMS].kind != WAIT) trace(&s->items[s->n_put % MAX_ITEMS]);
    s->n_put++;
    if (s->n_put - s->n_done > counts.most_queued) counts.most_queued = s->n_put - s->n_done;
    if (eager_mode) run_until(s, s->n_put);
    return PAR_OK;
}

static par_status enqueue_kernel(par_op op, par_stream *stream, const void *args, size_t nbytes,
                                 void *workspace) {
    far_stream *s = of(stream);
    item *x = put(s);
    x->kind = KERNEL;
    x->op = op;
    memcpy(&x->args, args, nbytes);
    bool norm = op == PAR_OP_LAYERNORM || op == PAR_OP_RMSNORM;
    if (norm && x->args.layernorm.residual) {
        x->residual = *x->args.layernorm.residual;
        FAR_CLEAR_PADDING(&x->residual);
        x->args.layernorm.residual = NULL; /* run_item points it there */
        x->sums = true;
    }
    if (op == PAR_OP_NORM2) {
        par_norm2 *a = &x->args.norm2;
        size_t n_bytes = (size_t)a->n_vectors * sizeof *a->vectors;
        x->vectors = malloc(n_bytes + 1);
        if (!x->vectors) PAR_FAIL(PAR_ERR_MEMORY, "far: no memory for a list");
        memcpy(x->vectors, a->vectors, n_bytes);
        a->vectors = NULL;
    }
    x->workspace = workspace;
    counts.kernels++;
    return enqueued(s);
}

#define FAR_RUN(OP, name, type)                                                                    \
    static par_status run_##name(par_stream *stream, const void *args, void *workspace) {          \
        type copied;                                                                               \
        memcpy(&copied, args, sizeof copied);                                                      \
        FAR_CLEAR_PADDING(&copied);                                                                \
        return enqueue_kernel(PAR_OP_##OP, stream, &copied, sizeof copied, workspace);             \
    }
PAR_OP_LIST(FAR_RUN)
#undef FAR_RUN

static par_status copy(par_stream *stream, void *dst, const void *src, size_t nbytes) {
    if (nbytes == 0) return PAR_OK;
    PAR_REQUIRE(dst && src);
    far_stream *s = of(stream);
    item *x = put(s);
    x->kind = COPY;
    x->dst = dst;
    x->src = src;
    x->nbytes = nbytes;
    counts.copies++;
    if (!place_of(dst) || !place_of(src)) counts.unpinned++;
    return enqueued(s);
}

static par_status zero(par_stream *stream, void *dst, size_t nbytes) {
    if (nbytes == 0) return PAR_OK;
    PAR_REQUIRE(dst && place_of(dst) == 1);
    far_stream *s = of(stream);
    item *x = put(s);
    x->kind = ZERO;
    x->dst = dst;
    x->nbytes = nbytes;
    return enqueued(s);
}

static par_status stream_create(par_stream **out) {
    far_stream *s = calloc(1, sizeof *s);
    if (s) s->items = calloc(MAX_ITEMS, sizeof *s->items);
    if (!s || !s->items) PAR_FAIL(PAR_ERR_MEMORY, "far: no memory for a stream");
    alive++;
    *out = &s->base;
    return PAR_OK;
}

/* Work under way would use what its owner has freed. */
static void stream_destroy(par_stream *stream) {
    far_stream *s = of(stream);
    if (s->n_done < s->n_put) abort();
    alive--;
    free(s->items);
    free(s);
}

static par_status event_create(par_event **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) PAR_FAIL(PAR_ERR_MEMORY, "far: no memory for an event");
    alive++;
    return PAR_OK;
}

static par_status timed_event_create(par_event **out) {
    PAR_TRY(event_create(out));
    (*out)->timed = true;
    return PAR_OK;
}

/* A timed one is written to when its stream gets there. */
static void event_destroy(par_event *event) {
    if (event->timed && event->stream && event->stream->n_done < event->n) abort();
    alive--;
    free(event);
}

static par_status record(par_stream *stream, par_event *event) {
    far_stream *s = event->stream = of(stream);
    event->n = s->n_put;
    if (!event->timed) return PAR_OK;
    item *x = put(s);
    x->kind = RECORD;
    x->event = event;
    event->n++;
    return enqueued(s);
}

static par_status elapsed(par_event *from, par_event *to, double *seconds) {
    par_event *const both[] = {from, to};
    for (int i = 0; i < 2; i++)
        if (!both[i]->timed || !both[i]->stream || both[i]->stream->n_done < both[i]->n)
            PAR_FAIL(PAR_ERR_UNSUPPORTED, "far: an event is %s",
                     !both[i]->timed    ? "not timed"
                     : !both[i]->stream ? "not recorded"
                                        : "not done");
    *seconds = FAR_KERNEL_S * (double)(to->n_kernels - from->n_kernels);
    return PAR_OK;
}

static par_status wait(par_stream *stream, par_event *event) {
    far_stream *s = of(stream);
    if (!event->stream || event->stream == s) return PAR_OK;
    item *x = put(s);
    x->kind = WAIT;
    x->stream = event->stream;
    x->n = event->n;
    return enqueued(s);
}

/* Each question lets some of the items run, so that somebody who polls gets there. */
static par_status query(par_event *event, bool *done) {
    far_stream *s = event->stream;
    *done = !s || s->n_done >= event->n;
    if (*done) return PAR_OK;
    counts.queries++;
    run_until(s, s->n_done + 1 + (event->n - s->n_done) / 8);
    *done = s->n_done >= event->n;
    return PAR_OK;
}

static par_status sync(par_stream *stream) {
    counts.syncs++;
    run_until(of(stream), of(stream)->n_put);
    if (first_error == PAR_OK) return PAR_OK;
    par_status st = first_error;
    first_error = PAR_OK;
    return par_error_set(st, "%s", first_text);
}

static char chosen[PAR_CHOICES_NBYTES] = "far;0";

static const char *choices(void) {
    return chosen;
}

par_status far_choose(const char *text) {
    if (strncmp(text, "far;", 4) != 0) PAR_FAIL(PAR_ERR_OPTION, "\"%s\" is not far's", text);
    snprintf(chosen, sizeof chosen, "%s", text);
    return PAR_OK;
}

const par_backend *far_backend(bool eager) {
    eager_mode = eager;
    if (cpu) return &far;
    if (par_backend_get("cpu", &cpu) != PAR_OK) abort();
    far = (par_backend){.name = "far",
                        .memory = {take_device, release},
                        .host_memory = {take_pinned, release},
                        .stream_create = stream_create,
                        .stream_destroy = stream_destroy,
                        .event_create = event_create,
                        .event_destroy = event_destroy,
                        .copy = copy,
                        .zero = zero,
                        .event_record = record,
                        .wait = wait,
                        .event_query = query,
                        .sync = sync,
                        .timed_event_create = timed_event_create,
                        .elapsed = elapsed,
                        .choices = choices,
                        .choose = far_choose};
#define FAR_ENTRY(OP, name, type)                                                                  \
    far.kernels[PAR_OP_##OP] = cpu->kernels[PAR_OP_##OP];                                          \
    far.kernels[PAR_OP_##OP].run = run_##name;
    PAR_OP_LIST(FAR_ENTRY)
#undef FAR_ENTRY
    return &far;
}

void far_counts_reset(void) {
    counts = (far_counts){0};
}
far_counts far_counts_get(void) {
#ifdef FAR_NO_TRACE
    counts.trace = 0;
#endif
    return counts;
}
int far_alive(void) {
    return alive;
}
