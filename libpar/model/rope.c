/*
 * Tables for rotary position embedding (Su et al. 2021): angle = position · theta^(-2i/D), in
 * double. Llama 3.1's scaling ("llama3" in Hugging Face's config.json) divides low frequencies by
 * `factor`, keeps high ones, and blends between the two by how often a wave fits into the original
 * context.
 */
#include <math.h>

#include "layers.h"

static double frequency(const par_transformer_config *config, int64_t i) {
    double pi = 3.14159265358979323846;
    double f = pow(config->rope_theta, -2.0 * (double)i / (double)config->head_size);
    double low = config->rope_scaling.low_freq_factor, high = config->rope_scaling.high_freq_factor;
    if (config->rope_scaling.factor == 0) return f;
    double waves = (double)config->rope_scaling.original_positions * f / (2 * pi);
    if (waves < low) return f / config->rope_scaling.factor;
    if (waves > high) return f;
    double smooth = (waves - low) / (high - low);
    return (1 - smooth) * f / config->rope_scaling.factor + smooth * f;
}

void par__rope_tables(const par_transformer_config *config, float *cos_table, float *sin_table) {
    int64_t half = config->head_size / 2;
    for (int64_t i = 0; i < half; i++) {
        double f = frequency(config, i);
        for (int64_t t = 0; t < config->tokens; t++) {
            cos_table[t * half + i] = (float)cos((double)t * f);
            sin_table[t * half + i] = (float)sin((double)t * f);
        }
    }
}
