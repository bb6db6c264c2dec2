/*
 * MFU, the share of the devices' peak that a training's products would need: tokens per second x
 * FLOP per token / (ranks x peak), after Chowdhery et al. 2022, appendix B. FLOP per token are
 * those of par_transformer_flops_per_token: forward and backward, without what recomputing adds and
 * without a discount for causal attention. The peak is that of dense products, from data sheets.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "observe.h"

/*
 * TFLOP/s of dense products, by a GPU's name: of bf16 and fp16 accumulating in fp32, and of fp32
 * without tensor cores. TF32 has half of the 16-bit rate on all of these. NVIDIA's data sheets
 * print tensor cores with 2:4 sparsity; these are halves of that. A GPU that is not here has no
 * known peak.
 */
static const struct {
    const char *name;
    double half, fp32;
} peaks[] = {
    /* H100 Tensor Core GPU, data sheet and architecture white paper (table 1); H200 data sheet */
    {"H100", 989.4, 66.9},
    {"H100 PCIe", 756, 51},
    {"H100 NVL", 835, 60},
    {"H200", 989.4, 66.9},
    /* HGX B200 data sheet: 4.5 PFLOP/s with sparsity, 75 TFLOP/s */
    {"B200", 2250, 75},
    /* A100, A10 and A40 data sheets; RTX A6000's: 309.7 with sparsity */
    {"A100", 312, 19.5},
    {"A10", 125, 31.2},
    {"A40", 149.7, 37.4},
    {"RTX A6000", 154.8, 38.7},
    /* L40S, L40 and L4 data sheets */
    {"L40S", 362, 91.6},
    {"L40", 181, 90.5},
    {"L4", 121, 30.3},
    /* GeForce: white papers of the Ada and the GA102 architecture */
    {"GeForce RTX 4090", 165.2, 82.6},
    {"GeForce RTX 3090", 71, 35.6},
};

/* Whether a device's description has a name, whole: "A100" is in "NVIDIA A100-SXM4-80GB" and in
 * "NVIDIA A100 80GB PCIe", "L40" not in "L40S", "RTX 4090" not in "RTX 4090 Laptop GPU"; nor
 * "A100" in "GRID A100-10C", a slice. */
static bool has_name(const char *device, const char *name) {
    const char *at = strstr(device, name), *behind = at ? at + strlen(name) : NULL;
    if (!at || (at > device && at[-1] != ' ')) return false;
    unsigned char next = *behind ? (unsigned char)behind[1] : 0;
    return !*behind || *behind == ',' || (*behind == '-' && isalpha(next)) ||
           (*behind == ' ' && isdigit(next));
}

/* The row of this run's device; -1: none. Ranks that share a GPU have no peak of their own, nor has
 * a slice of one. */
static int find_device(const llm_run *r) {
    const par_backend *backend = NULL;
    if (r->set.device != LLM_CUDA || r->set.allow_shared_gpu) return -1;
    if (par_backend_get(r->params.backend, &backend) != PAR_OK) return -1;
    const char *device = par_backend_device(backend);
    for (int i = 0; i < (int)(sizeof peaks / sizeof *peaks) && !strstr(device, " MIG "); i++)
        if (has_name(device, peaks[i].name)) return i;
    return -1;
}

double llm_mfu_peak(const llm_run *r) {
    if (r->set.peak_tflops > 0) return 1e12 * r->set.peak_tflops;
    int i = find_device(r);
    if (i < 0) return 0;
    return 1e12 * (r->params.dtype != PAR_F32 ? peaks[i].half
                   : r->set.tf32              ? peaks[i].half / 2
                                              : peaks[i].fp32);
}

double llm_mfu(const llm_run *r, int ranks, double tokens_per_s) {
    double peak = llm_mfu_peak(r), flops = par_transformer_flops_per_token(&r->config);
    return peak > 0 ? tokens_per_s * flops / ((double)ranks * peak) : -1;
}

void llm_mfu_report(const llm_run *r) {
    static const char prefixes[] = " kMGTP";
    double peak = llm_mfu_peak(r), flops = par_transformer_flops_per_token(&r->config);
    int i = r->set.peak_tflops > 0 ? -1 : find_device(r), p = 0;
    for (; flops >= 1000 && prefixes[p + 1]; p++) flops /= 1000; /* 1.23e9 as "1.23 GFLOP" */
    printf("mfu: %.4g %.*sFLOP per token = 6 per weight of products + 12 L H D T of attention; ",
           flops, p > 0, prefixes + p);
    if (peak <= 0)
        printf("n/a, as the peak of this device is not known (--peak-tflops)\n");
    else
        printf("peak %g TFLOP/s per rank (%s)\n", 1e-12 * peak,
               i < 0 ? "--peak-tflops" : peaks[i].name);
}
