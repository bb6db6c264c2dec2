/*
 * For which shapes the cuDNN that is loaded has plans, where attention/rules.c lets it be asked: a
 * row of a table, for a described device, without a GPU (see plans.c). scripts/cudnn-offers runs it
 * with one version after the other. cuDNN takes a described device from 9.8 on.
 *
 *     cudnn-offers SM       900, 1000, 800
 *
 * Exits with 1 where the rules let through what cuDNN has no plan for: there the run would find out
 * for itself, but the rule is then not the whole truth.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/attention/rules.h"
#include "tests/cuda/h200.h"

int cuInit(void); /* the stand-in's; that it is called makes the linker keep the library */

static int n_untrue;

/* The described H200, as a device of another compute capability. */
static par_status describe(int sm, cudnnBackendDescriptor_t *out) {
    static const char key[] = "\"deviceVer\":";
    char json[sizeof h200 + 8];
    const char *at = strstr(h200, key);
    snprintf(json, sizeof json, "%.*s%s%d%s", (int)(at - h200), h200, key, sm,
             at + sizeof key - 1 + 3);
    return par__fused_device_create(json, out);
}

static par_attention shape_of(int64_t T, int64_t H, int64_t K, int64_t D) {
    int64_t ld = (H + 2 * K) * D;
    par_attention a = {
        .dtype = PAR_BF16, .B = 2, .T = T, .H = H, .K = K, .D = D, .ldq = ld, .ldk = ld};
    a.ldv = a.lddq = a.lddk = a.lddv = ld;
    a.ldo = a.ldd_o = H * D;
    return a;
}

static bool has_plan(const par__fused_target *target, const par_attention *a,
                     par__fused_kind kind) {
    par__fused_shape shape = par__fused_shape_of(a, kind);
    par__fused_plan plan = {0};
    bool has = par__fused_plan_create(target, &shape, &plan) == PAR_OK && plan.descriptor;
    par__fused_plan_destroy(&plan);
    return has;
}

/* Whether cuDNN computes a length, with and without grouped queries. */
static bool computes(const par__fused_target *target, par__fused_kind kind, int major, int64_t T,
                     int64_t D) {
    bool all = true;
    for (int64_t K = 2; K <= 4; K += 2) {
        par_attention a = shape_of(T, 4, K, D);
        if (par__fused_refuses(&a, kind, cudnnGetVersion(), major).why) return false;
        if (has_plan(target, &a, kind)) continue;
        printf(" [no plan: kind %d T %d K %d D %d]", (int)kind, (int)T, (int)K, (int)D);
        n_untrue++;
        all = false;
    }
    return all;
}

static const char *cell(const par__fused_target *target, par__fused_kind kind, int major,
                        int64_t D) {
    bool whole = computes(target, kind, major, 256, D), odd = computes(target, kind, major, 192, D);
    return odd && whole ? "any T" : whole ? "128 n" : "own";
}

int main(int argc, char **argv) {
    static const par__fused_kind kinds[] = {PAR__FUSED_FORWARD, PAR__FUSED_BACKWARD,
                                            PAR__FUSED_BACKWARD_DETERMINISTIC};
    par__fused_target target = {.name = "described"};
    int sm = argc > 1 ? atoi(argv[1]) : 900;
    size_t version = cudnnGetVersion();
    (void)cuInit();
    printf("| %zu.%zu.%zu | %d.%d |", version / 10000, version / 100 % 100, version % 100, sm / 100,
           sm / 10 % 10);
    if (describe(sm, &target.device) != PAR_OK) {
        printf(" takes no described device |\n");
        return 0;
    }
    for (int i = 0; i < 3; i++)
        for (int64_t D = 64; D <= 256; D *= 2)
            printf(" %s |", cell(&target, kinds[i], sm / 100, D));
    printf("\n");
    cudnnBackendDestroyDescriptor(target.device);
    return n_untrue ? 1 : 0;
}
