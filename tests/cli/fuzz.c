/*
 * What `par report`, `par compare`, `par cost` and `par diagnose nccl-matrix` read, mutated: see
 * ../mutate.h. A run's directory becomes a page, two of them a comparison, and records of NCCL
 * calls a matrix. fuzz_hosts.c has what `par run` reads of hosts.
 */
#include "../../launcher/par/cost.c" /* its functions are static */

#include "../../launcher/par/compare.h"
#include "../../launcher/par/nccl_traffic.h"
#include "../../launcher/par/report.h"
#include "../../launcher/par/run.h"
#include "../../launcher/par/text_files.h"
#include "../harness.h"
#include "../mutate.h"
#include "fuzz.h"

/* Every section, into memory. */
static void page(const report_run *run) {
    static void (*const sections[])(report_page *, const report_run *) = {
        report_configuration, report_training, report_speed, report_pipeline, report_communication,
        report_memory,        report_health,   report_cost,  report_methods};
    report_page p;
    CHECK_OK(report_page_begin(&p, "a run"));
    if (harness_failed()) return;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) sections[i](&p, run);
    report_page_end(&p, NULL);
}

static int target_log(const uint8_t *data, size_t n) {
    report_run run;
    mutate_file("log.jsonl", data, n);
    par_status st = report_read(mutate_folder(), &run);
    bool whole = st == PAR_OK && run.reading.n_left_out == 0 && run.reading.n_records > 0;
    if (st == PAR_OK && mutate_shows(data, n)) page(&run);
    report_close(&run);
    return whole ? 0 : -1;
}

static const char log_text[] =
    "{\"event\": \"start\", \"model\": \"x\", \"parameters\": 1000, \"ranks\": 2, \"tp\": 2, "
    "\"layers\": 2, \"micro_batches\": 2, \"schedule\": \"1f1b\", \"precision\": \"bf16\", "
    "\"options\": {\"tp\": 2, \"zero\": true, \"lr\": 1e-3, \"schedule\": \"1f1b\"}}\n"
    "{\"event\": \"methods\", \"gemm\": \"own\"}\n"
    "{\"event\": \"step\", \"step\": 1, \"loss\": 5.5, \"grad_norm\": 1, \"lr\": 1e-3, "
    "\"targets\": 64, \"measured\": {\"seconds\": 0.25, \"tokens_per_s\": 100, \"mfu\": 0.5, "
    "\"forward_s\": 0.1, \"backward_s\": 0.1, \"bubble\": 0.1}}\n"
    "{\"event\": \"validation\", \"step\": 1, \"loss\": 5, \"measured\": {\"seconds\": 1}}\n"
    "{\"event\": \"health\", \"step\": 1, \"measured\": {\"step_min_s\": 0.1, \"step_median_s\": "
    "0.2, \"step_max_s\": 0.3, \"step_ratio\": 1.5, \"step_slowest\": 1}}\n"
    "{\"event\": \"step\", \"step\": 2, \"loss\": 4.25, \"targets\": 64, \"measured\": "
    "{\"seconds\": 1, \"cost_run\": 2.5, \"cost_million_tokens\": 3}}\n"
    "{\"event\": \"resume\", \"step\": 2, \"loss\": 4.25}\n"
    "{\"event\": \"cost\", \"step\": 2, \"cost_run\": 2.5, \"currency\": \"EUR\"}\n"
    "{\"event\": \"step\", \"step\": 3, \"loss\": null}\n";

/* The same log for `par cost analyze`: accepted with a run in it. */
static int target_cost(const uint8_t *data, size_t n) {
    analysis a = {.by = BY_MODEL};
    par_log_reading reading;
    par_status st = par_log_read(mutate_file("log.jsonl", data, n), take, &a, &reading);
    if (st == PAR_OK) st = end_run(&a);
    int64_t tokens = 0;
    for (int i = 0; i < a.n; i++) tokens += a.rows[i].all.tokens;
    CHECK(tokens >= 0, "%lld tokens", (long long)tokens);
    bool found = st == PAR_OK && a.n > 0;
    free(a.rows);
    free(a.seen);
    return found ? 0 : -1;
}

