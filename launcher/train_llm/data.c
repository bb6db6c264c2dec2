/*
 * The data of train_llm: one token file, its first part for training, its last part for validation.
 * Everything that depends on the file is checked before the model is built, on every rank; the
 * caller agrees on the result.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train_llm.h"

static const char quickstart_tokens[] = "runs/quickstart/tokens.bin";

const char *llm_data_default(void) {
    return access(quickstart_tokens, F_OK) == 0 ? quickstart_tokens : NULL;
}

/* One rank of each node reads the whole file for its largest token. */
static par_status check_vocabulary(const llm_run *r, const llm_world *w, const par_tokens *tokens) {
    if (par_transport_local_rank(w->transport) != 0) return PAR_OK;
    int64_t max = par_tokens_max(tokens);
    if (max < r->config.vocab) return PAR_OK;
    return par_error_set(
        PAR_ERR_OPTION,
        "%s: holds token %lld; the model %s has a vocabulary of %lld; legal: --vocab %lld or more",
        r->set.data, (long long)max, r->config.name, (long long)r->config.vocab,
        (long long)max + 1);
}

static par_status create_samplers(const llm_run *r, llm_data *d) {
    par_sampler_params p = {.tokens = d->tokens,
                            .T = r->config.tokens,
                            .begin = d->begin,
                            .end = d->cut,
                            .seed = (uint64_t)r->set.seed,
                            .shuffle = true};
    PAR_TRY(par_sampler_create(&p, &d->train));
    if (d->cut == d->end) return PAR_OK;
    /* A fixed random subset: the first samples of the part may be one file. */
    p.begin = d->cut;
    p.end = d->end;
    p.seed = 0;
    PAR_TRY(par_sampler_create(&p, &d->validation));
    int64_t unit = r->params.micro_batch * r->params.layout.size[PAR_DP];
    int64_t there = par_sampler_n_sequences(d->validation), n = r->set.eval_batches * r->set.batch;
    if (n > there) n = there;
    d->n_validation = n / unit > 0 ? n / unit * unit : unit;
    return PAR_OK;
}

par_status llm_data_open(const llm_run *r, const llm_world *w, llm_data *d) {
    const char *path = r->set.data;
    if (!path)
        return par_error_set(
            PAR_ERR_OPTION,
            "--data: is missing; legal: a token file (Megatron, llm.c, nanoGPT). ./quickstart "
            "makes %s of the text on this machine, ./par data of any text",
            quickstart_tokens);
    PAR_TRY(par_tokens_open(path, &d->tokens));
    int64_t n = par_tokens_n(d->tokens), shortest = r->config.tokens + 1;
    d->end = n;
    d->cut = n - (int64_t)((double)n * r->set.split);
    if (d->cut < shortest || (d->cut < n && n - d->cut < shortest))
        return par_error_set(
            PAR_ERR_OPTION,
            "%s: has %lld tokens, %lld of them for validation; legal: --tokens + 1 = %lld or "
            "more in each part",
            path, (long long)n, (long long)(n - d->cut), (long long)shortest);
    PAR_TRY(check_vocabulary(r, w, d->tokens));
    return create_samplers(r, d);
}

void llm_data_close(llm_data *d) {
    par_sampler_destroy(&d->validation);
    par_sampler_destroy(&d->train);
    par_tokens_close(&d->tokens);
}

typedef struct {
    int64_t *pairs, *firsts; /* [V, V], [V] */
    int64_t V;
    double nats;
} bigram_table;

/* Walk the pairs of tokens [begin, end): count them, or add up -log p of the counts. */
static par_status walk(const par_tokens *tokens, int64_t begin, int64_t end, bigram_table *t,
                       bool count) {
    enum { CHUNK = 1 << 14 };
    int32_t block[CHUNK + 1];
    for (int64_t first = begin; first + 1 < end; first += CHUNK) {
        int64_t n = end - first < CHUNK + 1 ? end - first : CHUNK + 1;
        PAR_TRY(par_tokens_read(tokens, first, n, block));
        for (int64_t i = 0; i + 1 < n; i++) {
            int64_t *pair = &t->pairs[block[i] * t->V + block[i + 1]];
            if (count) {
                ++*pair;
                t->firsts[block[i]]++;
            } else {
                t->nats -= log((double)(*pair + 1) / (double)(t->firsts[block[i]] + t->V));
            }
        }
    }
    return PAR_OK;
}

par_status llm_data_bigram(const llm_data *d, int64_t vocab, double *nats) {
    bigram_table t = {.V = vocab};
    if (vocab > 4096)
        return par_error_set(PAR_ERR_OPTION, "--bigram: a vocabulary of %lld; legal: up to 4096",
                             (long long)vocab);
    if (!d->validation)
        return par_error_set(PAR_ERR_OPTION,
                             "--bigram: needs a validation part; legal: --split above 0");
    t.pairs = calloc((size_t)(vocab * vocab), sizeof *t.pairs);
    t.firsts = calloc((size_t)vocab, sizeof *t.firsts);
    par_status st = t.pairs && t.firsts
                        ? PAR_OK
                        : par_error_set(PAR_ERR_MEMORY, "no host memory for a bigram table");
    if (st == PAR_OK) st = walk(d->tokens, d->begin, d->cut, &t, true);
    if (st == PAR_OK) st = walk(d->tokens, d->cut, d->end, &t, false);
    if (st == PAR_OK) *nats = t.nats / (double)(d->end - d->cut - 1);
    free(t.firsts);
    free(t.pairs);
    return st;
}
