/*
 * What a run takes: hours of its devices, their price, and the energy of its hosts where their
 * meters can be read, from the start of rank 0's process on, with what the log says was spent
 * before. A record of it goes to the log every 10 s and at the end, nothing where there is neither
 * a price nor a meter. While the run goes on rank 0 knows its own host's energy alone and takes
 * every host's for equal; at the end all are added up.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "par/log.h"
#include "observe.h"

#define RECORD_S   10.0
#define METER_S    1.0
#define J_PER_KWH  3.6e6
#define S_PER_HOUR 3600.0

/* Sums. */
typedef struct {
    double device_hours, money, joules;
} spent;

static struct {
    par_meter *meter;                 /* of this host, on one of its ranks */
    int n_meters;                     /* hosts that have them; the same on every rank */
    double looked, own;               /* the meter, when and J */
    double joules;                    /* of all hosts, as far as it is known */
    spent before;                     /* by earlier processes of this run */
    int64_t step;                     /* the last one */
    double recorded, recorded_joules; /* at the last record: when, and energy */
    int64_t steps, targets;           /* since then */
    int64_t all_targets, all_steps;
    bool warned;
} cost;

void llm_cost_settle(const llm_settings *s, par_problems *problems) {
    if (s->budget > 0 && s->price_per_hour == 0 && s->energy_price == 0)
        par_problem(problems, "--budget: needs --price-per-hour or --energy-price");
}

const char *llm_cost_user(char name[64]) {
    const struct passwd *user = getpwuid(getuid());
    if (user)
        snprintf(name, 64, "%s", user->pw_name);
    else
        snprintf(name, 64, "%ld", (long)getuid());
    return name;
}

const char *llm_cost_time(char text[32]) {
    time_t t = time(NULL);
    struct tm utc;
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    return text;
}

static bool is_known(const llm_settings *s) {
    return s->price_per_hour > 0 || cost.n_meters > 0;
}

/* The last record of the last run in a log. */
static par_status take(void *user, const par_log_record *record, int64_t line) {
    spent *sum = user;
    (void)line;
    if (strcmp(par_log_event(record), "start") == 0) *sum = (spent){0};
    if (strcmp(par_log_event(record), "cost") != 0) return PAR_OK;
    double hours = par_log_number(record, "measured.device_hours");
    double money = par_log_number(record, "measured.cost_run");
    double joules = par_log_number(record, "measured.energy_run_j");
    if (isfinite(hours)) sum->device_hours = hours;
    if (isfinite(money)) sum->money = money;
    if (isfinite(joules)) sum->joules = joules;
    return PAR_OK;
}

par_status llm_cost_begin(const llm_run *r, const llm_world *w, const llm_beginning *from) {
    static const par_tag tag = {"cost", -1, -1, -1};
    const llm_settings *s = &r->set;
    const char *log = from->step ? s->log : NULL;
    const par_meter_params params = {.gpus = s->device == LLM_CUDA};
    char why[512] = "";
    par_log_reading unused;
    if (par_transport_local_rank(w->transport) == 0 &&
        par_meter_open(&params, &cost.meter) != PAR_OK && s->energy_price > 0)
        snprintf(why, sizeof why, "%s", par_error());
    if (w->rank == 0 && log && access(log, R_OK) == 0 &&
        par_log_read(log, take, &cost.before, &unused) != PAR_OK)
        cost.before = (spent){0}; /* the log's own opening says what is wrong with it */
    cost.recorded = w->start;
    cost.step = from->step;
    int32_t n = cost.meter != NULL;
    PAR_TRY(par_comm_all_reduce(w->comm, &n, &n, 1, PAR_I32, tag, NULL, NULL));
    cost.n_meters = n;
    if (w->rank != 0) return PAR_OK;
    if (cost.meter && n == 1)
        printf("energy: of %s, this whole host's\n", par_meter_about(cost.meter));
    else if (cost.meter)
        printf("energy: of %s on this host, taken for each of %d until they are added up\n",
               par_meter_about(cost.meter), n);
    else if (*why)
        printf("note: energy is not known: %s\n", why);
    if (is_known(s) && cost.before.device_hours > 0)
        printf("cost: %.4g device-hours were spent before, for %.4g\n", cost.before.device_hours,
               cost.before.money);
    return PAR_OK;
}

static void read_meter(double now) {
    if (!cost.meter || now < cost.looked + METER_S) return;
    cost.own = par_meter_joules(cost.meter);
    cost.joules = cost.own * cost.n_meters;
    cost.looked = now;
}

