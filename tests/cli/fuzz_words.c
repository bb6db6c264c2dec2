/* What `par run` reads of hosts and `train_llm` of prompts, mutated: see ../mutate.h and fuzz.c. */
#include "../../launcher/par/run_map.c"        /* their functions are static */
#include "../../launcher/train_llm/generate.c" /* and what it needs of train_llm: */

#include "../harness.h"
#include "../mutate.h"
#include "fuzz.h"

void llm_data_path(const char *path, char *out, size_t nbytes) {
    snprintf(out, nbytes, "%s", path);
}

par_status llm_world_agree(llm_world *w, par_status local) {
    (void)w;
    return local;
}

/* ---- hosts ---- */

static void check_hosts(const host_list *hosts, int64_t ranks) {
    CHECK(hosts->n >= 0 && hosts->n <= NAMED, "%d hosts", hosts->n);
    CHECK(hosts->n == 0 || (int64_t)hosts->n * hosts->per_host >= ranks, "%d hosts of %d", hosts->n,
          hosts->per_host);
    for (int i = 0; i < hosts->n; i++)
        CHECK(memchr(hosts->names[i], 0, RUN_NAME), "a name without an end");
}

/* Accepted: what lies where is known. */
static int target_hostfile(const uint8_t *data, size_t n) {
    const run_settings s = {.ranks = 8, .hostfile = mutate_file("hosts", data, n)};
    static host_list hosts;
    hosts = find_hosts(&s, false);
    check_hosts(&hosts, s.ranks);
    return hosts.n > 0 ? 0 : -1;
}

static int target_hosts(const uint8_t *data, size_t n) {
    static char text[MUTATE_CAPACITY + 1];
    const run_settings s = {.ranks = 8, .hosts = text};
    static host_list hosts;
    memcpy(text, data, n);
    text[n] = 0;
    hosts = find_hosts(&s, false);
    check_hosts(&hosts, s.ranks);
    return hosts.n > 0 ? 0 : -1;
}

void fuzz_hosts(void) {
    static const char file[] = "# the job's\nnode1 slots=4\n  node2:4\n\nlocalhost\tslots=4\n";
    static const char words[] = "node1:4,node2:4,localhost:4";
    mutate_run("hostfile", target_hostfile, file, sizeof file - 1, 2000);
    mutate_run("hosts", target_hosts, words, sizeof words - 1, 2000);
    mutate_end();
}

/* ---- prompts ---- */

static llm_run run;

static int target_prompts(const uint8_t *data, size_t n) {
    llm_generation *p = calloc(1, sizeof *p);
    if (!p) abort();
    run.set.prompt_file = mutate_file("prompts", data, n);
    run.config.tokens = 64;
    CHECK_OK(par_tokenizer_open("bytes", &p->tokenizer));
    par_status st = read_prompts(&run, p);
    for (int i = 0; st == PAR_OK && i < p->n_prompts; i++) {
        const llm_prompt *q = &p->prompts[i];
        CHECK(q->n > 0 && q->n_new > 0 && q->n + q->n_new <= run.config.tokens &&
                  q->n + q->n_new <= p->capacity,
              "%lld tokens and %lld new ones", (long long)q->n, (long long)q->n_new);
        for (int64_t k = 0; k < q->n; k++)
            CHECK(q->ids[k] >= 0 && q->ids[k] < par_tokenizer_vocab(p->tokenizer), "id %d",
                  (int)q->ids[k]);
    }
    llm_generate_close(&p);
    return st == PAR_OK ? 0 : -1;
}

static int target_stops(const uint8_t *data, size_t n) {
    static char text[MUTATE_CAPACITY + 1];
    llm_generation *p = calloc(1, sizeof *p);
    if (!p) abort();
    memcpy(text, data, n);
    text[n] = 0;
    run.set.stop = text;
    par_status st = read_stops(&run.set, p);
    CHECK(p->n_stops <= LLM_MAX_STOPS, "%d strings", p->n_stops);
    llm_generate_close(&p);
    return st == PAR_OK ? 0 : -1;
}

void fuzz_prompts(void) {
    static const char file[] = "caf\xc3\xa9 \\n two\n\n{\"n\": [1], \"prompt\": \"a\\u00e9 b\"}\r\n"
                               "a \\\\ and a \\|\n";
    static const char stops[] = "\\n\\n|end|a \\| b|\\\\";
    mutate_run("prompts", target_prompts, file, sizeof file - 1, 2000);
    mutate_run("stops", target_stops, stops, sizeof stops - 1, 2000);
    mutate_end();
}
