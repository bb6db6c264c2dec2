/*
 * This host as hwloc sees it. A memory node stands between the object that it is attached to and
 * what is below that, so that cores, caches and devices belong to the memory near them. Groups,
 * dies and bridges are left out: what is in them moves up.
 */
#define _GNU_SOURCE
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "topology.h"

typedef struct {
    hwloc_topology_t machine;
    par_topology *t;
} reading;

static void copy_info(hwloc_obj_t o, const char *name, char *text, size_t nbytes) {
    const char *found = hwloc_obj_get_info_by_name(o, name);
    if (found) snprintf(text, nbytes, "%s", found);
}

/* A number in a file below /sys. */
static double read_number(const char *folder, const char *device, const char *file) {
    char path[256];
    double value = 0;
    snprintf(path, sizeof path, "/sys/class/%s/%s/%s", folder, device, file);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lf", &value) != 1) value = 0;
    if (f) fclose(f);
    return value > 0 ? value : 0;
}

static par_status add_device(reading *r, hwloc_obj_t o, int parent) {
    const struct hwloc_pcidev_attr_s *pci = &o->attr->pcidev;
    par_component component = {.kind = PAR_COMPONENT_GPU, .pcie_bytes_s = pci->linkspeed * 1e9};
    snprintf(component.id, sizeof component.id, "%04x:%02x:%02x.%x", pci->domain & 0xffff, pci->bus,
             pci->dev, pci->func & 0xf);
    /* 0x0302: 3D controller; 0x0300 is also what a server draws its console with, so there the
     * maker counts. */
    bool maker = pci->vendor_id == 0x10de || pci->vendor_id == 0x1002;
    bool gpu = pci->class_id == 0x0302 || (maker && pci->class_id >> 8 == 0x03);
    if (gpu) {
        snprintf(component.name, sizeof component.name, "GPU");
        copy_info(o, "PCIDevice", component.name, sizeof component.name);
        return par__topology_add(r->t, component, parent, NULL);
    }
    component.kind = PAR_COMPONENT_NIC;
    for (hwloc_obj_t d = o->io_first_child; d; d = d->next_sibling) {
        if (d->type != HWLOC_OBJ_OS_DEVICE || !d->name) continue;
        bool net = d->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK;
        if (!net && d->attr->osdev.type != HWLOC_OBJ_OSDEV_OPENFABRICS) continue;
        snprintf(component.name, sizeof component.name, "%.60s", d->name);
        bool here = hwloc_topology_is_thissystem(r->machine) && !strchr(d->name, '/');
        component.wire_bytes_s = 0; /* of Ethernet /sys has Mbit/s, of InfiniBand Gbit/s */
        if (here && net)
            component.wire_bytes_s = read_number("net", d->name, "speed") * 1e6 / 8;
        else if (here)
            component.wire_bytes_s = read_number("infiniband", d->name, "ports/1/rate") * 1e9 / 8;
        PAR_TRY(par__topology_add(r->t, component, parent, NULL));
    }
    return PAR_OK;
}

static par_status add_object(reading *r, hwloc_obj_t o, int *parent) {
    par_component component = {0};
    if (o->type == HWLOC_OBJ_PACKAGE) {
        component.kind = PAR_COMPONENT_PACKAGE;
        copy_info(o, "CPUModel", component.name, sizeof component.name);
    } else if (hwloc_obj_type_is_dcache(o->type)) {
        component.kind = PAR_COMPONENT_CACHE;
        component.level = (int)o->attr->cache.depth;
        component.nbytes = o->attr->cache.size;
    } else if (o->type == HWLOC_OBJ_CORE ||
               (o->type == HWLOC_OBJ_PU && r->t->components[*parent].kind != PAR_COMPONENT_CORE)) {
        component.kind = PAR_COMPONENT_CORE;
        component.threads = hwloc_bitmap_weight(o->cpuset);
    } else {
        return PAR_OK;
    }
    return par__topology_add(r->t, component, *parent, parent);
}

static par_status add_numa(reading *r, hwloc_obj_t o, int parent, int *out) {
    while (o && o->type != HWLOC_OBJ_NUMANODE) o = o->memory_first_child; /* a memory-side cache */
    if (!o) return PAR_OK;
    par_component component = {.kind = PAR_COMPONENT_NUMA,
                               .nbytes = o->attr->numanode.local_memory};
    int length = hwloc_bitmap_list_snprintf(component.cpus, sizeof component.cpus, o->cpuset);
    if (length >= (int)sizeof component.cpus)
        *component.cpus = 0; /* half a list would name other threads */
    return par__topology_add(r->t, component, parent, out);
}

