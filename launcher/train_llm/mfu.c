/*
 * MFU, the share of the devices' peak that a training's products would need: tokens per second x
 * FLOP per token / (ranks x peak), after Chowdhery et al. 2022, appendix B. FLOP per token are those
 * of par_transformer_flops_per_token: forward and backward, without what recomputing adds and
 * without a discount for causal attention. The peak is that of dense products, from data sheets.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

/* TFLOP/s of dense products; a name that holds another one stands before it. */
static const struct {
    const char *device;
    double half, tf32, fp32; /* bf16 and fp16; fp32 with and without --tf32 */
} peaks[] = {
    {"H100 PCIe", 756, 378, 51},      {"H100 NVL", 835, 417, 60},   {"H100", 989.4, 494.7, 66.9},
    {"H200", 989.4, 494.7, 66.9},     {"H800", 989.4, 494.7, 66.9}, {"GH200", 989.4, 494.7, 66.9},
    {"B200", 2250, 1125, 75},         {"A100", 312, 156, 19.5},     {"A800", 312, 156, 19.5},
    {"L40S", 362, 183, 91.6},         {"L40", 181, 90.5, 90.5},     {"L4", 121, 60, 30.3},
    {"RTX A6000", 154.8, 77.4, 38.7}, {"A10", 125, 62.5, 31.2},     {"RTX 4090", 165.2, 82.6, 82.6},
    {"RTX 3090", 71, 35.6, 35.6},
};

/* The row of this run's device; -1: none. Ranks that share a GPU have no peak of their own. */
static int find_device(const llm_run *r) {
    const par_backend *backend = NULL;
    if (r->set.device != LLM_CUDA || r->set.allow_shared_gpu) return -1;
    if (par_backend_get(r->params.backend, &backend) != PAR_OK) return -1;
    for (int i = 0; i < (int)(sizeof peaks / sizeof *peaks); i++)
        if (strstr(par_backend_device(backend), peaks[i].device)) return i;
    return -1;
}

double llm_mfu_peak(const llm_run *r) {
    if (r->set.peak_tflops > 0) return 1e12 * r->set.peak_tflops;
    int i = find_device(r);
    if (i < 0) return 0;
    return 1e12 * (r->params.dtype != PAR_F32 ? peaks[i].half
                   : r->set.tf32              ? peaks[i].tf32
                                              : peaks[i].fp32);
}

double llm_mfu(const llm_run *r, int ranks, double tokens_per_s) {
    double peak = llm_mfu_peak(r), flops = par_transformer_flops_per_token(&r->config);
    return peak > 0 ? tokens_per_s * flops / ((double)ranks * peak) : -1;
}

/* 1.23e9 as "1.23 GFLOP". */
static const char *flop_text(double flops, char *text, size_t nbytes) {
    static const char prefixes[] = " kMGTP";
    int i = 0;
    for (; flops >= 1000 && prefixes[i + 1]; i++) flops /= 1000;
    snprintf(text, nbytes, "%.4g %.*sFLOP", flops, i > 0, prefixes + i);
    return text;
}

void llm_mfu_report(const llm_run *r) {
    char flops[32];
    double peak = llm_mfu_peak(r);
    int i = r->set.peak_tflops > 0 ? -1 : find_device(r);
    flop_text(par_transformer_flops_per_token(&r->config), flops, sizeof flops);
    printf("mfu: %s per token = 6 per weight of products + 12 L H D T of attention; ", flops);
    if (peak <= 0)
        printf("n/a, as the peak of this device is not known (--peak-tflops)\n");
    else
        printf("peak %g TFLOP/s per rank (%s)\n", 1e-12 * peak,
               i < 0 ? "--peak-tflops" : peaks[i].device);
}
