/* All topics of one rung, over a table that the reference has filled. */
#include "kernels/cpu/cpu.h"

void par__cpu_rung(par_backend *backend) {
    par__cpu_activation(backend);
    par__cpu_attention(backend);
    par__cpu_attention_decode(backend);
    par__cpu_column_sum(backend);
    par__cpu_embedding(backend);
    par__cpu_gemm(backend);
    par__cpu_gemm_bf16(backend);
    par__cpu_gemm_int8(backend);
    par__cpu_norm(backend);
    par__cpu_quantize(backend);
    par__cpu_residual(backend);
    par__cpu_rope(backend);
    par__cpu_update(backend);
    par__cpu_xent(backend);
}
