/*
 * What train_llm keeps of a run besides its output: the log of JSON lines (log.c has its records),
 * CSV and TensorBoard's files, the loss curve, the communication matrix. A file that cannot be
 * opened is refused before the first step, on all ranks; one that cannot be written later is
 * reported once and given up, since a full disk is no reason to end a training.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "observe.h"

struct llm_observer {
    par_log *log;             /* rank 0, as all files */
    par_series *csv, *events; /* --csv, --tensorboard */
    par_curve *curve;
    double mfu_per_rate; /* MFU at 1 token per second; negative: unknown */
    par_traffic *counted, *predicted;
    par_recorder *recorder;
    par_log_history past; /* rank 0; of the run that is resumed */
    bool has_validation;  /* of the step where the run begins */
    int64_t steps;
    double seconds;        /* of steps */
    par_status predicting; /* this rank's; agreed on after the count, since agreeing sends */
};

/* The losses that the log already holds come first. */
static par_status create_curve(llm_observer *o, const llm_run *r) {
    const llm_settings *s = &r->set;
    double n = (double)par_transformer_n_params(&r->config);
    const int *size = r->params.layout.size;
    char title[160];
    snprintf(title, sizeof title, "%s, %.2f %s, %s, tp %d pp %d dp %d, batch %lld x %lld tokens",
             r->config.name, n < 1e9 ? 1e-6 * n : 1e-9 * n, n < 1e9 ? "M" : "B",
             par_dtype_name(r->params.dtype), size[PAR_TP], size[PAR_PP], size[PAR_DP],
             (long long)s->batch, (long long)r->config.tokens);
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

static void report_past(const llm_observer *o, const llm_settings *s, const llm_beginning *from,
                        bool fresh) {
    long long n = 0, begin = (long long)from->step;
    if (!from->step) return;
    for (int64_t i = 0; i < o->past.n; i++) n += !o->past.points[i].validation;
    if (s->log && fresh) {
        printf("note: log: %s is new, and begins at step %lld\n", s->log, begin + 1);
        return;
    }
    if (s->log)
        printf("log: %s goes on after step %lld; %lld records of later steps were taken out\n",
               s->log, begin, (long long)o->past.n_dropped);
    if (s->log && n < begin)
        printf("note: log: it holds %lld of the %lld steps so far\n", n, begin);
    if (s->curve && !s->log)
        printf("note: --curve %s: begins at step %lld, as no --log has the steps before\n",
               s->curve, begin + 1);
}

/* Of this process, also one that goes on, in the run's directory and beside a log elsewhere that is
 * a plain file. */
static par_status write_config(const llm_run *r) {
    char path[4200];
    struct stat info;
    const char *own = llm_run_file(r, "config");
    if (own) PAR_TRY(llm_config_write(r, own));
    if (!llm_config_given(r, "log")) return PAR_OK;
    if (stat(r->set.log, &info) != 0 || !S_ISREG(info.st_mode)) return PAR_OK;
    snprintf(path, sizeof path, "%s.config", r->set.log);
    return llm_config_write(r, path);
}

/* Rank 0's files; the curve is written at once, so that a bad path is known before the first
 * step. */
static par_status open_files(llm_observer *o, const llm_run *r, const llm_world *w,
                             const llm_data *d, const llm_beginning *from) {
    const llm_settings *s = &r->set;
    const par_series_start start = {from->step, from->loss, r->carried.first};
    struct stat info;
    bool csv = false, events = false;
    /* a log that is not there, or has nothing in it */
    bool fresh =
        !from->step ||
        (s->log && (stat(s->log, &info) != 0 || (S_ISREG(info.st_mode) && info.st_size == 0)));
    if (s->log) PAR_TRY(par_log_continue(s->log, from->step, from->loss, &o->past));
    if (s->log) PAR_TRY(par_log_open(s->log, &o->log));
    if (s->log && fresh) PAR_TRY(llm_log_start(o->log, r, w, d));
    if (s->log && from->step) PAR_TRY(llm_log_resume(o->log, r, w, d, from));
    PAR_TRY(write_config(r));
    /* what was spent on steps that were taken out stays */
    if (from->step && llm_cost_record(r, w, o->log)) PAR_TRY(par_log_end(o->log));
    if (s->log) PAR_TRY(llm_methods_log(o->log, r));
    if (s->comm_matrix_csv) PAR_TRY(check_matrix_file(s->comm_matrix_csv));
    if (s->comm_matrix_svg) PAR_TRY(check_matrix_file(s->comm_matrix_svg));
    if (s->curve) PAR_TRY(create_curve(o, r));
    if (s->csv) PAR_TRY(par_series_open_csv(s->csv, &start, &csv, &o->csv));
    if (s->tensorboard)
        PAR_TRY(par_series_open_events(s->tensorboard, &start, &events, &o->events));
    o->has_validation = csv || events;
    for (int64_t i = 0; i < o->past.n; i++)
        if (o->past.points[i].validation && o->past.points[i].step == from->step)
            o->has_validation = true;
    report_past(o, s, from, fresh);
    return s->curve ? par_curve_write(o->curve, s->curve) : PAR_OK;
}

static bool wants_matrix(const llm_run *r) {
    return r->set.comm_matrix || r->set.comm_matrix_csv || r->set.comm_matrix_svg ||
           llm_run_file(r, "matrix.json");
}

par_status llm_observer_create(const llm_run *r, llm_world *w, const llm_data *d,
                               const llm_beginning *from, llm_observer **out) {
    static const par_tag tag = {"observe", -1, -1, -1};
    PAR_TRY(llm_cost_begin(r, w, from));
    llm_observer *o = calloc(1, sizeof *o);
    par_status st = o ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for an observer");
    if (st == PAR_OK && w->rank == 0) st = open_files(o, r, w, d, from);
    if (st == PAR_OK && wants_matrix(r)) st = par_traffic_create(w->size, &o->counted);
    if (st == PAR_OK && wants_matrix(r)) st = par_traffic_create(w->size, &o->predicted);
    st = llm_world_agree(w, st);
    if (st == PAR_OK && from->step) {
        /* rank 0 alone reads the log; what it found decides what all do */
        int32_t has = o->has_validation;
        st = par_comm_broadcast(w->comm, &has, 1, PAR_I32, 0, tag, NULL, NULL);
        o->has_validation = has;
    }
    if (st != PAR_OK) {
        llm_observer_destroy(&o);
        return st;
    }
    o->recorder = par_transport_recorder(w->transport);
    o->mfu_per_rate = llm_mfu(r, w->size, 1);
    if (o->counted) par_recorder_reset(o->recorder);
    *out = o;
    return PAR_OK;
}

void llm_observer_destroy(llm_observer **handle) {
    llm_observer *o = *handle;
    if (!o) return;
    llm_cost_close();
    par_log_close(&o->log);
    par_series_close(&o->csv);
    par_series_close(&o->events);
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

static void add_point(par_series **series, const par_series_point *point) {
    if (!*series || par_series_add(*series, point) == PAR_OK) return;
    llm_report_problems("a file of the run's numbers is given up", par_error());
    par_series_close(series);
}

static void add_points(llm_observer *o, const par_series_point *point) {
    add_point(&o->csv, point);
    add_point(&o->events, point);
}

static void write_curve(llm_observer *o, const llm_run *r) {
    if (!o->curve || par_curve_write(o->curve, r->set.curve) == PAR_OK) return;
    llm_report_problems("the curve is given up", par_error());
    par_curve_destroy(&o->curve);
}

bool llm_observer_has_validation(const llm_observer *o) {
    return o->has_validation;
}

static void record_cost(llm_observer *o, const llm_run *r, const llm_world *w) {
    if (llm_cost_record(r, w, o->log)) end_line(o);
}

void llm_observer_step(llm_observer *o, const llm_run *r, const llm_world *w, int64_t step,
                       double lr, double seconds, const par_vote *vote,
                       const par_step_times *times) {
    double rate = (double)vote->n_targets / seconds;
    const par_series_point point = {.step = step,
                                    .loss = vote->loss,
                                    .seconds = seconds,
                                    .grad_norm = vote->grad_norm,
                                    .lr = lr,
                                    .tokens_per_s = rate,
                                    .mfu = rate * o->mfu_per_rate};
    o->steps++;
    o->seconds += seconds;
    if (o->curve) par_curve_add(o->curve, false, step, vote->loss);
    add_points(o, &point);
    if (o->log) llm_log_step(o->log, step, lr, point.mfu, vote, times);
    if (o->log) end_line(o);
    if (llm_cost_step(r, w, step, vote->n_targets)) record_cost(o, r, w);
    if (vote->stop) llm_observer_signal(o, step);
}

void llm_observer_signal(llm_observer *o, int64_t step) {
    if (!o->log) return;
    par_log_text(o->log, "event", "signal");
    par_log_int(o->log, "step", step);
    end_line(o);
}

void llm_observer_health(llm_observer *o, const par_health_round *round, const par_health *health) {
    if (!o->log) return;
    llm_log_health(o->log, round, health);
    end_line(o);
}

void llm_observer_validation(llm_observer *o, const llm_run *r, int64_t step, double loss,
                             int64_t n, double seconds) {
    const par_series_point point = {
        .validation = true, .step = step, .loss = loss, .seconds = seconds};
    if (o->curve) par_curve_add(o->curve, true, step, loss);
    write_curve(o, r);
    add_points(o, &point);
    if (!o->log) return;
    llm_log_validation(o->log, step, loss, n, seconds);
    end_line(o);
}

par_status llm_observer_count(llm_observer *o, const llm_run *r, par_trainer *trainer) {
    par_traffic_run sent;
    write_curve(o, r);
    if (!o->predicted) return PAR_OK;
    PAR_TRY(par_trainer_settle(trainer));
    par_traffic_count(o->counted, o->recorder);
    par_trainer_traffic(trainer, &sent);
    sent.T = r->config.tokens;
    sent.C = r->config.channels;
    sent.steps = o->steps;
    sent.micros = o->steps * par_trainer_n_micro(trainer);
    o->predicting = par_traffic_predict(o->predicted, &sent);
    return PAR_OK;
}

/* Of operations that NCCL carried in graphs only its profiler tells times. */
static void note_untimed(const llm_run *r, const par_matrix *m) {
    bool untimed = false;
    for (int i = 0; i < m->n_ops; i++) {
        const par_traffic_op *o = &m->ops[i];
        untimed = untimed || (o->logical_nbytes > 0 && o->seconds <= 0 && strcmp(o->op, "recv"));
    }
    if (untimed && r->set.device == LLM_CUDA)
        printf("note: no bandwidth is known of operations in graphs; "
               "NCCL_PROFILER_PLUGIN=.../libpar_nccl_record.so tells it (NCCL 2.28 or newer), and "
               "so does --no-graph\n");
}

/* Rank 0's. The run's own file is no reason to fail. */
static par_status write_matrix(const llm_run *r, const par_matrix *m) {
    const llm_settings *s = &r->set;
    const char *own = llm_run_file(r, "matrix.json");
    int n = s->comm_matrix ? 0 : par_matrix_differences(m);
    if (s->comm_matrix) {
        par_matrix_print(m, PAR_MATRIX_NBYTES, llm_report_line, NULL);
        note_untimed(r, m);
    } else if (n || s->comm_matrix_csv || s->comm_matrix_svg) {
        printf("communication: %d difference%s from the prediction", n, llm_report_s(n));
        if (own && n) printf("; par diagnose comm-matrix %s", own);
        printf("\n");
    }
    if (own && par_matrix_write_json(m, own) != PAR_OK)
        llm_report_problems("the communication matrix is given up", par_error());
    if (s->comm_matrix_csv) PAR_TRY(par_matrix_write_csv(m, s->comm_matrix_csv));
    return s->comm_matrix_svg ? par_matrix_write_svg(m, PAR_MATRIX_NBYTES, s->comm_matrix_svg)
                              : PAR_OK;
}

par_status llm_observer_matrix(llm_observer *o, const llm_run *r, llm_world *w) {
    par_matrix *matrix = NULL;
    par_status st = PAR_OK;
    if (!o->counted) return PAR_OK;
    PAR_TRY(llm_world_agree(w, o->predicting));
    PAR_TRY(par_matrix_gather(w->comm, o->counted, o->predicted, &matrix));
    if (matrix) {
        matrix->layout = r->params.layout;
        matrix->has_layout = true;
        matrix->steps = o->steps;
        matrix->seconds = o->seconds;
        st = write_matrix(r, matrix);
    }
    par_matrix_destroy(&matrix);
    return llm_world_agree(w, st);
}

par_status llm_observer_cost(llm_observer *o, const llm_run *r, const llm_world *w) {
    PAR_TRY(llm_cost_end(r, w));
    if (w->rank == 0) record_cost(o, r, w);
    return PAR_OK;
}
