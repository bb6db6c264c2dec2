/* Operands by operation, and their way to the device and back: see device.h. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, GUARD_BYTE = 0xa5, MAX_OPERANDS = 300 };

typedef struct {
    void **pointer; /* in the copy */
    unsigned char *host;
    size_t nbytes;
    int region; /* not of an empty one */
} operand;

/* Memory that one operand or several that overlap need. */
typedef struct {
    unsigned char *begin, *end; /* on the host */
    unsigned char *staging, *device;
    size_t nbytes; /* staged, with guards */
    bool guarded;  /* the staging has guards of its own */
} region;

typedef struct {
    const par_backend *backend;
    par_op_args args; /* a copy, whose pointers become the device's */
    par_residual sum; /* of a norm */
    par_norm2_vector vectors[MAX_OPERANDS / 2];
    operand operands[MAX_OPERANDS];
    region regions[MAX_OPERANDS];
    int n, n_regions;
} call;

static void add(call *c, const void *field, size_t nbytes) {
    void **pointer = (void **)(uintptr_t)field;
    if (!*pointer) return;
    if (c->n == MAX_OPERANDS) abort();
    c->operands[c->n++] = (operand){.pointer = pointer, .host = *pointer, .nbytes = nbytes};
}

/* n elements in a row */
static void vector(call *c, const void *field, par_dtype dtype, int64_t n) {
    add(c, field, (size_t)n * par_dtype_nbytes(dtype));
}

static void matrix(call *c, const void *field, par_dtype dtype, int64_t rows, int64_t width,
                   int64_t ld) {
    vector(c, field, dtype, rows > 0 && width > 0 ? (rows - 1) * ld + width : 0);
}

