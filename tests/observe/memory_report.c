/*
 * The file on memory: what one rank writes is read back, parts add up to lines, a difference from
 * the plan and growth are found where they were planted and nowhere else, and stacks and picture
 * have all bytes.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "par/par.h"

static char folder[] = "/tmp/par-memory-XXXXXX";

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *read_all(const char *path) {
    static char text[1 << 20];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return text;
}

typedef struct {
    char text[1 << 16];
} output;

static void keep(void *user, const char *line) {
    output *out = user;
    size_t n = strlen(out->text);
    snprintf(out->text + n, sizeof out->text - n, "%s\n", line);
}

static par_status take_all(par_memory *memory) {
    void *got;
    PAR_TRY(par_memory_take(memory, PAR_MEM_WEIGHTS, "weights", 4096, &got));
    PAR_TRY(par_memory_tell(memory, PAR_MEM_WEIGHTS, "weights", "layers.0", "mlp.up.weight", 3000));
    PAR_TRY(par_memory_tell(memory, PAR_MEM_WEIGHTS, "weights", "layers.1", "a <b> & \"c\"", 1000));
    PAR_TRY(par_memory_take(memory, PAR_MEM_ACTIVATIONS, "slots", 8192, &got));
    PAR_TRY(par_memory_tell(memory, PAR_MEM_ACTIVATIONS, "slots", "layers.0", "mlp.up", 8192));
    return par_memory_take(memory, PAR_MEM_COMM, "tp", 512, &got);
}

static par_status alloc(size_t nbytes, void **out) {
    *out = aligned_alloc(256, nbytes);
    return *out ? PAR_OK : PAR_ERR_MEMORY;
}
static void release(void *block, size_t nbytes) {
    (void)nbytes;
    free(block);
}

static void written_and_read(void) {
    static const par_allocator allocator = {alloc, release};
    static const par_layout one = {.size = {1, 1, 1, 1}, .kv_replicas = 1};
    const par_memory_saving savings[] = {{"--recompute full", 9000}, {"--zero 1", 90000}};
    par_memory *plan = NULL, *memory = NULL;
    par_memory_watch *watch = NULL;
    par_memory_report *report = NULL;
    par_transport *self = NULL;
    par_comm *comm = NULL;
    static output out;
    CHECK_OK(par_memory_create_measuring(&plan));
    CHECK_OK(take_all(plan));
    CHECK_OK(par_memory_create(&allocator, &allocator, plan, &memory));
    CHECK_OK(take_all(memory));
    CHECK_OK(par_transport_create_self(NULL, &self));
    CHECK_OK(par_comm_create(self, &(par_comm_params){.axis = "world"}, NULL, &comm));
    CHECK_OK(par_memory_watch_create(memory, NULL, &watch));
    for (int step = 1; step <= 3; step++) {
        par_memory_watch_step(watch, step);
        usleep(12000);
    }
    CHECK_OK(par_memory_watch_write(watch, comm, &one, savings, 2, path_of("memory.json")));
    CHECK_OK(par_memory_report_read(path_of("memory.json"), &report));
    if (harness_failed()) return;
    const par_memory_book *book = &report->books[0];
    size_t sum = 0;
    for (int i = 0; i < book->n_details; i++) sum += book->details[i].nbytes;
    CHECK(report->n_ranks == 1 && book->nbytes == 4096 + 8192 + 512, "%zu bytes", book->nbytes);
    CHECK(sum == book->nbytes, "parts of %zu bytes, lines of %zu", sum, book->nbytes);
    CHECK(book->on_device == 4096 + 8192, "%zu bytes on the device", book->on_device);
    CHECK(par_memory_report_differences(report) == 0, "differences from the plan");
    CHECK(report->ranks[0].n_samples == 3 && report->ranks[0].samples[2].step == 3, "samples");
    CHECK(report->ranks[0].pid == getpid() && report->ranks[0].samples[0].resident > 1 << 20 &&
              report->ranks[0].samples[0].anonymous <= report->ranks[0].samples[0].resident,
          "what the process takes");
    par_memory_report_print(report, keep, &out);
    CHECK(strstr(out.text, "--recompute full") && !strstr(out.text, "--zero 1"),
          "only what makes it smaller is advised: %s", out.text);
    char *text = par_memory_watch_text(watch, 5);
    par_memory_report *now = NULL;
    CHECK_OK(par_memory_report_parse(text, "a text", &now));
    CHECK(now && now->ranks[0].rank == 5 && now->ranks[0].n_samples == 4 &&
              now->ranks[0].samples[3].step == 3,
          "the text of now");
    free(text);
    par_memory_report_destroy(&now);
    par_memory_report_destroy(&report);
    par_memory_watch_destroy(&watch);
    par_comm_destroy(&comm);
    par_transport_destroy(&self);
    par_memory_destroy(&memory);
    par_memory_destroy(&plan);
}

/* Two ledgers of three ranks. wrong: bytes of rank 1's slots that were not planned; leak: bytes per
 * step that rank 1's process grows by. */
