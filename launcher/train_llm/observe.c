/*
 * What train_llm keeps of a run besides its output: the log of JSON lines, the loss curve, the
 * communication matrix. A log or a curve that cannot be opened is refused before the first step, on
 * all ranks; one that cannot be written later is reported once and given up, since a full disk is
 * no reason to end a training.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "train_llm.h"

struct llm_observer {
    par_log *log;     /* rank 0 */
    par_curve *curve; /* rank 0 */
    par_traffic *counted, *predicted;
    par_recorder *recorder;
    par_log_history past; /* rank 0; of the run that is resumed */
    bool has_validation;  /* of the step where the run begins */
    int64_t steps, updates, evaluations;
    par_status predicting; /* this rank's; agreed on after the count, since agreeing sends */
};

/* The options whose rows say so, as they were settled; "micro-batch" is the key micro_batch. */
static void log_options(par_log *log, const llm_run *r) {
    for (int i = 0; i < r->n_options; i++) {
        const par_option *row = &r->options[i];
        char key[64], text[4096];
        if (!(row->recorded & LLM_IN_LOG)) continue;
        snprintf(key, sizeof key, "%s", row->name);
        for (char *c = key; *c; c++)
            if (*c == '-') *c = '_';
        switch (row->type) {
        case PAR_OPT_BOOL: par_log_bool(log, key, *(const bool *)row->value); break;
        case PAR_OPT_INT: par_log_int(log, key, *(const int64_t *)row->value); break;
        case PAR_OPT_REAL: par_log_real(log, key, *(const double *)row->value); break;
        default: par_log_text(log, key, par_option_text(row, text, sizeof text));
        }
    }
}

static par_status log_start(par_log *log, const llm_run *r, const llm_world *w, const llm_data *d) {
    const par_transformer_config *c = &r->config;
    par_log_text(log, "event", "start");
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
    log_options(log, r);
    par_log_int(log, "train_tokens", d->cut - d->begin);
    par_log_int(log, "validation_tokens", d->end - d->cut);
    return par_log_end(log);
}

static par_status log_resume(par_log *log, const llm_world *w, const llm_beginning *from) {
    par_log_text(log, "event", "resume");
    par_log_int(log, "step", from->step);
    par_log_exact(log, "loss", from->loss);
    par_log_int(log, "ranks", w->size);
    par_log_int(log, "threads", w->threads);
    return par_log_end(log);
}

/* The losses that the log already holds come first. */
static par_status create_curve(llm_observer *o, const llm_run *r) {
    const llm_settings *s = &r->set;
    char title[160];
    snprintf(title, sizeof title, "%s, %.2f M parameters, batch %lld x %lld tokens", r->config.name,
             1e-6 * (double)par_transformer_n_params(&r->config), (long long)s->batch,
             (long long)r->config.tokens);
    int64_t n_validation = s->eval_every ? s->steps / s->eval_every + 2 : 2;
    PAR_TRY(par_curve_create(title, s->steps + o->past.n, n_validation + o->past.n, &o->curve));
    for (int64_t i = 0; i < o->past.n; i++) {
        const par_log_point *p = &o->past.points[i];
        par_curve_add(o->curve, p->validation, p->step, p->loss);
    }
    return PAR_OK;
}

/* A matrix is written at the end: that it can be is seen at the start. */
static par_status check_matrix_file(const char *path) {
    static par_matrix empty;
    struct stat info;
    if (stat(path, &info) == 0) {
        FILE *file = S_ISREG(info.st_mode) ? fopen(path, "a") : NULL;
        if (!file)
            return par_error_set(PAR_ERR_IO, "%s: is not a file that can be written to; legal: one",
                                 path);
        fclose(file);
        return PAR_OK;
    }
    PAR_TRY(par_matrix_write_csv(&empty, path));
    remove(path);
    return PAR_OK;
}

static void report_past(const llm_observer *o, const llm_settings *s, const llm_beginning *from) {
    long long n = 0, begin = (long long)from->step;
    if (!from->step) return;
    for (int64_t i = 0; i < o->past.n; i++) n += !o->past.points[i].validation;
    if (s->log)
        printf("log: %s goes on after step %lld; %lld records of later steps were taken out\n",
               s->log, begin, (long long)o->past.n_dropped);
    if (s->log && n < begin)
        printf("note: log: it holds %lld of the %lld steps so far\n", n, begin);
    if (s->curve && !s->log)
        printf("note: --curve %s: begins at step %lld, as no --log has the steps before\n",
               s->curve, begin + 1);
}