static double price(const llm_settings *s, double device_hours, double joules) {
    return device_hours * s->price_per_hour + joules / J_PER_KWH * s->energy_price;
}

/* By this process. */
static spent spent_now(const llm_run *r, const llm_world *w, double now) {
    double hours = (now - w->start) * w->size / S_PER_HOUR;
    return (spent){hours, price(&r->set, hours, cost.joules), cost.joules};
}

bool llm_cost_record(const llm_run *r, const llm_world *w, par_log *log) {
    char time[32];
    if (!is_known(&r->set) || !log) return false;
    double now = llm_world_seconds(), took = now - cost.recorded;
    double energy = cost.joules - cost.recorded_joules;
    double money = price(&r->set, took * w->size / S_PER_HOUR, energy);
    spent own = spent_now(r, w, now);
    par_log_text(log, "event", "cost");
    par_log_int(log, "step", cost.step);
    par_log_object(log, "measured");
    par_log_text(log, "time", llm_cost_time(time));
    par_log_exact(log, "device_hours", cost.before.device_hours + own.device_hours);
    par_log_exact(log, "cost_run", cost.before.money + own.money);
    if (cost.steps) par_log_real(log, "cost_step", money / (double)cost.steps);
    if (cost.targets) par_log_real(log, "cost_million_tokens", 1e6 * money / (double)cost.targets);
    if (cost.n_meters) {
        par_log_exact(log, "energy_run_j", cost.before.joules + own.joules);
        par_log_real(log, "watts", took > 0 ? energy / took : NAN);
    }
    par_log_object_end(log);
    cost.recorded = now;
    cost.recorded_joules = cost.joules;
    cost.steps = cost.targets = 0;
    return true;
}

bool llm_cost_step(const llm_run *r, const llm_world *w, int64_t step, int64_t n_targets) {
    const llm_settings *s = &r->set;
    double now = llm_world_seconds();
    read_meter(now);
    if (w->rank != 0 || !is_known(s)) return false;
    cost.step = step;
    cost.steps++, cost.all_steps++;
    cost.targets += n_targets, cost.all_targets += n_targets;
    return now >= cost.recorded + RECORD_S;
}

static void warn(const llm_settings *s, double money) {
    if (cost.warned || money < 0.8 * s->budget) return;
    cost.warned = true;
    llm_report_progress_clear();
    printf("warning: %.0f %% of --budget %g are spent after step %lld; before all is, the run "
           "%sends\n",
           100 * money / s->budget, s->budget, (long long)cost.step, s->save ? "saves and " : "");
}

bool llm_cost_lasts(const llm_run *r, const llm_world *w, double *left, double *whole) {
    double now = llm_world_seconds(), budget = r->set.budget;
    if (budget <= 0) return false;
    read_meter(now); /* a validation may take long */
    double money = spent_now(r, w, now).money, pace = money / (now - w->start);
    if (!(pace > 0)) return false;
    warn(&r->set, cost.before.money + money);
    *left = (budget - cost.before.money - money) / pace;
    *whole = budget / pace;
    return true;
}

par_status llm_cost_end(const llm_run *r, const llm_world *w) {
    static const par_tag tag = {"cost", -1, -1, -1};
    const llm_settings *s = &r->set;
    const spent *before = &cost.before;
    if (!is_known(s)) return PAR_OK;
    cost.looked = 0;
    read_meter(llm_world_seconds());
    int64_t millijoules = llround(1e3 * cost.own);
    PAR_TRY(par_comm_all_reduce(w->comm, &millijoules, &millijoules, 1, PAR_I64, tag, NULL, NULL));
    cost.joules = 1e-3 * (double)millijoules;
    if (w->rank != 0) return PAR_OK;
    spent own = spent_now(r, w, llm_world_seconds());
    printf("cost:");
    if (s->price_per_hour > 0 || s->energy_price > 0)
        printf(" %.4g, %.4g per step, %.4g per million tokens;", own.money,
               cost.all_steps ? own.money / (double)cost.all_steps : 0,
               cost.all_targets ? 1e6 * own.money / (double)cost.all_targets : 0);
    printf(" %.4g device-hours", own.device_hours);
    if (cost.n_meters)
        printf(", %.4g kWh on %d host%s", own.joules / J_PER_KWH, cost.n_meters,
               llm_report_s(cost.n_meters));
    if (before->device_hours > 0)
        printf("; with what was spent before: %.4g, %.4g device-hours", before->money + own.money,
               before->device_hours + own.device_hours);
    printf("\n");
    return PAR_OK;
}

void llm_cost_close(void) {
    par_meter_close(&cost.meter);
}
