/*
 * Energy, see par/meter.h. RAPL: Linux' Documentation/power/powercap (a zone is a folder with name,
 * energy_uj, and max_energy_range_uj, where the counter begins anew). GPUs: NVML API Reference
 * Guide, nvmlDeviceGetTotalEnergyConsumption, in mJ since the driver was loaded (Volta and later).
 */
#define _POSIX_C_SOURCE 200809L
#include "par/meter.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZONES = 64, GPUS = 64, PATH_NBYTES = 1024, OK = 0 };

typedef struct nvml_device *device; /* nvmlDevice_t */

typedef struct {
    void *library;
    int (*shutdown)(void);
    int (*energy)(device, unsigned long long *mJ);
    device gpus[GPUS];
    unsigned long long first[GPUS], last[GPUS]; /* mJ */
    int n;
} nvml;

typedef struct {
    char file[PATH_NBYTES];
    double range, last; /* uJ */
} zone;

struct par_meter {
    zone zones[ZONES];
    int n_zones, n_packages;
    double joules; /* of the zones */
    nvml nvml;
    char about[96];
};

static bool read_text(const char *folder, const char *name, char *text, int nbytes) {
    char path[PATH_NBYTES];
    snprintf(path, sizeof path, "%.900s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(text, nbytes, file) != NULL;
    fclose(file);
    return read;
}

/* Zones that count what no other one does and that can be read; why: the first that cannot. */
static void open_zones(par_meter *m, const char *powercap, char *why, size_t nbytes) {
    char folder[PATH_NBYTES];
    DIR *d = opendir(powercap);
    if (!d) return;
    for (struct dirent *e; m->n_zones < ZONES && (e = readdir(d));) {
        char name[64] = "", range[64] = "", energy[64] = "";
        if (strncmp(e->d_name, "intel-rapl:", 11) != 0) continue;
        snprintf(folder, sizeof folder, "%.600s/%.255s", powercap, e->d_name);
        if (!read_text(folder, "name", name, sizeof name)) continue;
        bool package = strncmp(name, "package-", 8) == 0;
        if (!package && strcmp(name, "dram\n") != 0) continue;
        if (!read_text(folder, "energy_uj", energy, sizeof energy)) {
            if (!*why) snprintf(why, nbytes, "%.200s/energy_uj: %s", folder, strerror(errno));
            continue;
        }
        read_text(folder, "max_energy_range_uj", range, sizeof range);
        zone *z = &m->zones[m->n_zones++];
        snprintf(z->file, sizeof z->file, "%.900s", folder);
        z->range = strtod(range, NULL);
        z->last = strtod(energy, NULL);
        m->n_packages += package;
    }
    closedir(d);
}

static void open_gpus(nvml *n, const char *name) {
    int (*init)(void);
    int (*count)(unsigned *);
    int (*by_index)(unsigned, device *);
    unsigned gpus = 0;
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) return;
    *(void **)&init = dlsym(n->library, "nvmlInit_v2");
    *(void **)&count = dlsym(n->library, "nvmlDeviceGetCount_v2");
    *(void **)&by_index = dlsym(n->library, "nvmlDeviceGetHandleByIndex_v2");
    *(void **)&n->shutdown = dlsym(n->library, "nvmlShutdown");
    *(void **)&n->energy = dlsym(n->library, "nvmlDeviceGetTotalEnergyConsumption");
    bool whole = init && count && by_index && n->shutdown && n->energy;
    if (!whole || init() != OK) {
        dlclose(n->library);
        n->library = NULL;
        return;
    }
    if (count(&gpus) != OK) gpus = 0;
    for (unsigned i = 0; i < gpus && n->n < GPUS; i++) {
        int at = n->n;
        if (by_index(i, &n->gpus[at]) != OK || n->energy(n->gpus[at], &n->first[at]) != OK)
            continue;
        n->last[at] = n->first[at];
        n->n++;
    }
}

/* "2 packages" behind what is there, unless there are none. */
static void add_kind(par_meter *m, int n, const char *one, const char *more) {
    size_t used = strlen(m->about);
    if (n == 0) return;
    snprintf(m->about + used, sizeof m->about - used, "%s%d %s", used ? ", " : "", n,
             n == 1 ? one : more);
}

par_status par_meter_open(const par_meter_params *params, par_meter **out) {
    static const par_meter_params none;
    char why[512] = "";
    PAR_REQUIRE(out);
    if (!params) params = &none;
    const char *powercap = params->powercap ? params->powercap : "/sys/class/powercap";
    par_meter *m = calloc(1, sizeof *m);
    if (!m) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a meter");
    open_zones(m, powercap, why, sizeof why);
    if (params->gpus) open_gpus(&m->nvml, params->nvml ? params->nvml : "libnvidia-ml.so.1");
    if (m->n_zones + m->nvml.n == 0) {
        par_meter_close(&m);
        if (*why) PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", why);
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s has no counter of energy", powercap);
    }
    add_kind(m, m->n_packages, "package", "packages");
    add_kind(m, m->n_zones - m->n_packages, "of memory", "of memory");
    add_kind(m, m->nvml.n, "GPU", "GPUs");
    *out = m;
    return PAR_OK;
}

void par_meter_close(par_meter **handle) {
    if (!handle || !*handle) return;
    nvml *n = &(*handle)->nvml;
    if (n->library) {
        n->shutdown();
        dlclose(n->library);
    }
    free(*handle);
    *handle = NULL;
}

double par_meter_joules(par_meter *m) {
    double joules = 0;
    for (int i = 0; i < m->n_zones; i++) {
        char text[64];
        zone *z = &m->zones[i];
        if (!read_text(z->file, "energy_uj", text, sizeof text)) continue;
        double now = strtod(text, NULL);
        m->joules += 1e-6 * (now - z->last + (now < z->last ? z->range : 0));
        z->last = now;
    }
    for (int i = 0; i < m->nvml.n; i++) {
        nvml *n = &m->nvml;
        unsigned long long now;
        if (n->energy(n->gpus[i], &now) == OK) n->last[i] = now;
        joules += 1e-3 * (double)(n->last[i] - n->first[i]);
    }
    return m->joules + joules;
}

const char *par_meter_about(const par_meter *m) {
    return m->about;
}
