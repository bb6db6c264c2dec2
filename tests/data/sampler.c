/*
 * The sampler's promises: an epoch visits each sequence once, order and bytes are a function of the
 * sample's number alone (however the reads are cut and wherever they resume), and a split never
 * reads a token outside its range.
 */
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "par/data.h"
#include "temp.h"

enum { N = 1003, T = 7 };

/* Token i has id i: what a sample holds tells where it came from. */
static par_tokens *count_up(void) {
    int32_t ids[N];
    par_tokens *t = NULL;
    for (int i = 0; i < N; i++) ids[i] = i;
    CHECK_OK(par_tokens_write(temp_path("count.tok"), ids, N, N));
    CHECK_OK(par_tokens_open(temp_path("count.tok"), &t));
    return t;
}

static par_sampler *make(const par_tokens *t, int64_t begin, int64_t end, uint64_t seed,
                         bool shuffle) {
    par_sampler *s = NULL;
    par_sampler_params p = {
        .tokens = t, .T = T, .begin = begin, .end = end, .seed = seed, .shuffle = shuffle};
    CHECK_OK(par_sampler_create(&p, &s));
    return s;
}

/* Sequence that sample n reads; -1 if it is not T tokens in a row with targets one further. */
static int64_t sequence_of(par_sampler *s, int64_t n, int64_t begin) {
    int32_t x[T], y[T];
    par_source source = par_sampler_source(s);
    CHECK_OK(source.read(source.user, n, 1, x, y));
    for (int i = 0; i < T; i++)
        if (x[i] != x[0] + i || y[i] != x[i] + 1) return -1;
    return (x[0] - begin) % T == 0 ? (x[0] - begin) / T : -1;
}

static void check_epochs(par_sampler *s, int64_t begin, int64_t want, int epochs) {
    int64_t n = par_sampler_n_sequences(s);
    CHECK(n == want, "%lld sequences", (long long)n);
    char *seen = malloc((size_t)n);
    for (int e = 0; e < epochs; e++) {
        memset(seen, 0, (size_t)n);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = sequence_of(s, e * n + i, begin);
            CHECK(at >= 0 && at < n && !seen[at], "epoch %d, sample %lld: sequence %lld", e,
                  (long long)i, (long long)at);
            if (at >= 0 && at < n) seen[at] = 1;
        }
    }
    free(seen);
}

static void epochs(void) {
    par_tokens *t = count_up();
    for (uint64_t seed = 0; seed < 4; seed++) {
        par_sampler *s = make(t, 0, 0, seed, true);
        check_epochs(s, 0, (N - 1) / T, 3);
        par_sampler_destroy(&s);
    }
    par_sampler *s = make(t, 0, 0, 1, false);
    for (int64_t i = 0; i < 300; i++)
        CHECK(sequence_of(s, i, 0) == i % ((N - 1) / T), "not in order at %lld", (long long)i);
    par_sampler_destroy(&s);
    par_tokens_close(&t);
}

/* Two epochs, and two seeds, agree in few places: 143 sequences in random orders agree in 1 place
 * on average, and in more than 10 with probability below 1e-8 (Poisson). */
static void orders_differ(void) {
    par_tokens *t = count_up();
    par_sampler *a = make(t, 0, 0, 1, true), *b = make(t, 0, 0, 2, true);
    int64_t n = par_sampler_n_sequences(a), epoch = 0, seed = 0, order = 0;
    for (int64_t i = 0; i < n; i++) {
        epoch += sequence_of(a, i, 0) == sequence_of(a, n + i, 0);
        seed += sequence_of(a, i, 0) == sequence_of(b, i, 0);
        order += sequence_of(a, i, 0) == i;
    }
    CHECK(epoch <= 10 && seed <= 10 && order <= 10, "agreements: %lld, %lld, %lld",
          (long long)epoch, (long long)seed, (long long)order);
    par_sampler_destroy(&a);
    par_sampler_destroy(&b);
    par_tokens_close(&t);
}

/* The same 400 samples in one read, in batches of every size, and from a new sampler that resumes
 * in the middle. */