static void gemm(call *c) {
    par_gemm *a = &c->args.gemm;
    matrix(c, &a->a, a->dtype, a->ta ? a->k : a->m, a->ta ? a->m : a->k, a->lda);
    matrix(c, &a->b, a->dtype, a->tb ? a->n : a->k, a->tb ? a->k : a->n, a->ldb);
    matrix(c, &a->c, a->dtype_c, a->m, a->n, a->ldc);
    vector(c, &a->bias, a->dtype, a->n);
    if (a->epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
        vector(c, &a->aux, PAR_F32, a->m);
    else
        matrix(c, &a->aux, a->dtype, a->m, a->n, a->ldc);
}

static void column_sum(call *c) {
    par_column_sum *a = &c->args.column_sum;
    matrix(c, &a->x, a->dtype, a->m, a->n, a->ldx);
    vector(c, &a->y, PAR_F32, a->n);
}

static void dropout(call *c, par_dropout *d) {
    add(c, &d->sample_base, sizeof(int64_t));
}

static void residual_operands(call *c, par_residual *a) {
    dropout(c, &a->dropout);
    vector(c, &a->x, a->dtype, a->m * a->n);
    vector(c, &a->residual, a->dtype, a->m * a->n);
    vector(c, &a->y, a->dtype, a->m * a->n);
    vector(c, &a->bias, a->dtype, a->n);
}

/* `back`: the tensors of the backward; the forward's arguments may hold them too, and they stay. */
static void norm(call *c, bool back) {
    par_norm *a = &c->args.layernorm;
    vector(c, &a->x, a->dtype, a->m * a->n);
    vector(c, &a->w, a->dtype, a->n);
    vector(c, &a->mean, PAR_F32, a->m);
    vector(c, &a->rstd, PAR_F32, a->m);
    if (!back) {
        vector(c, &a->b, a->dtype, a->n);
        vector(c, &a->y, a->dtype, a->m * a->n);
        if (!a->residual) return;
        c->sum = *a->residual;
        a->residual = &c->sum;
        residual_operands(c, &c->sum);
        return;
    }
    vector(c, &a->dy, a->dtype, a->m * a->n);
    vector(c, &a->add, a->dtype, a->m * a->n);
    vector(c, &a->dx, a->dtype, a->m * a->n);
    vector(c, &a->dw, PAR_F32, a->n);
    vector(c, &a->db, PAR_F32, a->n);
}

static void rope(call *c) {
    par_rope *a = &c->args.rope;
    matrix(c, &a->x, a->dtype, a->m, a->heads * a->head_size, a->ldx);
    vector(c, &a->cos, PAR_F32, a->T * a->head_size / 2);
    vector(c, &a->sin, PAR_F32, a->T * a->head_size / 2);
}

static void attention(call *c, bool back) {
    par_attention *a = &c->args.attention;
    dropout(c, &a->dropout);
    int64_t rows = a->B * a->T, nq = a->H * a->D, nk = a->K * a->D;
    if (a->apart) vector(c, &a->documents, PAR_I32, rows);
    matrix(c, &a->q, a->dtype, rows, nq, a->ldq);
    matrix(c, &a->k, a->dtype, rows, nk, a->ldk);
    matrix(c, &a->v, a->dtype, rows, nk, a->ldv);
    matrix(c, &a->o, a->dtype, rows, nq, a->ldo);
    vector(c, &a->lse, PAR_F32, rows * a->H);
    if (!back) return;
    matrix(c, &a->d_o, a->dtype, rows, nq, a->ldd_o);
    matrix(c, &a->dq, a->dtype, rows, nq, a->lddq);
    matrix(c, &a->dk, a->dtype, rows, nk, a->lddk);
    matrix(c, &a->dv, a->dtype, rows, nk, a->lddv);
}

static void attention_decode(call *c) {
    par_attention_decode *a = &c->args.attention_decode;
    /* the last sequence's tokens from n on are not the operation's */
    int64_t token = a->K * a->D;
    matrix(c, &a->q, a->dtype, a->B, a->H * a->D, a->ldq);
    matrix(c, &a->k, a->dtype, a->B, a->n * token, a->capacity * token);
    matrix(c, &a->v, a->dtype, a->B, a->n * token, a->capacity * token);
    matrix(c, &a->o, a->dtype, a->B, a->H * a->D, a->ldo);
}

static void quantize(call *c) {
    par_quantize *a = &c->args.quantize;
    matrix(c, &a->x, a->dtype, a->m, a->n, a->ldx);
    vector(c, &a->q, PAR_U8, a->m * a->n);
    vector(c, &a->scales, PAR_F32, a->m * par_int8_groups(a->n));
}

static void gemm_int8(call *c) {
    par_gemm_int8 *a = &c->args.gemm_int8;
    matrix(c, &a->a, a->dtype, a->m, a->k, a->lda);
    vector(c, &a->q, PAR_U8, a->n * a->k);
    vector(c, &a->scales, PAR_F32, a->n * par_int8_groups(a->k));
    matrix(c, &a->c, a->dtype_c, a->m, a->n, a->ldc);
    vector(c, &a->bias, a->dtype, a->n);
}

static void gelu(call *c, bool back) {
    par_gelu *a = &c->args.gelu;
    vector(c, &a->x, a->dtype, a->n);
    vector(c, back ? (void *)&a->dy : (void *)&a->y, a->dtype, a->n);
    if (back) vector(c, &a->dx, a->dtype, a->n);
}

static void swiglu(call *c, bool back) {
    par_swiglu *a = &c->args.swiglu;
    vector(c, &a->x, a->dtype, 2 * a->m * a->n);
    vector(c, back ? (void *)&a->dy : (void *)&a->y, a->dtype, a->m * a->n);
    if (back) vector(c, &a->dx, a->dtype, 2 * a->m * a->n);
}

static void embedding(call *c, bool back) {
    par_embedding *a = &c->args.embedding;
    vector(c, &a->ids, PAR_I32, a->m);
    vector(c, back ? (void *)&a->dy : (void *)&a->y, a->dtype, a->m * a->n);
    if (back)
        vector(c, &a->dtable, PAR_F32, a->rows * a->n);
    else
        vector(c, &a->table, a->dtype, a->rows * a->n);
}

static void xent(call *c, par_op op) {
    par_xent *a = &c->args.xent_stats;
    vector(c, &a->targets, PAR_I32, a->m);
    if (op != PAR_OP_XENT_LOSS) matrix(c, &a->logits, a->dtype, a->m, a->n, a->ldx);
    if (op != PAR_OP_XENT_BACKWARD)
        vector(c, &a->stats, PAR_F32, 3 * a->m * (op == PAR_OP_XENT_LOSS ? a->p : 1));
    if (op != PAR_OP_XENT_STATS) vector(c, &a->lse, PAR_F32, a->m);
    if (op == PAR_OP_XENT_LOSS) vector(c, &a->sums, PAR_F32, 2);
    if (op == PAR_OP_XENT_BACKWARD) vector(c, &a->seed, PAR_F32, 1);
}

static void update(call *c) {
    par_update *a = &c->args.adamw;
    add(c, &a->step, sizeof(par_step));
    vector(c, &a->master, PAR_F32, a->n);
    vector(c, &a->grad, PAR_F32, a->n);
    vector(c, &a->m, PAR_F32, a->n);
    vector(c, &a->v, PAR_F32, a->n);
    vector(c, &a->weights, a->dtype, a->n);
}

static void cast(call *c) {
    par_cast *a = &c->args.cast;
    vector(c, &a->x, a->dtype_x, a->n);
    vector(c, &a->y, a->dtype_y, a->n);
}

static void tally(call *c) {
    par_tally *a = &c->args.ballot;
    add(c, &a->norms, 2 * sizeof(double) * (size_t)a->n_norms);
    vector(c, &a->losses, PAR_F32, 2 * a->n_losses);
    add(c, &a->ballot, sizeof(par_ballot));
}

static void vote(call *c) {
    par_vote_call *a = &c->args.vote;
    add(c, &a->ballots, sizeof(par_ballot) * (size_t)a->n);
    add(c, &a->state, sizeof(par_vote_state));
}

static void norm2(call *c) {
    par_norm2 *a = &c->args.norm2;
    if (a->n_vectors > MAX_OPERANDS / 2) abort();
    for (int64_t i = 0; i < a->n_vectors; i++) {
        c->vectors[i] = a->vectors[i];
        vector(c, &c->vectors[i].x, PAR_F32, c->vectors[i].n);
        add(c, &c->vectors[i].out, 2 * sizeof(double));
    }
    a->vectors = c->vectors;
}

static void list(call *c, par_op op) {
    switch (op) {
    case PAR_OP_GEMM: gemm(c); break;
    case PAR_OP_COLUMN_SUM: column_sum(c); break;
    case PAR_OP_LAYERNORM:
    case PAR_OP_RMSNORM: norm(c, false); break;
    case PAR_OP_LAYERNORM_BACKWARD:
    case PAR_OP_RMSNORM_BACKWARD: norm(c, true); break;
    case PAR_OP_ROPE: rope(c); break;
    case PAR_OP_ATTENTION: attention(c, false); break;
    case PAR_OP_ATTENTION_BACKWARD: attention(c, true); break;
    case PAR_OP_ATTENTION_DECODE: attention_decode(c); break;
    case PAR_OP_QUANTIZE: quantize(c); break;
    case PAR_OP_GEMM_INT8: gemm_int8(c); break;
    case PAR_OP_GELU: gelu(c, false); break;
    case PAR_OP_GELU_BACKWARD: gelu(c, true); break;
    case PAR_OP_SWIGLU: swiglu(c, false); break;
    case PAR_OP_SWIGLU_BACKWARD: swiglu(c, true); break;
    case PAR_OP_EMBEDDING: embedding(c, false); break;
    case PAR_OP_EMBEDDING_BACKWARD: embedding(c, true); break;
    case PAR_OP_XENT_STATS:
    case PAR_OP_XENT_LOSS:
    case PAR_OP_XENT_BACKWARD: xent(c, op); break;
    case PAR_OP_RESIDUAL: residual_operands(c, &c->args.residual); break;
    case PAR_OP_ADAMW:
    case PAR_OP_SGD: update(c); break;
    case PAR_OP_NORM2: norm2(c); break;
    case PAR_OP_CAST: cast(c); break;
    case PAR_OP_BALLOT: tally(c); break;
    case PAR_OP_VOTE: vote(c); break;
    default: abort();
    }
}

/* One region for operands that overlap, or that stand in one buffer of the bench. */
static void place(call *c, operand *o, device_find *find, void *user) {
    device_range whole = find ? find(user, o->host) : (device_range){0};
    bool guarded = whole.nbytes == 0;
    unsigned char *begin = guarded ? o->host : whole.begin;
    unsigned char *end = begin + (guarded ? o->nbytes : whole.nbytes);
    for (int i = 0; i < c->n_regions; i++) {
        region *r = &c->regions[i];
        if (end <= r->begin || r->end <= begin) continue;
        if (begin < r->begin) r->begin = begin;
        if (end > r->end) r->end = end;
        o->region = i;
        return;
    }
    o->region = c->n_regions;
    c->regions[c->n_regions++] = (region){.begin = begin, .end = end, .guarded = guarded};
}

/* Where the region's first byte stands in its staging: addresses keep their distance from a
 * multiple of 16. */
static size_t lead(const region *r) {
    return GUARD + (uintptr_t)r->begin % 16;
}

static par_status upload(call *c, region *r) {
    size_t n = (size_t)(r->end - r->begin);
    void *block = NULL;
    r->nbytes = n + 2 * GUARD + 16;
    r->staging = malloc(r->nbytes);
    if (!r->staging) abort();
    memset(r->staging, GUARD_BYTE, r->nbytes);
    memcpy(r->staging + lead(r), r->begin, n);
    PAR_TRY(c->backend->memory.alloc(r->nbytes, &block));
    r->device = block;
    return c->backend->copy(NULL, r->device, r->staging, r->nbytes);
}

static bool all(const unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != GUARD_BYTE) return false;
    return true;
}

