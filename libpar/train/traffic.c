/* What the prediction of traffic needs to know of a trainer's rank: layout, modules, parameters. */
#include "trainer.h"

void par_trainer_traffic(const par_trainer *t, par_traffic_run *out) {
    const par_trainer_params *p = &t->params;
    *out = (par_traffic_run){.mesh = t->mesh,
                             .B = p->micro_batch,
                             .dtype = p->dtype,
                             .sequence_parallel = t->sequence_parallel,
                             .recompute_full = p->recompute == PAR_RECOMPUTE_FULL,
                             .zero = p->zero,
                             .chunks = t->n_chunks,
                             .params = t->registry->params,
                             .n_params = t->registry->n_params,
                             .n_flat = t->registry->n_flat};
    for (int c = 0; c < t->n_chunks; c++)
        for (int i = 0; i < t->chunks[c].n_modules; i++) {
            int index = t->chunks[c].first_index + i;
            if (index == 0)
                out->embedding = true;
            else if (index == p->model->n_modules - 1)
                out->head = true;
            else
                out->n_blocks++;
        }
}
