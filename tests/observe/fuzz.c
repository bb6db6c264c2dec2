/*
 * What a run leaves and is read again, mutated: see ../mutate.h. Pages of ranks, which may be of
 * ranks that died in the middle of a write; logs, series, the communication matrix, the file on
 * memory, the timeline. What is accepted is shown in every form that there is. The digests of an
 * event file are made anew, so that what is behind them is reached.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../harness.h"
#include "../mutate.h"
#include "libpar/base/cores.h"
#include "libpar/observe/hang.h"
#include "par/par.h"

static char *slurp(const char *path, size_t *n) {
    static char text[MUTATE_CAPACITY];
    FILE *file = fopen(path, "rb");
    *n = file ? fread(text, 1, sizeof text, file) : 0;
    if (file) fclose(file);
    CHECK(*n > 0 && *n < sizeof text, "%s: %zu bytes", path, *n);
    return text;
}

static void drop(void *user, const char *line) {
    size_t *sum = user;
    *sum += strlen(line);
}

/* ---- pages of ranks ---- */

enum { RANKS = 3 };

/* Thousands of ranks without a page take long and show nothing that 64 do not. */
static int target_pages(const uint8_t *data, size_t n) {
    static char text[1 << 14];
    const size_t nbytes = sizeof(par__flight);
    char name[64];
    for (size_t r = 0; r < RANKS; r++) {
        par__flight page = {.size = 0};
        size_t at = r * nbytes < n ? r * nbytes : n, m = n - at < nbytes ? n - at : nbytes;
        memcpy(&page, data + at, m);
        if (page.size > 64 && page.size <= 4096) page.size = 1 + page.size % 64;
        snprintf(name, sizeof name, "rank_%05zu.page", r);
        mutate_part(name, &page, m);
    }
    memset(text, 1, sizeof text);
    if (par_watchdog_diagnose(mutate_folder(), text, sizeof text) != PAR_OK) return -1;
    CHECK(memchr(text, 0, sizeof text), "a text without an end");
    return 0;
}

/* Ranks 0 and 1 wait for rank 2, one in a collective, one in a receive. */
static void pages(void) {
    static par__flight ranks[RANKS];
    for (int r = 0; r < RANKS; r++) {
        par__flight *p = &ranks[r];
        *p = (par__flight){.run = 77,
                           .rank = r,
                           .size = RANKS,
                           .pid = 1,
                           .beat = 1700000000000000000,
                           .phase = PAR__PHASE_STEP,
                           .wait = r == 2 ? PAR__WAIT_NONE
                                   : r    ? PAR__WAIT_PEER
                                          : PAR__WAIT_GROUP,
                           .wait_peer = 2,
                           .wait_number = 9,
                           .step = 3,
                           .act = 1 + r,
                           .chunk = 0,
                           .micro = 1,
                           .layer = 2};
        memcpy(p->magic, PAR__FLIGHT_MAGIC, 8);
        strcpy(p->host, "elsewhere");
        p->axes[0] = (par__flight_axis){.axis = "tp",
                                        .n = RANKS,
                                        .first = 0,
                                        .n_started = 9 - r,
                                        .n_done = 8 - r,
                                        .n_collectives = 9 - r};
        for (int k = 0; k < PAR__FLIGHT_OPS; k++)
            p->axes[0].ops[(6 + k) % PAR__FLIGHT_OPS] =
                (par__flight_op){6 + k, 2, 0, 1, "all_reduce", "activations"};
    }
    static par__flight page;
    ranks[0].wait_number = -7; /* its operation would be in front of the list */
    CHECK(target_pages((const uint8_t *)ranks, sizeof ranks) == 0, "two pages are sound");
    CHECK(!par__page_read(mutate_folder(), 0, 0, &page) && page.size == 0, "a page of no number");
    CHECK(par__page_read(mutate_folder(), 1, 0, &page) && page.size == RANKS, "a sound page");
    ranks[0].wait_number = 9;
    mutate_run("pages", target_pages, ranks, sizeof ranks, 1500);
    mutate_end();
}

/* ---- the log ---- */

static const char log_text[] =
    "{\"event\": \"start\", \"model\": \"x\", \"options\": {\"tp\": 2, \"zero\": true}}\n"
    "{\"event\": \"step\", \"step\": 1, \"loss\": 5.5, \"measured\": {\"seconds\": 0.25}}\n"
    "{\"event\": \"validation\", \"step\": 1, \"loss\": 5}\n"
    "{\"event\": \"step\", \"step\": 2, \"loss\": 4.25, \"measured\": {\"seconds\": 1}}\n"
    "{\"event\": \"step\", \"step\": 3, \"loss\": null}\n";