static par_status download(call *c, region *r, bool *intact) {
    size_t n = (size_t)(r->end - r->begin), behind = lead(r) + n;
    PAR_TRY(c->backend->copy(NULL, r->staging, r->device, r->nbytes));
    PAR_TRY(c->backend->sync(NULL));
    if (!all(r->staging, lead(r)) || !all(r->staging + behind, r->nbytes - behind)) *intact = false;
    /* inputs may be constants of the program: nothing is written that has not changed */
    if (memcmp(r->begin, r->staging + lead(r), n) != 0) memcpy(r->begin, r->staging + lead(r), n);
    return PAR_OK;
}

static void release(call *c) {
    for (int i = 0; i < c->n_regions; i++) {
        if (c->regions[i].device)
            c->backend->memory.release(c->regions[i].device, c->regions[i].nbytes);
        free(c->regions[i].staging);
    }
}

/* NaN in all types at both ends of the workspace, as it has no contents, and guards around it. It
 * is kept between calls: libraries ask for 32 MiB and more. */
enum { EDGE = 65536 };
static struct {
    unsigned char *block;
    size_t nbytes;
} kept;

/* At least so many bytes. Operands without elements point there too, as a host address must not
 * reach a device. */
static par_status reserve(const par_backend *backend, size_t nbytes) {
    void *block = NULL;
    if (kept.block && kept.nbytes >= nbytes) return PAR_OK;
    if (kept.block) backend->memory.release(kept.block, kept.nbytes);
    kept.block = NULL;
    PAR_TRY(backend->memory.alloc(nbytes, &block));
    kept.block = block;
    kept.nbytes = nbytes;
    return PAR_OK;
}

