/*
 * Layers inside the transformer's modules: where a module stands on the mesh
 * (par__module_place), norm, linear, and a branch, which is one residual block:
 * x + dropout(out(f(in(norm(x))))).
 *
 * Rows are tokens: N = B · T of a micro-batch, row = sample · T + token. With sequence parallel tp
 * rank r holds rows [r · N/p, (r + 1) · N/p) of everything between branches ("own rows"), else all
 * of them. Between the two linear layers of a branch all N rows are present and the channels are
 * split over tp. Stash and scratch are blocks of bytes; offsets into them are fixed in build.
 */
#ifndef PAR__LAYERS_H
#define PAR__LAYERS_H

#include "par/model.h"
#include "par/transformer.h"

/* Where a module stands: its part of the mesh, its rows, and offsets of the scratch areas that its
 * layers share. */
typedef struct {
    const par_backend *backend;
    par_comm *tp; /* NULL when p = 1 */
    int p, r;     /* tp ranks, this one */
    bool sequence_parallel, selective;
    bool apart; /* documents */
    int pieces; /* in which a branch's rows travel in forward; 1 where p = 1 */
    par_dtype dtype;
    int64_t B, T, N;
    int64_t rows, first_row; /* own rows */
    int64_t C;
    uint64_t seed; /* of dropout */
    int16_t layer, chunk;
    size_t full[2];                     /* two areas [N, C] in scratch */
    size_t scratch_nbytes;              /* reserved so far */
    size_t workspace, workspace_nbytes; /* of kernels, behind the areas */
} par__module_place;

/* What the model was made of; NULL: it is no transformer. */
const par_transformer_config *par__transformer_config(const par_model *model);
void par__module_place_init(par__module_place *place, const par_module *module,
                            const par_build *build, const par_transformer_config *config);
/* Offset of nbytes behind what `used` counts, 64-byte aligned. */
size_t par__reserve(size_t *used, size_t nbytes);
/* The same in the stash, under a name for the ledger; one name's are one there. */
size_t par__keep(par_build *build, const char *name, size_t nbytes);
/* Fix the workspace behind the areas, and answer build->scratch_nbytes if no place of this build
 * had more. After all layers are built. */
void par__module_place_finish(par__module_place *place, par_build *build);
/* The place of `trained` for decoding: the rows are T tokens of B sequences, all on every tp rank,
 * and norm and activation outputs lie in scratch, as with selective recompute. T is 1, or B is 1
 * for a prompt. */
void par__module_place_init_decode(par__module_place *place, const par__module_place *trained,
                                   int64_t B, int64_t T);
size_t par__module_place_nbytes(const par__module_place *place,
                                int64_t n); /* of n elements of the place's dtype */
/* par__gemm_prepare(place, build, &gemm): in build, the workspace counts in the place's.
 * par__gemm_run(place, call, &gemm): with that workspace. The same for every operation. */
#define PAR__PLACE_CALLS(OP, name, type)                                                           \
    static inline par_status par__##name##_prepare(par__module_place *place, par_build *build,     \
                                                   const type *args) {                             \
        return par_build_prepare_##name(build, args, &place->workspace_nbytes);                    \
    }                                                                                              \
    static inline par_status par__##name##_run(const par__module_place *place,                     \
                                               const par_call *call, const type *args) {           \
        return par_##name##_run(place->backend, call->stream, args,                                \
                                (char *)call->scratch + place->workspace);                         \
    }
PAR_OP_LIST(PAR__PLACE_CALLS)
#undef PAR__PLACE_CALLS

void *par__full(const par__module_place *place, const par_call *call,
                int which);                                      /* scratch area [N, C] */
void *par__own_rows(const par__module_place *place, void *full); /* of an area [N, C] */
par_tag par__tag(const par__module_place *place, const par_call *call, const char *purpose);
/* Of n rows, the first one of piece i; n for i = pieces. Pieces differ by one row at most. */
static inline int64_t par__piece_begin(const par__module_place *place, int64_t n, int i) {
    return n * i / place->pieces;
}
/* full [N, C] = own rows of all ranks; `own` may be par__own_rows(full). Only with sequence
 * parallel. work: as of a comm's operations. */
par_status par__gather_rows(const par__module_place *place, const par_call *call,
                            const char *purpose, const void *own, void *full, par_work *work);