static void add_field(void *user, const char *name, const char *value) {
    size_t *sum = user;
    *sum += strlen(name) + strlen(value);
}

static par_status visit(void *user, const par_log_record *record, int64_t line) {
    size_t *sum = user;
    const char *model = par_log_string(record, "model");
    *sum += strlen(par_log_event(record)) + (model ? strlen(model) : 0) + (line > 0);
    *sum += par_log_number(record, "measured.seconds") > 0;
    *sum += par_log_whole(record, "step", -1) > 0;
    *sum += par_log_flag(record, "options.zero");
    par_log_fields(record, NULL, add_field, sum);
    par_log_fields(record, "options", add_field, sum);
    return PAR_OK;
}

/* All five lines are records. */
static int target_log(const uint8_t *data, size_t n) {
    par_log_reading reading;
    size_t sum = 0;
    if (par_log_read(mutate_file("log", data, n), visit, &sum, &reading) != PAR_OK) return -1;
    return reading.n_left_out == 0 && reading.n_records > 0 ? 0 : -1;
}

static int target_continue(const uint8_t *data, size_t n) {
    par_log_history history;
    if (par_log_continue(mutate_file("log", data, n), 2, 4.25, &history) != PAR_OK) return -1;
    for (int64_t i = 0; i < history.n; i++)
        CHECK(history.points[i].step <= 2, "a later step stayed");
    par_log_history_free(&history);
    return 0;
}

static void logs(void) {
    mutate_run("log", target_log, log_text, sizeof log_text - 1, 1500);
    mutate_run("log-continue", target_continue, log_text, sizeof log_text - 1, 1000);
    mutate_end();
}

/* ---- series ---- */

static const par_series_start from_2 = {.step = 2, .loss = 4.25};

static int target_csv(const uint8_t *data, size_t n) {
    bool validated;
    par_series *s = NULL;
    if (par_series_open_csv(mutate_file("x.csv", data, n), &from_2, &validated, &s) != PAR_OK)
        return -1;
    par_series_close(&s);
    return 0;
}

/* Masked CRC-32C of n bytes, low byte first. */
static void put_crc(const uint8_t *data, size_t n, uint8_t *out) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78 & -(crc & 1));
    }
    crc = ~crc;
    crc = ((crc >> 15) | (crc << 17)) + 0xa282ead8;
    memcpy(out, &crc, sizeof crc);
}

/* Records, each as the 8 bytes of its length and its data: the digests are put in here. */
static int target_events(const uint8_t *data, size_t n) {
    static uint8_t file[3 * MUTATE_CAPACITY];
    bool validated;
    size_t used = 0;
    par_series *s = NULL;
    for (size_t at = 0; n - at >= 8;) {
        uint64_t length;
        memcpy(&length, data + at, 8);
        size_t there = n - at - 8, m = length < there ? (size_t)length : there;
        memcpy(file + used, data + at, 8);
        put_crc(file + used, 8, file + used + 8);
        memcpy(file + used + 12, data + at + 8, m);
        put_crc(file + used + 12, m, file + used + 12 + m);
        used += 16 + m;
        at += 8 + m;
        if (used + 16 + MUTATE_CAPACITY > sizeof file) break;
    }
    mutate_file("events.out.tfevents.1700000000.libpar", file, used);
    if (par_series_open_events(mutate_folder(), &from_2, &validated, &s) != PAR_OK) return -1;
    par_series_close(&s);
    return 0;
}

/* Steps 1 to 3 and two validations; the loss of step n is 6.25 - n. */
static void write_series(par_series *s) {
    for (int n = 1; n <= 3; n++) {
        CHECK_OK(par_series_add(s, &(par_series_point){.step = n,
                                                       .loss = 6.25 - n,
                                                       .seconds = 0.5,
                                                       .grad_norm = 1,
                                                       .lr = 1e-3,
                                                       .tokens_per_s = 100,
                                                       .mfu = 0.25}));
        if (n > 1)
            CHECK_OK(par_series_add(
                s, &(par_series_point){.validation = true, .step = n, .loss = 5, .seconds = 1}));
    }
}