static comparison both = {.n = 2, .names = {"sound", "mutated"}};

/* Beside a sound run: each number and option of the two, and the page. */
static int target_compare(const uint8_t *data, size_t n) {
    static const char *names[MAX_OPTIONS];
    report_run *run = &both.runs[1];
    char text[80];
    mutate_file("log.jsonl", data, n);
    par_status st = report_read(mutate_folder(), run);
    bool whole = st == PAR_OK && run->reading.n_left_out == 0 && run->reading.n_records > 0;
    bool shown = st == PAR_OK && mutate_shows(data, n);
    for (int i = 0; shown && i < compare_n_numbers(); i++)
        for (int k = 0; k < both.n && compare_any_has(&both, i); k++) {
            compare_number_text(&both, i, k, text);
            CHECK(*text && strlen(text) < 64, "%s: no text", compare_number_name(i));
        }
    int n_names = shown ? compare_option_names(&both, names, MAX_OPTIONS) : 0;
    for (int i = 0; i < n_names; i++)
        if (compare_differs(&both, names[i])) compare_option_text(names[i], text);
    if (shown) CHECK_OK(compare_write_page(&both));
    report_close(run);
    return whole ? 0 : -1;
}

static void compared(void) {
    mutate_file("log.jsonl", log_text, sizeof log_text - 1);
    CHECK_OK(report_read(mutate_folder(), &both.runs[0]));
    mutate_run("compare-log", target_compare, log_text, sizeof log_text - 1, 300);
    report_close(&both.runs[0]);
    mutate_end();
}

/* Times that no integer holds, steps that no double tells apart, losses whose range is infinite. */
static void extremes(void) {
    static const char *const cases[][2] = {{"\"seconds\": 0.25", "\"seconds\": 1e300"},
                                           {"\"step\": 3", "\"step\": 1e300"},
                                           {"\"step\": 2", "\"step\": 1e17"},
                                           {"\"step\": 2", "\"step\": 1.0000000000000002"},
                                           {"\"loss\": 5.5", "\"loss\": 1e308"},
                                           {"\"loss\": 4.25", "\"loss\": -1e308"},
                                           {"\"loss\": 4.25", "\"loss\": 1e-320"}};
    static const double seconds[] = {1e17, 1e294, INFINITY, -1e300, NAN};
    char text[REPORT_TEXT];
    for (int i = 0; i < HARNESS_COUNT(cases); i++)
        mutate_replaced(target_log, log_text, sizeof log_text - 1, cases[i][0], cases[i][1]);
    for (int i = 0; i < HARNESS_COUNT(seconds); i++) {
        report_seconds(seconds[i], text);
        CHECK(strchr(text, '-') == NULL || seconds[i] < 0 || isnan(seconds[i]), "%g s: %s",
              seconds[i], text);
    }
}

static void logs(void) {
    extremes();
    mutate_run("report-log", target_log, log_text, sizeof log_text - 1, 300);
    mutate_replaced(target_cost, log_text, sizeof log_text - 1, "\"targets\": 64",
                    "\"targets\": 9223372036854775807");
    mutate_run("cost-log", target_cost, log_text, sizeof log_text - 1, 1000);
    mutate_end();
}

/* Begun once: what is drawn of each trace stands in place of the last one's. */
static report_page drawing;

/* The page with another trace; accepted: it draws the last step. */
static int target_trace(const uint8_t *data, size_t n) {
    static report_run run;
    mutate_file("trace.json", data, n);
    snprintf(run.directory, sizeof run.directory, "%s", mutate_folder());
    rewind(drawing.out);
    return report_trace(&drawing, &run) ? 0 : -1;
}

