/* What is seen of a run while it trains, and what it leaves: watchdog, timeline, log, curve,
 * tables, communication matrix, memory, health, cost. */
#ifndef TRAIN_LLM_OBSERVE_H
#define TRAIN_LLM_OBSERVE_H

#include "train_llm.h"

/* watch: the watchdog; nothing without --stall-timeout, or on one rank. Not collective but for the
 * first. */
void llm_watch_begin(const llm_run *, const llm_world *);
/* The rank waits for all others, without a transport. */
void llm_watch_waits(bool waits);
void llm_watch_transport(par_transport *);
/* In a handler: the process is told to end. */
void llm_watch_told(void);
/* Before the transport is destroyed. */
void llm_watch_end(void);

/* trace: the timeline of --trace; nothing without it */
/* Problems of its steps. */
void llm_trace_check(const llm_run *, par_problems *);
/* Takes the ring, and sees that the file can be written. Collective. */
par_status llm_trace_begin(const llm_run *, llm_world *, const par_trainer *);
/* Right before this step is begun, with no other begun where llm_trace_edge said so: recording
 * begins or ends, and behind the last step the file is written. Collective. */
par_status llm_trace_step(const llm_run *, const llm_world *, par_trainer *, int64_t step);
/* Recording begins or ends behind this step. */
bool llm_trace_edge(int64_t step);
/* Behind the last step of the run: what was not written yet. Collective. */
par_status llm_trace_end(const llm_run *, const llm_world *, par_trainer *);
/* Before the transport is destroyed. */
void llm_trace_close(void);

/* mfu */
/* The most that a rank's device can do, FLOP/s; 0: it is not known. */
double llm_mfu_peak(const llm_run *);
/* 0 to 1; negative: the peak is not known. */
double llm_mfu(const llm_run *, int ranks, double tokens_per_s);
/* Its formula and the peak, in a line. */
void llm_mfu_report(const llm_run *);

/* log: its records. Those without a status are ended by the caller. */
par_status llm_log_start(par_log *, const llm_run *, const llm_world *, const llm_data *);
par_status llm_log_resume(par_log *, const llm_run *, const llm_world *, const llm_data *,
                          const llm_beginning *);
void llm_log_step(par_log *, int64_t step, double lr, double mfu, const par_vote *,
                  const par_step_times *);
void llm_log_health(par_log *, const par_health_round *, const par_health *);
void llm_log_validation(par_log *, int64_t step, double loss, int64_t n, double seconds);

/* observe */
typedef struct llm_observer llm_observer;
/* Opens log and curve on rank 0, continues those of a resumed run, and sets the recorder to 0,
 * right before the first step. Collective. */
par_status llm_observer_create(const llm_run *, llm_world *, const llm_data *,
                               const llm_beginning *, llm_observer **);
void llm_observer_destroy(llm_observer **);
/* The log holds an evaluation after the step where the run begins; the same answer on every
 * rank. */
bool llm_observer_has_validation(const llm_observer *);
/* Every rank calls these after a step and an evaluation. */
void llm_observer_step(llm_observer *, const llm_run *, const llm_world *, int64_t step, double lr,
                       double seconds, const par_vote *, const par_step_times *);
/* A validation was ended as the run was asked to stop; a step's vote says it itself. */
void llm_observer_signal(llm_observer *, int64_t step);
/* On rank 0: a round of health. */
void llm_observer_health(llm_observer *, const par_health_round *, const par_health *);
void llm_observer_validation(llm_observer *, const llm_run *, int64_t step, double loss, int64_t n,
                             double seconds);
/* The last curve, what was sent so far, once the last step's weights have arrived, and the
 * prediction of it. What is sent later is not in the matrix. Collective. */
par_status llm_observer_count(llm_observer *, const llm_run *, par_trainer *);
/* The communication matrix. Collective. */
par_status llm_observer_matrix(llm_observer *, const llm_run *, llm_world *);
/* What the run took. Collective. */
par_status llm_observer_cost(llm_observer *, const llm_run *, const llm_world *);

/* cost: what a run takes, in money and energy */
void llm_cost_settle(const llm_settings *, par_problems *);
/* One rank of each host opens its meters; what the log says was spent before is counted in, so it
 * comes before the log is cut back. Collective. */
par_status llm_cost_begin(const llm_run *, const llm_world *, const llm_beginning *);
/* After a step, on every rank; true: a record is due. */
bool llm_cost_step(const llm_run *, const llm_world *, int64_t step, int64_t n_targets);
/* A record of all until now, which the caller ends; false: there is nothing to
 * record. On rank 0. */
bool llm_cost_record(const llm_run *, const llm_world *, par_log *);
/* Seconds that --budget lasts at the pace so far, now and from its beginning; false: there is none.
 * On rank 0. */
bool llm_cost_lasts(const llm_run *, const llm_world *, double *left, double *whole);
/* The energy of all hosts, and a line on rank 0; a record is due. Collective. */
par_status llm_cost_end(const llm_run *, const llm_world *);
void llm_cost_close(void);
/* Who runs this process. */
const char *llm_cost_user(char name[64]);
/* Now, as 2026-11-27T11:46:00Z. */
const char *llm_cost_time(char text[32]);

/* memory: RUN/memory.json, and answers to `par diagnose memory --pid` */
/* The first file, and from now on answers. Before the first step. Collective. */
par_status llm_memory_begin(const llm_run *, llm_world *, const par_trainer *);
/* Every rank after a step. */
void llm_memory_step(int64_t step);
/* The last file; a warning if something grows. Collective. */
par_status llm_memory_end(const llm_run *, llm_world *);
/* No answers any more. Not collective. */
void llm_memory_close(void);

/* health: times of ranks, replicas, nodes */
/* --check-nodes: before there is a trainer. Collective. */
par_status llm_health_nodes(const llm_run *, const llm_world *);
/* What --health-every and --check-replicas need. Collective. */
par_status llm_health_begin(const llm_run *, llm_world *, par_trainer *);
/* Every rank after a step; in a round rank 0 says who is slow, and logs it. Collective. */
par_status llm_health_step(const llm_run *, const llm_world *, llm_observer *, int64_t step,
                           const par_step_times *);
/* --check-replicas is due after this step. */
bool llm_health_checks(const llm_run *, int64_t step);
/* With no step under way. Collective. Errors: PAR_ERR_NUMERIC [agreed] with the rank that
 * differs. */
par_status llm_health_replicas(int64_t step);
/* The table of all rounds; on rank 0. */
void llm_health_print(void);
/* Before the trainer is destroyed. */
void llm_health_end(void);

#endif