/* Rank 0's files; the curve is written at once, so that a bad path is known before the first
 * step. */
static par_status open_files(llm_observer *o, const llm_run *r, const llm_world *w,
                             const llm_data *d, const llm_beginning *from) {
    const llm_settings *s = &r->set;
    if (s->log) PAR_TRY(par_log_continue(s->log, from->step, from->loss, &o->past));
    if (s->log) PAR_TRY(par_log_open(s->log, &o->log));
    if (s->log) PAR_TRY(from->step ? log_resume(o->log, w, from) : log_start(o->log, r, w, d));
    if (s->log) PAR_TRY(llm_methods_log(o->log, r));
    if (s->comm_matrix_csv) PAR_TRY(check_matrix_file(s->comm_matrix_csv));
    if (s->comm_matrix_svg) PAR_TRY(check_matrix_file(s->comm_matrix_svg));
    if (s->curve) PAR_TRY(create_curve(o, r));
    for (int64_t i = 0; i < o->past.n; i++)
        if (o->past.points[i].validation && o->past.points[i].step == from->step)
            o->has_validation = true;
    report_past(o, s, from);
    return s->curve ? par_curve_write(o->curve, s->curve) : PAR_OK;
}

/* Rank 0 alone reads the log; what it found decides what all do. */
static par_status share_past(llm_observer *o, const llm_world *w) {
    static const par_tag tag = {"observe", -1, -1, -1};
    int32_t has = o->has_validation;
    PAR_TRY(par_comm_broadcast(w->comm, &has, 1, PAR_I32, 0, tag, NULL, NULL));
    o->has_validation = has;
    return PAR_OK;
}

static bool wants_matrix(const llm_settings *s) {
    return s->comm_matrix || s->comm_matrix_csv || s->comm_matrix_svg;
}

par_status llm_observer_create(const llm_run *r, llm_world *w, const llm_data *d,
                               const llm_beginning *from, llm_observer **out) {
    llm_observer *o = calloc(1, sizeof *o);
    par_status st = o ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for an observer");
    if (st == PAR_OK && w->rank == 0) st = open_files(o, r, w, d, from);
    if (st == PAR_OK && wants_matrix(&r->set)) st = par_traffic_create(w->size, &o->counted);
    if (st == PAR_OK && wants_matrix(&r->set)) st = par_traffic_create(w->size, &o->predicted);
    st = llm_world_agree(w, st);
    if (st == PAR_OK && from->step) st = share_past(o, w);
    if (st != PAR_OK) {
        llm_observer_destroy(&o);
        return st;
    }
    o->recorder = par_transport_recorder(w->transport);
    if (o->counted) par_recorder_reset(o->recorder);
    *out = o;
    return PAR_OK;
}

void llm_observer_destroy(llm_observer **handle) {
    llm_observer *o = *handle;
    if (!o) return;
    par_log_close(&o->log);
    par_curve_destroy(&o->curve);
    par_log_history_free(&o->past);
    par_traffic_destroy(&o->counted);
    par_traffic_destroy(&o->predicted);
    free(o);
    *handle = NULL;
}

static void end_line(llm_observer *o) {
    if (par_log_end(o->log) == PAR_OK) return;
    llm_report_problems("the log is given up", par_error());
    par_log_close(&o->log);
}

static void write_curve(llm_observer *o, const llm_run *r) {
    if (!o->curve || par_curve_write(o->curve, r->set.curve) == PAR_OK) return;
    llm_report_problems("the curve is given up", par_error());
    par_curve_destroy(&o->curve);
}

bool llm_observer_has_validation(const llm_observer *o) {
    return o->has_validation;
}

/* Axes that communicate, on the host. */
static void log_overlap(par_log *log, const par_step_times *t) {
    static const char *const keys[PAR_AXIS_COUNT][2] = {[PAR_TP] = {"exposed_tp_s", "hidden_tp_s"},
                                                        [PAR_CP] = {"exposed_cp_s", "hidden_cp_s"},
                                                        [PAR_DP] = {"exposed_dp_s", "hidden_dp_s"},
                                                        [PAR_PP] = {"exposed_pp_s", "hidden_pp_s"}};
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) {
        if (t->exposed[axis] + t->hidden[axis] == 0) continue;
        par_log_real(log, keys[axis][0], t->exposed[axis]);
        par_log_real(log, keys[axis][1], t->hidden[axis]);
    }
    if (t->exposed[PAR_DP] > 0) par_log_real(log, "tail_dp_s", t->tail);
}

