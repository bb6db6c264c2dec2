/*
 * The cpu backend: picks the rung of kernels that the CPU runs. Environment PAR_CPU_RUNG = 0
 * (baseline), 1 (AVX2 with FMA), 2 (AVX-512) or 3 (AVX-512 with bf16 conversions) is an upper
 * bound, for tests and for fleets of mixed machines; any other value is refused when the backend is
 * asked for. Compiled for the baseline, so that it runs everywhere.
 */
#include <stdlib.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "kernels/cpu/cpu.h"

void par__cpu_rung_baseline(par_backend *backend);
void par__cpu_rung_avx2(par_backend *backend);
void par__cpu_rung_avx512(par_backend *backend);
void par__cpu_rung_avx512bf16(par_backend *backend);

enum { BASELINE, AVX2, AVX512, AVX512_BF16, RUNGS };

/* NULL: this build has it not (cpu_rungs of meson_options.txt) */
static void (*const rungs[RUNGS])(par_backend *) = {
    par__cpu_rung_baseline,
    PAR__CPU_AVX2 ? par__cpu_rung_avx2 : NULL,
    PAR__CPU_AVX512 ? par__cpu_rung_avx512 : NULL,
    PAR__CPU_AVX512BF16 ? par__cpu_rung_avx512bf16 : NULL,
};

/* -1: not a rung */
static int allowed(void) {
    const char *text = getenv("PAR_CPU_RUNG");
    if (!text) return AVX512_BF16;
    return text[0] >= '0' && text[0] <= '3' && !text[1] ? text[0] - '0' : -1;
}

par_status par__cpu_check(void) {
    if (allowed() >= 0) return PAR_OK;
    PAR_FAIL(PAR_ERR_OPTION,
             "PAR_CPU_RUNG is \"%s\", must be 0 (baseline), 1 (AVX2), 2 (AVX-512), 3 (AVX-512 with "
             "bf16) or "
             "not set",
             getenv("PAR_CPU_RUNG"));
}

/* the flags of meson.build */
static int detected(void) {
#ifdef __x86_64__
    unsigned a, b, c, d;
    /* not every compiler's __builtin_cpu_supports knows "f16c" */
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") || !f16c)
        return BASELINE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return AVX2;
    return __builtin_cpu_supports("avx512bf16") ? AVX512_BF16 : AVX512;
#else
    return BASELINE;
#endif
}

void par__cpu_init(par_backend *backend) {
    int found = detected(), rung = allowed() < found ? allowed() : found;
    while (!rungs[rung]) rung--;
    rungs[rung](backend);
}
