/*
 * A model that is not a transformer: x + W2 relu(W1 x + b1) + b2, several times, between two linear
 * layers, trained to regress. It uses the public contract of par/model.h and nothing else of
 * libpar.
 */
#ifndef RESIDUAL_MLP_H
#define RESIDUAL_MLP_H

#include "par/par.h"

typedef struct {
    int64_t channels, hidden; /* hidden is split over tp: a multiple of it */
    int blocks;
} residual_mlp_config;

/* The model; config is borrowed for its life. Modules: the blocks, and the squared error. */
void residual_mlp_model(const residual_mlp_config *config, par_model *out);

/* Samples x and targets fp32 [channels]: targets are a fixed smooth function of x, x one of the
 * sample's number. */
par_source residual_mlp_source(const residual_mlp_config *config);

#endif