/* What is below an object belongs to its first memory node. */
static par_status walk(reading *r, hwloc_obj_t o, int parent) {
    if (o->type == HWLOC_OBJ_PCI_DEVICE) return add_device(r, o, parent);
    PAR_TRY(add_object(r, o, &parent));
    int above = parent;
    hwloc_obj_t memory = o->memory_first_child;
    if (memory) PAR_TRY(add_numa(r, memory, above, &parent));
    for (hwloc_obj_t c = o->first_child; c; c = c->next_sibling) PAR_TRY(walk(r, c, parent));
    for (hwloc_obj_t c = o->io_first_child; c; c = c->next_sibling) PAR_TRY(walk(r, c, parent));
    for (hwloc_obj_t m = memory ? memory->next_sibling : NULL; m; m = m->next_sibling)
        PAR_TRY(add_numa(r, m, above, NULL));
    return PAR_OK;
}

/* hwloc's walk meets GPUs in the order of the memory nodes that they are at. */
static void number_gpus(par_topology *t) {
    for (int i = 0; i < t->n; i++) {
        if (t->components[i].kind != PAR_COMPONENT_GPU) continue;
        t->components[i].index = 0;
        for (int k = 0; k < t->n; k++)
            t->components[i].index += t->components[k].kind == PAR_COMPONENT_GPU &&
                                      strcmp(t->components[k].id, t->components[i].id) < 0;
    }
}

/* The memory node that has every core of this process: numbers of hwloc are in the order of the
 * walk. -1: it may run on several. */
static int own_numa(const reading *r) {
    hwloc_bitmap_t own = hwloc_bitmap_alloc();
    int found = -1;
    if (!own || hwloc_get_cpubind(r->machine, own, HWLOC_CPUBIND_PROCESS) != 0) goto out;
    hwloc_bitmap_and(own, own, hwloc_topology_get_topology_cpuset(r->machine));
    for (int i = 0; i < r->t->n && found < 0 && !hwloc_bitmap_iszero(own); i++) {
        if (r->t->components[i].kind != PAR_COMPONENT_NUMA) continue;
        hwloc_obj_t node = hwloc_get_obj_by_type(r->machine, HWLOC_OBJ_NUMANODE,
                                                 (unsigned)r->t->components[i].index);
        if (node && hwloc_bitmap_isincluded(own, node->cpuset)) found = i;
    }
out:
    hwloc_bitmap_free(own);
    return found;
}

par_status par_topology_read(par_topology **out) {
    reading r = {0};
    PAR_REQUIRE(out);
    if (hwloc_topology_init(&r.machine) != 0) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for hwloc");
    hwloc_topology_set_io_types_filter(r.machine, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    /* hwloc would show this machine in silence where it cannot read what its variables name. */
    bool another =
        (getenv("HWLOC_XMLFILE") || getenv("HWLOC_SYNTHETIC")) && !getenv("HWLOC_THISSYSTEM");
    if (hwloc_topology_load(r.machine) != 0 ||
        (another && hwloc_topology_is_thissystem(r.machine))) {
        hwloc_topology_destroy(r.machine);
        PAR_FAIL(PAR_ERR_IO,
                 "hwloc cannot read the machine; if HWLOC_XMLFILE or HWLOC_SYNTHETIC is "
                 "set in the environment, it names none that hwloc can read");
    }
    par_component host = {.kind = PAR_COMPONENT_HOST};
    gethostname(host.name, sizeof host.name - 1);
    par_status st = par__topology_create(0, 1, &r.t);
    if (st == PAR_OK) st = par__topology_add(r.t, host, -1, NULL);
    if (st == PAR_OK) st = walk(&r, hwloc_get_root_obj(r.machine), 0);
    if (st == PAR_OK) {
        number_gpus(r.t);
        r.t->ranks[0].numa = own_numa(&r);
        if (hwloc_topology_is_thissystem(r.machine)) par__topology_nvml(r.t);
        *out = r.t;
    } else {
        par_topology_destroy(&r.t);
    }
    hwloc_topology_destroy(r.machine);
    return st;
}
