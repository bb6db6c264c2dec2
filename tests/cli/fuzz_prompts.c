/*
 * What `train_llm` reads of prompts, mutated: see ../mutate.h. A program of its own, as a model and
 * its kernels come with it: libFuzzer walks the counters of all that is linked after each
 * execution.
 */
#include "../../launcher/train_llm/generate.c" /* its functions are static; what it needs: */

#include "../harness.h"
#include "../mutate.h"

void llm_data_path(const char *path, char *out, size_t nbytes) {
    snprintf(out, nbytes, "%s", path);
}

par_status llm_world_agree(llm_world *w, par_status local) {
    (void)w;
    return local;
}

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

static void prompts(void) {
    static const char file[] = "caf\xc3\xa9 \\n two\n\n{\"n\": [1], \"prompt\": \"a\\u00e9 b\"}\r\n"
                               "a \\\\ and a \\|\n";
    static const char stops[] = "\\n\\n|end|a \\| b|\\\\";
    mutate_run("prompts", target_prompts, file, sizeof file - 1, 2000);
    mutate_run("stops", target_stops, stops, sizeof stops - 1, 2000);
    mutate_end();
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"prompts", prompts, 0, NULL, 0}};
    return harness_main("fuzz-prompts", cases, HARNESS_COUNT(cases), argc, argv);
}