/* The workspace's first bytes with the guard before it (front), or its last with the guard behind
 * it. */
static par_status copy_edge(const par_backend *backend, size_t nbytes, bool front, bool upload,
                            unsigned char *staging) {
    size_t n = (nbytes < EDGE ? nbytes : EDGE) + GUARD;
    unsigned char *device = kept.block + (front ? 0 : GUARD + nbytes + GUARD - n);
    PAR_TRY(upload ? backend->copy(NULL, device, staging, n)
                   : backend->copy(NULL, staging, device, n));
    return backend->sync(NULL);
}

static par_status run(call *c, par_op op, size_t nbytes, bool *intact) {
    static unsigned char front[EDGE + GUARD], back[EDGE + GUARD];
    size_t n = nbytes < EDGE ? nbytes : EDGE;
    memset(front, GUARD_BYTE, GUARD);
    memset(front + GUARD, 0xff, n);
    memset(back, 0xff, n);
    memset(back + n, GUARD_BYTE, GUARD);
    PAR_TRY(copy_edge(c->backend, nbytes, true, true, front));
    PAR_TRY(copy_edge(c->backend, nbytes, false, true, back));
    PAR_TRY(par_op_run_untyped(c->backend, op, NULL, &c->args, sizeof c->args,
                               nbytes ? kept.block + GUARD : NULL));
    PAR_TRY(copy_edge(c->backend, nbytes, true, false, front));
    PAR_TRY(copy_edge(c->backend, nbytes, false, false, back));
    if (!all(front, GUARD) || !all(back + n, GUARD)) *intact = false;
    return PAR_OK;
}

par_status device_call(const par_backend *backend, par_op op, const void *args, device_find *find,
                       void *user, bool *intact) {
    call c = {.backend = backend};
    size_t nbytes = 0;
    *intact = true;
    memcpy(&c.args, args, par_op_args_nbytes(op));
    PAR_TRY(par_op_prepare_untyped(backend, op, args, par_op_args_nbytes(op), &nbytes));
    list(&c, op);
    for (int i = 0; i < c.n; i++)
        if (c.operands[i].nbytes > 0) place(&c, &c.operands[i], find, user);
    par_status st = reserve(backend, nbytes + 2 * GUARD);
    for (int i = 0; i < c.n_regions && st == PAR_OK; i++) st = upload(&c, &c.regions[i]);
    for (int i = 0; i < c.n; i++) {
        const operand *o = &c.operands[i];
        const region *r = &c.regions[o->region];
        *o->pointer = o->nbytes > 0 ? r->device + lead(r) + (o->host - r->begin) : kept.block;
    }
    if (st == PAR_OK) st = run(&c, op, nbytes, intact);
    for (int i = 0; i < c.n_regions && st == PAR_OK; i++) st = download(&c, &c.regions[i], intact);
    release(&c);
    return st;
}
