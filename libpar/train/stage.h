/* This rank's stage: its modules, the schedules of all stages, and the executor that walks them. */
#ifndef PAR__STAGE_H
#define PAR__STAGE_H

#include "../model/registry.h"
#include "../pipeline/executor.h"
#include "context.h"

typedef struct {
    const par__context *on;
    int n_chunks;
    par__chunk chunks[PAR_MAX_CHUNKS];
    size_t scratch_nbytes;           /* the largest of all modules */
    size_t workspace_nbytes;         /* of it, what kernels asked for */
    const char *scratch_layer;       /* whose it is */
    par_schedule **schedules;        /* [pp] training */
    par_schedule *evaluate, *single; /* forward only: a step's micro-batches, and one */
    par__executor *executor;
} par__stage;

/* The modules, which register their parameters. */
par_status par__stage_build(par__stage *stage, const par__context *on, par_registry *registry);
/* Schedules over the finished registry's buckets, proved together, and what walks them. */
par_status par__stage_connect(par__stage *stage, const par_registry *registry,
                              const par__executor_hooks *hooks);
void par__stage_free(par__stage *stage);

static inline const par_schedule *par__stage_training(const par__stage *stage) {
    return stage->schedules[stage->on->mesh->coordinate[PAR_PP]];
}

#endif