static void csv(void) {
    par_series *s = NULL;
    size_t n;
    CHECK_OK(par_series_open_csv(mutate_path("x.csv"), &(par_series_start){0}, NULL, &s));
    if (!s) return;
    write_series(s);
    par_series_close(&s);
    char *text = slurp(mutate_path("x.csv"), &n);
    mutate_run("series-csv", target_csv, text, n, 1500);
    mutate_end();
}

/* A record of field 5, summary, of value 1 with tag and float: as the format has it, by hand. */
static size_t put_event(uint8_t *out, uint8_t step, const char *tag, float loss) {
    uint8_t data[128] = {0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, step}, *end = data + 11;
    uint8_t k = (uint8_t)strlen(tag);
    *end++ = 0x2a;
    *end++ = (uint8_t)(k + 9);
    *end++ = 0x0a;
    *end++ = (uint8_t)(k + 7);
    *end++ = 0x0a;
    *end++ = k;
    memcpy(end, tag, k);
    end += k;
    *end++ = 0x15;
    memcpy(end, &loss, 4);
    uint64_t n = (uint64_t)(end + 4 - data);
    memcpy(out, &n, 8);
    memcpy(out + 8, data, n);
    return 8 + n;
}

static void events(void) {
    static uint8_t b[1024];
    static const uint8_t head[] = {0x09, 0,   0,    0,   0,   0,   0,   0,   0x40,
                                   0x10, 0,   0x1a, 13,  'b', 'r', 'a', 'i', 'n',
                                   '.',  'E', 'v',  'e', 'n', 't', ':', '2'};
    size_t n = 8 + sizeof head;
    memcpy(b, &(uint64_t){sizeof head}, 8);
    memcpy(b + 8, head, sizeof head);
    n += put_event(b + n, 1, "loss/train", 5.25f);
    n += put_event(b + n, 2, "loss/train", 4.25f);
    n += put_event(b + n, 2, "loss/validation", 5);
    n += put_event(b + n, 3, "loss/train", 3.25f);
    mutate_run("series-events", target_events, b, n, 1500);
    mutate_end();
}

/* ---- the communication matrix ---- */

static int target_matrix(const uint8_t *data, size_t n) {
    par_matrix *m = NULL;
    size_t sum = 0;
    if (par_matrix_read_json(mutate_file("matrix.json", data, n), &m) != PAR_OK) return -1;
    if (mutate_shows(data, n)) {
        for (int q = 0; q < PAR_MATRIX_QUANTITIES; q++)
            par_matrix_print(m, (par_matrix_quantity)q, drop, &sum);
        par_matrix_differences(m);
        CHECK_OK(par_matrix_write_csv(m, mutate_path("matrix.csv")));
        CHECK_OK(par_matrix_write_svg(m, PAR_MATRIX_NBYTES, mutate_path("matrix.svg")));
        CHECK_OK(par_matrix_write_json(m, mutate_path("again.json")));
    }
    par_matrix_destroy(&m);
    return 0;
}

static void matrix(void) {
    static const char sound[] =
        "{\"form\": \"libpar matrix 1\", \"program\": \"libpar\", \"ranks\": 4, \"steps\": 12, "
        "\"seconds\": 1.5, \"complete\": true, \"layout\": {\"order\": [\"tp\", \"cp\", \"dp\", "
        "\"pp\"], \"size\": [2, 1, 1, 2]}, \"hosts\": [\"a\", \"b\"], \"host\": [0, 0, 1, 1], "
        "\"columns\": [\"from\", \"to\", \"nbytes\", \"n_messages\", \"predicted_nbytes\", "
        "\"logical_nbytes\", \"wait_s\"], \"lines\": [{\"axis\": \"tp\", \"purpose\": \"loss\", "
        "\"cells\": [[0, 1, 100, 3, 100, 50, 0.125], [1, 0, 7, 1, 8, 7, 0]]}, {\"axis\": "
        "\"control\", \"purpose\": \"vote\", \"cells\": [[3, 2, 4, 1, 2, 4, 0]]}], "
        "\"operations\": [{\"axis\": \"tp\", \"purpose\": \"loss\", \"op\": \"all_gather\", "
        "\"n_ranks\": 2, \"n_ops\": 3, \"nbytes\": 4, \"n_messages\": 5, \"logical_nbytes\": 6, "
        "\"bus_nbytes\": 3, \"wait_s\": 0.5, \"hidden_s\": 0.25, \"seconds\": 0.125}], "
        "\"layers\": [{\"axis\": \"tp\", \"purpose\": \"loss\", \"phase\": \"forward\", "
        "\"layer\": 7, \"n_ops\": 1, \"nbytes\": 2, \"n_messages\": 3, \"wait_s\": 0.5}]}\n";
    /* two cells of a sender, whose sum has no number */
    mutate_replaced(target_matrix, sound, sizeof sound - 1, "[1, 0, 7, 1, 8, 7, 0]",
                    "[0, 0, 9223372036854775807, 1, 9223372036854775807, 7, 0]");
    mutate_run("matrix", target_matrix, sound, sizeof sound - 1, 600);
    mutate_end();
}

