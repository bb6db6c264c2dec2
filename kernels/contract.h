/*
 * The fingerprint of what libpar and a module built apart from it hand each other as memory: sizes,
 * and names, offsets and sizes of all fields, of the backend's table and of the arguments of every
 * operation (libpar/module/module.h and collectives/nccl/nccl.h add what they hand over), as the
 * compiler sees them on either side. A module is used only if both sides have the same one, so
 * nobody has to remember to count a version up.
 *
 * It does not see the values of enumerations (but for par_op), nor what a comment says.
 */
#ifndef PAR__CONTRACT_H
#define PAR__CONTRACT_H

#include <stddef.h>
#include <stdint.h>

#include "libpar/base/hash.h"
#include "par/kernels.h"

/* All fields of a struct, in order; A: an array. The compiler refuses a list that lacks one. The
 * formatter has no form for these lists that it leaves alone. */
/* clang-format off */
#define PAR__FIELDS_par_gemm(F, A) \
    F(dtype) F(dtype_c) F(ta) F(tb) F(m) F(n) F(k) F(a) F(lda) F(b) F(ldb) F(c) F(ldc) F(bias) \
    F(beta) F(epilogue) F(aux)
#define PAR__FIELDS_par_column_sum(F, A) \
    F(dtype) F(m) F(n) F(x) F(ldx) F(y) F(beta)
#define PAR__FIELDS_par_dropout(F, A) F(p) F(seed) F(sample_base) F(first_sample) F(site)
#define PAR__FIELDS_par_residual(F, A) \
    F(dtype) F(m) F(n) F(T) F(first_row) F(x) F(bias) F(residual) F(y) F(dropout)
#define PAR__FIELDS_par_norm(F, A) \
    F(dtype) F(m) F(n) F(eps) F(x) F(w) F(b) F(y) F(mean) F(rstd) F(residual) F(dy) F(add) F(dx) \
    F(dw) F(db) F(beta)
#define PAR__FIELDS_par_rope(F, A) \
    F(dtype) F(m) F(heads) F(head_size) F(T) F(first_row) F(x) F(ldx) F(cos) F(sin) F(inverse)
#define PAR__FIELDS_par_attention(F, A) \
    F(dtype) F(B) F(T) F(H) F(K) F(D) F(first_head) F(scale) F(apart) F(documents) F(q) F(k) F(v) \
    F(ldq) F(ldk) F(ldv) F(o) F(ldo) F(lse) F(d_o) F(ldd_o) F(dq) F(dk) F(dv) F(lddq) F(lddk) \
    F(lddv) F(dropout)
#define PAR__FIELDS_par_attention_decode(F, A) \
    F(dtype) F(B) F(H) F(K) F(D) F(capacity) F(n) F(scale) F(q) F(k) F(v) F(ldq) F(o) F(ldo)
#define PAR__FIELDS_par_quantize(F, A) F(dtype) F(m) F(n) F(x) F(ldx) F(q) F(scales)
#define PAR__FIELDS_par_gemm_int8(F, A) \
    F(dtype) F(dtype_c) F(m) F(n) F(k) F(a) F(lda) F(q) F(scales) F(c) F(ldc) F(bias)
#define PAR__FIELDS_par_gelu(F, A) \
    F(dtype) F(n) F(erf) F(x) F(y) F(dy) F(dx)
#define PAR__FIELDS_par_swiglu(F, A) \
    F(dtype) F(m) F(n) F(x) F(y) F(dy) F(dx)
#define PAR__FIELDS_par_embedding(F, A) \
    F(dtype) F(m) F(n) F(rows) F(begin) F(ids) F(first_row) F(T) F(table) F(y) F(accumulate) \
    F(dy) F(dtable) F(beta)
#define PAR__FIELDS_par_xent(F, A) \
    F(dtype) F(m) F(n) F(valid) F(begin) F(logits) F(ldx) F(targets) F(p) F(stats) F(lse) F(sums) \
    F(accumulate) F(seed)
#define PAR__FIELDS_par_update(F, A) \
    F(dtype) F(n) F(master) F(weights) F(grad) F(m) F(v) F(step) F(eps) F(decay) F(b1) F(b2)
#define PAR__FIELDS_par_norm2_vector(F, A) F(n) F(x) F(out)
#define PAR__FIELDS_par_norm2(F, A) F(n_vectors) F(vectors)
#define PAR__FIELDS_par_cast(F, A) \
    F(dtype_x) F(dtype_y) F(n) F(scale) F(x) F(y)
#define PAR__FIELDS_par_tally(F, A) F(n_norms) F(n_losses) F(norms) F(losses) F(ballot)
#define PAR__FIELDS_par_vote_call(F, A) F(n) F(ballots) F(rules) F(state)

/* par/vote.h */
#define PAR__FIELDS_par_step(F, A) \
    F(first_sample) F(t) F(correction1) F(correction2) F(loss_seed) F(lr) F(grad_scale) F(skip)
#define PAR__FIELDS_par_ballot(F, A) \
    F(norm2) F(loss_sum) F(n_targets) F(n_nonfinite) F(busy) F(total) F(lr) F(first_bad) \
    F(n_first_bad) F(status) F(stop)
#define PAR__FIELDS_par_scaler_params(F, A) \
    F(constant) F(init) F(growth) F(backoff) F(min) F(max) F(interval) F(hysteresis) F(max_skips)