/* Sum full [N, C] over tp in place: complete are the own rows with sequence parallel, else all.
 * work: as of a comm's operations; stays as it is without tp. */
par_status par__reduce_rows(const par__module_place *place, const par_call *call,
                            const char *purpose, void *full, par_work *work);
/* y = x or its dropout, own rows: forward on a branch, and the backward of it. Nothing to do if p =
 * 0 or not training: then *y is x, else it is `out`. */
par_status par__dropout(const par__module_place *place, const par_call *call, par_dropout dropout,
                        const void *x, void *out, const void **y);
par_dropout par__dropout_of(const par__module_place *place, const par_call *call, float p,
                            uint32_t site);

/* The share of one dimension on this rank, and how many copies of it there are. */
typedef struct {
    const char *name; /* of the parameter, between prefix and ".weight" */
    int64_t global, offset, extent, local;
    int16_t replica, n_replicas;
    par_comm *sum;
} par__share;

/* Part r of p equal ones of ceil(global / p); the last ones may be short or empty, and are padded
 * with zeros. */
par__share par__split(const char *name, int64_t global, int p, int r);
/* The same, with a local width that is a multiple. */
par__share par__split_padded(const char *name, int64_t global, int64_t multiple, int p, int r);
/* Of a rank's part of the vocabulary: rows of logits then begin at multiples of 16 bytes in every
 * type. */
enum { PAR__VOCAB_MULTIPLE = 8 };

/* A vector or table that every tp rank holds. Its gradients are partial with sequence parallel. */
par_status par__replicated(const par__module_place *place, par_build *build, const char *name,
                           int ndim, int64_t n0, int64_t n1, par_init init, double value,
                           par_param **out);

/* A vector [n] of `value` that every tp rank holds, and whose gradient is always partial over
 * tp. */
par_status par__partial(const par__module_place *place, par_build *build, const char *name,
                        int64_t n, double value, par_param **out);

/* A norm on own rows, whose output all rows of a product read: gathered with sequence parallel. */
typedef struct {
    par_param *w, *b;
    bool rms;
    float eps;
    const void *zero;     /* LayerNorm without bias: [C] zeros */
    size_t db;            /* its unused gradient in scratch */
    size_t h, mean, rstd; /* stash: own rows of the output (not with selective recompute), fp32
                             statistics [rows] (no mean for RMSNorm) */
} par__norm;

/* prefix: "layers.3.mlp.norm" */
par_status par__norm_build(par__norm *norm, par__module_place *place, par_build *build,
                           const par_transformer_config *config, const char *prefix);
/* The same norm on a place for decoding. `decode` begins as a copy of the trained one. */
par_status par__norm_build_decode(par__norm *decode, par__module_place *place, par_build *build);
/* Workspace of the forward with an addition before it. */
par_status par__norm_prepare_added(const par__norm *norm, par__module_place *place,
                                   par_build *build);
/* h [N, C] = norm(x), all rows, in the stash or in area `which` of scratch. sum: NULL, or what
 * makes x, in the same pass. */
par_status par__norm_forward(const par__norm *norm, const par__module_place *place,
                             const par_call *call, const par_residual *sum, const void *x,
                             int which, const void **h);
/* Own rows of the same h alone, not gathered: in the stash, or at the beginning of area `which`. */
par_status par__norm_forward_own(const par__norm *norm, const par__module_place *place,
                                 const par_call *call, const par_residual *sum, const void *x,
                                 int which, const void **h);
/* The same h for the backward. With sequence parallel it is gathered once `work` is waited for. */
par_status par__norm_again(const par__norm *norm, const par__module_place *place,
                           const par_call *call, const void *x, int which, const void **h,
                           par_work *work);
/* dx = the gradient through the norm + add, own rows. dh [N, C], whose own rows are summed over tp.
 * dx may be add. */
par_status par__norm_backward(const par__norm *norm, const par__module_place *place,
                              const par_call *call, const void *x, void *dh, const void *add,
                              void *dx);

/* RMSNorm of each head of x [N, heads, D], which lies without gaps. */
typedef struct {
    par_param *w; /* [D] */
    float eps;
    int64_t heads, D;
    size_t rstd; /* stash: fp32 [N · heads] */
} par__head_norm;

par_status par__head_norm_build(par__head_norm *norm, par__module_place *place, par_build *build,
                                const par_transformer_config *config, const char *name,
                                int64_t heads);
