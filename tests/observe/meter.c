/* Energy from a tree like that of /sys/class/powercap, and from a stand-in of NVML, against sums by
 * hand: what counts twice is left out, and a counter that begins anew goes on. */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "par/meter.h"

static char tree[64];

static void put(const char *zone, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", tree, zone);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", tree, zone, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0, "%s cannot be written", path);
    if (f) fclose(f);
}

static void put_zone(const char *zone, const char *name, const char *energy) {
    put(zone, "name", name);
    put(zone, "energy_uj", energy);
    put(zone, "max_energy_range_uj", "262143328850\n");
}

static void drop(const char *file) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", tree, file);
    CHECK(unlink(path) == 0, "%s stays", path);
}

static void make_tree(void) {
    snprintf(tree, sizeof tree, "/tmp/par-meter-XXXXXX");
    CHECK(mkdtemp(tree), "no folder");
    put("intel-rapl", "enabled", "1\n");
    put_zone("intel-rapl:0", "package-0\n", "1000000\n");
    put_zone("intel-rapl:0:0", "core\n", "500000\n");
    put_zone("intel-rapl:0:1", "dram\n", "7000000\n");
    put_zone("intel-rapl:1", "package-1-die-0\n", "262143000000\n");
    put_zone("intel-rapl:2", "psys\n", "9000000\n");
    put_zone("intel-rapl-mmio:0", "package-0\n", "1000000\n");
}

static void remove_tree(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", tree);
    CHECK(system(command) == 0, "%s stays", tree);
}

static void run_packages(void) {
    par_meter *m = NULL;
    make_tree();
    const par_meter_params params = {.powercap = tree};
    CHECK_OK(par_meter_open(&params, &m));
    CHECK(strcmp(par_meter_about(m), "2 packages, 1 of memory") == 0, "%s", par_meter_about(m));
    CHECK(par_meter_joules(m) == 0, "%g J before anything", par_meter_joules(m));
    put("intel-rapl:0", "energy_uj", "4000000\n");   /* 3 J */
    put("intel-rapl:0:0", "energy_uj", "3000000\n"); /* a part of the package */
    put("intel-rapl:0:1", "energy_uj", "7500000\n"); /* 0.5 J */
    put("intel-rapl:2", "energy_uj", "99000000\n");  /* has the packages in it */
    put("intel-rapl:1", "energy_uj", "1671150\n");   /* anew: 0.32885 + 1.67115 = 2 J */
    put("intel-rapl-mmio:0", "energy_uj", "9999\n"); /* the package once more */
    CHECK(fabs(par_meter_joules(m) - 5.5) < 1e-9, "%.12g J", par_meter_joules(m));
    put("intel-rapl:1", "energy_uj", "2671150\n");
    drop("intel-rapl:0/energy_uj");
    CHECK(fabs(par_meter_joules(m) - 6.5) < 1e-9, "%.12g J after a zone was lost",
          par_meter_joules(m));
    par_meter_close(&m);
    CHECK(!m, "the handle stays");
    par_meter_close(&m);
    remove_tree();
}

static void run_none(void) {
    par_meter *m = NULL;
    const par_meter_params params = {.powercap = "/nowhere", .nvml = "/nowhere", .gpus = true};
    CHECK(par_meter_open(&params, &m) == PAR_ERR_UNSUPPORTED && !m, "opened");
    CHECK(strstr(par_error(), "/nowhere has no counter of energy"), "%s", par_error());
    make_tree();
    drop("intel-rapl:0/energy_uj");
    drop("intel-rapl:0:1/energy_uj");
    drop("intel-rapl:1/energy_uj");
    const par_meter_params hidden = {.powercap = tree};
    CHECK(par_meter_open(&hidden, &m) == PAR_ERR_UNSUPPORTED, "opened");
    CHECK(strstr(par_error(), "energy_uj: No such file or directory"), "%s", par_error());
    remove_tree();
}

static void run_gpus(void) {
    char path[512] = "", *slash;
    par_meter *m = NULL;
    ssize_t n = readlink("/proc/self/exe", path, 400);
    if (n > 0 && (slash = strrchr(path, '/'))) strcpy(slash, "/cli/libstandin_nvml.so");
    if (access(path, R_OK) != 0) {
        harness_skip("the stand-in of NVML was not built");
        return;
    }
    const par_meter_params params = {.powercap = "/nowhere", .nvml = path, .gpus = true};
    CHECK_OK(par_meter_open(&params, &m));
    CHECK(strcmp(par_meter_about(m), "1 GPU") == 0, "%s", par_meter_about(m));
    double first = par_meter_joules(m);
    /* the other GPU's look, which failed, took 250 J as well */
    CHECK(first == 500 && par_meter_joules(m) == 750, "%g J", first);
    par_meter_close(&m);
}

static const harness_case cases[] = {
    {.name = "packages", .run = run_packages},
    {.name = "none", .run = run_none},
    {.name = "GPUs", .run = run_gpus},
};

int main(int argc, char **argv) {
    return harness_main("meter", cases, HARNESS_COUNT(cases), argc, argv);
}