static char *made(int wrong, double leak, int n_samples) {
    static char text[1 << 18];
    size_t n = 0;
#define PUT(...) n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__)
    PUT("{\"form\":\"libpar memory 1\",\"ledgers\":[");
    for (int b = 0; b < 2; b++) {
        PUT("%s[{\"kind\":\"weights\",\"what\":\"weights\",\"nbytes\":%d,\"planned\":%d,\"parts\":"
            "[",
            b ? "," : "", 40000, 40000);
        for (int layer = 0; layer < 4; layer++)
            PUT("%s{\"layer\":\"layers.%d\",\"tensor\":\"mlp.up.weight\",\"nbytes\":9000}",
                layer ? "," : "", layer + 4 * b);
        PUT("]},{\"kind\":\"activations\",\"what\":\"slots\",\"nbytes\":%d,\"planned\":%d,"
            "\"parts\":"
            "[{\"layer\":\"layers.%d\",\"tensor\":\"attention.qkv\",\"nbytes\":%d}]}]",
            20000 + 30000 * b + b * wrong, 20000 + 30000 * b, 4 * b, 20000 + 30000 * b);
    }
    PUT("],\"ranks\":[");
    for (int r = 0; r < 3; r++) {
        PUT("%s{\"rank\":%d,\"host\":\"node\",\"pid\":7,\"tp\":0,\"cp\":0,\"pp\":%d,\"dp\":0,"
            "\"device\":false,\"ledger\":%d,\"samples\":{",
            r ? "," : "", r, r == 1, r == 1);
        static const char *const names[] = {"step", "seconds", "resident", "anonymous"};
        for (int c = 0; c < 4; c++) {
            PUT("%s\"%s\":[", c ? "," : "", names[c]);
            for (int i = 0; i < n_samples; i++) {
                /* a process that jumps up at its start, and then by pages here and there */
                double v = 2e8 + (i > 3 ? 3e7 : 0) + 4096.0 * (i * 7919 % 5) + (r == 1) * leak * i;
                PUT("%s%.0f", i ? "," : "", c == 0 ? i + 1.0 : c == 1 ? 0.5 * i : v);
            }
            PUT("]");
        }
        PUT("}}");
    }
    PUT("],\"largest_rank_with\":[]}");
#undef PUT
    return text;
}

static void differences(void) {
    static output out;
    par_memory_report *report = NULL;
    for (int wrong = 0; wrong < 2; wrong++) {
        out.text[0] = 0;
        CHECK_OK(par_memory_report_parse(made(wrong * 256, 0, 4), "made", &report));
        CHECK(par_memory_report_differences(report) == wrong, "%d differences",
              par_memory_report_differences(report));
        par_memory_report_print(report, keep, &out);
        CHECK(!!strstr(out.text, "error: rank 1: activations, slots") == wrong, "%s", out.text);
        CHECK(report->ranks[report->largest].rank == 1, "the largest is not rank 1");
        par_memory_report_destroy(&report);
    }
}

