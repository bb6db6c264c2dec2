/* The table of the reference backend: complete, so that other backends start from it. */
#include "kernels/ref/ref.h"

par_status par__ref_no_workspace(const void *args, size_t *workspace_nbytes) {
    *workspace_nbytes = 0;
    return PAR_OK;
}

/* The table's functions take any arguments, those of the operations their own. */
#define RUN(OP, name, type)                                                                        \
    static par_status run_##name(par_stream *stream, const void *args, void *workspace) {          \
        return par__ref_##name(stream, args, workspace);                                           \
    }
PAR_OP_LIST(RUN)
#undef RUN

void par__ref_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
#define ROW(OP, name, type)                                                                        \
    k[PAR_OP_##OP] = (par_kernel){#name "/ref", par__ref_no_workspace, run_##name};
    PAR_OP_LIST(ROW)
#undef ROW
    k[PAR_OP_ATTENTION].prepare = par__ref_attention_prepare;
    k[PAR_OP_ATTENTION_BACKWARD].prepare = par__ref_attention_backward_prepare;
    k[PAR_OP_ATTENTION_DECODE].prepare = par__ref_attention_decode_prepare;
    k[PAR_OP_EMBEDDING_BACKWARD].prepare = par__ref_embedding_backward_prepare;
}
