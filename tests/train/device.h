/* What the two parts of the suite share: a training that is done on the cpu and on a far device. */
#ifndef PAR_TESTS_DEVICE_H
#define PAR_TESTS_DEVICE_H

#include "check.h"
#include "par/mpi.h"

typedef struct {
    const char *name;
    bool llama, sgd;
    par_dtype dtype;
    par_recompute recompute;
    int64_t vocab, batch; /* vocab 0: the tiny model's */
    int tp, pp, dp, chunks, zero;
} setting;

typedef struct {
    MPI_Comm comm;
    par_transport *transport;
    const setting *set;
    par_transformer_config config;
    par_model *model;
    par_trainer_params params; /* on the cpu */
    check_data data;
    check_table table;
    char directory[512];
} experiment;

void device_begin(experiment *e, par_transport *transport, const setting *set);
void device_end(experiment *e);
/* The experiment's parameters on a device; NULL: the cpu. */
par_trainer_params device_on(const experiment *e, const par_backend *backend);

/* Cases of device_steps.c. */
void device_run_overflow(par_transport *transport);
void device_run_waits(par_transport *transport);
void device_run_ahead_of_votes(par_transport *transport);
void device_run_halted(par_transport *transport);
void device_run_times(par_transport *transport);
void device_run_plan(par_transport *transport);
void device_run_verify(par_transport *transport);

#endif