static void growth(void) {
    static output out;
    par_memory_report *report = NULL;
    static const struct {
        double leak;
        int n;
        bool found;
    } cases[] = {{0, 200, false},
                 {65536, 200, true},
                 {65536, 15, false},
                 {200, 200, false},
                 {1e6, 40, true}};
    for (int i = 0; i < 5; i++) {
        out.text[0] = 0;
        CHECK_OK(par_memory_report_parse(made(0, cases[i].leak, cases[i].n), "made", &report));
        for (int r = 0; r < 3; r++) {
            double g = par_memory_report_growth(report, r).process;
            bool found = r == 1 && cases[i].found;
            CHECK((g > 0) == found, "case %d, rank %d: %g per step", i, r, g);
            if (found) CHECK(fabs(g / cases[i].leak - 1) < 0.05, "case %d: %g", i, g);
        }
        par_memory_report_print(report, keep, &out);
        CHECK(!!strstr(out.text, "growth: rank 1: the process outside of libpar's ledger grows") ==
                  cases[i].found,
              "%s", out.text);
        par_memory_report_destroy(&report);
    }
}

static void pictures(void) {
    par_memory_report *report = NULL;
    double sum[3] = {0};
    char kind[32];
    CHECK_OK(par_memory_report_parse(made(0, 0, 4), "made", &report));
    CHECK_OK(par_memory_report_write_folded(report, path_of("memory.folded")));
    for (char *line = strtok(read_all(path_of("memory.folded")), "\n"); line;
         line = strtok(NULL, "\n")) {
        int rank = -1;
        CHECK(sscanf(line, "rank %d;%31[^;];", &rank, kind) == 2 && rank >= 0 && rank < 3, "%s",
              line);
        if (!harness_failed()) sum[rank] += atof(strrchr(line, ' ') + 1);
    }
    CHECK(sum[0] == 60000 && sum[1] == 90000 && sum[2] == 60000, "%g, %g, %g bytes", sum[0], sum[1],
          sum[2]);
    CHECK_OK(par_memory_report_write_svg(report, path_of("memory.svg")));
    char *svg = read_all(path_of("memory.svg"));
    CHECK(strstr(svg, "<title>rank 0 and 1 like it: 58.59 KiB, 40.0 %</title>") &&
              strstr(svg, "<title>layers.4: 29.30 KiB, 20.0 %</title>") == NULL &&
              strstr(svg, "<title>attention.qkv (slots): 48.83 KiB, 33.3 %</title>"),
          "frames and their sizes");
    if (getenv("PAR_PAGES")) {
        char to[512];
        snprintf(to, sizeof to, "%s/memory-0.svg", getenv("PAR_PAGES"));
        CHECK_OK(par_memory_report_write_svg(report, to));
    }
    char *json = par_memory_report_json(report);
    CHECK(json && strstr(json, "\"largest_rank\": 1"), "%s", json);
    free(json);
    par_memory_report_destroy(&report);
}

static void refused(void) {
    par_memory_report *report = NULL;
    CHECK_FAILS(par_memory_report_parse("{", "x", &report), PAR_ERR_FORMAT, "line 1");
    CHECK_FAILS(par_memory_report_parse("{\"form\":\"libpar topology 1\"}", "x", &report),
                PAR_ERR_FORMAT, "legal: \"libpar memory 1\"");
    CHECK_FAILS(par_memory_report_parse("{\"form\":\"libpar memory 1\",\"ledgers\":[[]],\"ranks\":"
                                        "[{\"ledger\":3}]}",
                                        "x", &report),
                PAR_ERR_FORMAT, "has ledger 3");
    CHECK_FAILS(par_memory_report_read("/nowhere/memory.json", &report), PAR_ERR_IO, "/nowhere");
    CHECK(!report, "a report of nothing");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"written-and-read", written_and_read, 0, NULL, 0},
                                         {"differences", differences, 0, NULL, 0},
                                         {"growth", growth, 0, NULL, 0},
                                         {"pictures", pictures, 0, NULL, 0},
                                         {"refused", refused, 0, NULL, 0}};
    harness_foreign_json();
    if (!mkdtemp(folder)) return 1;
    int failed = harness_main("memory_report", cases, HARNESS_COUNT(cases), argc, argv);
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) ? 1 : failed;
}