static void trace(void) {
    static char text[MUTATE_CAPACITY];
    size_t n = 0;
#define PUT(...) n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__)
    PUT("{\"otherData\":{\"program\":\"libpar\",\"ranks\":2},\n\"traceEvents\":[\n");
    for (int r = 0; r < 2; r++) {
        PUT("{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"rank %d\"}},"
            "\n",
            r, r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":0.000,\"dur\":100.000,\"cat\":\"call\","
            "\"name\":\"step\",\"args\":{\"step\":5}},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":1.000,\"dur\":40.000,\"cat\":\"action\","
            "\"name\":\"forward\",\"args\":{\"n\":1,\"chunk\":1,\"micro\":0}},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":50.000,\"dur\":20.000,\"cat\":\"wait\","
            "\"name\":\"recv\",\"args\":{}}%s\n",
            r, r ? "]}" : ",");
    }
#undef PUT
    CHECK_OK(report_page_begin(&drawing, "a run"));
    if (harness_failed()) return;
    mutate_replaced(target_trace, text, n, "\"step\":5", "\"step\":1e300");
    mutate_run("report-trace", target_trace, text, n, 1000);
    CHECK_OK(report_page_end(&drawing, NULL));
    mutate_end();
}

/* ---- records of NCCL calls ---- */

static int target_nccl(const uint8_t *data, size_t n) {
    nccl_job job;
    nccl_table table;
    char axis[16];
    mutate_file("rank-1.json", data, n);
    if (nccl_files_read(mutate_folder(), &job) != PAR_OK) return -1;
    for (int i = 0; i < job.n_members; i++) nccl_files_axis(&job, &job.members[i], axis);
    if (nccl_traffic_make(&job, &table) == PAR_OK) {
        for (int64_t i = 0; i < table.n_cells; i++)
            CHECK(table.cells[i].from >= 0 && table.cells[i].from < job.n_ranks &&
                      table.cells[i].to >= 0 && table.cells[i].to < job.n_ranks,
                  "a cell of no rank");
        nccl_traffic_free(&table);
    }
    nccl_files_free(&job);
    return 0;
}

/* What rank r of two recorded. */
static size_t put_record(char *text, size_t nbytes, int r) {
    return (size_t)snprintf(
        text, nbytes,
        "{\"form\": \"libpar nccl record 1\", \"rank\": %d, \"pid\": %d, \"host\": \"node\", "
        "\"nccl\": 22000, \"failed\": 0, \"lost\": 0, \"ended\": true, \"groups\": {\"n\": 2, "
        "\"calls\": 5, \"largest\": 3}, \"communicators\": [{\"id\": \"00ff\", \"name\": \"tp 0\", "
        "\"size\": 2, \"rank\": %d, \"device\": 0, \"traffic\": [{\"op\": \"all_reduce\", "
        "\"type\": \"bf16\", \"calls\": 3, \"captured\": 1, \"nbytes\": 600}, {\"op\": \"%s\", "
        "\"type\": \"fp32\", \"peer\": %d, \"calls\": 1, \"captured\": 0, \"nbytes\": 80}]}], "
        "\"profile_lost\": 1, \"relayed\": 2, \"profiled\": [{\"id\": \"01fe\", \"name\": \"tp "
        "0\", "
        "\"size\": 2, \"rank\": %d, \"device\": 0, \"hosts\": 2, \"traffic\": [{\"op\": \"%s\", "
        "\"type\": \"fp32\", \"peer\": %d, \"algorithm\": \"RING\", \"protocol\": \"LL\", "
        "\"channels\": 2, \"calls\": 4, \"nbytes\": 320, \"timed\": 4, \"seconds\": 0.25}], "
        "\"network\": [{\"row\": 0, \"peer\": %d, \"sent\": 320, \"received\": 0, \"messages\": 8, "
        "\"seconds\": 0.125}]}]}\n",
        r, 100 + r, r, r ? "recv" : "send", 1 - r, r, r ? "recv" : "send", 1 - r, 1 - r);
}

/* Of a communicator of a thousand ranks two wrote a file. What goes to the others, and what is
 * missing of it, is that of a walk over all of them. */