/* ---- memory ---- */

static int target_memory(const uint8_t *data, size_t n) {
    par_memory_report *r = NULL;
    size_t sum = 0;
    if (par_memory_report_read(mutate_file("memory.json", data, n), &r) != PAR_OK) return -1;
    if (!mutate_shows(data, n)) {
        par_memory_report_destroy(&r);
        return 0;
    }
    par_memory_report_print(r, drop, &sum);
    char *json = par_memory_report_json(r);
    CHECK(json && !strstr(json, "\": -9223372036854775808"), "a size that is below 0");
    free(json);
    par_memory_report_differences(r);
    for (int i = 0; i < r->n_ranks; i++) par_memory_report_growth(r, i);
    CHECK_OK(par_memory_report_write_folded(r, mutate_path("memory.folded")));
    CHECK_OK(par_memory_report_write_svg(r, mutate_path("memory.svg")));
    par_memory_report_destroy(&r);
    return 0;
}

/* Two ledgers, two ranks, 24 samples each, which grow on the second one. */
static void memory(void) {
    static char text[MUTATE_CAPACITY];
    static const char *const names[] = {"step", "seconds", "resident", "anonymous", "device"};
    size_t n = 0;
#define PUT(...) n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__)
    PUT("{\"form\":\"libpar memory 1\",\"ledgers\":[");
    for (int b = 0; b < 2; b++)
        PUT("%s[{\"kind\":\"weights\",\"what\":\"weights\",\"nbytes\":40000,\"planned\":%d,"
            "\"parts\":[{\"layer\":\"layers.0\",\"tensor\":\"mlp.up.weight\",\"nbytes\":9000},"
            "{\"layer\":\"layers.1\",\"tensor\":\"a <b>\",\"nbytes\":300}]}]",
            b ? "," : "", 40000 - b);
    PUT("],\"ranks\":[");
    for (int r = 0; r < 2; r++) {
        PUT("%s{\"rank\":%d,\"host\":\"node\",\"pid\":7,\"tp\":0,\"cp\":0,\"pp\":%d,\"dp\":0,"
            "\"device\":true,\"ledger\":%d,\"proportional\":5000,\"samples\":{",
            r ? "," : "", r, r, r);
        for (int c = 0; c < 5; c++) {
            PUT("%s\"%s\":[", c ? "," : "", names[c]);
            for (int i = 0; i < 24; i++)
                PUT("%s%d", i ? "," : "", c < 2 ? i + 1 : 20000000 + r * i * 100000);
            PUT("]");
        }
        PUT("}}");
    }
    PUT("],\"largest_rank_with\":[{\"option\":\"--zero 1\",\"nbytes\":9000}]}");
#undef PUT
    CHECK(mutate_replaced(target_memory, text, n, "\"ledger\":1", "\"ledger\":4294967295") == -1,
          "a ledger that is not there");
    /* sizes whose sums have no number */
    mutate_replaced(target_memory, text, n, "\"nbytes\":40000", "\"nbytes\":9223372036854775807");
    mutate_replaced(target_memory, text, n, "20000000", "9223372036854775807");
    mutate_run("memory", target_memory, text, n, 600);
    mutate_end();
}

/* ---- the timeline ---- */

static int target_timeline(const uint8_t *data, size_t n) {
    const char *path = mutate_file("trace.json", data, n);
    size_t sum = 0;
    if (par_timeline_diagnose(path, false, drop, &sum) != PAR_OK) return -1;
    if (mutate_shows(data, n)) CHECK_OK(par_timeline_diagnose(path, true, drop, &sum));
    return 0;
}

