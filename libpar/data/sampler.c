/*
 * The sampler: sample number n is a function of (seed, n) and of nothing else, so the order does
 * not depend on the batch size or the layout, and resuming at n needs no state. An epoch is a keyed
 * bijection of the sequences in a range; sequence i reads tokens begin + i·T .. begin + (i + 1)·T,
 * the last one as a target only, and never leaves the range.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/base/clock.h"
#include "par/data.h"
#include "par/random.h"

enum { LOOK_EVERY_S = 1 };

struct par_sampler {
    par_sampler_params params;
    int64_t n_sequences;
    double looked; /* when the file was last asked for its size and time, s */
};

par_status par_sampler_create(const par_sampler_params *params, par_sampler **out) {
    PAR_REQUIRE(params && out && params->tokens && params->T > 0);
    par_sampler_params p = *params;
    int64_t n = par_tokens_n(p.tokens);
    if (p.begin == 0 && p.end == 0) p.end = n;
    if (p.begin < 0 || p.end > n || p.begin > p.end)
        PAR_FAIL(PAR_ERR_ARG,
                 "range of tokens [%" PRId64 ", %" PRId64 "); legal: within [0, %" PRId64 ")",
                 p.begin, p.end, n);
    if (p.end - p.begin <= p.T)
        PAR_FAIL(PAR_ERR_ARG,
                 "range of tokens [%" PRId64 ", %" PRId64 ") holds %" PRId64
                 "; a sequence of %" PRId64 " and its last target need one token more than that: "
                 "use more text or a shorter sequence",
                 p.begin, p.end, p.end - p.begin, p.T);
    par_sampler *s = malloc(sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no memory for a sampler");
    *s = (par_sampler){p, (p.end - p.begin - 1) / p.T, par__seconds() - LOOK_EVERY_S};
    *out = s;
    return PAR_OK;
}

void par_sampler_destroy(par_sampler **sampler) {
    if (!sampler) return;
    free(*sampler);
    *sampler = NULL;
}

int64_t par_sampler_n_sequences(const par_sampler *s) {
    return s->n_sequences;
}

/* x [n, T], targets [n, T], both int32. */
static par_status sampler_read(void *user, int64_t first, int64_t n, void *x, void *targets) {
    int64_t end;
    PAR_REQUIRE(user && first >= 0 && n >= 0 && par__add64(first, n, &end) &&
                (n == 0 || (x && targets)));
    par_sampler *s = user;
    int64_t T = s->params.T;
    int32_t *tokens = x, *next = targets;
    uint64_t count = (uint64_t)s->n_sequences;
    double now = par__seconds();
    if (now - s->looked >= LOOK_EVERY_S) {
        s->looked = now;
        PAR_TRY(par_tokens_unchanged(s->params.tokens));
    }
    for (int64_t i = 0; i < n; i++, tokens += T, next += T) {
        uint64_t sample = (uint64_t)(first + i), sequence = sample % count;
        if (s->params.shuffle)
            sequence = par_random_permute(s->params.seed, sample / count, count, sequence);
        int64_t at = s->params.begin + (int64_t)sequence * T;
        PAR_TRY(par_tokens_read(s->params.tokens, at, T, tokens));
        memcpy(next, tokens + 1, (size_t)(T - 1) * sizeof *next);
        PAR_TRY(par_tokens_read(s->params.tokens, at + T, 1, next + T - 1));
    }
    return PAR_OK;
}

par_source par_sampler_source(par_sampler *sampler) {
    return (par_source){sampler_read, sampler};
}