static void alone(void) {
    static const char text[] =
        "{\"form\": \"libpar nccl record 1\", \"rank\": %d, \"communicators\": [{\"id\": \"0\", "
        "\"size\": 1000, \"rank\": %d, \"traffic\": [{\"op\": \"all_gather\", \"nbytes\": 8}, "
        "{\"op\": \"all_to_all\", \"nbytes\": 8}, {\"op\": \"send\", \"peer\": 9, \"nbytes\": 8}, "
        "{\"op\": \"gather\", \"peer\": 3, \"nbytes\": 8}, "
        "{\"op\": \"broadcast\", \"peer\": 4, \"nbytes\": 8}]}]}";
    static const double rings[] = {2 * 8 * 999, 2 * 8 * 999, 2 * 8, 8, 8};
    char record[1024];
    nccl_job job;
    nccl_table table;
    for (int i = 0; i < 2; i++)
        mutate_file(i ? "rank-1.json" : "rank-0.json", record,
                    (size_t)snprintf(record, sizeof record, text, i, 3 + i));
    CHECK_OK(nccl_files_read(mutate_folder(), &job));
    CHECK_OK(nccl_traffic_make(&job, &table));
    CHECK(table.n_missing == 4992 && table.n_cells == 6 && table.n_rows == 5,
          "%lld are missing, %lld cells, %d rows", (long long)table.n_missing,
          (long long)table.n_cells, table.n_rows);
    for (int i = 0; i < table.n_rows; i++)
        CHECK(table.rows[i].ring_nbytes == rings[i], "%s: %g bytes", table.rows[i].op,
              table.rows[i].ring_nbytes);
    nccl_traffic_free(&table);
    nccl_files_free(&job);
    mutate_end();
}

static void nccl(void) {
    char text[4096];
    alone();
    CHECK(mutate_replaced(target_nccl, text, put_record(text, sizeof text, 1), "\"calls\": 3",
                          "\"calls\": 9223372036854775807") == -1,
          "more calls than can be added up");
    mutate_run("nccl-alone", target_nccl, text, put_record(text, sizeof text, 1), 500);
    mutate_file("rank-0.json", text, put_record(text, sizeof text, 0));
    mutate_run("nccl-record", target_nccl, text, put_record(text, sizeof text, 1), 500);
    mutate_end();
}

/* ---- texts for `par data`, and what `par run` knows of a rank ---- */

/* Accepted: it is taken for a text. */
static int target_text(const uint8_t *data, size_t n) {
    text_files list = {0};
    mutate_file("text", data, n);
    CHECK_OK(text_files_add(&list, mutate_folder()));
    bool taken = list.n == 1;
    text_files_free(&list);
    return taken ? 0 : -1;
}

static int target_status(const uint8_t *data, size_t n) {
    run_rank_status status;
    mutate_file("rank-00003.status", data, n);
    run_rank_read(mutate_folder(), 3, &status);
    CHECK(strlen(status.host) < sizeof status.host, "a host without an end");
    return status.began && status.ended ? 0 : -1;
}

static void texts(void) {
    static const char text[] = "caf\xc3\xa9, \xe2\x82\xac 12\n\xf0\x9f\x98\x80 words\n";
    static const char status[] = "began 1700000000.125 4711 node17\nended 1700000100.5 0 9\n";
    mutate_run("text-files", target_text, text, sizeof text - 1, 1000);
    mutate_end();
    mutate_run("rank-status", target_status, status, sizeof status - 1, 1000);
    mutate_end();
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"logs", logs, 0, NULL, 0},        {"trace", trace, 0, NULL, 0},
        {"compare", compared, 0, NULL, 0}, {"nccl", nccl, 0, NULL, 0},
        {"texts", texts, 0, NULL, 0},      {"hosts", fuzz_hosts, 0, NULL, 0}};
    return harness_main("fuzz-par", cases, HARNESS_COUNT(cases), argc, argv);
}
