/* In place of attention_cudnn.c where cuDNN's kernels cannot run: nothing is usable. */
#include "kernels/cuda/attention.h"

bool par__cudnn_attention_present(void) {
    return false;
}

par_status par__cudnn_attention_init(const par_device_params *params) {
    (void)params;
    return PAR_OK;
}

par_status par__cudnn_attention_prepare(const par_attention *a, bool backward, bool *usable,
                                        size_t *workspace_nbytes) {
    (void)a;
    (void)backward;
    *usable = false;
    *workspace_nbytes = 0;
    return PAR_OK;
}

par_status par__cudnn_attention_run(par_stream *stream, const par_attention *a, bool backward,
                                    void *workspace, bool *usable) {
    (void)stream;
    (void)a;
    (void)backward;
    (void)workspace;
    *usable = false;
    return PAR_OK;
}
