/*
 * GPUs as NVML sees them: model, memory, NVLinks and where they end. Its functions and structs are
 * those of NVIDIA's "NVML API Reference Guide" (stable within libnvidia-ml.so.1); the library comes
 * with the driver and is loaded where it is there.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "topology.h"

typedef struct nvml_device *device; /* nvmlDevice_t */

typedef struct {
    unsigned long long total, free, used; /* nvmlMemory_t */
} memory;

typedef struct { /* nvmlPciInfo_t */
    char short_id[16];
    unsigned domain, bus, device, model, submodel;
    char id[32];
} address;

enum { OK = 0, FEATURE_ENABLED = 1, LINKS = 18 /* NVML_NVLINK_MAX_LINKS */, A_SWITCH = 2 };

typedef struct {
    int (*init)(void);
    int (*shutdown)(void);
    int (*by_address)(const char *pci, device *out);
    int (*get_name)(device, char *name, unsigned nbytes);
    int (*get_memory)(device, memory *out);
    int (*link_state)(device, unsigned link, int *enabled);
    int (*link_end)(device, unsigned link, int *type); /* nvmlIntNvLinkDeviceType_t */
    int (*link_address)(device, unsigned link, address *out);
} nvml;

/* The first four are in every driver's; the others may be NULL. */
static bool find_functions(void *library, nvml *n) {
    const struct {
        const char *name;
        void *at;
    } list[] = {{"nvmlInit_v2", &n->init},
                {"nvmlShutdown", &n->shutdown},
                {"nvmlDeviceGetHandleByPciBusId_v2", &n->by_address},
                {"nvmlDeviceGetName", &n->get_name},
                {"nvmlDeviceGetMemoryInfo", &n->get_memory},
                {"nvmlDeviceGetNvLinkState", &n->link_state},
                {"nvmlDeviceGetNvLinkRemoteDeviceType", &n->link_end},
                {"nvmlDeviceGetNvLinkRemotePciInfo_v2", &n->link_address}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        *(void **)list[i].at = dlsym(library, list[i].name);
    return n->init && n->shutdown && n->by_address && n->get_name;
}

/* The GPU of this host at an address; NULL: there is none, or the links to it are not counted. */
static const par_component *gpu_at(const par_topology *t, const address *at) {
    char id[40]; /* without the function, which is 0 */
    int length = snprintf(id, sizeof id, "%04x:%02x:%02x.", at->domain, at->bus, at->device);
    for (int i = 0; i < t->n; i++)
        if (t->components[i].kind == PAR_COMPONENT_GPU &&
            t->components[i].index < PAR_COMPONENT_PEERS &&
            strncmp(t->components[i].id, id, (size_t)length) == 0)
            return &t->components[i];
    return NULL;
}

static void ask(const nvml *n, const par_topology *t, par_component *component) {
    device gpu;
    memory m;
    if (n->by_address(component->id, &gpu) != OK) return;
    n->get_name(gpu, component->name, sizeof component->name);
    if (n->get_memory && n->get_memory(gpu, &m) == OK) component->nbytes = m.total;
    for (unsigned link = 0; n->link_state && link < LINKS; link++) {
        int enabled = 0, type = -1;
        if (n->link_state(gpu, link, &enabled) != OK || enabled != FEATURE_ENABLED) continue;
        component->nvlinks++;
        if (n->link_end && n->link_end(gpu, link, &type) == OK && type == A_SWITCH) {
            component->to_switch++;
            continue;
        }
        address at = {.id = ""};
        const par_component *end = NULL;
        if (n->link_address && n->link_address(gpu, link, &at) == OK) end = gpu_at(t, &at);
        if (end) component->to_gpu[end->index]++;
    }
}

void par__topology_nvml(par_topology *t) {
    nvml n;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    if (find_functions(library, &n) && n.init() == OK) {
        for (int i = 0; i < t->n; i++)
            if (t->components[i].kind == PAR_COMPONENT_GPU) ask(&n, t, &t->components[i]);
        n.shutdown();
    }
    dlclose(library);
}