/* `decode` begins as a copy of the trained one. */
par_status par__head_norm_build_decode(par__head_norm *decode, par__module_place *place,
                                       par_build *build);
par_status par__head_norm_forward(const par__head_norm *norm, const par__module_place *place,
                                  const par_call *call, const void *x, void *y);
/* The heads of one token alone: x and y [heads, D]. Its statistics go where the first one's do. */
par_status par__head_norm_sequence(const par__head_norm *norm, const par__module_place *place,
                                   const par_call *call, const void *x, void *y);
/* The gradient of y becomes that of x in place; the weight's is added. */
par_status par__head_norm_backward(const par__head_norm *norm, const par__module_place *place,
                                   const par_call *call, const void *x, void *dy);

enum { PAR__MAX_PARTS = 3 };

/* y [m, out] = x [m, in] · Wᵀ + b. W is up to three logical tensors that lie adjacent, seen as one
 * matrix [out, in]. blocks: the outputs [m, local] of the tensors lie one behind the other instead
 * of side by side, and each is a product of its own. */
typedef struct {
    int n_parts;
    par_param *weights[PAR__MAX_PARTS], *biases[PAR__MAX_PARTS]; /* biases[0] NULL: none */
    int64_t in, out;                                             /* local */
    bool bias_gradient; /* the backend makes it with the weights' gradient */
    bool
        bias_apart; /* the input is split: the bias is added after the sum over tp, by the caller */
    bool blocks;
    par_dtype dtype_y;
    bool int8;        /* forward alone, with a copy of the weights: */
    size_t q, scales; /* stash: as PAR_OP_QUANTIZE makes them, all parts as one matrix */
} par__linear;

/* Output channels split over tp: `shares` of the rows. prefix: "layers.3.attention". */
par_status par__linear_build_output_split(par__linear *linear, par__module_place *place,
                                          par_build *build, const char *prefix,
                                          const par__share *shares, int n_parts, int64_t in,
                                          bool bias, bool blocks, double std);
/* Input channels split over tp. */
par_status par__linear_build_input_split(par__linear *linear, par__module_place *place,
                                         par_build *build, const char *prefix, const par__share *in,
                                         int64_t out, bool bias, double std);
/* Workspaces of the three products with m rows; with biases called once. */
par_status par__linear_prepare(par__linear *linear, par__module_place *place, par_build *build,
                               int64_t m);
/* Workspace of the forward alone. */
par_status par__linear_prepare_forward(const par__linear *linear, par__module_place *place,
                                       par_build *build, int64_t m);
par_status par__linear_forward(const par__linear *linear, const par__module_place *place,
                               const par_call *call, int64_t m, const void *x, void *y);
/* Rows [row, row + m) alone of y [N, out]; x [m, in]. */
par_status par__linear_forward_rows(const par__linear *linear, const par__module_place *place,
                                    const par_call *call, int64_t row, int64_t m, const void *x,
                                    void *y);
/* One of the adjacent tensors alone: y [m, local[0] of it], rows ldy apart. */
par_status par__linear_prepare_part(const par__linear *linear, par__module_place *place,
                                    par_build *build, int part, int64_t m, int64_t ldy);
par_status par__linear_forward_part(const par__linear *linear, const par__module_place *place,
                                    const par_call *call, int part, int64_t m, const void *x,
                                    void *y, int64_t ldy);
/* A forward product of the layer, as it is or with the copy of its weights; row: the first one of
 * the matrix. */
par_status par__linear_product_prepare(const par__linear *linear, par__module_place *place,
                                       par_build *build, const par_gemm *product);
par_status par__linear_product_run(const par__linear *linear, const par__module_place *place,
                                   const par_call *call, const par_gemm *product, int64_t row);
/* Room for a copy of the weights, if the build asks for one, of a layer that began as a copy of the
 * trained one; before its products are prepared. Then the copy, of the weights as they are. */
par_status par__linear_reserve_int8(par__linear *decode, par__module_place *place,
                                    par_build *build);
par_status par__linear_quantize(const par__linear *decode, const par__module_place *place,
                                const par_call *call);
par_status par__linear_backward_input(const par__linear *linear, const par__module_place *place,
                                      const par_call *call, int64_t m, const void *dy, void *dx);
/* With the activation function as the product's epilogue. *has: the backend has both; it is
 * prepared then. */
par_status par__linear_prepare_gelu(const par__linear *in, const par__linear *out,
                                    par__module_place *place, par_build *build, int64_t m,
                                    bool *has);
