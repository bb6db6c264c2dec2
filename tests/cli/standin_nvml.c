/* NVML's part that par topology and meters of energy ask, of a machine whose GPUs have 80 GiB and
 * NVLinks: 2 to a switch, 2 to another GPU, 1 to none of this machine, and one that is down.
 * topology.test puts it in front as libnvidia-ml.so.1. A GPU takes 250 J between two looks. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    unsigned long long total, free, used;
} memory;

typedef struct {
    char short_id[16];
    unsigned domain, bus, device, model, submodel;
    char id[32];
} address;

#define NVML(name) __attribute__((visibility("default"))) int name
NVML(nvmlInit_v2)(void);
NVML(nvmlShutdown)(void);
NVML(nvmlDeviceGetHandleByPciBusId_v2)(const char *pci, void **out);
NVML(nvmlDeviceGetCount_v2)(unsigned *n);
NVML(nvmlDeviceGetHandleByIndex_v2)(unsigned index, void **out);
NVML(nvmlDeviceGetTotalEnergyConsumption)(void *gpu, unsigned long long *mJ);
NVML(nvmlDeviceGetName)(void *gpu, char *name, unsigned nbytes);
NVML(nvmlDeviceGetMemoryInfo)(void *gpu, memory *out);
NVML(nvmlDeviceGetNvLinkState)(void *gpu, unsigned link, int *enabled);
NVML(nvmlDeviceGetNvLinkRemoteDeviceType)(void *gpu, unsigned link, int *type);
NVML(nvmlDeviceGetNvLinkRemotePciInfo_v2)(void *gpu, unsigned link, address *out);

enum { OK = 0, INVALID = 2, NOT_FOUND = 6 };

static int started;

int nvmlInit_v2(void) {
    started++;
    return OK;
}

int nvmlShutdown(void) {
    started--;
    return OK;
}

/* The first GPU alone is known. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out) {
    *out = &started;
    return started == 1 && strcmp(pci, "0000:1b:00.0") == 0 ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(void *gpu, char *name, unsigned nbytes) {
    if (gpu != &started || nbytes < 16) return INVALID;
    strcpy(name, "Stand-in 80GB");
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *gpu, memory *out) {
    *out = (memory){.total = 80ull << 30};
    return gpu == &started ? OK : INVALID;
}

int nvmlDeviceGetNvLinkState(void *gpu, unsigned link, int *enabled) {
    *enabled = link != 3;
    return gpu == &started && link < 6 ? OK : INVALID;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void *gpu, unsigned link, int *type) {
    *type = link < 2 ? 2 : 0;
    return gpu == &started ? OK : INVALID;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *gpu, unsigned link, address *out) {
    static const unsigned buses[] = {0x05, 0x05, 0x9c, 0x1c, 0x9c, 0x77};
    if (gpu != &started || link > 5) return INVALID;
    *out = (address){.bus = buses[link], .model = 0x233010de};
    snprintf(out->short_id, sizeof out->short_id, "0000:%02X:00.0", out->bus);
    snprintf(out->id, sizeof out->id, "00000000:%02X:00.0", out->bus);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = 2;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    static int gpus[2];
    *out = &gpus[index];
    return started == 1 && index < 2 ? OK : NOT_FOUND;
}

/* The second GPU is too old to know. */
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *mJ) {
    static void *first;
    static unsigned long long all = 5000000;
    if (!first) first = gpu;
    *mJ = all += 250000;
    return gpu == first ? OK : INVALID;
}
