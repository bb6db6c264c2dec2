/*
 * A profiler's stand-in: NVTX tells it of every range, and so of what happens while an operation
 * runs, or a step does, whose ranges they are (par_range_begin). Counts for tests/cuda/acts.h.
 */
#include <atomic>

#define NVTX_NO_IMPL
#include <nvtx3/nvToolsExt.h>

#include "tests/cuda/standin.h"

namespace {

thread_local int depth;
std::atomic<long> ranges;

int push(const char *) {
    ranges++;
    return depth++;
}
int pop() {
    return --depth;
}

/* NVTX calls this at the first range; it hands out the places of its functions. */
int inject(NvtxGetExportTableFunc_t get) {
    auto *callbacks = static_cast<const NvtxExportTableCallbacks *>(get(NVTX_ETID_CALLBACKS));
    NvtxFunctionTable table = nullptr;
    unsigned n = 0;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &n) ||
        n <= NVTX_CBID_CORE_RangePop)
        return 0;
    *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
    *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
    return 1;
}

} // namespace

extern "C" {
extern NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr;
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = inject;
}

bool standin_in_range() {
    return depth > 0;
}
long standin_ranges() {
    return ranges;
}