/* u = x · Wᵀ + b, a = gelu(u). */
par_status par__linear_forward_gelu(const par__linear *in, const par__module_place *place,
                                    const par_call *call, int64_t m, const void *x, void *u,
                                    void *a);
/* du = (dy · W) · dgelu(u). */
par_status par__linear_backward_gelu(const par__linear *out, const par__module_place *place,
                                     const par_call *call, int64_t m, const void *dy, void *u,
                                     void *du);
/* Weights and, unless bias_apart, biases. */
par_status par__linear_backward_weight(const par__linear *linear, const par__module_place *place,
                                       const par_call *call, int64_t m, const void *x,
                                       const void *dy);
/* Bias gradient from dy [m, out]. */
par_status par__linear_backward_bias(const par__linear *linear, const par__module_place *place,
                                     const par_call *call, int64_t m, const void *dy);

/* What attention and MLP share: the way in (norm, rows gathered) and the way out (sum over tp,
 * bias, dropout, residual). */
typedef struct {
    par__norm norm;
    par__linear in, out;
    float dropout;
    uint32_t site;
} par__branch;

/* After in and out are built: norm, stash, workspaces. prefix: "layers.3.mlp". */
par_status par__branch_build(par__branch *branch, par__module_place *place, par_build *build,
                             const par_transformer_config *config, const char *prefix,
                             uint32_t site);
/* The same branch on a place for decoding: its norm, forward workspaces of out and residual.
 * `decode` begins as a copy of the trained branch. */
par_status par__branch_build_decode(par__branch *decode, par__module_place *place,
                                    par_build *build);
/* Room for both layers' copies of the weights, before that; then the copies. */
par_status par__branch_reserve_int8(par__branch *decode, par__module_place *place,
                                    par_build *build);
par_status par__branch_quantize(const par__branch *decode, const par__module_place *place,
                                const par_call *call);
/* y [N, in.out] = in(norm(x)), all rows. sum: NULL, or what makes x. a: NULL, or where gelu(y) is
 * left by the product's epilogue. Uses area 0, in pieces both. */
par_status par__branch_input(const par__branch *branch, const par__module_place *place,
                             const par_call *call, const par_residual *sum, const void *x, void *y,
                             void *a);
/* Workspaces of both layers' forward products in pieces; nothing to do where rows travel whole.
 * fused: NULL, or whether gelu is the epilogue of the way in, with these sizes too: it becomes
 * false if not. */
par_status par__branch_prepare_pieces(const par__branch *branch, par__module_place *place,
                                      par_build *build, bool *fused);
/* The two ways in pieces: see pieces.c. own: own rows of the sum over tp. */
par_status par__branch_input_pieces(const par__branch *branch, const par__module_place *place,
                                    const par_call *call, const par_residual *sum, const void *x,
                                    void *y, void *a);
par_status par__branch_output_pieces(const par__branch *branch, const par__module_place *place,
                                     const par_call *call, const void *o, const void **own);
/* p [N, C] = out(o), summed over tp in area 0, in pieces also in area 1. What is left, y = x +
 * dropout(p + bias) on own rows, is answered in `sum`: an operation to run, or to give to the next
 * norm before these areas are used again. */
par_status par__branch_output(const par__branch *branch, const par__module_place *place,
                              const par_call *call, const void *o, const void *x, void *y,
                              par_residual *sum);
/* dp [N, C], all rows, from own rows dy; uses area 0. Takes the bias' gradient. */
par_status par__branch_output_backward(const par__branch *branch, const par__module_place *place,
                                       const par_call *call, const void *dy, const void **dp);
/* From dy of `in` [N, in.out]: weights of `in`, then dx = the gradient through the norm + add. Uses
 * both areas. */
par_status par__branch_input_backward(const par__branch *branch, const par__module_place *place,
                                      const par_call *call, const void *x, const void *dy,
                                      const void *add, void *dx);

typedef struct {
    par__branch branch;
    int64_t H, K, D, first_head; /* local heads */
    float dropout;               /* of probabilities */
    uint32_t site;
    const float *cos, *sin; /* NULL: no rotary embedding */
    bool rope;
    bool qk_norm;
    par__head_norm q_norm, k_norm;
    size_t qkv, o, lse; /* stash; qkv as the products leave it, turned in place without qk_norm */
    size_t qk;          /* with qk_norm: q and k normed and turned, in the stash, or in scratch with
                           selective recompute */
    size_t d_o, dqkv;   /* scratch */
} par__attention;