static void cuts(void) {
    enum { COUNT = 400 };
    static int32_t x[COUNT][T], y[COUNT][T], x2[COUNT][T], y2[COUNT][T];
    par_tokens *t = count_up();
    par_sampler *s = make(t, 0, 0, 5, true);
    par_source source = par_sampler_source(s);
    CHECK_OK(source.read(source.user, 0, COUNT, x, y));
    for (int batch = 1; batch < 40; batch++) {
        memset(x2, 0xff, sizeof x2);
        memset(y2, 0xff, sizeof y2);
        for (int i = 0; i < COUNT; i += batch)
            CHECK_OK(
                source.read(source.user, i, i + batch < COUNT ? batch : COUNT - i, x2[i], y2[i]));
        CHECK(memcmp(x, x2, sizeof x) == 0 && memcmp(y, y2, sizeof y) == 0, "batches of %d differ",
              batch);
    }
    par_sampler *other = make(t, 0, 0, 5, true);
    source = par_sampler_source(other);
    CHECK_OK(source.read(source.user, 157, 100, x2[0], y2[0]));
    CHECK(memcmp(x[157], x2[0], 100 * sizeof x[0]) == 0, "resuming differs");
    CHECK(memcmp(y[157], y2[0], 100 * sizeof y[0]) == 0, "resuming differs in the targets");
    par_sampler_destroy(&s);
    par_sampler_destroy(&other);
    par_tokens_close(&t);
}

static void splits(void) {
    par_tokens *t = count_up();
    for (int64_t cut = T + 1; cut <= N - T - 1; cut += 11) {
        par_sampler *train = make(t, 0, cut, 3, true), *validation = make(t, cut, N, 3, true);
        int32_t x[T], y[T];
        par_source a = par_sampler_source(train), b = par_sampler_source(validation);
        for (int64_t i = 0; i < par_sampler_n_sequences(train); i++) {
            CHECK_OK(a.read(a.user, i, 1, x, y));
            CHECK(x[0] >= 0 && y[T - 1] < cut, "training reads token %d of a split at %lld",
                  y[T - 1], (long long)cut);
        }
        for (int64_t i = 0; i < par_sampler_n_sequences(validation); i++) {
            CHECK_OK(b.read(b.user, i, 1, x, y));
            CHECK(x[0] >= cut && y[T - 1] < N, "validation reads token %d of a split at %lld", x[0],
                  (long long)cut);
        }
        par_sampler_destroy(&train);
        par_sampler_destroy(&validation);
    }
    par_tokens_close(&t);
}

static void ranges(void) {
    par_tokens *t = count_up();
    par_sampler *s = make(t, 10, 10 + T + 1, 0, true);
    CHECK(par_sampler_n_sequences(s) == 1, "T + 1 tokens make %lld sequences",
          (long long)par_sampler_n_sequences(s));
    CHECK(sequence_of(s, 12345678901234, 10) == 0, "a far sample");
    CHECK(sequence_of(s, INT64_MAX - 1, 10) == 0, "the last sample");
    par_sampler_destroy(&s);
    s = make(t, 10, 10 + 2 * T, 0, true);
    check_epochs(s, 10, 1, 2);
    par_sampler_destroy(&s);
    s = make(t, 10, 10 + 2 * T + 1, 0, true);
    check_epochs(s, 10, 2, 2);
    par_source source = par_sampler_source(s);
    int32_t x[T], y[T];
    CHECK_FAILS(source.read(source.user, -1, 1, x, y), PAR_ERR_ARG, "first >= 0");
    par_sampler_destroy(&s);
    par_sampler_params p = {.tokens = t, .T = T, .begin = 5, .end = 5 + T};
    CHECK_FAILS(par_sampler_create(&p, &s), PAR_ERR_ARG, "holds 7; a sequence of 7");
    p.end = N + 1;
    CHECK_FAILS(par_sampler_create(&p, &s), PAR_ERR_ARG, "legal: within [0, 1003)");
    p.end = 4;
    CHECK_FAILS(par_sampler_create(&p, &s), PAR_ERR_ARG, "range of tokens [5, 4)");
    par_tokens_close(&t);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"epochs", epochs, 0, NULL, 0}, {"orders-differ", orders_differ, 0, NULL, 0},
        {"cuts", cuts, 0, NULL, 0},     {"splits", splits, 0, NULL, 0},
        {"ranges", ranges, 0, NULL, 0},
    };
    temp_open();
    int rc = harness_main("sampler", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