#define PAR__FIELDS_par_scaler(F, A) F(scale) F(clean) F(hysteresis) F(floor_skips) F(skipped)
#define PAR__FIELDS_par_vote_rules(F, A) \
    F(scaler) F(nonfinite) F(clip) F(unit) F(beta1) F(beta2) F(batch)
#define PAR__FIELDS_par_outcome(F, A) \
    F(loss) F(n_targets) F(grad_norm) F(n_nonfinite) F(loss_scale) F(gradient_scale) F(bubble) \
    F(bad_rank) F(first_bad) F(n_first_bad) F(status) F(stop) F(skipped) F(floor) F(reserved)
#define PAR__FIELDS_par_vote_state(F, A) \
    F(step) F(scaler) F(power1) F(power2) F(updates) F(halted) F(reserved) F(outcome)

/* the backend */
#define PAR__FIELDS_par_stream(F, A) F(progress) F(user) F(timeline)
#define PAR__FIELDS_par_allocator(F, A) F(alloc) F(release)
#define PAR__FIELDS_par_kernel(F, A) F(name) F(prepare) F(run)
#define PAR__FIELDS_par_method(F, A) F(work) F(what) F(slower)
#define PAR__FIELDS_par_backend(F, A) \
    F(name) A(kernels) F(on_host) F(memory) F(host_memory) F(stream_create) F(stream_destroy) \
    F(event_create) F(event_destroy) F(copy) F(zero) F(event_record) F(wait) F(event_query) F(sync)\
    F(timed_event_create) F(elapsed) F(capture_begin) F(capture_end) F(graph_launch) \
    F(graph_destroy) F(choices) F(choose) F(range_begin) F(range_end) F(device) F(method) \
    F(memory_used) F(nccl)
#define PAR__FIELDS_par_device_params(F, A) \
    F(local_rank) F(local_size) F(device) F(shared) F(tune) F(tf32) F(attention_workspace_nbytes) \
    F(nondeterministic_attention) F(plan_cache) F(plan_only)
/* clang-format on */

/* What is handed over beside the arguments of PAR_OP_LIST. */
#define PAR__CONTRACT_LIST(X)                                                                      \
    X(par_dropout)                                                                                 \
    X(par_norm2_vector)                                                                            \
    X(par_step)                                                                                    \
    X(par_ballot)                                                                                  \
    X(par_scaler_params)                                                                           \
    X(par_scaler)                                                                                  \
    X(par_vote_rules)                                                                              \
    X(par_outcome)                                                                                 \
    X(par_vote_state)                                                                              \
    X(par_stream)                                                                                  \
    X(par_allocator)                                                                               \
    X(par_kernel)                                                                                  \
    X(par_method)                                                                                  \
    X(par_backend)                                                                                 \
    X(par_device_params)

typedef struct {
    const char *name;
    size_t offset, nbytes;
    int kind; /* fp32 and fp64 are told from other fields of their size */
} par__contract_field;

#define PAR__CONTRACT_FIELD(field)                                                                 \
    {#field, offsetof(T, field), sizeof(((const T *)0)->field),                                    \
     _Generic(((const T *)0)->field, float : 1, double : 2, default : 0)},
#define PAR__CONTRACT_COPY(field)       ((const T *)0)->field,
#define PAR__CONTRACT_COPY_ARRAY(field) {((const T *)0)->field[0]},

static inline uint64_t par__contract_number(uint64_t hash, size_t number) {
    return par__fnv64(hash, &number, sizeof number);
}

static inline uint64_t par__contract_name(uint64_t hash, const char *name) {
    size_t n = 0;
    while (name[n]) n++;
    return par__fnv64(hash, name, n + 1);
}

static inline uint64_t par__contract_struct(uint64_t hash, const char *name, size_t nbytes,
                                            const par__contract_field *fields, size_t n_fields) {
    hash = par__contract_number(par__contract_name(hash, name), nbytes);
    for (size_t i = 0; i < n_fields; i++) {
        hash = par__contract_name(hash, fields[i].name);
        hash = par__contract_number(hash, fields[i].offset);
        hash = par__contract_number(hash, fields[i].nbytes);
        hash = par__contract_number(hash, (size_t)fields[i].kind);
    }
    return hash;
}

/* Adds a struct to `hash`. A copy whose fields are given one after the other has as many as the
 * list, or does not compile. */
#define PAR__CONTRACT_STRUCT(type)                                                                 \
    {                                                                                              \
        typedef type T;                                                                            \
        static const par__contract_field fields[] = {                                              \
            PAR__FIELDS_##type(PAR__CONTRACT_FIELD, PAR__CONTRACT_FIELD)};                         \
        _Static_assert(                                                                            \
            sizeof((T){PAR__FIELDS_##type(PAR__CONTRACT_COPY, PAR__CONTRACT_COPY_ARRAY)}) > 0,     \
            "a copy");                                                                             \
        hash =                                                                                     \
            par__contract_struct(hash, #type, sizeof(T), fields, sizeof fields / sizeof *fields);  \
    }
#define PAR__CONTRACT_OP(OP, name, type)                                                           \
    hash = par__contract_number(par__contract_name(hash, #name), PAR_OP_##OP);                     \
    PAR__CONTRACT_STRUCT(type)

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wmissing-field-initializers"
static inline uint64_t par__contract(void) {
    uint64_t hash = PAR__FNV64;
    PAR_OP_LIST(PAR__CONTRACT_OP)
    PAR__CONTRACT_LIST(PAR__CONTRACT_STRUCT)
    return hash;
}
#pragma GCC diagnostic pop

#endif
