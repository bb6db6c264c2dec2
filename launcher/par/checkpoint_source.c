/* Where weights come from: a checkpoint, a Hugging Face directory, or a model file of llm.c, told
 * apart by what is there. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint_tool.h"

/* The first value that is not finite; n: all are. */
static int64_t find_nonfinite(const void *values, par_dtype dtype, int64_t n) {
    const uint32_t *words = values;
    const uint16_t *halves = values;
    const uint32_t exponent = dtype == PAR_F32    ? 0x7f800000
                              : dtype == PAR_BF16 ? 0x7f80
                                                  : 0x7c00; /* all ones: Inf or NaN */
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = dtype == PAR_F32 ? words[i] : halves[i];
        if ((bits & exponent) == exponent) return i;
    }
    return n;
}

par_status checkpoint_read_param(const par_checkpoint *c, const char *kind, const par_param *p,
                                 par_dtype dtype, void *dst) {
    const char *path = par_checkpoint_info(c)->path;
    const int64_t offset[2] = {0, 0};
    const par_checkpoint_tensor *t = par_checkpoint_find(c, kind, p->name);
    if (!t) return par_error_set(PAR_ERR_FORMAT, "%s: has no %s/%s", path, kind, p->name);
    if (t->global[0] != p->global[0] || t->global[1] != p->global[1])
        return par_error_set(PAR_ERR_FORMAT,
                             "%s: its %s/%s is [%lld, %lld]; its model's is [%lld, %lld]", path,
                             kind, p->name, (long long)t->global[0], (long long)t->global[1],
                             (long long)p->global[0], (long long)p->global[1]);
    par_status st = par_checkpoint_read(c, t, offset, p->global, dtype, dst);
    int64_t n = p->global[0] * p->global[1], at = st == PAR_OK ? find_nonfinite(dst, dtype, n) : n;
    if (at == n) return st;
    return par_error_set(PAR_ERR_FORMAT,
                         "%s: its %s/%s: element %lld is NaN or infinite; legal: finite weights",
                         path, kind, p->name, (long long)at);
}

/* fp32 from the master weights, where there are any. */
static par_status read_checkpoint(void *user, const par_param *p, par_dtype dtype, void *dst) {
    bool master = dtype == PAR_F32 && par_checkpoint_find(user, "master", p->name);
    return checkpoint_read_param(user, master ? "master" : "weight", p, dtype, dst);
}

par_status checkpoint_source_open_hf(const char *path, checkpoint_source *out) {
    *out = (checkpoint_source){.path = path};
    PAR_TRY(par_import_open(path, &out->import));
    par_weights_of_import(out->import, &out->weights);
    return PAR_OK;
}

par_status checkpoint_source_open_llmc(const char *path, checkpoint_source *out) {
    *out = (checkpoint_source){.path = path};
    PAR_TRY(par_llmc_open(path, &out->llmc));
    par_weights_of_llmc(out->llmc, &out->weights);
    return PAR_OK;
}

par_status checkpoint_source_open(const char *path, checkpoint_source *out) {
    char config[1100];
    struct stat info;
    *out = (checkpoint_source){.path = path};
    snprintf(config, sizeof config, "%s/config.json", path);
    if (stat(config, &info) == 0) return checkpoint_source_open_hf(path, out);
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
        return checkpoint_source_open_llmc(path, out);
    if (par_checkpoint_missing())
        return par_error_set(PAR_ERR_UNSUPPORTED, "%s: %s", path, par_checkpoint_missing());
    par_weights *w = &out->weights;
    PAR_TRY(checkpoint_open(path, &out->checkpoint));
    out->path = par_checkpoint_info(out->checkpoint)->path;
    PAR_TRY(checkpoint_config(out->checkpoint, &w->config));
    const par_checkpoint_tensor *t =
        par_checkpoint_find(out->checkpoint, "weight", "embedding.token.weight");
    w->dtype = t ? t->dtype : PAR_F32;
    w->read = read_checkpoint;
    w->user = out->checkpoint;
    w->kept = checkpoint_value(out->checkpoint, CHECKPOINT_KEPT);
    /* "50256,2", as a training records them */
    const char *ends = checkpoint_value(out->checkpoint, "end ids");
    for (char *end; ends && *ends && w->n_ends < PAR_WEIGHTS_ENDS; ends = end + (*end == ',')) {
        long id = strtol(ends, &end, 10);
        if (end == ends || id < 0 || id >= w->config.vocab) break;
        w->ends[w->n_ends++] = (int32_t)id;
    }
    return PAR_OK;
}

void checkpoint_source_close(checkpoint_source *source) {
    par_checkpoint_close(&source->checkpoint);
    par_import_close(&source->import);
    par_llmc_close(&source->llmc);
}
