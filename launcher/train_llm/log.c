/*
 * The records of train_llm's log. All that differs between two runs with the same bits stands in
 * one object, its record's last field.
 */
#include <math.h>
#include <stdio.h>

#include "observe.h"

/* The options as they were settled, all, or those whose rows say so; "micro-batch" is the key
 * micro_batch. */
static void log_options(par_log *log, const llm_run *r, bool all) {
    for (int i = 0; i < r->n_options; i++) {
        const par_option *row = &r->options[i];
        char key[64], text[4096];
        if (row->type == PAR_OPT_ABSENT || !(all || row->recorded & LLM_IN_LOG)) continue;
        snprintf(key, sizeof key, "%s", row->name);
        for (char *c = key; *c; c++)
            if (*c == '-') *c = '_';
        switch (row->type) {
        case PAR_OPT_BOOL: par_log_bool(log, key, *(const bool *)row->value); break;
        case PAR_OPT_INT: par_log_int(log, key, *(const int64_t *)row->value); break;
        case PAR_OPT_REAL: par_log_exact(log, key, *(const double *)row->value); break;
        default: par_log_text(log, key, par_option_text(row, text, sizeof text));
        }
    }
}

/* What a process begins with, to the end of the record. */
static par_status log_process(par_log *log, const llm_run *r, const llm_world *w,
                              const llm_data *d) {
    const par_transformer_config *c = &r->config;
    char user[64], time[32];
    par_log_text(log, "version", TRAIN_LLM_VERSION);
    par_log_text(log, "model", c->name);
    par_log_int(log, "parameters", par_transformer_n_params(c));
    par_log_int(log, "layers", c->layers);
    par_log_int(log, "channels", c->channels);
    par_log_int(log, "heads", c->heads);
    par_log_int(log, "kv_heads", c->kv_heads);
    par_log_int(log, "head_size", c->head_size);
    par_log_int(log, "mlp", c->mlp);
    par_log_int(log, "vocab", c->vocab);
    par_log_int(log, "tokens", c->tokens);
    par_log_real(log, "dropout", c->dropout);
    par_log_int(log, "ranks", w->size);
    par_log_int(log, "threads", w->threads);
    log_options(log, r, false);
    par_log_int(log, "train_tokens", d->cut - d->begin);
    par_log_int(log, "validation_tokens", d->end - d->cut);
    par_log_real(log, "flops_per_token", par_transformer_flops_per_token(c));
    par_log_real(log, "peak_tflops", 1e-12 * llm_mfu_peak(r)); /* of a rank; 0: unknown */
    par_log_object(log, "measured");
    par_log_text(log, "user", llm_cost_user(user));
    par_log_text(log, "time", llm_cost_time(time));
    par_log_object_end(log);
    par_log_object(log, "options");
    log_options(log, r, true);
    par_log_object_end(log);
    return par_log_end(log);
}

par_status llm_log_start(par_log *log, const llm_run *r, const llm_world *w, const llm_data *d) {
    par_log_text(log, "event", "start");
    return log_process(log, r, w, d);
}

par_status llm_log_resume(par_log *log, const llm_run *r, const llm_world *w, const llm_data *d,
                          const llm_beginning *from) {
    par_log_text(log, "event", "resume");
    par_log_int(log, "step", from->step);
    par_log_exact(log, "loss", from->loss);
    return log_process(log, r, w, d);
}

void llm_log_step(par_log *log, int64_t step, double lr, double mfu, const par_vote *vote,
                  const par_step_times *times) {
    static const char *const keys[PAR_AXIS_COUNT][2] = {[PAR_TP] = {"exposed_tp_s", "hidden_tp_s"},
                                                        [PAR_CP] = {"exposed_cp_s", "hidden_cp_s"},
                                                        [PAR_DP] = {"exposed_dp_s", "hidden_dp_s"},
                                                        [PAR_PP] = {"exposed_pp_s", "hidden_pp_s"}};
    par_log_text(log, "event", "step");
    par_log_int(log, "step", step);
    par_log_exact(log, "loss", vote->loss);
    par_log_exact(log, "grad_norm", vote->grad_norm);
    par_log_exact(log, "lr", lr);
    par_log_int(log, "targets", vote->n_targets);
    par_log_exact(log, "loss_scale", vote->loss_scale);
    par_log_bool(log, "skipped", vote->skipped);
    par_log_int(log, "nonfinite", vote->n_nonfinite);
    if (vote->n_nonfinite) par_log_text(log, "where", vote->where);
    par_log_real(log, "ideal_bubble", times->ideal_bubble);
    par_log_object(log, "measured");
    par_log_real(log, "seconds", times->total);
    par_log_real(log, "tokens_per_s", (double)vote->n_targets / times->total);
    par_log_real(log, "mfu", mfu < 0 ? NAN : mfu);
    par_log_real(log, "data_s", times->data);
    par_log_real(log, "forward_s", times->forward);
    par_log_real(log, "backward_s", times->backward);
    par_log_real(log, "wait_pipeline_s", times->wait_pipeline);
    par_log_real(log, "wait_dp_s", times->wait_dp);
    par_log_real(log, "update_s", times->update);
    par_log_real(log, "bubble", times->bubble);
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) { /* that communicates, on the host */
        if (times->exposed[axis] + times->hidden[axis] == 0) continue;
        par_log_real(log, keys[axis][0], times->exposed[axis]);
        par_log_real(log, keys[axis][1], times->hidden[axis]);
    }
    if (times->exposed[PAR_DP] > 0) par_log_real(log, "tail_dp_s", times->tail);
    par_log_object_end(log);
}

/* What measured: of each time per step the spread over ranks; the ranks that are slow in words. */
void llm_log_health(par_log *log, const par_health_round *round, const par_health *health) {
    char key[48], slow[512] = "";
    size_t n = 0;
    par_log_text(log, "event", "health");
    par_log_int(log, "step", round->step);
    par_log_object(log, "measured");
    par_log_int(log, "steps", round->n_steps);
    for (int i = 0; i < PAR_HEALTH_TIMES; i++) {
        const char *name = par_health_name((par_health_time)i);
        const par_health_spread *s = &round->spread[i];
        const double values[] = {s->min, s->median, s->max, s->min > 0 ? s->max / s->min : NAN};
        static const char *const of[] = {"min_s", "median_s", "max_s", "ratio"};
        for (int k = 0; k < 4; k++) {
            snprintf(key, sizeof key, "%s_%s", name, of[k]);
            par_log_real(log, key, values[k]);
        }
        snprintf(key, sizeof key, "%s_slowest", name);
        par_log_int(log, key, s->slowest);
    }
    for (int i = 0; i < round->n_slow && i < PAR_HEALTH_SLOW && n < sizeof slow; i++) {
        const par_health_slow *s = &round->slow[i];
        n += (size_t)snprintf(slow + n, sizeof slow - n, "%srank %d on %s: %.2f x", i ? "; " : "",
                              s->rank, par_health_host(health, s->rank), s->factor);
    }
    par_log_int(log, "slow_ranks", round->n_slow);
    par_log_text(log, "slow", slow);
    par_log_object_end(log);
}

void llm_log_validation(par_log *log, int64_t step, double loss, int64_t n, double seconds) {
    par_log_text(log, "event", "validation");
    par_log_int(log, "step", step);
    par_log_exact(log, "loss", loss);
    par_log_int(log, "samples", n);
    par_log_object(log, "measured");
    par_log_real(log, "seconds", seconds);
    par_log_object_end(log);
}