/* All that differs between two runs with the same bits stands in one object, the line's last
 * field. */
static void log_measured(par_log *log, double seconds, const par_vote *vote,
                         const par_step_times *t) {
    par_log_object(log, "measured");
    par_log_real(log, "seconds", seconds);
    par_log_real(log, "tokens_per_s", (double)vote->n_targets / seconds);
    par_log_real(log, "data_s", t->data);
    par_log_real(log, "forward_s", t->forward);
    par_log_real(log, "backward_s", t->backward);
    par_log_real(log, "wait_pipeline_s", t->wait_pipeline);
    par_log_real(log, "wait_dp_s", t->wait_dp);
    par_log_real(log, "update_s", t->update);
    par_log_real(log, "bubble", t->bubble);
    log_overlap(log, t);
    par_log_object_end(log);
}

static void log_step(par_log *log, int64_t step, double lr, const par_vote *vote) {
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
}

static void log_signal(llm_observer *o, int64_t step) {
    if (!o->log) return;
    par_log_text(o->log, "event", "signal");
    par_log_int(o->log, "step", step);
    end_line(o);
}

void llm_observer_step(llm_observer *o, int64_t step, double lr, double seconds,
                       const par_vote *vote, const par_step_times *times) {
    o->steps++;
    o->updates += !vote->skipped;
    if (o->curve) par_curve_add(o->curve, false, step, vote->loss);
    if (!o->log) return;
    log_step(o->log, step, lr, vote);
    par_log_real(o->log, "ideal_bubble", times->ideal_bubble);
    log_measured(o->log, seconds, vote, times);
    end_line(o);
    if (vote->stop) log_signal(o, step);
}

void llm_observer_validation(llm_observer *o, const llm_run *r, int64_t step, double loss,
                             int64_t n, double seconds) {
    o->evaluations++;
    if (o->curve) par_curve_add(o->curve, true, step, loss);
    write_curve(o, r);
    if (!o->log) return;
    par_log_text(o->log, "event", "validation");
    par_log_int(o->log, "step", step);
    par_log_exact(o->log, "loss", loss);
    par_log_int(o->log, "samples", n);
    par_log_object(o->log, "measured");
    par_log_real(o->log, "seconds", seconds);
    par_log_object_end(o->log);
    end_line(o);
}

par_status llm_observer_count(llm_observer *o, const llm_run *r, const llm_data *d,
                              par_trainer *trainer) {
    par_traffic_run sent;
    const par_trainer_params *p = &r->params;
    write_curve(o, r);
    if (!o->predicted) return PAR_OK;
    PAR_TRY(par_trainer_settle(trainer));
    par_traffic_count(o->counted, o->recorder);
    par_trainer_traffic(trainer, &sent);
    sent.T = r->config.tokens;
    sent.C = r->config.channels;
    sent.steps = o->steps;
    sent.updates = o->updates;
    sent.micros = o->steps * par_trainer_n_micro(trainer);
    sent.evaluations = o->evaluations;
    int64_t unit = p->micro_batch * p->layout.size[PAR_DP];
    sent.eval_micros = o->evaluations * ((d->n_validation + unit - 1) / unit);
    o->predicting = par_traffic_predict(o->predicted, &sent);
    return PAR_OK;
}

par_status llm_observer_matrix(llm_observer *o, const llm_run *r, llm_world *w) {
    par_matrix *matrix = NULL;
    if (!o->counted) return PAR_OK;
    PAR_TRY(llm_world_agree(w, o->predicting));
    PAR_TRY(par_matrix_gather(w->comm, o->counted, o->predicted, &matrix));
    par_status st = PAR_OK;
    if (matrix && r->set.comm_matrix) par_matrix_print(matrix, llm_report_line, NULL);
    if (matrix && !r->set.comm_matrix)
        printf("communication: %d difference%s from the prediction\n",
               par_matrix_differences(matrix), llm_report_s(par_matrix_differences(matrix)));
    if (matrix && r->set.comm_matrix_csv) st = par_matrix_write_csv(matrix, r->set.comm_matrix_csv);
    if (matrix && st == PAR_OK && r->set.comm_matrix_svg)
        st = par_matrix_write_svg(matrix, r->set.comm_matrix_svg);
    par_matrix_destroy(&matrix);
    return llm_world_agree(w, st);
}