/* Two ranks, a step with an action, a message between them and a collective. */
static void timeline(void) {
    static char text[MUTATE_CAPACITY];
    size_t n = 0;
#define PUT(...) n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__)
    PUT("{\"displayTimeUnit\":\"ms\",\n\"otherData\":{\"program\":\"libpar\",\"ranks\":2,\n"
        "\"dropped\":[0,3]},\n\"traceEvents\":[\n");
    for (int r = 0; r < 2; r++) {
        PUT("{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"rank %d: tp "
            "%d\"}},\n",
            r, r, r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":0.000,\"dur\":100.000,\"cat\":\"call\","
            "\"name\":\"step\",\"args\":{\"step\":5}},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":1.000,\"dur\":40.000,\"cat\":\"action\","
            "\"name\":\"forward\",\"args\":{\"n\":1,\"chunk\":0,\"micro\":0}},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":2.000,\"dur\":4.000,\"cat\":\"kernel\","
            "\"name\":\"gemm\"},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":50.000,\"dur\":%d.000,\"cat\":\"wait\","
            "\"name\":\"all_reduce\",\"args\":{\"axis\":\"tp\",\"purpose\":\"loss\",\"n\":7,"
            "\"first\":0}},\n",
            r, 20 - 10 * r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":10,\"ts\":45.000,\"dur\":25.000,\"cat\":\"comm\","
            "\"name\":\"all_reduce\",\"args\":{\"axis\":\"tp\",\"purpose\":\"loss\",\"n\":7,"
            "\"first\":0,\"bytes\":100,\"started\":44.5}},\n",
            r);
        PUT("{\"ph\":\"X\",\"pid\":%d,\"tid\":11,\"ts\":80.000,\"dur\":5.000,\"cat\":\"comm\","
            "\"name\":\"%s\",\"args\":{\"axis\":\"pp\",\"purpose\":\"x\",\"n\":1,\"first\":0,"
            "\"peer\":%d,\"bytes\":8}}%s\n",
            r, r ? "recv" : "send", 1 - r, r ? "]}" : ",");
    }
#undef PUT
    CHECK(mutate_replaced(target_timeline, text, n, "\"dur\":40.000", "\"dur\":1e300") == -1,
          "a time that is no number of ns");
    CHECK(mutate_replaced(target_timeline, text, n, "\"ranks\":2", "\"ranks\":1000000") == -1,
          "a million ranks in a few lines");
    mutate_run("timeline", target_timeline, text, n, 1000);
    mutate_end();
}

/* ---- limits of cgroups ---- */

/* The list, then each file of the group "a", with a form feed between them; a part that is not
 * there leaves an empty file. Accepted: there is a limit of cores and one of memory. */
static int target_cgroups(const uint8_t *data, size_t n) {
    static const char *const names[] = {"list", "a/cpu.max", "a/memory.max", "a/memory.current",
                                        "a/memory.stat"};
    const uint8_t *end = data + n;
    size_t limit;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint8_t *stop = data < end ? memchr(data, '\f', (size_t)(end - data)) : NULL;
        if (!stop) stop = end;
        mutate_part(names[i], data, (size_t)(stop - data));
        data = stop < end ? stop + 1 : end;
    }
    int cores = par__cgroup_cores(mutate_path("list"), mutate_folder());
    size_t left = par__cgroup_memory(mutate_path("list"), mutate_folder(), &limit);
    CHECK(cores >= 0 && left <= limit, "%d cores, %zu of %zu bytes", cores, left, limit);
    return cores > 0 && limit > 0 ? 0 : -1;
}

static void cgroups(void) {
    static const char sound[] = "12:cpu,cpuacct:/x\n0::/a\n\f250000 100000\n\f1073741824\n\f"
                                "268435456\n\fanon 5\ninactive_file 4096\n";
    char group[512];
    snprintf(group, sizeof group, "%s/a", mutate_folder());
    if (mkdir(group, 0700) != 0) CHECK(false, "%s: cannot be made", group);
    mutate_run("cgroups", target_cgroups, sound, sizeof sound - 1, 1000);
    mutate_end();
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"pages", pages, 0, NULL, 0},       {"logs", logs, 0, NULL, 0},
        {"csv", csv, 0, NULL, 0},           {"events", events, 0, NULL, 0},
        {"matrix", matrix, 0, NULL, 0},     {"memory", memory, 0, NULL, 0},
        {"timeline", timeline, 0, NULL, 0}, {"cgroups", cgroups, 0, NULL, 0},
    };
    return harness_main("fuzz-observe", cases, HARNESS_COUNT(cases), argc, argv);
}
