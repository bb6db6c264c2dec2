/* The table of the reference backend: complete, so that other backends start from it. */
#include "kernels/ref/ref.h"

par_status par__ref_no_workspace(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

void par__ref_init(par_backend *backend) {
    static const par_kernel kernels[PAR_OP_COUNT] = {
        [PAR_OP_GEMM] = {"gemm/ref", par__ref_no_workspace, par__ref_gemm},
        [PAR_OP_COLUMN_SUM] = {"column_sum/ref", par__ref_no_workspace, par__ref_column_sum},
        [PAR_OP_LAYERNORM] = {"layernorm/ref", par__ref_no_workspace, par__ref_layernorm},
        [PAR_OP_LAYERNORM_BACKWARD] = {"layernorm_backward/ref", par__ref_no_workspace,
                                       par__ref_layernorm_backward},
        [PAR_OP_RMSNORM] = {"rmsnorm/ref", par__ref_no_workspace, par__ref_rmsnorm},
        [PAR_OP_RMSNORM_BACKWARD] = {"rmsnorm_backward/ref", par__ref_no_workspace,
                                     par__ref_rmsnorm_backward},
        [PAR_OP_ROPE] = {"rope/ref", par__ref_no_workspace, par__ref_rope},
        [PAR_OP_ATTENTION] = {"attention/ref", par__ref_attention_prepare, par__ref_attention},
        [PAR_OP_ATTENTION_BACKWARD] = {"attention_backward/ref",
                                       par__ref_attention_backward_prepare,
                                       par__ref_attention_backward},
        [PAR_OP_GELU] = {"gelu/ref", par__ref_no_workspace, par__ref_gelu},
        [PAR_OP_GELU_BACKWARD] = {"gelu_backward/ref", par__ref_no_workspace,
                                  par__ref_gelu_backward},
        [PAR_OP_SWIGLU] = {"swiglu/ref", par__ref_no_workspace, par__ref_swiglu},
        [PAR_OP_SWIGLU_BACKWARD] = {"swiglu_backward/ref", par__ref_no_workspace,
                                    par__ref_swiglu_backward},
        [PAR_OP_EMBEDDING] = {"embedding/ref", par__ref_no_workspace, par__ref_embedding},
        [PAR_OP_EMBEDDING_BACKWARD] = {"embedding_backward/ref",
                                       par__ref_embedding_backward_prepare,
                                       par__ref_embedding_backward},
        [PAR_OP_XENT_STATS] = {"xent_stats/ref", par__ref_no_workspace, par__ref_xent_stats},
        [PAR_OP_XENT_LOSS] = {"xent_loss/ref", par__ref_no_workspace, par__ref_xent_loss},
        [PAR_OP_XENT_BACKWARD] = {"xent_backward/ref", par__ref_no_workspace,
                                  par__ref_xent_backward},
        [PAR_OP_RESIDUAL] = {"residual/ref", par__ref_no_workspace, par__ref_residual},
        [PAR_OP_ADAMW] = {"adamw/ref", par__ref_no_workspace, par__ref_adamw},
        [PAR_OP_SGD] = {"sgd/ref", par__ref_no_workspace, par__ref_sgd},
        [PAR_OP_NORM2] = {"norm2/ref", par__ref_no_workspace, par__ref_norm2},
        [PAR_OP_CAST] = {"cast/ref", par__ref_no_workspace, par__ref_cast},
        [PAR_OP_ATTENTION_DECODE] = {"attention_decode/ref", par__ref_attention_decode_prepare,
                                     par__ref_attention_decode},
        [PAR_OP_BALLOT] = {"ballot/ref", par__ref_no_workspace, par__ref_ballot},
        [PAR_OP_VOTE] = {"vote/ref", par__ref_no_workspace, par__ref_vote},
    };
    for (int op = 0; op < PAR_OP_COUNT; op++) backend->kernels[op] = kernels[op];
}
