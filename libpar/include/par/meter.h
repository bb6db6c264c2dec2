/*
 * The energy that a host takes, where it has meters: Intel's and AMD's RAPL counters of processors
 * and memory, as Linux shows them below /sys/class/powercap, and NVML's of GPUs. They count for the
 * whole host, whoever uses it: one process per host reads them.
 */
#ifndef PAR_METER_H
#define PAR_METER_H

#include <stdbool.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Meters of this host, read by this process. */
typedef struct par_meter par_meter;

/* Where the meters are; zeros: this host's processors and memory. */
typedef struct {
    const char *powercap; /* folder; NULL: /sys/class/powercap */
    const char *nvml;     /* NVML's library; NULL: libnvidia-ml.so.1 */
    bool gpus;            /* all GPUs of the host, too */
} par_meter_params;

/**
 * Open all meters that can be read: packages and memory of RAPL (a package has its cores in it; the
 * platform's zone, which has packages in it, is left out) and, if asked for, GPUs. Some kinds may
 * be missing: par_meter_about says what is there.
 *
 * Not collective. Errors: PAR_ERR_UNSUPPORTED: none can be read, with the cause. PAR_ERR_MEMORY.
 */
PAR_API par_status par_meter_open(const par_meter_params *params, par_meter **out);
/** NULL is accepted. Not collective. */
PAR_API void par_meter_close(par_meter **meter);
/**
 * Joules since the meter was opened. RAPL's counters begin anew at some 260 kJ, which is noticed
 * once: at least one call is needed per such round, of a minute or more. A meter that cannot be
 * read any more counts as it last did. Not collective.
 */
PAR_API double par_meter_joules(par_meter *meter);
/** "2 packages, 2 of memory, 8 GPUs". Not collective. */
PAR_API const char *par_meter_about(const par_meter *meter);

#ifdef __cplusplus
}
#endif
#endif