/* areas: scratch offset from which the attention may reserve; MLP and attention overlap there.
 * Answers its end. */
par_status par__attention_build(par__attention *attention, par__module_place *place,
                                par_build *build, const par_transformer_config *config, int layer,
                                size_t *areas);
/* y is made by `sum`, as par__branch_output answers it. */
par_status par__attention_forward(const par__attention *attention, const par__module_place *place,
                                  const par_call *call, const void *x, void *y, par_residual *sum);
/* dx may not be dy's rows unless `dy` is dx: the residual's gradient is added in place. */
par_status par__attention_backward(const par__attention *attention, const par__module_place *place,
                                   const par_call *call, const void *x, const void *dy, void *dx);

/* Attention with cached keys and values [B, capacity, K, D]: of one token per sequence over them,
 * or of the first tokens of one sequence, which are its prompt. */
typedef struct {
    par__attention attention;
    int64_t capacity;
    int64_t ld;          /* elements of the cache between adjacent rows of activations */
    bool joined;         /* q, k and v are one product */
    size_t keys, values; /* stash */
    size_t q, o;         /* scratch; behind q its k and v if they are joined */
    size_t raw;          /* scratch, with qk_norm: q or k before its norm */
    size_t lse;          /* scratch, of a prompt */
} par__attention_decode;

/* The cache and the copies of weights, in the stash. `trained` is built; only its parameters,
 * tables and sizes are used. */
par_status par__attention_reserve_cache(par__attention_decode *decode,
                                        const par__attention *trained, par__module_place *place,
                                        par_build *build, int64_t capacity);
/* On a place for decoding, of which several may share the cache. */
par_status par__attention_build_decode(par__attention_decode *decode, par__module_place *place,
                                       par_build *build);
/* The tokens at `position` of all sequences; y is made by `sum`. */
par_status par__attention_run_decode(const par__attention_decode *decode,
                                     const par__module_place *place, const par_call *call,
                                     int64_t position, const void *x, void *y, par_residual *sum);
/* The same for the first place->T tokens of a sequence. */
par_status par__attention_run_prompt(const par__attention_decode *decode,
                                     const par__module_place *place, const par_call *call,
                                     int64_t sequence, const void *x, void *y, par_residual *sum);

typedef struct {
    par__branch branch;
    int64_t F; /* local width with padding */
    bool swiglu, erf;
    bool fused;    /* GELU is an epilogue of the products around it */
    bool decodes;  /* on a place for decoding */
    size_t u, a;   /* stash: before and after the activation function (u in scratch for decoding, a
                      with selective recompute) */
    size_t da, du; /* scratch */
} par__mlp;

par_status par__mlp_build(par__mlp *mlp, par__module_place *place, par_build *build,
                          const par_transformer_config *config, int layer, size_t *areas);
/* sum: what makes x. */
par_status par__mlp_forward(const par__mlp *mlp, const par__module_place *place,
                            const par_call *call, const par_residual *sum, const void *x, void *y);
par_status par__mlp_backward(const par__mlp *mlp, const par__module_place *place,
                             const par_call *call, const void *x, const void *dy, void *dx);

/* The MLP on a place for decoding, where par__mlp_forward then runs. `decode` begins as a copy of
 * the trained one, with room for its copies of the weights. */
par_status par__mlp_build_decode(par__mlp *decode, par__module_place *place, par_build *build);

/* PAR_ERR_ARG unless 1 <= capacity <= T. */
par_status par__check_capacity(const par_transformer_config *config, int64_t capacity);

/* cos and sin fp32 [T, D/2] with Llama 3.1's scaling, on the host. */
void par__rope_tables(const par_transformer_config *config, float *cos_table, float *sin_table);

/* Modules; `config` outlives them. */
par_status par__embedding_create(const par_transformer_config *config, par_module **out);
par_status par__block_create(const par_transformer_config *config, par_module **out);
par_status par__head_create(const par_transformer_config *config, par_module **out);
/* embedding.token.weight as both ends of the model register it. second: the head's copy. */
par_status par__token_table(const par__module_place *place, par_build *build,
                            const par_transformer_config *config, bool second, par_param **out);
double par__init_std(const par_transformer_config *config);

#endif
